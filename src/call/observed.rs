use std::{fmt, str::FromStr};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// A SHA-256, written `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sum([u8; 32]);

/// What one call shows of the agent that makes it: digests and names, never a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// What a call to a model shows; None for any other call.
    pub model: Option<Offered>,
    /// Where a read gets its data: `provider:resource`.
    pub source: Option<Box<str>>,
}

/// What a call to a model hands to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    pub name: Option<Box<str>>,
    /// One for each segment of the system prompt.
    pub prompts: Vec<Sum>,
    /// By name.
    pub tools: Vec<(Box<str>, Sum)>,
    /// Why it could not be read, when it could not: then nothing above is whole.
    pub unread: Option<Box<str>>,
}

impl Sum {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(out)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sum {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Sum {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a digest is `sha256:` and 64 lower-case hex digits";
        let hex = text.strip_prefix("sha256:").filter(|h| h.len() == 64).ok_or(FORM)?;
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |b: &u8| char::from(*b).to_digit(16).filter(|_| !b.is_ascii_uppercase()).and_then(|d| u8::try_from(d).ok());
            let [high, low] = pair else { return Err(FORM) };
            *byte = digit(high).ok_or(FORM)? << 4 | digit(low).ok_or(FORM)?;
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_in_its_one_spelling() {
        let sum = Sum::of(b"abc");
        let text = sum.to_string();
        assert_eq!(text, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(text.parse(), Ok(sum));
        for wrong in [&text[7..], &text[..70], &text.to_uppercase(), &format!("{text}0"), &text.replace('b', "B"), "sha256:"] {
            assert!(wrong.parse::<Sum>().is_err(), "{wrong}");
        }
    }
}
