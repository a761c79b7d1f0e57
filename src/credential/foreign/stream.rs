//! The same judgement for a body that streams: it is stopped before a secret is whole.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};

use super::{Known, Placeholders, field, foreign, formats, leaked};
use crate::{
    call::{Head, Search, is_credential_field},
    credential::scrub::{Inflater, Scanner, Scrubber, Watch},
    refusal::{Reason, Refusal},
};

/// Looks for configured secrets and for what looks like a secret in a request body as it leaves.
pub(in crate::credential) struct Stream {
    text: Text,
    known: Arc<Placeholders>,
    leaks: Option<Arc<Scrubber>>,
    own: bool,
}

enum Text {
    Plain(Box<Seeker>),
    /// Inflated beside the stream.
    Compressed(Box<Inflater<Seeker>>),
}

const PLACE: &str = "the body";
/// Of what may begin a secret, as many bytes pass in a body of no known length: fewer than name one.
const SLACK: usize = 3;

impl Stream {
    pub(in crate::credential) fn new(head: &Head, known: &Arc<Placeholders>, leaks: Option<Arc<Scrubber>>, own: bool) -> Self {
        let content = head.headers.get(header::CONTENT_TYPE);
        let slack = if head.upgrade.is_some() || content.is_some_and(|v| v.as_bytes().starts_with(b"application/grpc")) {
            // The other side waits for each message, whatever stands at its end.
            usize::MAX
        } else if head.headers.contains_key(header::CONTENT_LENGTH) {
            0
        } else {
            // It may: what hardly begins a secret does not wait.
            SLACK
        };
        let seeker = || Seeker::new(leaks.clone(), (!own).then_some(known), slack);
        let coding = head.headers.get(header::CONTENT_ENCODING).filter(|v| *v != "identity");
        let text = match coding.and_then(|coding| Inflater::named(coding.as_bytes(), seeker())) {
            // A coding that is not read: what is plain in it is looked at.
            None => Text::Plain(Box::new(seeker())),
            Some(inflater) => Text::Compressed(Box::new(inflater)),
        };
        Self { text, known: known.clone(), leaks, own }
    }
}

impl Search for Stream {
    fn push(&mut self, piece: Bytes) -> Result<Bytes, Refusal> {
        match &mut self.text {
            Text::Plain(seeker) => seeker.push(piece),
            Text::Compressed(inflater) => {
                if inflater.push(piece).is_err() {
                    let found = inflater.watch().and_then(|seeker| seeker.found.clone());
                    return Err(found.unwrap_or_else(|| {
                        Refusal::new(Reason::AmbiguousRequest, "the body is not in the Content-Encoding that it names")
                    }));
                }
                let mut out = BytesMut::new();
                while let Some(piece) = inflater.pop() {
                    out.extend_from_slice(&piece);
                }
                Ok(out.freeze())
            }
        }
    }

    fn finish(&mut self) -> Result<Bytes, Refusal> {
        match &mut self.text {
            Text::Plain(seeker) => seeker.finish(),
            Text::Compressed(inflater) => {
                inflater.watch_mut().map_or(Ok(Bytes::new()), Seeker::finish)?;
                let mut out = BytesMut::new();
                while let Some(piece) = inflater.pop_rest() {
                    out.extend_from_slice(&piece);
                }
                Ok(out.freeze())
            }
        }
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) -> Result<(), Refusal> {
        let known = Known { placeholders: &self.known, leaks: self.leaks.as_deref(), query: None, own: self.own };
        for (name, value) in &*trailers {
            field(name, value.as_bytes(), &known)?;
        }
        if !self.own {
            let gone: Vec<_> = trailers.keys().filter(|name| is_credential_field(name)).cloned().collect();
            for name in gone {
                trailers.remove(name);
            }
        }
        Ok(())
    }

    fn held(&self) -> usize {
        match &self.text {
            Text::Plain(seeker) => seeker.held(),
            Text::Compressed(inflater) => inflater.held(),
        }
    }
}

