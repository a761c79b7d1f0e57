use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ahash::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{
    call::{LimitRule, Window},
    refusal::{Reason, Refusal},
};

/// Counts under their keys: a task's (and its ambient successors'), or an agent's windows.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Table>);

/// Most keys in one set of counters. A policy may write a parameter's value into a key; what
/// does not fit is refused, so that no agent can fill the memory or shed its old counts.
const MOST_KEYS: usize = 4096;

#[derive(Debug, Default)]
struct Table {
    /// A key can count over several windows; nearly always it has one.
    slots: HashMap<Box<str>, SmallVec<[usize; 1]>, RandomState>,
    counts: Vec<Count>,
    free: Vec<usize>,
    /// Numbers the stretches over which counts run, so that what is given back after a restart
    /// is not taken from the new one.
    stretches: u64,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    window: Window,
    used: u64,
    since: Instant,
    stretch: u64,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    of_task: bool,
    slot: usize,
    stretch: u64,
}

/// One call's share of its limits.
///
/// Dropped before [`Reservation::sent`] it is given back: nothing left, so nothing was used.
/// After it, it is spent, however the call ends. Mark it before the first byte is written.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is given back"]
pub struct Reservation {
    task: Option<Arc<Counters>>,
    agent: Option<Arc<Counters>>,
    taken: SmallVec<[Taken; 2]>,
    sent: AtomicBool,
}

impl Reservation {
    /// Bytes of the call leave now: from here on its share is spent.
    pub fn sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    /// Spends the share.
    pub fn commit(self) {
        self.sent();
    }

    /// Gives the share back, unless bytes were sent.
    pub fn cancel(self) {
        drop(self);
    }

    pub(super) fn nothing() -> Self {
        Self { task: None, agent: None, taken: SmallVec::new(), sent: AtomicBool::new(true) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if *self.sent.get_mut() {
            return;
        }
        for (counters, of_task) in [(&self.task, true), (&self.agent, false)] {
            let Some(counters) = counters else { continue };
            let mut table = counters.0.lock();
            for taken in self.taken.iter().filter(|t| t.of_task == of_task) {
                if let Some(count) = table.counts.get_mut(taken.slot).filter(|c| c.stretch == taken.stretch) {
                    count.used = count.used.saturating_sub(1);
                }
            }
        }
    }
}

/// Takes one from every rule's count, or none from any.
pub(super) fn reserve(task: &Arc<Counters>, agent: &Arc<Counters>, rules: &[LimitRule], now: Instant) -> Result<Reservation, Refusal> {
    // Always the task's first and then the agent's, so that two calls never wait for each other.
    let any = |of_task: bool| rules.iter().any(|r| (r.window == Window::Task) == of_task);
    let mut of_task = any(true).then(|| task.0.lock());
    let mut of_agent = any(false).then(|| agent.0.lock());
    let mut taken: SmallVec<[Taken; 2]> = SmallVec::new();
    let mut short: Option<Short> = None;
    for rule in rules {
        let in_task = rule.window == Window::Task;
        let Some(table) = (if in_task { of_task.as_deref_mut() } else { of_agent.as_deref_mut() }) else { continue };
        match table.take(rule, now) {
            Ok((slot, stretch)) => taken.push(Taken { of_task: in_task, slot, stretch }),
            Err(why) => short = Some(why.lasting_if(more_than_ever(rules, rule)).worse(short)),
        }
    }
    // Several rules may share a count: what all of them took must fit in each.
    if rules.len() > 1 && short.is_none() {
        for (rule, t) in rules.iter().zip(&taken) {
            let table = if t.of_task { of_task.as_deref() } else { of_agent.as_deref() };
            if let Some(count) = table.and_then(|table| table.counts.get(t.slot)).filter(|c| c.used > rule.max) {
                short = Some(Short::spent(rule, count.left(now)).lasting_if(more_than_ever(rules, rule)).worse(short));
            }
        }
    }
    if let Some(short) = short {
        for t in &taken {
            let table = if t.of_task { of_task.as_deref_mut() } else { of_agent.as_deref_mut() };
            if let Some(count) = table.and_then(|table| table.counts.get_mut(t.slot)) {
                count.used = count.used.saturating_sub(1);
            }
        }
        return Err(short.refusal());
    }
    let (task, agent) = (of_task.map(|_| task.clone()), of_agent.map(|_| agent.clone()));
    Ok(Reservation { task, agent, taken, sent: AtomicBool::new(false) })
}

/// Whether a call asks more of a count than even a fresh one would let pass: time restores nothing.
fn more_than_ever(rules: &[LimitRule], rule: &LimitRule) -> bool {
    rules.iter().filter(|r| r.key == rule.key && r.window == rule.window).count() as u64 > rule.max
}

impl Table {
    /// Takes one; answers the slot and its stretch.
    fn take(&mut self, rule: &LimitRule, now: Instant) -> Result<(usize, u64), Short> {
        let slot = match self.find(&rule.key, rule.window) {
            Some(slot) => slot,
            None if rule.max == 0 => return Err(Short::spent(rule, None)),
            None => self.add(rule, now)?,
        };
        let next = self.stretches;
        let Some(count) = self.counts.get_mut(slot) else { return Err(Short::spent(rule, None)) };
        // A window begins with the first call that counts, not with one that was given back.
        if count.used == 0 || count.is_over(now) {
            (count.used, count.since, count.stretch) = (0, now, next);
            self.stretches += 1;
        }
        if count.used >= rule.max {
            return Err(Short::spent(rule, count.left(now)));
        }
        count.used += 1;
        Ok((slot, count.stretch))
    }

