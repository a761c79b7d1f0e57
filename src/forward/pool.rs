use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::{HeaderValue, uri::Authority};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::{Mutex, RwLock};

use crate::{
    call::{Destination, Entry, Permit, Scheme},
    refusal::{Reason, Refusal},
    secret::Secret,
    tls::{ClientCertificate, Offer, UpstreamTls, Upwards},
};

use super::{
    body::Outbound,
    dial::{Wire, unreachable},
    vigil::Vigil,
};

/// Idle connections kept for one destination.
const IDLE_KEPT: usize = 64;
/// Shorter than what servers commonly allow, so that we close first.
pub(super) const IDLE_LIFE: Duration = Duration::from_secs(50);
/// Destinations remembered.
const SITES: usize = 1024;

/// Connections that can be used again, by exact destination: never across names (no h2
/// coalescing), since a credential is for one name.
#[derive(Debug, Default)]
pub(super) struct Pool {
    sites: RwLock<HashMap<Destination, Arc<Site>, ahash::RandomState>>,
    /// Those where Remit shows a certificate, by that and whom it is for: never shared with other calls.
    shown: RwLock<HashMap<Shown, Arc<Site>, ahash::RandomState>>,
}

/// What of a certificate decides whose connection it is, and where that leads.
type Shown = ([u8; 32], Destination);

/// One destination and its idle connections.
pub(super) struct Site {
    pub(super) to: Destination,
    pub(super) host: HeaderValue,
    pub(super) authority: Authority,
    #[expect(clippy::vec_box, reason = "a connection goes to its call and back as a pointer")]
    idle: Mutex<Vec<Box<H1>>>,
    h2: Mutex<Option<http2::SendRequest<Outbound>>>,
    /// Upstream was offered h2 and chose h1.
    h1_only: AtomicBool,
    /// The certificate that Remit shows there.
    pub(super) shows: Option<Shows>,
}

/// How a certificate is shown.
pub(super) struct Shows {
    pub(super) tls: UpstreamTls,
    /// It is forgotten with its connections when nobody used it for long: certificates rotate.
    used: Mutex<Instant>,
}

/// An HTTP/1.1 connection, driven by whichever call has it: no task of its own, so that a call
/// costs no switch between tasks.
pub(super) struct H1 {
    pub(super) sender: http1::SendRequest<Outbound>,
    pub(super) connection: Pin<Box<http1::Connection<TokioIo<Upwards>, Outbound>>>,
    idle_since: Instant,
    /// Set where requests leave through a proxy in absolute form; holds its `Proxy-Authorization`.
    pub(super) via: Option<Option<Secret<String>>>,
    /// Left by the call before, for the next.
    pub(super) vigil: Option<Vigil>,
}

/// A connection that a permit was used for.
pub(super) enum Connection {
    H1(Box<H1>),
    H2(http2::SendRequest<Outbound>),
}

impl Pool {
    pub(super) fn site(&self, to: &Destination) -> Result<Arc<Site>, Refusal> {
        if let Some(site) = self.sites.read().get(to) {
            return Ok(site.clone());
        }
        let site = Arc::new(Site::new(to)?);
        let mut sites = self.sites.write();
        if sites.len() >= SITES {
            sites.retain(|_, site| !site.idle.lock().is_empty() || site.h2.lock().is_some());
            if sites.len() >= SITES {
                sites.clear();
            }
        }
        Ok(sites.entry(to.clone()).or_insert(site).clone())
    }

    /// … where Remit shows `certificate`. `tls` makes what shows it.
    pub(super) fn showing(
        &self,
        to: &Destination,
        certificate: &ClientCertificate,
        tls: impl FnOnce() -> Result<UpstreamTls, Refusal>,
    ) -> Result<Arc<Site>, Refusal> {
        if to.scheme != Scheme::Https {
            return Err(Refusal::new(Reason::CredentialUnavailable, "a client certificate is shown in TLS only; call the host by https"));
        }
        let key = (*certificate.identity(), to.clone());
        let mut sites = self.shown.write();
        if let Some(site) = sites.get(&key) {
            site.touch();
            return Ok(site.clone());
        }
        let shows = Some(Shows { tls: tls()?, used: Mutex::new(Instant::now()) });
        let site = Arc::new(Site { shows, ..Site::new(to)? });
        if sites.len() >= SITES {
            sites.clear();
        }
        Ok(sites.entry(key).or_insert(site).clone())
    }

    /// Closes connections that nobody used for long, or that upstream closed.
    pub(super) fn reap(&self) {
        self.shown.write().retain(|_, site| {
            site.reap();
            !site.is_forgotten()
        });
        let sites: Vec<Arc<Site>> = self.sites.read().values().cloned().collect();
        sites.iter().for_each(|site| site.reap());
    }
}

/// What a connection is given for: used up by whoever gets it (law 1).
pub(super) trait Proof {}

impl Proof for Permit {}
impl Proof for Entry {}

