//! Requests that are signed in their query: whoever holds such a URL may use it, so Remit makes none and passes none on.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Whether a query holds any part of a signature (SigV4, SigV4A, and the older SigV2 and its key id).
pub(in crate::credential) fn is_presigned(query: &str) -> bool {
    query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair)).any(|name| {
        let name: Cow<'_, str> = percent_decode_str(name).decode_utf8_lossy();
        NAMES.iter().any(|n| name.eq_ignore_ascii_case(n))
    })
}

const NAMES: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-security-token",
    "x-amz-region-set",
    "awsaccesskeyid",
    "signature",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_signed_query_is_known() {
        for query in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20260101&X-Amz-Signature=0",
            "x-amz-signature=0",
            "list-type=2&X-Amz-%53ignature=0",
            "AWSAccessKeyId=AKID&Expires=1&Signature=abc",
            "X-Amz-Security-Token=abc",
        ] {
            assert!(is_presigned(query), "{query}");
        }
        for query in ["", "list-type=2&prefix=x-amz-signature", "uploads", "X-Amz-Date=x", "signatures=1"] {
            assert!(!is_presigned(query), "{query}");
        }
    }
}
