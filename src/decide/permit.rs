use std::{sync::Arc, time::Instant};

use crate::{
    call::{Leash, Mode, Task},
    refusal::Reason,
};

/// The proof of an allow, used up by sending. Only this room makes one (law 1): its fields are
/// private and its constructors are not visible outside.
///
/// It carries its task's cancellation, and is void once the task is over or was labelled anew.
#[derive(Debug)]
pub struct Permit {
    task: Arc<Task>,
    labels_version: u64,
    mode: Mode,
    own_login: bool,
    leash: Option<Arc<Leash>>,
}

impl Permit {
    /// For a call that policy allows.
    pub(super) fn granted(task: Arc<Task>, labels_version: u64) -> Self {
        Self { task, labels_version, mode: Mode::Enforce, own_login: false, leash: None }
    }

    /// For a call of a task in `mode: observe`, whatever policy said: nothing is injected, and
    /// the agent's own credentials pass. Marked on the record.
    pub(super) fn observed(task: Arc<Task>, labels_version: u64) -> Self {
        Self { task, labels_version, mode: Mode::Observe, own_login: true, leash: None }
    }

    /// Lets the agent's own login through to the one provider whose credential is of kind `own`.
    #[must_use]
    pub fn with_own_login(self) -> Self {
        Self { own_login: true, ..self }
    }

    /// For a call whose request side stays open: it can be ended by itself.
    #[must_use]
    pub fn on_leash(self, leash: Arc<Leash>) -> Self {
        Self { leash: Some(leash), ..self }
    }

    #[must_use]
    pub fn leash(&self) -> Option<&Arc<Leash>> {
        self.leash.as_ref()
    }

    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the agent's own credentials go upstream.
    #[must_use]
    pub fn passes_own_login(&self) -> bool {
        self.own_login
    }

    /// Why the permit is void now, if it is.
    #[must_use]
    pub fn void(&self, now: Instant) -> Option<Reason> {
        if let Some(reason) = self.task.over(now) {
            return Some(reason);
        }
        (self.task.labels.version() != self.labels_version).then_some(Reason::NotGranted)
    }
}
