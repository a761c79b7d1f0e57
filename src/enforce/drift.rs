//! What a call shows of its agent, before it is judged: so the call that shows a difference is
//! already judged by it.

use serde_json::json;

use crate::{
    authority::{DriftKind, News},
    call::{Identified, Observed},
};

use super::{House, Rules};

/// The call with what is known of its agent. Costs one look where no agent is watched.
pub(super) fn shown(rules: &Rules, identified: Identified) -> Identified {
    match rules.registry.watched(&identified.caller().task.agent.id) {
        None => identified,
        Some(agent) => {
            let drift = agent.known.drift();
            if drift.is_empty() { identified } else { identified.drifted(drift) }
        }
    }
}

impl House {
    /// Takes what a call shows of its agent, when it is watched.
    pub(super) fn observe(&self, rules: &Rules, identified: Identified, observed: Option<&Observed>) -> Identified {
        let caller = identified.caller();
        let Some((observed, agent)) = observed.zip(rules.registry.watched(&caller.task.agent.id)) else { return identified };
        let News { seen, differences } = agent.known.observe(observed);
        let call = identified.accepted().account().outcome.id.to_string();
        if !seen.is_null() {
            let data = json!({"agent": agent.spec.id, "task": caller.task.id.as_str(), "call": call, "seen": seen});
            self.audit().event("observed", &data);
        }
        for (kind, what) in &differences {
            self.drifted(&agent.spec.id, *kind, what, Some((caller.task.id.as_str(), &call)));
        }
        let drift = agent.known.drift();
        if !differences.is_empty() {
            self.agent_drifted(&agent.spec.id, &drift);
        }
        if *drift == *caller.drift { identified } else { identified.drifted(drift) }
    }

    /// Puts a difference on record, and counts it.
    pub(super) fn drifted(&self, agent: &str, kind: DriftKind, what: &str, shown_by: Option<(&str, &str)>) {
        let mut data = json!({"agent": agent, "kind": kind.as_str(), "what": what});
        if let (Some((task, call)), Some(data)) = (shown_by, data.as_object_mut()) {
            data.insert("task".into(), task.into());
            data.insert("call".into(), call.into());
        }
        self.audit().event("drift", &data);
        self.metrics().drifted(kind.as_str());
        tracing::warn!(agent, kind = kind.as_str(), what, "the agent differs from what was attested");
    }
}
