use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header};
use smallvec::SmallVec;

use crate::{
    audit::{DecisionRecord, Durability},
    call::{
        Accepted, Account, Armed, Caller, Decision, DecisionId, Destination, ErrorForm, Head, Host, Identified, Intent, Lease, Listener,
        Mode, Operation, Permitted, Provider, Returns, Understood, Verdict,
    },
    clock,
    listen::Door,
    refusal::{Context, Reason, Refusal, render},
};

use super::{Answer, House, Rules};

/// A call that was turned away: what is left of it, and why.
pub(super) struct Turned {
    pub(super) account: Account,
    pub(super) brief: Brief,
    pub(super) refusal: Refusal,
}

/// Turning a call away: boxed, since few calls are and every call's future would carry it.
pub(super) type Turning<'a> = Pin<Box<dyn Future<Output = Box<Turned>> + Send + 'a>>;

/// How far a call came.
pub(super) enum At {
    Raw { account: Account, method: Option<Method>, to: Option<Destination> },
    Accepted(Accepted),
    Identified(Identified),
    Understood(Understood, Option<(Arc<Decision>, bool)>),
    Permitted(Permitted),
    Armed(Armed),
}

/// What a refusal says of the call.
#[derive(Debug, Default)]
pub(super) struct Brief {
    caller: Option<Caller>,
    operations: SmallVec<[Arc<Operation>; 1]>,
    provider: Option<Arc<Provider>>,
    host: Option<Host>,
    /// The listener that was asked without a task, which a 407 answers.
    no_task_at: Option<Listener>,
    /// The body, where a refusal names the request that it answers.
    body: Option<Bytes>,
}

/// What of the request decides how a refusal is worded. Kept apart, since the request goes on.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) upgrade: bool,
    pub(super) version: Version,
    method: Method,
    fields: SmallVec<[(HeaderName, HeaderValue); 4]>,
}

/// The largest body that is looked at for a refusal, in bytes.
const SMALL: usize = 64 << 10;

/// The fields that a form of refusal looks at.
const WORDING: [HeaderName; 4] = [header::ACCEPT, header::CONTENT_TYPE, header::USER_AGENT, HeaderName::from_static("x-amz-target")];

/// W3C Trace Context §3.2.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace that a call belongs to, as it says.
pub(super) fn traceparent(head: &Head) -> Option<&str> {
    head.headers.get(&TRACEPARENT).and_then(|v| v.to_str().ok())
}

impl Asked {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let field = |name: HeaderName| headers.get(&name).map(|value| (name, value.clone()));
        Self {
            upgrade: headers.contains_key(header::UPGRADE),
            version: request.version(),
            method: request.method().clone(),
            fields: WORDING.into_iter().filter_map(field).collect(),
        }
    }
}

impl Brief {
    pub(super) fn of(understood: &Understood) -> Self {
        Self {
            caller: Some(understood.caller().clone()),
            operations: understood.intents().iter().map(|i| i.operation.clone()).collect(),
            provider: understood.provider().cloned(),
            host: Some(understood.to().host.clone()),
            no_task_at: None,
            body: understood.provider().zip(understood.body().bytes()).and_then(|(provider, body)| match provider.errors {
                // A push that was read to its end can be answered in git's own protocol.
                ErrorForm::Git => Some(Bytes::new()),
                _ => answered(provider, body),
            }),
        }
    }

    /// For a request that goes to the agent, and so to no provider.
    pub(super) fn of_caller(caller: &Caller) -> Self {
        Self { caller: Some(caller.clone()), ..Self::default() }
    }

    /// What was asked for.
    pub(super) fn operations(&self) -> &[Arc<Operation>] {
        &self.operations
    }

    /// The id of the provider that was asked, for the metrics.
    pub(super) fn provider(&self) -> Option<&Arc<str>> {
        self.operations.first().map(|o| &o.provider.id)
    }
}

/// What of a body a refusal in the provider's form looks at. Only a small one, since it is kept as long
/// as the answer lasts.
fn answered(provider: &Provider, body: &Bytes) -> Option<Bytes> {
    match provider.errors {
        ErrorForm::Jsonrpc if body.len() <= SMALL => Some(body.clone()),
        _ => None,
    }
}

