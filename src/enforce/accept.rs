use http::{HeaderMap, Method, Uri, Version, header, request::Parts, uri::PathAndQuery};

use crate::{
    call::{Destination, Head, Host, Path, Scheme},
    listen::{Door, Inside},
    refusal::{Reason, Refusal},
};

/// Reads a request's head in the one way it can be read, or refuses it (law 2).
///
/// # Errors
/// `ambiguous_request`, `misdirected`.
pub(super) fn head(door: &Door, parts: Parts, clear: bool) -> Result<Head, Box<(Option<Destination>, Refusal)>> {
    let Parts { method, uri, version, headers, .. } = parts;
    if !clear {
        return Err(Box::new((None, ambiguous("the request has a Content-Length beside Transfer-Encoding (RFC 9112 §6.1)"))));
    }
    let to = destination(door, &uri, &headers, version).map_err(|refusal| Box::new((door.inside.as_ref().map(known), refusal)))?;
    let rest = rest(&method, &uri, &headers, version);
    match rest {
        Ok((path, upgrade)) => Ok(Head { method, to, path, headers, version, upgrade }),
        Err(refusal) => Err(Box::new((Some(to), refusal))),
    }
}

fn known(inside: &Inside) -> Destination {
    Destination { scheme: inside.scheme, host: inside.host.clone(), port: inside.port }
}

pub(super) fn rest(method: &Method, uri: &Uri, headers: &HeaderMap, version: Version) -> Result<(Path, Option<Box<str>>), Refusal> {
    if *method == Method::CONNECT {
        return Err(ambiguous("a CONNECT inside a connection that was opened by CONNECT"));
    }
    refuse_codings(headers)?;
    let whole = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let path = Path::parse(whole).map_err(|error| ambiguous(error.to_string()))?;
    Ok((path, upgrade(headers, version)?))
}

/// A body coded twice is another body to whoever undoes one coding, and hyper undoes only `chunked`
/// (RFC 9112 §7.1).
fn refuse_codings(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut fields = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = fields.next() else { return Ok(()) };
    if first.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && fields.next().is_none() {
        return Ok(());
    }
    Err(ambiguous("the request has a Transfer-Encoding other than `chunked`, once"))
}

/// Where the request goes: target, `Host` and connection must say the same.
fn destination(door: &Door, uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Destination, Refusal> {
    let host = host_field(headers, version)?;
    let target = uri.authority().map(|a| a.as_str());
    if target.is_some_and(|t| t.contains('@')) {
        return Err(ambiguous("the request target holds a user name"));
    }
    let Some(inside) = &door.inside else { return outside(uri, target, host) };
    let place = match (target, host) {
        // One may say the port that the other leaves out.
        (Some(target), Some(host))
            if !target.eq_ignore_ascii_case(host) && authority(target, inside.scheme)? != authority(host, inside.scheme)? =>
        {
            return Err(misdirected(format!("the request is for {target} and its Host is {host}")));
        }
        (Some(place), _) | (None, Some(place)) => place,
        (None, None) => return Err(ambiguous("the request has no Host")),
    };
    if target.is_some() && uri.scheme_str().is_some_and(|s| s != inside.scheme.as_str()) {
        return Err(misdirected(format!("the request is for {uri} on a connection of {}", inside.scheme.as_str())));
    }
    let (host, port) = authority(place, inside.scheme)?;
    if host != inside.host || port != inside.port {
        return Err(misdirected(format!("the request is for {host}:{port} and the connection for {}:{}", inside.host, inside.port)));
    }
    if let Some(sni) = &inside.sni
        && *sni != host
    {
        return Err(misdirected(format!("the request is for {host} and TLS was for {sni}")));
    }
    Ok(Destination { scheme: inside.scheme, host, port })
}

/// The absolute form, as a proxy gets it (RFC 9112 §3.2.2).
fn outside(uri: &Uri, target: Option<&str>, host: Option<&str>) -> Result<Destination, Refusal> {
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(misdirected("this is a proxy: ask it for http://HOST/PATH, or CONNECT HOST:PORT".into())),
    };
    let place = target.ok_or_else(|| ambiguous("the request target has no host"))?;
    let (name, port) = authority(place, scheme)?;
    if let Some(host) = host
        && authority(host, scheme)? != (name.clone(), port)
    {
        return Err(ambiguous(format!("the request target is for {place} and Host for {host}")));
    }
    Ok(Destination { scheme, host: name, port })
}

/// The one `Host` (RFC 9112 §3.2).
pub(super) fn host_field(headers: &HeaderMap, version: Version) -> Result<Option<&str>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(ambiguous("the request has two Host fields"));
    }
    match first {
        Some(value) => value.to_str().map(Some).map_err(|_| ambiguous("the Host field is not text")),
        None if version == Version::HTTP_11 => Err(ambiguous("the request has no Host field")),
        None => Ok(None),
    }
}

/// `host[:port]`, the port implied by the scheme when it is missing.
pub(super) fn authority(text: &str, scheme: Scheme) -> Result<(Host, u16), Refusal> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok()).flatten().filter(|p| *p != 0);
            (host, port.ok_or_else(|| ambiguous(format!("{text:?} has no valid port")))?)
        }
        _ => (text, scheme.default_port()),
    };
    let host = Host::parse(host).map_err(|error| ambiguous(format!("{host:?} is no host: {error}")))?;
    Ok((host, port))
}

/// The protocol an `Upgrade` asks for. `h2c` is passed over: whoever offers it takes HTTP/1.1 too.
fn upgrade(headers: &HeaderMap, version: Version) -> Result<Option<Box<str>>, Refusal> {
    let mut fields = headers.get_all(header::UPGRADE).iter();
    let Some(first) = fields.next() else { return Ok(None) };
    if version != Version::HTTP_11 {
        return Err(ambiguous("an Upgrade outside HTTP/1.1"));
    }
    let protocol = first.to_str().unwrap_or("?").trim().to_ascii_lowercase();
    if protocol == "h2c" {
        return Ok(None);
    }
    if fields.next().is_some() || protocol.contains(',') {
        return Err(ambiguous("the request offers several protocols to upgrade to"));
    }
    Ok(Some(protocol.into()))
}

pub(super) fn ambiguous(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Reason::AmbiguousRequest, detail)
}

fn misdirected(detail: String) -> Refusal {
    Refusal::new(Reason::Misdirected, detail)
}
