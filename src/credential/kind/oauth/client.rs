//! As whom Remit asks, and how it shows that.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::AUTHORIZATION};

use super::{Form, signed::Signer};
use crate::{
    config::{ClientProof, ClientSpec},
    credential::{issue::Fault, issuer::Issuer, kind::Made, source, source::Watched},
    problem::Problem,
    secret::Secret,
};

/// RFC 7523 §2.2.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: Box<str>,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    Nothing,
    Basic(Watched),
    Post(Watched),
    Signed(Box<Signer>),
    Held(Watched),
}

impl Client {
    pub(super) fn new(spec: &ClientSpec, audience: &str, made: &Made<'_>) -> Result<Self, Problem> {
        let held = |key: &str, from| Watched::line(from, made.env).map_err(|p| p.key(format!("client.{key}.{}", source::key(from))));
        let proof = match &spec.proof {
            ClientProof::Nothing => Proof::Nothing,
            ClientProof::Basic(secret) => Proof::Basic(held("secret", secret)?),
            ClientProof::Post(secret) => Proof::Post(held("secret", secret)?),
            ClientProof::Assertion(from) => Proof::Held(held("assertion", from)?),
            ClientProof::Key(key) => Proof::Signed(Box::new(Signer::new(key, "client", (&spec.id, &spec.id), audience, made)?)),
        };
        Ok(Self { id: spec.id.clone(), proof })
    }

    /// Adds who asks, and what shows it.
    pub(super) fn prove(&self, form: &mut Form, to: &Issuer) -> Result<(), Fault> {
        match &self.proof {
            Proof::Nothing => form.push("client_id", &*self.id),
            Proof::Basic(secret) => {
                form.headers.insert(AUTHORIZATION, secret.with(|secret| self.basic(secret))?);
                return Ok(());
            }
            Proof::Post(secret) => {
                form.push("client_id", &*self.id);
                secret.with(|secret| form.push("client_secret", secret));
            }
            Proof::Signed(signer) => {
                form.push("client_id", &*self.id);
                form.push("client_assertion_type", ASSERTION);
                form.push("client_assertion", signer.sign(None, to.now())?);
            }
            Proof::Held(assertion) => {
                form.push("client_id", &*self.id);
                form.push("client_assertion_type", ASSERTION);
                assertion.with(|assertion| form.push("client_assertion", assertion));
            }
        }
        Ok(())
    }

    /// RFC 6749 §2.3.1: both parts are encoded as in a form, and then joined.
    fn basic(&self, secret: &str) -> Result<HeaderValue, Fault> {
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let pair = Secret::new(format!("{}:{}", encode(&self.id), Secret::new(encode(secret)).expose()));
        let value = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| Fault::Refused("the client's id cannot be sent".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// How it shows who it is, for one who has to mend it.
    pub(super) fn how(&self) -> String {
        match &self.proof {
            Proof::Nothing => "is a public one".to_owned(),
            Proof::Basic(_) => "shows its secret by `client_secret_basic`".to_owned(),
            Proof::Post(_) => "shows its secret by `client_secret_post`".to_owned(),
            Proof::Signed(signer) => format!("signs with {}", signer.described()),
            Proof::Held(_) => "shows an assertion".to_owned(),
        }
    }

    pub(super) fn secrets(&self, see: &mut dyn FnMut(&str)) {
        match &self.proof {
            Proof::Nothing => {}
            Proof::Basic(held) | Proof::Post(held) | Proof::Held(held) => held.with(see),
            Proof::Signed(signer) => signer.secrets(see),
        }
    }

    pub(super) fn watches(&self) -> bool {
        match &self.proof {
            Proof::Nothing => false,
            Proof::Basic(held) | Proof::Post(held) | Proof::Held(held) => held.is_file(),
            Proof::Signed(signer) => signer.watches(),
        }
    }

    pub(super) fn refresh(&self) -> Result<bool, Problem> {
        match &self.proof {
            Proof::Nothing => Ok(false),
            Proof::Basic(held) | Proof::Post(held) | Proof::Held(held) => held.refresh(|_| Ok(())),
            Proof::Signed(signer) => signer.refresh(),
        }
    }
}
