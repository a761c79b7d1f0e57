//! Tokens that Remit signs, for the server alone and for a moment (RFC 7523 §3).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    call::Task,
    config::{KeySpec, SignedSpec},
    credential::{issue::Fault, kind::Made, source, source::Watched},
    jose::SigningKey,
    problem::Problem,
};

/// Long enough for a slow server, and of no use to one who finds it later.
const LIVES: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Signer {
    pem: Watched,
    kid: Option<Box<str>>,
    issuer: Box<str>,
    /// With places for what a task has; see [`SignedSpec::subject`].
    subject: Box<str>,
    audience: Box<str>,
}

impl Signer {
    /// `place`: where the key stands in the configuration. `of`: `iss` and `sub`.
    pub(super) fn new(key: &KeySpec, place: &str, of: (&str, &str), audience: &str, made: &Made<'_>) -> Result<Self, Problem> {
        let at = |problem: Problem| problem.key(format!("{place}.key.{}", source::key(&key.pem)));
        let pem = Watched::text(&key.pem, made.env).map_err(at)?;
        pem.with(fits).map_err(at)?;
        Ok(Self { pem, kid: key.kid.clone(), issuer: of.0.into(), subject: of.1.into(), audience: audience.into() })
    }

    pub(super) fn of(spec: &SignedSpec, place: &str, audience: &str, made: &Made<'_>) -> Result<Self, Problem> {
        Self::new(&spec.key, place, (&spec.issuer, &spec.subject), audience, made)
    }

    /// A token that is signed now, by the server's clock.
    pub(super) fn sign(&self, task: Option<&Task>, now: OffsetDateTime) -> Result<String, Fault> {
        let key = self.pem.with(|pem| SigningKey::from_pem(pem.as_bytes())).map_err(|e| Fault::Refused(e.to_string()))?;
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).map_err(|_| Fault::Unavailable("no randomness to sign with".to_owned()))?;
        let claims = json!({
            "iss": self.issuer,
            "sub": self.filled(task)?,
            "aud": self.audience,
            "iat": now.unix_timestamp(),
            "exp": (now + LIVES).unix_timestamp(),
            "jti": URL_SAFE_NO_PAD.encode(id),
        });
        key.sign("JWT", self.kid.as_deref(), &[], &claims).map_err(|e| Fault::Refused(e.to_string()))
    }

    fn filled(&self, task: Option<&Task>) -> Result<String, Fault> {
        let Some(task) = task else { return Ok(self.subject.to_string()) };
        let (mut out, mut rest) = (String::new(), &*self.subject);
        while let Some((before, (name, after))) = rest.split_once('{').and_then(|(b, a)| Some((b, a.split_once('}')?))) {
            out.push_str(before);
            out.push_str(match name {
                "principal.id" => &task.principal.id,
                "agent.id" => &task.agent.id,
                "task.id" => task.id.as_str(),
                _ => task.agent.spiffe_id.as_deref().ok_or_else(|| {
                    Fault::Refused(format!("the agent `{}` has no SPIFFE ID to sign for: add one to its identities", task.agent.id))
                })?,
            });
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Which key, for one who looks it up at the server.
    pub(super) fn described(&self) -> String {
        match self.pem.with(|pem| SigningKey::from_pem(pem.as_bytes())) {
            Ok(key) => match &self.kid {
                Some(kid) => format!("{} and the key `{kid}`", key.algorithm()),
                None => format!("{} and names no key (`kid`)", key.algorithm()),
            },
            Err(e) => e.to_string(),
        }
    }

    pub(super) fn secrets(&self, see: &mut dyn FnMut(&str)) {
        self.pem.with(see);
    }

    pub(super) fn watches(&self) -> bool {
        self.pem.is_file()
    }

    pub(super) fn refresh(&self) -> Result<bool, Problem> {
        self.pem.refresh(fits)
    }
}

fn fits(pem: &str) -> Result<(), Problem> {
    let help = "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one; the server gets its public part";
    SigningKey::from_pem(pem.as_bytes()).map(drop).map_err(|e| Problem::new(e.to_string()).help(help))
}
