//! A request from words on the command line, checked as the listener checks one from the wire.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{HOST, UPGRADE},
};

use crate::{
    call::{Destination, Head, Host, Path, Scheme},
    refusal::{Reason, Refusal},
};

/// Why words are not a request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// Not even the shape of a request: the user's mistake.
    #[error("{0}")]
    Usage(String),
    /// A request that Remit would refuse before asking what it means.
    #[error("{}: {}", .0.reason, .0.detail)]
    Refused(Refusal),
}

/// Makes the head that a listener would make of this request.
///
/// # Errors
/// [`RequestError::Usage`] for what is no request, [`RequestError::Refused`] for one with two readings.
pub fn head<'h>(method: &str, url: &str, headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Result<Head, RequestError> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| usage(format!("`{method}` is not a method")))?;
    let headers = fields(headers)?;
    // What a client does before it sends: a fragment never leaves it.
    let url = url.split('#').next().unwrap_or(url);
    let uri: Uri = url.parse().map_err(|e| usage(format!("`{url}` is not a URL: {e}")))?;
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(usage(format!("`{url}` does not start with https:// or http://"))),
    };
    let authority = uri.authority().ok_or_else(|| usage(format!("`{url}` names no host")))?;
    if authority.as_str().contains('@') {
        return Err(ambiguous("the URL holds a user name: it could be read as another host"));
    }
    let host = Host::parse(authority.host()).map_err(|e| ambiguous(&e.to_string()))?;
    let port = port(authority.as_str(), authority.host(), scheme)?;
    let whole = uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    let path = Path::parse(whole).map_err(|e| ambiguous(&e.to_string()))?;
    let to = Destination { scheme, host, port };
    check_host(&headers, &to)?;
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok()).map(|v| v.to_ascii_lowercase().into());
    Ok(Head { method, to, path, headers, version: Version::HTTP_11, upgrade })
}

/// `Name: value`, as curl's `-H` takes it.
///
/// # Errors
/// When there is no colon.
pub fn header(text: &str) -> Result<(&str, &str), RequestError> {
    text.split_once(':').map(|(n, v)| (n.trim(), v.trim())).ok_or_else(|| usage(format!("`{text}` is not `Name: value`")))
}

/// The port after the host; none, or an empty one, is the scheme's.
fn port(authority: &str, host: &str, scheme: Scheme) -> Result<u16, RequestError> {
    match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
        None | Some("") => Ok(scheme.default_port()),
        Some(digits) => digits.parse().map_err(|_| usage(format!("`{digits}` is not a port"))),
    }
}

fn fields<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Result<HeaderMap, RequestError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| usage(format!("`{name}` is not a header name")))?;
        let value = HeaderValue::from_str(value).map_err(|_| usage(format!("the value of `{name}` cannot stand in a header")))?;
        map.append(name, value);
    }
    Ok(map)
}

/// A `Host` of its own must be the URL's (law 2).
fn check_host(headers: &HeaderMap, to: &Destination) -> Result<(), RequestError> {
    let mut all = headers.get_all(HOST).iter();
    let Some(value) = all.next() else { return Ok(()) };
    if all.next().is_some() {
        return Err(ambiguous("the request has two Host fields"));
    }
    let text = value.to_str().unwrap_or("");
    let named = text.parse::<http::uri::Authority>().ok();
    let same = named.is_some_and(|a| {
        Host::parse(a.host()).is_ok_and(|h| h == to.host) && a.port_u16().unwrap_or_else(|| to.scheme.default_port()) == to.port
    });
    if same {
        return Ok(());
    }
    let detail = format!("the Host field names {text:?}, the URL {}", to.authority());
    Err(RequestError::Refused(Refusal::new(Reason::Misdirected, detail)))
}

fn usage(message: String) -> RequestError {
    RequestError::Usage(message)
}

fn ambiguous(detail: &str) -> RequestError {
    RequestError::Refused(Refusal::new(Reason::AmbiguousRequest, detail.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_made_of_words() {
        let head = head("POST", "https://API.github.com:443/a?b=c#d", [("X-A", "1")]).unwrap();
        assert_eq!((head.to.to_string().as_str(), head.path.whole().as_str()), ("https://api.github.com", "/a?b=c"));
        assert_eq!(head.headers.len(), 1);
    }

    #[test]
    fn two_readings_are_refused_and_mistakes_named() {
        let of = |url| head("GET", url, []).unwrap_err();
        for url in ["https://a@b.example/", "https://a.example/x/../y", "https://127.1/"] {
            assert!(matches!(of(url), RequestError::Refused(r) if r.reason == Reason::AmbiguousRequest), "{url}");
        }
        for url in ["/x", "ftp://a.example/", "https://a b/", "https://a.example:99999/"] {
            assert!(matches!(of(url), RequestError::Usage(_)), "{url}");
        }
        let other = head("GET", "https://a.example/", [("Host", "b.example")]).unwrap_err();
        assert!(matches!(other, RequestError::Refused(r) if r.reason == Reason::Misdirected));
    }
}
