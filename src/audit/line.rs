//! One record's line: `{"seq":7,"hash":"…","body":{…}}`, and `"sig":"…"` before the body of a
//! signed one. Every byte of it has one form only, so that no byte can be changed unseen.
//!
//! `hash` = SHA-256(`prev` ‖ `seq` as 8 bytes, big end first ‖ SHA-256(body bytes as written)),
//! where `prev` is the hash of the record before. A file starts with a line of its own,
//! `{"remit_audit":1,"chain":"…","file":2,"seq":813,"prev":"…"}`: where in the chain it begins.

use ring::digest::{SHA256, digest};

use super::text;

pub(super) type Hash = [u8; 32];

/// Before the first record of a chain there is none.
pub(super) const GENESIS: Hash = [0; 32];

/// What is signed: this, and the hash of the record that carries the signature.
const SEAL: &[u8] = b"remit audit seal v1\n";

const HEADER: &[u8] = b"{\"remit_audit\":1,\"chain\":\"";

/// The hash of record `seq`.
pub(super) fn chain(prev: &Hash, seq: u64, body: &Hash) -> Hash {
    let mut input = [0; 72];
    input[..32].copy_from_slice(prev);
    input[32..40].copy_from_slice(&seq.to_be_bytes());
    input[40..].copy_from_slice(body);
    sha256(&input)
}

pub(super) fn sha256(bytes: &[u8]) -> Hash {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The message that a signature on a record with this hash signs.
pub(super) fn seal(hash: &Hash) -> [u8; 52] {
    let mut out = [0; 52];
    out[..20].copy_from_slice(SEAL);
    out[20..].copy_from_slice(hash);
    out
}

/// Appends a record's line.
pub(super) fn record(out: &mut Vec<u8>, seq: u64, hash: &Hash, signature: Option<&[u8]>, body: &[u8]) {
    out.reserve(body.len() + 120);
    out.extend_from_slice(b"{\"seq\":");
    text::number(out, seq);
    out.extend_from_slice(b",\"hash\":\"");
    text::hex(out, hash);
    if let Some(signature) = signature {
        out.extend_from_slice(b"\",\"sig\":\"");
        text::hex(out, signature);
    }
    out.extend_from_slice(b"\",\"body\":");
    out.extend_from_slice(body);
    out.extend_from_slice(b"}\n");
}

/// Appends the line that a file starts with; `seq` and `prev` are those of its first record.
pub(super) fn header(out: &mut Vec<u8>, header: &Header<'_>) {
    out.extend_from_slice(HEADER);
    out.extend_from_slice(header.chain.as_bytes());
    out.extend_from_slice(b"\",\"file\":");
    text::number(out, header.file);
    out.extend_from_slice(b",\"seq\":");
    text::number(out, header.seq);
    out.extend_from_slice(b",\"prev\":\"");
    text::hex(out, &header.prev);
    out.extend_from_slice(b"\"}\n");
}

/// What a file starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub(super) chain: &'a str,
    /// From 1.
    pub(super) file: u64,
    pub(super) seq: u64,
    pub(super) prev: Hash,
}

/// One record as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) signature: Option<[u8; 64]>,
    pub(super) body: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads a line without its line feed.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(HEADER)?;
        let end = memchr::memchr(b'"', rest)?;
        let (chain, rest) = rest.split_at_checked(end)?;
        let (file, rest) = number(rest.strip_prefix(b"\",\"file\":")?)?;
        let (seq, rest) = number(rest.strip_prefix(b",\"seq\":")?)?;
        let prev = rest.strip_prefix(b",\"prev\":\"")?.strip_suffix(b"\"}")?;
        let chain = std::str::from_utf8(chain).ok().filter(|c| is_chain(c))?;
        Some(Self { chain, file, seq, prev: text::unhex(prev)? })
    }
}

