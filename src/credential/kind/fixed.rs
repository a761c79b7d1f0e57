use std::{ffi::OsString, future::ready, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header};
use parking_lot::Mutex;

use super::fingerprint;
use crate::{
    call::{Inject, Lease},
    config::{InjectSpec, SecretSource},
    credential::{
        issue::{IssueCredential, Pending, Request, Revoked},
        scrub::Scrubber,
        source::{self, Stamp},
    },
    problem::Problem,
    refusal::{Reason, Refusal},
    secret::Secret,
};

/// Kind `static`: a value from a variable or a file, the same for every task.
#[derive(Debug)]
pub(in crate::credential) struct Fixed {
    name: Arc<str>,
    source: SecretSource,
    inject: InjectSpec,
    ready: ArcSwap<Ready>,
    /// The file's state when it was last looked at; None for a variable.
    stamp: Mutex<Option<Stamp>>,
}

/// What a lease is cloned from.
#[derive(Debug)]
struct Ready {
    value: Secret<String>,
    lease: Lease,
    /// The same, as the password of each user that some provider takes it with.
    basics: ArcSwap<Vec<(Arc<str>, Lease)>>,
}

impl Fixed {
    pub(in crate::credential) fn new(
        name: Arc<str>,
        source: SecretSource,
        inject: InjectSpec,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Problem> {
        // Before the value, so that a change between the two is seen as one.
        let stamp = stamp_of(&source);
        let value = source::read(&source, env)?;
        let ready = ArcSwap::from_pointee(Ready::new(&name, &inject, value)?);
        Ok(Self { name, source, inject, ready, stamp: Mutex::new(stamp) })
    }

    /// The value in force.
    pub(in crate::credential) fn with_value<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        read(self.ready.load().value.expose())
    }

    /// The query parameter it is injected as.
    pub(in crate::credential) fn query_name(&self) -> Option<&str> {
        match &self.inject {
            InjectSpec::Query(name) => Some(name),
            InjectSpec::Bearer | InjectSpec::Basic { .. } | InjectSpec::Header(_) => None,
        }
    }

    pub(in crate::credential) fn is_file(&self) -> bool {
        matches!(self.source, SecretSource::File(_))
    }

    /// Reads the file again if it changed; true when another value is in force. On a problem the
    /// old value stays, and the file is read again next time.
    pub(in crate::credential) fn refresh(&self) -> Result<bool, Problem> {
        if !self.is_file() {
            return Ok(false);
        }
        let mut stamp = self.stamp.lock();
        let now = stamp_of(&self.source);
        if now.is_some() && now == *stamp {
            return Ok(false);
        }
        // A broken state is forgotten, so that it is reported until it is mended.
        *stamp = None;
        let value = source::read(&self.source, &|_| None)?;
        let fresh = Ready::new(&self.name, &self.inject, value)?;
        *stamp = now;
        let changed = fresh.value.expose() != self.ready.load().value.expose();
        if changed {
            self.ready.store(Arc::new(fresh));
        }
        Ok(changed)
    }

    /// The lease for a call. A bearer token goes to a provider that takes basic authentication
    /// alone as the password of the user that the catalog names.
    fn lease(&self, request: &Request<'_>) -> Option<Lease> {
        let ready = self.ready.load();
        let user = request.intents.first().and_then(|i| i.operation.provider.basic.as_ref());
        let Some(user) = user.filter(|_| self.inject == InjectSpec::Bearer) else { return Some(ready.lease.clone()) };
        if let Some((_, lease)) = ready.basics.load().iter().find(|(u, _)| u == user) {
            return Some(lease.clone());
        }
        let inject = InjectSpec::Basic { user: user.to_string() };
        let fresh = Ready::new(&self.name, &inject, Secret::new(ready.value.expose().clone())).ok()?.lease;
        ready.basics.rcu(|known| known.iter().cloned().chain([(user.clone(), fresh.clone())]).collect::<Vec<_>>());
        Some(fresh)
    }
}

fn stamp_of(source: &SecretSource) -> Option<Stamp> {
    match source {
        SecretSource::Env(_) => None,
        SecretSource::File(path) => Stamp::of(path).ok(),
    }
}

impl Ready {
    fn new(name: &Arc<str>, inject: &InjectSpec, value: Secret<String>) -> Result<Self, Problem> {
        let text = value.expose();
        let (inject, rendered) = match inject {
            InjectSpec::Bearer => (Inject::Header(header::AUTHORIZATION, sensitive(&format!("Bearer {text}"))?), None),
            InjectSpec::Basic { user } => {
                if user.contains(':') {
                    return Err(Problem::new("the user of a basic credential holds `:`").key("inject.basic.user"));
                }
                let pair = Secret::new(STANDARD.encode(format!("{user}:{text}")));
                (Inject::Header(header::AUTHORIZATION, sensitive(&format!("Basic {}", pair.expose()))?), Some(pair))
            }
            InjectSpec::Header(field) => (Inject::Header(field.clone(), sensitive(text)?), None),
            InjectSpec::Query(field) => (Inject::Query(field.as_str().into(), Secret::new(text.as_str().into())), None),
        };
        let values = [Some(text.as_bytes()), rendered.as_ref().map(|r| r.expose().as_bytes())];
        let scrubber =
            Scrubber::new(values.into_iter().flatten()).map_err(|_| Problem::new("the secret is too long to be scrubbed from answers"))?;
        let fingerprint = Arc::from(fingerprint(text.as_bytes()));
        let lease = Lease { name: name.clone(), kind: "static", fingerprint, expires: None, inject, scrubber: Some(Arc::new(scrubber)) };
        Ok(Self { value, lease, basics: ArcSwap::default() })
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Problem::new("the secret holds characters that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl IssueCredential for Fixed {
    fn kind(&self) -> &'static str {
        "static"
    }

    fn at_hand(&self, request: &Request<'_>) -> Option<Lease> {
        self.lease(request)
    }

    fn issue<'a>(&'a self, request: Request<'a>) -> Pending<'a, Lease> {
        // Only a value that no header can carry gives none, and such a one was refused when it was read.
        let detail = "the secret cannot be sent by basic authentication";
        Box::pin(ready(self.lease(&request).ok_or_else(|| Refusal::new(Reason::CredentialUnavailable, detail))))
    }

    fn renew<'a>(&'a self, _: &'a Lease, request: Request<'a>) -> Pending<'a, Lease> {
        self.issue(request)
    }

    /// A static secret has no issuer to ask: whoever made it rotates it.
    fn revoke<'a>(&'a self, _: &'a Lease) -> Pending<'a, Revoked> {
        Box::pin(ready(Ok(Revoked::Irrevocable)))
    }
}
