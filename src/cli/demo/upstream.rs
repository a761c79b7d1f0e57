use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{
    call::Host,
    clock,
    secret::Secret,
    tls::{Authority, Terminator},
};

use super::stage::StageError;

/// Stands for a SaaS: TLS by a CA of its own, and 401 for whoever lacks the right credential.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// Its CA's certificate, PEM.
    pub(super) ca: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    calls: usize,
    authorization: Option<String>,
}

impl Upstream {
    pub(super) async fn start(host: &str, secret: &Secret<String>) -> Result<Self, StageError> {
        let authority = Authority::ephemeral(clock::utc()).map_err(StageError::new)?;
        let ca = authority.pem().to_owned();
        let host = Host::parse(host).map_err(StageError::new)?;
        let acceptor = Terminator::new(authority).and_then(|t| t.acceptor(&host)).map_err(StageError::new)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(StageError::new)?;
        let address = listener.local_addr().map_err(StageError::new)?;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (shared, want) = (seen.clone(), Secret::new(format!("Bearer {}", secret.expose())));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, seen, want) = (acceptor.clone(), shared.clone(), want.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request| answer(request, seen.clone(), want.clone()));
                    // That a connection broke shows on the agent's side.
                    if h2 {
                        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), service).await;
                    } else {
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
                    }
                });
            }
        });
        Ok(Self { address, ca, seen })
    }

    /// How many calls arrived.
    pub(super) fn seen(&self) -> usize {
        self.seen.lock().calls
    }

    /// The `Authorization` of the newest call.
    pub(super) fn authorization(&self) -> Option<String> {
        self.seen.lock().authorization.clone()
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Mutex<Seen>>, want: Secret<String>) -> Result<Response<Full<Bytes>>, Infallible> {
    let held = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let authorised = held.as_ref() == Some(want.expose());
    {
        let mut seen = seen.lock();
        seen.calls += 1;
        seen.authorization = held.clone();
    }
    let method = request.method().clone();
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    // It repeats what it was sent, as debugging endpoints do: the agent must not find the credential there.
    let echo = serde_json::json!({"you_sent": {"authorization": held, "body": String::from_utf8_lossy(&body)}});
    let (status, text) = match (authorised, method) {
        (false, _) => (StatusCode::UNAUTHORIZED, r#"{"error":"no credential"}"#.to_owned()),
        (true, Method::POST) => (StatusCode::CREATED, echo.to_string()),
        (true, _) => (StatusCode::OK, echo.to_string()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}
