//! `$ref`s inside one document, bounded.

use serde_json::Value;

use crate::problem::Problem;

/// How many `$ref`s may lead to one thing.
const MAX_HOPS: usize = 32;

/// How deep schemas may combine one another.
const MAX_DEPTH: usize = 32;

/// The most properties that are looked at for one body.
const MAX_PROPERTIES: usize = 4096;

/// A problem at a JSON pointer of the description.
pub(super) fn problem(pointer: &str, message: impl Into<String>) -> Problem {
    Problem::new(message).key(pointer)
}

/// One reference token of a JSON pointer (RFC 6901 §3).
pub(super) fn token(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

/// Follows `$ref`s to what is meant.
pub(super) fn resolve<'d>(document: &'d Value, mut value: &'d Value, pointer: &str) -> Result<&'d Value, Problem> {
    for _ in 0..MAX_HOPS {
        let Some(to) = value.get("$ref") else { return Ok(value) };
        let Some(to) = to.as_str() else { return Err(problem(pointer, "`$ref` is not text")) };
        let Some(inner) = to.strip_prefix('#') else {
            return Err(problem(pointer, format!("`{to}` points outside the description")).help("bundle it into one file first"));
        };
        let inner = percent_encoding::percent_decode_str(inner).decode_utf8_lossy();
        value = document.pointer(&inner).ok_or_else(|| problem(pointer, format!("`{to}` points at nothing")))?;
    }
    Err(problem(pointer, format!("more than {MAX_HOPS} `$ref`s follow one another: they go in a circle")))
}

/// The names of a schema's own properties, through `$ref`, `allOf`, `oneOf` and `anyOf`.
pub(super) fn properties(document: &Value, schema: &Value, pointer: &str) -> Result<Vec<String>, Problem> {
    let mut names = Vec::new();
    let mut seen = Vec::new();
    collect(document, schema, pointer, 0, &mut seen, &mut names)?;
    Ok(names)
}

fn collect<'d>(
    document: &'d Value,
    schema: &'d Value,
    pointer: &str,
    depth: usize,
    seen: &mut Vec<&'d Value>,
    names: &mut Vec<String>,
) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        return Err(problem(pointer, format!("schemas combine more than {MAX_DEPTH} deep")));
    }
    let schema = resolve(document, schema, pointer)?;
    // A schema met before adds nothing: this is also what ends a circle.
    if seen.iter().any(|s| std::ptr::eq(*s, schema)) {
        return Ok(());
    }
    seen.push(schema);
    if seen.len() > MAX_PROPERTIES || names.len() > MAX_PROPERTIES {
        return Err(problem(pointer, format!("the body has more than {MAX_PROPERTIES} properties or schemas")));
    }
    if let Some(own) = schema.get("properties").and_then(Value::as_object) {
        for name in own.keys().filter(|n| !n.is_empty()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    for combiner in ["allOf", "oneOf", "anyOf"] {
        for part in schema.get(combiner).and_then(Value::as_array).into_iter().flatten() {
            collect(document, part, pointer, depth + 1, seen, names)?;
        }
    }
    Ok(())
}
