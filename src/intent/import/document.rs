//! Descriptions as one tree of values, read within bounds.
//!
//! A description is somebody else's: it may be broken, or made to exhaust whoever reads it. So
//! every value that is built is counted (aliases multiply), a key that stands twice is an error
//! where it could change what an operation is, and examples are not built at all.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::{intent::json::Key, problem::Problem};

/// The most values (texts, numbers, lists, mappings) in a description. GitHub's largest, with every
/// `$ref` written out, has two million.
const MAX_VALUES: u32 = 6_000_000;

/// The most places of a YAML text at which a value may begin: its reader holds them all at once.
const MAX_YAML: usize = 8_000_000;

/// How deep a YAML text may nest by its brackets.
const MAX_NESTING: usize = 5000;

/// Reads JSON or YAML.
///
/// # Errors
/// What is wrong, with its line.
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Value, Problem> {
    let fail = |line: usize, message: String| Problem::new(message).at(name, Some(line));
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes.iter().take(e.valid_up_to()).filter(|b| **b == b'\n').count() + 1;
        fail(line, "the description is not UTF-8".into())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let left = Cell::new(MAX_VALUES);
    let tree = Tree { left: &left, keys: Keys::Words, strict: true, drops: false };
    if text.trim_start().starts_with(['{', '[']) {
        let mut json = serde_json::Deserializer::from_str(text);
        let value = tree.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
        return value.map_err(|e| fail(e.line(), format!("the description is not JSON: {}", shorten(&e))));
    }
    let places = text.bytes().filter(|b| matches!(b, b'\n' | b',' | b'[' | b'{' | b'-' | b'?')).count();
    if places > MAX_YAML {
        return Err(fail(1, "the description is too large to be read as YAML".into()).help("convert it to JSON first"));
    }
    if let Some(line) = too_deep(text) {
        return Err(fail(line, format!("the description nests more than {MAX_NESTING} deep")));
    }
    let value = tree.deserialize(serde_yaml::Deserializer::from_str(text));
    value.map_err(|e| fail(e.location().map_or(1, |l| l.line()), format!("the description is not YAML: {}", shorten(&e))))
}

/// The line on which brackets, or `- ` after `- `, stand within one another too often: what YAML's reader
/// does with those grows with their square. Brackets in texts count, which does not matter at this depth.
fn too_deep(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (i, line) in text.lines().enumerate() {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
        }
        let dashes = line.split(' ').take_while(|w| matches!(*w, "" | "-" | "?")).filter(|w| !w.is_empty()).count();
        if open > MAX_NESTING || dashes > MAX_NESTING {
            return Some(i + 1);
        }
    }
    None
}

/// An error's text without the place, which stands beside it.
fn shorten(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text.chars().take(text.get(..end).map_or(0, |t| t.chars().count()).min(300)).collect()
}

/// What the keys of a mapping are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Words of the format: `get`, `schema`.
    Words,
    /// Names that the description gives: properties, schemas, paths.
    Names,
}

/// Words whose value is a mapping of names.
const NAMED: [&str; 18] = [
    "properties",
    "patternProperties",
    "schemas",
    "definitions",
    "$defs",
    "parameters",
    "requestBodies",
    "responses",
    "headers",
    "pathItems",
    "paths",
    "content",
    "variables",
    "securitySchemes",
    // Of discovery documents and AWS models.
    "resources",
    "methods",
    "shapes",
    "members",
];

#[derive(Clone, Copy)]
struct Tree<'b> {
    /// How many values may yet be built.
    left: &'b Cell<u32>,
    keys: Keys,
    /// Whether a key may stand once only.
    strict: bool,
    /// Counted, not built.
    drops: bool,
}

