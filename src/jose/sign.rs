use std::fmt;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    digest,
    error::KeyRejected,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value, json};

use super::{Algorithm, Fault};

/// A private key that signs tokens, with RS256, ES256 or EdDSA.
pub struct SigningKey(Pair);

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// From the first private key in PEM: `PRIVATE KEY` (PKCS#8, RFC 5958), as `openssl genpkey`,
    /// Google and SPIFFE write it, or `RSA PRIVATE KEY` (PKCS#1, RFC 8017 §A.1.2), as GitHub does.
    ///
    /// # Errors
    /// [`Fault::Key`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, Fault> {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(der)) => Self::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => Self::rsa(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            Ok(_) => Err(Fault::Key("it is an `EC PRIVATE KEY`: `openssl pkcs8 -topk8 -nocrypt` writes it as `PRIVATE KEY`".to_owned())),
            Err(e) => Err(Fault::Key(format!("no `PRIVATE KEY` in PEM: {e}"))),
        }
    }

    /// From PKCS#8 in DER: an RSA key of 2,048 to 4,096 bits, a P-256 or an Ed25519 key.
    ///
    /// # Errors
    /// [`Fault::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Fault> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new()) {
            return Ok(Self(Pair::P256(pair)));
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self(Pair::Ed25519(pair)));
        }
        Self::rsa(RsaKeyPair::from_pkcs8(der))
    }

    fn rsa(read: Result<RsaKeyPair, KeyRejected>) -> Result<Self, Fault> {
        match read {
            Ok(pair) => Ok(Self(Pair::Rsa(Box::new(pair)))),
            // ring's words for a modulus of fewer bits than 2,048 and of more than 4,096.
            Err(e) if e.to_string() == "TooSmall" => Err(Fault::Key("the RSA key has fewer than 2048 bits".to_owned())),
            Err(e) if e.to_string() == "TooLarge" => Err(Fault::Key("the RSA key has more than 4096 bits".to_owned())),
            Err(_) => Err(Fault::Key("an RSA, a P-256 or an Ed25519 key is wanted".to_owned())),
        }
    }

    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Pair::Rsa(_) => Algorithm::Rs256,
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
            Pair::Rsa(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"e": URL_SAFE_NO_PAD.encode(public.e), "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(public.n)})
            }
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
        let no_randomness = |_| Fault::Key("no randomness to sign with".to_owned());
        match &self.0 {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature).map_err(no_randomness)?;
                Ok(signature)
            }
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), signed).map_err(no_randomness)?;
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
