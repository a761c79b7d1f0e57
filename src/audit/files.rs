//! The files of a directory, chain by chain, and their lines.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::line::{self, Record};

/// Longer than any line that is written: a signed record is below 1 KiB, a call's bounded by its body.
const LONGEST_LINE: usize = 64 << 20;

const BLOCK: usize = 256 << 10;

/// The files of one chain in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) id: String,
    /// Number and path, by number.
    pub(super) files: Vec<(u64, PathBuf)>,
}

/// The chains whose files lie in `dir`, oldest first. Other files are passed over.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Chain>> {
    let mut chains: BTreeMap<String, Vec<(u64, PathBuf)>> = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if let Some((chain, number)) = named(&path) {
            chains.entry(chain).or_default().push((number, path));
        }
    }
    let sorted = chains.into_iter().map(|(id, mut files)| {
        files.sort();
        Chain { id, files }
    });
    Ok(sorted.collect())
}

/// Shows every whole record of a directory: chain by chain, the oldest first, each in its order.
/// What cannot be read is passed over: `verify` says so.
pub(super) fn each(dir: &Path, mut see: impl FnMut(&Chain, &Record<'_>)) -> io::Result<()> {
    for chain in list(dir)? {
        for (_, path) in &chain.files {
            let mut lines = Lines::new(File::open(path)?);
            while let Some(line) = lines.next()?.filter(|l| l.whole) {
                if let Some(record) = Record::parse(line.text) {
                    see(&chain, &record);
                }
            }
        }
    }
    Ok(())
}

/// The chain and number in a file's name.
pub(super) fn named(path: &Path) -> Option<(String, u64)> {
    let (chain, number) = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.rsplit_once('.')?;
    (line::is_chain(chain) && number.bytes().all(|b| b.is_ascii_digit())).then_some((chain.to_owned(), number.parse().ok()?))
}

/// Whether a process has the file open to write. The lock goes with the process, however it ends.
pub(super) fn is_written(file: &File) -> bool {
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The last whole line of a file; None when there is none in its last 4 KiB.
pub(super) fn last_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let len = file.seek(SeekFrom::End(0))?;
    let from = len.saturating_sub(4096);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::with_capacity(4096);
    file.take(4096).read_to_end(&mut tail)?;
    let Some(end) = memchr::memrchr(b'\n', &tail) else { return Ok(None) };
    tail.truncate(end);
    Ok(match memchr::memrchr(b'\n', &tail) {
        Some(start) => Some(tail.split_off(start + 1)),
        None if from == 0 => Some(tail),
        None => None,
    })
}

/// A whole number that is a member of a record's body.
pub(super) fn number(record: &Record<'_>, key: &str) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(record.body).ok()?.get(key)?.as_u64()
}

/// A line, and whether it ended in a line feed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) text: &'a [u8],
    pub(super) whole: bool,
}

/// Reads lines in memory that does not grow with the file.
#[derive(Debug)]
pub(super) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes read.
    pub(super) bytes: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Self::with_block(from, BLOCK)
    }

    /// Reads `block` bytes at a time.
    pub(super) fn with_block(from: R, block: usize) -> Self {
        Self { from, buffer: vec![0; block], start: 0, end: 0, bytes: 0 }
    }

    /// The next line; None at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = self.start;
        loop {
            let fresh = self.buffer.get(searched..self.end).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', fresh) {
                let (from, to) = (self.start, searched + at);
                self.start = to + 1;
                return Ok(self.buffer.get(from..to).map(|text| Line { text, whole: true }));
            }
            searched = self.end - self.start;
            if self.fill()? == 0 {
                let (from, to) = (self.start, self.end);
                self.start = to;
                return Ok(self.buffer.get(from..to).filter(|t| !t.is_empty()).map(|text| Line { text, whole: false }));
            }
        }
    }

    /// Moves what is left to the front and reads more behind it.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            if self.end >= LONGEST_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any record"));
            }
            self.buffer.resize(self.end * 2, 0);
        }
        loop {
            match self.from.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(n) => {
                    self.end += n;
                    self.bytes += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_whatever_their_length() {
        let long = "x".repeat(3 * BLOCK + 7);
        let text = format!("a\n\n{long}\nlast");
        let mut lines = Lines::new(text.as_bytes());
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            seen.push((String::from_utf8(line.text.to_vec()).unwrap(), line.whole));
        }
        assert_eq!(seen, [("a".into(), true), (String::new(), true), (long, true), ("last".into(), false)]);
        assert_eq!(lines.bytes, text.len() as u64);
    }

    #[test]
    fn only_names_that_this_room_gives_are_chains() {
        assert_eq!(named(Path::new("d/20260101T000000Z-7-ab.000012.jsonl")), Some(("20260101T000000Z-7-ab".into(), 12)));
        for name in ["x.jsonl", "a b.000001.jsonl", ".000001.jsonl", "x.+1.jsonl", "x.000001.json"] {
            assert_eq!(named(Path::new(name)), None, "{name}");
        }
    }
}
