use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ahash::RandomState;
use parking_lot::Mutex;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Labels, LimitRule, Link, LinkKind, Principal, Task, TaskId},
    clock::{Clock, Moment},
    config::WorkflowSpec,
    refusal::{Reason, Refusal},
};

use super::{
    End, Registry, TaskEvents,
    ambient::Ambient,
    handle::{Digest, Handle},
    limits::{self, Counters, Reservation},
    narrow::narrow,
    registry::Agent,
    shards::Shards,
};

/// The tasks that live. Outlasts reloads.
pub struct Tasks {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: Arc<dyn TaskEvents>,
    /// How long streams of an ambient task may go on after its successor began.
    pub(super) drain: Duration,
    pub(super) ambient: Ambient,
    next: AtomicU64,
    pub(super) active: AtomicUsize,
    pub(super) by_digest: Shards<Digest, Arc<Live>>,
    pub(super) by_id: Shards<TaskId, Arc<Live>>,
    pub(super) by_number: Shards<u64, Arc<Live>>,
    /// Windows count over an agent's tasks, so their counts outlive each.
    windows: Mutex<HashMap<Arc<str>, Arc<Counters>, RandomState>>,
    pub(super) ends: Mutex<BTreeMap<(Instant, u64), Arc<Live>>>,
    pub(super) ends_changed: Notify,
    pub(super) past: Mutex<VecDeque<Arc<Live>>>,
}

/// What a task is to be.
#[derive(Debug, Clone)]
pub struct Start {
    pub agent: Arc<str>,
    pub workflow: Arc<str>,
    pub principal: Principal,
    /// None: the workflow's `max_lifetime`.
    pub lifetime: Option<Duration>,
    /// Grants that narrow the workflow's, as JSON in the registry's form; empty: the workflow's all.
    pub grants: Vec<Value>,
}

/// A task that was looked up, and why it gives no authority, if it does not.
#[derive(Debug, Clone)]
pub struct Found {
    pub task: Arc<Task>,
    pub over: Option<Reason>,
}

/// What a task is made from, checked.
pub(super) struct Plan<'a> {
    pub(super) agent: &'a Agent,
    pub(super) workflow: &'a WorkflowSpec,
    pub(super) principal: Principal,
    pub(super) grants: Vec<Value>,
    pub(super) lifetime: Duration,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) task: Arc<Task>,
    pub(super) digest: Option<Digest>,
    pub(super) spent: Arc<Counters>,
    windows: Arc<Counters>,
    /// When what is still open is cut: the deadline, for an ambient task with the drain; sooner
    /// when a reload says so. Its key in `ends`, so it changes only under that lock.
    pub(super) cut: Mutex<Instant>,
    pub(super) end: OnceLock<End>,
}

impl Tasks {
    /// No tasks yet. `drain` is how long an ambient task's streams outlast it.
    pub fn new(clock: Arc<dyn Clock>, events: Arc<dyn TaskEvents>, drain: Duration) -> Self {
        Self {
            clock,
            events,
            drain,
            ambient: Ambient::default(),
            next: AtomicU64::new(1),
            active: AtomicUsize::new(0),
            by_digest: Shards::new(),
            by_id: Shards::new(),
            by_number: Shards::new(),
            windows: Mutex::default(),
            ends: Mutex::default(),
            ends_changed: Notify::new(),
            past: Mutex::default(),
        }
    }

