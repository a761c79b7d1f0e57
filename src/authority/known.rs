//! What is known of an agent beside its registration: what a person set while Remit runs, and what
//! its calls have shown. Outlasts reloads, and with a state file restarts.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use ahash::RandomState;
use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    call::Observed,
    config::{Attested, Status},
};

use super::drift::{Drift, DriftKind, News, Seen};

/// The known of all agents that ever were registered in this process, by id.
#[derive(Debug, Default)]
pub struct KnownAgents {
    all: Mutex<HashMap<Arc<str>, Arc<Known>, RandomState>>,
    /// Whether any agent is watched: calls of a house without such pay for one look at this.
    watching: Arc<AtomicBool>,
}

/// One agent's.
#[derive(Debug, Default)]
pub struct Known {
    /// [`Status`] by number, so that a call reads it without a lock.
    status: AtomicU8,
    set: RwLock<Set>,
    /// What counts as attested in the registry that is in force; None: nobody watches it.
    watch: ArcSwapOption<Attested>,
    drift: Drift,
}

#[derive(Debug, Clone, Default)]
struct Set {
    /// Who set the status, and why.
    change: Option<Change>,
    attested: Option<Reattested>,
}

/// Who changed an agent's status, when and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub by: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// What a person attested while Remit ran. It stands for what the file says, until the file says
/// something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reattested {
    now: Attested,
    /// What the file said then.
    file: Option<Attested>,
    change: Change,
}

/// A known as a state file keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    status: u8,
    change: Option<Change>,
    attested: Option<Reattested>,
    seen: Seen,
}

impl KnownAgents {
    /// The known of an agent; a new one when it was never met.
    pub(super) fn of(&self, agent: &Arc<str>) -> Arc<Known> {
        self.all.lock().entry(agent.clone()).or_default().clone()
    }

    pub(super) fn watching(&self) -> &Arc<AtomicBool> {
        &self.watching
    }

    pub(super) fn kept(&self) -> HashMap<Arc<str>, Kept> {
        let all = self.all.lock();
        all.iter().map(|(id, known)| (id.clone(), known.kept())).filter(|(_, kept)| *kept != Known::default().kept()).collect()
    }

    pub(super) fn restore(&self, id: &Arc<str>, kept: Kept) {
        self.of(id).restore(kept);
    }
}

impl Known {
    /// What a person set; `active` when nobody set anything.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            0 => Status::Active,
            1 => Status::Suspended,
            _ => Status::Retired,
        }
    }

    /// Who set the status.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        self.set.read().change.clone()
    }

    /// Who attested it while Remit ran, when that still holds over what the file says.
    #[must_use]
    pub fn reattested(&self, file: Option<&Attested>) -> Option<Change> {
        self.set.read().attested.as_ref().filter(|a| a.file.as_ref() == file).map(|a| a.change.clone())
    }

    pub fn set_status(&self, status: Status, change: Change) {
        let mut set = self.set.write();
        set.change = Some(change);
        self.status.store(status as u8, Ordering::Release);
    }

    /// Attests the agent, for as long as its file says `file`: what it showed before counts no more.
    pub(super) fn attest(&self, now: Attested, file: Option<Attested>, change: Change) {
        self.watch.store(Some(Arc::new(now.clone())));
        self.set.write().attested = Some(Reattested { now, file, change });
        self.drift.attested();
    }

    /// What counts as attested now.
    #[must_use]
    pub fn attested(&self) -> Option<Arc<Attested>> {
        self.watch.load_full()
    }

    /// Holds the agent to what its file says now: what a person set while Remit ran counts until the
    /// file says something else than it did then. Answers what differs and did not before.
    pub(super) fn hold_to(&self, file: Option<&Attested>) -> Vec<(DriftKind, String)> {
        let set = self.set.read();
        let attested = match &set.attested {
            Some(state) if state.file.as_ref() == file => Some(state.now.clone()),
            _ => file.cloned(),
        };
        let new = attested.as_ref().map(|a| self.drift.judge(a)).unwrap_or_default();
        self.watch.store(attested.map(Arc::new));
        new
    }

    /// What of the agent differs, as policies are shown it.
    #[must_use]
    pub fn drift(&self) -> Arc<[Box<str>]> {
        self.drift.shown()
    }

    /// Takes what a call shows, which is judged by that itself; nothing of an agent that nobody attested.
    #[must_use]
    pub fn observe(&self, call: &Observed) -> News {
        self.watch.load().as_ref().map(|attested| self.drift.observe(attested, call)).unwrap_or_default()
    }

    /// Takes what the record says that a call showed.
    pub(super) fn saw(&self, seen: &serde_json::Value) {
        self.drift.saw(seen);
    }

    fn kept(&self) -> Kept {
        let set = self.set.read().clone();
        Kept { status: self.status.load(Ordering::Acquire), change: set.change, attested: set.attested, seen: self.drift.kept() }
    }

    fn restore(&self, kept: Kept) {
        *self.set.write() = Set { change: kept.change, attested: kept.attested };
        self.status.store(kept.status, Ordering::Release);
        self.drift.restore(kept.seen);
    }
}

/// The stricter of two.
#[must_use]
pub(super) fn strictest(a: Status, b: Status) -> Status {
    if (a as u8) > (b as u8) { a } else { b }
}
