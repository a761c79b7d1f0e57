//! `$ref`s inside one document, bounded.

use std::cell::Cell;

use serde_json::Value;

use crate::problem::Problem;

/// How many `$ref`s may lead to one thing.
const MAX_HOPS: usize = 32;

/// How deep schemas may combine one another.
const MAX_DEPTH: usize = 32;

/// The most properties that are looked at for one body.
const MAX_PROPERTIES: usize = 4096;

/// The most schemas and properties that are looked at for a whole description.
const MAX_STEPS: u32 = 12_000_000;

/// Whose name ends in these combines others into one.
const COMBINERS: [&str; 6] = ["allOf", "oneOf", "anyOf", "if", "then", "else"];

/// A problem at a JSON pointer of the description.
pub(super) fn problem(pointer: &str, message: impl Into<String>) -> Problem {
    Problem::new(message).key(pointer)
}

/// One reference token of a JSON pointer (RFC 6901 §3).
pub(super) fn token(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

/// A document whose `$ref`s are followed, with what may yet be spent on that.
#[derive(Debug)]
pub(super) struct Refs<'d> {
    document: &'d Value,
    left: Cell<u32>,
}

impl<'d> Refs<'d> {
    pub(super) fn new(document: &'d Value) -> Self {
        Self { document, left: Cell::new(MAX_STEPS) }
    }

    fn step(&self, pointer: &str) -> Result<(), Problem> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| problem(pointer, format!("the schemas up to here have more than {MAX_STEPS} parts")))?);
        Ok(())
    }

    /// Follows `$ref`s to what is meant.
    pub(super) fn resolve(&self, value: &'d Value, pointer: &str) -> Result<&'d Value, Problem> {
        Ok(self.chain(value, pointer)?.pop().unwrap_or(value))
    }

    /// A value, what its `$ref` leads to, and so on: keys beside a `$ref` count before those behind it.
    pub(super) fn chain(&self, mut value: &'d Value, pointer: &str) -> Result<Vec<&'d Value>, Problem> {
        let mut chain = vec![value];
        while let Some(to) = value.get("$ref") {
            self.step(pointer)?;
            if chain.len() > MAX_HOPS {
                return Err(problem(pointer, format!("more than {MAX_HOPS} `$ref`s follow one another: they go in a circle")));
            }
            let to = to.as_str().ok_or_else(|| problem(pointer, "`$ref` is not text"))?;
            value = self.target(to, pointer)?;
            chain.push(value);
        }
        Ok(chain)
    }

    fn target(&self, to: &str, pointer: &str) -> Result<&'d Value, Problem> {
        let Some(inner) = to.strip_prefix('#') else {
            let message = format!("`{}` points outside the description", short(to));
            return Err(problem(pointer, message).help("bundle it into one file first"));
        };
        let nothing = || problem(pointer, format!("`{}` points at nothing", short(to)));
        let inner = percent_encoding::percent_decode_str(inner).decode_utf8().map_err(|_| nothing())?;
        self.document.pointer(&inner).or_else(|| self.anchor(&inner)).ok_or_else(nothing)
    }

    /// `#name`: a schema that calls itself so (JSON Schema 2020-12 §8.2.2).
    fn anchor(&self, name: &str) -> Option<&'d Value> {
        if name.starts_with('/') {
            return None;
        }
        let all = self.document.pointer("/components/schemas")?.as_object()?;
        all.values().find(|s| s.get("$anchor").and_then(Value::as_str) == Some(name))
    }

    /// The names of a schema's own properties, through `$ref` and what combines schemas.
    pub(super) fn properties(&self, schema: &'d Value, pointer: &str) -> Result<Vec<String>, Problem> {
        let mut found = Found::default();
        self.collect(schema, pointer, 0, &mut found)?;
        Ok(found.names)
    }

    fn collect(&self, schema: &'d Value, pointer: &str, depth: usize, found: &mut Found<'d>) -> Result<(), Problem> {
        if depth > MAX_DEPTH {
            return Err(problem(pointer, format!("schemas combine more than {MAX_DEPTH} deep")));
        }
        for schema in self.chain(schema, pointer)? {
            self.step(pointer)?;
            // A schema met before adds nothing: this is also what ends a circle.
            if !found.seen.insert(std::ptr::from_ref(schema)) {
                continue;
            }
            for name in schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|all| all.keys()) {
                self.step(pointer)?;
                if !name.is_empty() && found.known.insert(name) {
                    found.names.push(name.clone());
                }
            }
            if found.seen.len() > MAX_PROPERTIES || found.names.len() > MAX_PROPERTIES {
                return Err(problem(pointer, format!("the body has more than {MAX_PROPERTIES} properties or schemas")));
            }
            for part in COMBINERS.iter().filter_map(|c| schema.get(*c)) {
                match part {
                    Value::Array(parts) => parts.iter().try_for_each(|p| self.collect(p, pointer, depth + 1, found))?,
                    part => self.collect(part, pointer, depth + 1, found)?,
                }
            }
        }
        Ok(())
    }

    /// Whether a schema, or one that it combines, is of a type.
    pub(super) fn is(&self, schema: &'d Value, kind: &str, pointer: &str) -> Result<bool, Problem> {
        self.is_within(schema, kind, pointer, 0)
    }

    fn is_within(&self, schema: &'d Value, kind: &str, pointer: &str, depth: usize) -> Result<bool, Problem> {
        for schema in self.chain(schema, pointer)? {
            self.step(pointer)?;
            let own = match schema.get("type") {
                Some(Value::String(one)) => one == kind,
                // 3.1: a list of types.
                Some(Value::Array(all)) => all.iter().any(|t| t.as_str() == Some(kind)),
                _ => kind == "object" && schema.get("properties").is_some(),
            };
            if own {
                return Ok(true);
            }
            // One of several forms is a list: not what the parameter is.
            let combiners = if kind == "array" { &COMBINERS[..1] } else { &COMBINERS[..] };
            if depth < 4 {
                for part in combiners.iter().filter_map(|c| schema.get(*c)).filter_map(Value::as_array).flatten() {
                    if self.is_within(part, kind, pointer, depth + 1)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

#[derive(Debug, Default)]
struct Found<'d> {
    seen: std::collections::HashSet<*const Value>,
    known: std::collections::HashSet<&'d str>,
    names: Vec<String>,
}

/// A text of somebody else's in a message.
pub(super) fn short(text: &str) -> String {
    text.chars().take(120).collect()
}
