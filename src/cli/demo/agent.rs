use std::{net::SocketAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stage::StageError;

/// A scripted agent: an HTTP client with a proxy setting, a CA file and a placeholder, as
/// `remit run` would give it.
pub(super) struct Agent {
    proxy: SocketAddr,
    authorization: String,
    tls: TlsConnector,
    pub(super) placeholder: &'static str,
    /// Everything that it was ever answered.
    got: Mutex<Vec<u8>>,
}

/// What the agent got.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// `Remit-Reason`, when Remit refused.
    pub(super) reason: Option<String>,
    /// The sentence in the refusal.
    pub(super) detail: Option<String>,
}

impl Agent {
    pub(super) fn new(proxy: SocketAddr, handle: &str, ca: &str) -> Result<Self, StageError> {
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(StageError::new)?;
        roots.add(certificate).map_err(StageError::new)?;
        let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(StageError::new)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            proxy,
            authorization: format!("Basic {}", STANDARD.encode(format!("task:{handle}"))),
            tls: TlsConnector::from(Arc::new(config)),
            placeholder: "placeholder-0000",
            got: Mutex::default(),
        })
    }

    /// One call, the way an HTTP client makes it: CONNECT, TLS, request.
    pub(super) async fn call(&self, method: &str, host: &str, path: &str, body: &'static str) -> Result<Reply, StageError> {
        let tcp = TcpStream::connect(self.proxy).await.map_err(StageError::new)?;
        let (mut outer, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(StageError::new)?;
        tokio::spawn(connection.with_upgrades());
        let connect = Request::connect(format!("{host}:443"))
            .header("host", format!("{host}:443"))
            .header("proxy-authorization", &self.authorization)
            .body(Empty::<Bytes>::new())
            .map_err(StageError::new)?;
        let connected = outer.send_request(connect).await.map_err(StageError::new)?;
        if !connected.status().is_success() {
            return Err(StageError::new(format!("CONNECT was answered with {}", connected.status())));
        }
        let tunnel = hyper::upgrade::on(connected).await.map_err(StageError::new)?;
        let name = ServerName::try_from(host.to_owned()).map_err(StageError::new)?;
        let tls = self.tls.connect(name, TokioIo::new(tunnel)).await.map_err(StageError::new)?;
        let (mut inner, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(StageError::new)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("authorization", format!("Bearer {}", self.placeholder))
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(body))
            .map_err(StageError::new)?;
        let response = inner.send_request(request).await.map_err(StageError::new)?;
        self.read(response).await
    }

    async fn read(&self, response: http::Response<hyper::body::Incoming>) -> Result<Reply, StageError> {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(StageError::new)?.to_bytes();
        {
            let mut got = self.got.lock();
            for (name, value) in &head.headers {
                got.extend_from_slice(name.as_str().as_bytes());
                got.extend_from_slice(value.as_bytes());
            }
            got.extend_from_slice(&body);
        }
        let reason = head.headers.get("remit-reason").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = document.get("detail").and_then(serde_json::Value::as_str).map(str::to_owned);
        Ok(Reply { status: head.status, reason, detail })
    }

    /// Whether any answer held `text`.
    pub(super) fn ever_saw(&self, text: &str) -> bool {
        memchr::memmem::find(&self.got.lock(), text.as_bytes()).is_some()
    }
}
