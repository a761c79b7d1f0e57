use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{self, CONNECTION, COOKIE, HOST, TE, UPGRADE},
    uri::{Authority, Parts, Scheme as UriScheme},
};
use smallvec::SmallVec;

use crate::{
    call::{Head, Inject, Lease, Leaving, Permit, Scheme, Unsigned, is_credential_field},
    refusal::{Reason, Refusal},
};

use super::{body::Outbound, pool::Site};

/// How the request will be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form<'a> {
    H1,
    /// Absolute form, for a proxy that takes plain HTTP, with its authorization.
    H1ViaProxy(Option<&'a str>),
    /// With the protocol to switch to.
    H1Upgrade(&'a str),
    H2,
}

/// The request that was judged, rebuilt from its parsed form: what is between agent and Remit only
/// is taken out, the agent's own credentials too unless the permit passes them, and the lease is
/// put in. `prepare` sees the fields of a request whose answer is searched. `shape` then
/// fits it to a connection. `hash` is the body's SHA-256, None where it streams.
pub(super) fn canonical(
    head: Head,
    mut body: Outbound,
    hash: Option<[u8; 32]>,
    permit: &Permit,
    lease: Option<&Lease>,
    prepare: Option<fn(&mut HeaderMap)>,
) -> Result<Request<Outbound>, Refusal> {
    let Head { method, to, mut path, mut headers, .. } = head;
    let keep_own = permit.passes_own_login();
    strip(&mut headers, |name| !keep_own && is_credential_field(name));
    if let Some(lease) = lease {
        let injected = lease.inject.apply(&mut headers, &path);
        let injected = injected.map_err(|_| Refusal::new(Reason::CredentialUnavailable, "the query credential cannot stand in a query"))?;
        path = injected.unwrap_or(path);
    }
    if let Some(prepare) = prepare {
        prepare(&mut headers);
    }
    if let Some(Inject::Sign(signer)) = lease.map(|lease| &lease.inject) {
        // Last: what is signed is what leaves.
        let leaving = Leaving { method: &method, to: &to, path: &path, headers: &mut headers, body: hash };
        if let Some(rewrite) = signer.sign(leaving).map_err(unsigned)? {
            body = body.rewritten(rewrite).map_err(unsigned)?;
        }
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path.whole().clone());
    *request.headers_mut() = headers;
    Ok(request)
}

pub(super) fn unsigned(unsigned: Unsigned) -> Refusal {
    match unsigned {
        Unsigned::Request(why) => Refusal::new(Reason::AmbiguousRequest, why),
        Unsigned::Credential(why) => Refusal::new(Reason::CredentialUnavailable, why),
    }
}

/// The name by which the agent behind Remit was called, which it is told: it is its own.
#[derive(Debug, Clone)]
pub(super) struct CalledBy(pub(super) HeaderValue);

/// Writes the request as the connection speaks it. Can be done again for another connection.
pub(super) fn shape(request: &mut Request<Outbound>, site: &Site, form: Form<'_>) -> Result<(), http::Error> {
    let called = request.extensions().get::<CalledBy>().map(|c| c.0.clone());
    let mut uri = Parts::default();
    uri.path_and_query = request.uri().path_and_query().cloned();
    if form == Form::H2 || matches!(form, Form::H1ViaProxy(_)) {
        let called = called.as_ref().and_then(|c| Authority::try_from(c.as_bytes()).ok());
        uri.scheme = Some(if site.to.scheme == Scheme::Https { UriScheme::HTTPS } else { UriScheme::HTTP });
        uri.authority = Some(called.unwrap_or_else(|| site.authority.clone()));
    }
    *request.uri_mut() = Uri::from_parts(uri)?;
    let headers = request.headers_mut();
    headers.remove(header::PROXY_AUTHORIZATION);
    if form == Form::H2 {
        headers.remove(HOST);
    } else {
        headers.insert(HOST, called.unwrap_or_else(|| site.host.clone()));
        join_cookies(headers);
    }
    match form {
        Form::H1Upgrade(protocol) => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_str(protocol)?);
        }
        Form::H1ViaProxy(Some(authorization)) => {
            let mut value = HeaderValue::from_str(authorization)?;
            value.set_sensitive(true);
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
        Form::H1 | Form::H1ViaProxy(None) | Form::H2 => {}
    }
    *request.version_mut() = if form == Form::H2 { Version::HTTP_2 } else { Version::HTTP_11 };
    Ok(())
}

/// Removes the hop-by-hop fields (RFC 9110 §7.6.1), what is Remit's own, and what `also` names.
pub(super) fn strip(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let mut gone: SmallVec<[HeaderName; 4]> = SmallVec::new();
    let (mut connection, mut trailers) = (false, false);
    for (name, value) in &*headers {
        if is_hop(name) || also(name) {
            connection |= *name == CONNECTION;
            trailers |= *name == TE && lists(value, "trailers");
            if gone.last() != Some(name) {
                gone.push(name.clone());
            }
        }
    }
    if connection {
        for value in headers.get_all(CONNECTION) {
            let named = value.to_str().unwrap_or("").split(',').filter_map(|n| HeaderName::from_bytes(n.trim().as_bytes()).ok());
            gone.extend(named.filter(may_be_named));
        }
    }
    for name in gone {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn lists(value: &HeaderValue, token: &str) -> bool {
    value.to_str().unwrap_or("").split(',').any(|t| t.trim().eq_ignore_ascii_case(token))
}

/// By the length first: few fields have one in common with those that are sought.
fn is_hop(name: &HeaderName) -> bool {
    let text = name.as_str();
    let named = match text.len() {
        2 => text == "te",
        4 => text == "host",
        6 => text == "expect",
        7 => text == "upgrade",
        10 => matches!(text, "connection" | "keep-alive"),
        14 => text == "http2-settings",
        16 => text == "proxy-connection",
        17 => text == "transfer-encoding",
        _ => false,
    };
    named || text.starts_with("remit-") || text.starts_with("proxy-auth")
}

/// `Connection` may name any field of its hop, but not those that say where a message ends.
fn may_be_named(name: &HeaderName) -> bool {
    *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE && *name != header::AUTHORIZATION
}

/// HTTP/2 may split `Cookie`; HTTP/1.1 wants one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(mut value) = HeaderValue::from_bytes(&joined) {
        value.set_sensitive(true);
        headers.insert(COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_belongs_to_the_hop_does_not_leave() {
        let mut headers = map(&[
            ("connection", "close, x-hop, content-length"),
            ("x-hop", "1"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("proxy-authorization", "Basic x"),
            ("remit-task", "handle"),
            ("host", "evil.example"),
            ("accept", "*/*"),
            ("x-api-key", "k"),
        ]);
        strip(&mut headers, |n| n == "x-api-key");
        let mut left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["accept: */*", "content-length: 3", "te: trailers"]);
    }

    #[test]
    fn cookies_are_one_field_in_h1() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get(COOKIE).unwrap(), "a=1; b=2");
    }
}
