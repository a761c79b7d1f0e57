use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::{
    call::{DecisionId, Host, Listener},
    tls::{Front, Terminator},
};

use super::{Door, Drain, Rewind, Socket, connection::Serving};

/// What a listener hands its calls to.
pub trait Walk: Clone + Send + Sync + 'static {
    type Body: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + Unpin + 'static;

    /// Answers one call. `clear` is false when the bytes of its head had two readings.
    fn call(&self, door: Arc<Door>, request: Request<Incoming>, clear: bool) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The whole answer to a head that is no request, with its fields, as HTTP/1.1 has it.
    fn unreadable(id: DecisionId, status: StatusCode) -> Bytes;

    /// Records a head that is no request; `told` is the decision that its answer named, if it had one.
    fn malformed(&self, door: Arc<Door>, told: Option<DecisionId>, status: StatusCode, detail: String) -> impl Future<Output = ()> + Send;

    /// Says what to do with a CONNECT.
    fn connect(&self, door: Arc<Door>, request: &Request<Incoming>) -> impl Future<Output = Connect<Self::Body>> + Send;

    /// Answers a call of a connection that is one too many.
    fn overloaded(&self, door: Arc<Door>, request: Request<Incoming>) -> impl Future<Output = Response<Self::Body>> + Send;

    /// How the agent's TLS is terminated.
    fn terminator(&self) -> Terminator;

    /// Counts a connection for as long as what it returns lives.
    fn count(&self, listener: Listener) -> impl Send + 'static;
}

/// What to do with a CONNECT.
pub enum Connect<B> {
    Refuse(Response<B>),
    /// Answer 200 and terminate what is inside.
    Intercept {
        host: Host,
        port: u16,
        claim: Option<HeaderValue>,
    },
    /// Answer 200 and pass the bytes on unopened.
    Tunnel(Tunnelled),
}

/// Passes the agent's bytes on; called once the CONNECT is answered.
pub type Tunnelled = Box<dyn FnOnce(Rewind<Socket>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl<B> std::fmt::Debug for Connect<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refuse(_) => "Refuse",
            Self::Intercept { .. } => "Intercept",
            Self::Tunnel(_) => "Tunnel",
        })
    }
}

/// Bounds of a listener's connections.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: usize,
    /// Bytes of a head, and fields in it.
    pub header_bytes: usize,
    pub headers: usize,
    /// From the first byte of a head to its end; also for a TLS handshake.
    pub header: Duration,
    /// Longest silence with no call in flight.
    pub idle: Duration,
}

/// A listener. Forward: `HTTP_PROXY` and `HTTPS_PROXY`, absolute form and CONNECT. Inbound: requests
/// for the agent itself.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    kind: Listener,
    limits: Limits,
    open: Arc<AtomicUsize>,
    front: Option<Front>,
}

impl Server {
    /// Binds; `run` serves.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(kind: Listener, address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: TcpListener::from_std(listener)?, kind, limits, open: Arc::default(), front: None })
    }

    /// Makes it a listener in TLS.
    #[must_use]
    pub fn in_tls(self, front: Option<Front>) -> Self {
        Self { front, ..self }
    }

    /// The address that was bound, with the port that was free.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until a drain is asked for.
    pub async fn run<W: Walk>(self, walk: W, drain: Drain) {
        let limits = Arc::new(self.limits);
        let serving = Serving { walk, kind: self.kind, limits, drain: drain.clone(), open: self.open, front: self.front };
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.asked() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let _ = tcp.set_nodelay(true);
                    serving.clone().spawn(tcp, peer);
                }
                Err(error) => {
                    // Out of descriptors, most often: calls that end give some back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}
