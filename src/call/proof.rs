use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{clock::Moment, secret::Secret};

use super::{How, Listener, Principal};

/// Who a caller showed itself to be, by something that only that one has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// The token itself, where a credential exchanges it.
    pub token: Option<Arc<Secret<String>>>,
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

/// The newest verified token of a task's principal, for issuers that exchange it (RFC 8693). It is in memory alone: in no
/// state, no audit and no `Debug`.
#[derive(Debug, Default)]
pub struct PrincipalToken(ArcSwapOption<Secret<String>>);

impl PrincipalToken {
    #[must_use]
    pub fn new(token: Option<Arc<Secret<String>>>) -> Self {
        Self(ArcSwapOption::new(token))
    }

    #[must_use]
    pub fn held(&self) -> Option<Arc<Secret<String>>> {
        self.0.load_full()
    }

    /// The principal showed a newer one.
    pub fn renew(&self, token: &Arc<Secret<String>>) {
        self.0.store(Some(token.clone()));
    }
}

/// Where a task's handle was first shown, and by whom. A handle shown from elsewhere was stolen.
#[derive(Debug, Default)]
pub struct Origin(OnceLock<(Listener, Option<Identity>)>);

impl Origin {
    /// The origin of a task that goes on after a restart.
    pub(crate) fn again(shown: Option<(Listener, Option<Identity>)>) -> Self {
        Self(shown.map(OnceLock::from).unwrap_or_default())
    }

    /// Where the handle was first shown, and by whom; None when it was not yet.
    pub(crate) fn shown(&self) -> Option<(Listener, Option<Identity>)> {
        self.0.get().cloned()
    }

    /// Whether this is where the handle was shown before; the first time it is.
    pub fn is(&self, listener: Listener, identity: Option<&Identity>) -> bool {
        let (at, by) = self.0.get_or_init(|| (listener, identity.cloned()));
        *at == listener && by.as_ref() == identity
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn proof(from: Moment, until: Duration, again: Duration) -> Proof {
        let identity = Identity::Spiffe("spiffe://a/b".into());
        Proof {
            identity,
            claims: Map::new(),
            certificate: None,
            principal: None,
            token: None,
            until: from.later(until),
            again: from.later(again),
        }
    }

    #[test]
    fn a_clock_that_jumps_prolongs_nothing() {
        let now = Moment::now();
        let proof = proof(now, Duration::from_secs(60), Duration::from_secs(10));
        assert!(proof.counts(now) && proof.is_fresh(now));
        let later = now.later(Duration::from_secs(11));
        assert!(proof.counts(later) && !proof.is_fresh(later), "it must be proved anew");
        assert!(!proof.counts(now.later(Duration::from_secs(60))));
        // Set back: the time that passed has passed all the same.
        let back = Moment { utc: now.utc - time::Duration::days(1), instant: now.instant + Duration::from_secs(61) };
        assert!(!proof.counts(back));
        // Set forward: what has expired by the date has expired.
        let forward = Moment { utc: now.utc + time::Duration::days(1), instant: now.instant };
        assert!(!proof.counts(forward) && !proof.is_fresh(forward));
    }

    #[test]
    fn a_handle_belongs_where_it_was_first_shown() {
        let [one, two] = ["spiffe://a/b", "spiffe://a/c"].map(|id| Identity::Spiffe(id.into()));
        let origin = Origin::default();
        assert!(origin.is(Listener::Forward, Some(&one)) && origin.is(Listener::Forward, Some(&one)));
        assert!(
            !origin.is(Listener::Forward, Some(&two))
                && !origin.is(Listener::Forward, None)
                && !origin.is(Listener::Transparent, Some(&one))
        );
        let bare = Origin::default();
        assert!(bare.is(Listener::Forward, None) && !bare.is(Listener::Forward, Some(&one)));
    }
}
