//! The lease desk: what is issued for a task, from its first use to its revocation.

use std::{sync::Arc, time::Instant};

use serde_json::Value;

use super::{
    broker::{Choice, Credential},
    issue::{Ask, Fault, Issued, Request},
    kind::fingerprint,
    scope::Scope,
    scrub::Scrubber,
};
use crate::{
    call::{Head, Intent, Lease, Mode, Permit, Task},
    clock,
    refusal::{Reason, Refusal},
};

/// What a lease is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub permit: &'a Permit,
    pub head: &'a Head,
    pub intents: &'a [Intent],
    /// How the policy narrows what is asked of the issuer.
    pub by: Option<&'a Value>,
    pub now: Instant,
}

/// Leases by task.
#[derive(Debug, Default)]
pub struct Leases {}

impl Leases {
    /// The lease for a permitted call. None in `observe`, where nothing is injected.
    ///
    /// # Errors
    /// When the task is over, nothing can be asked for the call, or the issuer gives none.
    pub async fn lease(&self, choice: &Choice, wanted: Wanted<'_>) -> Result<Option<Lease>, Refusal> {
        if wanted.permit.mode() == Mode::Observe {
            return Ok(None);
        }
        let request = Request { task: wanted.permit.task(), head: wanted.head, intents: wanted.intents, now: wanted.now };
        self.lease_for(&choice.0, request, wanted.by).await.map(Some)
    }

    pub(super) async fn lease_for(&self, credential: &Credential, request: Request<'_>, by: Option<&Value>) -> Result<Lease, Refusal> {
        let task = request.task;
        still_on(task, request.now)?;
        if let Some(lease) = credential.issuer.at_hand(&request) {
            return Ok(lease);
        }
        let scope = asked(credential, &request, by)?;
        let life = task.ends.lifetime().saturating_sub(request.now.saturating_duration_since(task.ends.began()));
        let ask = Ask { task: task.clone(), scope, life };
        let issued = credential.issuer.issue(&ask).await.map_err(|fault| unavailable(credential, &fault))?;
        if let Err(over) = still_on(task, Instant::now()) {
            if let Some(handle) = &issued.handle {
                let _ = credential.issuer.revoke(handle.expose()).await;
            }
            return Err(over);
        }
        lease(credential, &ask, &issued)
    }
}

/// What is asked of the issuer for a call.
fn asked(credential: &Credential, request: &Request<'_>, by: Option<&Value>) -> Result<Scope, Refusal> {
    if !credential.issuer.scoped() {
        return Ok(Scope::new(serde_json::Map::new()));
    }
    let asked = credential.scope.ask(&*credential.issuer, request.task, request.intents, by);
    asked.map_err(|why| Refusal::new(Reason::CredentialUnavailable, format!("the credential `{}`: {why}", credential.name)))
}

fn lease(credential: &Credential, ask: &Ask, issued: &Issued) -> Result<Lease, Refusal> {
    let values = issued.secrets.iter().map(|s| s.expose().as_slice());
    let scrubber = Scrubber::new(values)
        .map_err(|_| unavailable(credential, &Fault::Unavailable("what it gave is too long to be scrubbed from answers".to_owned())))?;
    let first = issued.secrets.first().map(|s| fingerprint(s.expose())).unwrap_or_default();
    Ok(Lease {
        name: credential.name.clone(),
        kind: credential.issuer.kind(),
        fingerprint: first.into(),
        expires: issued.lives.map(|lives| clock::utc() + lives),
        scope: credential.issuer.scoped().then(|| ask.scope.clone()),
        revocable: issued.handle.is_some(),
        inject: issued.inject.clone(),
        scrubber: Some(Arc::new(scrubber)),
    })
}

fn unavailable(credential: &Credential, fault: &Fault) -> Refusal {
    Refusal::new(Reason::CredentialUnavailable, format!("the credential `{}`: {fault}", credential.name))
}

fn still_on(task: &Task, now: Instant) -> Result<(), Refusal> {
    match task.over(now) {
        None => Ok(()),
        Some(reason) => Err(Refusal::new(reason, format!("no credential is given to {}, which is over", task.id))),
    }
}
