//! Where lines go: the files of one chain in a directory, or stdout.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    mem,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Head, line};

/// One place that takes every line. Bytes that it could not write it keeps and writes first.
#[derive(Debug)]
pub(super) enum Sink {
    Dir(Box<DirSink>),
    Stdout(StdoutSink),
}

/// The files of one chain: `CHAIN.000001.jsonl` and on, the newest locked while it is written.
#[derive(Debug)]
pub(super) struct DirSink {
    dir: PathBuf,
    chain: Arc<str>,
    number: u64,
    file: Arc<File>,
    /// Bytes of whole records in the file.
    len: u64,
    /// The last record in the files.
    end: Head,
    owed: Vec<u8>,
    owed_end: Head,
    /// The file cannot be cut back or synced: what comes next goes to a new one.
    spoilt: bool,
}

#[derive(Debug)]
pub(super) struct StdoutSink {
    file: Arc<File>,
    owed: Vec<u8>,
}

impl Sink {
    /// Writes whole lines, of which `end` is the last; after an error none of them can be read
    /// as a record in the file, and they are written before the next ones.
    pub(super) fn write(&mut self, lines: &[u8], end: Head) -> io::Result<()> {
        match self {
            Self::Dir(dir) => dir.write(lines, end),
            Self::Stdout(stdout) => stdout.write(lines),
        }
    }

    /// Bytes that are kept for later.
    pub(super) fn owed(&self) -> usize {
        match self {
            Self::Dir(dir) => dir.owed.len(),
            Self::Stdout(stdout) => stdout.owed.len(),
        }
    }

    /// The file to sync, when there is one that can be.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        match self {
            Self::Dir(dir) => Some(dir.file.clone()),
            Self::Stdout(_) => None,
        }
    }

    /// Syncing `file` failed: what was written to it may be gone, whatever a later sync says.
    pub(super) fn spoil(&mut self, file: &Arc<File>) {
        if let Self::Dir(dir) = self
            && Arc::ptr_eq(&dir.file, file)
        {
            dir.spoilt = true;
        }
    }
}

impl DirSink {
    /// Makes the directory where it is missing, and the chain's first file in it.
    pub(super) fn open(dir: &Path, chain: Arc<str>) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        let start = Head { seq: 0, hash: line::GENESIS };
        let (file, len) = start_file(dir, &chain, 1, start)?;
        Ok(Self { dir: dir.to_path_buf(), chain, number: 1, file, len, end: start, owed: Vec::new(), owed_end: start, spoilt: false })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Starts the next file after the last record written, and returns the one before it. On error
    /// the present one stays in use.
    pub(super) fn next_file(&mut self) -> io::Result<Arc<File>> {
        let (file, len) = start_file(&self.dir, &self.chain, self.number + 1, self.end)?;
        (self.len, self.number, self.spoilt) = (len, self.number + 1, false);
        Ok(mem::replace(&mut self.file, file))
    }

    fn write(&mut self, lines: &[u8], end: Head) -> io::Result<()> {
        if self.owed.is_empty() && !self.spoilt {
            let result = self.append(lines);
            match result {
                Ok(()) => self.end = end,
                Err(_) => self.owed.extend_from_slice(lines),
            }
            self.owed_end = end;
            return result;
        }
        self.owed.extend_from_slice(lines);
        self.owed_end = end;
        if self.spoilt {
            self.next_file()?;
        }
        let owed = mem::take(&mut self.owed);
        let result = self.append(&owed);
        match result {
            Ok(()) => self.end = self.owed_end,
            Err(_) => self.owed = owed,
        }
        result
    }

    /// All of it or nothing: after a failure the file is cut back to the last whole record.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let result = (&*self.file).write_all(lines);
        match result {
            Ok(()) => self.len += lines.len() as u64,
            Err(_) => self.spoilt = self.file.set_len(self.len).is_err(),
        }
        result
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = Arc::new(file);
    }
}

impl StdoutSink {
    pub(super) fn open(chain: &str) -> io::Result<Self> {
        // The first line goes out before the first record.
        let mut owed = Vec::new();
        line::header(&mut owed, &line::Header { chain, file: 1, seq: 1, prev: line::GENESIS });
        Ok(Self { file: Arc::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)), owed })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.owed.extend_from_slice(lines);
        let mut done = 0;
        let mut result = Ok(());
        while let Some(rest) = self.owed.get(done..).filter(|rest| !rest.is_empty()) {
            match (&*self.file).write(rest) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => result = Err(e),
            }
            if result.is_err() {
                break;
            }
        }
        self.owed.drain(..done);
        result
    }
}

/// The name of a chain's file.
pub(super) fn file_name(chain: &str, number: u64) -> String {
    format!("{chain}.{number:06}.jsonl")
}

/// Makes a file, locks it for as long as it is open, and writes its first line.
fn start_file(dir: &Path, chain: &str, number: u64, after: Head) -> io::Result<(Arc<File>, u64)> {
    let path = dir.join(file_name(chain, number));
    let file = OpenOptions::new().append(true).create_new(true).mode(0o640).custom_flags(libc::O_NOFOLLOW).open(&path)?;
    let mut header = Vec::new();
    line::header(&mut header, &line::Header { chain, file: number, seq: after.seq + 1, prev: after.hash });
    let ready = file.lock().and_then(|()| (&file).write_all(&header)).and_then(|()| File::open(dir)?.sync_all());
    if let Err(e) = ready {
        // An empty file would be taken for a torn one.
        let _ = fs::remove_file(&path);
        return Err(e);
    }
    Ok((Arc::new(file), header.len() as u64))
}