impl<'a> Record<'a> {
    /// Reads a line without its line feed.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (seq, rest) = number(line.strip_prefix(b"{\"seq\":")?)?;
        let (hash, rest) = rest.strip_prefix(b",\"hash\":\"")?.split_at_checked(64)?;
        let (signature, rest) = match rest.strip_prefix(b"\",\"sig\":\"") {
            Some(rest) => {
                let (signature, rest) = rest.split_at_checked(128)?;
                (Some(text::unhex(signature)?), rest)
            }
            None => (None, rest),
        };
        let body = rest.strip_prefix(b"\",\"body\":")?.strip_suffix(b"}")?;
        if body.first() != Some(&b'{') || body.last() != Some(&b'}') {
            return None;
        }
        Some(Self { seq, hash: text::unhex(hash)?, signature, body })
    }

    /// Whether the body hashes to what the record says, coming after `prev`.
    pub(super) fn follows(&self, prev: &Hash) -> bool {
        chain(prev, self.seq, &sha256(self.body)) == self.hash
    }

    pub(super) fn kind(&self) -> Kind {
        let Some(rest) = self.body.strip_prefix(b"{\"kind\":\"") else { return Kind::Other };
        let end = memchr::memchr(b'"', rest).unwrap_or(0);
        match rest.get(..end) {
            Some(b"decision") => Kind::Decision,
            Some(b"outcome") => Kind::Outcome,
            Some(b"task") => Kind::Task,
            Some(b"event") => Kind::Event,
            Some(b"recovered") => Kind::Recovered,
            Some(b"open") => Kind::Open,
            Some(b"rotate") => Kind::Rotate,
            Some(b"close") => Kind::Close,
            _ => Kind::Other,
        }
    }

    /// The text of a member that stands near the start and needs no unescaping (`id`, `time`).
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let near = self.body.get(..self.body.len().min(256))?;
        let mark = format!("\"{key}\":\"");
        let from = memchr::memmem::find(near, mark.as_bytes())? + mark.len();
        let rest = self.body.get(from..)?;
        std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()
    }

    /// The id right after the kind, as decisions and outcomes have it.
    pub(super) fn call_id(&self) -> Option<CallId> {
        let skip = match self.kind() {
            Kind::Decision => b"{\"kind\":\"decision\",\"id\":\"".len(),
            Kind::Outcome => b"{\"kind\":\"outcome\",\"id\":\"".len(),
            _ => return None,
        };
        self.body.get(skip..skip + 28)?.try_into().ok()
    }
}

/// A decision's id as it stands in the log.
pub(super) type CallId = [u8; 28];

/// What a record is, as far as this room must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Decision,
    Outcome,
    /// A task began or ended.
    Task,
    /// What is no call: a reload, an agent's drift.
    Event,
    /// Another chain's unfinished calls were given their outcome.
    Recovered,
    /// The chain's first record.
    Open,
    /// The last record of a file that was rotated.
    Rotate,
    /// The last record of a chain.
    Close,
    Other,
}

/// Whether a text is a chain's id: what this room makes, and nothing that a path would obey.
pub(super) fn is_chain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 80 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Reads a whole number that has one spelling.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.first() == Some(&b'0') && digits.len() > 1 {
        return None;
    }
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_read_back() {
        let mut out = Vec::new();
        let at = Header { chain: "20260101T000000Z-1-abcd", file: 2, seq: 9, prev: [7; 32] };
        header(&mut out, &at);
        assert_eq!(Header::parse(out.trim_ascii_end()), Some(at));
        for signature in [None, Some([3; 64])] {
            let body = br#"{"kind":"decision","id":"d-01234567890123456789012345","time":"T"}"#;
            let hash = chain(&GENESIS, 9, &sha256(body));
            let mut out = Vec::new();
            record(&mut out, 9, &hash, signature.as_ref().map(|s| s.as_slice()), body);
            let line = out.strip_suffix(b"\n").unwrap();
            let read = Record::parse(line).unwrap();
            assert_eq!(read, Record { seq: 9, hash, signature, body });
            assert!(read.follows(&GENESIS) && !read.follows(&[1; 32]));
            assert_eq!(read.call_id().as_ref().map(|i| i.as_slice()), Some(b"d-01234567890123456789012345".as_slice()));
            assert_eq!(read.text("time"), Some("T"));
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_fail(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Header::parse(&line), Record::parse(&line).map(|r| (r.kind(), r.call_id(), r.text("id").map(str::len))));
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(number(b"0,"), Some((0, b",".as_slice())));
        assert!(number(b"01").is_none() && number(b"").is_none() && number(b"99999999999999999999").is_none());
    }
}
