//! The newest calls of a log, each decision joined with its outcome; and the ones that come.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    files::{self, Chain, Lines},
    filter::{Filter, Sieve},
    line::{CallId, Kind, Record},
    text,
};

const BLOCK: u64 = 256 << 10;

/// One call as it stands in the log: the bodies of its records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call {
    pub chain: String,
    pub seq: u64,
    pub decision: Value,
    /// None while the call is open.
    pub outcome: Option<Value>,
}

/// What came to a log that is followed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum News {
    Call(Call),
    /// The outcome of a call that was shown before.
    Outcome {
        outcome: Value,
    },
}

/// The last `n` calls that `filter` shows, oldest first. Reads the files from their ends, and no
/// further than it must.
///
/// # Errors
/// When the directory cannot be read.
pub fn last_calls(dir: &Path, n: usize, filter: &Filter) -> io::Result<Vec<Call>> {
    let mut sieve = Sieve::new(filter.clone());
    sieve.learn(dir)?;
    let mut outcomes = HashMap::new();
    let mut calls: Vec<Call> = Vec::new();
    for (written, chain) in newest_first(dir)? {
        calls.sort_by(|a, b| time_of(b).cmp(time_of(a)));
        calls.truncate(n);
        if calls.len() == n && calls.last().is_some_and(|c| time_of(c) > written.as_str()) {
            break;
        }
        collect(&chain, n, &sieve, &mut outcomes, &mut calls)?;
    }
    calls.sort_by(|a, b| time_of(b).cmp(time_of(a)));
    calls.truncate(n);
    calls.reverse();
    Ok(calls)
}

/// Follows a directory: what is appended to its files from now on, and files that come to be.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    sieve: Sieve,
    /// How far each file was read.
    read: HashMap<PathBuf, u64>,
    /// Calls shown without outcome.
    open: HashSet<CallId>,
}

impl Follow {
    /// Starts at the present end.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn new(dir: &Path, filter: Filter) -> io::Result<Self> {
        let mut sieve = Sieve::new(filter);
        sieve.learn(dir)?;
        let mut follow = Self { dir: dir.to_path_buf(), sieve, read: HashMap::new(), open: HashSet::new() };
        for chain in files::list(dir)? {
            for (_, path) in chain.files {
                let mut file = File::open(&path)?;
                let len = file.seek(SeekFrom::End(0))?;
                let torn = Backwards::new(file, len).torn()?;
                follow.read.insert(path, len - torn);
            }
        }
        Ok(follow)
    }

    /// What came since the last time.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn news(&mut self) -> io::Result<Vec<News>> {
        let mut news: Vec<News> = Vec::new();
        for chain in files::list(&self.dir)? {
            for (_, path) in &chain.files {
                let from = self.read.get(path).copied().unwrap_or(0);
                if fs::metadata(path)?.len() > from {
                    let to = self.read_on(&chain.id, path, from, &mut news)?;
                    self.read.insert(path.clone(), to);
                }
            }
        }
        Ok(news)
    }

    fn read_on(&mut self, chain: &str, path: &Path, from: u64, news: &mut Vec<News>) -> io::Result<u64> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut lines = Lines::new(file);
        let mut to = from;
        while let Some(line) = lines.next()?.filter(|l| l.whole) {
            to += line.text.len() as u64 + 1;
            let Some(record) = Record::parse(line.text) else { continue };
            if !matches!(record.kind(), Kind::Decision | Kind::Outcome | Kind::Task) {
                continue;
            }
            let Ok(body) = serde_json::from_slice::<Value>(record.body) else { continue };
            let Some(id) = record.call_id() else {
                self.sieve.meet(&body);
                continue;
            };
            if record.kind() == Kind::Decision {
                if self.sieve.shows(&body) {
                    self.open.insert(id);
                    news.push(News::Call(Call { chain: chain.to_owned(), seq: record.seq, decision: body, outcome: None }));
                }
            } else if self.open.remove(&id) {
                let told = news.iter_mut().rev().find_map(|n| match n {
                    News::Call(c) if c.decision["id"] == body["id"] => Some(c),
                    _ => None,
                });
                match told {
                    Some(call) => call.outcome = Some(body),
                    None => news.push(News::Outcome { outcome: body }),
                }
            }
        }
        Ok(to)
    }
}

/// A text from the network as it may be shown: control and bidirectional characters escaped.
#[must_use]
pub fn shown(text: &str) -> String {
    crate::shown::shown(text).into_owned()
}

