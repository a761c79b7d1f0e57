//! YAML text → a tree that knows its lines.
//!
//! Everything that reads a file of the user's reads this tree, so every problem can name its line.
//! Lines come from the YAML library itself: it hands out keys and texts as slices of the input,
//! and where a slice begins is where it stands. What is no slice (a number, a folded text) takes
//! the line of the key or element that leads to it.

use std::{collections::HashMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::problem::Problem;

/// The largest file that is read.
pub(super) const MAX_FILE: usize = 16 << 20;
/// Brackets and braces that may be open at once: the YAML scanner's time grows with the square of those that one
/// line opens. Counted by the byte, so that brackets in texts could hide some: a guard against accidents, not malice.
const MAX_OPEN: usize = 512;
/// Values in one file, with what aliases repeat.
const MAX_NODES: usize = 4 << 20;

/// One value, with the line where it stands (from 1).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    /// Whether `line` is where it stands, or only near.
    pub(super) exact: bool,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping with its value; keys of a mapping differ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

impl Node {
    /// Reads one YAML document.
    ///
    /// # Errors
    /// When it is no YAML, repeats a key, nests too deep or grows too large; each problem has its line.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > MAX_FILE {
            return Err(vec![Problem::new(format!("the file is larger than {} MiB", MAX_FILE >> 20))]);
        }
        let lines = Lines::new(text);
        bound_nesting(text, &lines).map_err(|p| vec![p])?;
        let mut state = State { lines, budget: MAX_NODES.min(text.len() * 4 + 1024), repeated: Vec::new() };
        let read = Reader { state: &mut state, hint: 1 }.deserialize(serde_yaml::Deserializer::from_str(text));
        match read {
            Ok(node) if state.repeated.is_empty() => Ok(node),
            Ok(_) => Err(state.repeated),
            Err(e) => Err(state.repeated.into_iter().chain([problem(&e)]).collect()),
        }
    }

    /// What kind of value it is, for messages.
    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// The library's words without the place, which the problem holds by itself, nor any value.
fn problem(error: &serde_yaml::Error) -> Problem {
    let text = error.to_string();
    let text = text.find(" at line ").and_then(|at| text.get(..at)).unwrap_or(&text);
    let message = match text {
        t if t.contains("more than one document") => "the file holds more than one YAML document",
        t if t.contains("recursion limit") => "the file nests too deep",
        t if t.contains("repetition limit") => REPEATS,
        t if t.contains("invalid type: enum") => "a YAML tag (`!…`) has no meaning here",
        t if t.contains("invalid value") => "a value does not fit its YAML tag (`!!…`)",
        t => t,
    };
    let mut problem = Problem::new(message);
    problem.line = error.location().map(|l| l.line());
    problem
}

const REPEATS: &str = "aliases repeat too much";

/// Refuses what opens more brackets than any config does, before the YAML scanner sees it.
fn bound_nesting(text: &str, lines: &Lines<'_>) -> Result<(), Problem> {
    let mut open = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_OPEN {
            let mut problem = Problem::new("the file nests too deep");
            problem.line = Some(lines.of(at));
            return Err(problem);
        }
    }
    Ok(())
}

/// Where the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect();
        Self { text, starts }
    }

    /// The line of a byte offset.
    fn of(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    /// The line of a slice of the text, when it is one.
    fn of_slice(&self, part: &str) -> Option<usize> {
        let at = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        (at + part.len() <= self.text.len()).then(|| self.of(at))
    }
}

/// What the readers of one document share.
struct State<'t> {
    lines: Lines<'t>,
    /// Values that may still be read.
    budget: usize,
    /// Keys that stand twice in one mapping.
    repeated: Vec<Problem>,
}

/// Reads one value that stands at or below the line `hint`.
struct Reader<'a, 't> {
    state: &'a mut State<'t>,
    hint: usize,
}

impl Reader<'_, '_> {
    fn node<E: Error>(self, kind: Kind) -> Result<Node, E> {
        self.node_at(None, kind)
    }

    fn node_at<E: Error>(self, line: Option<usize>, kind: Kind) -> Result<Node, E> {
        self.state.budget = self.state.budget.checked_sub(1).ok_or_else(|| E::custom(REPEATS))?;
        Ok(Node { line: line.unwrap_or(self.hint), exact: line.is_some(), kind })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_, '_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, '_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.node(Kind::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.node(Kind::Null)
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Node, E> {
        self.node(Kind::Bool(v))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Node, E> {
        self.node(Kind::Number(v.into()))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Node, E> {
        self.node(Kind::Number(v.into()))
    }

    /// Too large to count with; only as a text does it keep its digits.
    fn visit_u128<E: Error>(self, v: u128) -> Result<Node, E> {
        self.node(Kind::Text(v.to_string()))
    }

    fn visit_i128<E: Error>(self, v: i128) -> Result<Node, E> {
        self.node(Kind::Text(v.to_string()))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Node, E> {
        let number = serde_json::Number::from_f64(v).ok_or_else(|| E::custom("a number that is not finite"))?;
        self.node(Kind::Number(number))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Node, E> {
        self.node(Kind::Text(v.to_string()))
    }

    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Node, E> {
        let line = self.state.lines.of_slice(v);
        self.node_at(line, Kind::Text(v.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list: Vec<Node> = Vec::new();
        let mut hint = self.hint;
        while let Some(node) = seq.next_element_seed(Reader { state: &mut *self.state, hint })? {
            hint = node.line;
            list.push(node);
        }
        let line = list.first().filter(|n| n.exact).map(|n| n.line);
        self.node_at(line, Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut hint = self.hint;
        while let Some((key, line)) = map.next_key_seed(KeyReader { lines: &self.state.lines, hint })? {
            if let Some(first) = seen.insert(key.clone(), line) {
                let problem = Problem::new(format!("key `{}` stands here and on line {first}", key.escape_debug()));
                self.state.repeated.push(Problem { line: Some(line), ..problem.help("keep one") });
            }
            let value = map.next_value_seed(Reader { state: &mut *self.state, hint: line })?;
            hint = line;
            entries.push(Entry { key, line, value });
        }
        let line = entries.first().map(|e| e.line);
        self.node_at(line, Kind::Map(entries))
    }
}

/// Reads a key and its line.
struct KeyReader<'a, 't> {
    lines: &'a Lines<'t>,
    hint: usize,
}

impl<'de> DeserializeSeed<'de> for KeyReader<'_, '_> {
    type Value = (String, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeyReader<'_, '_> {
    type Value = (String, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a text")
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok((v.to_string(), self.hint))
    }

    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
        Ok((v.to_string(), self.lines.of_slice(v).unwrap_or(self.hint)))
    }
}
