//! What can be revoked, written down before it is used: so that after a crash the next start revokes it.
//!
//! A file of each process in one folder: a line `remit leases 1 KEY`, and records, each its length and
//! what AES-256-GCM made of it (NIST SP 800-38D), with that line and its place as additional data. A
//! process takes over the files that no living one has locked.

mod file;
mod writer;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Sender},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use zeroize::{Zeroize, Zeroizing};

use super::Held;
use crate::{problem::Problem, secret::Secret, vault};

use file::Sealer;
use writer::{Entry, Writer};

/// Where journals are, and the key that seals them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalPlace {
    pub dir: PathBuf,
    /// 32 bytes in base64; made where neither it nor a journal is there.
    pub key: PathBuf,
}

/// The journal of this process, begun with its first lease.
#[derive(Debug, Default)]
pub struct Journal(Option<Begun>);

#[derive(Debug)]
struct Begun {
    place: JournalPlace,
    writer: OnceLock<Result<Mutex<Sender<Entry>>, String>>,
}

/// A lease, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: u64,
    credential: Arc<str>,
    kind: Arc<str>,
    task: Arc<str>,
    agent: Arc<str>,
    fingerprint: Arc<str>,
    #[serde(with = "time::serde::rfc3339")]
    issued: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires: Option<OffsetDateTime>,
    /// Base64.
    handle: String,
}

/// A journal that another process left, locked by this one.
#[derive(Debug)]
pub(super) struct Left {
    path: PathBuf,
    _lock: File,
}

impl Journal {
    /// Keeps nothing: where nothing that can be revoked is issued.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// A journal in that place; nothing is made there before there is something to keep.
    #[must_use]
    pub fn new(place: JournalPlace) -> Self {
        Self(Some(Begun { place, writer: OnceLock::new() }))
    }

    /// Writes down what was issued, durably. The error says why it is not.
    pub(super) async fn add(&self, held: &Held) -> Result<(), String> {
        let (Some(begun), Some(record)) = (&self.0, record(held)) else { return Ok(()) };
        let (done, written) = oneshot::channel();
        begun.send(Entry::Add { id: held.id, record, done: Some(done) })?;
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("the journal is closed".to_owned()),
        }
    }

    /// Strikes out what need not be revoked any more. If that is lost, it is revoked once more.
    pub(super) fn gone(&self, held: &Held) {
        if held.handle.is_some()
            && let Some(begun) = &self.0
            && begun.writer.get().is_some()
        {
            let _ = begun.send(Entry::Gone { id: held.id });
        }
    }

    /// Ready when all that was struck out is.
    pub(super) async fn flush(&self) {
        let Some(begun) = self.0.as_ref().filter(|b| b.writer.get().is_some()) else { return };
        let (done, written) = oneshot::channel();
        if begun.send(Entry::Flush { done }).is_ok() {
            let _ = written.await;
        }
    }

    /// What processes that are gone have left, with numbers of this one.
    ///
    /// # Errors
    /// What is wrong with a journal: it is never taken for empty.
    pub(super) fn left(&self, next: &AtomicU64) -> Result<(Vec<Held>, Vec<Left>), Problem> {
        let Some(begun) = &self.0 else { return Ok((Vec::new(), Vec::new())) };
        let (mut held, mut left) = (Vec::new(), Vec::new());
        let mut sealer = None;
        for path in begun.place.journals()? {
            let fault = |e: io::Error| begun.place.fault(&path, &format!("cannot be read: {e}"));
            let lock = File::options().read(true).write(true).open(&path).map_err(fault)?;
            if lock.try_lock().is_err() {
                continue;
            }
            let sealer = match &sealer {
                Some(sealer) => sealer,
                None => sealer.insert(begun.place.sealer(false)?),
            };
            for text in sealer.read(&path).map_err(|what| begun.place.fault(&path, &what))?.into_values() {
                let record: Record =
                    serde_json::from_slice(&text).map_err(|e| begun.place.fault(&path, &format!("holds no lease: {e}")))?;
                held.push(record.held(next.fetch_add(1, Ordering::Relaxed)));
            }
            left.push(Left { path, _lock: lock });
        }
        Ok((held, left))
    }

    /// Writes into this process's journal what others left, and removes theirs.
    pub(super) fn take_over(&self, held: &[Arc<Held>], left: Vec<Left>) -> Result<(), Problem> {
        let Some(begun) = &self.0 else { return Ok(()) };
        if left.is_empty() {
            return Ok(());
        }
        let wrong = |what: String| begun.place.fault(&begun.place.dir, &what);
        for held in held {
            if let Some(record) = record(held) {
                begun.send(Entry::Add { id: held.id, record, done: None }).map_err(wrong)?;
            }
        }
        if !held.is_empty() {
            let (done, written) = mpsc::channel();
            begun.send(Entry::Sync { done }).map_err(wrong)?;
            written.recv().map_err(|e| wrong(e.to_string()))?.map_err(|e| wrong(format!("cannot be written: {e}")))?;
        }
        for Left { path, .. } in left {
            fs::remove_file(&path).map_err(|e| begun.place.fault(&path, &format!("cannot be removed: {e}")))?;
        }
        Ok(())
    }
}

