//! What one agent hands another across processes, as a signed token.
//!
//! A token is one link or several: JWTs in compact form joined by `~`, the newest first, so that
//! each stands before the token that its issuer was handed, and signs over that token's hash. A
//! reader believes no link for what another says of it: it verifies each signature, that each
//! link was meant for the one that signs the next, and that each grants no more than the one above.
//!
//! The token says what was handed over, never who calls: that is proven otherwise.

mod grants;
mod issue;
mod read;
mod replay;
mod trust;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use ahash::RandomState;
use http::HeaderName;
use time::OffsetDateTime;

use crate::{
    call::{Link, Principal},
    config::{Config, PeerSpec},
    jose::Leeway,
    problem::{Problem, Problems},
    secret::Secret,
};

pub use issue::Handed;

/// The field that carries a token between two Remits. An agent can neither set nor see it.
pub const FIELD: HeaderName = HeaderName::from_static("remit-delegation");

/// The type of a link (RFC 8725 §3.11).
pub const TYPE: &str = "remit-delegation+jwt";

/// The longest token, with all its links; a longer one is refused unread.
pub const LONGEST: usize = 16 << 10;

/// The most links: agents from the first to the one that calls.
pub const MOST_LINKS: usize = 8;

/// The longest time from `iat` to `exp`. It bounds how long what was revoked elsewhere still counts.
pub const LIFE: Duration = Duration::from_secs(60);

/// How far another's clock may be from ours.
const LEEWAY: Leeway = Leeway(Duration::from_secs(5));

/// Signs what is handed to peers, and reads what peers hand over.
#[derive(Debug)]
pub struct Delegations {
    issuer: Option<issue::Issuer>,
    trust: trust::Trust,
    peers: Vec<PeerSpec>,
    /// The agents that are registered here, by their SPIFFE ID.
    named: HashMap<Arc<str>, Arc<str>, RandomState>,
}

/// Tokens that were used once. Lives as long as the process.
pub use replay::Used;

/// What a token that was believed says.
#[derive(Clone)]
pub struct Received {
    pub principal: Principal,
    /// From the principal to the agent that called, each with its grants.
    pub links: Vec<Link>,
    /// Who handed it over: the issuer of the newest link.
    pub from: Arc<str>,
    pub jti: Arc<str>,
    pub expires: OffsetDateTime,
    /// SHA-256 of the certificate that the caller has to prove it holds (RFC 8705 §3.1).
    pub certificate: Option<[u8; 32]>,
    /// The token itself, which a token of ours would embed.
    text: Secret<Box<str>>,
}

impl Delegations {
    /// Reads the keys that a config names.
    ///
    /// # Errors
    /// What is wrong with a key, a set or a bundle, with its place.
    pub fn load(config: &Config) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let issuer = config.delegation.key.as_ref().and_then(|key| issue::Issuer::load(key).map_err(|p| problems.push(p)).ok());
        let trust = trust::Trust::load(&config.delegation.trust, &mut problems);
        let named = config.registry.agents.iter().filter_map(|a| Some((a.spiffe_id.clone()?, a.id.clone()))).collect();
        if problems.is_empty() { Ok(Self { issuer, trust, peers: config.peers.clone(), named }) } else { Err(Problems(problems)) }
    }

    /// Writes the public part of the key that signs, where the config says so.
    pub fn publish(&self) {
        if let Some(issuer) = &self.issuer {
            issuer.publish();
        }
    }

    /// Whether tokens are issued.
    #[must_use]
    pub fn issues(&self) -> bool {
        self.issuer.is_some() && !self.peers.is_empty()
    }
}

/// A problem with a file of the `delegation` section.
fn problem(place: &crate::config::Place, key: &str, message: impl Into<String>) -> Problem {
    Problem::new(message).at(&place.file, (place.line > 0).then_some(place.line)).key(key)
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("from", &self.from).field("jti", &self.jti).finish_non_exhaustive()
    }
}
