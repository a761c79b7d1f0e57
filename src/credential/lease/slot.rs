use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::held::Held;
use crate::{
    call::Lease,
    credential::{
        broker::Credential,
        issue::Fault,
        scope::{Scope, Uses},
    },
};

/// After a failure, before the issuer is asked again.
const REST: Duration = Duration::from_secs(1);

/// What of one credential a task has for one scope.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) credential: Arc<Credential>,
    /// The same as it was last loaded: whom to ask, with the secrets that are in force.
    loaded: ArcSwap<Credential>,
    pub(super) scope: Scope,
    ready: ArcSwapOption<Ready>,
    asking: Mutex<Asking>,
}

/// A lease that can be given.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) lease: Lease,
    pub(super) held: Arc<Held>,
    /// Given until then.
    pub(super) until: Instant,
    /// From then on, a call that uses it has the next one fetched.
    pub(super) renew: Instant,
}

#[derive(Debug, Default)]
struct Asking {
    attempt: Option<Arc<Attempt>>,
    /// Why the last one failed, and until when that is the answer.
    failed: Option<(Instant, Fault)>,
}

/// One question to the issuer, for all who wait.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    answer: OnceLock<Result<Lease, Fault>>,
    done: CancellationToken,
}

/// What a call does about a lease.
pub(super) enum Next {
    Wait(Arc<Attempt>),
    /// It is this call's to ask.
    Ask(Arc<Attempt>),
    Failed(Fault),
}

/// A slot as calls find it: by what of a call decides its scope, where that is its alone.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) uses: Option<Uses>,
    pub(super) slot: Arc<Slot>,
}

impl Slot {
    pub(super) fn new(credential: Arc<Credential>, scope: Scope) -> Self {
        Self { loaded: ArcSwap::new(credential.clone()), credential, scope, ready: ArcSwapOption::empty(), asking: Mutex::default() }
    }

    /// The credential as it is asked now.
    pub(super) fn loaded(&self) -> Arc<Credential> {
        self.loaded.load_full()
    }

    /// What a call came with, which may have been loaded anew since the last.
    pub(super) fn load(&self, credential: &Arc<Credential>) {
        if !Arc::ptr_eq(&self.loaded.load(), credential) {
            self.loaded.store(credential.clone());
        }
    }

    /// The lease at hand, and whether it is time to fetch the next.
    pub(super) fn at_hand(&self, now: Instant) -> Option<(Lease, bool)> {
        let ready = self.ready.load();
        let ready = ready.as_ref().filter(|ready| now < ready.until)?;
        Some((ready.lease.clone(), now >= ready.renew))
    }

    /// What is held for the lease at hand, also when it is given no more.
    pub(super) fn held(&self) -> Option<Arc<Held>> {
        self.ready.load().as_ref().map(|ready| ready.held.clone())
    }

    /// What a call without a lease does; there is one question at a time, however many calls wait.
    pub(super) fn next(&self, now: Instant) -> Next {
        let mut asking = self.asking.lock();
        if let Some(attempt) = &asking.attempt {
            return Next::Wait(attempt.clone());
        }
        if let Some((_, fault)) = asking.failed.as_ref().filter(|(until, _)| now < *until) {
            return Next::Failed(fault.clone());
        }
        let attempt = Arc::new(Attempt::default());
        asking.attempt = Some(attempt.clone());
        Next::Ask(attempt)
    }

    /// The question that is being asked.
    pub(super) fn asking(&self) -> Option<Arc<Attempt>> {
        self.asking.lock().attempt.clone()
    }

    /// Answers all who wait.
    pub(super) fn answer(&self, attempt: &Attempt, answer: Result<Ready, Fault>) {
        let mut asking = self.asking.lock();
        asking.attempt = None;
        asking.failed = answer.as_ref().err().map(|fault| (Instant::now() + REST, fault.clone()));
        let answer = answer.map(|ready| {
            let lease = ready.lease.clone();
            self.ready.store(Some(Arc::new(ready)));
            lease
        });
        let _ = attempt.answer.set(answer);
        attempt.done.cancel();
    }

    /// Answers who still waits when nobody asks any more.
    pub(super) fn abandon(&self, attempt: &Attempt) {
        if !attempt.done.is_cancelled() {
            self.answer(attempt, Err(Fault::Unavailable("the question to the issuer was broken off".to_owned())));
        }
    }

    /// Gives it to nobody any more.
    pub(super) fn clear(&self) {
        self.ready.store(None);
    }
}

impl Attempt {
    pub(super) async fn answered(&self) -> Result<Lease, Fault> {
        self.done.cancelled().await;
        let cut = || Err(Fault::Unavailable("the question to the issuer was broken off".to_owned()));
        self.answer.get().cloned().unwrap_or_else(cut)
    }
}
