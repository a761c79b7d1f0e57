use http::{HeaderValue, header, request::Parts};

use crate::{
    call::{Destination, Head, Scheme},
    enforce::accept,
    refusal::Refusal,
};

/// Reads the head of a request for the agent in the one way it can be read, or refuses it. Whatever name
/// it calls the agent by is kept: it is the agent's own.
///
/// # Errors
/// `ambiguous_request`.
pub(super) fn head(parts: Parts, clear: bool, to: Destination) -> Result<Head, Refusal> {
    let Parts { method, uri, version, mut headers, .. } = parts;
    if !clear {
        return Err(accept::ambiguous("the request has a Content-Length beside Transfer-Encoding (RFC 9112 §6.1)"));
    }
    let host = accept::host_field(&headers, version)?;
    let target = uri.authority().map(|a| a.as_str());
    match (target, host) {
        (Some(target), _) if target.contains('@') => return Err(accept::ambiguous("the request target holds a user name")),
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => {
            return Err(accept::ambiguous(format!("the request target is for {target} and Host for {host}")));
        }
        (Some(target), None) => {
            let value = HeaderValue::from_str(target).map_err(|_| accept::ambiguous("the request target is no text"))?;
            headers.insert(header::HOST, value);
        }
        (None, None) => return Err(accept::ambiguous("the request has no Host")),
        (_, Some(_)) => {}
    }
    if let Some(name) = headers.get(header::HOST).and_then(|v| v.to_str().ok()) {
        accept::authority(name, Scheme::Http)?;
    }
    let (path, upgrade) = accept::rest(&method, &uri, &headers, version)?;
    Ok(Head { method, to, path, headers, version, upgrade })
}
