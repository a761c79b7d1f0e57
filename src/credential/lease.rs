//! The lease desk: what is issued for a task, from its first use to its revocation.
//!
//! A lease is for one task, one credential and exactly one scope. It is given again while it is valid;
//! however many calls wait, its issuer is asked once. Whatever can be revoked is written down, sealed,
//! before it is used (`journal`), and revoked when its task ends, when Remit drains, or when it starts
//! again after it was killed (`revoke`).

mod ask;
mod desk;
mod held;
mod journal;
mod revoke;
mod slot;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::{
    basic,
    broker::{Broker, Choice, Credential},
    issue::{Fault, Request},
    scope::Scope,
};
use crate::{
    authority::{RevokeLeases, Revoking},
    call::{Head, Intent, Lease, Mode, Permit, Task},
    clock,
    problem::Problem,
    refusal::{Reason, Refusal},
};

use desk::{Desk, OfTask};
use held::Held;
use slot::{Next, Slot};

pub use held::Listed;
pub use journal::{Journal, JournalPlace};

/// What a lease is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub permit: &'a Permit,
    pub head: &'a Head,
    pub intents: &'a [Intent],
    /// How the policy narrows what is asked of the issuer.
    pub by: Option<&'a Value>,
    pub now: Instant,
    /// How long the call waits for an issuer.
    pub patience: Duration,
}

/// Is told what happens to leases. Never their values.
pub trait LeaseEvents: Send + Sync {
    /// An issuer was asked; why it gave nothing, if it did not.
    fn asked(&self, kind: &'static str, took: Duration, fault: Option<String>);
    fn issued(&self, lease: Listed);
    /// `done`: its issuer accepts it no more; else it lives until it expires. `after` its end was due.
    fn revoked(&self, lease: Listed, done: bool, after: Duration);
    /// It will be tried again.
    fn not_revoked(&self, lease: Listed, why: &str);
}

/// Leases by task. Cheap to clone.
#[derive(Clone)]
pub struct Leases(Arc<Desk>);

impl Leases {
    #[must_use]
    pub fn new(journal: Journal, events: Arc<dyn LeaseEvents>) -> Self {
        Self(Arc::new(Desk::new(journal, events)))
    }

    /// The lease for a permitted call. None in `observe`, where nothing is injected.
    ///
    /// # Errors
    /// When the task is over, nothing can be asked for the call, or the issuer gives none.
    pub async fn lease(&self, choice: &Choice, wanted: Wanted<'_>) -> Result<Option<Lease>, Refusal> {
        if wanted.permit.mode() == Mode::Observe {
            return Ok(None);
        }
        let request = Request { task: wanted.permit.task(), head: wanted.head, intents: wanted.intents, now: wanted.now };
        let lease = self.lease_for(&choice.0, &request, wanted.by, wanted.patience).await?;
        Ok(Some(basic::fit(lease, wanted.intents)))
    }

    pub(super) async fn lease_for(
        &self,
        credential: &Arc<Credential>,
        request: &Request<'_>,
        by: Option<&Value>,
        patience: Duration,
    ) -> Result<Lease, Refusal> {
        match self.at_hand(credential, request, by)? {
            Some(lease) => Ok(lease),
            // Rare, and large: kept out of the future that every call carries.
            None => Box::pin(self.issued(credential, request, by, patience)).await,
        }
    }

    /// A lease that can be given without waiting.
    ///
    /// # Errors
    /// When the task is over.
    fn at_hand(&self, credential: &Arc<Credential>, request: &Request<'_>, by: Option<&Value>) -> Result<Option<Lease>, Refusal> {
        still_on(request.task, request.now)?;
        if let Some(lease) = credential.issuer.at_hand(request) {
            return Ok(Some(lease));
        }
        let ([intent], None) = (request.intents, by) else { return Ok(None) };
        let Some(of) = self.0.part(request.task.number).read().get(&request.task.number).cloned() else { return Ok(None) };
        let known = of.known.load();
        let found = known
            .iter()
            .find(|k| k.slot.credential.is(credential) && k.uses.as_ref().is_some_and(|uses| credential.scope.same(uses, intent)));
        Ok(found.and_then(|found| self.take_from(credential, &of, &found.slot, request.now)))
    }

    /// The lease that a slot has. When it is time the next is fetched, while this one is given.
    fn take_from(&self, credential: &Arc<Credential>, of: &Arc<OfTask>, slot: &Arc<Slot>, now: Instant) -> Option<Lease> {
        let (lease, renew) = slot.at_hand(now)?;
        if renew {
            slot.load(credential);
            if let Next::Ask(attempt) = slot.next(now) {
                tokio::spawn(self.0.clone().ask(of.clone(), slot.clone(), attempt));
            }
        }
        Some(lease)
    }

