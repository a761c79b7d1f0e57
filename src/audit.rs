//! Room 8: one record per call on every exit path: event, hash chain, sinks, verify.
//!
//! Each process writes a chain of its own. A record is formatted and hashed by whoever has
//! something to record; one short lock gives it its number and its place in the chain. Law 4 is
//! kept here: [`Audit::decision`] returns once the record is written (or durable), the outcome's
//! place is reserved with it, and calls of a process that died get `unknown` from the next one.

mod export;
mod files;
mod filter;
mod key;
mod line;
mod log;
mod ocsf;
mod record;
mod recover;
mod retain;
mod since;
mod sink;
mod tail;
mod text;
mod tree;
mod verify;
mod writer;

use std::{
    cell::Cell,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use time::OffsetDateTime;

pub use self::{
    export::{Exported, export},
    filter::Filter,
    key::PublicKey,
    ocsf::{OCSF_VERSION, cloud_event},
    record::{DecisionRecord, LONGEST_PARAMETER, Passed, TaskRecord},
    since::since,
    tail::{Call, Follow, News, last_calls, shown},
    tree::{Item, Tree, tree},
    verify::{ChainReport, Expected, Fault, KeyUsed, Report, Verify, What, verify_dir},
};
use self::{
    key::Signer,
    log::{Log, Role, Unwritten},
    retain::Retention,
    sink::{DirSink, Sink, StdoutSink},
    writer::Writer,
};
use crate::{
    call::{Effect, Intent, Outcome, Recorder},
    config,
    problem::{Problem, Problems},
    refusal::{Reason, Refusal},
};

pub use crate::config::Durability;

/// A buffer that grew beyond this is given back.
const LARGEST_BUFFER: usize = 64 << 10;

/// The last record of a chain: its number and its hash. What `verify --expect` takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub seq: u64,
    pub hash: [u8; 32],
}

/// The audit log of this process.
#[derive(Debug)]
pub struct Audit {
    log: Arc<Log>,
    durability: Vec<(Effect, Durability)>,
    public: PublicKey,
    dirs: Vec<PathBuf>,
    stop: Arc<AtomicBool>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Opens the sinks, makes the signing key where there is none, gives the calls of dead
    /// processes their outcome, and starts a chain.
    ///
    /// # Errors
    /// What cannot be written, with its path and the key in the configuration.
    pub fn open(config: &config::Audit) -> Result<Arc<Self>, Problems> {
        let dirs: Vec<PathBuf> =
            config.sinks.iter().filter_map(|s| if let config::Sink::Dir(dir) = s { Some(dir.clone()) } else { None }).collect();
        let no_place = || {
            Problem::new("there is no place for the signing key")
                .key("audit.signing_key")
                .help("set `audit.signing_key: {file: audit.key}`")
        };
        let signer = Signer::open(&signing_key_path(config).ok_or_else(no_place)?)?;
        let public = signer.public();
        let chain = chain_id(OffsetDateTime::now_utc())?;
        let sinks = config.sinks.iter().map(|s| open_sink(s, &chain)).collect::<Result<Vec<_>, _>>()?;
        let log = Arc::new(Log::new(chain.clone(), signer, config.rotate_size.max(1), sinks));
        begin(&log, public, dirs.first().map(PathBuf::as_path))?;
        let retention: Vec<_> = dirs.iter().map(|dir| Retention { dir: dir.clone(), chain: chain.clone(), keep: config.keep }).collect();
        retention.iter().for_each(|r| r.tidy(true));
        let stop = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(log.clone(), stop.clone(), retention);
        let thread = thread::Builder::new().name("remit-audit".into()).spawn(move || writer.run());
        let thread = thread.map_err(|e| Problem::new(format!("the audit's thread cannot be started: {e}")).key("audit"))?;
        let _ = log.thread.set(thread.thread().clone());
        Ok(Arc::new(Self { log, durability: config.durability.clone(), public, dirs, stop, writer: Mutex::new(Some(thread)) }))
    }