    fn find(&self, key: &str, window: Window) -> Option<usize> {
        self.slots.get(key)?.iter().copied().find(|s| self.counts.get(*s).is_some_and(|c| c.window == window))
    }

    fn add(&mut self, rule: &LimitRule, now: Instant) -> Result<usize, Short> {
        if self.counts.len() - self.free.len() >= MOST_KEYS {
            self.forget(now);
        }
        let count = Count { window: rule.window, used: 0, since: now, stretch: self.stretches };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.counts.len() < MOST_KEYS => {
                self.counts.push(count);
                self.counts.len() - 1
            }
            None => return Err(Short::full(rule)),
        };
        self.stretches += 1;
        if let Some(place) = self.counts.get_mut(slot) {
            *place = count;
        }
        self.slots.entry(rule.key.clone()).or_default().push(slot);
        Ok(slot)
    }

    /// Makes room: windows that are over count nothing any more.
    fn forget(&mut self, now: Instant) {
        let Self { slots, counts, free, .. } = self;
        slots.retain(|_, of_key| {
            of_key.retain(|slot| {
                let over = counts.get(*slot).is_none_or(|c| c.is_over(now));
                if over {
                    free.push(*slot);
                }
                !over
            });
            !of_key.is_empty()
        });
    }
}

impl Count {
    fn ends(&self) -> Option<Instant> {
        match self.window {
            Window::Task => None,
            Window::Seconds(s) => self.since.checked_add(Duration::from_secs(s)),
        }
    }

    /// How long until time restores it.
    fn left(&self, now: Instant) -> Option<Duration> {
        self.ends().map(|end| end.saturating_duration_since(now))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ends().is_some_and(|end| now >= end)
    }
}

/// Why a rule has nothing left, and when time restores it.
struct Short {
    detail: String,
    restored: Option<Duration>,
}

impl Short {
    fn spent(rule: &LimitRule, restored: Option<Duration>) -> Self {
        let detail = match rule.window {
            Window::Task => format!("the limit `{}` of {} per task is spent", rule.key, rule.max),
            Window::Seconds(s) => format!("the limit `{}` of {} per {s} s is spent", rule.key, rule.max),
        };
        Self { detail, restored }
    }

    fn full(rule: &LimitRule) -> Self {
        Self { detail: format!("the limit `{}` cannot be counted: {MOST_KEYS} other limits are", rule.key), restored: None }
    }

    fn lasting_if(self, lasting: bool) -> Self {
        Self { restored: self.restored.filter(|_| !lasting), ..self }
    }

    /// The one that keeps the call from passing for longer.
    fn worse(self, other: Option<Self>) -> Self {
        let lasting = |s: &Self| s.restored.unwrap_or(Duration::MAX);
        match other {
            Some(other) if lasting(&other) >= lasting(&self) => other,
            _ => self,
        }
    }

    fn refusal(self) -> Refusal {
        let refusal = Refusal::new(Reason::LimitExceeded, self.detail);
        match self.restored {
            Some(after) => refusal.with_retry_after(after),
            None => refusal,
        }
    }
}
