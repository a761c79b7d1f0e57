use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom, SystemRandom};

use super::{
    desk::{Desk, OfTask},
    held::Held,
    slot::{Attempt, Ready, Slot},
};
use crate::{
    call::Lease,
    clock,
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued},
        kind::fingerprint,
        scrub::Scrubber,
    },
};

/// How long an issuer may take, over all that it is asked for one lease. Longer than a call waits: what
/// it gives late is there for the next.
const PATIENCE: Duration = Duration::from_secs(20);
/// A lease is given no more this long before it ends: what is sent with it must still arrive. A short
/// one, for its last fifth.
const MARGIN: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_secs(1);

impl Desk {
    /// Asks the issuer, and answers all who wait.
    pub(super) async fn ask(self: Arc<Self>, of: Arc<OfTask>, slot: Arc<Slot>, attempt: Arc<Attempt>) {
        let began = Instant::now();
        let life = of.task.ends.moment().instant.saturating_duration_since(began);
        let ask = Ask { task: of.task.clone(), scope: slot.scope.clone(), life };
        let _answers = Answers { slot: &slot, attempt: &attempt };
        let before = slot.held().filter(|held| !held.is_over(clock::utc()));
        let credential = slot.loaded();
        let issuer = &credential.issuer;
        let asked = tokio::time::timeout(PATIENCE, from(&**issuer, before.as_deref(), &ask)).await;
        let issued = asked.unwrap_or_else(|_| Err(Fault::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()))));
        let answer = match issued {
            Ok(issued) => self.take(&of, &slot, &ask, issued, before.as_ref(), began).await,
            Err(fault) => {
                Err(fault.without_secrets(&**issuer, before.as_ref().and_then(|b| b.handle.as_ref()).map(|h| h.expose().as_slice())))
            }
        };
        self.events.asked(issuer.kind(), began.elapsed(), answer.as_ref().err().map(ToString::to_string));
        slot.answer(&attempt, answer);
    }

    /// Takes what was issued, unless it must go back: before anything is sent with it, it is written down.
    async fn take(
        self: &Arc<Self>,
        of: &Arc<OfTask>,
        slot: &Slot,
        ask: &Ask,
        issued: Issued,
        before: Option<&Arc<Held>>,
        began: Instant,
    ) -> Result<Ready, Fault> {
        let prolonged = before.is_some_and(|b| same(b, &issued));
        let held = Arc::new(self.hold(slot, ask, &issued));
        let wrong = match (&issued.wider, issued.lives) {
            (Some(what), _) => Some(Fault::Refused(format!("the issuer gave more than was asked ({what}): it was not used"))),
            (None, Some(lives)) if lives < SHORTEST => {
                Some(Fault::Unavailable("the issuer gave a lease that is as good as over".to_owned()))
            }
            _ => None,
        };
        let taken = of.hold(&held, prolonged.then_some(before).flatten());
        if taken {
            self.holds(&held);
        }
        let wrong = match (taken, wrong) {
            (false, _) => Some(Fault::Refused("the task ended while the lease was issued".to_owned())),
            (true, wrong) => wrong,
        };
        if let Some(fault) = wrong {
            self.revoke_all(vec![held], Instant::now()).await;
            return Err(fault);
        }
        if let Err(why) = self.journal.add(&held).await {
            self.revoke_all(vec![held], Instant::now()).await;
            return Err(Fault::Unavailable(format!("the lease could not be written down, and so was not used: {why}")));
        }
        if prolonged && let Some(before) = before {
            self.gone(before);
        }
        let lease = lease(slot, &held, &issued)?;
        self.events.issued(held.listed(false));
        let (until, renew) = match issued.lives.filter(|lives| *lives < ask.life) {
            // What outlasts the task need not be renewed.
            None => (ask.life, ask.life),
            Some(lives) => (lives - MARGIN.min(lives / 5), ahead(lives)),
        };
        Ok(Ready { lease, held, until: began + until, renew: began + renew })
    }

    fn hold(&self, slot: &Slot, ask: &Ask, issued: &Issued) -> Held {
        let now = clock::utc();
        let credential = slot.loaded();
        Held {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            credential: credential.name.clone(),
            kind: credential.issuer.kind().into(),
            task: ask.task.id.as_str().into(),
            agent: ask.task.agent.id.clone(),
            scope: credential.issuer.scoped().then(|| ask.scope.clone()),
            fingerprint: issued.secrets.first().map(|s| fingerprint(s.expose())).unwrap_or_default().into(),
            issued: now,
            expires: issued.lives.map(|lives| now + lives),
            handle: issued.handle.clone(),
            issuer: Some(credential.issuer.clone()),
        }
    }
}

/// Prolongs what is there, where that can be; else a new one.
async fn from(issuer: &dyn IssueCredential, before: Option<&Held>, ask: &Ask) -> Result<Issued, Fault> {
    if let Some(handle) = before.and_then(|held| held.handle.as_ref()) {
        match issuer.renew(handle.expose(), ask).await {
            // Such as one that reached its greatest age.
            Err(Fault::Refused(_)) => {}
            renewed => return renewed,
        }
    }
    issuer.issue(ask).await
}

/// Whoever waits is answered, also when the one who asks fails.
struct Answers<'a> {
    slot: &'a Slot,
    attempt: &'a Attempt,
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.slot.abandon(self.attempt);
    }
}

/// Whether what was there was prolonged, and not another one issued.
fn same(before: &Held, issued: &Issued) -> bool {
    matches!((&before.handle, &issued.handle), (Some(before), Some(now)) if before.expose() == now.expose())
}

fn lease(slot: &Slot, held: &Held, issued: &Issued) -> Result<Lease, Fault> {
    let values = issued.secrets.iter().map(|s| s.expose().as_slice());
    let scrubber =
        Scrubber::new(values).map_err(|_| Fault::Unavailable("what the issuer gave is too long to be scrubbed from answers".to_owned()))?;
    Ok(Lease {
        name: held.credential.clone(),
        kind: slot.credential.issuer.kind(),
        fingerprint: held.fingerprint.clone(),
        expires: held.expires,
        scope: held.scope.clone(),
        revocable: held.handle.is_some(),
        inject: issued.inject.clone(),
        scrubber: Some(Arc::new(scrubber)),
    })
}

/// When the next is fetched: two thirds of its life on, a little earlier or not, so that what began
/// together is not renewed together.
fn ahead(lives: Duration) -> Duration {
    let mut byte = [0u8];
    let _ = SystemRandom::new().fill(&mut byte);
    lives.mul_f64(2.0 / 3.0 - f64::from(byte[0]) / 255.0 / 10.0)
}
