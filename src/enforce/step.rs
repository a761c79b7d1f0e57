use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::Request;
use hyper::body::Body as _;
use smallvec::SmallVec;

use crate::{
    audit::{DecisionRecord, Passed},
    authority::{Reservation, token::Delegations},
    call::{
        Accepted, Account, Armed, Arriving, Body, Decision, Identified, Inject, Intent, Label, Lease, LimitRule, Mode, Observed, Operation,
        Param, Permitted, Returns, Search, Task, Understood, Unit, Verdict,
    },
    clock::Moment,
    credential::{Choice, Scope, Wanted, Withhold, ask_readable},
    decide::Judged,
    forward::{Reply, Until},
    identify::{self, Arrival, Unserved},
    intent::{Class, Need, Reading},
    listen::Door,
    refusal::{Reason, Refusal},
};

use super::{
    Again, House, Rules, accept, drift, prove, read,
    turn::{At, Brief, Turned, traceparent},
};

type Step<T> = Result<T, Box<Turned>>;

/// An answer from upstream, and what the call still owns.
pub(super) struct Delivered {
    pub(super) account: Account,
    pub(super) lease: Option<Lease>,
    /// What of the answer does not reach the agent.
    pub(super) withhold: Withhold,
    pub(super) reply: Reply,
    pub(super) brief: Brief,
    pub(super) until: Until,
    /// When the call was sent, and how long upstream took to the head of its answer.
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

impl House {
    /// A request with one reading.
    pub(super) async fn accept(
        &self,
        rules: &Rules,
        door: &Door,
        request: Request<Arriving>,
        clear: bool,
        account: Account,
    ) -> Step<(Accepted, Arriving)> {
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        match accept::head(door, parts, clear) {
            Ok(head) => Ok((Accepted::new(head, account), body)),
            Err(refused) => {
                let (to, refusal) = *refused;
                Err(self.turn(rules, door, At::Raw { account, method: Some(method), to }, refusal).await)
            }
        }
    }

    /// Who calls, and for whom.
    pub(super) async fn identify(&self, rules: &Rules, door: &Door, accepted: Accepted, now: Moment) -> Step<Identified> {
        let claim = door.inside.as_ref().and_then(|i| i.claim.as_ref());
        let proven = match prove::prove(rules.callers.as_ref(), door, claim, &accepted.head().headers, now).await {
            Ok(proven) => proven,
            Err(refusal) => return Err(self.turn(rules, door, At::Accepted(accepted), refusal).await),
        };
        let arrival = Arrival { proven: proven.as_deref(), ..self.arrival(rules, door, claim) };
        match identify::identify(&arrival, accepted.head(), self.tasks(), &rules.registry, rules.config.ambient.as_ref(), now) {
            Ok(caller) => Ok(drift::shown(rules, accepted.identified(caller))),
            Err(Unserved { refusal, caller }) => {
                let at = match caller {
                    Some(caller) => At::Identified(accepted.identified(*caller)),
                    None => At::Accepted(accepted),
                };
                Err(self.turn(rules, door, at, refusal).await)
            }
        }
    }

