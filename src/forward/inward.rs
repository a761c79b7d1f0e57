use std::{
    net::SocketAddr,
    sync::{Arc, Once},
    time::Instant,
};

use http::{HeaderMap, Request, Uri, Version, header::HOST};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    call::{Destination, Entering, Entry, Head, Host, Scheme},
    config::{AgentProtocol, Timeouts},
    refusal::{Reason, Refusal},
    tls::{Offer, Upwards},
};

use super::{
    Reply, Sent,
    body::Outbound,
    dial::{Wire, unreachable},
    pool::{Connection, IDLE_LIFE, Site, speak_upgradable},
    request::{CalledBy, Form, shape, strip},
    send::{Answered, By, answer, note_body, refuse_switch, transmit, watched},
    vigil::Vigil,
};

/// The way in: hands requests to the agent behind Remit, at one address on loopback.
///
/// It takes an [`Entry`] where the way out takes a permit: neither serves for the other.
#[derive(Debug, Clone)]
pub struct Inward(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    site: Arc<Site>,
    to: SocketAddr,
    protocol: AgentProtocol,
    timeouts: Timeouts,
    reaping: Once,
}

impl Inward {
    /// # Errors
    /// When the address cannot stand in a request (never for an address).
    pub fn new(to: SocketAddr, protocol: AgentProtocol, timeouts: &Timeouts) -> Result<Self, Refusal> {
        let destination = destination(to)?;
        let site = Arc::new(Site::new(&destination)?);
        Ok(Self(Arc::new(Inner { site, to, protocol, timeouts: timeouts.clone(), reaping: Once::new() })))
    }

    /// Where it leads.
    #[must_use]
    pub fn to(&self) -> &Destination {
        &self.0.site.to
    }

    /// Hands a request to the agent and waits for the head of its answer. Races the end of the task
    /// all the way. `tell` sees the fields that the agent gets.
    pub async fn send(&self, entering: Entering, tell: impl FnOnce(&mut HeaderMap)) -> Sent {
        let (mut head, body, entry, mut account) = entering.into_parts();
        note_body(&mut account, &body);
        let task = entry.task().clone();
        let (body, progress) = Outbound::new(body, &task, None, None);
        let upgrade = head.upgrade.take();
        let request = Box::new(request(head, body, tell));
        let offer = if self.0.protocol == AgentProtocol::H2c { Offer::Both } else { Offer::H1 };
        let site = &self.0.site;
        let (kept, entry) = if upgrade.is_some() { (None, entry) } else { self.kept(entry, offer) };
        let (kept, vigil) = kept.map_or((None, None), |(connection, vigil)| (Some(connection), vigil));
        let mut vigil = vigil.map_or_else(|| Vigil::new(&task), |vigil| vigil.of(&task));
        let exchange = async {
            let answered = match upgrade.as_deref() {
                None => self.exchange(kept, entry, request).await?,
                Some(protocol) => self.exchange_upgrade(entry, request, protocol).await?,
            };
            refuse_switch(&answered.response, upgrade.as_deref(), site)?;
            Ok(answered)
        };
        let answered = watched(exchange, &mut vigil, progress.as_deref(), self.0.timeouts.first_byte).await;
        let reply = match answered {
            Ok(answered) => Ok(Reply { response: answer(answered, site, vigil, self.0.timeouts.idle), progress }),
            Err(refusal) => Err(match &progress {
                Some(progress) => progress.blame(refusal, &mut account),
                None => refusal,
            }),
        };
        Sent { account, lease: None, reply }
    }

    /// A connection that is there already. Over plain HTTP/2 it is the one that all share.
    fn kept(&self, entry: Entry, offer: Offer) -> (Option<(Connection, Option<Vigil>)>, Entry) {
        if offer == Offer::Both { self.0.site.reuse_shared(entry) } else { self.0.site.reuse(entry, offer) }
    }

