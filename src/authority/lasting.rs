//! Moving a task's end.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    call::{Task, TaskId},
    clock::Moment,
    refusal::{Reason, Refusal},
};

use super::{Registry, Tasks, start::authorised, tasks::Live};

impl Tasks {
    /// Lets a task last `lifetime` from now: no longer than its workflow, its agent, its mode and the
    /// task that it is part of allow. What is shortened shortens all below it.
    ///
    /// # Errors
    /// Why the task is over; `not_granted` for longer than is allowed; what
    /// [`super::TaskEvents::changed`] refuses with.
    pub fn lasts(&self, registry: &Registry, id: &TaskId, lifetime: Duration, now: Moment) -> Result<Arc<Task>, Refusal> {
        let Some(live) = self.by_id.find(id) else {
            return Err(Refusal::new(Reason::NoTask, format!("no task `{id}` is known here")));
        };
        let task = &live.task;
        if let Some(reason) = live.end.get().map(|_| Reason::TaskEnded).or_else(|| task.over(now.instant)) {
            return Err(Refusal::new(reason, format!("task {id} is over")));
        }
        if lifetime.is_zero() {
            return Err(Refusal::new(Reason::NotGranted, "a task needs a lifetime longer than zero; to end it, end it"));
        }
        let most = most(registry, task, now)?;
        if lifetime > most {
            let detail = format!("task {id} may last {} s from now, and no longer", most.as_secs());
            return Err(Refusal::new(Reason::NotGranted, detail));
        }
        let end = now.later(lifetime);
        self.events.changed(task, end.utc)?;
        self.move_end(&live, end);
        Ok(task.clone())
    }

    pub(super) fn move_end(&self, live: &Arc<Live>, end: Moment) {
        // What an ambient task has open is cut some time after its end.
        let before = live.task.deadline();
        live.task.ends.last_until(end.instant);
        self.cut(live, |cut| end.instant + cut.saturating_duration_since(before));
        live.task.labels.lasts_until(end.instant);
        let children: Vec<Arc<Live>> = live.children.lock().iter().filter_map(Weak::upgrade).collect();
        for child in children.iter().filter(|child| child.task.deadline() > end.instant) {
            self.move_end(child, end);
        }
    }
}

/// How long from now a task may last.
fn most(registry: &Registry, task: &Task, now: Moment) -> Result<Duration, Refusal> {
    let (agent, workflow) = authorised(registry, &task.agent.id, &task.workflow, now.utc)?;
    let mut most = workflow.max_lifetime.saturating_sub(now.instant.saturating_duration_since(task.ends.began()));
    let until = registry.mode(&task.agent.id, &task.workflow, now.utc).until;
    for end in [agent.spec.expires, until].into_iter().flatten() {
        most = most.min(Duration::try_from(end - now.utc).unwrap_or_default());
    }
    if let Some(parent) = &task.parent {
        most = most.min(parent.deadline().saturating_duration_since(now.instant));
    }
    Ok(most)
}