    pub(super) fn arrival<'a>(&self, rules: &'a Rules, door: &'a Door, claim: Option<&'a http::HeaderValue>) -> Arrival<'a> {
        let behind = rules.entrance.as_ref().map(|e| &e.config);
        let narrowed = rules.config.ambient.as_ref().is_some_and(|a| !a.uid.is_empty()) || behind.is_some_and(|b| !b.uid.is_empty());
        let peer_uid = if narrowed { *door.peer_uid.get_or_init(|| identify::socket_owner(door.local, door.peer)) } else { None };
        let (listener, peer) = (door.listener, door.peer);
        Arrival { listener, peer, proxy_authorization: claim, peer_uid, proven: None, seen: Some(&door.seen), behind }
    }

    /// What is asked for; reads the body where the operation is judged by it.
    pub(super) async fn understand(&self, rules: &Rules, identified: Identified, body: Arriving, now: Moment) -> Step<Understood> {
        if let Some(intent) = redirected(&identified, &body, now) {
            return Ok(identified.redirected(intent));
        }
        let mut seen = Bytes::new();
        match self.reading(rules, &identified, body, &mut seen).await {
            Ok((reading, body, observed)) => {
                let identified = self.observe(rules, identified, observed.as_ref());
                let understood = identified.understood(reading.intents, reading.provider, body);
                match refuse_upgrade(&understood) {
                    None => Ok(understood),
                    Some(refusal) => Err(self.turn_known(rules, At::Understood(understood, None), refusal).await),
                }
            }
            Err(refusal) => Err(self.turn_unread(rules, At::Identified(identified), refusal, seen).await),
        }
    }

    /// Reads what is asked for; `seen` is left with the body, when it was read whole.
    async fn reading(
        &self,
        rules: &Rules,
        identified: &Identified,
        body: Arriving,
        seen: &mut Bytes,
    ) -> Result<(Reading, Body, Option<Observed>), Refusal> {
        let head = identified.head();
        let found = rules.catalog.find(head)?;
        let watched = rules.registry.watched(&identified.caller().task.agent.id).is_some();
        let observed = |reading: &Reading, body: Option<&Bytes>| watched.then(|| found.observe(reading, body));
        let limits = &rules.config.limits;
        let limit = match found.need() {
            Need::Nothing => {
                let reading = found.read(head, None)?;
                let observed = observed(&reading, None);
                return Ok((reading, if body.is_end_stream() { Body::Empty } else { Body::Stream(body) }, observed));
            }
            Need::Prefix { bytes } => {
                let (first, body) = read::prefix(body, bytes, self.bodies(), rules.config.timeouts.idle).await?;
                let reading = found.read(head, Some(&first))?;
                let observed = observed(&reading, None);
                return Ok((reading, body, observed));
            }
            Need::Whole { limit: Class::Default } => limits.body_default,
            Need::Whole { limit: Class::Llm } => limits.body_llm,
        };
        let read = read::whole(body, &head.headers, limit, self.bodies(), rules.config.timeouts.idle).await?;
        seen.clone_from(&read.bytes);
        let reading = found.read(head, Some(&read.bytes))?;
        let observed = observed(&reading, Some(&read.bytes));
        Ok((reading, Body::whole(read.bytes, read.place), observed))
    }

    /// Whether that is within the task's remit now, and with which credential.
    pub(super) async fn decide(&self, rules: &Rules, understood: Understood, now: Moment) -> Step<(Permitted, Option<Choice>)> {
        let began = Instant::now();
        let Judged { decision, cached, pass } = rules.decider.judge(&understood, now.instant);
        self.metrics().decided(cached, began.elapsed());
        if cached { &self.metrics().cache_hits } else { &self.metrics().cache_misses }.inc();
        let chosen = pass.and_then(|permit| {
            // Observed calls go as they came: nothing of theirs is replaced or foreign.
            if permit.mode() == Mode::Observe { Ok((permit, None)) } else { Ok((permit, choose(rules, &understood, &decision)?)) }
        });
        match chosen {
            Ok((permit, Some(choice))) if choice.is_own() => {
                Ok((understood.permitted(decision, cached, permit.with_own_login()), Some(choice)))
            }
            Ok((permit, choice)) => Ok((understood.permitted(decision, cached, permit), choice)),
            Err(refusal) => Err(self.turn_known(rules, At::Understood(understood, Some((decision, cached))), refusal).await),
        }
    }

    /// Takes from the limits that the decision set.
    pub(super) async fn reserve(&self, rules: &Rules, permitted: Permitted, now: Moment) -> Step<(Permitted, Reservation)> {
        let limits = taken(&permitted);
        let tokens = asked_tokens(limits, permitted.understood().intents());
        match self.tasks().reserve(permitted.permit().task(), limits, tokens, now.instant) {
            Ok(reservation) => Ok((permitted, reservation)),
            Err(refusal) => Err(self.turn_known(rules, At::Permitted(permitted), refusal).await),
        }
    }

    /// The lease of the chosen credential.
    pub(super) async fn arm(&self, rules: &Rules, permitted: Permitted, choice: Option<Choice>, now: Moment) -> Step<Armed> {
        let Some(choice) = choice else { return Ok(permitted.armed(None)) };
        let understood = permitted.understood();
        let (permit, by) = (permitted.permit(), permitted.decision().scope.as_ref());
        let patience = rules.config.timeouts.credential;
        let wanted = Wanted { permit, head: understood.head(), intents: understood.intents(), by, now: now.instant, patience };
        match self.leases().lease(&choice, wanted).await {
            Ok(None) => Ok(permitted.armed(None)),
            // Rare, and large: kept out of the future that every call carries.
            Ok(Some(lease)) if permitted.understood().body().streams() => {
                match Box::pin(self.gather(rules, permitted, &choice, &lease)).await {
                    Ok(permitted) => Ok(permitted.armed(Some(lease))),
                    Err((permitted, refusal)) => Err(self.turn_known(rules, At::Permitted(permitted), refusal).await),
                }
            }
            Ok(lease) => Ok(permitted.armed(lease)),
            Err(refusal) => Err(self.turn_known(rules, At::Permitted(permitted), refusal).await),
        }
    }

    /// What the agent that is called gets of this task, where it goes to a registered peer.
    pub(super) async fn hand_over(&self, rules: &Rules, delegations: &Delegations, armed: Armed, now: Moment) -> Step<Armed> {
        let permitted = armed.permitted();
        let (task, understood) = (permitted.permit().task(), permitted.understood());
        if permitted.permit().mode() == Mode::Observe || understood.is_redirected() || delegations.peer(understood.to()).is_none() {
            return Ok(armed);
        }
        let received = self.tasks().received(task);
        let certificate = armed.lease().and_then(|lease| match &lease.inject {
            Inject::Certificate(certificate) => Some(&certificate.sha256),
            _ => None,
        });
        match delegations.hand_over(task, understood.to(), &rules.registry, received.as_deref(), certificate, now) {
            Ok(Some(handed)) => Ok(armed.handing(handed)),
            Ok(None) => Ok(armed),
            Err(refusal) => Err(self.turn_known(rules, At::Armed(armed), refusal).await),
        }
    }

    /// On the record before it leaves (law 4).
    pub(super) async fn record(&self, rules: &Rules, armed: Armed, now: Moment) -> Step<Armed> {
        let permitted = armed.permitted();
        let understood = permitted.understood();
        let decision = permitted.decision();
        let record = DecisionRecord {
            id: armed.permitted().understood().id(),
            time: now.utc,
            traceparent: traceparent(understood.head()),
            mode: permitted.permit().mode(),
            listener: understood.caller().listener,
            caller: Some(understood.caller()),
            method: Some(&understood.head().method),
            to: Some(understood.to()),
            path: Some(&understood.head().path),
            intents: understood.intents(),
            verdict: decision.verdict,
            code: decision.code,
            reasons: &decision.reasons,
            approval: decision.approval.as_ref(),
            revision: rules.decider.revision(),
            cached: permitted.cached(),
            lease: armed.lease(),
            scope: armed.lease().and_then(|l| l.scope.as_ref()).map(Scope::as_json).or(decision.scope.as_ref()),
            returns: if permitted.permit().passes_own_login() { Returns::default() } else { decision.returns },
            grants: &decision.grants,
            limits: taken(permitted),
            tokens: asked_tokens(taken(permitted), understood.intents()),
            own_login: permitted.permit().passes_own_login(),
            passed: armed.handed().map(|h| Passed { jti: &h.jti, from: None, to: Some(&h.to) }),
        };
        match self.audit().decision(&record, self.audit().durability_of(understood.intents())).await {
            Ok(()) => {
                self.count(understood.intents(), decision.verdict, decision.code);
                Ok(armed)
            }
            // The log that failed cannot take the refusal either; the outcome waits in memory.
            Err(refusal) => Err(Turned::unrecorded(At::Armed(armed), refusal)),
        }
    }

    /// The task may have ended, or been labelled anew, while the call waited.
    pub(super) fn recheck(&self, rules: &Arc<Rules>, armed: Armed) -> Step<Armed> {
        let armed = self.leashed(rules, armed);
        match armed.permitted().permit().void(Instant::now()) {
            None => Ok(armed),
            Some(reason) => {
                Err(Turned::unrecorded(At::Armed(armed), Refusal::new(reason, "the task changed while the call was being prepared")))
            }
        }
    }

    /// Sends it; an answer labels the task before its first byte reaches the agent.
    pub(super) async fn send(&self, rules: &Rules, armed: Armed, reservation: Reservation) -> Step<Delivered> {
        let brief = Brief::of(armed.permitted().understood());
        let permit = armed.permitted().permit();
        let until = Until { task: permit.task().clone(), leash: permit.leash().cloned() };
        let decision = armed.permitted().decision().clone();
        let leads = armed.permitted().understood().intents().first().filter(|i| !i.operation.follows.is_empty()).cloned();
        let withhold = withheld(&armed);
        let searched = withhold.reads() || armed.lease().is_some_and(|lease| lease.scrubber.is_some());
        let began = Instant::now();
        // Marked as its first byte leaves; a call that stays is given back.
        let search = search(rules, &armed);
        let sent = rules.forward.send(armed, searched.then_some(ask_readable), search, || reservation.sent()).await;
        match sent.reply {
            Ok(reply) => {
                self.touched(rules, &until.task, &decision, &brief, reply.response.status());
                if let Some(intent) = leads {
                    until.task.redirects.note(&intent, reply.response.status(), reply.response.headers(), Instant::now());
                }
                Ok(Delivered {
                    account: sent.account,
                    lease: sent.lease,
                    withhold,
                    reply,
                    brief,
                    until,
                    sent: began,
                    answered: Instant::now(),
                })
            }
            Err(refusal) => {
                let mut account = sent.account;
                account.outcome.cut_since = until.task.over_since();
                Err(Box::new(Turned { account, brief, refusal }))
            }
        }
    }

    /// What an answer does to its task, before a byte of it reaches the agent. Open calls are held to it.
    fn touched(&self, rules: &Rules, task: &Arc<Task>, decision: &Decision, brief: &Brief, status: http::StatusCode) {
        let mut grew = !decision.labels.is_empty() && task.labels.add(&decision.labels);
        for operation in brief.operations().iter().filter(|o| !o.labels.is_empty()) {
            let touched: SmallVec<[Label; 2]> = operation.labels.iter().copied().filter(|l| l.is_touched()).collect();
            grew |= task.labels.add(&touched);
        }
        if grew {
            self.audit().event("labels", &serde_json::json!({"task": task.id.as_str(), "labels": task.labels.list()}));
            self.written(rules);
            self.labelled(&task.labels, Again::Labels);
        }
        if status.is_success() && rules.decider.asks_what_succeeded() {
            let new = brief.operations().iter().fold(false, |new, operation| task.succeeded.add(&operation.id) | new);
            if new {
                if rules.config.state.is_some() {
                    let ids: Vec<&str> = brief.operations().iter().map(|o| &*o.id).collect();
                    self.audit().event("succeeded", &serde_json::json!({"task": task.id.as_str(), "operations": ids}));
                    self.written(rules);
                }
                self.labelled(&task.labels, Again::Success);
            }
        }
    }

    /// Where state outlasts the process, what it goes on from must too, before the agent has it at hand.
    fn written(&self, rules: &Rules) {
        if rules.config.state.is_some() {
            self.audit().written();
        }
    }

    pub(super) fn count(&self, intents: &[Intent], verdict: Verdict, reason: Option<Reason>) {
        for intent in intents {
            self.metrics().call(Some(&intent.operation.provider.id), Some(intent.operation.effect), verdict, reason);
        }
    }
}

