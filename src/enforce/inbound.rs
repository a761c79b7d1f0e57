//! The way in: a request that reaches the agent, from its head to its last byte.
//!
//! accept → who calls, and with whose authority → a task → record → recheck → hand to the agent. The task
//! ends with the answer; while it lasts, the agent's calls out join it by their trace.

mod head;
mod trace;
mod who;

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use hyper::body::Body as _;

use crate::{
    audit::{DecisionRecord, Durability, Passed},
    authority::{Entered, Start, token},
    call::{Accepted, Account, Arriving, Body, Caller, Entering, How, Identified, Listener, Returns, Verdict},
    clock::Moment,
    config::Inbound,
    credential::Withhold,
    decide,
    forward::{Inward, Until},
    identify,
    listen::Door,
    refusal::{Reason, Refusal},
};

use super::{
    House, Rules,
    step::Delivered,
    turn::{At, Brief, Turned, traceparent},
};

use trace::Trace;
use who::Entrant;

type Step<T> = Result<T, Box<Turned>>;

/// Tells the agent for whom a request is. Only Remit says it: what a caller sends of that name is dropped.
const PRINCIPAL: HeaderName = HeaderName::from_static("remit-principal");

/// The way to the agent of a config, with what the config says of it.
#[derive(Debug)]
pub struct Entrance {
    pub config: Inbound,
    pub inward: Inward,
    pub delegations: Arc<token::Delegations>,
}

impl House {
    /// The rooms in order for a request that goes to the agent, up to the head of its answer.
    pub(super) async fn route_in(
        &self,
        rules: &Arc<Rules>,
        door: &Door,
        request: Request<Arriving>,
        clear: bool,
        account: Account,
        now: Moment,
    ) -> Step<Delivered> {
        let Some(entrance) = &rules.entrance else {
            let at = At::Raw { account, method: Some(request.method().clone()), to: None };
            let refusal = Refusal::new(Reason::NoTask, "no agent stands behind this listener any more");
            return Err(self.turn(rules, door, at, refusal).await);
        };
        let (accepted, body) = self.accept_in(rules, entrance, door, request, clear, account).await?;
        let (identified, guest) = self.identify_in(rules, entrance, door, accepted, now).await?;
        let entering = self.admit(rules, identified, body, now).await?;
        let entering = self.record_in(rules, entering, &guest, now).await?;
        if let Some(reason) = entering.entry().void(Instant::now()) {
            let refusal = Refusal::new(reason, "the task was over while the request was being prepared");
            return Err(Turned::unrecorded(At::Identified(entering.into_identified()), refusal));
        }
        self.send_in(entrance, entering, guest).await
    }

    async fn accept_in(
        &self,
        rules: &Rules,
        entrance: &Entrance,
        door: &Door,
        request: Request<Arriving>,
        clear: bool,
        account: Account,
    ) -> Step<(Accepted, Arriving)> {
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        match head::head(parts, clear, entrance.inward.to().clone()) {
            Ok(head) => Ok((Accepted::new(head, account), body)),
            Err(refusal) => Err(self.turn(rules, door, At::Raw { account, method: Some(method), to: None }, refusal).await),
        }
    }

    /// Who calls and for whom, and the task that the request is.
    async fn identify_in(
        &self,
        rules: &Rules,
        entrance: &Entrance,
        door: &Door,
        accepted: Accepted,
        now: Moment,
    ) -> Step<(Identified, Guest)> {
        let (entrant, trace) = match self.entrant(rules, entrance, door, accepted.head(), now).await {
            Ok(entrant) => match Trace::of(&accepted.head().headers) {
                Ok(trace) => (entrant, trace),
                Err(refusal) => return Err(self.turn(rules, door, At::Accepted(accepted), refusal).await),
            },
            Err(refusal) => return Err(self.turn(rules, door, At::Accepted(accepted), refusal).await),
        };
        let start = entrance.start(accepted.head().path.raw(), &entrant);
        match self.tasks().enter(&rules.registry, start, trace.id, entrant.received.clone(), now) {
            Ok(entered) => {
                let (task, proof) = (entered.task().clone(), entrant.proof.clone());
                let caller = Caller { how: How::Inbound, listener: Listener::Inbound, task, proof, drift: identify::no_drift() };
                Ok((accepted.identified(caller), Guest { entrant, trace, entered }))
            }
            Err(refusal) => Err(self.turn(rules, door, At::Accepted(accepted), refusal).await),
        }
    }

