//! One file per kind of credential.

mod aws;
mod certificate;
mod fixed;
mod github;
mod google;
mod oauth;
mod own;
mod parsed;
mod said;
#[cfg(test)]
mod scripted;
mod vault;

use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::source::Env;
use crate::hex::hex;
use crate::{fetch::Fetch, tls::OwnSvids};

pub(super) use aws::{is_presigned, signs as aws};
pub(super) use certificate::Certificate;
pub(super) use fixed::Fixed;
pub(super) use github::GithubApp;
pub(super) use google::Google;
pub(super) use oauth::Oauth;
pub(super) use own::Own;
pub(super) use vault::Vault;

/// What a kind is made with, beside its configuration.
pub(super) struct Made<'a> {
    /// As the configuration names the credential.
    pub(super) name: &'a Arc<str>,
    pub(super) env: Env<'a>,
    pub(super) fetch: &'a Fetch,
    /// Remit's own SVID and the bundles, where SPIFFE is configured.
    pub(super) svids: Option<&'a Arc<dyn OwnSvids>>,
}

/// First 16 hex digits of SHA-256: names a value without showing it.
pub(super) fn fingerprint(value: &[u8]) -> String {
    let mut text = hex(digest(&SHA256, value).as_ref());
    text.truncate(16);
    text
}