impl At {
    fn id(&self) -> DecisionId {
        match self {
            Self::Raw { account, .. } => account.outcome.id,
            Self::Accepted(a) => a.account().outcome.id,
            Self::Identified(i) => i.accepted().account().outcome.id,
            Self::Understood(u, _) => u.id(),
            Self::Permitted(p) => p.understood().id(),
            Self::Armed(a) => a.permitted().understood().id(),
        }
    }

    fn head(&self) -> Option<&Head> {
        match self {
            Self::Raw { .. } => None,
            Self::Accepted(a) => Some(a.head()),
            Self::Identified(i) => Some(i.head()),
            Self::Understood(u, _) => Some(u.head()),
            Self::Permitted(p) => Some(p.understood().head()),
            Self::Armed(a) => Some(a.permitted().understood().head()),
        }
    }

    fn understood(&self) -> Option<&Understood> {
        match self {
            Self::Raw { .. } | Self::Accepted(_) | Self::Identified(_) => None,
            Self::Understood(u, _) => Some(u),
            Self::Permitted(p) => Some(p.understood()),
            Self::Armed(a) => Some(a.permitted().understood()),
        }
    }

    fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Identified(i) => Some(i.caller()),
            _ => self.understood().map(Understood::caller),
        }
    }

    fn decision(&self) -> Option<(&Decision, bool)> {
        match self {
            Self::Understood(_, decision) => decision.as_ref().map(|(d, cached)| (&**d, *cached)),
            Self::Permitted(p) => Some((p.decision(), p.cached())),
            Self::Armed(a) => Some((a.permitted().decision(), a.permitted().cached())),
            Self::Raw { .. } | Self::Accepted(_) | Self::Identified(_) => None,
        }
    }

    fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Armed(a) => a.lease(),
            _ => None,
        }
    }

    fn brief(&self) -> Brief {
        match self.understood() {
            Some(understood) => Brief::of(understood),
            None => Brief { caller: self.caller().cloned(), ..Brief::default() },
        }
    }

    fn into_account(self) -> Account {
        match self {
            Self::Raw { account, .. } => account,
            Self::Accepted(a) => a.into_account(),
            Self::Identified(i) => i.into_accepted().into_account(),
            Self::Understood(u, _) => u.into_accepted().into_account(),
            Self::Permitted(p) => p.into_accepted().into_account(),
            Self::Armed(a) => a.into_accepted().into_account(),
        }
    }
}

impl Turned {
    /// For a call whose decision is on record already, or cannot be put there.
    pub(super) fn unrecorded(at: At, refusal: Refusal) -> Box<Self> {
        let brief = at.brief();
        Box::new(Self { brief, account: at.into_account(), refusal })
    }
}

