use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::{Label, Redirects, TaskId};

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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Principal {
    pub id: Arc<str>,
    /// True only for what a token proved.
    pub verified: bool,
    pub claims: serde_json::Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    Principal,
    Agent,
}

/// One link of a delegation chain, as policies see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    pub kind: LinkKind,
    pub id: Arc<str>,
    /// None for a principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Arc<str>>,
    /// Grants that narrow the workflow's, as JSON in the registry's form; empty: the workflow's all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<serde_json::Value>>,
}

/// What a task has touched. Grows only; `version` counts the growth.
#[derive(Debug, Default)]
pub struct Labels {
    set: RwLock<BTreeSet<Label>>,
    version: AtomicU64,
}

impl Labels {
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn list(&self) -> Vec<Label> {
        self.set.read().iter().copied().collect()
    }

    /// Adds labels; true when the task had not all of them.
    pub fn add(&self, labels: &[Label]) -> bool {
        let mut set = self.set.write();
        let before = set.len();
        set.extend(labels);
        let grew = set.len() > before;
        if grew {
            self.version.fetch_add(1, Ordering::Release);
        }
        grew
    }
}

/// One run of one workflow by one agent, for a principal, with an end.
///
/// The unit of authority, credentials and revocation: cancelling `ended` reaches every call that
/// the task has open. Everything else but the labels is fixed for its life.
#[derive(Debug)]
pub struct Task {
    pub id: TaskId,
    /// Small and never used again in this process; stands for the task's fixed part in cache keys.
    pub number: u64,
    pub agent: Arc<AgentRef>,
    pub workflow: Arc<str>,
    pub purpose: Arc<str>,
    pub principal: Principal,
    pub chain: Vec<Link>,
    pub mode: Mode,
    pub started: OffsetDateTime,
    /// Wall-clock end, for people; `deadline` is what is enforced.
    pub expires: OffsetDateTime,
    pub deadline: Instant,
    pub ended: CancellationToken,
    pub labels: Labels,
    /// Where its allowed answers sent it.
    pub redirects: Redirects,
}

impl Task {
    /// Why the task gives no authority now, if it does not. The deadline comes first: what is
    /// cancelled because its time was up has expired.
    #[must_use]
    pub fn over(&self, now: Instant) -> Option<crate::refusal::Reason> {
        if now >= self.deadline {
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
