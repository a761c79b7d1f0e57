use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use time::OffsetDateTime;

use crate::secret::Secret;

/// How a lease becomes part of a request.
#[derive(Debug, Clone)]
pub enum Inject {
    /// A field that replaces every field of its name. The value is marked sensitive.
    Header(HeaderName, HeaderValue),
    /// A query parameter, appended percent-encoded.
    Query(Box<str>, Secret<Box<str>>),
    /// Nothing is injected: the agent's own login passes (credential kind `own`).
    Own,
}

/// A short-lived credential issued for a task, for exactly one set of hosts.
#[derive(Debug, Clone)]
pub struct Lease {
    pub name: Arc<str>,
    pub kind: &'static str,
    /// First 16 hex digits of SHA-256 of the value: names it in the audit without showing it.
    pub fingerprint: Arc<str>,
    pub expires: Option<OffsetDateTime>,
    pub inject: Inject,
}
