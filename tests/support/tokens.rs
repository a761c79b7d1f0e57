//! Signed tokens, the wrong ones too, and who publishes their keys.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

/// The issuer of the tests' tokens, and the audience that Remit is.
pub const ISSUER: &str = "https://id.example.test";
pub const AUDIENCE: &str = "remit";

/// An ES256 key with a name.
pub struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    pub kid: String,
}

impl Key {
    pub fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { pair, pkcs8: pkcs8.as_ref().to_vec(), kid: kid.into() }
    }

    /// The private key, as a file holds it.
    pub fn pem(&self) -> String {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(&self.pkcs8))
    }

    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({"kty": "EC", "crv": "P-256", "x": part(1), "y": part(33), "kid": self.kid, "use": "sig", "alg": "ES256"})
    }

    pub fn token(&self, claims: &Value) -> String {
        self.signed(&json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"}), claims)
    }

    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        self.texts(&header.to_string(), &claims.to_string())
    }

    /// Signs exactly these texts.
    pub fn texts(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub fn set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|k| k.jwk()).collect::<Vec<_>>()}).to_string()
}

pub fn now() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Good claims, with `more` put over them; a null takes one away.
pub fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "sub": "bot", "aud": AUDIENCE, "exp": now() + 300, "iat": now()});
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}
