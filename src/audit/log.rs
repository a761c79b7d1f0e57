//! One chain as it is written: records appended under a short lock, written in groups.
//!
//! `pending` is held for a number, a 72-byte hash and a copy; `io` while bytes are written. Who
//! needs a record written waits a turn, so that the others of that turn are in the same write.

mod wait;

use std::{
    collections::HashSet,
    fs::File,
    io, mem,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    thread::Thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::{Head, key::Signer, line, record, sink::Sink};
use crate::call::DecisionId;

/// After a failed write the next attempt waits this long; calls in between are refused at once.
pub(super) const RETRY: Duration = Duration::from_millis(10);

/// Bytes kept in memory while nothing can be written; beyond it refused calls are only counted.
pub(super) const MOST_HELD: usize = 8 << 20;

/// Far more calls than can be between their refusal and their end.
const MOST_UNRECORDED: usize = 1 << 16;

/// A buffer that grew beyond this is given back.
const KEPT_CAPACITY: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Log {
    pub(super) chain: Arc<str>,
    pub(super) signer: Signer,
    pub(super) rotate_size: u64,
    pending: Mutex<Pending>,
    io: Mutex<Io>,
    /// The last record that `write(2)` took, and the last that `fdatasync` covered.
    written: AtomicU64,
    durable: AtomicU64,
    head: Mutex<Head>,
    /// Nothing can be written just now.
    failing: AtomicBool,
    /// Attempts that failed; a waiter whose count is past has failed.
    failures: AtomicU64,
    held: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
    pub(super) syncs: Mutex<Syncs>,
    /// Calls refused before they were appended, whose outcomes are only counted too.
    unrecorded: Mutex<HashSet<DecisionId>>,
    pub(super) thread: OnceLock<Thread>,
    /// The writer's thread sleeps and has set no time to look again.
    pub(super) idle: AtomicBool,
    /// Whether callers write themselves; not where a write can wait for a reader (stdout).
    inline: bool,
}

#[derive(Debug)]
struct Pending {
    head: Head,
    lines: Vec<u8>,
    /// Decisions whose outcome is not appended yet.
    open: u64,
    /// The last record that carries a signature.
    sealed: u64,
    closed: bool,
}

#[derive(Debug)]
struct Io {
    sinks: Vec<Sink>,
    spare: Vec<u8>,
    failed: Option<Failed>,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    last: Instant,
    since: OffsetDateTime,
}

/// Calls that wait for `fdatasync`.
#[derive(Debug)]
pub(super) struct Syncs {
    pub(super) waiters: Vec<(u64, Waker)>,
    /// The writer is woken when this many wait.
    pub(super) wake_at: usize,
    /// The writer has stopped.
    pub(super) ended: bool,
}

/// The record could not be written; why is in the process's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unwritten;

/// What an appended record counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Outcome,
    Other,
}

impl Log {
    pub(super) fn new(chain: Arc<str>, signer: Signer, rotate_size: u64, sinks: Vec<Sink>) -> Self {
        let start = Head { seq: 0, hash: line::GENESIS };
        let inline = sinks.iter().all(|s| matches!(s, Sink::Dir(_)));
        Self {
            chain,
            signer,
            rotate_size,
            pending: Mutex::new(Pending { head: start, lines: Vec::with_capacity(64 << 10), open: 0, sealed: 0, closed: false }),
            io: Mutex::new(Io { sinks, spare: Vec::with_capacity(64 << 10), failed: None }),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            head: Mutex::new(start),
            failing: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            waiting: Mutex::new(Vec::new()),
            syncs: Mutex::new(Syncs::new()),
            unrecorded: Mutex::new(HashSet::new()),
            thread: OnceLock::new(),
            idle: AtomicBool::new(false),
            inline,
        }
    }

    /// Appends a decision; refuses once the log is closed, or holds all it may hold.
    pub(super) fn append_decision(&self, id: DecisionId, body: &[u8]) -> Result<u64, Unwritten> {
        let sum = line::sha256(body);
        let mut pending = self.pending.lock();
        let full = self.failing.load(Ordering::Relaxed) && pending.lines.len() + self.held.load(Ordering::Relaxed) > MOST_HELD;
        if pending.closed || full {
            drop(pending);
            let mut unrecorded = self.unrecorded.lock();
            if unrecorded.len() < MOST_UNRECORDED {
                unrecorded.insert(id);
            }
            return Err(Unwritten);
        }
        pending.open += 1;
        Ok(pending.append(body, &sum))
    }

