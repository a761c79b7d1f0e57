mod table;

use std::{
    cmp::Ordering as Order,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{
    call::{LimitRule, LinkKind, Unit, Window},
    clock::Moment,
    refusal::Refusal,
};

use super::tasks::Live;
pub(super) use table::KeptCount;
use table::{Short, Table};

/// Counts under their keys: a task's (and its ambient successors'), or those of an agent.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Table>);

impl Counters {
    pub(super) fn table(&self) -> parking_lot::MutexGuard<'_, Table> {
        self.0.lock()
    }

    pub(super) fn restored(counts: Vec<KeptCount>, now: Moment) -> Self {
        let counters = Self::default();
        counters.restore(counts, now);
        counters
    }

    /// Goes on from counts that were kept.
    pub(super) fn restore(&self, counts: Vec<KeptCount>, now: Moment) {
        self.0.lock().restore(counts, now);
    }
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Which of the reservation's counters.
    of: usize,
    slot: usize,
    stretch: u64,
    amount: u64,
}

/// One call's share of its limits.
///
/// Dropped before [`Reservation::sent`] it is given back: nothing left, so nothing was used.
/// After it, it is spent, however the call ends. Mark it before the first byte is written.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is given back"]
pub struct Reservation {
    counters: SmallVec<[Arc<Counters>; 2]>,
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
        Self { counters: SmallVec::new(), taken: SmallVec::new(), sent: AtomicBool::new(true) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if *self.sent.get_mut() {
            return;
        }
        for (of, counters) in self.counters.iter().enumerate() {
            let mut table = counters.0.lock();
            for taken in self.taken.iter().filter(|t| t.of == of) {
                table.give_back(taken.slot, taken.stretch, taken.amount);
            }
        }
    }
}

/// A rule and the counters that it takes from.
pub(super) struct Draw<'a> {
    pub(super) rule: &'a LimitRule,
    pub(super) from: &'a Arc<Counters>,
}

/// Where each rule takes from. A limit per task takes from that task; the others from what the
/// agent's tasks have in common. What no link owns holds for every task of the chain: what is handed
/// down takes from all that stand above it.
pub(super) fn draws<'a>(live: &'a Arc<Live>, rules: &'a [LimitRule]) -> SmallVec<[Draw<'a>; 2]> {
    let mut all = SmallVec::new();
    for rule in rules {
        let mut add = |live: &'a Live| {
            let from = if rule.window == Window::Task { &live.spent } else { &live.windows };
            all.push(Draw { rule, from });
        };
        match rule.link {
            Some(link) => add(owner(live, link)),
            None => live.upwards().for_each(add),
        }
    }
    all
}

/// The task of a link. One that is another process's stands above all that are here.
fn owner(live: &Arc<Live>, link: usize) -> &Live {
    let own = live.task.chain.iter().filter(|l| l.kind == LinkKind::Agent).count().saturating_sub(1);
    let mut at: &Live = live;
    for _ in link..own {
        match &at.parent {
            Some(parent) => at = parent,
            None => break,
        }
    }
    at
}

/// Takes what the call may use from every rule's count, or nothing from any. `tokens` is the most
/// that the call says a model may answer with.
pub(super) fn reserve(draws: &[Draw<'_>], tokens: Option<u64>, now: Instant) -> Result<Reservation, Refusal> {
    // Each once, and always in one order, so that two calls never wait for each other.
    let mut counters: SmallVec<[&Arc<Counters>; 2]> = draws.iter().map(|d| d.from).collect();
    counters.sort_unstable_by(|a, b| place(a, b));
    counters.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let mut tables: SmallVec<[_; 2]> = counters.iter().map(|c| c.0.lock()).collect();
    let mut taken: SmallVec<[Taken; 2]> = SmallVec::new();
    let mut short: Option<Short> = None;
    for draw in draws {
        let Ok(of) = counters.binary_search_by(|c| place(c, draw.from)) else { continue };
        let Some(table) = tables.get_mut(of) else { continue };
        let took = match amount(draw.rule, tokens) {
            Some(amount) => table.take(draw.rule, amount, now).map(|(slot, stretch)| Taken { of, slot, stretch, amount }),
            None => Err(Short::unstated(draw.rule)),
        };
        match took {
            Ok(one) => taken.push(one),
            Err(why) => short = Some(why.lasting_if(more_than_ever(draws, draw, tokens)).worse(short)),
        }
    }
    // Several rules may share a count: what all of them took must fit in each.
    if draws.len() > 1 && short.is_none() {
        for (draw, t) in draws.iter().zip(&taken) {
            if let Some(why) = tables.get(t.of).and_then(|table| table.over(t.slot, draw.rule, now)) {
                short = Some(why.lasting_if(more_than_ever(draws, draw, tokens)).worse(short));
            }
        }
    }
    if let Some(short) = short {
        for t in &taken {
            if let Some(table) = tables.get_mut(t.of) {
                table.give_back(t.slot, t.stretch, t.amount);
            }
        }
        return Err(short.refusal());
    }
    drop(tables);
    Ok(Reservation { counters: counters.into_iter().cloned().collect(), taken, sent: AtomicBool::new(false) })
}

fn place(a: &Arc<Counters>, b: &Arc<Counters>) -> Order {
    Arc::as_ptr(a).cmp(&Arc::as_ptr(b))
}

/// What the call may use of a rule's count; None when it does not say.
fn amount(rule: &LimitRule, tokens: Option<u64>) -> Option<u64> {
    match rule.unit {
        Unit::Calls => Some(1),
        Unit::Tokens => tokens,
    }
}

/// Whether a call asks more of a count than even a fresh one would let pass: time restores nothing.
fn more_than_ever(draws: &[Draw<'_>], draw: &Draw<'_>, tokens: Option<u64>) -> bool {
    let rule = draw.rule;
    let shared = draws
        .iter()
        .filter(|d| Arc::ptr_eq(d.from, draw.from) && d.rule.key == rule.key && d.rule.window == rule.window && d.rule.unit == rule.unit);
    shared.filter_map(|d| amount(d.rule, tokens)).fold(0, u64::saturating_add) > rule.max
}