impl House {
    /// Turns a call away before it is known who calls.
    pub(super) fn turn<'a>(&'a self, rules: &'a Rules, door: &'a Door, at: At, refusal: Refusal) -> Turning<'a> {
        Box::pin(self.turn_early(rules, door, at, refusal))
    }

    /// Turns away a call whose body, as far as it was read, has no one reading.
    pub(super) async fn turn_unread(&self, rules: &Rules, at: At, refusal: Refusal, seen: Bytes) -> Box<Turned> {
        let mut turned = self.turn_known(rules, at, refusal).await;
        turned.brief.body = turned.brief.provider.as_ref().and_then(|provider| answered(provider, &seen));
        turned
    }

    /// Turns away a call whose caller is known.
    pub(super) fn turn_known<'a>(&'a self, rules: &'a Rules, at: At, refusal: Refusal) -> Turning<'a> {
        Box::pin(self.turn_late(rules, at, refusal))
    }

    async fn turn_early(&self, rules: &Rules, door: &Door, at: At, refusal: Refusal) -> Box<Turned> {
        let provider = match (&at, at.head()) {
            (At::Raw { to: Some(to), .. }, _) => rules.catalog.provider_for_host(&to.host).cloned(),
            (_, Some(head)) => rules.catalog.provider_for(head).cloned(),
            _ => None,
        };
        let mut turned = self.turn_away(rules, door.listener, at, refusal).await;
        turned.brief.provider = provider;
        turned.brief.no_task_at = (turned.refusal.reason == Reason::NoTask).then_some(door.listener);
        turned
    }

    async fn turn_late(&self, rules: &Rules, at: At, refusal: Refusal) -> Box<Turned> {
        let listener = at.caller().map_or(Listener::Forward, |c| c.listener);
        let provider = at.head().and_then(|head| rules.catalog.provider_for(head)).cloned();
        let mut turned = self.turn_away(rules, listener, at, refusal).await;
        turned.brief.provider = turned.brief.provider.or(provider);
        turned
    }

    async fn turn_away(&self, rules: &Rules, listener: Listener, at: At, refusal: Refusal) -> Box<Turned> {
        let verdict = if refusal.reason == Reason::ApprovalRequired { Verdict::Ask } else { Verdict::Deny };
        let (method, to) = match &at {
            At::Raw { method, to, .. } => (method.as_ref(), to.as_ref()),
            _ => (at.head().map(|h| &h.method), at.head().map(|h| &h.to)),
        };
        let detail = [Box::<str>::from(&*refusal.detail)];
        let decision = at.decision();
        let intents: &[Intent] = at.understood().map_or(&[], |u| u.intents());
        let id = at.id();
        let record = DecisionRecord {
            id,
            time: clock::utc(),
            traceparent: at.head().and_then(traceparent),
            mode: at.caller().map_or(Mode::Enforce, |c| c.task.mode),
            listener,
            caller: at.caller(),
            method,
            to,
            path: at.head().map(|h| &h.path),
            intents,
            verdict,
            code: Some(refusal.reason),
            reasons: if refusal.reasons.is_empty() { &detail } else { &refusal.reasons },
            approval: decision.and_then(|(d, _)| d.approval.as_ref()),
            revision: rules.decider.revision(),
            cached: decision.is_some_and(|(_, cached)| cached),
            lease: at.lease(),
            scope: None,
            returns: Returns::default(),
            // What was refused was allowed by none; a call that waits for its approval names those it would have.
            grants: decision.filter(|_| verdict == Verdict::Ask).map_or(&[], |(d, _)| &d.grants),
            limits: &[],
            tokens: None,
            own_login: false,
            passed: None,
        };
        if let Err(error) = self.audit().decision(&record, Durability::Buffered).await {
            // The call is refused all the same, and its outcome waits for the log.
            tracing::error!(%id, reason = %refusal.reason, error = %error.detail, "a refusal could not be recorded");
        }
        if intents.is_empty() {
            self.metrics().call(None, None, verdict, Some(refusal.reason));
        } else {
            self.count(intents, verdict, Some(refusal.reason));
        }
        Turned::unrecorded(at, refusal)
    }

    /// The refusal as the agent's client shows it.
    pub(super) fn refuse(&self, turned: Box<Turned>, asked: &Asked) -> Response<Answer> {
        let Turned { mut account, brief, refusal } = *turned;
        let headers: HeaderMap = asked.fields.iter().cloned().collect();
        let mut context = Context {
            form: brief.provider.as_ref().map_or(ErrorForm::Problem, |p| p.errors),
            intents: brief.operations.iter().map(|o| &*o.id).collect(),
            proxy_auth: brief.no_task_at == Some(Listener::Forward),
            bearer_auth: brief.no_task_at == Some(Listener::Inbound),
            method: Some(&asked.method),
            version: asked.version,
            host: brief.host.as_ref(),
            headers: Some(&headers),
            body: brief.body.as_deref(),
            ..Context::new(account.outcome.id)
        };
        if let Some(caller) = &brief.caller {
            context = context.with_task(&caller.task);
        }
        let response = render(&refusal, &context);
        tracing::debug!(id = %account.outcome.id, reason = %refusal.reason, detail = %refusal.detail, "refused");
        account.outcome.status = Some(response.status().as_u16());
        account.outcome.reason = Some(refusal.reason);
        response.map(|body| Answer::refusal(body, account))
    }
}
