use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// An API that answers 1 KiB of JSON to whoever has the credential.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
}

pub(crate) const CREDENTIAL: &str = "Bearer bench-secret-0123456789";

pub(crate) async fn start() -> Upstream {
    let (ca, acceptor) = super::acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service_fn(answer)).await;
            });
        }
    });
    Upstream { address, ca }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    static BODY: std::sync::LazyLock<Bytes> =
        std::sync::LazyLock::new(|| Bytes::from(format!("[{}]", vec!["{\"number\":1,\"title\":\"Issue\"}"; 36].join(","))));
    let authorised = request.headers().get("authorization").is_some_and(|v| v == CREDENTIAL);
    let mut response = Response::new(Full::new(BODY.clone()));
    if !authorised {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
    }
    Ok(response)
}
