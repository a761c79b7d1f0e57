use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ahash::RandomState;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    authority::kept::{instant, millis},
    call::{LimitRule, Unit, Window},
    clock::Moment,
    refusal::{Reason, Refusal},
};

/// Most keys in one set of counters. A policy may write a parameter's value into a key; what
/// does not fit is refused, so that no agent can fill the memory or shed its old counts.
const MOST_KEYS: usize = 4096;

#[derive(Debug, Default)]
pub(in crate::authority) struct Table {
    /// A key can count over several windows and in both units; nearly always it has one count.
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
    unit: Unit,
    used: u64,
    since: Instant,
    stretch: u64,
}

/// A count as a state file keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::authority) struct KeptCount {
    key: Box<str>,
    window: KeptWindow,
    /// It counts tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tokens: bool,
    used: u64,
    /// When its window began, in milliseconds since 1970.
    since: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptWindow {
    Task,
    Agent,
    Seconds(u64),
}

impl Table {
    pub(in crate::authority) fn kept(&self, now: Moment) -> Vec<KeptCount> {
        let mut out = Vec::new();
        for (key, slots) in &self.slots {
            let counts = slots.iter().filter_map(|slot| self.counts.get(*slot)).filter(|c| c.used > 0 && !c.is_over(now.instant));
            out.extend(counts.map(|count| KeptCount {
                key: key.clone(),
                window: match count.window {
                    Window::Task => KeptWindow::Task,
                    Window::Agent => KeptWindow::Agent,
                    Window::Seconds(s) => KeptWindow::Seconds(s),
                },
                tokens: count.unit == Unit::Tokens,
                used: count.used,
                since: millis(count.since, now),
            }));
        }
        out
    }

    pub(in crate::authority) fn restore(&mut self, kept: Vec<KeptCount>, now: Moment) {
        for one in kept {
            let window = match one.window {
                KeptWindow::Task => Window::Task,
                KeptWindow::Agent => Window::Agent,
                KeptWindow::Seconds(s) => Window::Seconds(s),
            };
            let unit = if one.tokens { Unit::Tokens } else { Unit::Calls };
            let rule = LimitRule { key: one.key, max: u64::MAX, window, unit, link: None };
            let since = instant(one.since, now);
            if let Ok((slot, _)) = self.take(&rule, one.used, since)
                && let Some(count) = self.counts.get_mut(slot)
            {
                count.since = since;
            }
        }
    }

    /// Takes an amount; answers the slot and its stretch.
    pub(super) fn take(&mut self, rule: &LimitRule, amount: u64, now: Instant) -> Result<(usize, u64), Short> {
        let slot = match self.find(rule) {
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
        match count.used.checked_add(amount) {
            Some(used) if used <= rule.max => count.used = used,
            _ => return Err(Short::spent(rule, count.left(now))),
        }
        Ok((slot, count.stretch))
    }

    /// Gives an amount back, unless its count began anew since.
    pub(super) fn give_back(&mut self, slot: usize, stretch: u64, amount: u64) {
        if let Some(count) = self.counts.get_mut(slot).filter(|c| c.stretch == stretch) {
            count.used = count.used.saturating_sub(amount);
        }
    }

    /// Why what was taken from a slot does not fit in this rule, which may share it with a wider one.
    pub(super) fn over(&self, slot: usize, rule: &LimitRule, now: Instant) -> Option<Short> {
        let count = self.counts.get(slot).filter(|c| c.used > rule.max)?;
        Some(Short::spent(rule, count.left(now)))
    }

    fn find(&self, rule: &LimitRule) -> Option<usize> {
        let same = |count: &Count| count.window == rule.window && count.unit == rule.unit;
        self.slots.get(&rule.key)?.iter().copied().find(|s| self.counts.get(*s).is_some_and(same))
    }

    fn add(&mut self, rule: &LimitRule, now: Instant) -> Result<usize, Short> {
        if self.counts.len() - self.free.len() >= MOST_KEYS {
            self.forget(now);
        }
        let count = Count { window: rule.window, unit: rule.unit, used: 0, since: now, stretch: self.stretches };
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
            Window::Task | Window::Agent => None,
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
pub(super) struct Short {
    detail: String,
    restored: Option<Duration>,
}

impl Short {
    fn spent(rule: &LimitRule, restored: Option<Duration>) -> Self {
        let per = match rule.window {
            Window::Task => "task".to_owned(),
            Window::Agent => "agent".to_owned(),
            Window::Seconds(s) => format!("{s} s"),
        };
        let detail = match rule.unit {
            Unit::Calls => format!("the limit `{}` of {} per {per} is spent", rule.key, rule.max),
            Unit::Tokens => format!("the limit `{}` of {} tokens per {per} has not as many left as the call may use", rule.key, rule.max),
        };
        Self { detail, restored }
    }

    fn full(rule: &LimitRule) -> Self {
        Self { detail: format!("the limit `{}` cannot be counted: {MOST_KEYS} other limits are", rule.key), restored: None }
    }

    pub(super) fn unstated(rule: &LimitRule) -> Self {
        let detail = format!("the limit `{}` counts tokens: the call must state the most that it may use (`max_tokens`)", rule.key);
        Self { detail, restored: None }
    }

    pub(super) fn lasting_if(self, lasting: bool) -> Self {
        Self { restored: self.restored.filter(|_| !lasting), ..self }
    }

    /// The one that keeps the call from passing for longer.
    pub(super) fn worse(self, other: Option<Self>) -> Self {
        let lasting = |s: &Self| s.restored.unwrap_or(Duration::MAX);
        match other {
            Some(other) if lasting(&other) >= lasting(&self) => other,
            _ => self,
        }
    }

    pub(super) fn refusal(self) -> Refusal {
        let refusal = Refusal::new(Reason::LimitExceeded, self.detail);
        match self.restored {
            Some(after) => refusal.with_retry_after(after),
            None => refusal,
        }
    }
}
