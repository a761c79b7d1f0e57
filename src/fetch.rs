//! Remit's own questions, to whoever knows keys or issues credentials: small, bounded, verified. No
//! call of an agent passes here, so no permit is asked for.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::{
    call::Host,
    config::Endpoint,
    tls::{Offer, UpstreamTls},
};

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1 << 20;

/// Where a name leads, when the configuration says so: host, and port when it is given.
type Resolve = Arc<[(Host, Option<u16>, SocketAddr)]>;

/// Asks servers whose certificates are verified. Follows no redirect: what is asked is at the place
/// that the configuration names. Cheap to clone.
#[derive(Clone)]
pub struct Fetch {
    tls: UpstreamTls,
    resolve: Resolve,
}

/// One question.
#[derive(Debug, Clone)]
pub struct Query {
    pub method: Method,
    /// With its query; begins with `/`.
    pub path: String,
    /// `Accept: application/json` is added where there is none.
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Whatever was answered, also when it is a refusal.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Query {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A POST of JSON.
    pub fn post_json(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self::get(path).with_body(Method::POST, "application/json", body.to_string())
    }

    /// The same with a body.
    pub fn with_body(mut self, method: Method, media: &'static str, body: impl Into<Bytes>) -> Self {
        (self.method, self.body) = (method, body.into());
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        self
    }

    /// The same with a field; one that no header can carry is an error that does not show it.
    pub fn with_secret(mut self, name: http::HeaderName, value: &str) -> Result<Self, String> {
        let mut value =
            HeaderValue::from_str(value).map_err(|_| format!("what goes into `{name}` holds characters that no header can carry"))?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value, String> {
        serde_json::from_slice(&self.body).map_err(|_| "its answer is not JSON".to_owned())
    }
}

impl Fetch {
    pub fn new(tls: UpstreamTls, resolve: &[(Host, Option<u16>, SocketAddr)]) -> Self {
        Self { tls, resolve: resolve.into() }
    }

    /// Asks `at`, for the path of the question and not its own. The error says what went wrong on the
    /// way, and holds nothing of the question.
    pub async fn ask(&self, at: &Endpoint, query: Query) -> Result<Answer, String> {
        match timeout(PATIENCE, self.exchange(at, query)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(format!("{at}: {why}")),
            Err(_) => Err(format!("{at}: no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(&self, at: &Endpoint, query: Query) -> Result<Answer, String> {
        let Query { method, path, headers, body } = query;
        let mut request = Request::builder().method(method).uri(path).body(Full::new(body)).map_err(|e| e.to_string())?;
        *request.headers_mut() = headers;
        let fields = request.headers_mut();
        fields.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        fields.insert(USER_AGENT, HeaderValue::from_static("remit"));
        fields.insert(HOST, authority(at).parse().map_err(|_| "its name cannot stand in a request")?);
        let tcp = self.connect(at).await.map_err(|e| e.to_string())?;
        if !at.tls {
            return answer(tcp, request).await;
        }
        let tls = self.tls.connect(&at.host, tcp, Offer::H1).await.map_err(|e| format!("TLS: {e}"))?;
        answer(tls, request).await
    }

    async fn connect(&self, at: &Endpoint) -> io::Result<TcpStream> {
        let named = |(host, port, _): &&(Host, Option<u16>, SocketAddr)| *host == at.host && port.is_none_or(|p| p == at.port);
        if let Some((_, _, address)) = self.resolve.iter().find(named) {
            return TcpStream::connect(address).await;
        }
        if let Some(ip) = at.host.ip() {
            return TcpStream::connect(SocketAddr::new(ip, at.port)).await;
        }
        TcpStream::connect((at.host.as_str(), at.port)).await
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetch")
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

/// One request on one connection.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let answered = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|e| match e.downcast_ref::<LengthLimitError>() {
            Some(_) => "its answer is larger than 1 MiB".to_owned(),
            None => format!("its answer was not read: {e}"),
        })?;
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }
    .await;
    driver.abort();
    answered
}
