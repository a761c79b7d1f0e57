//! Header fields of a request that could give it a second reading.

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName},
};

use crate::refusal::Refusal;

use super::catalog::ambiguous;

/// Fields by which frameworks let a client name another method or path than those on the wire.
const OVERRIDES: [(&str, &str); 5] = [
    ("x-http-method", "method"),
    ("x-method-override", "method"),
    ("x-http-method-override", "method"),
    ("x-original-url", "path"),
    ("x-rewrite-url", "path"),
];

/// Refuses a request that names a second method or path.
pub(super) fn refuse_override(headers: &HeaderMap) -> Result<(), Refusal> {
    for name in headers.keys().map(HeaderName::as_str) {
        // All of them start so; few other fields do.
        if name.starts_with("x-")
            && let Some((_, what)) = OVERRIDES.iter().find(|(n, _)| *n == name)
        {
            return Err(ambiguous(format!("`{name}` asks for another {what} than the request's own")));
        }
    }
    Ok(())
}

/// The media type of a body as far as reading it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Media {
    /// `type/subtype`, lower case; empty when none is given.
    pub essence: Box<str>,
    charset_ok: bool,
}

impl Media {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut all = headers.get_all(CONTENT_TYPE).iter();
        let Some(value) = all.next() else { return Ok(Self { essence: "".into(), charset_ok: true }) };
        let text = value.to_str().map_err(|_| ambiguous("the Content-Type is not text".into()))?;
        if all.next().is_some() || text.contains(',') {
            return Err(ambiguous("the request has two Content-Types".into()));
        }
        let mut parts = text.split(';');
        let essence = parts.next().unwrap_or("").trim().to_ascii_lowercase();
        let charset_ok = parts.filter_map(|p| p.trim().split_once('=')).filter(|(n, _)| n.eq_ignore_ascii_case("charset")).all(|(_, v)| {
            let v = v.trim_matches('"');
            ["utf-8", "utf8", "us-ascii"].iter().any(|ok| v.eq_ignore_ascii_case(ok))
        });
        Ok(Self { essence: essence.into(), charset_ok })
    }

    /// Whether every reader takes it for JSON, or none is given.
    pub(super) fn is_json(&self) -> bool {
        matches!(&*self.essence, "" | "application/json" | "text/json") || self.essence.ends_with("+json")
    }

    /// Whether it says that it is JSON.
    pub(super) fn says_json(&self) -> bool {
        self.is_json() && !self.essence.is_empty()
    }

    pub(super) fn is_form(&self) -> bool {
        &*self.essence == "application/x-www-form-urlencoded"
    }

    /// Whether it is one of those listed: `text/plain`, `image/*`.
    pub(super) fn is_one_of(&self, listed: &[Box<str>]) -> bool {
        listed.iter().any(|l| match l.strip_suffix('*') {
            Some(start) => self.essence.starts_with(start),
            None => **l == *self.essence,
        })
    }

    /// Refuses what would have to be decoded before it is read.
    pub(super) fn refuse_encoded(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let plain = |v: &http::HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
            return Err(ambiguous("the body has a Content-Encoding, and it must be read to be judged: send it uncompressed".into()));
        }
        if !self.charset_ok {
            return Err(ambiguous("the body has a charset other than UTF-8".into()));
        }
        Ok(())
    }
}
