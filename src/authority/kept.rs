//! What outlasts the process: tasks, what they were labelled with and spent, and what is known of agents.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    call::{Identity, Label, Link, Listener, Mode, Principal, Task},
    clock::Moment,
};

use super::{
    Tasks, known,
    limits::{Counters, KeptCount},
    tasks::Live,
};

/// All of it at one moment, as a state file keeps it. No handle is in it: only what is kept of one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub(super) tasks: Vec<KeptTask>,
    /// What was touched and done, and counts: tasks may share them.
    pub(super) pasts: Vec<KeptPast>,
    pub(super) counts: Vec<Vec<KeptCount>>,
    pub(super) agents: BTreeMap<Arc<str>, KeptAgent>,
    /// The ambient task that is current.
    pub(super) ambient: Option<Arc<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptTask {
    pub(super) id: Arc<str>,
    /// The SHA-256 of its handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) handle: Option<String>,
    pub(super) agent: Arc<str>,
    pub(super) workflow: Arc<str>,
    pub(super) purpose: Arc<str>,
    pub(super) principal: Principal,
    pub(super) chain: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<Arc<str>>,
    pub(super) mode: Mode,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) started: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) expires: OffsetDateTime,
    /// Where its handle was first shown, and by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<(Listener, Option<Identity>)>,
    /// Places in [`Kept::pasts`] and [`Kept::counts`].
    pub(super) past: usize,
    pub(super) spent: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptPast {
    pub(super) labels: Vec<Label>,
    /// Those that were touched, and not brought along.
    pub(super) own: Vec<Label>,
    /// Operations that succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) succeeded: Vec<Arc<str>>,
}

/// What an agent's tasks have in common, and what is known of it beside its registration.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptAgent {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) counts: Vec<KeptCount>,
    /// Until when a task that touched it could last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) touched: Vec<(Label, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) known: Option<known::Kept>,
}

/// One record of what happened since, as the audit has it.
#[derive(Debug, Clone)]
pub struct Since {
    /// The body of the record.
    pub body: Value,
    /// It was recorded before the rest was kept: only a beginning or an end that was just happening
    /// then may be news.
    pub before: bool,
}

impl Tasks {
    /// Everything that is to outlast the process, now.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let now = self.clock.now();
        let mut out = Kept::default();
        let mut live = self.by_id.select(|live| live.end.get().is_none() && live.upwards().all(|l| lasts(&l.task, l.digest.is_some())));
        live.sort_unstable_by_key(|live| live.task.number);
        let (mut pasts, mut counts) = (HashMap::new(), HashMap::new());
        for live in &live {
            let past = *pasts.entry(Arc::as_ptr(&live.task.labels)).or_insert_with(|| {
                out.pasts.push(KeptPast::of(&live.task));
                out.pasts.len() - 1
            });
            let spent = *counts.entry(Arc::as_ptr(&live.spent)).or_insert_with(|| {
                out.counts.push(live.spent.kept(now));
                out.counts.len() - 1
            });
            out.tasks.push(KeptTask::of(live, past, spent));
        }
        out.ambient = self.ambient.current_id().filter(|id| out.tasks.iter().any(|t| t.id == *id));
        for (id, standing) in self.standings.lock().iter() {
            let touched = standing.touched.kept().into_iter().map(|(label, until)| (label, millis(until, now)));
            let agent = KeptAgent { counts: standing.windows.kept(now), touched: touched.collect(), known: None };
            if !agent.counts.is_empty() || !agent.touched.is_empty() {
                out.agents.insert(id.clone(), agent);
            }
        }
        for (id, known) in self.known.kept() {
            out.agents.entry(id).or_default().known = Some(known);
        }
        out
    }
}

/// Whether a task goes on when Remit starts again: one that an open request is answered by does not.
pub(super) fn lasts(task: &Task, has_handle: bool) -> bool {
    has_handle || task.trace.is_none()
}

impl Kept {
    /// How many tasks there are.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }
}

impl KeptTask {
    /// A task that has just begun, to begin it anew with the labels and counts of another.
    pub(super) fn again(live: &Live) -> Self {
        Self::of(live, 0, 0)
    }

    fn of(live: &Live, past: usize, spent: usize) -> Self {
        let task = &live.task;
        Self {
            id: task.id.as_str().into(),
            handle: live.digest.map(|d| d.to_hex()),
            agent: task.agent.id.clone(),
            workflow: task.workflow.clone(),
            purpose: task.purpose.clone(),
            principal: task.principal.clone(),
            chain: task.chain.clone(),
            parent: task.parent.as_ref().map(|p| p.id.as_str().into()),
            mode: task.mode,
            started: task.started,
            expires: task.expires(),
            origin: task.origin.shown(),
            past,
            spent,
        }
    }
}

impl KeptPast {
    fn of(task: &Task) -> Self {
        Self { labels: task.labels.list(), own: task.labels.touched(), succeeded: task.succeeded.list() }
    }
}

/// A moment of the monotonic clock as milliseconds since 1970.
pub(super) fn millis(instant: std::time::Instant, now: Moment) -> i64 {
    let base = (now.utc.unix_timestamp_nanos() / 1_000_000) as i64;
    let ms = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    match instant.checked_duration_since(now.instant) {
        Some(ahead) => base.saturating_add(ms(ahead)),
        None => base.saturating_sub(ms(now.instant.saturating_duration_since(instant))),
    }
}

/// The moment of the monotonic clock that stands for a time of day; `now` where it has none.
pub(super) fn instant(millis: i64, now: Moment) -> std::time::Instant {
    let base = (now.utc.unix_timestamp_nanos() / 1_000_000) as i64;
    let distance = std::time::Duration::from_millis(millis.abs_diff(base));
    let there = if millis >= base { now.instant.checked_add(distance) } else { now.instant.checked_sub(distance) };
    there.unwrap_or(now.instant)
}

impl Counters {
    /// The counts as they are kept; empty for none.
    pub(super) fn kept(&self, now: Moment) -> Vec<KeptCount> {
        self.table().kept(now)
    }
}
