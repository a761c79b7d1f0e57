//! The documents of persisted queries: a request may name one by its SHA-256 once it was sent whole.
//!
//! What has the digest is the document, whoever asks and whichever server stored it: so that one store
//! serves all, and nothing that a server could hold under the digest is another document.

use std::sync::{Arc, LazyLock};

use moka::{policy::EvictionPolicy, sync::Cache};

use crate::refusal::PERSISTED_QUERY_NOT_FOUND;

/// Bytes of documents that are kept.
const MOST: u64 = 4 << 20;

/// Documents longer than this are judged each time they are sent, and not kept.
const LONGEST: usize = 256 << 10;

type Digest = [u8; 32];

static KNOWN: LazyLock<Cache<Digest, Arc<str>>> = LazyLock::new(|| {
    let weigh = |_: &Digest, document: &Arc<str>| u32::try_from(document.len() + 128).unwrap_or(u32::MAX);
    Cache::builder().max_capacity(MOST).weigher(weigh).eviction_policy(EvictionPolicy::lru()).build()
});

/// The document of a digest, in hex.
///
/// # Errors
/// When it was not learnt; in the words by which a client knows to send it along.
pub(super) fn document(digest: &str) -> Result<Arc<str>, String> {
    parse(digest).and_then(|digest| KNOWN.get(&digest)).ok_or_else(|| {
        format!(
            "{PERSISTED_QUERY_NOT_FOUND}: the document of this digest was not sent through Remit yet, and only a document can be judged"
        )
    })
}

/// Keeps a document that was sent with its digest.
///
/// # Errors
/// When the digest is another document's.
pub(super) fn learn(digest: &str, document: &str) -> Result<(), String> {
    let own = ring::digest::digest(&ring::digest::SHA256, document.as_bytes());
    let own: Option<Digest> = own.as_ref().try_into().ok();
    match own {
        Some(own) if parse(digest) == Some(own) => {
            if document.len() <= LONGEST {
                KNOWN.insert(own, document.into());
            }
            Ok(())
        }
        _ => Err("the digest of the persisted query is not that of the document beside it".into()),
    }
}

fn parse(hex: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}
