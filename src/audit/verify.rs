//! Whether a log is as it was written: with the public key alone, and no key from the log.

mod walk;

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ahash::AHashSet;
use serde::Serialize;

use self::walk::Walk;
use super::{
    Head,
    files::{self, Chain},
    key::PublicKey,
    line::{CallId, Header},
};
use crate::problem::Problem;

/// What to verify, and against what.
#[derive(Debug, Clone, Default)]
pub struct Verify {
    /// Directories, or files of chains.
    pub paths: Vec<PathBuf>,
    /// The public key's file. None: `audit.pub` beside the first directory, or in it.
    pub key: Option<PathBuf>,
    /// A head that was seen earlier, elsewhere: proves that nothing up to it was cut off.
    pub expect: Option<Head>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub key: KeyUsed,
    pub chains: Vec<ChainReport>,
    pub expected: Option<Expected>,
    pub bytes: u64,
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
}

/// The key that the signatures were checked with.
#[derive(Debug, Clone, Serialize)]
pub struct KeyUsed {
    pub path: PathBuf,
    pub fingerprint: String,
}

/// Whether the head that was asked for is in the log.
#[derive(Debug, Clone, Serialize)]
pub struct Expected {
    pub head: String,
    pub found: bool,
}

/// What was found about one chain.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ChainReport {
    pub chain: String,
    pub files: Vec<PathBuf>,
    /// The first record's number; above 1 when earlier files are not here.
    pub first: u64,
    pub records: u64,
    /// The last good record, `SEQ:HASH`.
    pub head: Option<String>,
    /// The last record that a signature covers; 0 when there is none.
    pub sealed: u64,
    /// Records behind it: whoever can write the file could have changed these.
    pub tail: u64,
    /// It has its signed end.
    pub closed: bool,
    /// A process has it open.
    pub live: bool,
    /// Bytes of a last line that was not finished.
    pub torn: u64,
    pub decisions: u64,
    pub outcomes: u64,
    /// Decisions that have no outcome, in no chain that was verified.
    pub open: u64,
    /// Outcomes without a decision before them, in a chain that is whole from its start.
    pub orphans: u64,
    pub fault: Option<Fault>,
}

/// The first thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub what: What,
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// The record's number, as it should be.
    pub seq: u64,
    /// The call or task it is about, and its time, as it says.
    pub id: Option<String>,
    pub time: Option<String>,
    pub message: String,
}

/// What was done to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Edited,
    Removed,
    Reordered,
    Inserted,
    /// A signature does not fit the key: rewritten, or signed by another.
    Signature,
}

/// Verifies all chains of a directory; the key as for [`Verify`].
///
/// # Errors
/// When the directory or the key cannot be read.
pub fn verify_dir(dir: &Path, key: Option<&Path>) -> Result<Report, Problem> {
    Verify { paths: vec![dir.to_path_buf()], key: key.map(Path::to_path_buf), expect: None }.run()
}

impl Verify {
    /// Reads everything once, in memory that does not grow with it.
    ///
    /// # Errors
    /// When a path or the key cannot be read. What is wrong with the log is in the report.
    pub fn run(&self) -> Result<Report, Problem> {
        let began = Instant::now();
        let chains = self.chains()?;
        let (path, key) = self.key()?;
        let mut walks = Vec::new();
        for chain in &chains {
            let walk = Walk::new(chain, key, self.expect).run();
            walks.push(walk.map_err(|(path, e)| Problem::new(format!("the log cannot be read: {e}")).at(path, None))?);
        }
        let expected = self.expect.map(|head| Expected { head: head.to_string(), found: walks.iter().any(|w| w.found) });
        let bytes = walks.iter().map(|w| w.bytes).sum();
        let chains = settle(walks);
        Ok(Report { key: KeyUsed { path, fingerprint: key.fingerprint() }, chains, expected, bytes, took: began.elapsed() })
    }

