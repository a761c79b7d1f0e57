use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::{
    call::{Task, TraceId},
    clock::Moment,
    refusal::{Reason, Refusal},
};

use super::{End, Found, Registry, Start, Tasks, token::Received};

/// Requests whose task was ended before its response was over: their traces are remembered.
const REMEMBERED: usize = 10_000;

/// The requests that the agent is answering, each a task, by their trace.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    open: Mutex<HashMap<TraceId, Weak<Entered>, RandomState>>,
    /// What was taken from the agent while it answered. Its calls must not fall to other authority.
    ended: Mutex<Ended>,
    some_ended: AtomicBool,
    /// The tokens that tasks were handed, by the task's number.
    received: Mutex<HashMap<u64, Arc<Received>, RandomState>>,
}

#[derive(Debug, Default)]
struct Ended {
    by_trace: HashMap<TraceId, Arc<Task>, RandomState>,
    /// The oldest first.
    order: VecDeque<TraceId>,
}

/// A request's task, for as long as any request of it is being answered; the last one ends it.
pub struct Entered {
    task: Arc<Task>,
    trace: TraceId,
    tasks: Arc<Tasks>,
}

impl Tasks {
    /// Starts the task of a request that reached the agent, or joins that of another request of the same
    /// trace: one trace may have several requests open here, and its calls out cannot be told apart. So it
    /// joins only a task of the same workflow, for the same principal, with the same links above it.
    ///
    /// # Errors
    /// `ambiguous_request` when the trace belongs to another's task; what [`Tasks::start`] refuses with.
    pub fn enter(
        self: &Arc<Self>,
        registry: &Registry,
        start: Start,
        trace: TraceId,
        received: Option<Arc<Received>>,
        now: Moment,
    ) -> Result<Arc<Entered>, Refusal> {
        // Held while the task begins: another request of the trace must find it.
        let mut open = self.arrivals.open.lock();
        if let Some(entered) = open.get(&trace).and_then(Weak::upgrade) {
            // It may be the last that holds it, and what is dropped takes this lock.
            drop(open);
            return entered.joined_by(&start, now);
        }
        let task = self.start_inbound(registry, Start { trace: Some(trace), ..start }, now)?;
        if let Some(received) = received {
            self.arrivals.received.lock().insert(task.number, received);
        }
        let entered = Arc::new(Entered { task, trace, tasks: self.clone() });
        open.insert(trace, Arc::downgrade(&entered));
        Ok(entered)
    }

    /// The task of the request that a call out belongs to by its trace, among those of `agent`. Also one
    /// that was ended while its request was still being answered.
    ///
    /// # Errors
    /// `delegation_invalid` when the trace has several.
    pub fn of_trace(&self, agent: &Arc<str>, trace: TraceId, now: Instant) -> Result<Option<Found>, Refusal> {
        if let Some(found) = self.by_trace(agent, trace, now)? {
            return Ok(Some(found));
        }
        let open = self.arrivals.open.lock().get(&trace).and_then(Weak::upgrade);
        let task = match &open {
            Some(entered) => Some(entered.task.clone()),
            None if self.arrivals.some_ended.load(Ordering::Acquire) => self.arrivals.ended.lock().by_trace.get(&trace).cloned(),
            None => None,
        };
        let task = task.filter(|task| task.agent.id == *agent);
        Ok(task.map(|task| Found { over: Some(task.over(now).unwrap_or(Reason::TaskEnded)), task }))
    }

    /// The token that a task, or the one that it is part of, was handed.
    #[must_use]
    pub fn received(&self, task: &Task) -> Option<Arc<Received>> {
        let first = task.upwards().last()?;
        self.arrivals.received.lock().get(&first.number).cloned()
    }
}

impl Entered {
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    fn joined_by(self: Arc<Self>, start: &Start, now: Moment) -> Result<Arc<Self>, Refusal> {
        let task = &self.task;
        let above = task.chain.split_last().map_or(&[][..], |(_, above)| above);
        let same_chain = if start.before.is_empty() { above.len() == 1 } else { *above == start.before[..] };
        let same = task.agent.id == start.agent && task.workflow == start.workflow && task.principal == start.principal && same_chain;
        if !same {
            let detail = format!(
                "another request of trace {} is being answered, for another principal, workflow or chain: the agent's calls for the two \
                 could not be told apart",
                self.trace
            );
            return Err(Refusal::new(Reason::AmbiguousRequest, detail));
        }
        match task.over(now.instant) {
            None => Ok(self),
            Some(over) => Err(Refusal::new(over, format!("task {} of the same trace is over", task.id))),
        }
    }
}

impl Ended {
    fn remember(&mut self, trace: TraceId, task: &Arc<Task>) {
        if self.by_trace.insert(trace, task.clone()).is_none() {
            self.order.push_back(trace);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_trace.remove(&oldest);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let closed = self.tasks.end_because(&self.task.id, End::Closed);
        let arrivals = &self.tasks.arrivals;
        arrivals.received.lock().remove(&self.task.number);
        if !closed {
            arrivals.ended.lock().remember(self.trace, &self.task);
            arrivals.some_ended.store(true, Ordering::Release);
        }
        let mut open = arrivals.open.lock();
        if open.get(&self.trace).is_some_and(|one| one.strong_count() == 0) {
            open.remove(&self.trace);
        }
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").field("task", &self.task.id).field("trace", &self.trace).finish_non_exhaustive()
    }
}
