use http::{HeaderMap, HeaderName, HeaderValue, header};
use time::{Duration, OffsetDateTime};

use super::{
    chunks::Chunks,
    place,
    presigned::is_presigned,
    sigv4::{Canonical, Key, NOTHING, Place, Stamp, authorization},
};
use crate::{
    call::{Destination, Leaving, Rewrite, SignRequest, Unsigned},
    hex::hex,
    secret::Secret,
};

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const REGIONS: HeaderName = HeaderName::from_static("x-amz-region-set");
const DECODED: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What AWS knows a caller by.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) id: Secret<String>,
    pub(super) secret: Secret<String>,
    /// Of a session.
    pub(super) token: Option<Secret<String>>,
}

/// Signs requests with one set of keys.
#[derive(Debug)]
pub(super) struct Signer {
    keys: Keys,
    /// Where the config says it, because the host does not.
    service: Option<Box<str>>,
    region: Option<Box<str>>,
    /// How far the issuer's clock is ahead of ours.
    ahead: Duration,
}

/// What stands for the body in what is signed.
#[derive(Debug, PartialEq, Eq)]
enum Payload {
    /// Its hash, or a word that says it is not signed.
    Is(String),
    /// Its chunks are signed; with fields after them, or not.
    Chunks { word: &'static str, trailers: bool },
}

impl Signer {
    pub(super) fn new(keys: Keys, service: Option<Box<str>>, region: Option<Box<str>>) -> Self {
        Self { keys, service, region, ahead: Duration::ZERO }
    }

    /// As the clock of the issuer of its keys has it.
    pub(super) fn by_the_clock(mut self, ahead: Duration) -> Self {
        self.ahead = ahead;
        self
    }

    /// For which service and region a request to `to` is signed.
    fn place(&self, to: &Destination) -> Result<Place, Unsigned> {
        let said = place::said_by(&to.host);
        let of_host = said.as_ref().map(|s| &*s.service);
        let region_of_host = said.as_ref().and_then(|s| s.region.as_deref());
        let lacks = |what: &str| {
            Unsigned::Credential(format!("{} does not say which {what} a signature is for; write `{what}` in the credential", to.host))
        };
        let service = self.service.as_deref().or(of_host).ok_or_else(|| lacks("service"))?;
        let region = self.region.as_deref().or(region_of_host).ok_or_else(|| lacks("region"))?;
        Ok(Place::new(service, region))
    }

    pub(super) fn sign_at(&self, leaving: Leaving<'_>, now: OffsetDateTime) -> Result<Option<Box<dyn Rewrite>>, Unsigned> {
        let Leaving { method, to, path, headers, body } = leaving;
        if path.query().is_some_and(is_presigned) {
            return Err(Unsigned::Request("the request is signed in its query: sign it in `Authorization`, or not at all"));
        }
        let place = self.place(to)?;
        let payload = payload(headers, &place, body)?;
        let stamp = Stamp::at(now + self.ahead);
        headers.remove(header::AUTHORIZATION);
        headers.remove(REGIONS);
        headers.insert(DATE, value(stamp.as_str())?);
        match &self.keys.token {
            Some(token) => headers.insert(TOKEN, sensitive(token.expose())?),
            None => headers.remove(TOKEN),
        };
        let word = match &payload {
            Payload::Is(word) => word.as_str(),
            Payload::Chunks { word, .. } => word,
        };
        // S3 reads the hash here; others take it from what is signed, or do not know the field.
        if place.is_s3() || headers.contains_key(CONTENT) || word == UNSIGNED {
            headers.insert(CONTENT, value(word)?);
        }
        let host = to.authority();
        let canonical = Canonical { method, path: path.raw(), query: path.query(), host: &host, headers, payload: word };
        let (text, signed) = canonical.write(&place, is_signed);
        let key = Key::derive(self.keys.secret.expose(), stamp, &place);
        let signature = key.request(&text);
        headers.insert(header::AUTHORIZATION, sensitive(&authorization(self.keys.id.expose(), &key, &signed, &signature))?);
        Ok(match payload {
            Payload::Is(_) => None,
            Payload::Chunks { trailers, .. } => Some(Box::new(Chunks::new(key, &signature, trailers))),
        })
    }
}

impl SignRequest for Signer {
    fn sign(&self, leaving: Leaving<'_>) -> Result<Option<Box<dyn Rewrite>>, Unsigned> {
        self.sign_at(leaving, OffsetDateTime::now_utc())
    }

