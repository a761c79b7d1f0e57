use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::{Map, Value};

use super::{Algorithm, Fault, algorithm::Family, json, quoted};

/// The longest set that is read, and the most keys in it.
const LONGEST: usize = 512 << 10;
const MOST: usize = 256;

/// Public keys that verify tokens: a JWK set (RFC 7517 §5).
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Key>);

/// What the keys of a set are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// `use` is absent or `sig`.
    Signature,
    /// A SPIFFE bundle, also as the Workload API gives it: `use` is absent or `jwt-svid`.
    JwtSvid,
}

/// One public key, of a kind that is had here.
#[derive(Clone)]
pub(super) struct Key {
    kid: Option<Box<str>>,
    /// The one algorithm that it is for, where it says so.
    algorithm: Option<Box<str>>,
    material: Material,
}

#[derive(Clone)]
pub(super) enum Material {
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
    /// The point, uncompressed (SEC 1 §2.3.3).
    P256(Box<[u8]>),
    P384(Box<[u8]>),
    Ed25519(Box<[u8]>),
}

impl Keys {
    /// Reads a JWK set. Keys for another use or of a kind not had here are passed over, as RFC 7517
    /// §5 says; so is one whose private part stands beside it, since it is private no more.
    ///
    /// # Errors
    /// When it is no JWK set, is too long, or two of its keys cannot be told apart.
    pub fn read(bytes: &[u8], wanted: Use) -> Result<Self, Fault> {
        if bytes.len() > LONGEST {
            return Err(Fault::Key(format!("the set is longer than {} KiB", LONGEST >> 10)));
        }
        let set = json::object(bytes)?;
        let list = set.get("keys").and_then(Value::as_array).ok_or_else(|| Fault::Key("the set has no `keys`".to_owned()))?;
        if list.len() > MOST {
            return Err(Fault::Key(format!("the set has more than {MOST} keys")));
        }
        let keys: Vec<Key> = list.iter().filter_map(Value::as_object).filter_map(|jwk| Key::read(jwk, wanted)).collect();
        for (i, key) in keys.iter().enumerate() {
            let twin =
                |other: &Key| other.kid == key.kid && other.material.family() == key.material.family() && other.algorithm == key.algorithm;
            if key.kid.is_some() && keys.iter().skip(i + 1).any(twin) {
                return Err(Fault::Key(format!("two keys of the set have the `kid` `{}`", quoted(key.kid.as_deref().unwrap_or_default()))));
            }
        }
        Ok(Self(keys))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The names of the keys that have one.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|k| k.kid.as_deref())
    }

    /// The one key that `kid` names and that fits `algorithm` by what the key says of itself. Without
    /// a `kid`, the one key that fits.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, Fault> {
        let named: Vec<&Key> = self.0.iter().filter(|k| kid.is_none() || k.kid.as_deref() == kid).collect();
        if named.is_empty() {
            return Err(Fault::UnknownKey(quoted(kid.unwrap_or("none"))));
        }
        let mut fit = named.iter().filter(|k| k.fits(algorithm));
        match (fit.next(), fit.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Fault::Unfit(format!("the token names no `kid`, and several keys are for {algorithm}"))),
            // Without a name the key that is missing may be a new one.
            (None, _) if kid.is_none() => Err(Fault::UnknownKey("none".to_owned())),
            (None, _) => Err(Fault::Unfit(format!("it is no key for {algorithm}"))),
        }
    }
}

impl Key {
    pub(super) fn of(material: Material) -> Self {
        Self { kid: None, algorithm: None, material }
    }

    fn read(jwk: &Map<String, Value>, wanted: Use) -> Option<Self> {
        const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
        if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
            return None;
        }
        let text = |name: &str| jwk.get(name).map(Value::as_str);
        match (text("use"), wanted) {
            (None, _) | (Some(Some("sig")), Use::Signature) | (Some(Some("jwt-svid")), Use::JwtSvid) => {}
            _ => return None,
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array().is_some_and(|o| o.iter().any(|v| v == "verify"))
        {
            return None;
        }
        // Present and no text is not absent.
        let (kid, algorithm) = (text("kid").map_or(Some(None), |v| v.map(Some))?, text("alg").map_or(Some(None), |v| v.map(Some))?);
        let part = |name: &str| URL_SAFE_NO_PAD.decode(text(name)??).ok();
        let material = match (text("kty")??, text("crv").flatten()) {
            ("RSA", _) => Material::rsa(&part("n")?, &part("e")?)?,
            ("EC", Some("P-256")) => Material::P256(point(&part("x")?, &part("y")?, 32)?),
            ("EC", Some("P-384")) => Material::P384(point(&part("x")?, &part("y")?, 48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(part("x").filter(|x| x.len() == 32)?.into()),
            _ => return None,
        };
        Some(Self { kid: kid.map(Into::into), algorithm: algorithm.map(Into::into), material })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.material.family() == algorithm.family() && self.algorithm.as_deref().is_none_or(|a| a == algorithm.as_str())
    }

    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> Result<(), Fault> {
        if !self.fits(algorithm) {
            return Err(Fault::Unfit(format!("it is no key for {algorithm}")));
        }
        let verified = match (&self.material, rsa(algorithm)) {
            (Material::Rsa { n, e }, Some(parameters)) => RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature),
            (Material::P256(point), None) => unparsed(&signature::ECDSA_P256_SHA256_FIXED, point, signed, signature),
            (Material::P384(point), None) => unparsed(&signature::ECDSA_P384_SHA384_FIXED, point, signed, signature),
            (Material::Ed25519(x), None) => unparsed(&signature::ED25519, x, signed, signature),
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| Fault::Signature)
    }
}

impl Material {
    /// Modulus and exponent, big-endian. ring takes 2,048 bits and more.
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let bare = |bytes: &[u8]| {
            let start = bytes.iter().position(|b| *b != 0)?;
            bytes.get(start..).map(Box::from)
        };
        Some(Self::Rsa { n: bare(n)?, e: bare(e)? })
    }

    fn family(&self) -> Family {
        match self {
            Self::Rsa { .. } => Family::Rsa,
            Self::P256(_) => Family::P256,
            Self::P384(_) => Family::P384,
            Self::Ed25519(_) => Family::Ed25519,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.material.family(), self.kid)
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
    }
}

fn unparsed(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> Result<(), ring::error::Unspecified> {
    UnparsedPublicKey::new(algorithm, key).verify(signed, signature)
}

/// Both coordinates have the length of the curve's field (RFC 7518 §6.2.1.2).
fn point(x: &[u8], y: &[u8], length: usize) -> Option<Box<[u8]>> {
    (x.len() == length && y.len() == length).then(|| [&[4], x, y].concat().into())
}
