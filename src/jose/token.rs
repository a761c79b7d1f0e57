use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};
use zeroize::Zeroize;

use super::{Algorithm, Claims, Fault, Keys, LONGEST, chain, json, quoted};

/// More certificates in an `x5c` than any chain has.
const MOST_CERTIFICATES: usize = 8;

/// A token that was read and not yet believed.
pub struct Token {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    typ: Option<Box<str>>,
    x5c: Vec<CertificateDer<'static>>,
    /// What was signed: the first two parts, as they came.
    signed: Box<[u8]>,
    signature: Box<[u8]>,
    claims: Map<String, Value>,
}

/// A token whose signature verified, and by which algorithm. Its times, issuer and audience are
/// still to be checked: see [`Claims`].
#[derive(Debug)]
pub struct Verified {
    pub algorithm: Algorithm,
    pub claims: Claims,
    /// The certificates that were trusted, leaf first; empty when a key of a set verified it.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Token {
    /// Reads a token in compact form (RFC 7515 §7.1). Nothing of it is believed yet.
    ///
    /// # Errors
    /// Whatever keeps it from having one reading, or asks for what is not done here (`crit`,
    /// encryption, an algorithm that is none of [`Algorithm`]).
    pub fn read(text: &[u8]) -> Result<Self, Fault> {
        if text.len() > LONGEST {
            return Err(Fault::TooLong);
        }
        let mut parts = text.split(|b| *b == b'.');
        let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(Fault::Malformed("it does not have three parts"));
        };
        let (header_text, payload_text) = (header, payload);
        let header = json::object(&decoded(header)?)?;
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Fault::Critical);
        }
        let algorithm = text_of(&header, "alg")?.ok_or(Fault::Claim("alg"))?;
        let algorithm = Algorithm::named(algorithm).ok_or_else(|| Fault::Algorithm(quoted(algorithm)))?;
        let signature = decoded(signature)?.into_boxed_slice();
        if signature.is_empty() {
            return Err(Fault::Malformed("it has no signature"));
        }
        let mut payload = decoded(payload)?;
        let claims = json::object(&payload);
        payload.zeroize();
        let signed = text.get(..header_text.len() + 1 + payload_text.len()).unwrap_or_default();
        Ok(Self {
            algorithm,
            kid: text_of(&header, "kid")?.map(Into::into),
            typ: text_of(&header, "typ")?.map(Into::into),
            x5c: certificates(&header)?,
            signed: signed.into(),
            signature,
            claims: claims?,
        })
    }

    /// Who it says issued it: only to choose whose keys may verify it.
    #[must_use]
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Whom it says it is about: only to choose whose keys may verify it.
    #[must_use]
    pub fn claimed_subject(&self) -> Option<&str> {
        self.claims.get("sub").and_then(Value::as_str)
    }

    /// Whether it says it is of this type: only to choose how it is checked.
    #[must_use]
    pub fn claims_type(&self, typ: &str) -> bool {
        self.typ.as_deref().is_some_and(|t| same_type(t, typ))
    }

    #[must_use]
    pub fn has_chain(&self) -> bool {
        !self.x5c.is_empty()
    }

    /// Whether its type is one of these. A type may be written with `application/` before it
    /// (RFC 7515 §4.1.9). `absent` says whether it may be missing: some issuers give none.
    ///
    /// # Errors
    /// [`Fault::Type`].
    pub fn check_type(&self, accepted: &[&str], absent: bool) -> Result<(), Fault> {
        match self.typ.as_deref() {
            None if absent => Ok(()),
            None => Err(Fault::Type(String::new())),
            Some(typ) if accepted.iter().any(|a| same_type(typ, a)) => Ok(()),
            Some(typ) => Err(Fault::Type(quoted(typ))),
        }
    }

    /// Verifies it with a key of `keys`, by an algorithm of `accepted`.
    ///
    /// # Errors
    /// An algorithm that is not accepted; no key, or one that does not fit; the signature.
    pub fn verify(self, keys: &Keys, accepted: &[Algorithm]) -> Result<Verified, Fault> {
        self.accepted(accepted)?;
        let key = keys.find(self.kid.as_deref(), self.algorithm)?;
        key.verify(self.algorithm, &self.signed, &self.signature)?;
        Ok(Verified { algorithm: self.algorithm, claims: Claims::new(self.claims), chain: Vec::new() })
    }

    /// Verifies it with the key of its own leaf certificate (`x5c`, RFC 7515 §4.1.6), once `trust` has
    /// verified that chain, leaf first.
    ///
    /// # Errors
    /// An algorithm that is not accepted; no chain; what `trust` says; a key that does not fit;
    /// the signature.
    pub fn verify_by_chain(
        self,
        accepted: &[Algorithm],
        trust: impl FnOnce(&[CertificateDer<'static>]) -> Result<(), String>,
    ) -> Result<Verified, Fault> {
        self.accepted(accepted)?;
        let leaf = self.x5c.first().ok_or_else(|| Fault::Chain("it carries none".to_owned()))?;
        trust(&self.x5c).map_err(|why| Fault::Chain(quoted(&why)))?;
        chain::key_of(leaf)?.verify(self.algorithm, &self.signed, &self.signature)?;
        Ok(Verified { algorithm: self.algorithm, claims: Claims::new(self.claims), chain: self.x5c })
    }

    /// Its claims as they stand, where another verifies it as a whole: nothing here has.
    pub(crate) fn unverified(self) -> Claims {
        Claims::new(self.claims)
    }

    fn accepted(&self, accepted: &[Algorithm]) -> Result<(), Fault> {
        if accepted.contains(&self.algorithm) { Ok(()) } else { Err(Fault::Algorithm(self.algorithm.to_string())) }
    }
}

/// Shows nothing that could be presented again.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn same_type(written: &str, wanted: &str) -> bool {
    let bare = match written.get(..12) {
        Some(prefix) if prefix.eq_ignore_ascii_case("application/") => written.get(12..).unwrap_or_default(),
        _ => written,
    };
    bare.eq_ignore_ascii_case(wanted)
}

/// base64url without padding and with no stray bits (RFC 7515 §2).
fn decoded(part: &[u8]) -> Result<Vec<u8>, Fault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Malformed("a part is not base64url without padding"))
}

fn text_of<'a>(header: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, Fault> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::Claim(name)),
    }
}

/// `x5c` is base64 with padding, not base64url (RFC 7515 §4.1.6).
fn certificates(header: &Map<String, Value>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let Some(value) = header.get("x5c") else { return Ok(Vec::new()) };
    let list = value.as_array().filter(|l| !l.is_empty() && l.len() <= MOST_CERTIFICATES).ok_or(Fault::Claim("x5c"))?;
    list.iter()
        .map(|item| {
            let text = item.as_str().ok_or(Fault::Claim("x5c"))?;
            let der = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| Fault::Claim("x5c"))?;
            Ok(CertificateDer::from(der))
        })
        .collect()
}