/// What of a call's answer does not reach the agent. Who brought its own login has what comes of it; what
/// is only observed is left as it is.
fn withheld(armed: &Armed) -> Withhold {
    let permitted = armed.permitted();
    if permitted.permit().passes_own_login() {
        return Withhold::default();
    }
    let understood = permitted.understood();
    Withhold::of(understood.intents(), understood.head(), understood.body(), permitted.decision().returns)
}

/// What looks at a body that streams out. What is only observed goes as it came.
fn search(rules: &Rules, armed: &Armed) -> Option<Box<dyn Search>> {
    let (understood, permit) = (armed.permitted().understood(), armed.permitted().permit());
    let looks = understood.body().streams() && permit.mode() != Mode::Observe;
    looks.then(|| rules.broker.search(understood.head(), permit.passes_own_login()))
}

/// The most tokens that a call lets a model answer with, where a limit counts them.
fn asked_tokens(limits: &[LimitRule], intents: &[Intent]) -> Option<u64> {
    if limits.iter().any(|l| l.unit == Unit::Tokens) { tokens(intents) } else { None }
}

/// The limits that a call takes from. What is only observed spends nothing.
fn taken(permitted: &Permitted) -> &[LimitRule] {
    if permitted.permit().mode() == Mode::Observe { &[] } else { &permitted.decision().limits }
}

