//! A quick way to read catalogs that list one operation a line.
//!
//! The YAML that the importer writes is JSON but for the quotes it leaves out. Reading it as such
//! costs a tenth of a YAML reader, which counts for catalogs of thousands of operations at every
//! start. Whatever is not plainly of that form is left to the YAML reader, errors included.

use super::spec::{FileSpec, OperationSpec};

/// The start of an operation's line.
const START: &str = "  - {";

/// Reads a whole file; None when it is not of the form, or wrong.
pub(super) fn read(text: &str) -> Option<FileSpec> {
    let mut rest = String::new();
    let mut operations: Vec<OperationSpec> = Vec::new();
    let mut json = String::new();
    let mut inside = false;
    for line in text.lines() {
        if inside && line.starts_with(START) {
            json.clear();
            to_json(line.get(4..)?, &mut json)?;
            operations.push(serde_json::from_str(&json).ok()?);
            continue;
        }
        // Comments may stand between operations; anything else ends their list.
        inside = line == "operations:" || (inside && line.trim_start().starts_with('#'));
        rest.push_str(if line == "operations:" { "operations: []" } else { line });
        rest.push('\n');
    }
    if operations.is_empty() {
        return None;
    }
    let file: FileSpec = serde_yaml::from_str(&rest).ok()?;
    // A second list, in another form, would be lost.
    file.operations.is_empty().then_some(FileSpec { operations, ..file })
}

/// Puts quotes around the plain words of a flow mapping.
fn to_json(yaml: &str, json: &mut String) -> Option<()> {
    let bytes = yaml.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let end = match byte {
            b'{' | b'}' | b'[' | b']' | b',' => at + 1,
            b' ' => at + 1,
            // `a:b` is one word to YAML.
            b':' if bytes.get(at + 1) == Some(&b' ') => at + 1,
            b'"' => string_end(bytes, at)?,
            b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'_' => {
                let length = bytes.get(at..)?.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_-./=".contains(b)).count();
                // A word may go on in YAML after a space, and `#`, `&` and the like mean something.
                let next = bytes.get(at + length..)?;
                if !(next.starts_with(b", ") || next.starts_with(b": ") || matches!(next.first(), Some(b'}' | b']'))) {
                    return None;
                }
                at + length
            }
            _ => return None,
        };
        let piece = yaml.get(at..end)?;
        let is_word = piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
        match piece {
            "true" | "false" => json.push_str(piece),
            _ if !is_word => json.push_str(piece),
            _ if ["true", "false", "null"].iter().any(|w| piece.eq_ignore_ascii_case(w)) => return None,
            _ => {
                json.push('"');
                json.push_str(piece);
                json.push('"');
            }
        }
        at = end;
    }
    Some(())
}

/// Where a double-quoted text ends; None when it has an escape, which YAML and JSON do not share.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at + 1..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
    (bytes.get(at + 1 + length) == Some(&b'"')).then_some(at + length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::builtin;

    #[test]
    fn both_readers_read_the_same() {
        let mut quick = 0;
        for shipped in builtin::texts() {
            let slow: FileSpec = serde_yaml::from_str(&shipped.text).unwrap();
            if let Some(fast) = read(&shipped.text) {
                assert_eq!(format!("{fast:?}"), format!("{slow:?}"));
                quick += 1;
            }
        }
        assert_eq!(quick, 12, "all but git's, whose operations take several lines");
    }

    #[test]
    fn what_is_not_plainly_of_the_form_is_left_to_yaml() {
        let to = |yaml: &str| {
            let mut json = String::new();
            to_json(yaml, &mut json).map(|()| json)
        };
        assert_eq!(
            to(r#"{id: a.b-c, x: [/t, "q r"], y: {}, z: true}"#).unwrap(),
            r#"{"id": "a.b-c", "x": ["/t", "q r"], "y": {}, "z": true}"#
        );
        for yaml in [
            "{a: b c}",
            "{a: b # c}",
            "{a: &b c}",
            "{a: 5}",
            "{a: Null}",
            "{a:b}",
            "{a: b:c}",
            r#"{a: "\x41"}"#,
            "{a: 'b'}",
            "{a: \"b}",
            "{a: é}",
            "{a: ~}",
        ] {
            assert!(to(yaml).is_none(), "{yaml}");
        }
        let wrong = "provider: p\nhosts: [a.example]\noperations:\n  - {id: p.a.b, match: \"GET /x\", efect: read}\n";
        assert!(read(wrong).is_none());
    }
}
