use std::{sync::Arc, time::Instant};

use crate::{
    call::{Identified, Listener, Task},
    refusal::{Reason, Refusal},
};

/// The proof that a request may reach the agent, used up by sending it there. As a permit, only this
/// room makes one (law 1); unlike a permit it opens no way out: what takes a permit takes no entry.
///
/// It carries the task that the request is, and is void once that is over.
#[derive(Debug)]
pub struct Entry {
    task: Arc<Task>,
}

/// Lets a request in: it came through the inbound listener, it is known for whom, and its task runs.
///
/// # Errors
/// `no_task` for what came in elsewhere; why the task is over.
pub fn admit(identified: &Identified, now: Instant) -> Result<Entry, Refusal> {
    let caller = identified.caller();
    if caller.listener != Listener::Inbound {
        return Err(Refusal::new(Reason::NoTask, "only what came through the inbound listener reaches the agent"));
    }
    match caller.task.over(now) {
        Some(over) => Err(Refusal::new(over, format!("task {} gives no authority any more", caller.task.id))),
        None => Ok(Entry { task: caller.task.clone() }),
    }
}

impl Entry {
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Why the entry is void now, if it is.
    #[must_use]
    pub fn void(&self, now: Instant) -> Option<Reason> {
        self.task.over(now)
    }
}