/// The intent of the call whose answer sent the task to this very URL.
fn redirected(identified: &Identified, body: &Arriving, now: Moment) -> Option<Intent> {
    let head = identified.head();
    let fetches = matches!(head.method, http::Method::GET | http::Method::HEAD) && head.upgrade.is_none() && body.is_end_stream();
    if fetches { identified.caller().task.redirects.take(&head.to, &head.path, now.instant) } else { None }
}

/// The credential for a call, and that the request carries no other.
fn choose(rules: &Rules, understood: &Understood, decision: &Decision) -> Result<Option<Choice>, Refusal> {
    let operation: &Operation = match understood.intents().first() {
        Some(intent) => &intent.operation,
        None => return Err(Refusal::new(Reason::UnknownOperation, "the request asks for nothing")),
    };
    if understood.is_redirected() {
        // The vendor's own URL, as it gave it: what authorises it stands in it.
        return Ok(None);
    }
    let workflow = rules.registry.workflow(&understood.caller().task.workflow).and_then(|w| w.credential.as_deref());
    let provider = operation.provider.credential.as_deref();
    let choice = rules.broker.choose(decision.credential.as_deref(), workflow, provider, understood.to(), operation)?;
    rules.broker.foreign(understood.head(), understood.body(), choice.as_ref())?;
    Ok(choice)
}

/// The most that a model may answer with, as the call states it, over all the answers that it asks for;
/// None when some intent does not.
fn tokens(intents: &[Intent]) -> Option<u64> {
    let number = |intent: &Intent, name| match intent.params.lookup(name)? {
        Param::Json(value) => value.as_u64(),
        Param::Text(text) => text.parse().ok(),
    };
    let most = |intent: &Intent| Some(number(intent, "max_tokens")?.saturating_mul(number(intent, "choices").unwrap_or(1).max(1)));
    intents.iter().try_fold(0, |sum: u64, intent| Some(sum.saturating_add(most(intent)?)))
}

/// An upgrade turns a call into a stream that nobody judges, so the operation must declare it.
fn refuse_upgrade(understood: &Understood) -> Option<Refusal> {
    let protocol = understood.head().upgrade.as_deref()?;
    let declared = |o: &Operation| o.upgrades.iter().any(|u| **u == *protocol);
    let undeclared = understood.intents().iter().find(|i| !declared(&i.operation))?;
    Some(Refusal::new(Reason::UnknownOperation, format!("{} does not declare an upgrade to {protocol:?}", undeclared.id())))
}
