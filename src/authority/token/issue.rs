//! Signs what a task hands to a peer.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    authority::Registry,
    call::{Destination, Task},
    clock::Moment,
    config::{DelegationKey, PeerSpec},
    jose::{Fault, SigningKey},
    problem::Problem,
    refusal::{Reason, Refusal},
};

use super::{
    Delegations, LIFE, LONGEST, MOST_LINKS, Received, TYPE,
    grants::{self, Grant},
    problem,
    read::actor,
};

/// The key that signs, and how others find it.
#[derive(Debug)]
pub(super) struct Issuer {
    key: SigningKey,
    kid: String,
    chain: Vec<CertificateDer<'static>>,
    publish: Option<PathBuf>,
}

/// A token for one call.
#[derive(Debug, Clone)]
pub struct Handed {
    /// The field's value; marked sensitive.
    pub value: HeaderValue,
    pub jti: Arc<str>,
    /// The agent that it is for.
    pub to: Arc<str>,
}

impl Issuer {
    pub(super) fn load(config: &DelegationKey) -> Result<Self, Problem> {
        let wrong = |file: &Path, why: String| problem(&config.place, "delegation.key", format!("{}: {why}", file.display()));
        let pem = std::fs::read(&config.key).map(Zeroizing::new).map_err(|e| wrong(&config.key, e.to_string()))?;
        let key = SigningKey::from_pem(&pem).map_err(|e| wrong(&config.key, e.to_string()))?;
        let mut chain = Vec::new();
        if let Some(file) = &config.chain {
            let certificates = CertificateDer::pem_file_iter(file).map_err(|e| wrong(file, e.to_string()))?;
            for certificate in certificates {
                chain.push(certificate.map_err(|e| wrong(file, e.to_string()))?.into_owned());
            }
            if chain.is_empty() {
                return Err(wrong(file, "no certificate in PEM is in it".into()));
            }
        }
        Ok(Self { kid: key.thumbprint(), key, chain, publish: config.publish.clone() })
    }

    /// Writes what others verify tokens with, where the config says.
    pub(super) fn publish(&self) {
        let Some(path) = &self.publish else { return };
        let set = json!({"keys": [self.key.public_jwk()]}).to_string();
        if let Err(error) = std::fs::write(path, set) {
            tracing::error!(%error, path = %path.display(), "the key set of delegation tokens could not be written");
        }
    }
}

/// What one task of the chain adds to the token.
struct Adds {
    issuer: Arc<str>,
    grants: Vec<Grant>,
}

impl Delegations {
    /// The peer that is called at an address.
    #[must_use]
    pub fn peer(&self, to: &Destination) -> Option<&PeerSpec> {
        self.peers.iter().find(|p| p.host == to.host && p.port.is_none_or(|port| port == to.port))
    }

    /// The token for a call of `task`, when it goes to a peer that its agent may delegate to; None for
    /// every other call. `received` is what the first of the task's own chain was handed; `certificate` is the
    /// SHA-256 of the one that Remit shows on this call: the token is then of use to nobody who lacks its key.
    ///
    /// # Errors
    /// `delegation_invalid` when what is to be handed over cannot be said: an agent without a SPIFFE ID,
    /// nothing that every link grants, a chain or a token too long.
    pub fn hand_over(
        &self,
        task: &Task,
        to: &Destination,
        registry: &Registry,
        received: Option<&Received>,
        certificate: Option<&[u8; 32]>,
        now: Moment,
    ) -> Result<Option<Handed>, Refusal> {
        let (Some(issuer), Some(peer)) = (&self.issuer, self.peer(to)) else { return Ok(None) };
        let allowed = registry.agent(&task.agent.id).is_some_and(|a| a.spec.delegates_to.contains(&peer.agent));
        if !allowed {
            return Ok(None);
        }
        let adds = adds(task, registry, received).map_err(|why| refused(&why))?;
        let signed = issuer.sign(task, &adds, peer, received, certificate, now).map_err(|why| refused(&why))?;
        Ok(Some(signed))
    }
}