impl<'b> Tree<'b> {
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| E::custom(format_args!("it has more than {MAX_VALUES} values")))?);
        Ok(())
    }

    /// How the value of a key is read.
    fn below(&self, key: &str) -> Self {
        if self.keys == Keys::Names {
            return Self { keys: Keys::Words, ..*self };
        }
        let keys = if NAMED.contains(&key) { Keys::Names } else { Keys::Words };
        let drops = self.drops || matches!(key, "example" | "examples");
        Self { left: self.left, keys, drops, strict: self.strict && !drops && !key.starts_with("x-") }
    }

    fn scalar<E: serde::de::Error>(self, value: impl FnOnce() -> Value) -> Result<Value, E> {
        self.count()?;
        Ok(if self.drops { Value::Null } else { value() })
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(|| Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Value, E> {
        self.scalar(|| v.into())
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        self.scalar(|| v.into())
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        self.scalar(|| v.into())
    }

    fn visit_i128<E: serde::de::Error>(self, v: i128) -> Result<Value, E> {
        self.scalar(|| v.to_string().into())
    }

    fn visit_u128<E: serde::de::Error>(self, v: u128) -> Result<Value, E> {
        self.scalar(|| v.to_string().into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        self.scalar(|| Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        self.scalar(|| v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.count()?;
        let item = Self { keys: Keys::Words, ..self };
        let mut items = Vec::new();
        while let Some(value) = seq.next_element_seed(item)? {
            if !self.drops {
                items.push(value);
            }
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.count()?;
        let mut object = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = map.next_key_seed(Key("a key that is text"))? {
            let value = map.next_value_seed(self.below(&key))?;
            if self.drops {
                continue;
            }
            // YAML 1.1's merge key, which descriptions use although YAML 1.2 dropped it.
            if key == "<<" {
                merged.push(value);
                continue;
            }
            if self.strict && object.contains_key(&*key) {
                return Err(A::Error::custom(format_args!("the key {:?} stands twice", key.chars().take(80).collect::<String>())));
            }
            object.insert(key.into_owned(), value);
        }
        for value in merged {
            merge(value, &mut object);
        }
        Ok(Value::Object(object))
    }
}

/// Adds what a merge key names; the mapping's own keys count more.
fn merge(value: Value, into: &mut Map<String, Value>) {
    match value {
        Value::Object(map) => map.into_iter().for_each(|(key, value)| {
            into.entry(key).or_insert(value);
        }),
        Value::Array(all) => all.into_iter().for_each(|value| merge(value, into)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> Result<Value, String> {
        read("d", text.as_bytes()).map_err(|p| p.to_string())
    }

    #[test]
    fn json_and_yaml_give_the_same_tree() {
        let want = json!({"a": {"200": [1, true, null, "x"]}, "b": 2.5});
        assert_eq!(of(&want.to_string()).unwrap(), want);
        assert_eq!(of("a:\n  200: [1, true, null, x]\nb: 2.5\n").unwrap(), want);
        assert_eq!(of("\u{feff}{\"a\": 1}").unwrap(), json!({"a": 1}));
    }

    #[test]
    fn merge_keys_and_aliases_are_followed() {
        let text = "base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\n";
        assert_eq!(of(text).unwrap()["mine"], json!({"x": 1, "y": 3}));
    }

    #[test]
    fn a_key_twice_is_an_error_with_its_line_save_in_examples_and_extensions() {
        let error = of("{\n\"a\": 1,\n\"a\": 2}").unwrap_err();
        assert!(error.contains("\"a\" stands twice") && error.contains("d:3"), "{error}");
        assert!(of(r#"{"example": {"a": 1, "a": 2}, "x-y": {"a": 1, "a": 2}}"#).is_ok());
        assert!(of(r#"{"properties": {"example": {"type": "string", "type": "number"}}}"#).is_err());
    }

    #[test]
    fn bombs_end_early() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let all = vec![format!("*a{}", i - 1); 10].join(", ");
            laughs.push_str(&format!("a{i}: &a{i} [{all}]\n"));
        }
        let error = of(&laughs).unwrap_err();
        assert!(error.contains("values") || error.contains("repetition"), "{error}");
        assert!(of(&"[".repeat(100_000)).unwrap_err().contains("recursion"));
        assert!(of(&format!("a: {}", "[".repeat(100_000))).is_err());
        assert!(of(&format!("[{}1]", "1,".repeat(7_000_000))).unwrap_err().contains("more than"));
        assert!(of(&"- a\n".repeat(5_000_000)).unwrap_err().contains("too large"));
    }

    #[test]
    fn what_is_broken_is_named_with_its_line() {
        for (text, want) in [("{\"a\": [1,\n}", "d:2"), ("a: [1\nb: 2", "d:"), ("{\"a\": 1} x", "d:1"), ("a: 1\n---\nb: 2", "YAML")] {
            let error = of(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(read("d", b"a: 1\nb: \xff").unwrap_err().to_string().contains("d:2"));
    }
}