impl Begun {
    fn send(&self, entry: Entry) -> Result<(), String> {
        let writer = self.writer.get_or_init(|| {
            let sealer = self.place.sealer(true).map_err(|p| p.to_string())?;
            let writer = Writer::begin(&self.place.dir, sealer).map_err(|e| format!("{}: {e}", self.place.dir.display()))?;
            let (sender, entries) = mpsc::channel();
            let named = std::thread::Builder::new().name("leases".to_owned());
            named.spawn(move || writer.run(&entries)).map_err(|e| e.to_string())?;
            Ok(Mutex::new(sender))
        });
        let sender = writer.as_ref().map_err(Clone::clone)?;
        sender.lock().send(entry).map_err(|_| "the journal is closed".to_owned())
    }
}

impl JournalPlace {
    /// The journals in the folder, oldest name first.
    fn journals(&self) -> Result<Vec<PathBuf>, Problem> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.fault(&self.dir, &format!("cannot be read: {e}"))),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| file::is_journal(p)).collect();
        paths.sort();
        Ok(paths)
    }

    /// A key is made for the first journal only: what is there was sealed with the one that is missing.
    fn sealer(&self, to_write: bool) -> Result<Sealer, Problem> {
        if to_write {
            fs::create_dir_all(&self.dir).map_err(|e| self.fault(&self.dir, &format!("cannot be made: {e}")))?;
        }
        let make = to_write && self.journals()?.is_empty();
        let key = vault::key(&self.key, make).map_err(|p| if p.key.is_some() { p } else { p.key("state.key") })?;
        Sealer::new(&key).map_err(|()| self.fault(&self.key, "is no key"))
    }

    fn fault(&self, path: &Path, what: &str) -> Problem {
        Problem::new(format!("the journal of leases {what}"))
            .at(path, None)
            .help("mend it, or move it away: the leases in it then live until they expire")
    }
}

fn record(held: &Held) -> Option<Zeroizing<Vec<u8>>> {
    let handle = STANDARD.encode(held.handle.as_ref()?.expose());
    let record = Record {
        id: held.id,
        credential: held.credential.clone(),
        kind: held.kind.clone(),
        task: held.task.clone(),
        agent: held.agent.clone(),
        fingerprint: held.fingerprint.clone(),
        issued: held.issued,
        expires: held.expires,
        handle,
    };
    let text = serde_json::to_vec(&record).ok().map(Zeroizing::new);
    record.handle.into_bytes().zeroize();
    text
}

impl Record {
    fn held(self, id: u64) -> Held {
        let handle = STANDARD.decode(&self.handle).unwrap_or_default();
        self.handle.into_bytes().zeroize();
        Held {
            id,
            credential: self.credential,
            kind: self.kind,
            task: self.task,
            agent: self.agent,
            scope: None,
            fingerprint: self.fingerprint,
            issued: self.issued,
            expires: self.expires,
            handle: Some(Secret::new(handle)),
            issuer: None,
        }
    }
}
