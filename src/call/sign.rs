use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::{Destination, Path};

/// Signs a request with what a lease holds, where a value in a field is not enough (AWS).
pub trait SignRequest: Send + Sync + fmt::Debug {
    /// Puts the signature among the fields of the request that leaves, and gives what rewrites its
    /// body where that carries signatures too.
    ///
    /// # Errors
    /// Why it cannot be signed; shown to the agent, so no secret is in it.
    fn sign(&self, leaving: Leaving<'_>) -> Result<Option<Box<dyn Rewrite>>, Unsigned>;

    /// Whether the body must be at hand before it is signed: nothing else stands for it.
    fn needs_body(&self, to: &Destination, headers: &HeaderMap) -> bool;
}

/// A request as it leaves, before it is signed. The agent's own credentials are out already.
#[derive(Debug)]
pub struct Leaving<'a> {
    pub method: &'a Method,
    pub to: &'a Destination,
    pub path: &'a Path,
    pub headers: &'a mut HeaderMap,
    /// SHA-256 of the body; None where it is passed on as it arrives.
    pub body: Option<[u8; 32]>,
}

/// Rewrites a body as it leaves, keeping its length: the signatures in it are the agent's.
pub trait Rewrite: Send {
    /// What leaves for what came; empty while more is to come first.
    ///
    /// # Errors
    /// When the body is not framed as its head says.
    fn next(&mut self, data: &Bytes) -> Result<Bytes, Unsigned>;

    /// Tells that nothing more comes.
    ///
    /// # Errors
    /// When the body is not complete.
    fn end(&self) -> Result<(), Unsigned>;
}

/// A request that cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// What the agent sent is at fault.
    #[error("{0}")]
    Request(&'static str),
    /// The credential does not fit where the request goes.
    #[error("{0}")]
    Credential(String),
}
