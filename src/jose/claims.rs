use std::time::Duration;

use serde_json::{Map, Value};

use crate::clock::Moment;

use super::{Fault, quoted};

/// The claims of a token whose signature verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims(Map<String, Value>);

/// How far the issuer's clock may be from ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leeway(pub Duration);

impl Default for Leeway {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

/// Beyond this no whole second is exact in every reader (RFC 8259 §6).
const LATEST: f64 = 9_007_199_254_740_992.0;

impl Claims {
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    #[must_use]
    pub fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is a text and not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|t| !t.is_empty())
    }

    /// Checks `exp`, which must be there, `nbf` and `iat`; answers when it expires, in seconds
    /// since 1970. An `iat` in the future is a token from a clock that is wrong.
    ///
    /// # Errors
    /// [`Fault::Expired`], [`Fault::NotYet`], [`Fault::Claim`].
    pub fn check_times(&self, now: Moment, leeway: Leeway) -> Result<i64, Fault> {
        let (now, leeway) = (now.utc.unix_timestamp(), i64::try_from(leeway.0.as_secs()).unwrap_or(0));
        let exp = self.date("exp")?.ok_or(Fault::Claim("exp"))?;
        if now >= exp.saturating_add(leeway) {
            return Err(Fault::Expired(now.abs_diff(exp)));
        }
        for name in ["nbf", "iat"] {
            if let Some(from) = self.date(name)?
                && from > now.saturating_add(leeway)
            {
                return Err(Fault::NotYet(from.abs_diff(now)));
            }
        }
        Ok(exp)
    }

    /// Checks the issuer (RFC 8725 §3.8).
    ///
    /// # Errors
    /// [`Fault::Issuer`], [`Fault::Claim`].
    pub fn check_issuer(&self, issuer: &str) -> Result<(), Fault> {
        match self.text("iss").ok_or(Fault::Claim("iss"))? {
            same if same == issuer => Ok(()),
            other => Err(Fault::Issuer(quoted(other))),
        }
    }

    /// Checks that one of `ours` is among the token's audiences (RFC 7519 §4.1.3, RFC 8725 §3.9).
    ///
    /// # Errors
    /// [`Fault::Audience`], [`Fault::Claim`].
    pub fn check_audience(&self, ours: &[impl AsRef<str>]) -> Result<(), Fault> {
        let theirs = self.audiences()?;
        if theirs.iter().any(|t| ours.iter().any(|o| o.as_ref() == *t)) {
            return Ok(());
        }
        Err(Fault::Audience(quoted(&theirs.join(", "))))
    }

    /// Every audience it names; at least one.
    ///
    /// # Errors
    /// [`Fault::Claim`].
    pub fn audiences(&self) -> Result<Vec<&str>, Fault> {
        let all: Option<Vec<&str>> = match self.0.get("aud") {
            Some(Value::String(one)) => Some(vec![one]),
            Some(Value::Array(many)) => many.iter().map(Value::as_str).collect(),
            _ => None,
        };
        all.filter(|a| !a.is_empty()).ok_or(Fault::Claim("aud"))
    }

    /// A NumericDate (RFC 7519 §2): seconds since 1970, perhaps with a fraction.
    ///
    /// # Errors
    /// [`Fault::Claim`] when it is there and is none.
    pub fn date(&self, name: &'static str) -> Result<Option<i64>, Fault> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|s| (0.0..=LATEST).contains(s)).ok_or(Fault::Claim(name))?;
        Ok(Some(seconds.trunc() as i64))
    }
}
