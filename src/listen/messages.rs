/// How the request that was handed on ends, as hyper reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    AtOnce,
    After(u64),
    Chunked,
}

/// Follows the requests of an HTTP/1.1 connection through its bytes.
#[derive(Debug, Default)]
pub(super) struct Messages {
    at: At,
    /// What came of the next head; or of a line, in a chunked body.
    kept: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    Length(u64),
    ChunkSize,
    /// The data of a chunk with its line end.
    Chunk(u64),
    Trailers,
    /// Where heads begin is not known any more.
    Lost,
}

/// Longest line that gives a chunk's size, or is a trailer.
const LINE: usize = 16 << 10;
/// hyper reads a little ahead of a head's end.
const AHEAD: usize = 512 << 10;

impl Messages {
    /// Notes bytes that were read; `most` is the size of a head.
    pub(super) fn take(&mut self, mut bytes: &[u8], most: usize) {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Lost => return,
                At::Head => {
                    self.kept.extend_from_slice(bytes);
                    if self.kept.len() > most + AHEAD {
                        self.lose();
                    }
                    return;
                }
                At::Length(left) => {
                    let (rest, left) = skip(bytes, left);
                    self.at = if left == 0 { At::Head } else { At::Length(left) };
                    rest
                }
                At::Chunk(left) => {
                    let (rest, left) = skip(bytes, left);
                    self.at = if left == 0 { At::ChunkSize } else { At::Chunk(left) };
                    rest
                }
                At::ChunkSize | At::Trailers => self.line(bytes),
            };
        }
    }

    /// A request was handed on, whose head is the next. Says whether that head had one reading:
    /// when it is chunked, its bytes must be here and hold no `Content-Length`.
    pub(super) fn begin(&mut self, ends: Ends) -> bool {
        if self.at != At::Head {
            self.lose();
        }
        let start = self.kept.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
        let Some(end) = self.kept.get(start..).and_then(head_end).map(|end| start + end) else {
            self.lose();
            return ends != Ends::Chunked;
        };
        let clear = ends != Ends::Chunked || !has_length(self.kept.get(start..end).unwrap_or_default());
        self.at = match ends {
            Ends::AtOnce | Ends::After(0) => At::Head,
            Ends::After(length) => At::Length(length),
            Ends::Chunked => At::ChunkSize,
        };
        if self.kept.len() == end {
            self.kept.clear();
            // An idle connection keeps little.
            self.kept.shrink_to(LINE);
        } else {
            let behind = self.kept.split_off(end);
            self.kept.clear();
            self.take(&behind, AHEAD);
        }
        clear
    }

    /// Whether a head has begun to come, and was not handed on.
    pub(super) fn has_begun(&self) -> bool {
        self.at == At::Head && !self.kept.is_empty()
    }

    /// Takes a line, or its part that is here; returns what is behind it.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let (line, rest) = bytes.split_at(end);
        self.kept.extend_from_slice(line);
        if self.kept.len() > LINE {
            self.lose();
            return rest;
        }
        let Some(line) = self.kept.strip_suffix(b"\n") else { return rest };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let next = if self.at == At::Trailers {
            Some(if line.is_empty() { At::Head } else { At::Trailers })
        } else {
            chunk_size(line).map(|size| if size == 0 { At::Trailers } else { At::Chunk(size.saturating_add(2)) })
        };
        self.kept.clear();
        self.at = next.unwrap_or(At::Lost);
        rest
    }

    fn lose(&mut self) {
        self.at = At::Lost;
        self.kept = Vec::new();
    }
}

fn skip(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (bytes.get(n..).unwrap_or_default(), left - n as u64)
}

/// The end of a head as hyper sees it: an empty line, whose line feeds need no carriage return.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let strict = memchr::memmem::find(bytes, b"\n\r\n").map(|at| at + 3);
    let before = bytes.get(..strict.unwrap_or(bytes.len())).unwrap_or(bytes);
    memchr::memmem::find(before, b"\n\n").map(|at| at + 2).or(strict)
}