impl Site {
    pub(super) fn new(to: &Destination) -> Result<Self, Refusal> {
        let text = to.authority();
        let (Ok(host), Ok(authority)) = (HeaderValue::from_str(&text), text.parse()) else {
            return Err(unreachable(to, "its name cannot stand in a request"));
        };
        let h1_only = AtomicBool::new(to.scheme == Scheme::Http);
        Ok(Self { to: to.clone(), host, authority, idle: Mutex::default(), h2: Mutex::default(), h1_only, shows: None })
    }

    fn touch(&self) {
        if let Some(shows) = &self.shows {
            *shows.used.lock() = Instant::now();
        }
    }

    fn is_forgotten(&self) -> bool {
        self.shows.as_ref().is_some_and(|shows| shows.used.lock().elapsed() > IDLE_LIFE)
    }

    /// Closes connections that nobody used for long, or that the other side closed.
    pub(super) fn reap(&self) {
        let now = Instant::now();
        self.idle.lock().retain_mut(|h1| now.duration_since(h1.idle_since) < IDLE_LIFE && h1.is_alive());
    }

    /// A live connection from the pool, for a proof, with the vigil that it keeps. An h2 agent's
    /// call takes an h1 connection only where upstream has no h2; an h1 agent's takes an idle one of
    /// its own kind first.
    pub(super) fn reuse<P: Proof>(&self, proof: P, offer: Offer) -> (Option<(Connection, Option<Vigil>)>, P) {
        let mut found = match offer {
            Offer::Both if self.h1_only.load(Ordering::Relaxed) => self.idle(),
            Offer::Both => self.shared(),
            Offer::H1 => self.idle().or_else(|| self.shared()),
        };
        let vigil = match &mut found {
            Some(Connection::H1(h1)) => h1.vigil.take(),
            Some(Connection::H2(_)) | None => None,
        };
        (found.map(|connection| (connection, vigil)), proof)
    }

    /// The h2 connection that all share, for a proof.
    pub(super) fn reuse_shared<P: Proof>(&self, proof: P) -> (Option<(Connection, Option<Vigil>)>, P) {
        (self.shared().map(|connection| (connection, None)), proof)
    }

    fn idle(&self) -> Option<Connection> {
        let now = Instant::now();
        loop {
            let mut h1 = self.pop()?;
            if now.duration_since(h1.idle_since) < IDLE_LIFE && h1.is_alive() {
                return Some(Connection::H1(h1));
            }
        }
    }

    fn shared(&self) -> Option<Connection> {
        let mut kept = self.h2.lock();
        if kept.as_ref().is_some_and(http2::SendRequest::is_closed) {
            *kept = None;
        }
        kept.clone().map(Connection::H2)
    }

    fn pop(&self) -> Option<Box<H1>> {
        self.idle.lock().pop()
    }

    /// Keeps a connection whose call is over.
    pub(super) fn keep(&self, mut h1: Box<H1>) {
        h1.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() >= IDLE_KEPT {
            idle.remove(0);
        }
        idle.push(h1);
    }

    /// Speaks a protocol on a new connection; keeps an h2 one for others at once.
    pub(super) async fn speak(&self, wire: Wire, offer: Offer) -> Result<Connection, Refusal> {
        let (stream, via) = match wire {
            Wire::Plain(tcp) => (Upwards::Plain(tcp), None),
            Wire::PlainViaProxy(tcp, authorization) => (Upwards::Plain(tcp), Some(authorization)),
            Wire::Tls(tls) => (Upwards::Tls(tls), None),
        };
        let failed = |e: hyper::Error| unreachable(&self.to, &e.to_string());
        if stream.negotiated_h2() {
            return self.speak_h2(stream).await;
        }
        if offer == Offer::Both {
            self.h1_only.store(true, Ordering::Relaxed);
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        Ok(Connection::H1(Box::new(H1 { sender, connection: Box::pin(connection), idle_since: Instant::now(), via, vigil: None })))
    }
}

impl Site {
    /// Speaks HTTP/2, and keeps the connection for others at once.
    pub(super) async fn speak_h2(&self, stream: Upwards) -> Result<Connection, Refusal> {
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(Duration::from_secs(30))
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|e| unreachable(&self.to, &e.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "h2 connection to upstream ended");
            }
        });
        *self.h2.lock() = Some(sender.clone());
        Ok(Connection::H2(sender))
    }
}

/// Speaks HTTP/1.1 on a connection that will be upgraded; hyper's task lives until it is.
pub(super) async fn speak_upgradable(tcp: Wire) -> hyper::Result<http1::SendRequest<Outbound>> {
    let stream = match tcp {
        Wire::Plain(tcp) | Wire::PlainViaProxy(tcp, _) => Upwards::Plain(tcp),
        Wire::Tls(tls) => Upwards::Tls(tls),
    };
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upgradable connection to upstream ended");
        }
    });
    Ok(sender)
}

impl H1 {
    /// Lets the connection read and write; Ready when it is over.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.as_mut().poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "h1 connection to upstream ended");
            }
        })
    }

    /// Whether upstream has not closed it meanwhile.
    fn is_alive(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop())).is_pending() && self.sender.is_ready()
    }

    /// Whether its call is over and another may follow.
    pub(super) fn is_done(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx).is_pending() && self.sender.is_ready()
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("to", &self.to).finish_non_exhaustive()
    }
}
