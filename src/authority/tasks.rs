use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ahash::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Labels, LimitRule, Task, TaskId, Touched, TraceId},
    clock::Clock,
    config::TaskSpec,
    refusal::{Reason, Refusal},
};

use super::{
    End, TaskEvents,
    ambient::Ambient,
    arrivals::Arrivals,
    handle::Digest,
    known::KnownAgents,
    limits::{self, Counters, Reservation},
    proven::Proven,
    shards::Shards,
};

/// The tasks that live. Outlasts reloads.
pub struct Tasks {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: Arc<dyn TaskEvents>,
    /// How long streams of an ambient task may go on after its successor began.
    pub(super) drain: Duration,
    pub(super) ambient: Ambient,
    pub(super) known: KnownAgents,
    pub(super) arrivals: Arrivals,
    pub(super) proven: Proven,
    pub(super) next: AtomicU64,
    pub(super) active: AtomicUsize,
    pub(super) by_digest: Shards<Digest, Arc<Live>>,
    pub(super) by_id: Shards<TaskId, Arc<Live>>,
    pub(super) by_number: Shards<u64, Arc<Live>>,
    pub(super) by_trace: Shards<(Arc<str>, TraceId), Traced>,
    pub(super) standings: Mutex<HashMap<Arc<str>, Arc<Standing>, RandomState>>,
    pub(super) bounds: Bounds,
    pub(super) ends: Mutex<BTreeMap<(Instant, u64), Arc<Live>>>,
    pub(super) ends_changed: Notify,
    pub(super) past: Mutex<VecDeque<Arc<Live>>>,
    pub(super) revoker: OnceLock<Arc<dyn RevokeLeases>>,
    pub(super) labelled: OnceLock<Labelled>,
}

/// Is told of labels that an agent brought along into tasks that run.
pub type Labelled = Box<dyn Fn(&Arc<Labels>) + Send + Sync>;

/// Is ready when it is revoked.
pub type Revoking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Revokes what was issued for a task.
pub trait RevokeLeases: Send + Sync {
    /// Is asked once for each task, when it has ended; the future is ready when nothing that was issued
    /// for it is of use any more. None when nothing was.
    fn revoke(&self, task: &Arc<Task>) -> Option<Revoking>;
}

/// What an agent's tasks have in common, and outlives each.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// What counts over all of them.
    pub(super) windows: Arc<Counters>,
    /// What labels the later ones.
    pub(super) touched: Arc<Touched>,
}

/// What the configuration bounds; changes with it.
#[derive(Debug)]
pub(super) struct Bounds {
    /// How often a task may be handed on.
    pub(super) depth: AtomicUsize,
    /// How long labels stick to an agent, in seconds.
    pub(super) sticky: AtomicU64,
}

impl Default for Bounds {
    fn default() -> Self {
        let spec = TaskSpec::default();
        Self { depth: AtomicUsize::new(spec.depth), sticky: AtomicU64::new(spec.sticky.as_secs()) }
    }
}

/// A task that was looked up, and why it gives no authority, if it does not.
#[derive(Debug, Clone)]
pub struct Found {
    pub task: Arc<Task>,
    pub over: Option<Reason>,
}

/// An agent can have several tasks in one trace.
type Traced = SmallVec<[Arc<Live>; 1]>;

#[derive(Debug)]
pub(super) struct Live {
    pub(super) task: Arc<Task>,
    pub(super) digest: Option<Digest>,
    pub(super) spent: Arc<Counters>,
    pub(super) windows: Arc<Counters>,
    /// The task that it is part of.
    pub(super) parent: Option<Arc<Self>>,
    /// The tasks that it handed parts of itself to.
    pub(super) children: Mutex<Vec<Weak<Self>>>,
    /// When what is still open is cut: the deadline, for an ambient task with the drain; sooner
    /// when a reload says so. Its key in `ends`, so it changes only under that lock.
    pub(super) cut: Mutex<Instant>,
    pub(super) end: OnceLock<End>,
    /// Cancelled when what was issued for it is revoked.
    pub(super) revoking: OnceLock<CancellationToken>,
}

impl Tasks {
    /// No tasks yet. `drain` is how long an ambient task's streams outlast it.
    pub fn new(clock: Arc<dyn Clock>, events: Arc<dyn TaskEvents>, drain: Duration) -> Self {
        Self {
            clock,
            events,
            drain,
            ambient: Ambient::default(),
            known: KnownAgents::default(),
            arrivals: Arrivals::default(),
            proven: Proven::default(),
            next: AtomicU64::new(1),
            active: AtomicUsize::new(0),
            by_digest: Shards::new(),
            by_id: Shards::new(),
            by_number: Shards::new(),
            by_trace: Shards::new(),
            standings: Mutex::default(),
            bounds: Bounds::default(),
            ends: Mutex::default(),
            ends_changed: Notify::new(),
            past: Mutex::default(),
            revoker: OnceLock::new(),
            labelled: OnceLock::new(),
        }
    }