/// The links of this process: of the task that was started first, and of those it handed parts of itself to.
fn adds(task: &Task, registry: &Registry, received: Option<&Received>) -> Result<Vec<Adds>, String> {
    let mut tasks: Vec<&Task> = task.upwards().collect();
    tasks.reverse();
    let mut above = received.map(Received::grants).transpose()?;
    let mut out = Vec::new();
    for task in tasks {
        let own = task.chain.last().and_then(|l| l.grants.as_deref()).unwrap_or_default();
        let workflow = registry.workflow(&task.workflow).ok_or_else(|| format!("workflow `{}` is not registered", task.workflow))?;
        let mut granted = grants::of(&workflow.grants, own)?;
        if let Some(above) = &above {
            granted = grants::both(&granted, above)?;
        }
        if granted.is_empty() {
            return Err(format!("{} was handed nothing that its workflow grants too", task.agent.id));
        }
        let issuer = task.agent.spiffe_id.clone().ok_or_else(|| format!("agent `{}` has no SPIFFE ID", task.agent.id))?;
        above = Some(granted.clone());
        out.push(Adds { issuer, grants: granted });
    }
    Ok(out)
}

impl Issuer {
    fn sign(
        &self,
        task: &Task,
        adds: &[Adds],
        peer: &PeerSpec,
        received: Option<&Received>,
        certificate: Option<&[u8; 32]>,
        now: Moment,
    ) -> Result<Handed, String> {
        let before = received.map_or(0, |r| r.links.len().saturating_sub(1));
        if before + adds.len() > MOST_LINKS {
            return Err(format!("the chain is longer than {MOST_LINKS} agents"));
        }
        let issued = now.utc.unix_timestamp();
        let expires = (now.utc + LIFE).min(task.expires()).unix_timestamp();
        let expires = received.map_or(expires, |r| expires.min(r.expires.unix_timestamp()));
        if expires <= issued {
            return Err("the task is about to end".into());
        }
        // No link says more of the principal than the one above.
        let proven = task.principal.verified && received.is_none_or(|r| r.principal.verified);
        let mut token = received.map(|r| String::from(&**r.text.expose()));
        let mut act = received.map_or(Value::Null, Received::act);
        let mut jti: Arc<str> = "".into();
        for (i, link) in adds.iter().enumerate() {
            let audience = adds.get(i + 1).map_or(&peer.spiffe_id, |next| &next.issuer);
            act = actor(&link.issuer, act);
            jti = random()?.into();
            let mut claims = json!({
                "iss": &*link.issuer, "aud": &**audience, "sub": &*task.principal.id, "sub_verified": proven,
                "act": act, "iat": issued, "exp": expires, "jti": &*jti, "task": task.id.as_str(),
                "grants": grants::to_json(&link.grants),
            });
            // Only the newest link is presented by whoever has that certificate.
            if let Some(certificate) = certificate.filter(|_| i + 1 == adds.len()) {
                claims["cnf"] = json!({"x5t#S256": URL_SAFE_NO_PAD.encode(certificate)});
            }
            if let Some(parent) = &token {
                claims["parent"] = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, parent.as_bytes())).into();
            }
            let kid = self.chain.is_empty().then_some(&*self.kid);
            let own = self.key.sign(TYPE, kid, &self.chain, &claims).map_err(|f: Fault| f.to_string())?;
            token = Some(match token {
                Some(parent) => format!("{own}~{parent}"),
                None => own,
            });
        }
        let token = Zeroizing::new(token.unwrap_or_default());
        if token.len() > LONGEST {
            return Err(format!("the token is longer than {} KiB: narrow what the task is granted", LONGEST >> 10));
        }
        let mut value = HeaderValue::from_str(&token).map_err(|e| e.to_string())?;
        value.set_sensitive(true);
        Ok(Handed { value, jti, to: peer.spiffe_id.clone() })
    }
}

impl Received {
    /// What the newest link grants.
    fn grants(&self) -> Result<Vec<Grant>, String> {
        grants::of(&[], self.links.last().and_then(|l| l.grants.as_deref()).unwrap_or_default())
    }

    /// The `act` of the newest link.
    fn act(&self) -> Value {
        self.links.iter().skip(1).fold(Value::Null, |before, link| actor(&link.id, before))
    }
}

fn random() -> Result<String, String> {
    let mut bytes = [0u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "no randomness for a token".to_owned())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn refused(why: &str) -> Refusal {
    Refusal::new(Reason::DelegationInvalid, format!("what is handed to the agent called cannot be signed: {why}"))
}
