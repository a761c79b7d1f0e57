//! One chain, record by record.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use ahash::AHashSet;

use super::{ChainReport, Fault, What};
use crate::audit::{
    Head,
    files::{self, Chain, Lines},
    key::PublicKey,
    line::{CallId, GENESIS, Hash, Header, Kind, Record},
};

/// The walk along one chain.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    chain: &'a Chain,
    key: PublicKey,
    expect: Option<Head>,
    at: At,
    /// The number and hash that the next record builds on.
    next: u64,
    prev: Hash,
    out: Walked,
}

/// Where the walk is.
#[derive(Debug, Default)]
struct At {
    file: PathBuf,
    line: usize,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) report: ChainReport,
    pub(super) bytes: u64,
    /// The head that was asked for is a record of this chain.
    pub(super) found: bool,
    pub(super) open: AHashSet<CallId>,
    /// Calls of other chains that this one gave the outcome `unknown`.
    pub(super) unknown: Vec<CallId>,
}

type ReadError = (PathBuf, io::Error);

impl<'a> Walk<'a> {
    pub(super) fn new(chain: &'a Chain, key: PublicKey, expect: Option<Head>) -> Self {
        let files = chain.files.iter().map(|(_, path)| path.clone()).collect();
        let report = ChainReport { chain: chain.id.clone(), files, ..ChainReport::default() };
        let out = Walked { report, ..Walked::default() };
        Self { chain, key, expect, at: At::default(), next: 1, prev: GENESIS, out }
    }

    pub(super) fn run(mut self) -> Result<Walked, ReadError> {
        let last = self.chain.files.len().saturating_sub(1);
        for (i, (number, path)) in self.chain.files.iter().enumerate() {
            let before = i.checked_sub(1).and_then(|i| self.chain.files.get(i)).map(|(n, _)| *n);
            self.file(*number, path, before, i == last).map_err(|e| (path.clone(), e))?;
            if self.out.report.fault.is_some() {
                break;
            }
        }
        self.finish();
        Ok(self.out)
    }

    fn file(&mut self, number: u64, path: &Path, before: Option<u64>, last: bool) -> io::Result<()> {
        let file = File::open(path)?;
        self.out.report.live = files::is_written(&file);
        self.at = At { file: path.to_path_buf(), line: 1 };
        self.out.report.torn = 0;
        let mut lines = Lines::new(file);
        let Some(first) = lines.next()? else {
            // Made, and the process died before its first line.
            if !last {
                self.fault(What::Removed, None, "is missing: the file is empty".into());
            }
            return Ok(());
        };
        if !first.whole && last && before.is_some() {
            self.out.report.torn = first.text.len() as u64;
            return Ok(());
        }
        let header = Header::parse(first.text).filter(|_| first.whole);
        if !self.header(header, number, before) {
            return Ok(());
        }
        while let Some(line) = lines.next()? {
            self.at.line += 1;
            if !line.whole {
                self.torn(line.text);
                break;
            }
            let Some(record) = Record::parse(line.text) else {
                self.fault(What::Edited, None, "is no record any more: the line was edited".into());
                break;
            };
            if record.seq > self.next {
                let gap = Gap { from: self.next, seq: record.seq, line: self.at.line };
                let (id, time) = about(&record);
                self.gap(gap, id, time, &mut lines)?;
                break;
            }
            if !self.record(&record) {
                break;
            }
        }
        self.out.bytes += lines.bytes;
        Ok(())
    }

    /// Checks that a file begins where the one before it ended.
    fn header(&mut self, header: Option<Header<'_>>, number: u64, before: Option<u64>) -> bool {
        let named = header.filter(|h| h.file == number && h.chain == self.chain.id);
        let Some(header) = named else {
            self.fault(What::Edited, None, "should stand behind the file's first line, which was edited".into());
            return false;
        };
        let start = before.is_none();
        if start && number > 1 {
            // Earlier files are not here: `keep` removes them.
            (self.next, self.prev) = (header.seq, header.prev);
        } else if before.is_some_and(|b| b + 1 != number) {
            let missing = before.unwrap_or(0) + 1;
            self.fault(What::Removed, None, format!("is missing: there is no file {missing} of this chain"));
            return false;
        }
        if header.seq > self.next {
            let until = header.seq - 1;
            self.fault(What::Removed, None, format!("is missing: records {} to {until} are cut off the end of the file before", self.next));
            return false;
        }
        if header.seq < self.next || header.prev != self.prev {
            self.fault(What::Edited, None, "does not go on where the file before ended".into());
            return false;
        }
        if start {
            self.out.report.first = self.next;
        }
        true
    }