/// The chains with the time of their last write, newest first.
fn newest_first(dir: &Path) -> io::Result<Vec<(String, Chain)>> {
    let mut chains = Vec::new();
    for chain in files::list(dir)? {
        let Some((_, path)) = chain.files.last() else { continue };
        let mut time = Vec::new();
        text::time(&mut time, OffsetDateTime::from(fs::metadata(path)?.modified()?));
        chains.push((String::from_utf8_lossy(&time).trim_matches('"').to_owned(), chain));
    }
    chains.sort_by(|(a, _), (b, _)| b.cmp(a));
    Ok(chains)
}

fn time_of(call: &Call) -> &str {
    call.decision["time"].as_str().unwrap_or_default()
}

/// Adds a chain's last `n` calls, read backwards: an outcome is met before its decision.
fn collect(chain: &Chain, n: usize, sieve: &Sieve, outcomes: &mut HashMap<CallId, Value>, calls: &mut Vec<Call>) -> io::Result<()> {
    let enough = calls.len() + n;
    for (_, path) in chain.files.iter().rev() {
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let mut lines = Backwards::new(file, len);
        while calls.len() < enough {
            let Some(line) = lines.next()? else { break };
            let Some(record) = Record::parse(&line) else { continue };
            let Some(id) = record.call_id() else { continue };
            let Ok(body) = serde_json::from_slice::<Value>(record.body) else { continue };
            if record.kind() == Kind::Outcome {
                outcomes.insert(id, body);
                continue;
            }
            let outcome = outcomes.remove(&id);
            if sieve.shows(&body) {
                calls.push(Call { chain: chain.id.clone(), seq: record.seq, decision: body, outcome });
            }
        }
    }
    Ok(())
}

/// Whole lines of a file from its end; what stands behind the last line feed is passed over.
#[derive(Debug)]
struct Backwards {
    file: File,
    /// Where `held` begins in the file.
    start: u64,
    held: Vec<u8>,
    begun: bool,
}

impl Backwards {
    fn new(file: File, len: u64) -> Self {
        Self { file, start: len, held: Vec::new(), begun: false }
    }

    /// Bytes behind the last line feed.
    fn torn(mut self) -> io::Result<u64> {
        loop {
            if let Some(at) = memchr::memrchr(b'\n', &self.held) {
                return Ok((self.held.len() - at - 1) as u64);
            }
            if !self.grow()? {
                return Ok(self.held.len() as u64);
            }
        }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = memchr::memrchr(b'\n', &self.held) {
                let line = self.held.split_off(at + 1);
                self.held.truncate(at);
                if std::mem::replace(&mut self.begun, true) {
                    return Ok(Some(line));
                }
            } else if !self.grow()? {
                let line = std::mem::take(&mut self.held);
                return Ok(Some(line).filter(|l| self.begun && !l.is_empty()));
            }
        }
    }

    /// Reads the block before; false at the start of the file.
    fn grow(&mut self) -> io::Result<bool> {
        let size = self.start.min(BLOCK);
        if size == 0 {
            return Ok(false);
        }
        self.start -= size;
        self.file.seek(SeekFrom::Start(self.start))?;
        let mut block = Vec::with_capacity(size as usize + self.held.len());
        (&self.file).take(size).read_to_end(&mut block)?;
        block.append(&mut self.held);
        self.held = block;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_the_same_from_both_ends() {
        let dir = crate::audit::testing::dir("backwards");
        let path = dir.join("x");
        let long = "y".repeat(2 * BLOCK as usize);
        for (text, want) in [
            (String::new(), vec![]),
            ("torn".into(), vec![]),
            ("a\n".into(), vec!["a".to_owned()]),
            (format!("a\n{long}\nb\ntorn"), vec!["b".into(), long, "a".into()]),
        ] {
            fs::write(&path, &text).unwrap();
            let mut lines = Backwards::new(File::open(&path).unwrap(), text.len() as u64);
            let mut seen = Vec::new();
            while let Some(line) = lines.next().unwrap() {
                seen.push(String::from_utf8(line).unwrap());
            }
            assert_eq!(seen, want);
            let torn = Backwards::new(File::open(&path).unwrap(), text.len() as u64).torn().unwrap();
            assert_eq!(torn, text.len() as u64 - text.rfind('\n').map_or(0, |at| at as u64 + 1));
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_text() {
        assert_eq!(shown("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
    }
}
