use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use ahash::RandomState;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{
    Journal, LeaseEvents,
    held::Held,
    slot::{Known, Slot},
};
use crate::{
    call::Task,
    clock,
    credential::{
        broker::Credential,
        issue::IssueCredential,
        scope::{Scope, Uses},
    },
};

/// What is held, by task and all together.
pub(super) struct Desk {
    pub(super) tasks: [RwLock<HashMap<u64, Arc<OfTask>, RandomState>>; PARTS],
    /// All that is not revoked or expired, and whether its time is over.
    pub(super) held: Mutex<BTreeMap<u64, (Arc<Held>, bool)>>,
    /// Who issues each credential, as it was last loaded: with the secrets that are good now.
    pub(super) issuers: Mutex<HashMap<Arc<str>, Arc<dyn IssueCredential>>>,
    /// How many are just being revoked together: a drain waits for them.
    revoking: watch::Sender<usize>,
    pub(super) journal: Journal,
    pub(super) events: Arc<dyn LeaseEvents>,
    pub(super) next: AtomicU64,
}

pub(super) const PARTS: usize = 16;
/// Ways of asking that are remembered for a task; what is beyond is found by its scope.
const KNOWN: usize = 1024;

/// What a task has.
pub(super) struct OfTask {
    pub(super) task: Arc<Task>,
    pub(super) known: ArcSwap<Vec<Known>>,
    pub(super) over: AtomicBool,
    pub(super) held: Mutex<Vec<Arc<Held>>>,
}

impl Desk {
    pub(super) fn new(journal: Journal, events: Arc<dyn LeaseEvents>) -> Self {
        let (tasks, held) = (std::array::from_fn(|_| RwLock::default()), Mutex::default());
        Self { tasks, held, issuers: Mutex::default(), revoking: watch::Sender::new(0), journal, events, next: AtomicU64::new(1) }
    }

    pub(super) fn part(&self, task: u64) -> &RwLock<HashMap<u64, Arc<OfTask>, RandomState>> {
        let [first, ..] = &self.tasks;
        self.tasks.get(task as usize % PARTS).unwrap_or(first)
    }

    pub(super) fn of_task(&self, task: &Arc<Task>) -> Arc<OfTask> {
        if let Some(of) = self.part(task.number).read().get(&task.number) {
            return of.clone();
        }
        let new = || OfTask { task: task.clone(), known: ArcSwap::default(), over: AtomicBool::new(false), held: Mutex::default() };
        self.part(task.number).write().entry(task.number).or_insert_with(|| Arc::new(new())).clone()
    }

    pub(super) fn forget(&self, of: &OfTask) {
        self.part(of.task.number).write().remove(&of.task.number);
    }

    /// Has a drain wait, for as long as the answer is held.
    pub(super) fn revoking(&self) -> Revoking<'_> {
        self.revoking.send_modify(|n| *n += 1);
        Revoking(&self.revoking)
    }

    /// Ready when nothing is just being revoked.
    pub(super) async fn quiet(&self) {
        let _ = self.revoking.subscribe().wait_for(|n| *n == 0).await;
    }

    /// Gives the task nothing any more, and revokes what it has; waits for what is just being issued.
    pub(super) async fn end(self: Arc<Self>, of: Arc<OfTask>) {
        let since = Instant::now();
        // Before the task is out of sight.
        let _revoking = self.revoking();
        self.forget(&of);
        let held = {
            let mut held = of.held.lock();
            of.over.store(true, Ordering::Release);
            std::mem::take(&mut *held)
        };
        let known = of.known.load_full();
        known.iter().for_each(|k| k.slot.clear());
        self.revoke_all(held, since).await;
        for attempt in known.iter().filter_map(|k| k.slot.asking()) {
            let _ = attempt.answered().await;
        }
    }

    pub(super) fn holds(&self, held: &Arc<Held>) {
        self.held.lock().insert(held.id, (held.clone(), false));
    }

    /// Its time is over.
    pub(super) fn due(&self, held: &Held) {
        if let Some((_, due)) = self.held.lock().get_mut(&held.id) {
            *due = true;
        }
    }

    /// Its issuer accepts it no more.
    pub(super) fn gone(&self, held: &Held) {
        self.held.lock().remove(&held.id);
        self.journal.gone(held);
    }

    /// Forgets what has expired.
    pub(super) fn expire(&self) {
        let now = clock::utc();
        let over: Vec<Arc<Held>> = self.held.lock().values().filter(|(h, _)| h.is_over(now)).map(|(h, _)| h.clone()).collect();
        over.iter().for_each(|held| self.gone(held));
    }
}

/// Something that is just being revoked.
pub(super) struct Revoking<'a>(&'a watch::Sender<usize>);

impl Drop for Revoking<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl OfTask {
    /// Keeps what was issued, in the place of `before`; false when the task is over.
    pub(super) fn hold(&self, new: &Arc<Held>, before: Option<&Arc<Held>>) -> bool {
        let mut held = self.held.lock();
        if self.over.load(Ordering::Acquire) {
            return false;
        }
        let now = clock::utc();
        held.retain(|h| before.is_none_or(|b| b.id != h.id) && !h.is_over(now));
        held.push(new.clone());
        true
    }

    /// The slot for a scope.
    pub(super) fn slot(&self, credential: &Arc<Credential>, scope: Scope, uses: Option<Uses>) -> Arc<Slot> {
        let fits = |k: &&Known| k.slot.credential.is(credential) && k.slot.scope == scope;
        let known = |all: &[Known]| all.iter().find(fits).map(|k| k.slot.clone());
        if let Some(slot) = self.known.load().iter().find(|k| fits(k) && (uses.is_none() || k.uses == uses)).map(|k| k.slot.clone()) {
            return slot;
        }
        let new = Arc::new(Slot::new(credential.clone(), scope.clone()));
        let mut slot = new.clone();
        self.known.rcu(|all| {
            slot = known(all).unwrap_or_else(|| new.clone());
            let mut all = (**all).clone();
            if all.len() < KNOWN || !all.iter().any(|k| Arc::ptr_eq(&k.slot, &slot)) {
                all.push(Known { uses: uses.clone(), slot: slot.clone() });
            }
            all
        });
        slot
    }
}
