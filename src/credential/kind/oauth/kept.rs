//! The newest refresh token of a consent. Where a server rotates it, the one before is worth nothing and its second use
//! ends the consent (RFC 9700 §4.14.2): so it is used by one at a time, and written down, sealed, before what came with it is used.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::sync;

use crate::{
    config::KeepSpec,
    credential::{issue::Fault, source::Watched},
    hex::hex,
    problem::Problem,
    secret::Secret,
    vault::Vault,
};

/// Of this process, by file: a reload goes on with what is open, and never uses a token beside it.
static OPEN: Mutex<Vec<Weak<Kept>>> = Mutex::new(Vec::new());

pub(super) struct Kept {
    file: PathBuf,
    key: PathBuf,
    /// The credential's name: a file is one's alone.
    name: Arc<str>,
    turn: sync::Mutex<()>,
    state: Mutex<State>,
    /// Another token is in force than was last shown.
    renewed: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Opened when it is first needed: `remit check` must not take it from the Remit that serves.
    vault: Option<Arc<Vault>>,
    now: Option<Entry>,
    /// Why the newest is in memory alone.
    unwritten: Option<String>,
}

/// What the file holds.
#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    credential: String,
    /// SHA-256 of the token that the consent gave: with another one there, the consent is another.
    of: String,
    token: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.token);
    }
}

/// The right to use the token.
pub(super) struct Turn<'a> {
    kept: &'a Arc<Kept>,
    entry: Entry,
    _alone: sync::MutexGuard<'a, ()>,
}

impl Kept {
    pub(super) fn of(spec: &KeepSpec, name: &Arc<str>) -> Arc<Self> {
        let mut open = OPEN.lock();
        open.retain(|kept| kept.strong_count() > 0);
        let same = |kept: &Arc<Self>| kept.file == spec.file && kept.key == spec.key && kept.name == *name;
        if let Some(kept) = open.iter().filter_map(Weak::upgrade).find(same) {
            return kept;
        }
        let kept = Arc::new(Self {
            file: spec.file.clone(),
            key: spec.key.clone(),
            name: name.clone(),
            turn: sync::Mutex::default(),
            state: Mutex::default(),
            renewed: AtomicBool::new(false),
        });
        open.push(Arc::downgrade(&kept));
        kept
    }

    /// Waits until nobody else uses the token. `first` is what the consent gave.
    pub(super) async fn turn<'a>(self: &'a Arc<Self>, first: &Watched) -> Result<Turn<'a>, Fault> {
        let alone = self.turn.lock().await;
        let (kept, given) = (self.clone(), Secret::new(first.with(str::to_owned)));
        let read = blocking(move || kept.current(given.expose())).await;
        let entry = read.map_err(Fault::Unavailable)?.map_err(|p| Fault::Unavailable(p.to_string()))?;
        Ok(Turn { kept: self, entry, _alone: alone })
    }

    /// The token in force. Blocks on the file system the first time.
    fn current(&self, first: &str) -> Result<Entry, Problem> {
        let of = hex(digest(&SHA256, first.as_bytes()).as_ref());
        let mut state = self.state.lock();
        if state.vault.is_none() {
            let vault = Vault::open(&self.file, &self.key).map_err(|p| self.named(p))?;
            state.now = match vault.read().map_err(|p| self.named(p))? {
                None => None,
                Some(bytes) => Some(self.read(&Secret::new(bytes))?),
            };
            state.vault = Some(Arc::new(vault));
            self.renewed.store(true, Ordering::Relaxed);
        }
        match state.now.as_ref().filter(|entry| entry.of == of) {
            Some(entry) => Ok(entry.clone()),
            None => Ok(Entry { credential: self.name.to_string(), of, token: first.to_owned() }),
        }
    }

    fn read(&self, bytes: &Secret<Vec<u8>>) -> Result<Entry, Problem> {
        let wrong = |what: String| Problem::new(what).at(&self.file, None).key("keep.file").help("give each credential a file of its own");
        let entry: Entry = serde_json::from_slice(bytes.expose()).map_err(|_| wrong("this file keeps no refresh token".to_owned()))?;
        if *entry.credential != *self.name {
            return Err(wrong(format!("this file keeps the refresh token of the credential `{}`", entry.credential)));
        }
        Ok(entry)
    }

    /// Puts `entry` in force. What cannot be written is used all the same, and written later: the server takes no other.
    fn put(&self, entry: Entry) {
        let mut state = self.state.lock();
        state.now = Some(entry);
        self.renewed.store(true, Ordering::Relaxed);
        state.unwritten = state.write().err().map(|e| e.to_string());
        if let Some(why) = &state.unwritten {
            tracing::error!(credential = %self.name, file = %self.file.display(), "the rotated refresh token is not written: {why}");
        }
    }

    /// Writes what is not written yet; true when another token is in force than the last time. Blocks on the file system.
    pub(super) fn settle(&self) -> Result<bool, Problem> {
        let mut state = self.state.lock();
        if state.unwritten.is_some() {
            match state.write() {
                Ok(()) => state.unwritten = None,
                Err(e) => {
                    return Err(Problem::new(format!("the rotated refresh token cannot be written, and a restart would lose it: {e}"))
                        .at(&self.file, None)
                        .help("make room, or let Remit write there"));
                }
            }
        }
        Ok(self.renewed.swap(false, Ordering::Relaxed))
    }

    /// The token in force, when it is not the consent's first.
    pub(super) fn secret(&self, see: &mut dyn FnMut(&str)) {
        if let Some(entry) = &self.state.lock().now {
            see(&entry.token);
        }
    }

    fn named(&self, problem: Problem) -> Problem {
        let key = if problem.key.as_deref() == Some("state.key") { "keep.key" } else { "keep.file" };
        let help = "it seals the refresh token: restore both files, or remove both and let the user consent again";
        problem.key(format!("credentials.{}.{key}", self.name)).help(help)
    }
}

impl State {
    fn write(&self) -> io::Result<()> {
        match (&self.vault, &self.now) {
            (Some(vault), Some(entry)) => vault.write(serde_json::to_vec(entry).map_err(io::Error::other)?),
            _ => Ok(()),
        }
    }
}

impl Turn<'_> {
    pub(super) fn token(&self) -> &str {
        &self.entry.token
    }

    /// The server gave another one.
    pub(super) async fn rotate(self, next: &Secret<String>) {
        if *next.expose() == self.entry.token {
            return;
        }
        let mut entry = self.entry.clone();
        zeroize::Zeroize::zeroize(&mut entry.token);
        entry.token = next.expose().clone();
        let kept = self.kept.clone();
        // It is written also when nobody waits for it any more.
        let _ = blocking(move || kept.put(entry)).await;
    }
}

/// Runs what waits for the disk where no call waits behind it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_| "the refresh token could not be looked up: Remit is ending".to_owned())
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
