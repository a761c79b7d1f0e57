//! TLS of a listener itself, put together from the config and the rules in force.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;

use crate::{
    config::{Config, ListenCertificate, ListenTls},
    enforce::House,
    identify::Spiffe,
    problem::{Problem, Problems},
    tls::{Bundles, DomainRoots, Front, OwnCertificate, certificate_from},
};

/// The bundles of the rules in force, whichever those are.
#[derive(Debug)]
struct InForce(House);

impl Bundles for InForce {
    fn roots(&self, trust_domain: &str) -> Option<DomainRoots> {
        spiffe(&self.0, |spiffe| spiffe.roots(trust_domain))
    }
}

fn spiffe<T>(house: &House, ask: impl FnOnce(&Spiffe) -> Option<T>) -> Option<T> {
    house.rules().callers.as_ref().and_then(|c| c.spiffe()).and_then(|s| ask(s))
}

/// The name that the listener's certificate has, for the URLs that clients are given; its address where the
/// certificate has none that is known here.
pub(super) fn name(config: &Config) -> Option<Arc<str>> {
    let tls = config.listen.forward_tls.as_ref()?;
    let address = config.listen.forward.map(|a| a.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    let name = match &tls.certificate {
        ListenCertificate::Own(names) => names.first().map(ToString::to_string),
        ListenCertificate::Svid | ListenCertificate::Files { .. } => address,
    };
    Some(name.unwrap_or_else(|| "localhost".to_owned()).into())
}

/// None when the listener speaks plain HTTP.
pub(super) fn front(tls: Option<&ListenTls>, house: &House, alpn: &[&[u8]]) -> Result<Option<Front>, Problems> {
    let Some(tls) = tls else { return Ok(None) };
    let own: OwnCertificate = match &tls.certificate {
        ListenCertificate::Svid => {
            let house = house.clone();
            Arc::new(move |_| spiffe(&house, Spiffe::own).map(|own| own.certificate.clone()))
        }
        ListenCertificate::Files { cert, key } => {
            let first = Arc::new(certificate_from(cert, key)?);
            following(house, cert.clone(), key.clone(), first)
        }
        ListenCertificate::Own(names) => {
            let (house, names) = (house.clone(), names.clone());
            Arc::new(move |asked| {
                // A client that asks for no name, or for another, sees by the leaf whom it reached.
                let name = names.iter().find(|n| Some(n.as_str()) == asked).or_else(|| names.first())?;
                house.terminator().leaf(name).map_err(|e| tracing::error!("no certificate for {name}: {e}")).ok()
            })
        }
    };
    let made = Front::new(own, Arc::new(InForce(house.clone())), tls.required, alpn);
    made.map(Some).map_err(|e| Problem::new(format!("TLS on a listener: {e}")).into())
}

/// The certificate in files, read again when the rules change: a new certificate is a changed file.
fn following(house: &House, cert: std::path::PathBuf, key: std::path::PathBuf, first: Arc<CertifiedKey>) -> OwnCertificate {
    let house = house.clone();
    let rules = Arc::as_ptr(&house.rules()) as usize;
    let kept = ArcSwapOption::new(Some(Arc::new((rules, first))));
    Arc::new(move |_| {
        let rules = Arc::as_ptr(&house.rules()) as usize;
        let before = kept.load_full()?;
        if before.0 == rules {
            return Some(before.1.clone());
        }
        let now = match certificate_from(&cert, &key) {
            Ok(read) => Arc::new(read),
            Err(problem) => {
                tracing::error!("the certificate before stays: {problem}");
                before.1.clone()
            }
        };
        kept.store(Some(Arc::new((rules, now.clone()))));
        Some(now)
    })
}