fn has_length(head: &[u8]) -> bool {
    head.split(|b| *b == b'\n').skip(1).any(|line| {
        let name = line.split(|b| *b == b':').next().unwrap_or(line);
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

/// `SIZE [; extensions]`, in hex (RFC 9112 §7.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|b| *b == b';').next().unwrap_or(line).trim_ascii();
    u64::from_str_radix(std::str::from_utf8(size).ok().filter(|s| !s.starts_with('+'))?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNKED: &str = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    const BOTH: &str = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH: 5\r\n\r\n";

    /// Notes a text in pieces of every size, and hands on what stands for its requests.
    fn follow(text: &str, requests: &[(Ends, bool)]) {
        for size in 1..=text.len() {
            let mut messages = Messages::default();
            let mut handed = requests.iter();
            let mut waiting = handed.next();
            for piece in text.as_bytes().chunks(size) {
                messages.take(piece, 8 << 10);
                while let Some((ends, clear)) = waiting.filter(|_| messages.has_begun() && head_end(skip_lines(&messages.kept)).is_some()) {
                    assert_eq!(messages.begin(*ends), *clear, "{text:?} in pieces of {size}");
                    waiting = handed.next();
                }
            }
            assert!(waiting.is_none(), "{text:?} in pieces of {size}: {messages:?}");
        }
    }

    fn skip_lines(bytes: &[u8]) -> &[u8] {
        let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
        &bytes[start..]
    }

    #[test]
    fn a_head_with_two_lengths_is_seen() {
        follow(CHUNKED, &[(Ends::Chunked, true)]);
        follow(BOTH, &[(Ends::Chunked, false)]);
        // What looks like a length in the body is none.
        follow(&format!("{CHUNKED}13\r\n\r\nContent-Length: 5\r\n0\r\n\r\n"), &[(Ends::Chunked, true)]);
    }

    #[test]
    fn heads_are_found_behind_bodies_of_every_kind() {
        let decoy = "GET / HTTP/1.1\r\n\r\n";
        let sized = format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{decoy}", decoy.len());
        let chunks = format!("{CHUNKED}{:x};ext=\"a\"\r\n{decoy}\r\n0\r\nX-Trailer: a\r\n\r\n", decoy.len());
        let after = Ends::After(decoy.len() as u64);
        follow(&format!("{sized}{BOTH}"), &[(after, true), (Ends::Chunked, false)]);
        follow(&format!("{chunks}{BOTH}"), &[(Ends::Chunked, true), (Ends::Chunked, false)]);
        follow(&format!("{chunks}{sized}{CHUNKED}"), &[(Ends::Chunked, true), (after, true), (Ends::Chunked, true)]);
        follow(&format!("{decoy}\r\n\r\n{decoy}{CHUNKED}"), &[(Ends::AtOnce, true), (Ends::AtOnce, true), (Ends::Chunked, true)]);
        follow(&format!("GET / HTTP/1.1\nHost: a\n\n{BOTH}"), &[(Ends::AtOnce, true), (Ends::Chunked, false)]);
    }

    #[test]
    fn what_cannot_be_followed_is_not_clear() {
        let mut messages = Messages::default();
        assert!(!messages.begin(Ends::Chunked));
        messages.take(CHUNKED.as_bytes(), 8 << 10);
        assert!(!messages.begin(Ends::Chunked));
        assert!(messages.begin(Ends::AtOnce));
        let mut messages = Messages::default();
        messages.take(format!("{CHUNKED}zz\r\n{CHUNKED}").as_bytes(), 8 << 10);
        assert!(messages.begin(Ends::Chunked));
        assert!(!messages.begin(Ends::Chunked));
    }

    proptest! {
        /// However the bytes arrive, what is found in them is the same; and no bytes break it.
        #[test]
        fn pieces_do_not_matter(
            parts in prop::collection::vec(prop_oneof![
                Just(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]), Just(&b"\r\n"[..]), Just(&b"5\r\nhello\r\n"[..]), Just(&b"0\r\n\r\n"[..]),
                Just(&b"ffffffffffffffff\r\n"[..]), Just(&b"5;x=\"y\"\r\n"[..]), Just(&b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"[..]),
                Just(&b"-1\r\n"[..]), Just(&b"\n"[..]), Just(&b"\0\xff"[..]),
            ], 1..20),
            ends in prop_oneof![Just(Ends::AtOnce), Just(Ends::Chunked), (0_u64..40).prop_map(Ends::After)],
            cuts in prop::collection::vec(1_usize..9, 1..8),
        ) {
            let bytes = parts.concat();
            let first = bytes.len() / 2;
            let run = |cuts: &[usize]| {
                let mut messages = Messages::default();
                let mut clear = Vec::new();
                for half in [&bytes[..first], &bytes[first..]] {
                    let (mut rest, mut cut) = (half, cuts.iter().cycle());
                    while !rest.is_empty() {
                        let (piece, more) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
                        messages.take(piece, 1 << 16);
                        rest = more;
                    }
                    clear.push(messages.begin(ends));
                }
                (clear, messages.at, messages.kept.clone())
            };
            prop_assert_eq!(run(&cuts), run(&[usize::MAX]));
        }
    }
}