    /// Records what was decided, and returns once that is on the record: `write(2)` returned, or
    /// `fdatasync` where the durability is [`Durability::Synced`]. Needs a tokio runtime.
    ///
    /// # Errors
    /// `audit_unavailable` when it cannot be written: the call must not be sent.
    pub async fn decision(&self, record: &DecisionRecord<'_>, durability: Durability) -> Result<(), Refusal> {
        let seq = with_buffer(|body| {
            record::decision(body, record);
            self.log.append_decision(record.id, body)
        });
        let written = match (seq, durability) {
            (Ok(seq), Durability::Buffered) => self.log.until_written(seq).await,
            (Ok(seq), Durability::Synced) => self.log.until_durable(seq).await,
            (Err(e), _) => Err(e),
        };
        written.map_err(|Unwritten| Refusal::new(Reason::AuditUnavailable, "the decision cannot be recorded, so the call was not sent"))
    }

    /// What `audit.durability` says of an effect; what it does not list is synced.
    #[must_use]
    pub fn durability_for(&self, effect: Effect) -> Durability {
        self.durability.iter().find(|(e, _)| *e == effect).map_or(Durability::Synced, |(_, d)| *d)
    }

    /// The strongest durability that any intent of a call needs.
    #[must_use]
    pub fn durability_of(&self, intents: &[Intent]) -> Durability {
        let buffered = intents.iter().all(|i| self.durability_for(i.operation.effect) == Durability::Buffered);
        if buffered { Durability::Buffered } else { Durability::Synced }
    }

    /// Records a task's start or end; written before any later decision is.
    pub fn task(&self, record: &TaskRecord<'_>) {
        self.append(|body| record::task(body, record, OffsetDateTime::now_utc()));
    }

    /// Records something that is no call: a reload, a start, an approval. Never a secret.
    pub fn event(&self, kind: &str, data: &serde_json::Value) {
        self.append(|body| record::event(body, kind, data, OffsetDateTime::now_utc()));
    }

    /// As [`Self::event`], and says whether it is durable. Blocks as long as a sync takes.
    pub fn event_durable(&self, kind: &str, data: &serde_json::Value) -> bool {
        self.event(kind, data);
        self.durable()
    }

    /// Writes and syncs all that is recorded so far; whether that could be done. Blocks as long as it takes.
    pub fn durable(&self) -> bool {
        self.log.sync().is_ok()
    }

    /// Writes all that is recorded so far, so that it outlasts the process; whether that could be done.
    pub fn written(&self) -> bool {
        self.log.flush().is_ok()
    }

    /// The last record written.
    #[must_use]
    pub fn head(&self) -> Head {
        self.log.head()
    }

    /// The name of this process's chain.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.log.chain
    }

    /// The key that verifies this log.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The directories that are written.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// False while records cannot be written and calls are therefore refused.
    #[must_use]
    pub fn writable(&self) -> bool {
        !self.log.failing()
    }

    /// Records that are not written yet.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.log.backlog()
    }

    /// Ends the log: takes no more decisions, writes what is pending, signs and syncs it. An
    /// outcome that comes later is still written, behind the signature. Blocks for a few
    /// milliseconds; does nothing the second time.
    pub fn close(&self) -> Head {
        let Some(thread) = self.writer.lock().take() else { return self.head() };
        self.log.shut();
        self.stop.store(true, Ordering::SeqCst);
        self.log.wake_writer();
        let _ = thread.join();
        writer::seal(&self.log, "close");
        // The pause after a failed attempt must not keep the last one from being made.
        if self.log.sync().is_err() {
            thread::sleep(log::RETRY);
            let _ = self.log.sync();
        }
        self.log.end();
        self.head()
    }

    fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        with_buffer(|body| {
            write(body);
            self.log.append(body, Role::Other);
        });
        self.flush_when_closed();
    }

    /// Nobody else writes any more once the log was closed.
    fn flush_when_closed(&self) {
        if self.stop.load(Ordering::Relaxed) {
            let _ = self.log.flush();
        }
    }
}

