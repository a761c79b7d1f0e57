//! Remit's own questions to whoever knows the keys: small, bounded, verified. No call of an agent
//! passes here, so no permit is asked for.

use std::{fmt, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::{
    config::{Endpoint, SecretSource},
    secret::Secret,
    tls::{Offer, UpstreamTls},
};

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1 << 20;
const LARGEST_TOKEN: u64 = 64 << 10;

/// Asks servers whose certificates `tls` verifies.
#[derive(Clone)]
pub(super) struct Ask {
    tls: UpstreamTls,
    /// Presented as a bearer token; read anew each time, since it rotates.
    token: Option<SecretSource>,
}

impl Ask {
    pub(super) fn new(tls: UpstreamTls, token: Option<SecretSource>) -> Self {
        Self { tls, token }
    }

    /// The body of a 200.
    pub(super) async fn get(&self, at: &Endpoint) -> Result<Bytes, String> {
        self.send(at, Method::GET, &at.path, Bytes::new()).await
    }

    /// Posts JSON; the body of a 200 or 201.
    pub(super) async fn post(&self, at: &Endpoint, path: &str, body: &serde_json::Value) -> Result<Bytes, String> {
        self.send(at, Method::POST, path, Bytes::from(body.to_string())).await
    }

    async fn send(&self, at: &Endpoint, method: Method, path: &str, body: Bytes) -> Result<Bytes, String> {
        match timeout(PATIENCE, self.exchange(at, method, path, body)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(why)) => Err(format!("{at}: {why}")),
            Err(_) => Err(format!("{at}: no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(&self, at: &Endpoint, method: Method, path: &str, body: Bytes) -> Result<Bytes, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority(at))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "remit");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = self.bearer()? {
            request = request.header(AUTHORIZATION, token.expose().as_str());
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let tcp = connect(at).await.map_err(|e| e.to_string())?;
        if !at.tls {
            return answer(tcp, request).await;
        }
        let tls = self.tls.connect(&at.host, tcp, Offer::H1).await.map_err(|e| format!("TLS: {e}"))?;
        answer(tls, request).await
    }

    fn bearer(&self) -> Result<Option<Secret<String>>, String> {
        let text = match &self.token {
            None => return Ok(None),
            Some(SecretSource::Env(name)) => std::env::var(name).map_err(|_| format!("the variable {name} is not set"))?,
            Some(SecretSource::File(path)) => {
                let unreadable = |e: io::Error| format!("its token {} cannot be read: {e}", path.display());
                if std::fs::metadata(path).map_err(unreadable)?.len() > LARGEST_TOKEN {
                    return Err(format!("{} is too large to hold a token", path.display()));
                }
                std::fs::read_to_string(path).map_err(unreadable)?
            }
        };
        let text = Secret::new(text);
        Ok(Some(Secret::new(format!("Bearer {}", text.expose().trim()))))
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("token", &self.token).finish_non_exhaustive()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, authority(self), self.path)
    }
}

fn authority(at: &Endpoint) -> String {
    match (at.tls, at.port) {
        (true, 443) | (false, 80) => at.host.to_string(),
        (_, port) => format!("{}:{port}", at.host),
    }
}

async fn connect(at: &Endpoint) -> io::Result<TcpStream> {
    if let Some(ip) = at.host.ip() {
        return TcpStream::connect(SocketAddr::new(ip, at.port)).await;
    }
    TcpStream::connect((at.host.as_str(), at.port)).await
}

/// One request on one connection. A redirect is no answer: keys come from where the config says.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: Request<Full<Bytes>>) -> Result<Bytes, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let answered = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
            return Err(format!("it answered {status}"));
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(|e| format!("its answer was not read: {e}"))?;
        Ok(body.to_bytes())
    }
    .await;
    driver.abort();
    answered
}
