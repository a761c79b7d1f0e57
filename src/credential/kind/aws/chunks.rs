//! Bodies that carry a signature with every chunk (`Content-Encoding: aws-chunked`): what an agent signed with
//! a placeholder is signed anew. Chunks keep their sizes, so the body keeps its length.
//!
//! ```text
//! 10000;chunk-signature=64 hex digits\r\n…65536 bytes…\r\n
//! 0;chunk-signature=…\r\n[x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:…\r\n]\r\n
//! ```

use bytes::Bytes;

use super::sigv4::Key;
use crate::call::{Rewrite, Unsigned};

/// The largest chunk that is held until its signature is known: SDKs make them of 64 or 128 KiB.
const LARGEST_CHUNK: usize = 1 << 20;
/// A size, the word, a signature.
const LONGEST_LINE: usize = 128;
const MOST_TRAILERS: usize = 4 << 10;
const SIGNATURE: usize = 64;
const EXTENSION: &str = ";chunk-signature=";
const TRAILER_SIGNATURE: &[u8] = b"x-amz-trailer-signature";

/// Signs the chunks of one body.
pub(super) struct Chunks {
    key: Key,
    /// The signature before the next one: of the request, then of each chunk.
    before: String,
    trailers: bool,
    at: At,
    /// What came and is not yet whole.
    held: Vec<u8>,
}

enum At {
    /// In the line that begins a chunk.
    Line,
    /// In a chunk of so many bytes, whose line began with this size.
    Data {
        size: usize,
        written: Box<str>,
    },
    /// After the chunk of no bytes.
    Trailers,
    Over,
}

impl Chunks {
    /// `seed` is the signature of the request.
    pub(super) fn new(key: Key, seed: &str, trailers: bool) -> Self {
        Self { key, before: seed.to_owned(), trailers, at: At::Line, held: Vec::new() }
    }

    /// One step; false when more must come first.
    fn step(&mut self, out: &mut Vec<u8>) -> Result<bool, Unsigned> {
        match &self.at {
            At::Line => self.line(out),
            At::Data { size, .. } if self.held.len() < size + 2 => Ok(false),
            At::Data { .. } => self.data(out).map(|()| true),
            At::Trailers => self.fields(out),
            At::Over if self.held.is_empty() => Ok(false),
            At::Over => Err(Unsigned::Request("more bytes come after the last chunk of the body")),
        }
    }

    fn line(&mut self, out: &mut Vec<u8>) -> Result<bool, Unsigned> {
        let Some(end) = memchr::memmem::find(&self.held, b"\r\n") else {
            return if self.held.len() > LONGEST_LINE { Err(NO_LINE) } else { Ok(false) };
        };
        let line = self.held.get(..end).filter(|l| l.len() <= LONGEST_LINE).and_then(|l| std::str::from_utf8(l).ok());
        let (written, size) = line.and_then(chunk_size).ok_or(NO_LINE)?;
        if size > LARGEST_CHUNK {
            return Err(Unsigned::Request("a chunk of the body is larger than 1 MiB, too large to be signed anew: send smaller ones"));
        }
        let written: Box<str> = written.into();
        self.held.drain(..end + 2);
        if size > 0 {
            self.at = At::Data { size, written };
            return Ok(true);
        }
        self.begin(&written, 0, out);
        self.at = At::Trailers;
        Ok(true)
    }

    /// Writes the line of a chunk whose `size` bytes are the first that are held.
    fn begin(&mut self, written: &str, size: usize, out: &mut Vec<u8>) {
        self.before = self.key.chunk(&self.before, self.held.get(..size).unwrap_or_default());
        for part in [written, EXTENSION, &self.before, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    fn data(&mut self, out: &mut Vec<u8>) -> Result<(), Unsigned> {
        let At::Data { size, written } = std::mem::replace(&mut self.at, At::Line) else { return Ok(()) };
        if self.held.get(size..size + 2) != Some(b"\r\n") {
            return Err(Unsigned::Request("a chunk of the body is longer than its size says"));
        }
        self.begin(&written, size, out);
        out.extend(self.held.drain(..size + 2));
        Ok(())
    }

    /// The fields after the last chunk, up to an empty line.
    fn fields(&mut self, out: &mut Vec<u8>) -> Result<bool, Unsigned> {
        let end = if self.held.starts_with(b"\r\n") { Some(0) } else { memchr::memmem::find(&self.held, b"\r\n\r\n").map(|at| at + 2) };
        let Some(end) = end else {
            return if self.held.len() > MOST_TRAILERS { Err(NO_TRAILER) } else { Ok(false) };
        };
        let fields: Vec<u8> = self.held.drain(..end + 2).take(end).collect();
        self.at = At::Over;
        let signed = self.trailers.then(|| self.signed_fields(&fields)).transpose()?;
        match signed {
            Some(signed) => out.extend_from_slice(&signed),
            None if fields.is_empty() => {}
            None => return Err(Unsigned::Request("the body ends in fields that its head does not announce")),
        }
        out.extend_from_slice(b"\r\n");
        Ok(true)
    }

    fn signed_fields(&self, fields: &[u8]) -> Result<Vec<u8>, Unsigned> {
        let mut canonical = Vec::new();
        let mut out = Vec::new();
        let mut signed = false;
        for line in fields.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let (name, value) = memchr::memchr(b':', line).and_then(|at| line.split_at_checked(at)).ok_or(NO_TRAILER)?;
            let name = name.trim_ascii().to_ascii_lowercase();
            if name == TRAILER_SIGNATURE {
                if std::mem::replace(&mut signed, true) {
                    return Err(NO_TRAILER);
                }
                continue;
            }
            if signed {
                return Err(Unsigned::Request("a field of the body stands after the signature of such fields"));
            }
            canonical.extend_from_slice(&name);
            canonical.push(b':');
            canonical.extend_from_slice(value.get(1..).unwrap_or_default().trim_ascii());
            canonical.push(b'\n');
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        if !signed {
            return Err(Unsigned::Request("the fields after the body are announced as signed, and are not"));
        }
        let signature = self.key.trailer(&self.before, &canonical);
        for part in [TRAILER_SIGNATURE, b":", signature.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        Ok(out)
    }
}

const NO_LINE: Unsigned = Unsigned::Request("a chunk of the body does not begin with `SIZE;chunk-signature=SIGNATURE`");
const NO_TRAILER: Unsigned = Unsigned::Request("what follows the body's last chunk are no fields");

impl Rewrite for Chunks {
    fn next(&mut self, data: &Bytes) -> Result<Bytes, Unsigned> {
        self.held.extend_from_slice(data);
        let mut out = Vec::new();
        while self.step(&mut out)? {}
        Ok(Bytes::from(out))
    }

    fn end(&self) -> Result<(), Unsigned> {
        match self.at {
            At::Over => Ok(()),
            _ => Err(Unsigned::Request("the body broke off before its last chunk")),
        }
    }
}

/// The size as it is written, and as a number.
fn chunk_size(line: &str) -> Option<(&str, usize)> {
    let (size, signature) = line.split_once(EXTENSION)?;
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    (signature.len() == SIGNATURE && hex(signature) && hex(size) && (1..=8).contains(&size.len()))
        .then(|| usize::from_str_radix(size, 16).ok().map(|n| (size, n)))?
}

#[cfg(test)]
mod tests;
