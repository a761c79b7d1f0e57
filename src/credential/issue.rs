//! The one trait behind which every kind of credential stands.

use std::{fmt, future::Future, pin::Pin, time::Instant};

use crate::{
    call::{Head, Intent, Lease, Task},
    refusal::Refusal,
};

/// A future of an issuer's answer.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// What a lease is asked for: the task it is bound to, and the call that needs it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub task: &'a Task,
    pub head: &'a Head,
    /// What is asked for, so that an issuer can narrow what it gives.
    pub intents: &'a [Intent],
    pub now: Instant,
}

/// What became of a lease that is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// Its issuer accepts it no more.
    Done,
    /// Its issuer cannot take it back: it lives until it expires, or is rotated by hand.
    Irrevocable,
}

/// Issues, renews and revokes leases of one configured credential.
pub trait IssueCredential: Send + Sync + fmt::Debug {
    /// `static`, `own`, …: as `credentials.yaml` names it.
    fn kind(&self) -> &'static str;

    /// A lease that can be given without waiting. The hot path: no I/O, no allocation to speak of.
    fn at_hand(&self, request: &Request<'_>) -> Option<Lease>;

    /// A lease for this request, from the issuer.
    fn issue<'a>(&'a self, request: Request<'a>) -> Pending<'a, Lease>;

    /// A lease that outlives `lease`, with the same scope.
    fn renew<'a>(&'a self, lease: &'a Lease, request: Request<'a>) -> Pending<'a, Lease>;

    /// Makes the issuer accept `lease` no more.
    fn revoke<'a>(&'a self, lease: &'a Lease) -> Pending<'a, Revoked>;
}
