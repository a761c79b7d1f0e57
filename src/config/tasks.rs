//! `tasks` and `labels`: what bounds every task, and whose the calls without a claim are.

use std::time::Duration;

use crate::config::{
    Ambient, TaskSpec,
    read::{Ref, Value},
    units,
};

/// The ambient task, with its agent and workflow to be looked up.
#[derive(Debug)]
pub(super) struct RawAmbient {
    pub(super) agent: Ref,
    pub(super) workflow: Ref,
    pub(super) spec: Ambient,
}

/// The most that `depth` can be: every link of a chain is judged on each call.
const DEEPEST: u64 = 16;

pub(super) fn tasks(tasks: Option<&Value<'_>>, labels: Option<&Value<'_>>) -> (Option<RawAmbient>, TaskSpec) {
    let mut spec = TaskSpec::default();
    let fields = tasks.and_then(|v| v.fields(&["ambient", "depth"]));
    if let Some(depth) = fields.as_ref().and_then(|f| f.optional("depth")).and_then(|v| v.number(0, DEEPEST)) {
        spec.depth = usize::try_from(depth).unwrap_or(spec.depth);
    }
    if let Some(sticky) = labels.and_then(|v| v.fields(&["sticky"])).as_ref().and_then(|f| f.optional("sticky")) {
        spec.sticky = self::sticky(sticky).unwrap_or(spec.sticky);
    }
    (fields.as_ref().and_then(|f| f.optional("ambient")).and_then(ambient), spec)
}

/// A time, or `0` for none.
fn sticky(value: &Value<'_>) -> Option<Duration> {
    match value.node.kind {
        crate::config::node::Kind::Number(_) => value.number(0, 0).map(|_| Duration::ZERO),
        _ => value.parse(units::duration),
    }
}

fn ambient(value: &Value<'_>) -> Option<RawAmbient> {
    let fields = value.fields(&["agent", "workflow", "uid"])?;
    let name = |key| {
        let value = fields.required(key, "an ambient task has an agent and a workflow")?;
        Some(Ref { name: value.text()?.into(), spot: value.spot() })
    };
    let (agent, workflow) = (name("agent"), name("workflow"));
    let mut uid = Vec::new();
    if let Some(value) = fields.optional("uid") {
        let list = value.list().unwrap_or_default();
        if list.is_empty() {
            value.wrong("no uid is listed, so no socket would fit", "list at least one uid, or remove the key");
        }
        uid = list.iter().filter_map(|v| u32::try_from(v.number(0, u64::from(u32::MAX))?).ok()).collect();
    }
    let (agent, workflow) = (agent?, workflow?);
    let spec = Ambient { agent: agent.name.clone(), workflow: workflow.name.clone(), uid };
    Some(RawAmbient { agent, workflow, spec })
}