    async fn exchange(&self, kept: Option<Connection>, entry: Entry, request: Box<Request<Outbound>>) -> Result<Answered, Refusal> {
        let site = &self.0.site;
        let request = match kept {
            None => request,
            Some(connection) => match transmit(connection, site, request).await {
                Ok(answered) => return Ok(answered),
                Err(failure) => match failure.take_unsent() {
                    Ok(unsent) => unsent,
                    Err(failure) => return Err(failure.refusal(site)),
                },
            },
        };
        let connection = self.dial(entry).await?;
        transmit(connection, site, request).await.map_err(|failure| failure.refusal(site))
    }

    /// Opens a connection, for an entry that still holds when it is open.
    async fn dial(&self, entry: Entry) -> Result<Connection, Refusal> {
        self.reap();
        let (tcp, entry) = self.open(entry).await?;
        let site = &self.0.site;
        let connection = match self.0.protocol {
            AgentProtocol::Http1 => site.speak(Wire::Plain(tcp), Offer::H1).await?,
            AgentProtocol::H2c => site.speak_h2(Upwards::Plain(tcp)).await?,
        };
        match entry.void(Instant::now()) {
            Some(reason) => Err(Refusal::new(reason, "the task was over while the agent was being reached")),
            None => Ok(connection),
        }
    }

    async fn exchange_upgrade(&self, entry: Entry, mut request: Box<Request<Outbound>>, protocol: &str) -> Result<Answered, Refusal> {
        let site = &self.0.site;
        if self.0.protocol == AgentProtocol::H2c {
            return Err(Refusal::new(Reason::UnknownOperation, "the agent speaks HTTP/2, which has no Upgrade (RFC 9113 §8.6)"));
        }
        let (tcp, _spent) = self.open(entry).await?;
        let failed = |e: hyper::Error| unreachable(&site.to, &e.to_string());
        let mut sender = speak_upgradable(Wire::Plain(tcp)).await.map_err(failed)?;
        shape(&mut request, site, Form::H1Upgrade(protocol)).map_err(|e| unreachable(&site.to, &e.to_string()))?;
        let response = sender.send_request(*request).await.map_err(failed)?;
        Ok(Answered { response, by: By::Shared })
    }

    async fn open(&self, entry: Entry) -> Result<(TcpStream, Entry), Refusal> {
        let limit = self.0.timeouts.connect;
        let to = &self.0.site.to;
        match timeout(limit, TcpStream::connect(self.0.to)).await {
            Ok(Ok(tcp)) => {
                // Only latency is at stake when this fails.
                let _ = tcp.set_nodelay(true);
                Ok((tcp, entry))
            }
            Ok(Err(error)) => Err(unreachable(to, &error.to_string())),
            Err(_) => Err(unreachable(to, &format!("no connection within {limit:?}"))),
        }
    }

    /// Starts to close connections that nobody used for long, until this is gone.
    fn reap(&self) {
        self.0.reaping.call_once(|| {
            let inner = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(IDLE_LIFE / 2);
                loop {
                    tick.tick().await;
                    match inner.upgrade() {
                        Some(inner) => inner.site.reap(),
                        None => return,
                    }
                }
            });
        });
    }
}

fn destination(to: SocketAddr) -> Result<Destination, Refusal> {
    let ip = to.ip().to_canonical();
    let text = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let host = Host::parse(&text).map_err(|e| Refusal::new(Reason::UpstreamUnreachable, format!("{text}: {e}")))?;
    Ok(Destination { scheme: Scheme::Http, host, port: to.port() })
}

/// The request as the agent gets it: without what belongs to the hop and what only Remit may say.
fn request(head: Head, body: Outbound, tell: impl FnOnce(&mut HeaderMap)) -> Request<Outbound> {
    let Head { method, path, mut headers, version, .. } = head;
    let called = headers.get(HOST).cloned();
    strip(&mut headers, |_| false);
    tell(&mut headers);
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path.whole().clone());
    *request.headers_mut() = headers;
    *request.version_mut() = if version == Version::HTTP_2 { version } else { Version::HTTP_11 };
    if let Some(called) = called {
        request.extensions_mut().insert(CalledBy(called));
    }
    request
}
