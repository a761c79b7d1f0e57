//! Credentials of the agent's where no credential field carries them: in the path, the query, the
//! body or some other field. And configured secrets anywhere: they have leaked.

mod formats;
mod stream;

use std::{borrow::Cow, collections::HashSet};

use ahash::RandomState;
use http::HeaderName;
use percent_encoding::percent_decode;

pub(super) use formats::looks_secret;
pub(super) use stream::Stream;

use super::scrub::Scrubber;
use crate::{
    call::{Body, Head, is_credential_field},
    refusal::{Reason, Refusal},
};

/// Values that were given to the agent in place of secrets.
#[derive(Debug, Default)]
pub(super) struct Placeholders(HashSet<Box<[u8]>, RandomState>);

impl Placeholders {
    pub(super) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        Self(values.into_iter().map(|v| v.as_bytes().into()).collect())
    }

    fn contains(&self, value: &[u8]) -> bool {
        self.0.contains(value)
    }
}

/// What the judgement of one call knows.
pub(super) struct Known<'a> {
    pub(super) placeholders: &'a Placeholders,
    /// Finds the configured secrets.
    pub(super) leaks: Option<&'a Scrubber>,
    /// The query parameter that the injected credential replaces, whatever the agent put there.
    pub(super) query: Option<&'a str>,
    /// The agent's own login passes, in whatever place its provider takes it.
    pub(super) own: bool,
}

/// Shorter text holds no credential whose format is known.
const SHORTEST: usize = 20;

pub(super) fn judge(head: &Head, body: &Body, known: &Known<'_>) -> Result<(), Refusal> {
    for (name, value) in &head.headers {
        field(name, value.as_bytes(), known)?;
    }
    let whole = head.path.whole().as_str();
    if let Some(query) = head.path.query() {
        names(query, known)?;
    }
    text(whole.as_bytes(), "the path or query", known)?;
    if let Some(bytes) = body.bytes() {
        text(bytes, "the body", known)?;
        if !known.own && is_form(head) {
            form(bytes, known)?;
        }
    }
    Ok(())
}

fn field(name: &HeaderName, value: &[u8], known: &Known<'_>) -> Result<(), Refusal> {
    if is_credential_field(name) {
        // Dropped, never forwarded; but a configured secret there tells that it has leaked.
        return leak(value, known).map_or(Ok(()), |()| Err(leaked(&format!("the field `{name}`"))));
    }
    if value.len() < SHORTEST {
        return Ok(());
    }
    if leak(value, known).is_some() {
        return Err(leaked(&format!("the field `{name}`")));
    }
    if is_harmless(name) {
        return Ok(());
    }
    match (!known.own).then(|| formats::find(value, |v| known.placeholders.contains(v))).flatten() {
        Some(what) => Err(foreign(&format!("the field `{name}` holds {what}"))),
        None => Ok(()),
    }
}

/// Fields whose values are fixed vocabularies, sent with every call.
fn is_harmless(name: &HeaderName) -> bool {
    use http::header;
    *name == header::USER_AGENT
        || *name == header::ACCEPT
        || *name == header::ACCEPT_ENCODING
        || *name == header::ACCEPT_LANGUAGE
        || *name == header::CONTENT_TYPE
        || *name == header::DATE
        || *name == header::HOST
}

/// Searches text for configured secrets and for what looks like a secret.
fn text(bytes: &[u8], place: &str, known: &Known<'_>) -> Result<(), Refusal> {
    if bytes.len() < SHORTEST {
        return Ok(());
    }
    if leak(bytes, known).is_some() {
        return Err(leaked(place));
    }
    if known.own {
        return Ok(());
    }
    match formats::find(bytes, |v| known.placeholders.contains(v)) {
        Some(what) => Err(foreign(&format!("{place} holds {what}"))),
        None => Ok(()),
    }
}

fn leak(bytes: &[u8], known: &Known<'_>) -> Option<()> {
    known.leaks.filter(|l| l.finds(bytes)).map(|_| ())
}

/// Judges the names of query parameters: some carry nothing but credentials.
fn names(query: &str, known: &Known<'_>) -> Result<(), Refusal> {
    for (key, value) in pairs(query.as_bytes()) {
        let replaced = known.query.is_some_and(|q| q.as_bytes().eq_ignore_ascii_case(&key));
        if replaced || known.own || value.is_empty() || !formats::is_credential_parameter(&key, query) {
            continue;
        }
        if !known.placeholders.contains(&value) {
            return Err(foreign(&format!("the query parameter `{}` carries a credential", shown(&key))));
        }
    }
    Ok(())
}

/// Judges the names of a form's fields, but not those by which a token endpoint is asked (there
/// the operation is what is judged).
fn form(body: &[u8], known: &Known<'_>) -> Result<(), Refusal> {
    for (key, value) in pairs(body) {
        let replaced = known.query.is_some_and(|q| q.as_bytes().eq_ignore_ascii_case(&key));
        if replaced || value.is_empty() || !formats::is_credential_field_of_form(&key) || known.placeholders.contains(&value) {
            continue;
        }
        return Err(foreign(&format!("the form field `{}` carries a credential", shown(&key))));
    }
    Ok(())
}

fn pairs(text: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    // Some servers end a pair at `;` too.
    text.split(|b| matches!(b, b'&' | b';')).map(|pair| {
        let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (key, value) = pair.split_at(at);
        (Cow::from(percent_decode(key)), Cow::from(percent_decode(value.get(1..).unwrap_or_default())))
    })
}

fn is_form(head: &Head) -> bool {
    let form = b"application/x-www-form-urlencoded";
    head.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.as_bytes().get(..form.len())).is_some_and(|v| v.eq_ignore_ascii_case(form))
}

/// A parameter's name, short and without what a terminal would obey.
fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).chars().filter(|c| c.is_ascii_graphic()).take(40).collect()
}

fn foreign(what: &str) -> Refusal {
    Refusal::new(
        Reason::ForeignCredential,
        format!("{what}; the agent's own credentials never reach upstream: leave it out, Remit attaches the right one"),
    )
}

fn leaked(place: &str) -> Refusal {
    Refusal::new(
        Reason::ForeignCredential,
        format!("{place} holds a secret that Remit injects and the agent must not have: it has leaked; rotate it"),
    )
}

#[cfg(test)]
mod tests;