    async fn admit(&self, rules: &Rules, identified: Identified, body: Arriving, now: Moment) -> Step<Entering> {
        match decide::admit(&identified, now.instant) {
            Ok(entry) => {
                let body = if body.is_end_stream() { Body::Empty } else { Body::Stream(body) };
                Ok(identified.entering(body, entry))
            }
            Err(refusal) => Err(self.turn_known(rules, At::Identified(identified), refusal).await),
        }
    }

    /// On the record before the agent sees it (law 4).
    async fn record_in(&self, rules: &Rules, entering: Entering, guest: &Guest, now: Moment) -> Step<Entering> {
        let identified = entering.identified();
        let head = identified.head();
        let received = guest.entrant.received.as_deref();
        let record = DecisionRecord {
            id: identified.accepted().account().outcome.id,
            time: now.utc,
            traceparent: guest.trace.field.to_str().ok().or_else(|| traceparent(head)),
            mode: identified.caller().task.mode,
            listener: Listener::Inbound,
            caller: Some(identified.caller()),
            method: Some(&head.method),
            to: Some(&head.to),
            path: Some(&head.path),
            intents: &[],
            verdict: Verdict::Allow,
            code: None,
            reasons: &[],
            approval: None,
            revision: rules.decider.revision(),
            cached: false,
            lease: None,
            scope: None,
            returns: Returns::default(),
            grants: &[],
            limits: &[],
            tokens: None,
            own_login: false,
            passed: received.map(|r| Passed { jti: &r.jti, from: Some(&r.from), to: None }),
        };
        match self.audit().decision(&record, Durability::Synced).await {
            Ok(()) => {
                self.metrics().call(None, None, Verdict::Allow, None);
                Ok(entering)
            }
            Err(refusal) => Err(Turned::unrecorded(At::Identified(entering.into_identified()), refusal)),
        }
    }

    /// Hands it to the agent. The task is over when the account is closed, after the last byte.
    async fn send_in(&self, entrance: &Entrance, entering: Entering, guest: Guest) -> Step<Delivered> {
        let Guest { entrant, trace, entered } = guest;
        let until = Until { task: entered.task().clone(), leash: None };
        let brief = Brief::of_caller(entering.identified().caller());
        let drops_token = entrant.came_by_token && !entrance.config.keep_token;
        let began = Instant::now();
        let mut sent = entrance
            .inward
            .send(entering, |fields| {
                trace.tell(fields);
                tell(fields, &entrant, drops_token);
            })
            .await;
        sent.account.hold(Box::new(entered));
        match sent.reply {
            Ok(reply) => Ok(Delivered {
                account: sent.account,
                lease: None,
                withhold: Withhold::default(),
                reply,
                brief,
                until,
                sent: began,
                answered: Instant::now(),
            }),
            Err(refusal) => {
                sent.account.outcome.cut_since = until.task.over_since();
                Err(Box::new(Turned { account: sent.account, brief, refusal }))
            }
        }
    }
}

/// A request whose task has begun.
struct Guest {
    entrant: Entrant,
    trace: Trace,
    entered: Arc<Entered>,
}

impl Entrance {
    /// The task that a request is to be.
    fn start(&self, path: &str, entrant: &Entrant) -> Start {
        let config = &self.config;
        let rule = config.rules.iter().find(|rule| covers(&rule.path, path));
        let workflow = rule.map_or(&config.workflow, |rule| &rule.workflow);
        let mut start = Start::new(config.agent.clone(), workflow.clone(), entrant.principal.clone());
        // Where a delegation token alone names the principal, none came.
        start.proof = entrant.proof.as_ref().and_then(|p| p.token.clone());
        if let Some(received) = &entrant.received {
            start.before.clone_from(&received.links);
            start.ends = Some(received.expires);
        }
        start
    }
}

/// Whether a rule's path means this one.
fn covers(rule: &str, path: &str) -> bool {
    match rule.strip_suffix("/*") {
        Some(prefix) => path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => rule == path,
    }
}

/// What the agent is told. The token that proved the caller stays here, unless the config passes it on.
fn tell(fields: &mut HeaderMap, entrant: &Entrant, drops_token: bool) {
    if drops_token {
        fields.remove(header::AUTHORIZATION);
    }
    if let Ok(principal) = HeaderValue::from_str(&entrant.principal.id) {
        fields.insert(PRINCIPAL, principal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_means_its_path_and_what_lies_below() {
        for (rule, path, wanted) in [
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("/a/*", "/a", true),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/ab", false),
            ("/*", "/anything", true),
        ] {
            assert_eq!(covers(rule, path), wanted, "{rule} {path}");
        }
    }
}