    fn chains(&self) -> Result<Vec<Chain>, Problem> {
        let unreadable = |path: &Path, e: std::io::Error| Problem::new(format!("the log cannot be read: {e}")).at(path, None);
        let mut chains: BTreeMap<String, Vec<(u64, PathBuf)>> = BTreeMap::new();
        for path in &self.paths {
            if fs::metadata(path).map_err(|e| unreadable(path, e))?.is_dir() {
                for chain in files::list(path).map_err(|e| unreadable(path, e))? {
                    chains.entry(chain.id).or_default().extend(chain.files);
                }
            } else {
                let (chain, number) = match files::named(path) {
                    Some(named) => named,
                    None => headed(path).map_err(|e| unreadable(path, e))?,
                };
                chains.entry(chain).or_default().push((number, path.clone()));
            }
        }
        let sorted = chains.into_iter().map(|(id, mut files)| {
            files.sort();
            files.dedup();
            Chain { id, files }
        });
        Ok(sorted.collect())
    }

    fn key(&self) -> Result<(PathBuf, PublicKey), Problem> {
        if let Some(path) = &self.key {
            return Ok((path.clone(), PublicKey::read(path)?));
        }
        let first = self.paths.first().map_or_else(|| Path::new("."), PathBuf::as_path);
        let whole = fs::canonicalize(first).unwrap_or_else(|_| first.to_path_buf());
        let dir = if whole.is_dir() { whole.as_path() } else { whole.parent().unwrap_or_else(|| Path::new("/")) };
        let places = [dir.parent().unwrap_or(dir).join("audit.pub"), dir.join("audit.pub")];
        let path = places.iter().find(|p| p.exists()).ok_or_else(|| {
            Problem::new("there is no public key beside the log")
                .at(dir, None)
                .help("give the audit.pub that Remit wrote beside its signing key: --key FILE")
        })?;
        Ok((path.clone(), PublicKey::read(path)?))
    }
}

impl Report {
    /// Whether everything that was read is as it was written, and the expected head is in it.
    #[must_use]
    pub fn verified(&self) -> bool {
        !self.chains.is_empty() && self.chains.iter().all(|c| c.fault.is_none()) && self.expected.as_ref().is_none_or(|e| e.found)
    }

    /// Whether a signature covers every record.
    #[must_use]
    pub fn sealed(&self) -> bool {
        self.chains.iter().all(|c| c.tail == 0 && c.torn == 0)
    }

    /// The first fault.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.chains.iter().find_map(|c| c.fault.as_ref())
    }

    /// Megabytes a second.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64().max(1e-9)
    }
}

impl fmt::Display for Fault {
    /// `FILE:LINE: record SEQ (ID, TIME): MESSAGE`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: record {}", self.file.display(), self.line, self.seq)?;
        let about: Vec<&str> = [&self.id, &self.time].into_iter().flatten().map(String::as_str).collect();
        if !about.is_empty() {
            write!(f, " ({})", about.join(", "))?;
        }
        write!(f, " {}", self.message)
    }
}

/// Calls of a dead process have their outcome in another chain.
fn settle(walks: Vec<walk::Walked>) -> Vec<ChainReport> {
    let unknown: AHashSet<CallId> = walks.iter().flat_map(|w| w.unknown.iter().copied()).collect();
    let settled = walks.into_iter().map(|w| {
        let open = w.open.iter().filter(|id| !unknown.contains(*id)).count() as u64;
        ChainReport { open, ..w.report }
    });
    settled.collect()
}

/// The chain and number in a file's first line, for a file that was renamed or collected from stdout.
fn headed(path: &Path) -> std::io::Result<(String, u64)> {
    let mut lines = files::Lines::new(fs::File::open(path)?);
    let header = lines.next()?.and_then(|l| Header::parse(l.text).map(|h| (h.chain.to_owned(), h.file)));
    Ok(header.unwrap_or_else(|| (String::from("unnamed"), 1)))
}

fn seconds<S: serde::Serializer>(took: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(took.as_secs_f64())
}