    /// What is known of agents beside their registration.
    #[must_use]
    pub fn known(&self) -> &KnownAgents {
        &self.known
    }

    /// Holds tasks that begin from now on to these bounds.
    pub fn bound_by(&self, spec: &TaskSpec) {
        self.bounds.depth.store(spec.depth, Ordering::Relaxed);
        self.bounds.sticky.store(spec.sticky.as_secs(), Ordering::Relaxed);
    }

    /// Tells `labelled` when an agent that is handed part of a task labels it. The first stays.
    pub fn on_labels(&self, labelled: Labelled) {
        let _ = self.labelled.set(labelled);
    }

    /// Has what is issued for tasks revoked by `revoker` as they end. The first stays.
    pub fn revoke_by(&self, revoker: Arc<dyn RevokeLeases>) {
        let _ = self.revoker.set(revoker);
    }

    /// The task that a presented handle stands for, also for a while after its end.
    #[must_use]
    pub fn by_handle(&self, presented: &[u8], now: Instant) -> Option<Found> {
        self.by_digest.find(&Digest::of_text(presented)?).map(|live| live.found(now))
    }

    /// The task with this id, also for a while after its end.
    #[must_use]
    pub fn by_id(&self, id: &TaskId, now: Instant) -> Option<Found> {
        self.by_id.find(id).map(|live| live.found(now))
    }

    /// The task of this agent that was started for this trace and has not ended.
    ///
    /// # Errors
    /// `delegation_invalid` when it has several: then a call must show which by its handle.
    pub fn by_trace(&self, agent: &Arc<str>, trace: TraceId, now: Instant) -> Result<Option<Found>, Refusal> {
        match self.by_trace.find(&(agent.clone(), trace)).as_deref() {
            None | Some([]) => Ok(None),
            Some([live]) => Ok(Some(live.found(now))),
            Some(_) => Err(Refusal::new(
                Reason::DelegationInvalid,
                format!("several tasks of {agent} were started for trace {trace}: the handle says which one a call is for"),
            )),
        }
    }

    /// The tasks that have not ended, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Task>> {
        let mut all: Vec<_> = self.by_id.select(|l| l.end.get().is_none()).into_iter().map(|l| l.task.clone()).collect();
        all.sort_unstable_by_key(|t| t.number);
        all
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// How many tasks of each agent have not ended; who has none is not named.
    #[must_use]
    pub fn active_by_agent(&self) -> HashMap<Arc<str>, usize> {
        let mut counts: HashMap<Arc<str>, usize> = HashMap::new();
        self.by_id.each(|live| {
            if live.end.get().is_none() {
                *counts.entry(live.task.agent.id.clone()).or_default() += 1;
            }
        });
        counts
    }

    /// Takes what a call may use from every limit's count, or nothing from any: one for each rule on
    /// calls, `tokens` (the most that it lets a model answer with) for each on tokens. A rule listed
    /// twice takes twice. What a link of the chain owns is taken from that link's task or agent, what
    /// nobody owns from each of the chain.
    ///
    /// # Errors
    /// `limit_exceeded`, with a time to retry after when a window restores it; why the task is over.
    pub fn reserve(&self, task: &Arc<Task>, rules: &[LimitRule], tokens: Option<u64>, now: Instant) -> Result<Reservation, Refusal> {
        if let Some(reason) = task.over(now) {
            return Err(Refusal::new(reason, format!("task {} is over", task.id)));
        }
        if rules.is_empty() {
            return Ok(Reservation::nothing());
        }
        let Some(live) = self.by_number.find(&task.number) else {
            return Err(Refusal::new(Reason::TaskEnded, format!("task {} is over", task.id)));
        };
        limits::reserve(&limits::draws(&live, rules), tokens, now)
    }
}

impl Live {
    /// This task, the one that it is part of, and so on up.
    pub(super) fn upwards(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |live| live.parent.as_deref())
    }

    fn found(&self, now: Instant) -> Found {
        let over = match self.end.get() {
            Some(End::Expired) => Some(Reason::TaskExpired),
            Some(_) => Some(Reason::TaskEnded),
            None => self.task.over(now),
        };
        Found { task: self.task.clone(), over }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("active", &self.active()).finish_non_exhaustive()
    }
}
