//! The one door to signed tokens: JWS in compact form, JWT and JWK sets (RFC 7515, 7517, 7519),
//! read as RFC 8725 wants.
//!
//! What a token says of itself never decides how it is checked. The algorithm must be on the
//! caller's list; the key is one the caller holds, found by `kid` and fitted by its own `kty`,
//! `alg` and `use`; a key or an address inside the token (`jwk`, `jku`, `x5u`) is not looked at, and
//! a chain (`x5c`) counts only once the caller's own check has verified it. `none` and the HMACs
//! are no algorithms here, so a public key can never serve as a shared secret. A token in which
//! two readers could see two things (a member twice, padding, trailing text) is refused.
//!
//! It stands on ring alone, which is here already: the libraries of the trade add a PEM and a
//! big-number stack to the build, and read the last of two members of one name.

mod algorithm;
mod chain;
mod claims;
mod json;
mod keys;
mod sign;
mod token;

use std::borrow::Cow;

use crate::shown::shown;

pub use algorithm::Algorithm;
pub use claims::{Claims, Leeway};
pub use keys::{Keys, Use};
pub use sign::SigningKey;
pub use token::{Token, Verified};

/// The longest token that is read.
pub const LONGEST: usize = 16 << 10;

/// Why a token is not believed. Its words may be shown: they hold no part of a signature, and what
/// they quote is short and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the token is longer than {} KiB", LONGEST >> 10)]
    TooLong,
    #[error("the token is not one of three parts in base64url: {0}")]
    Malformed(&'static str),
    #[error("the token's JSON has no single reading: {0}")]
    Json(String),
    #[error("the token's `crit` asks for what is not understood here")]
    Critical,
    #[error("the token is signed with `{0}`, which is not accepted here")]
    Algorithm(String),
    #[error("the token's type is `{0}`, which is not accepted here")]
    Type(String),
    /// A key may have been added since the set was read: the one fault that a new set can mend.
    #[error("no key is known for the token's `kid` `{0}`")]
    UnknownKey(String),
    #[error("the token's key does not fit: {0}")]
    Unfit(String),
    #[error("the token's signature does not verify")]
    Signature,
    #[error("the token's certificates are not trusted: {0}")]
    Chain(String),
    #[error("the token's `{0}` is missing or is of the wrong kind")]
    Claim(&'static str),
    #[error("the token expired {0} s ago")]
    Expired(u64),
    #[error("the token is not valid for another {0} s")]
    NotYet(u64),
    #[error("the token was issued by `{0}`, not by who is trusted here")]
    Issuer(String),
    #[error("the token is meant for {0}, not for this audience")]
    Audience(String),
    #[error("the key cannot be used: {0}")]
    Key(String),
}

impl Fault {
    /// One word for logs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed(_) | Self::Json(_) => "malformed",
            Self::Critical => "critical",
            Self::Algorithm(_) => "algorithm",
            Self::Type(_) => "type",
            Self::UnknownKey(_) => "unknown_key",
            Self::Unfit(_) | Self::Key(_) => "key",
            Self::Signature => "signature",
            Self::Chain(_) => "chain",
            Self::Claim(_) => "claim",
            Self::Expired(_) => "expired",
            Self::NotYet(_) => "not_yet",
            Self::Issuer(_) => "issuer",
            Self::Audience(_) => "audience",
        }
    }
}

/// A text of the token, short and without what a terminal obeys.
pub(crate) fn quoted(text: &str) -> String {
    let cut = text.char_indices().nth(80).map_or(text, |(at, _)| text.get(..at).unwrap_or_default());
    let escaped = match shown(cut) {
        Cow::Borrowed(same) => same.to_owned(),
        Cow::Owned(escaped) => escaped,
    };
    if cut.len() < text.len() { escaped + "…" } else { escaped }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
