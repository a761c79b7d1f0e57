use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::{Zeroize, Zeroizing};

use crate::hex::hex;
use crate::secret::Secret;

/// The secret that stands for a task: 32 random bytes, written in base64url (43 characters).
///
/// Whoever presents it calls within the task. It is shown once, when the task starts; Remit keeps
/// only its SHA-256.
#[derive(Debug, Clone)]
pub struct Handle(Secret<String>);

const BYTES: usize = 32;
const CHARACTERS: usize = 43;

impl Handle {
    /// A new handle; None when the machine gives no randomness.
    pub(super) fn random() -> Option<(Self, Digest)> {
        let mut bytes = Zeroizing::new([0u8; BYTES]);
        SystemRandom::new().fill(&mut *bytes).ok()?;
        Some((Self(Secret::new(URL_SAFE_NO_PAD.encode(*bytes))), Digest::of_bytes(&bytes)))
    }

    /// The handle's text, to hand to the one who may use it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// What Remit keeps of a handle.
///
/// Found by equality of digests: how long that takes tells about SHA-256 of the guess, which the
/// guesser knows, and about a digest of 256 random bits, from which no handle can be had.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; BYTES]);

impl Digest {
    /// The digest of a handle as it was presented; None for what cannot be one.
    pub(super) fn of_text(text: &[u8]) -> Option<Self> {
        if text.len() != CHARACTERS {
            return None;
        }
        // one byte of slack: the decoder asks for room by its estimate
        let mut bytes = [0u8; BYTES + 1];
        let decoded = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        let digest = match decoded {
            Ok(BYTES) => bytes.first_chunk::<BYTES>().map(Self::of_bytes),
            Ok(_) | Err(_) => None,
        };
        bytes.zeroize();
        digest
    }

    /// For the record and the state file: it gives nobody the handle.
    pub(super) fn to_hex(self) -> String {
        hex(&self.0)
    }

    pub(super) fn of_hex(hex: &str) -> Option<Self> {
        let mut out = [0; BYTES];
        if hex.len() != 2 * BYTES || !hex.is_ascii() {
            return None;
        }
        for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(out))
    }

    fn of_bytes(bytes: &[u8; BYTES]) -> Self {
        let mut out = [0u8; BYTES];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(out)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_found_by_its_text_and_by_no_other_spelling() {
        let (handle, digest) = Handle::random().unwrap();
        let text = handle.expose();
        assert_eq!(text.len(), CHARACTERS);
        assert_eq!(Digest::of_text(text.as_bytes()), Some(digest));
        assert_eq!(Digest::of_text(format!("{text}=").as_bytes()), None);
        assert_eq!(Digest::of_text(&text.as_bytes()[1..]), None);
        assert_eq!(Digest::of_text(b""), None);
        assert_eq!(Digest::of_text(&[b'!'; CHARACTERS]), None);
        // the last character carries two bits that must be zero: otherwise four spellings would be one handle
        let mut other = text.to_string();
        let last = other.pop().unwrap();
        let next = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = next.find(last).unwrap();
        other.push(next.chars().nth(at ^ 1).unwrap());
        assert_eq!(Digest::of_text(other.as_bytes()), None);
    }

    #[test]
    fn a_handle_does_not_show() {
        let (handle, digest) = Handle::random().unwrap();
        assert!(!format!("{handle:?} {digest:?}").contains(handle.expose()));
    }
}
