use x509_parser::{certificate::X509Certificate, prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::{
    Fault,
    keys::{Key, Material},
};

/// The key of a certificate that the caller trusts.
pub(super) fn key_of(der: &[u8]) -> Result<Key, Fault> {
    let unreadable = || Fault::Chain("the leaf certificate cannot be read".to_owned());
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
    if !rest.is_empty() {
        return Err(unreadable());
    }
    material(certificate.public_key()).map(Key::of).ok_or_else(|| Fault::Unfit("the leaf's key is of no kind had here".to_owned()))
}

fn material(info: &SubjectPublicKeyInfo<'_>) -> Option<Material> {
    match info.parsed().ok()? {
        PublicKey::RSA(rsa) => Material::rsa(rsa.modulus, rsa.exponent),
        // Uncompressed points only: 04 and both coordinates.
        PublicKey::EC(point) => match (point.data().len(), point.data().first()) {
            (65, Some(4)) => Some(Material::P256(point.data().into())),
            (97, Some(4)) => Some(Material::P384(point.data().into())),
            _ => None,
        },
        // RFC 8410 §3: the id of Ed25519 has no parameters.
        PublicKey::Unknown(key) if info.algorithm.algorithm.to_id_string() == "1.3.101.112" && key.len() == 32 => {
            Some(Material::Ed25519(key.into()))
        }
        _ => None,
    }
}
