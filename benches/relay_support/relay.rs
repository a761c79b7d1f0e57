use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1 as client, server::conn::http1 as server, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    HOST, Target,
    upstream::{CREDENTIAL, Upstream},
};

/// Terminates TLS inside CONNECT, sets the credential, passes the call on over a pooled connection.
struct Relay {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    upstream: SocketAddr,
    idle: Mutex<Vec<client::SendRequest<Incoming>>>,
}

pub(crate) async fn start(upstream: &Upstream) -> Target {
    let (ca, acceptor) = super::acceptor();
    let connector = TlsConnector::from(super::trusting(&upstream.ca));
    let relay = Arc::new(Relay { acceptor, connector, upstream: upstream.address, idle: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            tokio::spawn(outer(relay.clone(), tcp));
        }
    });
    Target { address, ca, authorization: None }
}

async fn outer(relay: Arc<Relay>, tcp: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| {
        let relay = relay.clone();
        async move {
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.unwrap();
                let Ok(tls) = relay.acceptor.accept(TokioIo::new(upgraded)).await else { return };
                let service = service_fn(move |request| call(relay.clone(), request));
                let _ = server::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tls), service).await;
            });
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let _ = server::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades().await;
}

async fn call(relay: Arc<Relay>, mut request: Request<Incoming>) -> Result<Response<Incoming>, hyper::Error> {
    let path = request.uri().path_and_query().cloned().unwrap();
    *request.uri_mut() = Uri::from(path);
    request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static(CREDENTIAL));
    let idle = relay.idle.lock().pop();
    let mut sender = match idle {
        Some(sender) if sender.is_ready() => sender,
        _ => dial(&relay).await,
    };
    let response = sender.send_request(request).await;
    tokio::spawn(async move {
        if sender.ready().await.is_ok() {
            relay.idle.lock().push(sender);
        }
    });
    response
}

async fn dial(relay: &Relay) -> client::SendRequest<Incoming> {
    let tcp = TcpStream::connect(relay.upstream).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let tls = relay.connector.connect(ServerName::try_from(HOST).unwrap(), tcp).await.unwrap();
    let (sender, connection) = client::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    sender
}
