//! Takes an injected value out of what upstream answers.
//!
//! Every form in which servers echo a value is looked for ([`forms`]); a hit is overwritten with
//! as many `*`, so lengths hold. What arrives in pieces is searched across their borders by the
//! [`Scanner`]; a compressed answer is inflated beside the stream and cut on a hit.

mod body;
mod forms;
mod inflate;
mod scan;

use std::fmt;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use http::{HeaderMap, HeaderValue};

pub use body::{ScrubError, Scrubbed, ask_readable, clean_response, scrub_response};
pub(super) use inflate::{Inflater, Watch};
pub use scan::Scanner;

use crate::secret::Secret;

/// What a hit is overwritten with.
const MASK: u8 = b'*';

/// Finds every form of a set of secret values.
pub struct Scrubber {
    /// Finds how patterns begin: many begin alike, and few are searched for much faster than many.
    heads: AhoCorasick,
    patterns: Secret<Vec<Vec<u8>>>,
    /// Which bytes and pairs of bytes some pattern starts with.
    starts: Box<Starts>,
    shortest: usize,
    longest: usize,
}

impl Scrubber {
    /// A scrubber for `values` in every form; empty values are passed over.
    ///
    /// # Errors
    /// When the patterns are more than a search can hold (gigabytes).
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, aho_corasick::BuildError> {
        let mut patterns: Vec<Vec<u8>> = values.into_iter().flat_map(forms::forms).collect();
        patterns.sort_unstable();
        patterns.dedup();
        let heads = heads(&patterns);
        // An NFA: the prefilter finds candidates, so the size of a DFA would buy nothing.
        let heads =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).kind(Some(AhoCorasickKind::ContiguousNFA)).build(&heads)?;
        let starts = Box::new(Starts::of(&patterns));
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        let shortest = patterns.iter().map(Vec::len).min().unwrap_or(usize::MAX);
        Ok(Self { heads, patterns: Secret::new(patterns), starts, shortest, longest })
    }

    /// Whether `bytes` hold a value in any form.
    #[must_use]
    pub fn finds(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.shortest && self.next(bytes, 0).is_some()
    }

    /// The first match that begins at `from` or behind, the longest there.
    fn next(&self, bytes: &[u8], mut from: usize) -> Option<(usize, usize)> {
        while let Some(head) = self.heads.find(Input::new(bytes).range(from..)) {
            let rest = bytes.get(head.start()..)?;
            let longest = self.patterns.expose().iter().filter(|p| rest.starts_with(p)).map(Vec::len).max();
            if let Some(length) = longest {
                return Some((head.start(), head.start() + length));
            }
            from = head.start() + 1;
        }
        None
    }

    /// Overwrites every form of a value in `bytes`; returns how many were found.
    pub fn mask(&self, bytes: &mut [u8]) -> u32 {
        let spans = self.spans(bytes, 0, 0);
        for &(from, to) in &spans.merged {
            if let Some(hit) = bytes.get_mut(from..to) {
                hit.fill(MASK);
            }
        }
        spans.hits
    }

    /// Overwrites every form of a value in header or trailer fields; returns how many were found.
    pub fn headers(&self, headers: &mut HeaderMap) -> u32 {
        let mut hits = 0;
        // Names come in lower case; one that is a value has nothing to say.
        let named: Vec<_> = headers.keys().filter(|name| self.finds(name.as_str().as_bytes())).cloned().collect();
        for name in named {
            hits += 1;
            headers.remove(name);
        }
        for value in headers.values_mut() {
            if !self.finds(value.as_bytes()) {
                continue;
            }
            let mut bytes = value.as_bytes().to_vec();
            hits += self.mask(&mut bytes);
            // `*` is a field character, so the masked value is a value.
            *value = HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static("*"));
        }
        hits
    }

    /// All matches, overlapping ones too, as disjoint spans in order. Matches that end at or
    /// before `seen` are spans but not counted again; the first `masked` bytes are a span.
    fn spans(&self, bytes: &[u8], masked: usize, seen: usize) -> Spans {
        let mut spans = Spans { merged: Vec::new(), hits: 0 };
        if masked > 0 {
            spans.merged.push((0, masked));
        }
        let mut at = 0;
        while let Some((from, to)) = self.next(bytes, at) {
            at = from + 1;
            if to > seen {
                spans.hits += 1;
            }
            match spans.merged.last_mut() {
                Some((_, end)) if *end >= from => *end = (*end).max(to),
                _ => spans.merged.push((from, to)),
            }
        }
        spans
    }

    /// The earliest place from which the rest of `bytes` is the beginning of a pattern, or their end.
    fn partial(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        let tail = bytes.get(from..).unwrap_or_default();
        for (i, first) in tail.iter().enumerate() {
            if !self.starts.may(*first, tail.get(i + 1)) {
                continue;
            }
            let rest = tail.get(i..).unwrap_or_default();
            if self.patterns.expose().iter().any(|p| p.len() > rest.len() && p.starts_with(rest)) {
                return from + i;
            }
        }
        bytes.len()
    }
}

/// How the patterns begin: as long as may be, and no more than a search by vectors takes.
fn heads(patterns: &[Vec<u8>]) -> Vec<&[u8]> {
    const MOST: usize = 48;
    let of = |length: usize| {
        let mut heads: Vec<&[u8]> = patterns.iter().map(|p| p.get(..length).unwrap_or(p)).collect();
        heads.dedup();
        heads
    };
    (3..=8).rev().map(of).find(|heads| heads.len() <= MOST).unwrap_or_else(|| of(3))
}

/// The first bytes and the first pairs of the patterns; of a pair twelve bits are kept, so it may
/// say yes for another.
struct Starts {
    bytes: [bool; 256],
    pairs: [bool; 4096],
}

impl Starts {
    fn of(patterns: &[Vec<u8>]) -> Self {
        let mut starts = Self { bytes: [false; 256], pairs: [false; 4096] };
        for pattern in patterns {
            if let Some(first) = pattern.first() {
                starts.bytes[usize::from(*first)] = true;
            }
            if let [first, second, ..] = pattern[..] {
                starts.pairs[Self::pair(first, second)] = true;
            }
        }
        starts
    }

    fn pair(first: u8, second: u8) -> usize {
        (usize::from(first) ^ (usize::from(second) << 4)) & 4095
    }

    fn may(&self, first: u8, second: Option<&u8>) -> bool {
        match second {
            Some(second) => self.pairs[Self::pair(first, *second)],
            None => self.bytes[usize::from(first)],
        }
    }
}

/// Disjoint spans in order, and how many matches they come from.
struct Spans {
    merged: Vec<(usize, usize)>,
    hits: u32,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").field("patterns", &self.patterns.expose().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
