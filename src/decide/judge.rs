//! One call → its decision, and a permit or a refusal.

use std::{cell::RefCell, sync::Arc, time::Instant};

use crate::{
    call::{Decision, Intent, Mode, Param, Understood, Verdict},
    refusal::{Reason, Refusal},
};

use super::{
    Decider, Permit, answer,
    facts::{Facts, State},
    input,
};

/// What came of judging a call.
#[derive(Debug)]
pub struct Judged {
    /// What the policies said, also where the mode or the task's end overrules it.
    pub decision: Arc<Decision>,
    /// Whether no policy had to be evaluated.
    pub cached: bool,
    pub pass: Result<Permit, Refusal>,
}

thread_local! {
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Decider {
    /// Judges a call: every intent must be allowed. `now` is when the task must still run.
    pub fn judge(&self, understood: &Understood, now: Instant) -> Judged {
        let task = &understood.caller().task;
        // Before the labels are read: a permit made from older ones is void (see `Permit::void`).
        let version = task.labels.version();
        let facts = Facts::of(understood);
        let (decision, cached) = self.judge_parts(&facts, understood.intents());
        let pass = if let Some(over) = task.over(now) {
            Err(Refusal::new(over, format!("task {} gives no authority any more", task.id)))
        } else if task.mode == Mode::Observe {
            Ok(Permit::observed(task.clone(), version))
        } else if decision.verdict == Verdict::Allow {
            Ok(Permit::granted(task.clone(), version))
        } else {
            Err(refusal(&facts, understood.intents(), &decision))
        };
        Judged { decision, cached, pass }
    }

    /// Whether some policy asks what succeeded in a task.
    #[must_use]
    pub fn asks_what_succeeded(&self) -> bool {
        self.plan.asks_what_succeeded
    }

    /// The decision on intents, without a call: for `explain`. The flag says that it was kept.
    pub fn judge_parts(&self, facts: &Facts<'_>, intents: &[Intent]) -> (Arc<Decision>, bool) {
        let state = State::of(facts.task, self.plan.asks_what_succeeded);
        if let [intent] = intents {
            return self.one(facts, intent, &state);
        }
        let mut all_cached = true;
        let mut decisions = Vec::with_capacity(intents.len());
        for intent in intents {
            let (decision, cached) = self.one(facts, intent, &state);
            all_cached &= cached;
            decisions.push(decision);
        }
        (Arc::new(together(&decisions)), all_cached)
    }

    /// A decision that is evaluated now, whatever is kept.
    pub fn judge_fresh(&self, facts: &Facts<'_>, intent: &Intent) -> Decision {
        self.evaluate(facts, intent, &State::of(facts.task, true)).0
    }

    /// The input document that policies see for an intent.
    #[must_use]
    pub fn document(&self, facts: &Facts<'_>, intent: &Intent) -> serde_json::Value {
        input::to_json(&input::input(&self.tasks, facts, intent, &State::of(facts.task, true)))
    }

    /// The decision document for an input document, evaluated now and not interpreted.
    ///
    /// # Errors
    /// Why there is none.
    pub fn evaluate_document(&self, input: &serde_json::Value) -> Result<serde_json::Value, String> {
        self.engine.evaluate(input::json(input)).map(|v| input::to_json(&v))
    }

    fn one(&self, facts: &Facts<'_>, intent: &Intent, state: &State) -> (Arc<Decision>, bool) {
        if !self.report.cacheable {
            return (Arc::new(self.evaluate(facts, intent, state).0), false);
        }
        KEY.with(|cell| {
            let mut own = Vec::new();
            let mut shared = cell.try_borrow_mut().ok();
            let key = shared.as_deref_mut().unwrap_or(&mut own);
            let fits = self.plan.write(facts, intent, state, key);
            let agent = &facts.task.agent.id;
            if fits && let Some(decision) = self.cache.find(agent, key) {
                return (decision, true);
            }
            let (decision, keep) = self.evaluate(facts, intent, state);
            let decision = Arc::new(decision);
            if fits && keep {
                self.cache.keep(agent, key, &decision);
            }
            (decision, false)
        })
    }

    /// The decision, and whether it may be kept. What could not be decided is a deny, never kept.
    fn evaluate(&self, facts: &Facts<'_>, intent: &Intent, state: &State) -> (Decision, bool) {
        let value = self.engine.evaluate(input::input(&self.tasks, facts, intent, state));
        match value.and_then(|v| answer::decision(&v)) {
            Ok((mut decision, keep)) => {
                if decision.code == Some(Reason::NotGranted) {
                    decision.code = Some(unknown(intent).unwrap_or(Reason::NotGranted));
                }
                (decision, keep)
            }
            Err(why) => (answer::failed(&why), false),
        }
    }
}

/// What is not granted because no catalog knows it.
fn unknown(intent: &Intent) -> Option<Reason> {
    if intent.is_unknown_host() { Some(Reason::UnknownHost) } else { intent.is_unknown_operation().then_some(Reason::UnknownOperation) }
}

/// Several intents as one: deny beats ask beats allow, and the first such gives the reason.
/// Limits stay apart, since each intent counts in them.
fn together(decisions: &[Arc<Decision>]) -> Decision {
    let strongest = |verdict| decisions.iter().find(|d| d.verdict == verdict);
    let first = strongest(Verdict::Deny).or_else(|| strongest(Verdict::Ask)).or_else(|| decisions.first());
    let Some(first) = first else { return answer::failed("the call has no intent") };
    let mut whole = Decision::clone(first);
    if whole.verdict == Verdict::Deny {
        return whole;
    }
    whole.labels = decisions.iter().flat_map(|d| d.labels.iter().copied()).collect();
    whole.labels.sort_unstable();
    whole.labels.dedup();
    whole.limits = decisions.iter().flat_map(|d| d.limits.iter().cloned()).collect();
    whole.returns = decisions.iter().fold(whole.returns, |all, d| all.and(d.returns));
    for grant in decisions.iter().skip(1).flat_map(|d| &d.grants) {
        if !whole.grants.contains(grant) {
            whole.grants.push(grant.clone());
        }
    }
    if decisions.iter().any(|d| d.credential != whole.credential) {
        whole = answer::failed("the call's intents take different credentials");
        whole.code = Some(Reason::NotGranted);
    }
    whole
}

fn refusal(facts: &Facts<'_>, intents: &[Intent], decision: &Decision) -> Refusal {
    let reason = decision.code.unwrap_or(Reason::NotGranted);
    let what = intents.first().map(asked).unwrap_or_default();
    let more = if intents.len() > 1 { format!(" (with {} more intents)", intents.len() - 1) } else { String::new() };
    let agent = &facts.task.agent.id;
    let request = &facts.request;
    let detail = match reason {
        Reason::UnknownHost => format!("{} is in no catalog, and no workflow of {agent} names it", request.host),
        Reason::UnknownOperation => {
            format!("{} {} on {} is in no catalog, and no workflow of {agent} names it", request.method, request.path, request.host)
        }
        Reason::Guardrail => format!("a guardrail forbids {what}{more}"),
        Reason::Drift => format!("{agent} differs from what was registered, which stops {what}{more}"),
        Reason::ApprovalRequired => format!("{what}{more} needs the approval of a human"),
        Reason::PolicyFailed => format!("the policy could not be evaluated for {what}{more}"),
        _ => format!("{what}{more} is granted by no workflow of {agent}"),
    };
    Refusal::new(reason, detail).with_reasons(decision.reasons.clone())
}

/// `github.issues.delete on acme/web`
fn asked(intent: &Intent) -> String {
    let short = |value: &Param| match value {
        Param::Text(t) if t.len() <= 60 && !t.contains(char::is_whitespace) => Some(t.to_string()),
        _ => None,
    };
    let on: Vec<String> = intent.params.iter().take(2).map_while(|(_, v)| short(v)).collect();
    if on.is_empty() { intent.id().to_owned() } else { format!("{} on {}", intent.id(), on.join("/")) }
}
