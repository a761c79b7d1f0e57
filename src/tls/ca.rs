use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

use crate::call::Host;

/// How far back certificates are dated, for clients whose clock is slow.
const BACKDATE: Duration = Duration::hours(1);
/// An ephemeral CA outlives any run; `serve` makes another at its next start.
const CA_LIFE: Duration = Duration::days(30);
const LEAF_LIFE: Duration = Duration::days(7);

/// The CA that agents trust: it signs a leaf for each host that is intercepted.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    not_after: OffsetDateTime,
    /// One key for all leaves: they live in one process and are equally protected.
    leaf_key: KeyPair,
}

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: not a CA certificate in PEM: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
    #[error("{}: not a private key in PKCS#8 PEM that fits the certificate: {reason}", path.display())]
    Key { path: PathBuf, reason: String },
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

impl Authority {
    /// Makes a CA that lives in this process only.
    ///
    /// # Errors
    /// When no random numbers can be had.
    pub fn ephemeral(now: OffsetDateTime) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Remit CA {:08x}", now.unix_timestamp() & 0xffff_ffff));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = now - BACKDATE;
        params.not_after = now + CA_LIFE;
        let certificate = params.self_signed(&key)?;
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        let not_after = params.not_after;
        Ok(Self { issuer: Issuer::new(params, key), certificate: der, pem, not_after, leaf_key: leaf_key()? })
    }

    /// Loads a CA certificate and its key, both PEM.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what it should be; the error names the file.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, CaError> {
        let read = |path: &Path| fs::read_to_string(path).map_err(|source| CaError::Read { path: path.into(), source });
        let (pem, key_pem) = (read(cert)?, zeroize::Zeroizing::new(read(key)?));
        let bad_cert = |reason: String| CaError::Certificate { path: cert.into(), reason };
        let bad_key = |reason: String| CaError::Key { path: key.into(), reason };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| bad_cert(e.to_string()))?;
        let pair = KeyPair::from_pem(&key_pem).map_err(|e| bad_key(e.to_string()))?;
        let public = pair.subject_public_key_info();
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|e| bad_cert(e.to_string()))?;
        let not_after = facts(&certificate, &public).map_err(|e| match e {
            Misfit::Certificate(reason) => bad_cert(reason),
            Misfit::Key => bad_key("it belongs to another certificate".into()),
        })?;
        Ok(Self { issuer, certificate, pem, not_after, leaf_key: leaf_key()? })
    }

    /// The CA certificate in PEM, for clients to trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a leaf for one host.
    pub(super) fn leaf(&self, host: &Host, now: OffsetDateTime) -> Result<Leaf, CaError> {
        let mut params = CertificateParams::new(vec![host.as_str().to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Remit");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = now - BACKDATE;
        params.not_after = (now + LEAF_LIFE).min(self.not_after);
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        Ok(Leaf { chain: vec![certificate.der().clone(), self.certificate.clone()], key, not_after: params.not_after })
    }
}

/// A leaf certificate with its chain and key.
pub(super) struct Leaf {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) not_after: OffsetDateTime,
}

enum Misfit {
    Certificate(String),
    Key,
}

/// Checks that the certificate is a CA's and is for this key; returns its end.
fn facts(certificate: &CertificateDer<'_>, public: &[u8]) -> Result<OffsetDateTime, Misfit> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| Misfit::Certificate(e.to_string()))?;
    if !parsed.is_ca() {
        return Err(Misfit::Certificate("its basicConstraints do not say CA:TRUE".into()));
    }
    if parsed.public_key().raw != public {
        return Err(Misfit::Key);
    }
    Ok(parsed.validity().not_after.to_datetime())
}

fn leaf_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}