    fn needs_body(&self, to: &Destination, headers: &HeaderMap) -> bool {
        // What cannot be signed is refused later, and says why.
        let Ok(place) = self.place(to) else { return false };
        !place.is_s3() && !headers.get(CONTENT).is_some_and(|v| is_hash(v) || v.as_bytes() == UNSIGNED.as_bytes())
    }
}

/// The body's own hash where it is at hand; else the hash or word that the agent sent, which decides how
/// the service reads the body and so must stay; else, for S3 alone, that it is not signed.
fn payload(headers: &HeaderMap, place: &Place, body: Option<[u8; 32]>) -> Result<Payload, Unsigned> {
    let mut said = headers.get_all(CONTENT).iter();
    let (first, second) = (said.next(), said.next());
    if second.is_some() {
        return Err(Unsigned::Request("`X-Amz-Content-Sha256` stands twice"));
    }
    let word = first.map(HeaderValue::as_bytes).unwrap_or_default();
    if word.starts_with(b"STREAMING-") {
        return streaming(word, headers, place);
    }
    if is_chunked(headers) {
        return Err(Unsigned::Request("the body is `aws-chunked`, and `X-Amz-Content-Sha256` does not say how its chunks are signed"));
    }
    match (body, first) {
        (Some(hash), _) => Ok(Payload::Is(hex(&hash))),
        (None, Some(said)) if is_hash(said) => Ok(Payload::Is(String::from_utf8_lossy(said.as_bytes()).to_ascii_lowercase())),
        (None, _) if word == UNSIGNED.as_bytes() || (word.is_empty() && place.is_s3()) => Ok(Payload::Is(UNSIGNED.to_owned())),
        (None, None) => Err(Unsigned::Request("the body streams, and this service wants its hash: send `X-Amz-Content-Sha256`")),
        (None, Some(_)) => Err(NO_PAYLOAD),
    }
}

fn streaming(word: &[u8], headers: &HeaderMap, place: &Place) -> Result<Payload, Unsigned> {
    let known = match word {
        b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Payload::Is("STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned()),
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Payload::Chunks { word: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", trailers: false },
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            Payload::Chunks { word: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", trailers: true }
        }
        _ => return Err(NO_PAYLOAD),
    };
    if !place.is_s3() {
        return Err(Unsigned::Request("only S3 takes a body whose chunks are signed one by one"));
    }
    if !headers.contains_key(DECODED) {
        return Err(Unsigned::Request("`X-Amz-Decoded-Content-Length` is missing, without which a body of signed chunks has no length"));
    }
    Ok(known)
}

const NO_PAYLOAD: Unsigned = Unsigned::Request(
    "`X-Amz-Content-Sha256` is neither a hash, nor a form that can be signed anew: event streams and SigV4A (STREAMING-AWS4-ECDSA) are not",
);

fn is_chunked(headers: &HeaderMap) -> bool {
    let named = |v: &HeaderValue| v.to_str().is_ok_and(|v| v.split(',').any(|c| c.trim().eq_ignore_ascii_case("aws-chunked")));
    headers.get_all(header::CONTENT_ENCODING).iter().any(named)
}

fn is_hash(value: &HeaderValue) -> bool {
    value.len() == NOTHING.len() && value.as_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// All that the service acts on and Remit leaves as it is. What another hop may change is not signed.
fn is_signed(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "content-md5") || name.as_str().starts_with("x-amz-")
}

fn value(text: &str) -> Result<HeaderValue, Unsigned> {
    HeaderValue::from_str(text).map_err(|_| Unsigned::Credential("its keys hold characters that no header can carry".to_owned()))
}

fn sensitive(text: &str) -> Result<HeaderValue, Unsigned> {
    let mut value = value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
