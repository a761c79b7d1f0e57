use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::{
    call::{Host, Listener, Proof, Scheme},
    tls::Front,
};

use super::{
    Connect, Door, Drain, Inside, Limits, Rewind, Socket, Tunnelled, Walk, Wire,
    messages::Ends,
    wire::{InFlight, Watch, Watched},
};

/// Connections beyond the limit that are still told that they are too many.
const TOLD: usize = 64;

/// What every connection of a listener needs.
#[derive(Clone)]
pub(super) struct Serving<W> {
    pub(super) walk: W,
    pub(super) kind: Listener,
    pub(super) limits: Arc<Limits>,
    pub(super) drain: Drain,
    pub(super) open: Arc<AtomicUsize>,
    /// TLS of the listener itself.
    pub(super) front: Option<Front>,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(super) struct From {
    peer: SocketAddr,
    local: SocketAddr,
    /// What its certificate proved.
    proof: Option<Arc<Proof>>,
}

impl From {
    pub(super) fn door(&self, kind: Listener, wire: &Arc<Wire>, inside: Option<Inside>) -> Arc<Door> {
        let door = Door::new(kind, self.peer, self.local, wire.clone(), inside);
        Arc::new(Door { proof: self.proof.clone(), ..door })
    }
}

/// A place among the connections; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an upgraded CONNECT turns into.
enum Next {
    Intercept(Inside),
    Tunnel(Tunnelled),
}

/// Takes the one CONNECT of a connection that was accepted.
type HandOver = parking_lot::Mutex<Option<tokio::sync::oneshot::Sender<(hyper::upgrade::OnUpgrade, Next)>>>;

impl<W: Walk> Serving<W> {
    pub(super) fn spawn(self, tcp: TcpStream, peer: SocketAddr) {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.open.clone());
        if before >= self.limits.connections + TOLD {
            return;
        }
        let counted = self.walk.count(self.kind);
        let too_many = before >= self.limits.connections;
        self.drain.clone().spawn(async move {
            let (_place, _counted) = (place, counted);
            let Ok(local) = tcp.local_addr() else { return };
            let Some((socket, proof)) = self.socket(tcp).await else { return };
            let from = From { peer, local, proof };
            match self.kind {
                Listener::Inbound => self.inbound(socket, from, too_many).await,
                Listener::Forward | Listener::Transparent => self.outer(socket, from, too_many).await,
            }
        });
    }

    /// The connection itself, and what its certificate proves; None when it never got that far.
    async fn socket(&self, tcp: TcpStream) -> Option<(Socket, Option<Arc<Proof>>)> {
        let Some(front) = &self.front else { return Some((Socket::Plain(tcp), None)) };
        match timeout(self.limits.header, front.accept(tcp)).await {
            Ok(Ok((tls, proof))) => Some((Socket::Tls(Box::new(tls)), proof)),
            Ok(Err(error)) => {
                tracing::info!(%error, "a TLS handshake with the proxy failed");
                None
            }
            Err(_) => None,
        }
    }

    /// The connection to the proxy itself: absolute form, or one CONNECT.
    async fn outer(self, socket: Socket, from: From, too_many: bool) {
        let wire = Arc::new(Wire::default());
        let door = from.door(self.kind, &wire, None);
        let (hand_over, mut handed) = tokio::sync::oneshot::channel();
        let hand_over = HandOver::new(Some(hand_over));
        let service = service_fn(|request: Request<Incoming>| {
            let (serving, door) = (&self, door.clone());
            let hand_over = &hand_over;
            async move {
                if too_many {
                    return Ok(serving.answered(serving.walk.overloaded(door, request).await, None));
                }
                if request.method() != Method::CONNECT {
                    return serving.call(door, request).await;
                }
                let (_in_flight, _) = door.wire.begin(ends(&request));
                Ok::<_, Infallible>(serving.connect(door, request, hand_over).await)
            }
        });
        let io = TokioIo::new(Watched::new(socket, wire, self.watch_h1()));
        let connection = self.h1().keep_alive(!too_many).serve_connection(io, service).with_upgrades();
        let ended = self.until_drained(connection, |c| c.graceful_shutdown()).await;
        self.note(door, ended).await;
        if let Ok((upgrade, next)) = handed.try_recv() {
            self.upgraded(upgrade, next, from).await;
        }
    }

    async fn connect(&self, door: Arc<Door>, mut request: Request<Incoming>, hand_over: &HandOver) -> Response<Tracked<W::Body>> {
        let next = match self.walk.connect(door, &request).await {
            Connect::Refuse(response) => return self.answered(response, None),
            Connect::Intercept { host, port, claim } => Next::Intercept(Inside { scheme: Scheme::Https, host, port, sni: None, claim }),
            Connect::Tunnel(tunnel) => Next::Tunnel(tunnel),
        };
        // A CONNECT that was refused (407) may be made again on its connection.
        if let Some(hand_over) = hand_over.lock().take() {
            // The receiver lives as long as the connection.
            let _ = hand_over.send((hyper::upgrade::on(&mut request), next));
        }
        Response::new(Tracked { body: None, _in_flight: None })
    }

