//! Tokens for tests, the wrong ones too.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

use super::{Algorithm, Keys, SigningKey, Use};

/// An RSA key that only tests have; ring makes none.
const RSA: &[u8] = include_bytes!("fixture/rsa.pem");

/// A key that signs whatever it is told to.
pub(crate) struct Issuer {
    algorithm: Algorithm,
    pkcs8: Vec<u8>,
    pub(crate) kid: &'static str,
}

impl Issuer {
    pub(crate) fn new(algorithm: Algorithm, kid: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = match algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap().as_ref().to_vec()
            }
            Algorithm::Es384 => {
                EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap().as_ref().to_vec()
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref().to_vec(),
            _ => PrivatePkcs8KeyDer::from_pem_slice(RSA).unwrap().secret_pkcs8_der().to_vec(),
        };
        Self { algorithm, pkcs8, kid }
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub(crate) fn signing_key(&self) -> SigningKey {
        SigningKey::from_pkcs8(&self.pkcs8).unwrap()
    }

    pub(crate) fn jwk(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |public: &[u8], crv: &str| {
            let (x, y) = public[1..].split_at((public.len() - 1) / 2);
            json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
        };
        let random = SystemRandom::new();
        let mut jwk = match self.algorithm {
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8, &random).unwrap();
                point(pair.public_key().as_ref(), "P-256")
            }
            Algorithm::Es384 => {
                let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &self.pkcs8, &random).unwrap();
                point(pair.public_key().as_ref(), "P-384")
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(&self.pkcs8).unwrap();
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())})
            }
            _ => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).unwrap();
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": b64(&public.n), "e": b64(&public.e)})
            }
        };
        jwk["kid"] = self.kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    pub(crate) fn set(&self) -> Value {
        json!({"keys": [self.jwk()]})
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys::read(self.set().to_string().as_bytes(), Use::Signature).unwrap()
    }

    /// A token of these claims with the usual head.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.with_header(&json!({"alg": self.algorithm.as_str(), "kid": self.kid, "typ": "JWT"}), claims)
    }

    pub(crate) fn with_header(&self, header: &Value, claims: &Value) -> String {
        self.texts(&header.to_string(), &claims.to_string())
    }

    /// Signs exactly these texts.
    pub(crate) fn texts(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes())))
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |padding: &'static dyn signature::RsaEncoding| {
            let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).unwrap();
            let mut out = vec![0; pair.public().modulus_len()];
            pair.sign(padding, &random, signed, &mut out).unwrap();
            out
        };
        match self.algorithm {
            Algorithm::Rs256 => rsa(&signature::RSA_PKCS1_SHA256),
            Algorithm::Rs384 => rsa(&signature::RSA_PKCS1_SHA384),
            Algorithm::Rs512 => rsa(&signature::RSA_PKCS1_SHA512),
            Algorithm::Ps256 => rsa(&signature::RSA_PSS_SHA256),
            Algorithm::Ps384 => rsa(&signature::RSA_PSS_SHA384),
            Algorithm::Ps512 => rsa(&signature::RSA_PSS_SHA512),
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(&self.pkcs8).unwrap().sign(signed).as_ref().to_vec(),
            Algorithm::Es256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8, signed),
            Algorithm::Es384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &self.pkcs8, signed),
        }
    }
}

fn ecdsa(algorithm: &'static signature::EcdsaSigningAlgorithm, pkcs8: &[u8], signed: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &random).unwrap().sign(&random, signed).unwrap().as_ref().to_vec()
}

/// The attack on whoever takes `alg` from the token: a public key, as everyone has it, used as the
/// shared secret of an HMAC.
pub(crate) fn confused(public: &[u8], kid: &str, claims: &Value) -> String {
    let header = json!({"alg": "HS256", "kid": kid, "typ": "JWT"});
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// A PEM of these bytes.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
