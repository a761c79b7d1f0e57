use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{call::Host, config::Roots, problem::Problem};

/// Verifies upstream by the name that was judged.
#[derive(Clone)]
pub struct UpstreamTls {
    any: TlsConnector,
    h1: TlsConnector,
}

impl UpstreamTls {
    /// # Errors
    /// When rustls refuses its configuration (a fault of the build).
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let mut any = ClientConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut h1 = any.clone();
        any.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        h1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { any: Arc::new(any).into(), h1: Arc::new(h1).into() })
    }

    /// Shakes hands with `host`; `h1_only` for protocols that only HTTP/1.1 can be upgraded to.
    ///
    /// # Errors
    /// When the certificate does not verify for `host`, or the connection fails.
    pub async fn connect(&self, host: &Host, tcp: TcpStream, h1_only: bool) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e))?;
        let connector = if h1_only { &self.h1 } else { &self.any };
        connector.connect(name, tcp).await
    }
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
