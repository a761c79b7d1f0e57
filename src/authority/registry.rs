use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use time::OffsetDateTime;

use crate::{
    call::{AgentRef, Intent, Mode},
    config::{AgentSpec, ModeSpec, RegistrySpec, Status, WorkflowSpec},
    refusal::{Reason, Refusal},
};

use super::nearest::{self, Nearest};

/// The agents and workflows that are registered, found by id. Fixed; a reload makes a new one.
#[derive(Debug, Default)]
pub struct Registry {
    agents: HashMap<Arc<str>, Agent, RandomState>,
    workflows: HashMap<Arc<str>, WorkflowSpec, RandomState>,
    mode: Mode,
}

/// A registered agent.
#[derive(Debug, Clone)]
pub struct Agent {
    pub spec: AgentSpec,
    /// What calls and tasks carry of it.
    pub shared: Arc<AgentRef>,
}

/// The mode that holds for an agent in a workflow, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectiveMode {
    pub mode: Mode,
    /// When it must be asked again.
    pub until: Option<OffsetDateTime>,
}

impl Registry {
    /// The registry of a configuration whose own mode is `mode`.
    #[must_use]
    pub fn new(spec: &RegistrySpec, mode: Mode) -> Self {
        let agents = spec.agents.iter().map(|a| (a.id.clone(), Agent::new(a))).collect();
        let workflows = spec.workflows.iter().map(|w| (w.id.clone(), w.clone())).collect();
        Self { agents, workflows, mode }
    }

    #[must_use]
    pub fn agent(&self, id: &str) -> Option<&Agent> {
        self.agents.get(id)
    }

    #[must_use]
    pub fn workflow(&self, id: &str) -> Option<&WorkflowSpec> {
        self.workflows.get(id)
    }

    /// All agents, by id.
    #[must_use]
    pub fn agents(&self) -> Vec<&Agent> {
        let mut all: Vec<_> = self.agents.values().collect();
        all.sort_unstable_by(|a, b| a.spec.id.cmp(&b.spec.id));
        all
    }

    /// Why the agent may do nothing at `utc`, if so.
    #[must_use]
    pub fn status(&self, agent: &str, utc: OffsetDateTime) -> Option<Reason> {
        let Some(agent) = self.agents.get(agent) else { return Some(Reason::UnknownAgent) };
        agent.status(utc)
    }

    /// The refusal for an agent that may do nothing at `utc`, in words, with what mends it.
    #[must_use]
    pub fn refusal(&self, agent: &str, utc: OffsetDateTime) -> Option<Refusal> {
        let reason = self.status(agent, utc)?;
        let owner = self.agents.get(agent).map_or("", |a| &*a.spec.owner);
        let detail = match reason {
            Reason::UnknownAgent => format!("no agent `{agent}` is registered; add it to a registry file"),
            Reason::AgentExpired => format!("the registration of agent `{agent}` has expired; its owner, {owner}, can renew it"),
            Reason::AgentRetired => format!("agent `{agent}` is retired; its owner is {owner}"),
            _ => format!("agent `{agent}` is suspended; its owner is {owner}"),
        };
        Some(Refusal::new(reason, detail))
    }

    /// Whether the agent is bound to the workflow, and the workflow is registered.
    #[must_use]
    pub fn bound(&self, agent: &str, workflow: &str) -> bool {
        self.workflows.contains_key(workflow) && self.agents.get(agent).is_some_and(|a| a.has_workflow(workflow))
    }

    /// The mode for an agent in a workflow at `utc`: what the two say, the stricter when they
    /// differ; the configuration's when neither says anything that still holds.
    #[must_use]
    pub fn mode(&self, agent: &str, workflow: &str, utc: OffsetDateTime) -> EffectiveMode {
        let of_agent = self.agents.get(agent).and_then(|a| a.spec.mode);
        let of_workflow = self.workflows.get(workflow).and_then(|w| w.mode);
        let said: Vec<ModeSpec> = [of_agent, of_workflow].into_iter().flatten().filter(|m| m.until.is_none_or(|u| utc < u)).collect();
        let until = said.iter().filter_map(|m| m.until).min();
        let mode = if said.is_empty() {
            self.mode
        } else if said.iter().all(|m| m.mode == Mode::Observe) {
            Mode::Observe
        } else {
            Mode::Enforce
        };
        EffectiveMode { mode, until }
    }

    /// The grant of `workflow` that comes nearest to `intent`, and what it lacked; None when the
    /// workflow is not registered or grants nothing.
    #[must_use]
    pub fn explain(&self, workflow: &str, intent: &Intent) -> Option<Nearest> {
        nearest::nearest(&self.workflows.get(workflow)?.grants, intent)
    }
}

impl Agent {
    fn new(spec: &AgentSpec) -> Self {
        let shared = AgentRef { id: spec.id.clone(), owner: spec.owner.clone(), spiffe_id: spec.spiffe_id.clone() };
        Self { spec: spec.clone(), shared: Arc::new(shared) }
    }

    /// Why the agent may do nothing at `utc`, if so.
    #[must_use]
    pub fn status(&self, utc: OffsetDateTime) -> Option<Reason> {
        match self.spec.status {
            Status::Suspended => Some(Reason::AgentSuspended),
            Status::Retired => Some(Reason::AgentRetired),
            Status::Active => self.spec.expires.is_some_and(|e| utc >= e).then_some(Reason::AgentExpired),
        }
    }

    #[must_use]
    pub fn has_workflow(&self, workflow: &str) -> bool {
        self.spec.workflows.iter().any(|w| &**w == workflow)
    }
}
