//! One file per kind of credential.

mod fixed;
mod own;

pub(super) use fixed::Fixed;
pub(super) use own::Own;

use ring::digest::{SHA256, digest};

/// First 16 hex digits of SHA-256: names a value without showing it.
pub(super) fn fingerprint(value: &[u8]) -> String {
    use std::fmt::Write;
    digest(&SHA256, value).as_ref().iter().take(8).fold(String::with_capacity(16), |mut out, byte| {
        // Writing to a String does not fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}
