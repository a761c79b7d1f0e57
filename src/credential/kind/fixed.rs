use std::{future::ready, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header};

use super::fingerprint;
use crate::{
    call::{Inject, Lease},
    config::{InjectSpec, SecretSource},
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued, Pending, Request},
        scrub::Scrubber,
        source::{Env, Watched},
    },
    problem::Problem,
    secret::Secret,
};

/// Kind `static`: a value from a variable or a file, the same for every task.
#[derive(Debug)]
pub(in crate::credential) struct Fixed {
    name: Arc<str>,
    secret: Watched,
    inject: InjectSpec,
    ready: ArcSwap<Ready>,
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
    pub(in crate::credential) fn new(name: Arc<str>, source: &SecretSource, inject: InjectSpec, env: Env<'_>) -> Result<Self, Problem> {
        let secret = Watched::line(source, env)?;
        let ready = secret.with(|value| Ready::new(&name, &inject, Secret::new(value.to_owned())))?;
        Ok(Self { name, secret, inject, ready: ArcSwap::from_pointee(ready) })
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
        let scrubber = Some(Arc::new(scrubber));
        let lease =
            Lease { name: name.clone(), kind: "static", fingerprint, expires: None, scope: None, revocable: false, inject, scrubber };
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

    fn scoped(&self) -> bool {
        false
    }

    fn at_hand(&self, request: &Request<'_>) -> Option<Lease> {
        self.lease(request)
    }

    fn issue<'a>(&'a self, _: &'a Ask) -> Pending<'a, Issued> {
        // Only a value that no header can carry is not at hand, and such a one was refused when it was read.
        Box::pin(ready(Err(Fault::Refused("the secret cannot be sent by basic authentication".to_owned()))))
    }

    fn secrets(&self, see: &mut dyn FnMut(&str)) {
        self.secret.with(see);
    }

    fn query_name(&self) -> Option<&str> {
        match &self.inject {
            InjectSpec::Query(name) => Some(name),
            InjectSpec::Bearer | InjectSpec::Basic { .. } | InjectSpec::Header(_) => None,
        }
    }

    fn watches(&self) -> bool {
        self.secret.is_file()
    }

    fn refresh(&self) -> Result<bool, Problem> {
        let mut fresh = None;
        let changed = self.secret.refresh(|value| {
            fresh = Some(Ready::new(&self.name, &self.inject, Secret::new(value.to_owned()))?);
            Ok(())
        })?;
        if let Some(fresh) = fresh.filter(|_| changed) {
            self.ready.store(Arc::new(fresh));
        }
        Ok(changed)
    }
}
