//! A draft as the text of a catalog file: one operation, one line.

use super::{Draft, DraftBody, DraftOperation, Overlay};

use crate::hex::hex;

/// Writes a catalog with a header that says where it came from.
pub(super) fn catalog(draft: &Draft, name: &str, digest: &[u8], overlay: Option<&Overlay>) -> String {
    let mut out = String::new();
    let uncertain = draft.operations.iter().filter(|o| o.uncertain).count();
    line(&mut out, "# Made by `remit intents import`. Do not edit: correct it with an overlay and import again.");
    line(&mut out, &format!("# source: {}", comment(name)));
    line(&mut out, &format!("# version: {}", comment(&draft.version)));
    line(&mut out, &format!("# sha256: {}", hex(digest)));
    line(&mut out, &format!("# operations: {}, of which {uncertain} were guessed from a name (`uncertain`)", draft.operations.len()));
    left_out(&mut out, draft);
    body(&mut out, draft, overlay);
    out
}

/// The most operations left out that are named one by one.
const NAMED: usize = 200;

fn left_out(out: &mut String, draft: &Draft) {
    let all = &draft.left_out;
    if all.is_empty() {
        return;
    }
    line(out, &format!("# left out: {}, calls of which are `{}.unknown`", all.len(), draft.provider));
    for one in all.iter().take(NAMED) {
        line(out, &format!("#   {}: {}", comment(&one.pointer), comment(&one.why)));
    }
    if all.len() > NAMED {
        line(out, &format!("#   and {} more", all.len() - NAMED));
    }
}

/// Writes a catalog without the header.
pub(super) fn bare(draft: &Draft) -> String {
    let mut out = String::new();
    body(&mut out, draft, None);
    out
}

fn body(out: &mut String, draft: &Draft, overlay: Option<&Overlay>) {
    line(out, &format!("provider: {}", scalar(&draft.provider)));
    line(out, &format!("hosts: {}", list(&draft.hosts)));
    head(out, overlay, draft);
    line(out, "operations:");
    for operation in &draft.operations {
        line(out, &format!("  - {}", one(operation)));
    }
    let readers: Vec<String> = draft.readers.iter().map(|(word, path)| format!("{{{}: {}}}", scalar(word), scalar(path))).collect();
    line(out, &format!("readers: [{}]", readers.join(", ")));
    let renamed = overlay.into_iter().flat_map(|o| &o.was).chain(draft.was.iter().map(|(k, v)| (k, v)));
    let was: Vec<String> = renamed.map(|(k, v)| format!("{}: {}", scalar(k), scalar(v))).collect();
    line(out, &format!("was: {{{}}}", was.join(", ")));
}

/// What the overlay says comes before what the format does.
fn head(out: &mut String, overlay: Option<&Overlay>, draft: &Draft) {
    if let Some(credential) = overlay.and_then(|o| o.credential.as_ref()).or(draft.credential.as_ref()) {
        line(out, &format!("credential: {}", scalar(credential)));
    }
    let errors = overlay.and_then(|o| o.errors).and_then(|e| serde_json::to_value(e).ok());
    if let Some(errors) = errors.as_ref().and_then(serde_json::Value::as_str).or(draft.errors.as_deref()) {
        line(out, &format!("errors: {errors}"));
    }
    if let Some(body_type) = overlay.and_then(|o| o.body_type.as_ref()).or(draft.body_type.as_ref()) {
        line(out, &format!("body_type: {}", scalar(body_type)));
    }
    if let Some(overlay) = overlay.filter(|o| !o.fold.is_empty() && !draft.operations.is_empty()) {
        line(out, &format!("fold: {}", list(&overlay.fold)));
    }
}

fn one(operation: &DraftOperation) -> String {
    let mut facts = vec![format!("id: {}", scalar(&operation.id))];
    for (key, values) in [("match", &operation.matches), ("streams", &operation.streams)] {
        match values.as_slice() {
            [] if key == "match" => facts.push("match: []".into()),
            [] => {}
            all => facts.push(format!("{key}: {}", matches(all))),
        }
    }
    facts.push(format!("effect: {}", operation.effect));
    let labels: Vec<String> = operation.labels.iter().map(|l| l.as_str().to_owned()).collect();
    for (key, values) in [
        ("labels", &labels),
        ("query", &operation.query),
        ("content", &operation.content),
        ("reserved", &operation.reserved),
        ("follows", &operation.follows),
        ("hosts", &operation.hosts),
    ] {
        if !values.is_empty() {
            facts.push(format!("{key}: {}", list(values)));
        }
    }
    match &operation.body {
        DraftBody::Undeclared => {}
        DraftBody::Stream => facts.push("body: stream".into()),
        DraftBody::Json(pairs) => {
            let pairs: Vec<String> = pairs.iter().map(|(n, p)| format!("{}: {}", scalar(n), scalar(p))).collect();
            facts.push(format!("body: {{{}}}", pairs.join(", ")));
        }
    }
    if operation.llm {
        facts.push("limit: llm".into());
    }
    if operation.uncertain {
        facts.push("uncertain: true".into());
    }
    format!("{{{}}}", facts.join(", "))
}

fn matches(all: &[String]) -> String {
    match all {
        [one] => quoted(one),
        all => format!("[{}]", all.iter().map(|m| quoted(m)).collect::<Vec<_>>().join(", ")),
    }
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|v| scalar(v)).collect();
    format!("[{}]", values.join(", "))
}

/// A YAML scalar: plain where every YAML reader takes it for text, else quoted.
fn scalar(text: &str) -> String {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b'='))
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && !text.starts_with('=');
    let word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"].iter().any(|w| text.eq_ignore_ascii_case(w));
    if plain && !word { text.to_owned() } else { quoted(text) }
}

/// JSON's quotes are YAML's double quotes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}
