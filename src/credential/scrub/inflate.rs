use std::{
    collections::VecDeque,
    io::{self, Write},
};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::Scanner;

/// Looks at text as it comes.
pub(in crate::credential) trait Watch {
    fn see(&mut self, text: Bytes);
    /// What is looked for was found.
    fn hit(&self) -> bool;
    /// The text so far ends in what may be its beginning.
    fn waits(&self) -> bool;
}

impl Watch for Scanner {
    fn see(&mut self, text: Bytes) {
        self.push(text);
    }

    fn hit(&self) -> bool {
        self.hits() > 0
    }

    fn waits(&self) -> bool {
        self.held() > 0
    }
}

/// Follows a compressed body: inflates a copy, has it looked at, and says which compressed pieces may
/// go on. A piece is held while its text ends in what may be the beginning of a value.
#[derive(Debug)]
pub(in crate::credential) struct Inflater<W: Watch> {
    decoder: Decoder<W>,
    held: VecDeque<Bytes>,
}

/// A value was found, or the body is not what its encoding says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::credential) enum Stop {
    Hit,
    Broken,
}

#[derive(Debug)]
enum Decoder<W: Watch> {
    Gzip(MultiGzDecoder<Sink<W>>),
    Zlib(ZlibDecoder<Sink<W>>),
    Raw(DeflateDecoder<Sink<W>>),
    /// `deflate` is zlib by RFC 9110 §8.4.1.2, and raw from some servers; the first two bytes tell.
    Undecided(Vec<u8>, Option<Sink<W>>),
}

/// Where inflated text goes: looked at and forgotten.
#[derive(Debug)]
struct Sink<W>(W);

impl<W: Watch> Write for Sink<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.see(Bytes::copy_from_slice(text));
        if self.0.hit() { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(text.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Watch> Inflater<W> {
    pub(in crate::credential) fn gzip(watch: W) -> Self {
        Self { decoder: Decoder::Gzip(MultiGzDecoder::new(Sink(watch))), held: VecDeque::new() }
    }

    pub(in crate::credential) fn deflate(watch: W) -> Self {
        Self { decoder: Decoder::Undecided(Vec::new(), Some(Sink(watch))), held: VecDeque::new() }
    }

    /// By the name of a coding (RFC 9110 §8.4.1); None for one that is not read.
    pub(in crate::credential) fn named(coding: &[u8], watch: W) -> Option<Self> {
        match coding.trim_ascii().to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Some(Self::gzip(watch)),
            b"deflate" => Some(Self::deflate(watch)),
            _ => None,
        }
    }

    /// Takes the next compressed piece.
    pub(in crate::credential) fn push(&mut self, piece: Bytes) -> Result<(), Stop> {
        let result = self.decoder.write(&piece);
        if self.watch().is_some_and(W::hit) {
            return Err(Stop::Hit);
        }
        self.held.push_back(piece);
        result.map_err(|_| Stop::Broken)
    }

    /// A piece that may go on now, if there is one.
    pub(in crate::credential) fn pop(&mut self) -> Option<Bytes> {
        if self.watch().is_some_and(W::waits) { None } else { self.held.pop_front() }
    }

    /// What is left at the end; all of it may go on.
    pub(in crate::credential) fn pop_rest(&mut self) -> Option<Bytes> {
        self.held.pop_front()
    }

    pub(in crate::credential) fn held(&self) -> usize {
        self.held.iter().map(Bytes::len).sum()
    }

    /// Who looks at the text; None only for what is broken.
    pub(in crate::credential) fn watch(&self) -> Option<&W> {
        self.decoder.sink().map(|sink| &sink.0)
    }

    pub(in crate::credential) fn watch_mut(&mut self) -> Option<&mut W> {
        match &mut self.decoder {
            Decoder::Gzip(decoder) => Some(&mut decoder.get_mut().0),
            Decoder::Zlib(decoder) => Some(&mut decoder.get_mut().0),
            Decoder::Raw(decoder) => Some(&mut decoder.get_mut().0),
            Decoder::Undecided(_, sink) => sink.as_mut().map(|sink| &mut sink.0),
        }
    }
}

impl<W: Watch> Decoder<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if let Self::Undecided(start, sink) = self {
            start.extend_from_slice(piece);
            let &[first, second, ..] = &start[..] else { return Ok(()) };
            let start = std::mem::take(start);
            let Some(sink) = sink.take() else { return Err(io::ErrorKind::InvalidData.into()) };
            let zlib = first & 0x0f == 8 && (u16::from(first) << 8 | u16::from(second)).is_multiple_of(31);
            *self = if zlib { Self::Zlib(ZlibDecoder::new(sink)) } else { Self::Raw(DeflateDecoder::new(sink)) };
            return self.write(&start);
        }
        match self {
            Self::Gzip(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Zlib(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Raw(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Undecided(..) => Ok(()),
        }
    }

    fn sink(&self) -> Option<&Sink<W>> {
        match self {
            Self::Gzip(decoder) => Some(decoder.get_ref()),
            Self::Zlib(decoder) => Some(decoder.get_ref()),
            Self::Raw(decoder) => Some(decoder.get_ref()),
            Self::Undecided(_, sink) => sink.as_ref(),
        }
    }
}
