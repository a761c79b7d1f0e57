use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::{
    call::{Accepted, Account, Body, DecisionId, Destination, Head, Listener, Path, Scheme},
    clock::Moment,
    identify::{self, Arrival},
    listen::{Connect, Door, Rewind, Socket, Walk},
    refusal::{Context, Reason, Refusal, render},
    tls::Terminator,
};

use super::{
    Answer, House, Rules, accept, prove,
    turn::{Asked, At, Turned},
};

impl Walk for House {
    type Body = Answer;

    fn call(&self, door: Arc<Door>, request: Request<Incoming>, clear: bool) -> impl Future<Output = Response<Answer>> + Send {
        self.walk(door, request, clear)
    }

    fn unreadable(id: DecisionId, status: StatusCode) -> Bytes {
        let detail = match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                "the head of the request is larger than `limits.header_bytes` and `limits.headers` allow"
            }
            _ => "what came is no HTTP/1.1 request, or has more than one reading",
        };
        written(&render(&accept::ambiguous(detail), &Context::new(id)), status)
    }

    async fn malformed(&self, door: Arc<Door>, told: Option<DecisionId>, status: StatusCode, detail: String) {
        let account = told.map_or_else(|| self.account(Moment::now()), |id| self.account_of(id, Moment::now()));
        let mut turned = self.turn(&self.rules(), &door, At::Raw { account, method: None, to: None }, accept::ambiguous(detail)).await;
        turned.account.outcome.status = Some(status.as_u16());
        turned.account.outcome.reason = Some(turned.refusal.reason);
        turned.account.outcome.complete = true;
    }

    /// A CONNECT is refused only where nothing can be said inside: no task, malformed, tunnelled.
    async fn connect(&self, door: Arc<Door>, request: &Request<Incoming>) -> Connect<Answer> {
        let now = Moment::now();
        let rules = self.rules();
        let asked = Asked::of(request);
        let account = self.account(now);
        let refuse = |turned| Connect::Refuse(self.refuse(turned, &asked));
        let raw = |account, to| At::Raw { account, method: Some(Method::CONNECT), to };
        let to = match target(request) {
            Ok(to) => to,
            Err(refusal) => return refuse(self.turn(&rules, &door, raw(account, None), refusal).await),
        };
        let tunnelled = rules.config.tls.tunnel.iter().any(|t| t.matches(&to.host));
        let claim = match identify::proxy_authorization(request.headers()) {
            Ok(claim) => claim.cloned(),
            Err(refusal) => return refuse(self.turn(&rules, &door, raw(account, Some(to)), refusal).await),
        };
        let proven = match prove::prove(rules.callers.as_ref(), &door, claim.as_ref(), &HeaderMap::new(), now).await {
            Ok(proven) => proven,
            // That it is nobody's is told inside, where a client shows it.
            Err(refusal) if refusal.reason == Reason::UnknownAgent && !tunnelled => {
                account.discard();
                return Connect::Intercept { host: to.host, port: to.port, claim };
            }
            Err(refusal) => return refuse(self.turn(&rules, &door, raw(account, Some(to)), refusal).await),
        };
        let arrival = Arrival { proven: proven.as_deref(), ..self.arrival(&rules, &door, claim.as_ref()) };
        if let Err(refusal) = identify::admit(&arrival, self.tasks(), rules.config.ambient.as_ref(), now) {
            return refuse(self.turn(&rules, &door, raw(account, Some(to)), refusal).await);
        }
        if !tunnelled {
            // What is inside is what is accounted for.
            account.discard();
            return Connect::Intercept { host: to.host, port: to.port, claim };
        }
        match self.open_tunnel(&rules, &door, to, request, account, now).await {
            Ok(pass) => Connect::Tunnel(pass),
            Err(turned) => refuse(turned),
        }
    }

    async fn overloaded(&self, door: Arc<Door>, request: Request<Incoming>) -> Response<Answer> {
        let rules = self.rules();
        let asked = Asked::of(&request);
        let account = self.account(Moment::now());
        let refusal = Refusal::new(Reason::Overloaded, "all connections are taken (`limits.connections`)")
            .with_retry_after(std::time::Duration::from_secs(1));
        let turned = self.turn(&rules, &door, At::Raw { account, method: Some(request.method().clone()), to: None }, refusal).await;
        self.refuse(turned, &asked)
    }

    fn terminator(&self) -> Terminator {
        House::terminator(self).clone()
    }

    fn count(&self, listener: Listener) -> impl Send + 'static {
        self.metrics().connection(listener)
    }
}

impl House {
    /// Judges a tunnel by its name alone, and opens it.
    async fn open_tunnel(
        &self,
        rules: &Arc<Rules>,
        door: &Door,
        to: Destination,
        request: &Request<Incoming>,
        account: Account,
        now: Moment,
    ) -> Result<crate::listen::Tunnelled, Box<Turned>> {
        let reading = rules.catalog.tunnel(&to.host);
        let head = Head {
            method: Method::CONNECT,
            to,
            path: Path::root(),
            headers: request.headers().clone(),
            version: request.version(),
            upgrade: None,
        };
        let identified = self.identify(rules, door, Accepted::new(head, account), now).await?;
        let understood = identified.understood(reading.intents, reading.provider, Body::Empty);
        let (permitted, _) = self.decide(rules, understood, now).await?;
        let (permitted, reservation) = self.reserve(rules, permitted, now).await?;
        let brief = super::turn::Brief::of(permitted.understood());
        // Nothing is injected into what is not opened.
        let armed = self.record(rules, permitted.armed(None), now).await?;
        let armed = self.recheck(rules, armed)?;
        let (account, opened) = rules.forward.tunnel(armed).await;
        match opened {
            Ok(tunnel) => {
                reservation.commit();
                Ok(Box::new(move |agent: Rewind<Socket>| Box::pin(tunnel.pass(agent, account))))
            }
            Err(refusal) => {
                reservation.cancel();
                Err(Box::new(Turned { account, brief, refusal }))
            }
        }
    }
}

/// `HOST:PORT`, and a Host that says the same if it is there (RFC 9110 §9.3.6).
fn target<B>(request: &Request<B>) -> Result<Destination, Refusal> {
    let text = request.uri().authority().map(|a| a.as_str()).unwrap_or_default();
    if !text.contains(':') || text.contains('@') || request.uri().scheme().is_some() {
        return Err(accept::ambiguous("CONNECT wants HOST:PORT"));
    }
    let (host, port) = accept::authority(text, Scheme::Https)?;
    let mut hosts = request.headers().get_all(header::HOST).iter();
    if let Some(value) = hosts.next() {
        // Clients leave the port out of Host, or not; only another name is another reading.
        let same = value.to_str().ok().and_then(|v| accept::authority(v, Scheme::Https).ok()).is_some_and(|(name, _)| name == host);
        if !same || hosts.next().is_some() {
            return Err(accept::ambiguous("CONNECT and its Host name different hosts"));
        }
    }
    Ok(Destination { scheme: Scheme::Https, host, port })
}

/// An answer after which its connection ends, as it is written (RFC 9112 §4).
fn written(response: &Response<Bytes>, status: StatusCode) -> Bytes {
    let mut out = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("Refused")).into_bytes();
    let close = (&header::CONNECTION, &HeaderValue::from_static("close"));
    let length = (&header::CONTENT_LENGTH, &HeaderValue::from(response.body().len()));
    let fields = response.headers().iter().filter(|(name, _)| *name != header::CONTENT_LENGTH);
    for (name, value) in fields.chain([close, length]) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(response.body());
    Bytes::from(out)
}
