use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use time::OffsetDateTime;

use crate::{
    credential::{Scope, Scrubber},
    secret::Secret,
    tls::ClientCertificate,
};

use super::{Path, SignRequest};

/// How a lease becomes part of a request.
#[derive(Debug, Clone)]
pub enum Inject {
    /// A field that replaces every field of its name. The value is marked sensitive.
    Header(HeaderName, HeaderValue),
    /// A query parameter, appended percent-encoded; the agent's own of that name are dropped.
    Query(Box<str>, Secret<Box<str>>),
    /// Nothing stands in the request: Remit shows it in the handshake.
    Certificate(Arc<ClientCertificate>),
    /// The request is signed: what the agent signed it with is out, and the signature is over what leaves.
    Sign(Arc<dyn SignRequest>),
    /// Nothing is injected: the agent's own login passes (credential kind `own`).
    Own,
}

/// A short-lived credential issued for a task, for exactly one set of hosts.
#[derive(Debug, Clone)]
pub struct Lease {
    pub name: Arc<str>,
    pub kind: &'static str,
    /// First 16 hex digits of SHA-256 of the value, or of the certificate: names it in the audit without showing it.
    pub fingerprint: Arc<str>,
    pub expires: Option<OffsetDateTime>,
    /// What was asked of its issuer; None for a kind that is asked nothing.
    pub scope: Option<Scope>,
    /// Whether its issuer can be told to accept it no more.
    pub revocable: bool,
    pub inject: Inject,
    /// Takes the value out of the answer. None when nothing is injected.
    pub scrubber: Option<Arc<Scrubber>>,
}

/// RFC 3986 §2.3: what never needs an escape.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Inject {
    /// Puts the credential into the request that leaves. Returns the path to send instead, when
    /// the credential is a query parameter.
    ///
    /// # Errors
    /// When the path with its new query is not one (never for a checked path).
    pub fn apply(&self, headers: &mut HeaderMap, path: &Path) -> Result<Option<Path>, http::uri::InvalidUri> {
        match self {
            Self::Header(name, value) => {
                headers.insert(name.clone(), value.clone());
                Ok(None)
            }
            Self::Query(name, value) => path.with_query(&query_with(path.query(), name, value.expose())).map(Some),
            // Signed when all else that leaves is known.
            Self::Sign(_) | Self::Certificate(_) | Self::Own => Ok(None),
        }
    }
}

/// The agent's query without parameters called `name`, and then that parameter.
fn query_with(query: Option<&str>, name: &str, value: &str) -> String {
    let mut out = String::with_capacity(query.map_or(0, str::len) + name.len() + value.len() + 2);
    for pair in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
        let key = pair.split('=').next().unwrap_or(pair);
        if percent_decode_str(key).decode_utf8_lossy().eq_ignore_ascii_case(name) {
            continue;
        }
        out.push_str(pair);
        out.push('&');
    }
    out.extend(utf8_percent_encode(name, QUERY));
    out.push('=');
    out.extend(utf8_percent_encode(value, QUERY));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_header_replaces_every_field_of_its_name() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", "Bearer mine".parse().unwrap());
        headers.append("authorization", "Bearer other".parse().unwrap());
        let inject = Inject::Header(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer remit"));
        assert!(inject.apply(&mut headers, &path("/a")).unwrap().is_none());
        assert_eq!(headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer remit"]);
    }

    #[test]
    fn a_query_parameter_replaces_the_agents_own_however_it_is_spelt() {
        let inject = Inject::Query("key".into(), Secret::new("a b&c".into()));
        for (from, want) in [
            ("/p", "/p?key=a%20b%26c"),
            ("/p?x=1&key=mine&y=2", "/p?x=1&y=2&key=a%20b%26c"),
            ("/p?%6Bey=mine&KEY=other", "/p?key=a%20b%26c"),
            ("/p?keys=1", "/p?keys=1&key=a%20b%26c"),
        ] {
            let got = inject.apply(&mut HeaderMap::new(), &path(from)).unwrap().unwrap();
            assert_eq!(got.whole().as_str(), want);
        }
    }
}
