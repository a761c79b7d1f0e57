//! AWS Signature Version 4: the canonical request, the string to sign, the derived key. No I/O, no clock.
//!
//! What is signed is what leaves (law 2): nothing here changes the path, the query or a field, it only
//! writes down how a verifier reads them.

use std::{borrow::Cow, fmt::Write as _};

use http::{HeaderMap, HeaderName, Method};
use percent_encoding::percent_decode;
use ring::{
    digest::{SHA256, digest},
    hmac,
};
use time::OffsetDateTime;

use crate::hex::hex;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// SHA-256 of nothing, in hex.
pub(super) const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// When a request is signed, as `X-Amz-Date` has it: `20150830T123600Z`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Box<str>);

impl Stamp {
    pub(super) fn at(time: OffsetDateTime) -> Self {
        let utc = time.to_offset(time::UtcOffset::UTC);
        let (date, clock) = (utc.date(), utc.time());
        let month = u8::from(date.month());
        let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
        Self(format!("{:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", date.year(), date.day()).into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn day(&self) -> &str {
        self.0.get(..8).unwrap_or("")
    }
}

/// Where a signature holds: one service in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) service: Box<str>,
    pub(super) region: Box<str>,
}

impl Place {
    pub(super) fn new(service: &str, region: &str) -> Self {
        Self { service: service.into(), region: region.into() }
    }

    /// S3 takes a path as it is written in the request; every other service escapes it once more.
    pub(super) fn is_s3(&self) -> bool {
        matches!(&*self.service, "s3" | "s3express" | "s3-outposts" | "s3-object-lambda")
    }
}

/// A key that was derived for one day and place.
pub(super) struct Key {
    key: hmac::Key,
    /// `20150830/us-east-1/iam/aws4_request`
    pub(super) scope: Box<str>,
    stamp: Stamp,
}

impl Key {
    pub(super) fn derive(secret: &str, stamp: Stamp, place: &Place) -> Self {
        let step = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let first = crate::secret::Secret::new(format!("AWS4{secret}"));
        let day = step(first.expose().as_bytes(), stamp.day());
        let region = step(day.as_ref(), &place.region);
        let service = step(region.as_ref(), &place.service);
        let last = step(service.as_ref(), "aws4_request");
        let scope = format!("{}/{}/{}/aws4_request", stamp.day(), place.region, place.service).into();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, last.as_ref()), scope, stamp }
    }

    /// The signature of a request in canonical form.
    pub(super) fn request(&self, canonical: &[u8]) -> String {
        self.sign(&format!("{ALGORITHM}\n{}\n{}\n{}", self.stamp.as_str(), self.scope, sha256(canonical)))
    }

    /// The signature of one chunk of a body, which hangs on the one before it.
    pub(super) fn chunk(&self, before: &str, data: &[u8]) -> String {
        self.sign(&format!("{ALGORITHM}-PAYLOAD\n{}\n{}\n{before}\n{NOTHING}\n{}", self.stamp.as_str(), self.scope, sha256(data)))
    }

    /// The signature of the fields after a body's last chunk, each written `name:value\n`.
    pub(super) fn trailer(&self, before: &str, fields: &[u8]) -> String {
        self.sign(&format!("{ALGORITHM}-TRAILER\n{}\n{}\n{before}\n{}", self.stamp.as_str(), self.scope, sha256(fields)))
    }

    fn sign(&self, text: &str) -> String {
        hex(hmac::sign(&self.key, text.as_bytes()).as_ref())
    }
}

/// The value of `Authorization`.
pub(super) fn authorization(id: &str, key: &Key, signed: &str, signature: &str) -> String {
    format!("{ALGORITHM} Credential={id}/{}, SignedHeaders={signed}, Signature={signature}", key.scope)
}

/// What of a request is signed, and how it is written.
pub(super) struct Canonical<'a> {
    pub(super) method: &'a Method,
    /// As it stands in the request: its escapes are the client's.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) host: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// The body's hash, or the word that stands for it.
    pub(super) payload: &'a str,
}

impl Canonical<'_> {
    /// The canonical request, and the names of the fields in it. `which` says what is signed beside `host`.
    pub(super) fn write(&self, place: &Place, which: impl Fn(&HeaderName) -> bool) -> (Vec<u8>, String) {
        let mut names: Vec<&str> = self.headers.keys().filter(|n| which(n)).map(HeaderName::as_str).collect();
        names.retain(|n| *n != "host");
        names.push("host");
        names.sort_unstable();
        let signed = names.join(";");
        let path =
            if place.is_s3() { escape(&Cow::from(percent_decode(self.path.as_bytes())), true) } else { escape(self.path.as_bytes(), true) };
        let mut out = Vec::with_capacity(512);
        for part in [self.method.as_str(), "\n", &path, "\n", &query(self.query.unwrap_or("")), "\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        for name in names {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            if name == "host" {
                out.extend_from_slice(self.host.as_bytes());
            } else {
                for (n, value) in self.headers.get_all(name).iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    trim_into(value.as_bytes(), &mut out);
                }
            }
            out.push(b'\n');
        }
        for part in ["\n", &signed, "\n", self.payload] {
            out.extend_from_slice(part.as_bytes());
        }
        (out, signed)
    }
}

/// Names and values decoded as Remit reads them (`+` is a space), escaped one way, in order.
fn query(text: &str) -> String {
    let decoded = |part: &str| {
        let spaced = part.replace('+', " ");
        escape(&Cow::from(percent_decode(spaced.as_bytes())), false)
    };
    let mut pairs: Vec<(String, String)> = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect();
    pairs.sort_unstable();
    let mut out = String::with_capacity(text.len() + 8);
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(&name);
        out.push('=');
        out.push_str(&value);
    }
    out
}

/// RFC 3986 §2.3: everything but unreserved characters, and `/` in a path, becomes `%XX`.
pub(super) fn escape(bytes: &[u8], path: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || (path && *byte == b'/') {
            out.push(char::from(*byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A field's value without blanks around it, and runs of them inside it as one.
fn trim_into(value: &[u8], out: &mut Vec<u8>) {
    let mut blank = false;
    for byte in value.trim_ascii() {
        if matches!(byte, b' ' | b'\t') {
            blank = true;
            continue;
        }
        if std::mem::take(&mut blank) {
            out.push(b' ');
        }
        out.push(*byte);
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests;
