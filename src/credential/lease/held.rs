use std::{sync::Arc, time::Duration};

use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    credential::{
        issue::{Fault, IssueCredential, Revoked},
        scope::Scope,
    },
    secret::Secret,
};

use super::LeaseEvents;

/// Longer than an issuer is asked at most, so that it is its own error that is seen.
const PATIENCE: Duration = Duration::from_secs(12);

/// Something that an issuer gave, until it is revoked or expires.
#[derive(Debug)]
pub(super) struct Held {
    /// Names it in the journal of this process.
    pub(super) id: u64,
    pub(super) credential: Arc<str>,
    pub(super) kind: Arc<str>,
    pub(super) task: Arc<str>,
    pub(super) agent: Arc<str>,
    pub(super) scope: Option<Scope>,
    pub(super) fingerprint: Arc<str>,
    pub(super) issued: OffsetDateTime,
    /// None: it lives until it is revoked.
    pub(super) expires: Option<OffsetDateTime>,
    /// What revokes it; None where its issuer cannot.
    pub(super) handle: Option<Secret<Vec<u8>>>,
    /// Who issued it, for when the configuration has it no more; None of what another process left.
    pub(super) issuer: Option<Arc<dyn IssueCredential>>,
}

/// A lease as it is listed: never its value.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    pub credential: Arc<str>,
    pub kind: Arc<str>,
    pub task: Arc<str>,
    pub agent: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<serde_json::Value>,
    pub fingerprint: Arc<str>,
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    pub revocable: bool,
    /// Its task is over, and its issuer has not yet been told, or cannot be.
    pub unrevoked: bool,
}

impl Held {
    /// Tells its issuer to accept it no more: as it is configured now, where it still is.
    pub(super) async fn revoke(&self, now: Option<Arc<dyn IssueCredential>>) -> Result<Revoked, Fault> {
        let Some(handle) = &self.handle else { return Ok(Revoked::Irrevocable) };
        let now = now.filter(|issuer| issuer.kind() == &*self.kind);
        let Some(issuer) = now.as_ref().or(self.issuer.as_ref()) else {
            return Err(Fault::Refused(format!(
                "the credential `{}` is not configured any more: nobody can revoke its lease",
                self.credential
            )));
        };
        match tokio::time::timeout(PATIENCE, issuer.revoke(handle.expose())).await {
            Ok(done) => done.map_err(|fault| fault.without_secrets(&**issuer, Some(handle.expose()))),
            Err(_) => Err(Fault::Unavailable("the issuer did not answer in time".to_owned())),
        }
    }

    pub(super) fn is_over(&self, now: OffsetDateTime) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    pub(super) fn listed(&self, unrevoked: bool) -> Listed {
        Listed {
            credential: self.credential.clone(),
            kind: self.kind.clone(),
            task: self.task.clone(),
            agent: self.agent.clone(),
            scope: self.scope.as_ref().map(|s| s.as_json().clone()),
            fingerprint: self.fingerprint.clone(),
            issued: self.issued,
            expires: self.expires,
            revocable: self.handle.is_some(),
            unrevoked,
        }
    }
}

/// Tells nobody.
pub(super) struct Untold;

impl LeaseEvents for Untold {
    fn asked(&self, _: &'static str, _: Duration, _: Option<String>) {}
    fn issued(&self, _: Listed) {}
    fn revoked(&self, _: Listed, _: bool, _: Duration) {}
    fn not_revoked(&self, _: Listed, _: &str) {}
}
