//! How the records of a call are worded.

use serde_json::Value;

/// `(owner=acme repo=web)`; nothing where there is none.
pub(super) fn parameters(params: &Value) -> String {
    let shown: Vec<String> =
        params.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().map_or_else(|| v.to_string(), short))).collect();
    if shown.is_empty() { String::new() } else { format!("({})", shown.join(" ")) }
}

/// One parameter must not fill the screen.
fn short(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() { start + "…" } else { start }
}

/// `200 12ms`, and what else there is to say of a call's end.
pub(super) fn ending(outcome: Option<&Value>) -> String {
    let Some(o) = outcome else { return "open".into() };
    let status = o["status"].as_u64().map_or_else(|| word(&o["outcome"]).to_owned(), |s| s.to_string());
    let mut text = status;
    if let Some(ms) = o["ms"].as_f64() {
        text += &format!(" {ms:.0}ms");
    }
    if o["outcome"] == "incomplete" && o["status"].is_u64() {
        text += " cut off";
    }
    if let Some(reason) = o["reason"].as_str() {
        text += &format!(" {reason}");
    }
    text
}

/// A text; nothing for what is none.
pub(super) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
