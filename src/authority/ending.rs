use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    call::{Mode, Task, TaskId},
    clock::Moment,
};

use super::{End, Registry, Tasks, start::authorised, tasks::Live};

/// Ended tasks that are remembered, so that a late call learns why it is refused.
const REMEMBERED: usize = 10_000;

impl Tasks {
    /// Ends a task now: its next call is refused and what it has open is cut. False when there is
    /// no such task, or it has ended.
    pub fn end(&self, id: &TaskId) -> bool {
        self.end_because(id, End::Asked)
    }

    /// As [`Tasks::end`], for another reason.
    pub fn end_because(&self, id: &TaskId, end: End) -> bool {
        self.by_id.find(id).is_some_and(|live| self.finish(&live, end))
    }

    /// Ends all tasks of an agent; answers how many.
    pub fn end_agent(&self, agent: &str, end: End) -> usize {
        self.finish_where(|task| &*task.agent.id == agent, end)
    }

    /// Holds every task to a new registry: ends those whose agent may do nothing or has the
    /// workflow no more, and those that only observe where that is over; lets none live longer
    /// than it now may. Called after each reload; answers how many ended.
    pub fn review(&self, registry: &Registry, now: Moment) -> usize {
        let live = self.by_id.select(|live| live.end.get().is_none());
        live.iter().filter(|live| self.hold_to(registry, live, now)).count()
    }

    /// Ends the tasks whose time is up; answers when to come again.
    pub fn sweep(&self, now: Instant) -> Option<Instant> {
        loop {
            let live = {
                let ends = self.ends.lock();
                let (&(when, _), live) = ends.first_key_value()?;
                if when > now {
                    return Some(when);
                }
                live.clone()
            };
            self.finish(&live, End::Expired);
        }
    }

    /// Sweeps when it is time, until `shutdown`.
    pub async fn sweep_until(&self, shutdown: CancellationToken) {
        loop {
            let changed = self.ends_changed.notified();
            let next = self.sweep(self.clock.now().instant);
            let due = async {
                match next {
                    Some(when) => tokio::time::sleep_until(when.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = changed => {}
                () = due => {}
            }
        }
    }

    /// Ends a task once, and all below it; false when it had ended.
    pub(super) fn finish(&self, live: &Arc<Live>, end: End) -> bool {
        {
            let mut ends = self.ends.lock();
            ends.remove(&(*live.cut.lock(), live.task.number));
        }
        if live.end.set(end).is_err() {
            return false;
        }
        let _ = live.task.over_since.set(self.clock.now().instant);
        live.task.ended.cancel();
        self.revoke(live);
        self.active.fetch_sub(1, Ordering::Relaxed);
        self.by_number.remove(&live.task.number);
        if let Some(trace) = live.task.trace {
            let key = (live.task.agent.id.clone(), trace);
            self.by_trace.shrink(&key, |all| {
                all.retain(|one| !Arc::ptr_eq(one, live));
                !all.is_empty()
            });
        }
        self.remember(live.clone());
        self.events.ended(&live.task, end);
        let children = std::mem::take(&mut *live.children.lock());
        for child in children.iter().filter_map(Weak::upgrade) {
            self.finish(&child, End::Parent);
        }
        true
    }

    /// Has what was issued for a task revoked.
    fn revoke(&self, live: &Arc<Live>) {
        let Some(revoker) = self.revoker.get() else { return };
        let Some(revoking) = revoker.revoke(&live.task) else { return };
        let done = CancellationToken::new();
        let _ = live.revoking.set(done.clone());
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                revoking.await;
                done.cancel();
            })),
            Err(_) => tracing::error!(task = %live.task.id, "what was issued for the task cannot be revoked: no runtime"),
        }
    }

    /// Waits until what was issued for an ended task, and for all below it, is revoked.
    pub async fn revoked(&self, id: &TaskId) {
        if self.revoker.get().is_none() {
            return;
        }
        let below = |live: &Arc<Live>| live.end.get().is_some() && live.task.upwards().any(|task| task.id == *id);
        for live in self.by_id.select(below) {
            if let Some(done) = live.revoking.get() {
                done.cancelled().await;
            }
        }
    }

    fn hold_to(&self, registry: &Registry, live: &Arc<Live>, now: Moment) -> bool {
        let task = &live.task;
        let Ok((agent, workflow)) = authorised(registry, &task.agent.id, &task.workflow, now.utc) else {
            return self.finish(live, End::Withdrawn);
        };
        if !handed_over(registry, task) {
            return self.finish(live, End::Withdrawn);
        }
        let mode = registry.mode(&task.agent.id, &task.workflow, now.utc);
        if task.mode == Mode::Observe && mode.mode == Mode::Enforce {
            return self.finish(live, End::Withdrawn);
        }
        let until = mode.until.filter(|_| task.mode == Mode::Observe);
        // How long it has lasted is no question for a clock that can be set.
        let left = workflow.max_lifetime.saturating_sub(now.instant.saturating_duration_since(task.ends.began()));
        let ends = [Some(now.later(left).utc), agent.spec.expires, until];
        let Some(end) = ends.into_iter().flatten().min().filter(|end| *end < task.expires()) else { return false };
        if end <= now.utc {
            return self.finish(live, End::Expired);
        }
        self.cut_sooner(live, now.later(Duration::try_from(end - now.utc).unwrap_or_default()).instant);
        false
    }

    fn cut_sooner(&self, live: &Arc<Live>, when: Instant) {
        self.cut(live, |cut| when.min(cut));
    }

    /// Moves the time at which what is still open is cut.
    pub(super) fn cut(&self, live: &Arc<Live>, when: impl FnOnce(Instant) -> Instant) {
        let mut ends = self.ends.lock();
        let mut cut = live.cut.lock();
        let when = when(*cut);
        if when != *cut
            && let Some(live) = ends.remove(&(*cut, live.task.number))
        {
            *cut = when;
            ends.insert((when, live.task.number), live.clone());
            self.ends_changed.notify_one();
        }
    }

    fn finish_where(&self, which: impl Fn(&Task) -> bool, end: End) -> usize {
        let found = self.by_id.select(|live| live.end.get().is_none() && which(&live.task));
        found.iter().filter(|live| self.finish(live, end)).count()
    }

    fn remember(&self, live: Arc<Live>) {
        let forgotten = {
            let mut past = self.past.lock();
            past.push_back(live);
            if past.len() > REMEMBERED { past.pop_front() } else { None }
        };
        if let Some(old) = forgotten {
            self.by_id.remove(&old.task.id);
            if let Some(digest) = &old.digest {
                self.by_digest.remove(digest);
            }
        }
    }
}

/// Whether the registry still lets the agent above delegate to this task's.
fn handed_over(registry: &Registry, task: &Task) -> bool {
    let Some(parent) = &task.parent else { return true };
    registry.agent(&parent.agent.id).is_some_and(|above| above.spec.delegates_to.contains(&task.agent.id))
}