    /// Goes on with the socket once the CONNECT is answered.
    async fn upgraded(&self, upgrade: hyper::upgrade::OnUpgrade, next: Next, from: From) {
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Watched<Socket>>>() else { return };
        let mut stream = Rewind::new(parts.read_buf, parts.io.into_inner().into_inner());
        let mut inside = match next {
            Next::Tunnel(pass) => return pass(stream).await,
            Next::Intercept(inside) => inside,
        };
        let first = match timeout(self.limits.header, first_byte(&mut stream)).await {
            Ok(Ok(Some(byte))) => byte,
            _ => return,
        };
        // 22 is a TLS handshake record (RFC 8446 §5.1); anything else can only be plain HTTP.
        if first != 22 {
            inside.scheme = Scheme::Http;
            return self.inner_h1(stream, inside, from).await;
        }
        let Ok(acceptor) = self.walk.terminator().acceptor(&inside.host) else { return };
        let tls = match timeout(self.limits.header, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                tracing::debug!(%error, host = %inside.host, "the agent's TLS handshake failed");
                return;
            }
            Err(_) => return,
        };
        let session = tls.get_ref().1;
        inside.sni = session.server_name().and_then(|name| Host::parse(name).ok());
        if session.alpn_protocol() == Some(b"h2") {
            self.inner_h2(tls, inside, from).await;
        } else {
            self.inner_h1(tls, inside, from).await;
        }
    }

    async fn inner_h1<S>(&self, stream: S, inside: Inside, from: From)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let wire = Arc::new(Wire::default());
        let door = from.door(self.kind, &wire, Some(inside));
        let service = service_fn(|request| self.call(door.clone(), request));
        let io = TokioIo::new(Watched::new(stream, wire, self.watch_h1()));
        let connection = self.h1().serve_connection(io, service).with_upgrades();
        let ended = self.until_drained(connection, |c| c.graceful_shutdown()).await;
        self.note(door, ended).await;
    }

    /// Puts on record what was turned away before it was a request.
    pub(super) async fn note(&self, door: Arc<Door>, ended: hyper::Result<()>) {
        let Err(error) = ended else { return };
        if error.is_parse() {
            let too_large = error.is_parse_too_large();
            let status = if too_large { StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            let told = door.wire.refused();
            self.walk.malformed(door, told, status, format!("what came is no HTTP/1.1 request: {error}")).await;
        }
    }

    async fn inner_h2<S>(&self, stream: S, inside: Inside, from: From)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let wire = Arc::new(Wire::default());
        let door = from.door(self.kind, &wire, Some(inside));
        let serving = self.clone();
        let service = service_fn(move |request| {
            let (serving, door) = (serving.clone(), door.clone());
            async move { serving.call(door, request).await }
        });
        let watch = Watch { header: None, ..self.watch_h1() };
        let io = TokioIo::new(Watched::new(stream, wire, watch));
        let connection = self.h2().serve_connection(io, service);
        let _ = self.until_drained(connection, |c| c.graceful_shutdown()).await;
    }

    pub(super) async fn call(&self, door: Arc<Door>, request: Request<Incoming>) -> Result<Response<Tracked<W::Body>>, Infallible> {
        let (in_flight, clear) = door.wire.begin(ends(&request));
        let wire = door.wire.clone();
        let response = self.walk.call(door, request, clear).await;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            wire.switch();
        }
        Ok(self.answered(response, Some(in_flight)))
    }

    pub(super) fn answered(&self, mut response: Response<W::Body>, in_flight: Option<InFlight>) -> Response<Tracked<W::Body>> {
        if self.drain.is_asked() && response.version() < http::Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        response.map(|body| Tracked { body: Some(body), _in_flight: in_flight })
    }

    pub(super) async fn until_drained<C>(&self, connection: C, shut: impl Fn(Pin<&mut C>)) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = self.drain.asked() => {
                shut(connection.as_mut());
                connection.await
            }
        };
        if let Err(error) = &ended {
            tracing::debug!(%error, "the agent's connection ended");
        }
        ended
    }

    pub(super) fn watch_h1(&self) -> Watch {
        Watch { header: Some(self.limits.header), idle: self.limits.idle, head_bytes: self.limits.header_bytes, words: W::unreadable }
    }

    pub(super) fn h1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .header_read_timeout(None)
            .max_headers(self.limits.headers)
            .max_buf_size(self.limits.header_bytes.max(8192) + 4096)
            .max_header_size(self.limits.header_bytes)
            .half_close(false);
        builder
    }

    pub(super) fn h2(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_concurrent_streams(256)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            .max_send_buf_size(256 << 10);
        builder
    }
}

/// How a request ends, as hyper read it.
fn ends(request: &Request<Incoming>) -> Ends {
    if request.version() < http::Version::HTTP_2 && request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Ends::Chunked;
    }
    match request.body().size_hint().exact() {
        None | Some(0) => Ends::AtOnce,
        Some(length) => Ends::After(length),
    }
}

/// The first byte of what is inside a CONNECT, left to be read again; None at its end.
async fn first_byte(stream: &mut Rewind<Socket>) -> io::Result<Option<u8>> {
    if let Some(byte) = stream.ahead().first() {
        return Ok(Some(*byte));
    }
    if let Socket::Plain(tcp) = stream.inner() {
        let mut byte = [0; 1];
        let n = tcp.peek(&mut byte).await?;
        return Ok((n == 1).then_some(byte[0]));
    }
    stream.look_ahead().await?;
    Ok(stream.ahead().first().copied())
}

/// A body that keeps its call in flight until it is over.
pub(super) struct Tracked<B> {
    body: Option<B>,
    _in_flight: Option<InFlight>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.get_mut().body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
