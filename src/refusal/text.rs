use std::{borrow::Cow, fmt::Write};

use super::{Refusal, render::Context};
use crate::shown::is_obeyed;

/// Longer texts from the network are cut.
const LONGEST: usize = 2000;

/// Text as it may be shown: control and bidirectional characters, which a terminal would obey, are
/// written as escapes.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST && !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for c in text.chars() {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        if is_obeyed(c) {
            // Writing to a String does not fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// What to do next: how to learn more, and whom to ask.
pub(super) fn next(refusal: &Refusal, cx: &Context<'_>) -> String {
    let mut out = format!("remit explain {}; ", cx.decision);
    match (refusal.retry_after, refusal.reason.next(), cx.owner) {
        (Some(after), ..) => {
            let _ = write!(out, "try again in {} s", seconds(after));
        }
        (None, Some(step), _) => out.push_str(step),
        (None, None, Some(owner)) => {
            let _ = write!(out, "ask the owner, {}", shown(owner));
        }
        (None, None, None) => out.push_str("ask the agent's owner"),
    }
    out
}

/// The one sentence that every form carries: the reason, what was refused, and what to do.
pub(super) fn message(refusal: &Refusal, cx: &Context<'_>) -> String {
    let mut out = format!("Remit: {}: {}", refusal.reason.code(), shown(&refusal.detail).trim_end_matches('.'));
    if !refusal.reasons.is_empty() {
        let reasons: Vec<_> = refusal.reasons.iter().map(|r| shown(r)).collect();
        let _ = write!(out, " ({})", reasons.join("; "));
    }
    let _ = write!(out, ". Next: {}", next(refusal, cx));
    out
}

/// Whole seconds, rounded up, as `Retry-After` wants them (RFC 9110 §10.2.3).
pub(super) fn seconds(after: std::time::Duration) -> u64 {
    after.as_secs() + u64::from(after.subsec_nanos() > 0)
}

/// Text inside an XML element.
pub(super) fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
