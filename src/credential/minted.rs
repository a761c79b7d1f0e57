//! What of an answer does not reach the agent unless its grant says so: cookies, and what an
//! operation mints (tokens, keys, links that log in). Either is a credential that the agent would hold.

mod form;
mod json;
mod veil;
mod xml;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

pub(super) use veil::{Stop, Veil};

use super::foreign::looks_secret;
use crate::call::{Body, Head, Intent, Label, Returns, is_credential_field};

/// What is kept back of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Withhold {
    cookies: bool,
    tokens: bool,
}

/// What was kept back of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Withheld {
    /// How many `Set-Cookie` fields.
    pub cookies: u32,
    /// Its body passed through a veil, or not at all.
    pub tokens: bool,
}

/// The response field that says what was kept back.
const FIELD: &str = "remit-withheld";

impl Withhold {
    /// What a call's answer must not hold, where its grants return no more than `granted`.
    #[must_use]
    pub fn of(intents: &[Intent], head: &Head, body: &Body, granted: Returns) -> Self {
        Self { cookies: !granted.cookies, tokens: !granted.tokens && mints(intents, head, body) }
    }

    /// Whether the body must be read: then upstream is asked for one that can be.
    #[must_use]
    pub fn reads(self) -> bool {
        self.tokens
    }

    /// Takes it out of an answer's fields, and says what is to be done with its body.
    pub(super) fn begin<B>(self, response: &mut Response<B>, has_body: bool) -> (Withheld, Option<Veil>) {
        let mut withheld = Withheld::default();
        let status = response.status();
        let headers = response.headers_mut();
        if self.cookies {
            withheld.cookies = remove_cookies(headers);
        }
        let mut veil = None;
        if self.tokens && (status.is_success() || status.is_redirection()) {
            withheld.tokens = remove_tokens(headers, status);
            if has_body {
                withheld.tokens = true;
                veil = Some(Veil::of(headers));
                if matches!(veil, Some(Veil::Nothing)) {
                    headers.remove(header::CONTENT_LENGTH);
                    headers.remove(header::CONTENT_ENCODING);
                }
            }
        }
        if let Some(what) = withheld.named() {
            headers.insert(FIELD, HeaderValue::from_static(what));
        }
        (withheld, veil)
    }
}

impl Withheld {
    /// What it was, for the agent's author; None where it was nothing.
    #[must_use]
    pub fn named(self) -> Option<&'static str> {
        match (self.cookies > 0, self.tokens) {
            (true, true) => Some("cookies, tokens"),
            (true, false) => Some("cookies"),
            (false, true) => Some("tokens"),
            (false, false) => None,
        }
    }
}

fn remove_cookies(headers: &mut HeaderMap) -> u32 {
    let mut removed = 0;
    for name in ["set-cookie", "set-cookie2"] {
        removed += u32::try_from(headers.get_all(name).iter().count()).unwrap_or(u32::MAX);
        headers.remove(name);
    }
    removed
}

/// Fields in which a minted token comes back, and where a redirect carries one.
fn remove_tokens(headers: &mut HeaderMap, status: StatusCode) -> bool {
    let bears = |name: &header::HeaderName, value: &HeaderValue| {
        is_credential_field(name) || name.as_str() == "x-subject-token" || looks_secret(value.as_bytes())
    };
    let gone: Vec<_> = headers.iter().filter(|(name, value)| bears(name, value)).map(|(name, _)| name.clone()).collect();
    let mut removed = !gone.is_empty();
    for name in gone {
        headers.remove(name);
    }
    // A code, or a token in the fragment (RFC 6749 §4.1.2, §4.2.2).
    let cut = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        let at = bytes.iter().position(|b| matches!(b, b'?' | b'#'))?;
        HeaderValue::from_bytes(bytes.get(..at)?).ok()
    };
    if status.is_redirection()
        && let Some(bare) = headers.get(header::LOCATION).and_then(cut)
    {
        headers.insert(header::LOCATION, bare);
        removed = true;
    }
    removed
}

/// Whether the answer holds what the provider mints: the catalog says so, or it is a token endpoint
/// (RFC 6749 §3.2) by its path or by what it is asked.
fn mints(intents: &[Intent], head: &Head, body: &Body) -> bool {
    intents.iter().any(|i| i.operation.labels.contains(&Label::MintsCredential)) || is_token_endpoint(head, body)
}

fn is_token_endpoint(head: &Head, body: &Body) -> bool {
    if head.method != http::Method::POST {
        return false;
    }
    let last = head.path.raw().rsplit('/').find(|s| !s.is_empty()).unwrap_or_default();
    let named =
        ["token", "access_token", "refresh_token", "request_token", "device_authorization"].iter().any(|n| last.eq_ignore_ascii_case(n));
    named || body.bytes().is_some_and(|b| b.split(|b| *b == b'&').any(|pair| pair.starts_with(b"grant_type=")))
}

/// Whether a value of this name is no credential: what it is called, whose it is, how long it lasts.
/// Names are compared without case, `_` and `-`.
fn is_harmless(name: &[u8]) -> bool {
    let mut plain = [0u8; 24];
    let mut length = 0;
    for byte in name.iter().filter(|b| !matches!(b, b'_' | b'-')) {
        let Some(place) = plain.get_mut(length) else { return false };
        *place = byte.to_ascii_lowercase();
        length += 1;
    }
    plain.get(..length).is_some_and(|plain| HARMLESS.iter().any(|h| h.as_bytes() == plain))
}

/// What is below a member of this name is a credential, whatever it is called there.
fn holds_secrets(name: &[u8]) -> bool {
    [
        &b"data"[..],
        b"stringdata",
        b"secret",
        b"secrets",
        b"credential",
        b"credentials",
        b"client_secret",
        b"token",
        b"tokens",
        b"key",
        b"keys",
    ]
    .iter()
    .any(|n| name.eq_ignore_ascii_case(n))
}

const HARMLESS: [&str; 68] = [
    "accountid",
    "alg",
    "algorithm",
    "apiversion",
    "appid",
    "arn",
    "clientid",
    "country",
    "created",
    "createdat",
    "createdate",
    "creationtimestamp",
    "currency",
    "description",
    "detail",
    "displayname",
    "documentationurl",
    "email",
    "error",
    "errordescription",
    "errors",
    "events",
    "expiration",
    "expirationtimestamp",
    "expires",
    "expiresat",
    "expiresin",
    "expiry",
    "fingerprint",
    "fullname",
    "id",
    "issuedtokentype",
    "keyid",
    "kid",
    "kind",
    "lastusedat",
    "livemode",
    "locale",
    "login",
    "message",
    "method",
    "mode",
    "name",
    "namespace",
    "nodeid",
    "object",
    "ok",
    "path",
    "permissions",
    "reason",
    "region",
    "repositoryselection",
    "requestid",
    "resourceversion",
    "role",
    "roles",
    "scope",
    "scopes",
    "state",
    "status",
    "time",
    "title",
    "tokentype",
    "type",
    "uid",
    "updatedat",
    "username",
    "visibility",
];

#[cfg(test)]
mod tests;