    /// A lease that is looked for by its scope, and asked for where there is none.
    async fn issued(
        &self,
        credential: &Arc<Credential>,
        request: &Request<'_>,
        by: Option<&Value>,
        patience: Duration,
    ) -> Result<Lease, Refusal> {
        let scope = asked(credential, request.task, request.intents, by)?;
        let of = self.0.of_task(request.task);
        let uses = match (request.intents, by) {
            ([intent], None) => credential.scope.uses_of(intent),
            _ => None,
        };
        let slot = of.slot(credential, scope, uses);
        slot.load(credential);
        // The task may have ended before it was known here.
        still_on(request.task, Instant::now()).inspect_err(|_| self.0.forget(&of))?;
        if let Some(lease) = self.take_from(credential, &of, &slot, request.now) {
            return Ok(lease);
        }
        let attempt = match slot.next(request.now) {
            Next::Failed(fault) => return Err(unavailable(credential, &fault)),
            Next::Wait(attempt) => attempt,
            Next::Ask(attempt) => {
                tokio::spawn(self.0.clone().ask(of.clone(), slot.clone(), attempt.clone()));
                attempt
            }
        };
        let answered = tokio::time::timeout(patience, request.task.ended.run_until_cancelled(attempt.answered())).await;
        still_on(request.task, Instant::now())?;
        match answered {
            Ok(Some(Ok(lease))) => Ok(lease),
            Ok(Some(Err(fault))) => Err(unavailable(credential, &fault)),
            Ok(None) => Err(Refusal::new(Reason::TaskEnded, "the task ended while the call waited for a credential")),
            Err(_) => {
                let fault = Fault::Unavailable(format!("its issuer gave no answer within {} s", patience.as_secs_f32()));
                Err(unavailable(credential, &fault))
            }
        }
    }

    /// Revokes by way of the issuers as they are loaded now: their secrets may have changed since.
    pub fn know(&self, broker: &Broker) {
        *self.0.issuers.lock() = broker.issuers().collect();
    }

    /// Forgets what has expired.
    pub fn expire(&self) {
        self.0.expire();
    }

    /// Leases that are neither revoked nor expired.
    #[must_use]
    pub fn active(&self) -> usize {
        self.0.expire();
        self.0.held.lock().values().filter(|(_, due)| !due).count()
    }

    /// Leases whose time is over, and that their issuers may still accept.
    #[must_use]
    pub fn unrevoked(&self) -> usize {
        self.0.held.lock().values().filter(|(_, due)| *due).count()
    }

    /// All of both, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.0.expire();
        self.0.held.lock().values().map(|(held, due)| held.listed(*due)).collect()
    }

    /// Takes over what processes before this one left: all of it is revoked by way of the issuers that it
    /// knows, as soon as it can be.
    ///
    /// # Errors
    /// What is wrong with a journal that was left.
    pub fn recover(&self) -> Result<usize, Problem> {
        let (left, old) = self.0.journal.left(&self.0.next)?;
        let (left, now): (Vec<Arc<Held>>, _) = (left.into_iter().map(Arc::new).collect(), clock::utc());
        let left: Vec<Arc<Held>> = left.into_iter().filter(|held| !held.is_over(now)).collect();
        left.iter().for_each(|held| self.0.holds(held));
        self.0.journal.take_over(&left, old)?;
        let count = left.len();
        if count > 0 {
            let desk = self.0.clone();
            tokio::spawn(async move {
                let _revoking = desk.revoking();
                desk.revoke_all(left, Instant::now()).await;
            });
        }
        Ok(count)
    }

    /// Revokes all that is held; ready when each was tried once.
    pub async fn drain(&self) {
        let tasks: Vec<Arc<OfTask>> = self.0.tasks.iter().flat_map(|part| part.read().values().cloned().collect::<Vec<_>>()).collect();
        stream::iter(tasks).for_each_concurrent(None, |of| self.0.clone().end(of)).await;
        // Also of tasks that ended just before.
        self.0.quiet().await;
        self.0.journal.flush().await;
    }
}

/// Nothing is kept, and nobody is told: where nothing is issued.
impl Default for Leases {
    fn default() -> Self {
        Self::new(Journal::none(), Arc::new(held::Untold))
    }
}

impl RevokeLeases for Leases {
    fn revoke(&self, task: &Arc<Task>) -> Option<Revoking> {
        let of = self.0.part(task.number).read().get(&task.number).cloned()?;
        Some(Box::pin(self.0.clone().end(of)))
    }
}

/// What would be asked of the issuer for a call; None for a credential that asks none.
///
/// # Errors
/// `credential_unavailable` when nothing can be asked for it.
pub fn would_ask(choice: &Choice, task: &Task, intents: &[Intent], by: Option<&Value>) -> Result<Option<Scope>, Refusal> {
    if !choice.0.issuer.scoped() {
        return Ok(None);
    }
    asked(&choice.0, task, intents, by).map(Some)
}

/// What is asked of the issuer for a call.
fn asked(credential: &Credential, task: &Task, intents: &[Intent], by: Option<&Value>) -> Result<Scope, Refusal> {
    if !credential.issuer.scoped() {
        return Ok(Scope::new(serde_json::Map::new()));
    }
    let asked = credential.scope.ask(&*credential.issuer, task, intents, by);
    asked.map_err(|why| unavailable(credential, &Fault::Refused(why)))
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

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases").field("held", &self.0.held.lock().len()).finish()
    }
}
