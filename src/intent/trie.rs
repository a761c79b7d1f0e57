//! Paths to operations: a trie over segments that backtracks.
//!
//! At each node a literal is tried before a literal with parameters in it (the longest literal
//! first), that before a parameter of one segment, and that before one of several. So the answer
//! does not depend on the order in which operations are listed.

mod walk;

use std::{collections::HashMap, ops::Range};

use http::{HeaderMap, HeaderName, Method};
use smallvec::SmallVec;

use crate::call::Path;

use super::pattern::{Pattern, Piece, Segment};

use walk::{Walk, split};

/// The raw bytes of the path that a parameter took, in the order of the pattern.
pub(super) type Captures = SmallVec<[Range<u32>; 6]>;

/// The operations of one set of hosts.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// Operations that readers find in bodies, by their whole `match`.
    keys: HashMap<Box<str>, u32, ahash::RandomState>,
}

/// Set in a leaf's `operation`: it is the place of a reader, not of an operation.
pub(super) const READER: u32 = 1 << 31;

#[derive(Debug, Default)]
struct Node {
    /// Sorted by length, then bytes.
    literals: Vec<(Box<str>, u32)>,
    /// Sorted by literal bytes, most first, then by text.
    mixed: Vec<(Box<[Piece]>, u32)>,
    whole: Option<u32>,
    /// Sorted by suffix, longest first.
    multi: Vec<(Box<str>, u32)>,
    /// Those with most query literals first.
    leaves: Vec<Leaf>,
}

/// A name that must be in the query, and its value, where that counts.
pub(super) type QueryLiteral = (Box<str>, Option<Box<str>>);

/// Where a pattern ends.
#[derive(Debug)]
pub(super) struct Leaf {
    pub method: Method,
    pub query: Box<[QueryLiteral]>,
    /// Header fields that must be there.
    headers: Box<[HeaderName]>,
    /// The body is never read.
    pub stream: bool,
    /// The operation's place in its provider; with [`READER`], the reader's.
    pub operation: u32,
    /// For each capture, the parameter's place in the operation.
    pub params: Box<[u16]>,
}

/// What a walk found.
#[derive(Debug)]
pub(super) struct Hit<'t> {
    pub leaf: &'t Leaf,
    pub captures: Captures,
}

/// Why a path has more than one reading in this trie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ambiguity {
    #[error("the path spells `{0}` with escapes, so it could be read as a name or as a value")]
    EscapedLiteral(Box<str>),
    #[error("the segment `{0}` can be split into its parameters in two ways")]
    Split(Box<str>),
    #[error("a parameter of several segments could end in two places of the path")]
    Span,
    #[error("the path has too many segments, or too long ones, to be read")]
    Steps,
    #[error("the query gives `{0}` two values")]
    Query(Box<str>),
    #[error("the query asks for two operations of this path, by `{0}` and by `{1}`")]
    Twice(Box<str>, Box<str>),
}

impl Trie {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()], keys: HashMap::default() }
    }

    /// Adds an operation that a reader finds by a key: `graphql mutation createIssue`.
    pub(super) fn insert_key(&mut self, key: &str, operation: u32) {
        self.keys.insert(key.into(), operation);
    }

    /// The operation that a reader's key is for.
    pub(super) fn key(&self, key: &str) -> Option<u32> {
        self.keys.get(key).copied()
    }

    /// Adds one pattern.
    pub(super) fn insert(&mut self, pattern: &Pattern, operation: u32, params: Box<[u16]>, stream: bool) {
        let at = pattern.segments.iter().fold(0, |at, segment| self.child(at, segment));
        let leaf = Leaf {
            method: pattern.method.clone(),
            query: pattern.query.clone().into_boxed_slice(),
            headers: pattern.headers.clone().into_boxed_slice(),
            stream,
            operation,
            params,
        };
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.leaves.push(leaf);
        }
    }

    /// Puts every node's children in the order in which they are tried.
    pub(super) fn finish(&mut self) {
        for node in &mut self.nodes {
            node.literals.sort_unstable_by(|(a, _), (b, _)| order(a, b));
            node.mixed.sort_by_cached_key(|(pieces, _)| (usize::MAX - weight(pieces), pieces.clone()));
            node.multi.sort_by_cached_key(|(suffix, _)| (usize::MAX - suffix.len(), suffix.clone()));
            node.leaves.sort_by_key(|leaf| usize::MAX - leaf.query.len() - leaf.headers.len());
            node.leaves.shrink_to_fit();
            node.literals.shrink_to_fit();
        }
        self.nodes.shrink_to_fit();
        self.keys.shrink_to_fit();
    }

    /// Finds the operation that a request is for. HEAD is answered by what GET declares.
    pub(super) fn find(&self, method: &Method, path: &Path, headers: &HeaderMap) -> Result<Option<Hit<'_>>, Ambiguity> {
        let raw = path.raw();
        let mut walk = Walk { trie: self, path, headers, raw, segments: split(raw), captures: Captures::new(), steps: 0, method };
        if let Some(leaf) = walk.at(0, 0)? {
            return Ok(Some(Hit { leaf, captures: walk.captures }));
        }
        if *method != Method::HEAD {
            return Ok(None);
        }
        walk.method = &Method::GET;
        walk.captures.clear();
        Ok(walk.at(0, 0)?.map(|leaf| Hit { leaf, captures: walk.captures }))
    }

    fn child(&mut self, at: u32, segment: &Segment) -> u32 {
        let next = self.nodes.len() as u32;
        let Some(node) = self.nodes.get_mut(at as usize) else { return at };
        let known = match segment {
            Segment::Literal(text) => node.literals.iter().find(|(t, _)| t == text).map(|(_, n)| *n),
            Segment::Mixed(pieces) => node.mixed.iter().find(|(p, _)| p == pieces).map(|(_, n)| *n),
            Segment::Whole => node.whole,
            Segment::Multi(suffix) => node.multi.iter().find(|(s, _)| s == suffix).map(|(_, n)| *n),
        };
        if let Some(known) = known {
            return known;
        }
        match segment {
            Segment::Literal(text) => node.literals.push((text.clone(), next)),
            Segment::Mixed(pieces) => node.mixed.push((pieces.clone(), next)),
            Segment::Whole => node.whole = Some(next),
            Segment::Multi(suffix) => node.multi.push((suffix.clone(), next)),
        }
        self.nodes.push(Node::default());
        next
    }
}

/// Literal bytes of a mixed segment.
fn weight(pieces: &[Piece]) -> usize {
    pieces.iter().map(|p| if let Piece::Literal(text) = p { text.len() } else { 0 }).sum()
}

/// By length first: most comparisons end there.
fn order(a: &str, b: &str) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}