    fn record(&mut self, record: &Record<'_>) -> bool {
        if record.seq < self.next {
            self.fault(What::Inserted, Some(record), format!("is inserted: record {} stood before it already", record.seq));
            return false;
        }
        if !record.follows(&self.prev) {
            self.fault(
                What::Edited,
                Some(record),
                "does not hash to what it says: it was edited, or what stood before it was replaced".into(),
            );
            return false;
        }
        if let Some(signature) = &record.signature
            && !(self.key.verifies(&record.hash, signature) && record_chain(record) == Some(&self.chain.id))
        {
            let from = self.out.report.sealed + 1;
            let message = format!(
                "has a signature that does not fit the key: records {from} to {} were rewritten, or another key signed them",
                record.seq
            );
            self.fault(What::Signature, Some(record), message);
            return false;
        }
        self.count(record);
        true
    }

    fn count(&mut self, record: &Record<'_>) {
        (self.next, self.prev) = (record.seq + 1, record.hash);
        let report = &mut self.out.report;
        report.records += 1;
        if record.signature.is_some() {
            report.sealed = record.seq;
        }
        report.closed = record.kind() == Kind::Close && record.signature.is_some();
        self.out.found |= self.expect.is_some_and(|e| e == Head { seq: record.seq, hash: record.hash });
        let Some(id) = record.call_id() else { return };
        if record.kind() == Kind::Decision {
            report.decisions += 1;
            self.out.open.insert(id);
            return;
        }
        report.outcomes += 1;
        if record.text("outcome") == Some("unknown") {
            self.out.unknown.push(id);
        } else if !self.out.open.remove(&id) && report.first == 1 {
            report.orphans += 1;
        }
    }

    /// A record's number is too high: what should stand here comes later, or not at all.
    fn gap(&mut self, gap: Gap, id: Option<String>, time: Option<String>, lines: &mut Lines<File>) -> io::Result<()> {
        let mut line = gap.line;
        while let Some(next) = lines.next()? {
            line += 1;
            let Some(record) = Record::parse(next.text).filter(|r| r.seq == gap.from) else { continue };
            let message = format!("is out of order: record {} stands in its place, on line {}", gap.seq, gap.line);
            self.at.line = line;
            self.fault(What::Reordered, Some(&record), message);
            return Ok(());
        }
        let until = gap.seq - 1;
        let missing = if until == gap.from { "is missing".into() } else { format!("to {until} are missing") };
        let next: Vec<String> = [id, time].into_iter().flatten().collect();
        self.fault(What::Removed, None, format!("{missing}: removed before record {} ({})", gap.seq, next.join(", ")));
        Ok(())
    }

    /// A last line without its line feed: a process died while it wrote, unless a whole record is in it.
    fn torn(&mut self, text: &[u8]) {
        let whole = text.split_last().and_then(|(_, most)| Record::parse(most)).is_some_and(|r| r.follows(&self.prev));
        if whole {
            self.fault(What::Edited, None, "was edited: its line does not end where it should".into());
        } else if self.out.report.closed {
            self.fault(What::Inserted, None, "is inserted: something stands behind the signed end".into());
        } else {
            self.out.report.torn = text.len() as u64;
        }
    }

    fn fault(&mut self, what: What, record: Option<&Record<'_>>, message: String) {
        let (id, time) = record.map(about).unwrap_or_default();
        let seq = if what == What::Inserted { record.map_or(self.next, |r| r.seq) } else { self.next };
        self.out.report.fault = Some(Fault { what, file: self.at.file.clone(), line: self.at.line, seq, id, time, message });
    }

    fn finish(&mut self) {
        let report = &mut self.out.report;
        if report.fault.is_none() && report.sealed == 0 {
            let message = "carries no signature, nor does any record of this chain: nothing vouches for it".into();
            report.fault = Some(Fault {
                what: What::Signature,
                file: self.at.file.clone(),
                line: 1,
                seq: self.next.min(1),
                id: None,
                time: None,
                message,
            });
        }
        if report.records > 0 {
            report.head = Some(Head { seq: self.next - 1, hash: self.prev }.to_string());
            report.tail = self.next - 1 - report.sealed.max(report.first - 1);
        }
    }
}

/// A record where another should stand.
#[derive(Debug, Clone, Copy)]
struct Gap {
    from: u64,
    seq: u64,
    line: usize,
}

/// What the record says it is about, and when.
fn about(record: &Record<'_>) -> (Option<String>, Option<String>) {
    (record.text("id").map(str::to_owned), record.text("time").map(str::to_owned))
}

/// The chain that a signed record names.
fn record_chain<'a>(record: &Record<'a>) -> Option<&'a str> {
    record.text("chain")
}
