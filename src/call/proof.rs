use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use serde_json::{Map, Value};

use crate::clock::Moment;

use super::{How, Listener, Principal};

/// Who a caller showed itself to be, by something that only that one has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The subject of a signed token.
    Token { issuer: Arc<str>, subject: Arc<str> },
    /// A SPIFFE ID.
    Spiffe(Arc<str>),
    /// A Kubernetes service account, `namespace/name`, of the cluster with this issuer.
    ServiceAccount { issuer: Arc<str>, name: Arc<str> },
}

/// What a caller proved, and for how long it counts.
#[derive(Debug, Clone)]
pub struct Proof {
    pub identity: Identity,
    /// The claims of the token; empty for a certificate.
    pub claims: Map<String, Value>,
    /// SHA-256 of the certificate, where that is what proved it: a token may be bound to it (RFC 8705 §3.1).
    pub certificate: Option<[u8; 32]>,
    /// For whom the token says that its bearer acts; verified, or it would not be here.
    pub principal: Option<Principal>,
    /// When it no longer counts. Kept on both clocks, since either may be set wrong.
    pub until: Moment,
    /// When it must be proved anew, if that is before.
    pub again: Moment,
}

impl Proof {
    /// Whether it still counts. A clock set back does not make it last longer.
    #[must_use]
    pub fn counts(&self, now: Moment) -> bool {
        now.instant < self.until.instant && now.utc < self.until.utc
    }

    /// Whether it counts and needs no new look.
    #[must_use]
    pub fn is_fresh(&self, now: Moment) -> bool {
        self.counts(now) && now.instant < self.again.instant
    }

    /// How a call is attributed that shows this and no task.
    #[must_use]
    pub fn how(&self) -> How {
        match self.identity {
            Identity::Token { .. } => How::Token,
            Identity::Spiffe(_) => How::Svid,
            Identity::ServiceAccount { .. } => How::ServiceAccount,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { issuer, subject } => write!(f, "{subject} of {issuer}"),
            Self::Spiffe(id) => f.write_str(id),
            Self::ServiceAccount { name, .. } => write!(f, "service account {name}"),
        }
    }
}

/// Where a task's handle was first shown, and by whom. A handle shown from elsewhere was stolen.
#[derive(Debug, Default)]
pub struct Origin(OnceLock<(Listener, Option<Identity>)>);

impl Origin {
    /// Whether this is where the handle was shown before; the first time it is.
    pub fn is(&self, listener: Listener, identity: Option<&Identity>) -> bool {
        let (at, by) = self.0.get_or_init(|| (listener, identity.cloned()));
        *at == listener && by.as_ref() == identity
    }
}
