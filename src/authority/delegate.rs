use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    call::{LinkKind, Mode, Task, TaskId},
    clock::Moment,
    config::WorkflowSpec,
    refusal::{Reason, Refusal},
};

use super::{
    End, Registry, Tasks,
    handle::Handle,
    narrow::narrow_apart,
    overlap::any_within,
    registry::Agent,
    start::{Beginning, Past, Plan, authorised, lifetime, no_randomness},
    tasks::Live,
};

/// Parts of one task that live at a time: who may hand over may not fill the memory.
const MOST_CHILDREN: usize = 1000;

/// What is handed over of a task, and to whom.
#[derive(Debug, Clone)]
pub struct Delegate {
    pub agent: Arc<str>,
    pub workflow: Arc<str>,
    /// None: as long as the task may last that hands over. Never longer than that.
    pub lifetime: Option<Duration>,
    /// Grants that narrow the workflow's, as JSON in the registry's form; empty: the workflow's all.
    pub grants: Vec<Value>,
}

impl Tasks {
    /// Hands part of a task over: starts a task of another agent, for the same principal, that
    /// can do what both workflows and every grant of the chain allow, and ends with it.
    ///
    /// # Errors
    /// Why the parent is over; `delegation_invalid` when its agent may not delegate to this one, the
    /// chain would be longer than `tasks.depth`, or what is asked lies outside what there is to hand
    /// over; `limit_exceeded` when too many parts of it live; the other agent's status, `not_granted`
    /// and the rest as [`Tasks::start`].
    pub fn delegate(&self, registry: &Registry, parent: &TaskId, delegate: Delegate, now: Moment) -> Result<(Arc<Task>, Handle), Refusal> {
        let Some(above) = self.by_id.find(parent) else {
            return Err(invalid(format!("no task `{parent}` is known here")));
        };
        let Delegate { agent, workflow, lifetime: asked, grants } = delegate;
        self.still_authorised(registry, &above, now)?;
        let from = registry.agent(&above.task.agent.id).ok_or_else(|| invalid("the agent that hands over is not registered".into()))?;
        may_delegate(from, &above.task, &agent, self.bounds.depth.load(Ordering::Relaxed))?;
        let (to, workflow) = authorised(registry, &agent, &workflow, now.utc)?;
        let left = above.task.deadline().saturating_duration_since(now.instant);
        let lifetime = lifetime(workflow, asked)?.min(left);
        let grants = narrow_apart(workflow, &grants)?;
        nothing_outside(registry, &above.task, workflow, &grants)?;
        let grants = grants.into_iter().flatten().collect();
        room_below(&above)?;
        let Some((handle, digest)) = Handle::random() else { return Err(no_randomness()) };
        let (principal, before) = (above.task.principal.clone(), above.task.chain.clone());
        let (parent, past, proof) = (Some(above.task.clone()), Past::of(&above.task), above.task.proof.clone());
        let plan = Plan { agent: to, workflow, principal, proof, grants, before, parent, trace: None, lifetime, past };
        let task = self.make(registry, plan, now);
        self.events.started(&task, None)?;
        self.events.handle(&task, &|| digest.to_hex());
        let cut = task.deadline();
        let live = self.begin(task, Beginning { digest: Some(digest), spent: Arc::default(), parent: Some(above.clone()), cut });
        above.children.lock().push(Arc::downgrade(&live));
        // The one above may have ended meanwhile, and then did not see this one.
        if above.end.get().is_some() {
            self.finish(&live, End::Parent);
            return Err(Refusal::new(Reason::TaskEnded, format!("task {} ended while it was handed over", above.task.id)));
        }
        Ok((live.task.clone(), handle))
    }

    /// Whether a task, and each that it is part of, may still act.
    fn still_authorised(&self, registry: &Registry, live: &Live, now: Moment) -> Result<(), Refusal> {
        for one in live.upwards() {
            let over = one.end.get().map_or_else(|| one.task.over(now.instant), |_| Some(Reason::TaskEnded));
            if let Some(reason) = over {
                return Err(Refusal::new(reason, format!("task {} is over", one.task.id)));
            }
            authorised(registry, &one.task.agent.id, &one.task.workflow, now.utc)?;
        }
        Ok(())
    }
}

/// Whether the registry lets `parent`'s agent delegate to `to`, as deep as that would be.
fn may_delegate(from: &Agent, parent: &Task, to: &Arc<str>, depth: usize) -> Result<(), Refusal> {
    if !from.spec.delegates_to.contains(to) {
        let place = &from.spec.place;
        return Err(invalid(format!(
            "agent `{}` may not delegate to `{to}`: `delegates_to` at {}:{} does not list it",
            from.spec.id,
            place.file.display(),
            place.line
        )));
    }
    let agents = || parent.chain.iter().filter(|link| link.kind == LinkKind::Agent);
    if agents().any(|link| link.id == *to) {
        return Err(invalid(format!("agent `{to}` is in the delegation chain already")));
    }
    if agents().count() > depth {
        return Err(invalid(format!("the delegation chain would be longer than `tasks.depth` allows ({depth})")));
    }
    Ok(())
}

/// What could never be allowed is refused when it is asked for: every link of the chain has to grant a call.
fn nothing_outside(registry: &Registry, parent: &Task, workflow: &WorkflowSpec, grants: &[Vec<Value>]) -> Result<(), Refusal> {
    for link in parent.chain.iter().filter(|l| l.kind == LinkKind::Agent) {
        let Some(above) = link.workflow.as_deref().and_then(|w| registry.workflow(w)) else { continue };
        let held = link.grants.as_deref().unwrap_or_default();
        let outside = |what: String| invalid(format!("{what} lies outside what agent `{}` has to hand over", link.id));
        if grants.is_empty() && !any_within(above, held, workflow, &[]) {
            return Err(outside(format!("all that workflow `{}` grants", workflow.id)));
        }
        if let Some(i) = grants.iter().position(|grant| !any_within(above, held, workflow, grant)) {
            return Err(outside(format!("grants[{i}]")));
        }
    }
    Ok(())
}

fn room_below(above: &Live) -> Result<(), Refusal> {
    let mut children = above.children.lock();
    children.retain(|child| Weak::upgrade(child).is_some_and(|c| c.end.get().is_none()));
    if children.len() < MOST_CHILDREN {
        return Ok(());
    }
    let detail = format!("{MOST_CHILDREN} parts of task {} are being worked on: end some first", above.task.id);
    Err(Refusal::new(Reason::LimitExceeded, detail))
}

/// Nothing that is enforced above is only observed below.
pub(super) fn mode_below(above: Mode, own: Mode) -> Mode {
    if above == Mode::Observe { own } else { Mode::Enforce }
}

fn invalid(detail: String) -> Refusal {
    Refusal::new(Reason::DelegationInvalid, detail)
}
