use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    call::{Ends, Labels, Link, LinkKind, Principal, PrincipalToken, Succeeded, Task, TaskId, TraceId},
    clock::{self, Moment},
    config::WorkflowSpec,
    refusal::{Reason, Refusal},
    secret::Secret,
};

use super::{
    Registry, Tasks,
    delegate::mode_below,
    handle::{Digest, Handle},
    limits::Counters,
    narrow::narrow,
    registry::Agent,
    tasks::{Live, Standing},
};

/// What a task is to be.
#[derive(Debug, Clone)]
pub struct Start {
    pub agent: Arc<str>,
    pub workflow: Arc<str>,
    pub principal: Principal,
    /// The token that proved the principal.
    pub proof: Option<Arc<Secret<String>>>,
    /// None: the workflow's `max_lifetime`.
    pub lifetime: Option<Duration>,
    /// Grants that narrow the workflow's, as JSON in the registry's form; empty: the workflow's all.
    pub grants: Vec<Value>,
    /// The links above this agent's, as a verified delegation token gave them; empty: the principal alone.
    pub before: Vec<Link>,
    /// When it ends at the latest, whatever its lifetime.
    pub ends: Option<OffsetDateTime>,
    /// The trace whose calls are to be this task's.
    pub trace: Option<TraceId>,
}

impl Start {
    /// All that the workflow grants, for as long as it may last.
    #[must_use]
    pub fn new(agent: impl Into<Arc<str>>, workflow: impl Into<Arc<str>>, principal: Principal) -> Self {
        Self {
            agent: agent.into(),
            workflow: workflow.into(),
            principal,
            proof: None,
            lifetime: None,
            grants: Vec::new(),
            before: Vec::new(),
            ends: None,
            trace: None,
        }
    }
}

/// What a task is made from, checked.
pub(super) struct Plan<'a> {
    pub(super) agent: &'a Agent,
    pub(super) workflow: &'a WorkflowSpec,
    pub(super) principal: Principal,
    pub(super) proof: Arc<PrincipalToken>,
    pub(super) grants: Vec<Value>,
    /// The links above; empty: the principal alone.
    pub(super) before: Vec<Link>,
    pub(super) parent: Option<Arc<Task>>,
    pub(super) trace: Option<TraceId>,
    pub(super) lifetime: Duration,
    /// What the task that it goes on from, or is part of, has touched and done.
    pub(super) past: Past,
}

/// What tasks share that go on from one another, or are part of one another.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    pub(super) labels: Arc<Labels>,
    pub(super) succeeded: Arc<Succeeded>,
}

impl Past {
    pub(super) fn of(task: &Task) -> Self {
        Self { labels: task.labels.clone(), succeeded: task.succeeded.clone() }
    }
}

/// What else a task begins with.
pub(super) struct Beginning {
    pub(super) digest: Option<Digest>,
    pub(super) spent: Arc<Counters>,
    pub(super) parent: Option<Arc<Live>>,
    /// When what it has open is cut.
    pub(super) cut: Instant,
}

impl Tasks {
    /// Starts a task and answers its handle, which is shown only here.
    ///
    /// It ends no later than the workflow's `max_lifetime`, the agent's `expires` and the `until`
    /// of its mode.
    ///
    /// # Errors
    /// The agent's status; `not_granted` when it is not bound to the workflow or asks for too
    /// long a life; `delegation_invalid` when the grants are wider than the workflow's; what
    /// [`super::TaskEvents::started`] refuses with; `state_unavailable` without randomness.
    pub fn start(&self, registry: &Registry, start: Start, now: Moment) -> Result<(Arc<Task>, Handle), Refusal> {
        let Some((handle, digest)) = Handle::random() else { return Err(no_randomness()) };
        Ok((self.start_with(registry, start, Some(digest), now)?, handle))
    }

    /// Starts a task that no handle stands for: one who proved to be its agent is found to act for
    /// it by [`Tasks::by_trace`], and whoever started it ends it.
    ///
    /// # Errors
    /// As [`Tasks::start`].
    pub fn start_inbound(&self, registry: &Registry, start: Start, now: Moment) -> Result<Arc<Task>, Refusal> {
        self.start_with(registry, start, None, now)
    }