    /// Starts a task and answers its handle, which is shown only here.
    ///
    /// It ends no later than the workflow's `max_lifetime`, the agent's `expires` and the `until`
    /// of its mode.
    ///
    /// # Errors
    /// The agent's status; `not_granted` when it is not bound to the workflow or asks for too
    /// long a life; `delegation_invalid` when the grants are wider than the workflow's; what
    /// [`TaskEvents::started`] refuses with; `state_unavailable` without randomness.
    pub fn start(&self, registry: &Registry, start: Start, now: Moment) -> Result<(Arc<Task>, Handle), Refusal> {
        let (agent, workflow) = authorised(registry, &start.agent, &start.workflow, now.utc)?;
        let lifetime = lifetime(workflow, start.lifetime)?;
        let grants = narrow(workflow, &start.grants)?;
        let Some((handle, digest)) = Handle::random() else {
            return Err(Refusal::new(Reason::StateUnavailable, "no randomness for a handle"));
        };
        let task = self.make(registry, Plan { agent, workflow, principal: start.principal, grants, lifetime }, now);
        self.events.started(&task, None)?;
        let cut = task.deadline;
        let live = self.begin(task, Some(digest), Arc::default(), cut);
        Ok((live.task.clone(), handle))
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

    /// Takes one from every limit's count, or none from any. Limits per task count in this task
    /// (an ambient one: and those it succeeds); windows count over all of the agent's tasks.
    /// A rule listed twice takes two.
    ///
    /// # Errors
    /// `limit_exceeded`, with a time to retry after when a window restores it; why the task is over.
    pub fn reserve(&self, task: &Arc<Task>, rules: &[LimitRule], now: Instant) -> Result<Reservation, Refusal> {
        if let Some(reason) = task.over(now) {
            return Err(Refusal::new(reason, format!("task {} is over", task.id)));
        }
        if rules.is_empty() {
            return Ok(Reservation::nothing());
        }
        let Some(live) = self.by_number.find(&task.number) else {
            return Err(Refusal::new(Reason::TaskEnded, format!("task {} is over", task.id)));
        };
        limits::reserve(&live.spent, &live.windows, rules, now)
    }

    /// The task itself, not yet begun.
    pub(super) fn make(&self, registry: &Registry, plan: Plan<'_>, now: Moment) -> Arc<Task> {
        let Plan { agent, workflow, principal, grants, lifetime } = plan;
        let mode = registry.mode(&agent.spec.id, &workflow.id, now.utc);
        let capped =
            [agent.spec.expires, mode.until].into_iter().flatten().map(|end| Duration::try_from(end - now.utc).unwrap_or_default());
        let end = now.later(capped.fold(lifetime, Duration::min));
        let chain = vec![
            Link { kind: LinkKind::Principal, id: principal.id.clone(), workflow: None, grants: None },
            Link { kind: LinkKind::Agent, id: agent.spec.id.clone(), workflow: Some(workflow.id.clone()), grants: Some(grants) },
        ];
        Arc::new(Task {
            id: TaskId::new(u64::try_from(now.utc.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)),
            number: self.next.fetch_add(1, Ordering::Relaxed),
            agent: agent.shared.clone(),
            workflow: workflow.id.clone(),
            purpose: workflow.purpose.clone(),
            principal,
            chain,
            mode: mode.mode,
            started: now.utc,
            expires: end.utc,
            deadline: end.instant,
            ended: CancellationToken::new(),
            labels: Labels::default(),
            redirects: Default::default(),
        })
    }

    /// Lets a task be found and used.
    pub(super) fn begin(&self, task: Arc<Task>, digest: Option<Digest>, spent: Arc<Counters>, cut: Instant) -> Arc<Live> {
        let windows = self.windows.lock().entry(task.agent.id.clone()).or_default().clone();
        let live = Arc::new(Live { task, digest, spent, windows, cut: Mutex::new(cut), end: OnceLock::new() });
        self.active.fetch_add(1, Ordering::Relaxed);
        self.by_number.insert(live.task.number, live.clone());
        self.by_id.insert(live.task.id.clone(), live.clone());
        if let Some(digest) = digest {
            self.by_digest.insert(digest, live.clone());
        }
        let first = {
            let mut ends = self.ends.lock();
            ends.insert((cut, live.task.number), live.clone());
            ends.first_key_value().is_some_and(|((_, number), _)| *number == live.task.number)
        };
        if first {
            self.ends_changed.notify_one();
        }
        live
    }
}

impl Live {
    fn found(&self, now: Instant) -> Found {
        let over = match self.end.get() {
            Some(End::Expired) => Some(Reason::TaskExpired),
            Some(End::Asked | End::Withdrawn | End::Replaced) => Some(Reason::TaskEnded),
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

/// The agent and workflow, when the one may act and is bound to the other.
pub(super) fn authorised<'a>(
    registry: &'a Registry,
    agent: &str,
    workflow: &str,
    utc: OffsetDateTime,
) -> Result<(&'a Agent, &'a WorkflowSpec), Refusal> {
    if let Some(refusal) = registry.refusal(agent, utc) {
        return Err(refusal);
    }
    match (registry.agent(agent), registry.workflow(workflow)) {
        (Some(a), Some(w)) if a.has_workflow(workflow) => Ok((a, w)),
        (_, None) => Err(Refusal::new(Reason::NotGranted, format!("no workflow `{workflow}` is registered"))),
        _ => Err(Refusal::new(Reason::NotGranted, format!("agent `{agent}` is not bound to workflow `{workflow}`"))),
    }
}

fn lifetime(workflow: &WorkflowSpec, asked: Option<Duration>) -> Result<Duration, Refusal> {
    match asked {
        None => Ok(workflow.max_lifetime),
        Some(asked) if asked.is_zero() => Err(Refusal::new(Reason::NotGranted, "a task needs a lifetime longer than zero")),
        Some(asked) if asked > workflow.max_lifetime => Err(Refusal::new(
            Reason::NotGranted,
            format!(
                "a lifetime of {} s is longer than the {} s that workflow `{}` allows",
                asked.as_secs(),
                workflow.max_lifetime.as_secs(),
                workflow.id
            ),
        )),
        Some(asked) => Ok(asked),
    }
}