    /// Appends a record for which nobody waits; it is written with the next ones, or soon.
    pub(super) fn append(&self, body: &[u8], role: Role) {
        let sum = line::sha256(body);
        let mut pending = self.pending.lock();
        if role == Role::Outcome {
            pending.open = pending.open.saturating_sub(1);
        }
        pending.append(body, &sum);
        drop(pending);
        self.stir();
    }

    /// Appends a signed record made by `body` from the number of calls that are open.
    pub(super) fn append_signed(&self, body: impl FnOnce(&mut Vec<u8>, u64)) {
        let mut text = Vec::with_capacity(256);
        let mut pending = self.pending.lock();
        body(&mut text, pending.open);
        pending.append_signed(&text, &self.signer);
    }

    /// Whether this call's decision was refused before it was appended; asked once.
    pub(super) fn was_unrecorded(&self, id: DecisionId) -> bool {
        self.unrecorded.lock().remove(&id)
    }

    /// Writes what is pending, unless someone else is writing; None then.
    fn try_flush(&self) -> Option<Result<(), Unwritten>> {
        let mut io = self.io.try_lock()?;
        let result = self.flush_locked(&mut io);
        drop(io);
        self.wake_waiting();
        Some(result)
    }

    /// Writes what is pending.
    pub(super) fn flush(&self) -> Result<(), Unwritten> {
        let mut io = self.io.lock();
        let result = self.flush_locked(&mut io);
        drop(io);
        self.wake_waiting();
        result
    }

    fn flush_locked(&self, io: &mut Io) -> Result<(), Unwritten> {
        self.flush_ending_in(io, |_| {})
    }

    /// Writes what is pending once `last` was done to it.
    fn flush_ending_in(&self, io: &mut Io, last: impl FnOnce(&mut Pending)) -> Result<(), Unwritten> {
        if io.failed.is_some_and(|f| f.last.elapsed() < RETRY) {
            return Err(Unwritten);
        }
        let (mut lines, end) = {
            let mut pending = self.pending.lock();
            last(&mut pending);
            let spare = mem::take(&mut io.spare);
            (mem::replace(&mut pending.lines, spare), pending.head)
        };
        let mut result = Ok(());
        for sink in &mut io.sinks {
            if let Err(e) = sink.write(&lines, end) {
                result = Err(e);
            }
        }
        lines.clear();
        lines.shrink_to(KEPT_CAPACITY);
        io.spare = lines;
        match result {
            Ok(()) => {
                self.written.store(end.seq, Ordering::Release);
                *self.head.lock() = end;
                if let Some(failed) = io.failed.take() {
                    self.recovered(failed);
                }
                Ok(())
            }
            Err(e) => {
                self.held.store(io.sinks.iter().map(Sink::owed).sum(), Ordering::Relaxed);
                self.failed(io, &e);
                Err(Unwritten)
            }
        }
    }

    /// Syncs what is written; on success everything up to the head before it is durable.
    pub(super) fn sync(&self) -> Result<(), Unwritten> {
        self.flush()?;
        let (files, upto): (Vec<Arc<File>>, u64) = {
            let io = self.io.lock();
            let files = io.sinks.iter().filter_map(Sink::file).collect();
            (files, self.written.load(Ordering::Acquire))
        };
        self.wake_waiting();
        files.iter().try_for_each(|file| self.sync_file(file))?;
        self.durable.fetch_max(upto, Ordering::AcqRel);
        Ok(())
    }

    fn sync_file(&self, file: &Arc<File>) -> Result<(), Unwritten> {
        let Err(e) = file.sync_data() else { return Ok(()) };
        let mut io = self.io.lock();
        io.sinks.iter_mut().for_each(|s| s.spoil(file));
        self.failed(&mut io, &e);
        drop(io);
        self.wake_waiting();
        Err(Unwritten)
    }