    fn start_with(&self, registry: &Registry, start: Start, digest: Option<Digest>, now: Moment) -> Result<Arc<Task>, Refusal> {
        let Start { agent, workflow, principal, proof, lifetime, grants, before, ends, trace } = start;
        let (agent, workflow) = authorised(registry, &agent, &workflow, now.utc)?;
        let mut lifetime = self::lifetime(workflow, lifetime)?;
        if let Some(ends) = ends {
            let left = Duration::try_from(ends - now.utc).unwrap_or_default();
            if left.is_zero() {
                return Err(Refusal::new(Reason::DelegationInvalid, "what it was delegated by has expired"));
            }
            lifetime = lifetime.min(left);
        }
        let grants = narrow(workflow, &grants)?;
        let proof = Arc::new(PrincipalToken::new(proof));
        let plan = Plan { agent, workflow, principal, proof, grants, before, parent: None, trace, lifetime, past: Past::default() };
        let task = self.make(registry, plan, now);
        self.events.started(&task, None)?;
        if let Some(digest) = digest {
            self.events.handle(&task, &|| digest.to_hex());
        }
        let cut = task.deadline();
        Ok(self.begin(task, Beginning { digest, spent: Arc::default(), parent: None, cut }).task.clone())
    }

    /// The task itself, not yet begun.
    pub(super) fn make(&self, registry: &Registry, plan: Plan<'_>, now: Moment) -> Arc<Task> {
        let Plan { agent, workflow, principal, proof, grants, before, parent, trace, lifetime, past } = plan;
        let mode = registry.mode(&agent.spec.id, &workflow.id, now.utc);
        let capped =
            [agent.spec.expires, mode.until].into_iter().flatten().map(|end| Duration::try_from(end - now.utc).unwrap_or_default());
        let mut chain = before;
        if chain.is_empty() {
            chain.push(Link { kind: LinkKind::Principal, id: principal.id.clone(), workflow: None, grants: None });
        }
        let standing = self.standing(&agent.spec.id);
        let sticky = Duration::from_secs(self.bounds.sticky.load(Ordering::Relaxed));
        let Past { labels, succeeded } = past;
        if labels.bring(&standing.touched.sticking(sticky, now.instant))
            && let Some(labelled) = self.labelled.get()
        {
            labelled(&labels);
        }
        let (id, workflow_id) = (agent.spec.id.clone(), workflow.id.clone());
        chain.push(Link { kind: LinkKind::Agent, id, workflow: Some(workflow_id), grants: Some(grants) });
        Arc::new(Task {
            id: TaskId::new(clock::unix_ms_of(now)),
            number: self.next.fetch_add(1, Ordering::Relaxed),
            agent: agent.shared.clone(),
            workflow: workflow.id.clone(),
            purpose: workflow.purpose.clone(),
            principal,
            proof,
            chain,
            ended: parent.as_ref().map(|p| p.ended.child_token()).unwrap_or_default(),
            mode: parent.as_ref().map_or(mode.mode, |above| mode_below(above.mode, mode.mode)),
            over_since: OnceLock::new(),
            parent,
            trace,
            started: now.utc,
            ends: Ends::after(now, capped.fold(lifetime, Duration::min)),
            labels,
            succeeded,
            redirects: Default::default(),
            origin: Default::default(),
        })
    }

    /// What an agent's tasks have in common.
    pub(super) fn standing(&self, agent: &Arc<str>) -> Arc<Standing> {
        self.standings.lock().entry(agent.clone()).or_default().clone()
    }

    /// Lets a task be found and used.
    pub(super) fn begin(&self, task: Arc<Task>, beginning: Beginning) -> Arc<Live> {
        let Beginning { digest, spent, parent, cut } = beginning;
        let standing = self.standing(&task.agent.id);
        task.labels.remembered_by(&standing.touched, cut);
        let windows = standing.windows.clone();
        let (children, cut_at, end) = (Mutex::default(), Mutex::new(cut), OnceLock::new());
        let live = Arc::new(Live { task, digest, spent, windows, parent, children, cut: cut_at, end, revoking: OnceLock::new() });
        self.active.fetch_add(1, Ordering::Relaxed);
        self.by_number.insert(live.task.number, live.clone());
        self.by_id.insert(live.task.id.clone(), live.clone());
        if let Some(digest) = digest {
            self.by_digest.insert(digest, live.clone());
        }
        if let Some(trace) = live.task.trace {
            self.by_trace.change((live.task.agent.id.clone(), trace), |all| all.push(live.clone()));
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

pub(super) fn no_randomness() -> Refusal {
    Refusal::new(Reason::StateUnavailable, "no randomness for a handle")
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

pub(super) fn lifetime(workflow: &WorkflowSpec, asked: Option<Duration>) -> Result<Duration, Refusal> {
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
