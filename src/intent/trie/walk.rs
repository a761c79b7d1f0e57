use std::{borrow::Cow, ops::Range};

use http::{HeaderMap, Method};
use smallvec::SmallVec;

use crate::{
    call::Path,
    intent::{pattern::Piece, query},
};

use super::{Ambiguity, Captures, Leaf, Node, Trie, order};

/// How many nodes a walk may visit: what a hostile path may cost.
const MAX_STEPS: u32 = 20_000;

/// The longest segment that is split among three parameters or more: more of them cost more.
const MAX_SPLIT: usize = 512;

/// The raw segments' places in the path.
pub(super) fn split(raw: &str) -> SmallVec<[Range<u32>; 16]> {
    let mut segments = SmallVec::new();
    let mut start = 1;
    for end in memchr::memchr_iter(b'/', raw.as_bytes()).skip(1) {
        segments.push(start..end as u32);
        start = end as u32 + 1;
    }
    segments.push(start..raw.len() as u32);
    segments
}

/// A way through the trie for one path.
pub(super) struct Walk<'t, 'p> {
    pub(super) headers: &'p HeaderMap,
    pub(super) trie: &'t Trie,
    pub(super) path: &'p Path,
    pub(super) raw: &'p str,
    pub(super) segments: SmallVec<[Range<u32>; 16]>,
    pub(super) captures: Captures,
    pub(super) steps: u32,
    pub(super) method: &'p Method,
}

