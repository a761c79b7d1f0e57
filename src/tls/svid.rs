//! X.509-SVIDs (SPIFFE X509-SVID): who a certificate says its bearer is, and by whose roots it is verified.

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::call::spiffe_domain;

/// What a certificate says that is shaped as an SVID. Whether it is true, roots say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svid {
    pub id: Arc<str>,
    pub until: OffsetDateTime,
}

/// Verifies the SVIDs of one trust domain.
#[derive(Debug, Clone)]
pub struct DomainRoots {
    clients: Arc<dyn ClientCertVerifier>,
    /// For servers, whose certificates have another purpose.
    pub(super) store: Arc<RootCertStore>,
}

/// Knows the roots of trust domains. Asked in every handshake, so that what is unloaded counts no more.
pub trait Bundles: Send + Sync + fmt::Debug {
    fn roots(&self, trust_domain: &str) -> Option<DomainRoots>;
}

/// Roots in DER.
///
/// # Errors
/// When there is none that can be used.
pub fn domain_roots<'a>(certificates: impl IntoIterator<Item = CertificateDer<'a>>) -> Result<DomainRoots, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate.into_owned()).map_err(|e| format!("a root cannot be used: {e}"))?;
    }
    let store = Arc::new(store);
    let made = WebPkiClientVerifier::builder_with_provider(store.clone(), super::provider()).build();
    made.map(|clients| DomainRoots { clients, store }).map_err(|e| e.to_string())
}

impl Svid {
    /// Reads a leaf: exactly one URI among its alternative names, which is a SPIFFE ID with a path; no CA,
    /// and no key that signs certificates or lists of them (X509-SVID §2, §5.2).
    ///
    /// # Errors
    /// What keeps it from being an SVID.
    pub fn read(leaf: &[u8]) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| "the certificate cannot be read")?;
        if !rest.is_empty() {
            return Err("bytes stand behind the certificate".into());
        }
        let broken = |_| "an extension of the certificate cannot be read";
        let names = certificate.subject_alternative_name().map_err(broken)?.ok_or("the certificate has no alternative name")?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(id), None) = (uris.next(), uris.next()) else { return Err("the certificate does not have exactly one URI".into()) };
        spiffe_domain(id).map_err(|why| format!("the certificate's URI is no SPIFFE ID: {why}"))?;
        if certificate.basic_constraints().map_err(broken)?.is_some_and(|b| b.value.ca) {
            return Err("the certificate is a CA's".into());
        }
        if certificate.key_usage().map_err(broken)?.is_some_and(|u| u.value.key_cert_sign() || u.value.crl_sign()) {
            return Err("the certificate's key may sign certificates".into());
        }
        Ok(Self { id: id.into(), until: certificate.validity().not_after.to_datetime() })
    }

    /// Reads and verifies a chain, leaf first, by the bundle of its own trust domain.
    ///
    /// # Errors
    /// What keeps it from being a trusted SVID.
    pub fn verify(chain: &[CertificateDer<'_>], bundles: &dyn Bundles, now: UnixTime) -> Result<Self, String> {
        let (leaf, intermediates) = chain.split_first().ok_or("there is no certificate")?;
        let svid = Self::read(leaf)?;
        let domain = spiffe_domain(&svid.id)?;
        let roots = bundles.roots(domain).ok_or_else(|| format!("no bundle is known for the trust domain `{domain}`"))?;
        roots.clients.verify_client_cert(leaf, intermediates, now).map_err(|e| e.to_string())?;
        Ok(svid)
    }
}

/// Takes the clients that have an SVID of a trust domain whose bundle is known at that moment.
#[derive(Debug)]
pub(super) struct SvidVerifier {
    pub(super) bundles: Arc<dyn Bundles>,
    pub(super) required: bool,
}

impl ClientCertVerifier for SvidVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// None: which trust domains are known is nobody's business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        match Svid::verify(&chain, &*self.bundles, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(why) => Err(Error::General(why)),
        }
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
