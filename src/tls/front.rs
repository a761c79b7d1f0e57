//! TLS of a listener itself: the agent's connection to the proxy, and the SVID it shows.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use ring::digest;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    call::{Identity, Proof},
    clock::Moment,
    problem::Problem,
};

use super::svid::{Bundles, Svid, SvidVerifier};

/// Where the listener's certificate comes from; asked in every handshake, so that it may rotate.
/// It is given the name that the client asks for.
pub type OwnCertificate = Arc<dyn Fn(Option<&str>) -> Option<Arc<CertifiedKey>> + Send + Sync>;

/// Accepts TLS on a listener.
#[derive(Clone)]
pub struct Front(TlsAcceptor);

struct Own(OwnCertificate);

impl Front {
    /// With `required`, who has no trusted SVID is turned away in the handshake.
    ///
    /// # Errors
    /// When rustls refuses its configuration (a fault of the build).
    pub fn new(own: OwnCertificate, bundles: Arc<dyn Bundles>, required: bool, alpn: &[&[u8]]) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(SvidVerifier { bundles, required }))
            .with_cert_resolver(Arc::new(Own(own)));
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        // A resumed session would bring its client's certificate along unverified.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands; answers what the client's SVID proves, when it showed one.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Arc<Proof>>)> {
        let tls = self.0.accept(tcp).await?;
        let proof = match tls.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            None => None,
            Some(leaf) => {
                let proof = proof_of(&Svid::read(leaf).map_err(io::Error::other)?, Moment::now());
                let certificate = digest::digest(&digest::SHA256, leaf).as_ref().try_into().ok();
                Some(Arc::new(Proof { certificate, ..proof }))
            }
        };
        Ok((tls, proof))
    }
}

/// What an SVID that was verified proves, as long as it is valid.
#[must_use]
pub fn proof_of(svid: &Svid, now: Moment) -> Proof {
    let left = Duration::try_from(svid.until - now.utc).unwrap_or_default();
    let until = now.later(left);
    Proof {
        identity: Identity::Spiffe(svid.id.clone()),
        claims: serde_json::Map::new(),
        certificate: None,
        principal: None,
        token: None,
        until,
        again: until,
    }
}

/// A certificate with its key, from PEM files.
///
/// # Errors
/// When they cannot be read, or do not fit together.
pub fn certificate_from(cert: &Path, key: &Path) -> Result<CertifiedKey, Problem> {
    let wrong = |path: &Path, e: &dyn fmt::Display| Problem::new(e.to_string()).at(path, None).key("listen.forward.tls");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(|e| wrong(cert, &e))?.collect();
    let chain = chain.map_err(|e| wrong(cert, &e))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
    certified(chain, &key_der).map_err(|e| wrong(key, &e))
}

/// A certificate with its key.
///
/// # Errors
/// When the key is of no kind had here, or is that of another certificate.
pub fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<CertifiedKey, rustls::Error> {
    let key = rustls::crypto::ring::sign::any_supported_type(key)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(error),
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let own = (self.0)(hello.server_name());
        if own.is_none() {
            tracing::warn!("a TLS handshake with the proxy failed: it has no certificate yet");
        }
        own
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Front")
    }
}
