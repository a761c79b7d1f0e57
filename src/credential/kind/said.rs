//! What an issuer says of a refusal, as far as it may be shown.

use serde_json::Value;

use crate::{fetch::Answer, shown::shown};

/// Longer than any message of an issuer need be.
const LONGEST: usize = 200;
/// Shorter pieces of a secret stand in ordinary text.
const SHORTEST: usize = 12;

/// `: "…"` with the issuer's own words, or nothing. Words that hold a part of one of `secrets` are not
/// shown: an issuer may say back what it was sent.
pub(super) fn said(answer: &Answer, secrets: &[&str]) -> String {
    let Ok(value) = answer.json() else { return String::new() };
    let places = ["/error_description", "/error/message", "/message", "/error", "/errors/0"];
    let Some(words) = places.iter().find_map(|place| value.pointer(place).and_then(Value::as_str)) else { return String::new() };
    let parts = |secret: &&str| secret.split(['.', ' ']).filter(|p| p.len() >= SHORTEST).any(|part| words.contains(part));
    if words.is_empty() || secrets.iter().any(parts) {
        return String::new();
    }
    let end = words.char_indices().nth(LONGEST).map_or(words.len(), |(at, _)| at);
    format!(": \"{}{}\"", shown(words.get(..end).unwrap_or_default()), if end < words.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(body: &str) -> String {
        let answer = Answer { status: http::StatusCode::BAD_REQUEST, headers: http::HeaderMap::new(), body: body.to_owned().into() };
        said(&answer, &["eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LWNsYWltcw.c2lnbmF0dXJl"])
    }

    #[test]
    fn the_issuers_words_are_shown_short_escaped_and_without_what_it_was_sent() {
        assert_eq!(words(r#"{"message": "Not Found", "status": "404"}"#), r#": "Not Found""#);
        assert_eq!(words(r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#), r#": "Invalid JWT Signature.""#);
        assert_eq!(words(r#"{"error": {"code": 403, "message": "Permission denied"}}"#), r#": "Permission denied""#);
        assert_eq!(words(r#"{"error": "invalid_grant"}"#), r#": "invalid_grant""#);
        assert_eq!(words(r#"{"errors": ["permission denied"]}"#), r#": "permission denied""#);
        assert!(!words(r#"{"message": "\u001b[31mred"}"#).contains('\u{1b}'));
        assert!(words(&format!(r#"{{"message": "{}"}}"#, "x".repeat(5000))).len() < 250);
        assert_eq!(words(r#"{"message": "cannot read c2VjcmV0LWNsYWltcw here"}"#), "");
        for none in ["", "nonsense", "{}", "[]", r#"{"message": 7}"#, r#"{"message": ""}"#] {
            assert_eq!(words(none), "", "{none}");
        }
    }
}
