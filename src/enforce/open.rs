//! Calls whose request side is open: what they ask for goes on, so they are decided again when their
//! task is labelled anew, the rules change, or their agent drifts.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use ahash::RandomState;
use http::Method;
use parking_lot::Mutex;
use serde_json::json;
use smallvec::SmallVec;

use crate::{
    call::{Armed, Caller, DecisionId, Destination, Intent, Labels, Leash, Mode, Understood, Verdict},
    decide::{Facts, Request},
    refusal::Reason,
};

use super::{House, Rules};

/// The open calls, by a number of their own.
#[derive(Debug, Default)]
pub(super) struct OpenCalls(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<OpenCall>, RandomState>,
}

/// What is needed to decide a call again.
#[derive(Debug)]
struct OpenCall {
    id: DecisionId,
    caller: Caller,
    intents: SmallVec<[Intent; 1]>,
    method: Method,
    to: Destination,
    path: Box<str>,
    protocol: &'static str,
    upgrade: Option<Box<str>>,
    body_bytes: Option<u64>,
    leash: Weak<Leash>,
}

/// Why open calls are decided again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Their task has touched something it had not.
    Labels,
    /// Another of its calls succeeded, which a policy asks about.
    Success,
    /// The rules were replaced.
    Rules,
    /// Their agent differs from what was registered, or does no more.
    Drift,
}

impl Again {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Success => "success",
            Self::Rules => "rules",
            Self::Drift => "drift",
        }
    }
}

impl OpenCalls {
    fn add(self: &Arc<Self>, understood: &Understood) -> Arc<Leash> {
        let task = &understood.caller().task;
        let mut open = self.0.lock();
        let number = open.next;
        open.next += 1;
        let all = Arc::downgrade(self);
        let release = move || {
            if let Some(all) = all.upgrade() {
                let gone = all.0.lock().all.remove(&number);
                drop(gone);
            }
        };
        let leash = Arc::new(Leash::new(task, Box::new(release)));
        open.all.insert(number, Arc::new(OpenCall::of(understood, &leash)));
        leash
    }

    fn select(&self, which: impl Fn(&Caller) -> bool) -> Vec<Arc<OpenCall>> {
        let open = self.0.lock();
        open.all.values().filter(|call| call.caller.task.mode == Mode::Enforce && which(&call.caller)).cloned().collect()
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.0.lock().all.len()
    }
}

impl OpenCall {
    fn of(understood: &Understood, leash: &Arc<Leash>) -> Self {
        let (head, facts) = (understood.head(), Facts::of(understood));
        Self {
            id: understood.id(),
            caller: understood.caller().clone(),
            intents: understood.intents().iter().cloned().collect(),
            method: head.method.clone(),
            to: head.to.clone(),
            path: facts.request.path.into(),
            protocol: head.protocol(),
            upgrade: head.upgrade.clone(),
            body_bytes: facts.request.body_bytes,
            leash: Arc::downgrade(leash),
        }
    }

    fn facts<'a>(&'a self, drift: Option<&'a [Box<str>]>) -> Facts<'a> {
        let request = Request {
            method: self.method.as_str(),
            scheme: self.to.scheme.as_str(),
            host: self.to.host.as_str(),
            port: self.to.port,
            path: &self.path,
            protocol: self.protocol,
            upgrade: self.upgrade.as_deref(),
            body_bytes: self.body_bytes,
        };
        let Caller { how, listener, task, drift: before, proof: _ } = &self.caller;
        Facts { task, how: *how, listener: *listener, drift: drift.unwrap_or(before), request }
    }
}

impl House {
    /// Puts a call whose request side stays open on a leash.
    pub(super) fn leashed(&self, rules: &Arc<Rules>, armed: Armed) -> Armed {
        let understood = armed.permitted().understood();
        let head = understood.head();
        if !understood.body().streams() && head.upgrade.is_none() && head.method != Method::CONNECT {
            return armed;
        }
        let armed = {
            let leash = self.open_calls().add(understood);
            armed.on_leash(leash)
        };
        // Rules that came after the decision did not find it here.
        let task = armed.permitted().permit().task();
        if !Arc::ptr_eq(rules, &self.rules()) {
            self.decide_again(Again::Rules, None, |caller| Arc::ptr_eq(&caller.task, task));
        }
        armed
    }

    /// Decides the open calls of all tasks that share these labels again.
    pub(super) fn labelled(&self, labels: &Arc<Labels>, why: Again) {
        self.decide_again(why, None, |caller| Arc::ptr_eq(&caller.task.labels, labels));
    }

    /// Decides all open calls again, by the rules in force.
    pub fn rules_changed(&self) {
        self.decide_again(Again::Rules, None, |_| true);
    }

    /// Decides the open calls of an agent again, which differs in `drift` from what was registered.
    pub fn agent_drifted(&self, agent: &str, drift: &[Box<str>]) {
        self.decide_again(Again::Drift, Some(drift), |caller| &*caller.task.agent.id == agent);
    }

    /// How many calls are open that would be decided again.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open_calls().len()
    }

    /// Ends the calls that are not allowed any more, with the reason on record.
    fn decide_again(&self, why: Again, drift: Option<&[Box<str>]>, which: impl Fn(&Caller) -> bool) {
        let calls = self.open_calls().select(which);
        if calls.is_empty() {
            return;
        }
        let rules = self.rules();
        for call in calls {
            let Some(leash) = call.leash.upgrade() else { continue };
            let (decision, _) = rules.decider.judge_parts(&call.facts(drift), &call.intents);
            if decision.verdict == Verdict::Allow {
                continue;
            }
            let reason = decision.code.unwrap_or(Reason::NotGranted);
            let intents: Vec<&str> = call.intents.iter().map(Intent::id).collect();
            let data = json!({
                "call": call.id.to_string(), "task": call.caller.task.id.as_str(), "agent": call.caller.task.agent.id, "because": why.as_str(),
                "intents": intents, "reason": reason.code(), "reasons": decision.reasons, "revision": rules.decider.revision(),
            });
            self.audit().event("closed", &data);
            tracing::info!(call = %call.id, because = why.as_str(), %reason, "an open call is not allowed any more");
            leash.pull(reason);
        }
    }
}
