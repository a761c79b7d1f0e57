use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{call::Host, config::Roots, problem::Problem};

use super::client::{ByServerSvid, ClientCertificate, Shown};

/// Verifies upstream by the name that was judged.
#[derive(Clone)]
pub struct UpstreamTls {
    roots: Arc<RootCertStore>,
    both: TlsConnector,
    h1: TlsConnector,
}

/// The protocols that upstream is offered (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    H1,
    /// HTTP/2 first.
    Both,
}

impl UpstreamTls {
    /// # Errors
    /// When rustls refuses its configuration (a fault of the build).
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let roots = Arc::new(roots);
        let config = ClientConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Ok(Self::of(roots, config))
    }

    /// The same, showing a certificate of Remit's own. Sessions are resumed within it only.
    ///
    /// # Errors
    /// As [`UpstreamTls::new`].
    pub fn showing(&self, certificate: &Arc<ClientCertificate>) -> Result<Self, rustls::Error> {
        let config = ClientConfig::builder_with_provider(super::provider()).with_safe_default_protocol_versions()?;
        let config = match certificate.server() {
            None => config.with_root_certificates(self.roots.clone()),
            Some(server) => config.dangerous().with_custom_certificate_verifier(Arc::new(ByServerSvid(server.clone()))),
        };
        let config = config.with_client_cert_resolver(Arc::new(Shown(certificate.clone())));
        Ok(Self::of(self.roots.clone(), config))
    }

    fn of(roots: Arc<RootCertStore>, mut both: ClientConfig) -> Self {
        let mut h1 = both.clone();
        both.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        h1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { roots, both: Arc::new(both).into(), h1: Arc::new(h1).into() }
    }

    /// Shakes hands with `host`.
    ///
    /// # Errors
    /// When the certificate does not verify for `host`, or the connection fails.
    pub async fn connect(&self, host: &Host, tcp: TcpStream, offer: Offer) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e))?;
        let connector = match offer {
            Offer::H1 => &self.h1,
            Offer::Both => &self.both,
        };
        connector.connect(name, tcp).await
    }
}

/// Whether a handshake failed because the peer speaks none of the protocols that it was offered.
#[must_use]
pub fn speaks_no_offered(error: &std::io::Error) -> bool {
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)))
}

/// Collects the roots that upstream certificates must chain to.
///
/// # Errors
/// When a file cannot be read or holds no certificate, or the system has no roots.
pub fn load_roots(sources: &[Roots]) -> Result<RootCertStore, Problem> {
    let mut store = RootCertStore::empty();
    for source in sources {
        match source {
            Roots::Mozilla => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = store.add_parsable_certificates(found.certs);
                if added == 0 {
                    return Err(Problem::new("this system has no root certificates")
                        .key("tls.upstream_roots")
                        .help("install them, or use `[mozilla]`"));
                }
            }
            Roots::File(path) => {
                let problem = |message: String| Problem::new(message).at(path, None).key("tls.upstream_roots");
                let mut added = 0;
                for certificate in CertificateDer::pem_file_iter(path).map_err(|e| problem(e.to_string()))? {
                    let certificate = certificate.map_err(|e| problem(e.to_string()))?;
                    store.add(certificate).map_err(|e| problem(e.to_string()))?;
                    added += 1;
                }
                if added == 0 {
                    return Err(problem("no certificate in PEM is in this file".into()));
                }
            }
        }
    }
    Ok(store)
}

impl std::fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpstreamTls")
    }
}
