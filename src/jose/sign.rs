use std::fmt;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Map, Value, json};

use super::{Algorithm, Fault};

/// A private key that signs tokens, with ES256 or EdDSA.
pub struct SigningKey(Pair);

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// From `PRIVATE KEY` in PEM (PKCS#8, RFC 5958), as `openssl genpkey` and SPIFFE write it.
    ///
    /// # Errors
    /// [`Fault::Key`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, Fault> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|e| Fault::Key(format!("no `PRIVATE KEY` in PEM: {e}")))?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// From PKCS#8 in DER: a P-256 or an Ed25519 key.
    ///
    /// # Errors
    /// [`Fault::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Fault> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new()) {
            return Ok(Self(Pair::P256(pair)));
        }
        match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Ok(pair) => Ok(Self(Pair::Ed25519(pair))),
            Err(_) => Err(Fault::Key("a P-256 or an Ed25519 key is wanted".to_owned())),
        }
    }

    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Pair::P256(_) => Algorithm::Es256,
            Pair::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// The public part as a JWK, with its thumbprint for `kid`: what the other side puts in its set.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        let mut jwk = self.bare_jwk();
        for (name, value) in [("kid", self.thumbprint()), ("alg", self.algorithm().as_str().to_owned()), ("use", "sig".to_owned())] {
            jwk.insert(name.to_owned(), value.into());
        }
        Value::Object(jwk)
    }

    /// RFC 7638: SHA-256 over the required members, in the order of their names.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, Value::Object(self.bare_jwk()).to_string().as_bytes()))
    }

    fn bare_jwk(&self) -> Map<String, Value> {
        let jwk = match &self.0 {
            Pair::P256(pair) => {
                let (x, y) = pair.public_key().as_ref().get(1..).and_then(|xy| xy.split_at_checked(32)).unwrap_or_default();
                json!({"crv": "P-256", "kty": "EC", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
            }
            Pair::Ed25519(pair) => json!({"crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(pair.public_key())}),
        };
        match jwk {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// Signs claims into a token of type `typ`. The key is named by `kid`, or by its certificates,
    /// leaf first, where there are any.
    ///
    /// # Errors
    /// [`Fault::Key`] without randomness; [`Fault::TooLong`] when nobody would read the token.
    pub fn sign(&self, typ: &str, kid: Option<&str>, chain: &[CertificateDer<'_>], claims: &Value) -> Result<String, Fault> {
        let mut header = Map::new();
        header.insert("alg".to_owned(), self.algorithm().as_str().into());
        header.insert("typ".to_owned(), typ.into());
        if let Some(kid) = kid {
            header.insert("kid".to_owned(), kid.into());
        }
        if !chain.is_empty() {
            header.insert("x5c".to_owned(), chain.iter().map(|c| STANDARD.encode(c)).collect());
        }
        let mut token = URL_SAFE_NO_PAD.encode(Value::Object(header).to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        if token.len() > super::LONGEST { Err(Fault::TooLong) } else { Ok(token) }
    }

    fn signature(&self, signed: &[u8]) -> Result<Vec<u8>, Fault> {
        match &self.0 {
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), signed).map_err(|_| Fault::Key("no randomness to sign with".to_owned()))?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(signed).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}
