//! The certificate that Remit shows to upstream, and whom it takes upstream for.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use ring::digest::{Context, SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{call::spiffe_domain, secret::Secret};

use super::svid::{Bundles, Svid};

/// Remit's own X.509-SVID and the bundles of trust domains, as they are at that moment.
pub trait OwnSvids: Bundles {
    fn own(&self) -> Option<Arc<CertifiedKey>>;

    /// A JWT-SVID of Remit's own for `audience`, asked for anew: it is for one use.
    fn token<'a>(&'a self, audience: &'a str) -> TokenSvid<'a>;
}

/// A JWT-SVID to come, or why there is none.
pub type TokenSvid<'a> = Pin<Box<dyn Future<Output = Result<Secret<String>, String>> + Send + 'a>>;

/// What Remit shows to upstream in the handshake, for a call with such a credential.
pub struct ClientCertificate {
    certified: Arc<CertifiedKey>,
    /// SHA-256 of the leaf (RFC 8705 §3.1).
    pub sha256: [u8; 32],
    /// The leaf's end.
    pub until: OffsetDateTime,
    /// Who upstream is, where that is said by an SVID instead of the host's name.
    server: Option<ServerSvid>,
    identity: [u8; 32],
}

/// Upstream has to show this SVID, and the bundle of its trust domain verifies it.
#[derive(Debug, Clone)]
pub struct ServerSvid {
    pub id: Arc<str>,
    pub bundles: Arc<dyn Bundles>,
}

impl ClientCertificate {
    /// # Errors
    /// When the leaf cannot be read.
    pub fn new(certified: Arc<CertifiedKey>, server: Option<ServerSvid>) -> Result<Self, String> {
        let leaf = certified.cert.first().ok_or("there is no certificate")?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| "the certificate cannot be read")?;
        let until = parsed.validity().not_after.to_datetime();
        let sha256 = bytes(digest(&SHA256, leaf).as_ref());
        let mut both = Context::new(&SHA256);
        both.update(&sha256);
        both.update(server.as_ref().map_or(&[][..], |s| s.id.as_bytes()));
        let identity = bytes(both.finish().as_ref());
        Ok(Self { certified, sha256, until, server, identity })
    }

    /// Names this certificate together with whom it is shown to: connections are shared only by calls
    /// that agree in it.
    #[must_use]
    pub fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    pub(super) fn server(&self) -> Option<&ServerSvid> {
        self.server.as_ref()
    }
}

/// A certificate with its key, both PEM; the chain leaf first.
///
/// # Errors
/// What is wrong with them, without showing either.
pub fn certified_pem(chain: &str, key: &str) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "the client certificate is not in PEM".to_owned())?;
    if chain.is_empty() {
        return Err("no certificate in PEM is in the file of the client certificate".to_owned());
    }
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "the client certificate's key is no private key in PEM".to_owned())?;
    super::certified(chain, &key).map_err(|e| match e {
        Error::InconsistentKeys(_) => "the key is another certificate's than the client certificate".to_owned(),
        _ => "the client certificate's key is of a kind that cannot be used here: use ECDSA P-256 or P-384, Ed25519 or RSA".to_owned(),
    })
}

fn bytes(digest: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest);
    out
}

/// Shows one certificate, to whoever asks for one.
pub(super) struct Shown(pub(super) Arc<ClientCertificate>);

impl ResolvesClientCert for Shown {
    /// Which CAs the server hints at does not matter: it is this certificate or none.
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.certified.key.choose_scheme(schemes).map(|_| self.0.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies that a server is the one SVID it has to be (X.509-SVID §5).
#[derive(Debug)]
pub(super) struct ByServerSvid(pub(super) ServerSvid);

impl ServerCertVerifier for ByServerSvid {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let svid = Svid::read(end_entity).map_err(Error::General)?;
        if svid.id != self.0.id {
            return Err(Error::General(format!("the server is {}, and not {}", crate::jose::quoted(&svid.id), self.0.id)));
        }
        let domain = spiffe_domain(&svid.id).map_err(|why| Error::General(why.into()))?;
        let roots = self.0.bundles.roots(domain);
        let roots = roots.ok_or_else(|| Error::General(format!("no bundle is known for the trust domain `{domain}`")))?;
        let parsed = ParsedCertificate::try_from(end_entity).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let algorithms = super::provider().signature_verification_algorithms;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, intermediates, now, algorithms.all)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &super::provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &super::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        super::provider().signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("until", &self.until).finish_non_exhaustive()
    }
}
