//! The tokens among what a request presents.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderValue;
use zeroize::Zeroizing;

/// Clients differ in whether they pad (RFC 7617 §2 says to).
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The user of a proxy URL whose password is a token: `http://jwt:TOKEN@…`.
const USER: &[u8] = b"jwt:";

/// Whether a `Proxy-Authorization` presents a token and not a task's handle. A handle has no `.`, and a
/// JWS in compact form always has.
#[must_use]
pub fn is_token(value: &HeaderValue) -> bool {
    match split(value) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer") => rest.contains(&b'.'),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"basic") => is_user(rest),
        _ => false,
    }
}

/// The token itself.
#[must_use]
pub fn token(value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, rest) = split(value)?;
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return rest.contains(&b'.').then(|| Zeroizing::new(rest.to_vec()));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") || !is_user(rest) {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(rest).ok()?);
    // A proxy URL may have its password percent-encoded; what a token is made of needs none, but some clients do it.
    let password = decoded.strip_prefix(USER)?;
    Some(Zeroizing::new(percent_encoding::percent_decode(password).collect()))
}

/// Whether base64 begins as that of `jwt:` does: its first three bytes, and the fourth in the next.
fn is_user(encoded: &[u8]) -> bool {
    let Some(start) = encoded.get(..8) else { return false };
    BASE64.decode(start).is_ok_and(|bytes| bytes.starts_with(USER))
}

fn split(value: &HeaderValue) -> Option<(&[u8], &[u8])> {
    let value = value.as_bytes().trim_ascii();
    let space = value.iter().position(|b| *b == b' ')?;
    let (scheme, rest) = value.split_at_checked(space)?;
    Some((scheme, rest.trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn read(text: &str) -> Option<Vec<u8>> {
        let value = HeaderValue::from_str(text).unwrap();
        assert_eq!(is_token(&value), token(&value).is_some(), "{text}");
        token(&value).map(|t| t.to_vec())
    }

    #[test]
    fn a_token_is_told_from_a_handle() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(read("Bearer a.b.c").as_deref(), Some(&b"a.b.c"[..]));
        assert_eq!(read("bearer  a.b.c ").as_deref(), Some(&b"a.b.c"[..]));
        assert_eq!(read(&basic("jwt:a.b.c")).as_deref(), Some(&b"a.b.c"[..]));
        assert_eq!(read(&basic("jwt:a%2Eb%2ec")).as_deref(), Some(&b"a.b.c"[..]));
        for other in ["Bearer handle", &basic("task:handle"), &basic("jwtx:a.b.c"), "Basic jwt", "Digest a.b.c", "a.b.c"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