impl<'t, 'p> Walk<'t, 'p> {
    fn text(&self, range: &Range<u32>) -> &'p str {
        self.raw.get(range.start as usize..range.end as usize).unwrap_or("")
    }

    /// The leaf that the segments from `i` on lead to from a node.
    pub(super) fn at(&mut self, node: u32, i: usize) -> Result<Option<&'t Leaf>, Ambiguity> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(Ambiguity::Steps);
        }
        let trie = self.trie;
        let Some(node) = trie.nodes.get(node as usize) else { return Ok(None) };
        let Some(range) = self.segments.get(i).cloned() else { return self.leaf(node) };
        let segment = self.text(&range);
        if memchr::memchr(b'%', segment.as_bytes()).is_some() {
            check_escapes(node, segment)?;
        }
        if let Ok(found) = node.literals.binary_search_by(|(text, _)| order(text, segment))
            && let Some((_, next)) = node.literals.get(found)
            && let Some(leaf) = self.at(*next, i + 1)?
        {
            return Ok(Some(leaf));
        }
        for (pieces, next) in &node.mixed {
            if let Some(leaf) = self.mixed(pieces, *next, i, &range)? {
                return Ok(Some(leaf));
            }
        }
        if let Some(next) = node.whole.filter(|_| !segment.is_empty()) {
            self.captures.push(range);
            if let Some(leaf) = self.at(next, i + 1)? {
                return Ok(Some(leaf));
            }
            self.captures.pop();
        }
        for (suffix, next) in &node.multi {
            if let Some(leaf) = self.multi(suffix, *next, i)? {
                return Ok(Some(leaf));
            }
        }
        Ok(None)
    }

    /// The leaf that asks for most; two of which neither asks for all that the other does are two
    /// readings (`?acl&policy`).
    fn leaf(&self, node: &'t Node) -> Result<Option<&'t Leaf>, Ambiguity> {
        let mut found: Option<&'t Leaf> = None;
        for leaf in node.leaves.iter().filter(|leaf| leaf.method == *self.method) {
            if let Some(found) = found
                && leaf.query.iter().all(|q| found.query.contains(q))
            {
                continue;
            }
            let fits = (leaf.query.is_empty() || self.query(leaf)?) && leaf.headers.iter().all(|h| self.headers.contains_key(h));
            match found {
                None if fits && leaf.query.is_empty() => return Ok(Some(leaf)),
                None if fits => found = Some(leaf),
                Some(found) if fits => {
                    let name = |l: &Leaf| l.query.iter().map(|(n, _)| n.clone()).next().unwrap_or_default();
                    let own =
                        |l: &Leaf, o: &Leaf| l.query.iter().find(|q| !o.query.contains(q)).map_or_else(|| name(l), |(n, _)| n.clone());
                    return Err(Ambiguity::Twice(own(found, leaf), own(leaf, found)));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether the query holds what a leaf requires.
    fn query(&self, leaf: &Leaf) -> Result<bool, Ambiguity> {
        let text = self.path.query().unwrap_or("");
        for (name, want) in &leaf.query {
            let mut seen: Option<Cow<'_, str>> = None;
            for (_, value) in query::pairs(text).filter(|(n, _)| **n == **name) {
                match &seen {
                    Some(before) if *before != value => return Err(Ambiguity::Query(name.clone())),
                    _ => seen = Some(value),
                }
            }
            if seen.is_none() || want.as_deref().is_some_and(|want| seen.as_deref() != Some(want)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn mixed(&mut self, pieces: &[Piece], next: u32, i: usize, range: &Range<u32>) -> Result<Option<&'t Leaf>, Ambiguity> {
        let segment = self.text(range);
        if pieces.len() > 4 && segment.len() > MAX_SPLIT {
            return Err(Ambiguity::Steps);
        }
        let mut spans = Captures::new();
        let ways = splits(pieces, segment, 0, &mut spans);
        if ways == 0 {
            return Ok(None);
        }
        let mark = self.captures.len();
        self.captures.extend(spans.into_iter().map(|s| range.start + s.start..range.start + s.end));
        let leaf = self.at(next, i + 1)?;
        if leaf.is_some() && ways > 1 {
            return Err(Ambiguity::Split(segment.into()));
        }
        if leaf.is_none() {
            self.captures.truncate(mark);
        }
        Ok(leaf)
    }

    /// A parameter of several segments: the first end from which the rest matches. What goes on
    /// after the parameter is tried before the parameter that takes everything.
    fn multi(&mut self, suffix: &str, next: u32, i: usize) -> Result<Option<&'t Leaf>, Ambiguity> {
        let trie = self.trie;
        let Some(node) = trie.nodes.get(next as usize) else { return Ok(None) };
        let Some(start) = self.segments.get(i).map(|r| r.start) else { return Ok(None) };
        let goes_on = !(node.literals.is_empty() && node.mixed.is_empty() && node.whole.is_none() && node.multi.is_empty());
        let mark = self.captures.len();
        let mut found: Option<(&'t Leaf, Captures)> = None;
        let count = self.segments.len();
        for end in (i + 1..count).filter(|_| goes_on) {
            let Some(stop) = self.stop(i, end, suffix) else { continue };
            self.captures.push(start..stop);
            if let Some(leaf) = self.at(next, end)? {
                if found.is_some() {
                    return Err(Ambiguity::Span);
                }
                found = Some((leaf, self.captures.clone()));
            }
            self.captures.truncate(mark);
        }
        if let Some((leaf, captures)) = found {
            self.captures = captures;
            return Ok(Some(leaf));
        }
        let Some(stop) = self.stop(i, count, suffix) else { return Ok(None) };
        self.captures.push(start..stop);
        let leaf = self.leaf(node)?;
        if leaf.is_none() {
            self.captures.truncate(mark);
        }
        Ok(leaf)
    }

    /// Where the value over the segments `i..end` stops, when it ends in `suffix`. A value that
    /// ends in a slash is none, but the whole rest of `/contents/` is the empty one.
    fn stop(&self, i: usize, end: usize, suffix: &str) -> Option<u32> {
        let last = self.segments.get(end.checked_sub(1)?)?;
        let text = self.text(last);
        if text.is_empty() && !(suffix.is_empty() && end == i + 1 && end == self.segments.len()) {
            return None;
        }
        let cut = text.strip_suffix(suffix)?;
        if cut.is_empty() && !suffix.is_empty() {
            return None;
        }
        Some(last.start + cut.len() as u32)
    }
}

/// Refuses a segment that means another child once it is decoded.
fn check_escapes(node: &Node, segment: &str) -> Result<(), Ambiguity> {
    let decoded = Path::decode(segment);
    let literal = |text: &str| node.literals.binary_search_by(|(t, _)| order(t, text)).is_ok();
    if literal(&decoded) && *decoded != *segment {
        return Err(Ambiguity::EscapedLiteral(decoded.into()));
    }
    for (pieces, _) in &node.mixed {
        if pieces.len() > 4 && segment.len() > MAX_SPLIT {
            return Err(Ambiguity::Steps);
        }
        let (raw, plain) = (splits(pieces, segment, 0, &mut Captures::new()), splits(pieces, &decoded, 0, &mut Captures::new()));
        if raw != plain {
            return Err(Ambiguity::Split(segment.into()));
        }
    }
    for (suffix, _) in node.multi.iter().filter(|(s, _)| !s.is_empty()) {
        if decoded.ends_with(&**suffix) != segment.ends_with(&**suffix) {
            return Err(Ambiguity::EscapedLiteral(suffix.clone()));
        }
    }
    Ok(())
}

/// In how many ways (0, 1, or 2 for more) `text` splits into `pieces`; `spans` holds the first.
fn splits(pieces: &[Piece], text: &str, base: u32, spans: &mut Captures) -> u8 {
    match pieces {
        [] => u8::from(text.is_empty()),
        [Piece::Literal(literal), rest @ ..] => {
            text.strip_prefix(&**literal).map_or(0, |tail| splits(rest, tail, base + literal.len() as u32, spans))
        }
        [Piece::Param] => {
            if !text.is_empty() {
                spans.push(base..base + text.len() as u32);
            }
            u8::from(!text.is_empty())
        }
        [Piece::Param, rest @ ..] => {
            let Some(Piece::Literal(literal)) = rest.first() else { return 0 };
            let mut ways = 0;
            let mut from = 1;
            while let Some(at) = text.get(from..).and_then(|t| t.find(&**literal)).map(|at| from + at) {
                let mut inner = Captures::new();
                inner.push(base..base + at as u32);
                let more = splits(rest, text.get(at..).unwrap_or(""), base + at as u32, &mut inner);
                if ways == 0 && more > 0 {
                    spans.extend(inner);
                }
                ways += more;
                if ways > 1 {
                    return 2;
                }
                from = at + 1;
                while !text.is_char_boundary(from) {
                    from += 1;
                }
            }
            ways
        }
    }
}
