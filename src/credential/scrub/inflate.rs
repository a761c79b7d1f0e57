use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::{Scanner, Scrubber};

/// Follows a compressed body: inflates a copy, searches it, and says which compressed pieces may
/// go on. A piece is held while its text ends in what may be the beginning of a value.
#[derive(Debug)]
pub(super) struct Inflater {
    decoder: Decoder,
    held: VecDeque<Bytes>,
}

/// A value was found, or the body is not what its encoding says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Hit,
    Broken,
}

#[derive(Debug)]
enum Decoder {
    Gzip(MultiGzDecoder<Sink>),
    Zlib(ZlibDecoder<Sink>),
    Raw(DeflateDecoder<Sink>),
    /// `deflate` is zlib by RFC 9110 §8.4.1.2, and raw from some servers; the first two bytes tell.
    Undecided(Vec<u8>, Sink),
}

/// Where inflated text goes: searched and forgotten.
#[derive(Debug)]
struct Sink(Scanner);

impl Write for Sink {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.push(Bytes::copy_from_slice(text));
        if self.0.hits() > 0 { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(text.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inflater {
    pub(super) fn gzip(scrubber: Arc<Scrubber>) -> Self {
        Self { decoder: Decoder::Gzip(MultiGzDecoder::new(Sink(Scanner::new(scrubber)))), held: VecDeque::new() }
    }

    pub(super) fn deflate(scrubber: Arc<Scrubber>) -> Self {
        Self { decoder: Decoder::Undecided(Vec::new(), Sink(Scanner::new(scrubber))), held: VecDeque::new() }
    }

    /// Takes the next compressed piece.
    pub(super) fn push(&mut self, piece: Bytes) -> Result<(), Stop> {
        let result = self.decoder.write(&piece);
        if self.decoder.sink().hits() > 0 {
            return Err(Stop::Hit);
        }
        self.held.push_back(piece);
        result.map_err(|_| Stop::Broken)
    }

    /// A piece that may go on now, if there is one.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.decoder.sink().held() > 0 { None } else { self.held.pop_front() }
    }

    /// What is left at the end; all of it may go on.
    pub(super) fn pop_rest(&mut self) -> Option<Bytes> {
        self.held.pop_front()
    }

    pub(super) fn held(&self) -> usize {
        self.held.iter().map(Bytes::len).sum()
    }
}

impl Decoder {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if let Self::Undecided(start, sink) = self {
            start.extend_from_slice(piece);
            let &[first, second, ..] = &start[..] else { return Ok(()) };
            let start = std::mem::take(start);
            let sink = Sink(Scanner::new(sink.0.scrubber().clone()));
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

    fn sink(&self) -> &Scanner {
        match self {
            Self::Gzip(decoder) => &decoder.get_ref().0,
            Self::Zlib(decoder) => &decoder.get_ref().0,
            Self::Raw(decoder) => &decoder.get_ref().0,
            Self::Undecided(_, sink) => &sink.0,
        }
    }
}
