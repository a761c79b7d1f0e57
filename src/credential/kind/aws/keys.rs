use std::{future::ready, sync::Arc};

use arc_swap::ArcSwap;

use super::signer::{Keys, Signer};
use crate::{
    call::{Inject, Lease},
    config::{AwsKeys, AwsSpec, SecretSource},
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued, Pending, Request},
        kind::fingerprint,
        scrub::Scrubber,
        source::{self, Env, Watched},
    },
    problem::Problem,
    secret::Secret,
};

/// Where keys are, and their values.
#[derive(Debug)]
pub(super) struct Source {
    id: Watched,
    secret: Watched,
    token: Option<Watched>,
}

impl Source {
    pub(super) fn new(spec: &AwsKeys, env: Env<'_>) -> Result<Self, Problem> {
        let read = |at: &SecretSource, key: &str| Watched::line(at, env).map_err(|p| p.key(format!("{key}.{}", source::key(at))));
        let id = read(&spec.id, "access_key_id")?;
        let secret = read(&spec.secret, "secret_access_key")?;
        let token = spec.token.as_ref().map(|t| read(t, "session_token")).transpose()?;
        let source = Self { id, secret, token };
        source.id.with(is_id).map_err(|p| p.key("access_key_id"))?;
        Ok(source)
    }

    /// The keys in force.
    pub(super) fn keys(&self) -> Keys {
        let copy = |watched: &Watched| watched.with(|value| Secret::new(value.to_owned()));
        Keys { id: copy(&self.id), secret: copy(&self.secret), token: self.token.as_ref().map(copy) }
    }

    pub(super) fn secrets(&self, see: &mut dyn FnMut(&str)) {
        self.secret.with(&mut *see);
        if let Some(token) = &self.token {
            token.with(see);
        }
    }

    pub(super) fn watches(&self) -> bool {
        self.all().any(Watched::is_file)
    }

    /// Reads what changed. All are read before a problem is told, so that one file that is late does not
    /// hide another.
    pub(super) fn refresh(&self) -> Result<bool, Problem> {
        let id = self.id.refresh(is_id).map_err(|p| p.key("access_key_id"));
        let secret = self.secret.refresh(|_| Ok(())).map_err(|p| p.key("secret_access_key"));
        let token = self.token.as_ref().map_or(Ok(false), |t| t.refresh(|_| Ok(()))).map_err(|p| p.key("session_token"));
        Ok(id? | secret? | token?)
    }

    fn all(&self) -> impl Iterator<Item = &Watched> {
        [&self.id, &self.secret].into_iter().chain(&self.token)
    }
}

/// What IAM and others that speak its protocol call keys by.
fn is_id(text: &str) -> Result<(), Problem> {
    let good = (3..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if good {
        Ok(())
    } else {
        Err(Problem::new("this is no id of an access key").help("put the id there, such as AKIA…; the secret has a key of its own"))
    }
}

/// What must be kept from the agent: the id is no secret, but names one.
pub(super) fn hidden(keys: &Keys) -> Vec<Secret<Vec<u8>>> {
    let bytes = |s: &Secret<String>| Secret::new(s.expose().as_bytes().to_vec());
    [&keys.id, &keys.secret].into_iter().chain(&keys.token).map(bytes).collect()
}

/// Keys that sign themselves, the same for every task.
#[derive(Debug)]
pub(super) struct OwnKeys {
    name: Arc<str>,
    source: Source,
    service: Option<Box<str>>,
    region: Option<Box<str>>,
    lease: ArcSwap<Lease>,
}

impl OwnKeys {
    pub(super) fn new(name: Arc<str>, source: Source, spec: &AwsSpec) -> Result<Self, Problem> {
        let (service, region) = (spec.service.clone(), spec.region.clone());
        let lease = lease(&name, source.keys(), service.clone(), region.clone())?;
        Ok(Self { name, source, service, region, lease: ArcSwap::from_pointee(lease) })
    }
}

fn lease(name: &Arc<str>, keys: Keys, service: Option<Box<str>>, region: Option<Box<str>>) -> Result<Lease, Problem> {
    let secrets = hidden(&keys);
    let scrubber = Scrubber::new(secrets.iter().map(|s| s.expose().as_slice()))
        .map_err(|_| Problem::new("the keys are too long to be scrubbed from answers"))?;
    let fingerprint = fingerprint(keys.id.expose().as_bytes()).into();
    let inject = Inject::Sign(Arc::new(Signer::new(keys, service, region)));
    let (name, scrubber) = (name.clone(), Some(Arc::new(scrubber)));
    Ok(Lease { name, kind: "aws", fingerprint, expires: None, scope: None, revocable: false, inject, scrubber })
}

impl IssueCredential for OwnKeys {
    fn kind(&self) -> &'static str {
        "aws"
    }

    fn scoped(&self) -> bool {
        false
    }

    fn at_hand(&self, _: &Request<'_>) -> Option<Lease> {
        Some(Lease::clone(&self.lease.load()))
    }

    fn issue<'a>(&'a self, _: &'a Ask) -> Pending<'a, Issued> {
        // They are always at hand.
        Box::pin(ready(Err(Fault::Refused("keys of their own are issued by nobody".to_owned()))))
    }

    fn signs_requests(&self) -> bool {
        true
    }

    fn secrets(&self, see: &mut dyn FnMut(&str)) {
        self.source.secrets(see);
    }

    fn watches(&self) -> bool {
        self.source.watches()
    }

    fn refresh(&self) -> Result<bool, Problem> {
        let changed = self.source.refresh()?;
        if changed {
            self.lease.store(Arc::new(lease(&self.name, self.source.keys(), self.service.clone(), self.region.clone())?));
        }
        Ok(changed)
    }
}
