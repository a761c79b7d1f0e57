//! An upstream and an agent that speak HTTP/1.1 and HTTP/2, by a library.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1 as client1, http2 as client2},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

use super::{HOST, Remit, agent};

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that is sent frame by frame.
pub fn piped() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|f| (Ok(f), receiver)) });
    (sender, StreamBody::new(frames).boxed_unsync())
}

pub fn data(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text.as_bytes()))
}

/// An agent's connection, inside a CONNECT.
pub enum Client {
    H1(client1::SendRequest<Body>),
    H2(client2::SendRequest<Body>),
}

impl Client {
    pub async fn new(remit: &Remit, h2: bool) -> Self {
        let alpn: &[&[u8]] = if h2 { &[b"h2"] } else { &[b"http/1.1"] };
        let inside = agent::connect(remit, &format!("{HOST}:443"), "").await;
        let io = TokioIo::new(agent::shake(remit, inside, HOST, alpn).await.stream);
        if h2 {
            let (sender, connection) = client2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Self::H2(sender)
        } else {
            let (sender, connection) = client1::handshake(io).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            Self::H1(sender)
        }
    }

    pub async fn send(&mut self, method: Method, path: &str, body: Body) -> Response<Incoming> {
        let request = Request::builder().method(method).header("te", "trailers");
        let sent = match self {
            Self::H1(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request.uri(path).header("host", HOST).body(body).unwrap()).await
            }
            Self::H2(sender) => sender.send_request(request.uri(format!("https://{HOST}{path}")).body(body).unwrap()).await,
        };
        sent.unwrap()
    }
}

/// Serves whatever ALPN chose.
pub async fn serve<F, A>(config: ServerConfig, answer: A) -> SocketAddr
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                let io = TokioIo::new(tls);
                let _ = if h2 {
                    http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.is_ok()
                } else {
                    http1::Builder::new().serve_connection(io, service).with_upgrades().await.is_ok()
                };
            });
        }
    });
    address
}
