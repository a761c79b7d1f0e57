use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ahash::RandomState;
use time::OffsetDateTime;

use crate::{
    call::{AgentRef, Intent, Mode},
    config::{AgentSpec, Attested, ModeSpec, RegistrySpec, Status, WorkflowSpec},
    refusal::{Reason, Refusal},
};

use super::{
    drift::DriftKind,
    known::{Change, Known, KnownAgents, strictest},
    nearest::{self, Nearest},
};

/// The agents and workflows that are registered, found by id. Fixed; a reload makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    agents: HashMap<Arc<str>, Agent, RandomState>,
    workflows: HashMap<Arc<str>, WorkflowSpec, RandomState>,
    mode: Mode,
    /// Whether any agent is watched for drift.
    watching: Arc<AtomicBool>,
}

/// A registered agent.
#[derive(Debug, Clone)]
pub struct Agent {
    pub spec: AgentSpec,
    /// What is known of it beside that.
    pub known: Arc<Known>,
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
    /// The registry of a configuration whose own mode is `mode`, of agents of which nothing else is known.
    #[must_use]
    pub fn new(spec: &RegistrySpec, mode: Mode) -> Self {
        let known = KnownAgents::default();
        let agents = spec.agents.iter().map(|a| (a.id.clone(), Agent::new(a, known.of(&a.id)))).collect();
        let workflows = spec.workflows.iter().map(|w| (w.id.clone(), w.clone())).collect();
        Self { agents, workflows, mode, watching: Arc::default() }.holding()
    }

    /// The same registry of agents that are known already; what of each differs from what is attested
    /// now, and did not before.
    #[must_use]
    pub fn adopting(&self, known: &KnownAgents) -> (Self, Vec<(Arc<str>, DriftKind, String)>) {
        let mut registry = Self { watching: known.watching().clone(), ..self.clone() };
        let mut new = Vec::new();
        for (id, agent) in &mut registry.agents {
            agent.known = known.of(id);
            let differences = agent.known.hold_to(agent.spec.attested.as_ref());
            new.extend(differences.into_iter().map(|(kind, what)| (id.clone(), kind, what)));
        }
        registry.watch();
        (registry, new)
    }

    fn holding(self) -> Self {
        for agent in self.agents.values() {
            agent.known.hold_to(agent.spec.attested.as_ref());
        }
        self.watch();
        self
    }

    fn watch(&self) {
        self.watching.store(self.agents.values().any(|a| a.known.attested().is_some()), Ordering::Release);
    }

    /// The agent, when it is watched for drift.
    #[must_use]
    pub fn watched(&self, id: &str) -> Option<&Agent> {
        if !self.watching.load(Ordering::Acquire) {
            return None;
        }
        self.agents.get(id).filter(|a| a.known.attested().is_some())
    }

    /// Attests an agent while Remit runs; false when it is not registered.
    pub fn attest(&self, id: &str, attested: Attested, change: Change) -> bool {
        let Some(agent) = self.agents.get(id) else { return false };
        agent.known.attest(attested, agent.spec.attested.clone(), change);
        self.watch();
        true
    }

    /// The next moment after `utc` at which an agent's registration expires, and whose do then.
    #[must_use]
    pub fn next_expiry(&self, utc: OffsetDateTime) -> Option<OffsetDateTime> {
        self.agents.values().filter_map(|a| a.spec.expires).filter(|e| *e > utc).min()
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
            Reason::UnknownAgent => {
                format!("no agent `{agent}` is registered; add it to a registry file: {{id: {agent}, owner: WHO, workflows: [WORKFLOW]}}")
            }
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
    fn new(spec: &AgentSpec, known: Arc<Known>) -> Self {
        let shared = AgentRef { id: spec.id.clone(), owner: spec.owner.clone(), spiffe_id: spec.spiffe_id.clone() };
        Self { spec: spec.clone(), known, shared: Arc::new(shared) }
    }

    /// The stricter of what its file says and what a person set since.
    #[must_use]
    pub fn set_status(&self) -> Status {
        strictest(self.spec.status, self.known.status())
    }

    /// Why the agent may do nothing at `utc`, if so.
    #[must_use]
    pub fn status(&self, utc: OffsetDateTime) -> Option<Reason> {
        match self.set_status() {
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
