//! SVIDs of trust domains of the tests' own, right and wrong ones.

use std::{path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Conn, Remit};

/// The root of a trust domain.
pub struct Domain {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub der: Vec<u8>,
}

/// A certificate with its key.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Vec<u8>,
}

impl Domain {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![uri(&format!("spiffe://{name}"))];
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).unwrap();
        let (pem, der) = (root.pem(), root.der().to_vec());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    pub fn svid(&self, id: &str) -> Leaf {
        self.leaf(&[id], |_| ())
    }

    /// A leaf with these URIs, varied.
    pub fn leaf(&self, uris: &[&str], vary: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|u| uri(u)).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = OffsetDateTime::now_utc() - time::Duration::minutes(1);
        params.not_after = OffsetDateTime::now_utc() + time::Duration::hours(1);
        vary(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: vec![leaf.der().clone()], key: key.serialize_der() }
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// The name of the proxy's own certificate in these tests.
pub const PROXY: &str = "proxy.example.test";

/// TLS to the proxy itself, with a client certificate or none.
pub async fn to_proxy(remit: &Remit, leaf: Option<&Leaf>) -> std::io::Result<Conn<TlsStream<TcpStream>>> {
    let roots = CertificateDer::pem_file_iter(remit.dir.join("ca.pem")).unwrap().map(Result::unwrap);
    to(remit, leaf, roots, PROXY).await
}

/// The same, where the proxy's certificate is by other roots or for another name.
pub async fn to(
    remit: &Remit,
    leaf: Option<&Leaf>,
    trusted: impl IntoIterator<Item = CertificateDer<'static>>,
    name: &str,
) -> std::io::Result<Conn<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    trusted.into_iter().for_each(|c| roots.add(c).unwrap());
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder.with_client_auth_cert(leaf.chain.clone(), PrivateKeyDer::Pkcs8(leaf.key.clone().into())).unwrap(),
    };
    let tcp = TcpStream::connect(remit.proxy).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    Ok(Conn::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
}

/// `listen.forward` of a config as a listener in TLS.
pub fn in_tls(dir: &Path, tls: &str) {
    let file = dir.join("remit.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let plain = "forward: \"127.0.0.1:0\"";
    assert!(text.contains(plain));
    std::fs::write(file, text.replace(plain, &format!("forward: {{address: \"127.0.0.1:0\", tls: {tls}}}"))).unwrap();
}

/// Takes any server: these tests look at what the server makes of its client.
#[derive(Debug)]
pub struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
