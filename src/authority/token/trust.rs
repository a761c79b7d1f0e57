use std::{collections::HashMap, fmt, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{
    config::{DelegationTrust, Whose},
    jose::{Algorithm, Fault, Keys, Token, Use, Verified},
    problem::Problem,
};

use super::problem;

/// What links may be signed with.
const ACCEPTED: [Algorithm; 8] = [
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
];

/// Whose links are believed, and by which keys.
#[derive(Default)]
pub(super) struct Trust {
    agents: HashMap<Arc<str>, Keys>,
    domains: HashMap<Box<str>, Arc<dyn ClientCertVerifier>>,
}

impl Trust {
    pub(super) fn load(trust: &[DelegationTrust], problems: &mut Vec<Problem>) -> Self {
        let mut out = Self::default();
        for one in trust {
            let wrong = |why: String| problem(&one.place, "delegation.trust", format!("{}: {why}", one.file.display()));
            match &one.whose {
                Whose::Agent(id) => {
                    let read = std::fs::read(&one.file).map_err(|e| e.to_string());
                    let keys = read.and_then(|bytes| Keys::read(&bytes, Use::Signature).map_err(|e| e.to_string()));
                    match keys {
                        Ok(keys) if keys.is_empty() => problems.push(wrong("no key in it can verify a token".into())),
                        Ok(keys) => drop(out.agents.insert(id.clone(), keys)),
                        Err(why) => problems.push(wrong(why)),
                    }
                }
                Whose::Domain(name) => match bundle(&one.file) {
                    Ok(verifier) => drop(out.domains.insert(name.clone(), verifier)),
                    Err(why) => problems.push(wrong(why)),
                },
            }
        }
        out
    }

    /// Verifies a link by the keys of who says that it issued it; answers that name.
    pub(super) fn verify(&self, token: Token) -> Result<(Arc<str>, Verified), Fault> {
        let issuer: Arc<str> = token.claimed_issuer().ok_or(Fault::Claim("iss"))?.into();
        if token.has_chain() {
            let domain = issuer.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
            let verifier = self.domains.get(domain).ok_or_else(|| Fault::Issuer(crate::jose::quoted(&issuer)))?;
            let verified = token.verify_by_chain(&ACCEPTED, |chain| trusted(&**verifier, chain, &issuer))?;
            return Ok((issuer, verified));
        }
        let keys = self.agents.get(&issuer).ok_or_else(|| Fault::Issuer(crate::jose::quoted(&issuer)))?;
        let verified = token.verify(keys, &ACCEPTED)?;
        Ok((issuer, verified))
    }
}

fn bundle(file: &std::path::Path) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| e.to_string())? {
        roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() {
        return Err("no certificate in PEM is in it".into());
    }
    let provider = crate::tls::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map(|v| v as Arc<dyn ClientCertVerifier>).map_err(|e| e.to_string())
}

/// Whether a chain, leaf first, is an SVID of `issuer` by the roots of its trust domain (X.509-SVID §5.2).
fn trusted(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'static>], issuer: &str) -> Result<(), String> {
    let (leaf, rest) = chain.split_first().ok_or("it is empty")?;
    verifier.verify_client_cert(leaf, rest, UnixTime::now()).map_err(|e| e.to_string())?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|e| e.to_string())?;
    if certificate.is_ca() {
        return Err("the leaf is a CA".into());
    }
    let san = certificate.subject_alternative_name().map_err(|e| e.to_string())?.ok_or("the leaf has no name")?;
    let mut uris = san.value.general_names.iter().filter_map(|n| if let GeneralName::URI(uri) = n { Some(*uri) } else { None });
    match (uris.next(), uris.next()) {
        (Some(uri), None) if uri == issuer => Ok(()),
        (Some(_), None) => Err("the leaf is another's SVID".into()),
        _ => Err("the leaf has not exactly one URI, so it is no SVID".into()),
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("agents", &self.agents.keys()).field("domains", &self.domains.keys()).finish()
    }
}