    /// Ends each full file with a signed record and starts the next; false when none could be made.
    pub(super) fn rotate(&self) -> Result<bool, Unwritten> {
        let mut io = self.io.lock();
        let result = self.flush_ending_in(&mut io, |pending| {
            let mut body = Vec::with_capacity(256);
            record::signed(&mut body, "rotate", &self.chain, OffsetDateTime::now_utc());
            record::count(&mut body, "open", pending.open);
            body.push(b'}');
            pending.append_signed(&body, &self.signer);
        });
        let left = result.map(|()| self.leave_full_files(&mut io));
        drop(io);
        self.wake_waiting();
        let (files, all) = left?;
        // Nothing counts as durable meanwhile: only the thread that runs this says so.
        files.iter().try_for_each(|file| self.sync_file(file))?;
        Ok(all)
    }

    fn leave_full_files(&self, io: &mut Io) -> (Vec<Arc<File>>, bool) {
        let (mut left, mut all) = (Vec::new(), true);
        for sink in &mut io.sinks {
            let Sink::Dir(dir) = sink else { continue };
            if dir.len() < self.rotate_size {
                continue;
            }
            match dir.next_file() {
                Ok(file) => left.push(file),
                Err(error) => {
                    tracing::warn!(%error, "the audit's next file cannot be made; the present one stays in use");
                    all = false;
                }
            }
        }
        (left, all)
    }

    /// Whether a file is as long as it may get.
    pub(super) fn full(&self) -> bool {
        self.io.lock().sinks.iter().any(|s| matches!(s, Sink::Dir(d) if d.len() >= self.rotate_size))
    }

    fn failed(&self, io: &mut Io, error: &io::Error) {
        let since = io.failed.map_or_else(OffsetDateTime::now_utc, |f| f.since);
        io.failed = Some(Failed { last: Instant::now(), since });
        self.failures.fetch_add(1, Ordering::AcqRel);
        if !self.failing.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "the audit log cannot be written: calls are refused until it can");
            self.stir();
        }
    }

    fn recovered(&self, failed: Failed) {
        self.held.store(0, Ordering::Relaxed);
        self.failing.store(false, Ordering::Release);
        tracing::info!("the audit log can be written again");
        let mut body = Vec::with_capacity(128);
        let since = serde_json::json!({"since": failed.since.unix_timestamp()});
        record::event(&mut body, "audit_recovered", &since, OffsetDateTime::now_utc());
        self.append(&body, Role::Other);
    }

    /// Tells the writer that there is something to write before long.
    fn stir(&self) {
        if self.idle.load(Ordering::SeqCst) && self.idle.swap(false, Ordering::SeqCst) {
            self.wake_writer();
        }
    }

    pub(super) fn wake_writer(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Whether someone waits for the writer's thread to write.
    pub(super) fn asked(&self) -> bool {
        !self.inline && !self.waiting.lock().is_empty()
    }

    pub(super) fn failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    pub(super) fn head(&self) -> Head {
        *self.head.lock()
    }

    /// Records appended and not yet written.
    pub(super) fn backlog(&self) -> u64 {
        self.pending.lock().head.seq.saturating_sub(self.written.load(Ordering::Acquire))
    }

    /// Whether records were appended after the last signature.
    pub(super) fn unsealed(&self) -> bool {
        let pending = self.pending.lock();
        pending.head.seq > pending.sealed
    }

    /// Takes no decision from now on.
    pub(super) fn shut(&self) {
        self.pending.lock().closed = true;
    }

    #[cfg(test)]
    pub(super) fn replace_file(&self, file: File) {
        if let Some(Sink::Dir(dir)) = self.io.lock().sinks.first_mut() {
            dir.replace_file(file);
        }
    }
}

impl Pending {
    fn append(&mut self, body: &[u8], sum: &line::Hash) -> u64 {
        let seq = self.head.seq + 1;
        self.head = Head { seq, hash: line::chain(&self.head.hash, seq, sum) };
        line::record(&mut self.lines, seq, &self.head.hash, None, body);
        seq
    }

    fn append_signed(&mut self, body: &[u8], signer: &Signer) {
        let seq = self.head.seq + 1;
        self.head = Head { seq, hash: line::chain(&self.head.hash, seq, &line::sha256(body)) };
        line::record(&mut self.lines, seq, &self.head.hash, Some(&signer.sign(&self.head.hash)), body);
        self.sealed = seq;
    }
}
