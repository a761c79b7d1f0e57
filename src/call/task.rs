use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::{Labels, Origin, PrincipalToken, Redirects, Succeeded, TaskId, TraceId};
use crate::clock::Moment;

/// Whether policy refusals are enforced, or only recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Enforce,
    Observe,
}

impl Mode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// What other rooms need of a registered agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRef {
    pub id: Arc<str>,
    pub owner: Arc<str>,
    pub spiffe_id: Option<Arc<str>>,
}

/// The human or service a task is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Principal {
    pub id: Arc<str>,
    /// True only for what a token proved.
    pub verified: bool,
    pub claims: serde_json::Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    Principal,
    Agent,
}

/// One link of a delegation chain, as policies see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub kind: LinkKind,
    pub id: Arc<str>,
    /// None for a principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Arc<str>>,
    /// Grants that narrow the workflow's, as JSON in the registry's form; empty: the workflow's all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<serde_json::Value>>,
}

/// One run of one workflow by one agent, for a principal, with an end.
///
/// The unit of authority, credentials and revocation: cancelling `ended` reaches every call that
/// the task has open, and that of every task below it. Fixed for its life, but for its end and
/// for what it has touched.
#[derive(Debug)]
pub struct Task {
    pub id: TaskId,
    /// Small and never used again in this process; stands for the task's fixed part in cache keys.
    pub number: u64,
    pub agent: Arc<AgentRef>,
    pub workflow: Arc<str>,
    pub purpose: Arc<str>,
    pub principal: Principal,
    /// What proved the principal, where a token did; one for a task and all below it.
    pub proof: Arc<PrincipalToken>,
    /// From the principal to this task's own agent.
    pub chain: Vec<Link>,
    /// The task that handed part of itself over, when this is that part.
    pub parent: Option<Arc<Task>>,
    /// The trace whose calls are this task's, where it was started for one.
    pub trace: Option<TraceId>,
    pub mode: Mode,
    pub started: OffsetDateTime,
    pub ends: Ends,
    /// Below the parent's: what ends above ends here.
    pub ended: CancellationToken,
    /// When it ended; set before `ended` is cancelled.
    pub over_since: OnceLock<Instant>,
    /// One set for a task and all below it, and for an ambient task and its successors.
    pub labels: Arc<Labels>,
    /// As the labels, one for all of these. Kept while a policy asks.
    pub succeeded: Arc<Succeeded>,
    /// Where its allowed answers sent it.
    pub redirects: Redirects,
    /// From where its handle is shown.
    pub origin: Origin,
}

/// When a task ends, on both clocks: the monotonic one is enforced, the other is for people.
#[derive(Debug)]
pub struct Ends {
    from: Moment,
    nanos: AtomicU64,
}

impl Ends {
    /// `lifetime` after `from`.
    #[must_use]
    pub fn after(from: Moment, lifetime: Duration) -> Self {
        let ends = Self { from, nanos: AtomicU64::new(0) };
        ends.set(lifetime);
        ends
    }

    /// How long it is from the beginning to the end.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn moment(&self) -> Moment {
        self.from.later(self.lifetime())
    }

    /// When it began, by the clock that does not jump.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.from.instant
    }

    pub(crate) fn last_until(&self, end: Instant) {
        self.set(end.saturating_duration_since(self.from.instant));
    }

    fn set(&self, lifetime: Duration) {
        self.nanos.store(u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Task {
    /// Wall-clock end, for people; [`Task::deadline`] is what is enforced.
    #[must_use]
    pub fn expires(&self) -> OffsetDateTime {
        self.ends.moment().utc
    }

    #[must_use]
    pub fn deadline(&self) -> Instant {
        let from = self.ends.from.instant;
        from.checked_add(self.ends.lifetime()).unwrap_or(from)
    }

    /// Since when it is over, where it was ended: its own end, or that of one above.
    #[must_use]
    pub fn over_since(&self) -> Option<Instant> {
        self.upwards().find_map(|task| task.over_since.get().copied())
    }

    /// This task, the one that it is part of, and so on up.
    pub fn upwards(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |task| task.parent.as_deref())
    }

    /// Why the task gives no authority now, if it does not. The deadline comes first: what is
    /// cancelled because its time was up has expired.
    #[must_use]
    pub fn over(&self, now: Instant) -> Option<crate::refusal::Reason> {
        if now >= self.deadline() {
            Some(crate::refusal::Reason::TaskExpired)
        } else if self.ended.is_cancelled() {
            Some(crate::refusal::Reason::TaskEnded)
        } else {
            None
        }
    }
}

impl Task {
    /// Why a task whose `ended` was cancelled is over.
    #[must_use]
    pub fn why_over(&self) -> crate::refusal::Reason {
        self.over(Instant::now()).unwrap_or(crate::refusal::Reason::TaskEnded)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.id, self.agent.id, self.workflow)
    }
}