impl Recorder for Audit {
    fn outcome(&self, outcome: &Outcome) {
        if outcome.reason == Some(Reason::AuditUnavailable) && self.log.was_unrecorded(outcome.id) {
            return;
        }
        with_buffer(|body| {
            record::outcome(body, outcome, OffsetDateTime::now_utc(), outcome.began.elapsed().as_micros());
            self.log.append(body, Role::Outcome);
        });
        self.flush_when_closed();
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Display for Head {
    /// `SEQ:HASH`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.seq)?;
        self.hash.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a head is SEQ:HASH, the hash in 64 lower-case hex digits";
        let (seq, hash) = text.split_once(':').ok_or(FORM)?;
        Ok(Self { seq: seq.parse().map_err(|_| FORM)?, hash: text::unhex(hash.as_bytes()).ok_or(FORM)? })
    }
}

/// Where the signing key is: as configured, or `audit.key` beside the first directory. The public
/// key is beside it, `.pub`.
#[must_use]
pub fn signing_key_path(config: &config::Audit) -> Option<PathBuf> {
    if let Some(path) = &config.signing_key {
        return Some(path.clone());
    }
    let dir = config.sinks.iter().find_map(|s| if let config::Sink::Dir(dir) = s { Some(dir) } else { None })?;
    Some(dir.parent().unwrap_or_else(|| Path::new("")).join("audit.key"))
}

fn open_sink(sink: &config::Sink, chain: &Arc<str>) -> Result<Sink, Problem> {
    match sink {
        config::Sink::Dir(dir) => DirSink::open(dir, chain.clone()).map(|d| Sink::Dir(Box::new(d))).map_err(|e| {
            Problem::new(format!("the audit directory cannot be written: {e}"))
                .at(dir, None)
                .key("audit.sinks")
                .help("give a directory that Remit may write")
        }),
        config::Sink::Stdout => {
            StdoutSink::open(chain).map(Sink::Stdout).map_err(|e| Problem::new(format!("stdout cannot be written: {e}")).key("audit.sinks"))
        }
    }
}

/// Writes the chain's first, signed record, and the outcomes that dead processes owe.
fn begin(log: &Log, public: PublicKey, dir: Option<&Path>) -> Result<(), Problem> {
    log.append_signed(|out, _| {
        record::signed(out, "open", &log.chain, OffsetDateTime::now_utc());
        record::count(out, "pid", u64::from(std::process::id()));
        record::field(out, "version", env!("CARGO_PKG_VERSION"));
        record::field(out, "key", &public.fingerprint());
        out.push(b'}');
    });
    let fault = |dir: Option<&Path>, what: String| {
        let problem = Problem::new(what).key("audit.sinks");
        if let Some(dir) = dir { problem.at(dir, None) } else { problem }
    };
    let recovering = dir.map(|dir| recover::recover(dir, log)).transpose();
    let recovering = recovering.map_err(|e| fault(dir, format!("the logs of earlier processes cannot be read: {e}")))?;
    log.sync().map_err(|Unwritten| fault(dir, "the audit log cannot be written".into()))?;
    if let Some(unknown) = recovering.map(|r| r.unknown).filter(|n| *n > 0) {
        tracing::warn!(unknown, "calls of a process that died were recorded with outcome unknown");
    }
    Ok(())
}

/// `20260131T235959123456Z-PID-` and eight random hex digits: sorts by start, unique across machines.
fn chain_id(now: OffsetDateTime) -> Result<Arc<str>, Problem> {
    let mut random = [0; 4];
    SystemRandom::new().fill(&mut random).map_err(|_| Problem::new("the system gives no randomness"))?;
    let (date, time) = (now.date(), now.time());
    let (year, month, day) = (date.year(), date.month() as u8, date.day());
    let (hour, minute, second, micro) = time.as_hms_micro();
    let start = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}{micro:06}Z");
    Ok(format!("{start}-{}-{:08x}", std::process::id(), u32::from_be_bytes(random)).into())
}

/// Lends this thread's buffer, empty: a record is formatted without an allocation.
fn with_buffer<T>(use_it: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local!(static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
    // A thread that is ending has none left to lend.
    let mut body = BUFFER.try_with(Cell::take).unwrap_or_default();
    body.clear();
    body.reserve(1024);
    let done = use_it(&mut body);
    if body.capacity() <= LARGEST_BUFFER {
        let _ = BUFFER.try_with(|b| b.set(body));
    }
    done
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
