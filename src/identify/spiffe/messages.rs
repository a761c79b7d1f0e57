//! The Workload API's messages (SPIFFE Workload API §5, §6). Each is the full set of what there is.

use std::{collections::HashMap, sync::Arc};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use crate::{
    call::spiffe_domain,
    jose::{Keys, Use},
    secret::Secret,
    tls::{DomainRoots, Svid, certified, domain_roots},
};

use super::proto::{Wire, entry, field, fields, text};

/// By trust domain.
pub(super) type ByDomain<T> = HashMap<Box<str>, T>;

/// Remit's own X.509-SVID.
#[derive(Debug, Clone)]
pub struct OwnSvid {
    pub svid: Svid,
    /// Leaf first.
    pub certificate: Arc<CertifiedKey>,
    /// PKCS #8, for who signs with it.
    pub key: Arc<Secret<Vec<u8>>>,
}

/// `X509SVIDResponse`: the first SVID is the default one (§5.2.1).
pub(super) fn own(message: &[u8]) -> Result<Option<OwnSvid>, String> {
    let mut first = None;
    fields(message, &mut |number, wire| {
        if let (1, Wire::Bytes(svid), true) = (number, wire, first.is_none()) {
            first = Some(own_svid(svid)?);
        }
        Ok(())
    })?;
    Ok(first)
}

/// `X509SVID`: spiffe_id 1, x509_svid 2, x509_svid_key 3.
fn own_svid(message: &[u8]) -> Result<OwnSvid, String> {
    let (mut id, mut chain, mut key) = (String::new(), &[][..], &[][..]);
    fields(message, &mut |number, wire| {
        match (number, wire) {
            (1, Wire::Bytes(b)) => id = text(b)?,
            (2, Wire::Bytes(b)) => chain = b,
            (3, Wire::Bytes(b)) => key = b,
            _ => {}
        }
        Ok(())
    })?;
    let chain = certificates(chain)?;
    let leaf = chain.first().ok_or("the SVID has no certificate")?;
    let svid = Svid::read(leaf)?;
    if *svid.id != *id {
        return Err("the SVID's certificate names another".to_owned());
    }
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let certificate = certified(chain, &der).map_err(|e| format!("the SVID's key: {e}"))?;
    Ok(OwnSvid { svid, certificate: Arc::new(certificate), key: Arc::new(Secret::new(key.to_vec())) })
}

/// `JWTSVIDRequest`: audience 1. Of several identities the default one answers.
pub(super) fn token_request(audience: &str) -> Vec<u8> {
    field(1, audience.as_bytes())
}

/// `JWTSVIDResponse`: svids 1, of which each has its token in 2. The first is the default one (§6.2.1).
pub(super) fn token(message: &[u8]) -> Result<Secret<String>, String> {
    let mut first = None;
    fields(message, &mut |number, wire| {
        if let (1, Wire::Bytes(svid), true) = (number, wire, first.is_none()) {
            fields(svid, &mut |number, wire| {
                if let (2, Wire::Bytes(token)) = (number, wire) {
                    first = Some(Secret::new(text(token)?));
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    first.filter(|token| !token.expose().is_empty()).ok_or_else(|| "the Workload API gave no JWT-SVID".to_owned())
}

/// `X509BundlesResponse`: bundles 2, by trust domain ID.
pub(super) fn roots(message: &[u8]) -> Result<ByDomain<DomainRoots>, String> {
    bundles(message, 2, |der| domain_roots(certificates(der)?))
}

/// `JWTBundlesResponse`: bundles 1, by trust domain ID, each a JWK set.
pub(super) fn keys(message: &[u8]) -> Result<ByDomain<Arc<Keys>>, String> {
    bundles(message, 1, |set| Keys::read(set, Use::JwtSvid).map(Arc::new).map_err(|e| e.to_string()))
}

/// A bundle that cannot be used is left out, and so its trust domain is not trusted; the others count.
fn bundles<T>(message: &[u8], at: u64, read: impl Fn(&[u8]) -> Result<T, String>) -> Result<ByDomain<T>, String> {
    let mut found = HashMap::new();
    fields(message, &mut |number, wire| {
        let (true, Wire::Bytes(bytes)) = (number == at, wire) else { return Ok(()) };
        let (id, bundle) = entry(bytes)?;
        match read(&bundle) {
            Ok(value) => drop(found.insert(domain(&id)?.into(), value)),
            Err(why) => tracing::warn!(trust_domain = %crate::jose::quoted(&id), "a bundle is not used: {why}"),
        }
        Ok(())
    })?;
    Ok(found)
}

/// `spiffe://example.org`, as the map's keys are; some write `example.org`.
fn domain(id: &str) -> Result<&str, String> {
    let name = id.strip_prefix("spiffe://").unwrap_or(id).trim_end_matches('/');
    spiffe_domain(&format!("spiffe://{name}/x")).map(|_| name).map_err(|why| format!("a bundle's trust domain: {why}"))
}

/// DER certificates, one behind the other.
fn certificates(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut list = Vec::new();
    while !der.is_empty() {
        let length = length_of(der).ok_or("a certificate is cut off")?;
        let (one, rest) = der.split_at_checked(length).ok_or("a certificate is cut off")?;
        list.push(CertificateDer::from(one.to_vec()));
        der = rest;
    }
    Ok(list)
}

/// The length of the DER sequence that begins here, its head included (X.690 §8.1.3).
fn length_of(der: &[u8]) -> Option<usize> {
    let (&tag, &first) = (der.first()?, der.get(1)?);
    if tag != 0x30 {
        return None;
    }
    if first < 0x80 {
        return Some(2 + usize::from(first));
    }
    let count = usize::from(first & 0x7f);
    if !(1..=4).contains(&count) {
        return None;
    }
    let length = der.get(2..2 + count)?.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    length.checked_add(2 + count)
}
