use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::file::Sealer;

use crate::hex::hex;

/// Entries that one write takes together: one `fdatasync` for all of them.
const TOGETHER: usize = 1024;
/// A journal this long is written anew, when most of it is struck out.
const LONG: u64 = 1 << 20;

/// What is written, and who is told when it is there.
#[derive(Debug)]
pub(super) enum Entry {
    Add { id: u64, record: Zeroizing<Vec<u8>>, done: Option<oneshot::Sender<io::Result<()>>> },
    Gone { id: u64 },
    Flush { done: oneshot::Sender<io::Result<()>> },
    Sync { done: mpsc::Sender<io::Result<()>> },
}

/// Writes the journal of this process, on a thread of its own.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    sealer: Sealer,
    /// Locked, for as long as this process lives.
    file: File,
    length: u64,
    place: u64,
    live: BTreeMap<u64, Zeroizing<Vec<u8>>>,
}

impl Writer {
    /// Begins a journal in `dir`.
    pub(super) fn begin(dir: &Path, sealer: Sealer) -> io::Result<Self> {
        let mut name = [0u8; 8];
        SystemRandom::new().fill(&mut name).map_err(|_| io::Error::other("no randomness"))?;
        let path = dir.join(format!("leases-{}.sealed", hex(&name)));
        let (file, length) = fresh(&path, &sealer, &[])?;
        File::open(dir)?.sync_all()?;
        Ok(Self { path, sealer, file, length, place: 0, live: BTreeMap::new() })
    }

    /// Until nobody has anything to write any more.
    pub(super) fn run(mut self, entries: &Receiver<Entry>) {
        while let Ok(first) = entries.recv() {
            let mut batch = vec![first];
            batch.extend(entries.try_iter().take(TOGETHER - 1));
            self.write(batch);
        }
        if self.live.is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn write(&mut self, batch: Vec<Entry>) {
        let mut waiting: Vec<Box<dyn FnOnce(io::Result<()>)>> = Vec::new();
        let (mut bytes, mut place, mut sealed) = (Vec::new(), self.place, Ok(()));
        for entry in batch {
            let (id, record) = match entry {
                Entry::Add { id, record, done } => {
                    waiting.extend(done.map(|done| Box::new(move |r| drop(done.send(r))) as Box<dyn FnOnce(_)>));
                    (id, Some(record))
                }
                Entry::Gone { id } => (id, None),
                Entry::Flush { done } => {
                    waiting.push(Box::new(move |r| drop(done.send(r))));
                    continue;
                }
                Entry::Sync { done } => {
                    waiting.push(Box::new(move |r| drop(done.send(r))));
                    continue;
                }
            };
            match self.sealer.record(place, id, record.as_ref().map(|r| r.as_slice())) {
                Ok(more) => (place, sealed) = (place + 1, sealed.map(|()| bytes.extend_from_slice(&more))),
                Err(e) => sealed = Err(e),
            }
            match record {
                Some(record) => drop(self.live.insert(id, record)),
                None => drop(self.live.remove(&id)),
            }
        }
        let written = sealed.and_then(|()| self.append(&bytes, !waiting.is_empty()));
        if written.is_ok() {
            self.place = place;
        }
        for told in waiting {
            told(written.as_ref().map(|_| ()).map_err(|e| io::Error::new(e.kind(), e.to_string())));
        }
        if self.length > LONG
            && let Err(error) = self.shorten()
        {
            tracing::warn!(%error, "the journal of leases could not be shortened");
        }
    }

    /// After an error the file ends where it did, so that what follows can be read.
    fn append(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        let written = self.file.write_all(bytes).and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(e) => {
                self.file.set_len(self.length)?;
                Err(e)
            }
        }
    }

    /// Writes what is not struck out into a file that takes the place of this one.
    fn shorten(&mut self) -> io::Result<()> {
        let live: u64 = self.live.values().map(|r| r.len() as u64 + 64).sum();
        if live * 4 > self.length {
            return Ok(());
        }
        let new = self.path.with_extension("new");
        let records: Vec<(u64, &[u8])> = self.live.iter().map(|(id, record)| (*id, record.as_slice())).collect();
        let (file, length) = fresh(&new, &self.sealer, &records)?;
        fs::rename(&new, &self.path)?;
        (self.file, self.length, self.place) = (file, length, self.live.len() as u64);
        Ok(())
    }
}

/// A locked file that holds these, durably.
fn fresh(path: &Path, sealer: &Sealer, records: &[(u64, &[u8])]) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.try_lock().map_err(io::Error::other)?;
    file.set_len(0)?;
    let mut bytes = sealer.line.clone().into_bytes();
    for (place, (id, record)) in (0..).zip(records) {
        bytes.extend(sealer.record(place, *id, Some(record))?);
    }
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok((file, bytes.len() as u64))
}
