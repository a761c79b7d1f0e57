use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;

use crate::{
    call::{Accepted, Account, Body, Destination, Head, Listener, Path, Scheme},
    clock::Moment,
    identify::{self, Arrival},
    listen::{Connect, Door, Rewind, Socket, Walk},
    refusal::{Reason, Refusal},
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

    async fn malformed(&self, door: Arc<Door>, status: u16, detail: String) {
        let account = self.account(Moment::now());
        let mut turned = self.turn(&self.rules(), &door, At::Raw { account, method: None, to: None }, accept::ambiguous(detail)).await;
        turned.account.outcome.status = Some(status);
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
    let mut hosts = request.headers().get_all(http::header::HOST).iter();
    if let Some(value) = hosts.next() {
        // Clients leave the port out of Host, or not; only another name is another reading.
        let same = value.to_str().ok().and_then(|v| accept::authority(v, Scheme::Https).ok()).is_some_and(|(name, _)| name == host);
        if !same || hosts.next().is_some() {
            return Err(accept::ambiguous("CONNECT and its Host name different hosts"));
        }
    }
    Ok(Destination { scheme: Scheme::Https, host, port })
}