/// Both searches, one behind the other.
struct Seeker {
    leaks: Option<Scanner>,
    formats: Option<Formats>,
    found: Option<Refusal>,
}

impl Seeker {
    fn new(leaks: Option<Arc<Scrubber>>, known: Option<&Arc<Placeholders>>, slack: usize) -> Self {
        let leaks = leaks.map(if slack > 0 { Scanner::interactive } else { Scanner::new });
        let formats = known.map(|known| Formats { known: known.clone(), seen: Vec::new(), before: 0, released: 0, slack });
        Self { leaks, formats, found: None }
    }

    fn push(&mut self, piece: Bytes) -> Result<Bytes, Refusal> {
        let piece = match &mut self.leaks {
            Some(scanner) => {
                let piece = scanner.push(piece);
                if scanner.hits() > 0 {
                    return Err(leaked(PLACE));
                }
                piece
            }
            None => piece,
        };
        match &mut self.formats {
            Some(formats) => formats.push(piece),
            None => Ok(piece),
        }
    }

    fn finish(&mut self) -> Result<Bytes, Refusal> {
        let rest = self.leaks.as_mut().map(Scanner::finish).unwrap_or_default();
        match &mut self.formats {
            Some(formats) => formats.finish(rest),
            None => Ok(rest),
        }
    }

    fn held(&self) -> usize {
        self.leaks.as_ref().map_or(0, Scanner::held) + self.formats.as_ref().map_or(0, Formats::held)
    }
}

impl Watch for Seeker {
    fn see(&mut self, text: Bytes) {
        if self.found.is_none() {
            self.found = self.push(text).err();
        }
    }

    fn hit(&self) -> bool {
        self.found.is_some()
    }

    fn waits(&self) -> bool {
        self.held() > 0
    }
}

/// Looks for what looks like a secret. What may be the beginning of one waits.
struct Formats {
    known: Arc<Placeholders>,
    /// The last bytes: some that only tell whether a word begins, and then what is undecided.
    seen: Vec<u8>,
    before: usize,
    /// How many of the undecided were passed on already.
    released: usize,
    /// How many of the undecided need not wait.
    slack: usize,
}

impl Formats {
    fn push(&mut self, piece: Bytes) -> Result<Bytes, Refusal> {
        if piece.is_empty() {
            return Ok(piece);
        }
        let start = self.seen.len();
        let whole = if start == 0 { piece } else { [&self.seen[..], &piece].concat().into() };
        let known = |value: &[u8]| self.known.contains(value);
        let undecided = match formats::hear(&whole, self.before, known) {
            formats::Heard::Secret(what) => return Err(found(what)),
            formats::Heard::Undecided(at) => at,
        };
        let from = self.before + self.released;
        let until = undecided.saturating_add(self.slack).min(whole.len()).max(from);
        let keep = undecided.saturating_sub(formats::BEFORE);
        self.seen.clear();
        self.seen.extend_from_slice(whole.get(keep..).unwrap_or_default());
        self.before = undecided - keep;
        self.released = until - undecided;
        Ok(whole.slice(from..until))
    }

    fn finish(&mut self, rest: Bytes) -> Result<Bytes, Refusal> {
        let ready = self.push(rest)?;
        let seen = std::mem::take(&mut self.seen);
        let (before, released) = (std::mem::take(&mut self.before), std::mem::take(&mut self.released));
        // What is undecided is whole now; what stands before it begins no other.
        if let Some(what) = formats::find_from(&seen, before, |value| self.known.contains(value)) {
            return Err(found(what));
        }
        let last = seen.get(before + released..).unwrap_or_default();
        Ok(if ready.is_empty() { Bytes::copy_from_slice(last) } else { [&ready[..], last].concat().into() })
    }

    fn held(&self) -> usize {
        self.seen.len() - self.before - self.released
    }
}

fn found(what: &str) -> Refusal {
    foreign(&format!("{PLACE} holds {what}"))
}

#[cfg(test)]
mod tests;
