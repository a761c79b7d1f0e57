use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use ahash::RandomState;
use arc_swap::ArcSwapOption;

use super::{
    environment::{is_credential_name, is_secret_value},
    foreign,
    issue::IssueCredential,
    kind::{self, Certificate, Fixed, GithubApp, Google, Made, Oauth, Own, Vault},
    scope::Rules,
    scrub::Scrubber,
    source::{self, Env},
};
use crate::{
    call::{Body, Destination, Head, Host, Operation, Scheme, Search},
    config::{CredentialKind, CredentialSpec, ScopeSpec},
    fetch::Fetch,
    problem::{Problem, Problems, nearest},
    refusal::{Reason, Refusal},
    tls::OwnSvids,
};

/// Secrets shorter than this are warned about: an agent that can make a server echo parts of its
/// answer could guess them, and their derived forms hit ordinary text.
const SHORT: usize = 16;
/// Lines of a key that are shorter stand in other keys too.
const KEY_LINE: usize = 32;
/// How often secret files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The configured credentials: which one a call gets, and the lease of it.
#[derive(Debug)]
pub struct Broker {
    credentials: HashMap<Arc<str>, Arc<Credential>, RandomState>,
    /// Finds a configured secret in what the agent sends: then it has leaked.
    leaks: ArcSwapOption<Scrubber>,
    placeholders: Arc<foreign::Placeholders>,
    warnings: Vec<Problem>,
}

/// The credential that a call gets.
#[derive(Debug, Clone)]
pub struct Choice(pub(super) Arc<Credential>);

/// A configured credential.
#[derive(Debug)]
pub(super) struct Credential {
    pub(super) name: Arc<str>,
    hosts: Vec<Host>,
    pub(super) issuer: Arc<dyn IssueCredential>,
    /// What is asked of the issuer for which intents.
    pub(super) scope: Rules,
    /// All that the configuration says of it.
    written: Box<str>,
}

impl Choice {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// `static`, `own`, …
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.0.issuer.kind()
    }

    /// Whether the agent's own login passes: the permit then needs `with_own_login`.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0.issuer.is_own()
    }
}

impl Broker {
    /// Reads every configured secret.
    ///
    /// # Errors
    /// Every secret that is missing or unusable, each with the variable or file it should be in.
    pub fn new(specs: &[CredentialSpec], fetch: &Fetch, svids: Option<&Arc<dyn OwnSvids>>) -> Result<Self, Problems> {
        Self::made(specs, fetch, svids, &|name| std::env::var_os(name))
    }

    /// As [`Broker::new`], with variables from `env` and no SVIDs.
    ///
    /// # Errors
    /// As [`Broker::new`].
    pub fn with_environment(specs: &[CredentialSpec], fetch: &Fetch, env: Env<'_>) -> Result<Self, Problems> {
        Self::made(specs, fetch, None, env)
    }

    fn made(specs: &[CredentialSpec], fetch: &Fetch, svids: Option<&Arc<dyn OwnSvids>>, env: Env<'_>) -> Result<Self, Problems> {
        let mut credentials = HashMap::default();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for spec in specs {
            let key = format!("credentials.{}", spec.name);
            match credential(spec, &Made { name: &spec.name, env, fetch, svids }) {
                Ok(built) => {
                    warnings.extend(warn_if_short(&built).map(|w| placed(w, spec)));
                    if credentials.insert(spec.name.clone(), Arc::new(built)).is_some() {
                        problems.push(placed(Problem::new("a credential of this name is already configured").key(key), spec));
                    }
                }
                Err(problem) => {
                    let key = problem.key.as_ref().map_or_else(|| key.clone(), |k| format!("{key}.{k}"));
                    problems.push(placed(problem.key(key), spec));
                }
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let broker = Self { credentials, leaks: ArcSwapOption::empty(), placeholders: Arc::default(), warnings };
        broker.learn_leaks()?;
        Ok(broker)
    }

    /// With one credential of a test's own.
    #[cfg(test)]
    pub(super) fn of(credential: Arc<Credential>) -> Self {
        let credentials = [(credential.name.clone(), credential)].into_iter().collect();
        let (leaks, placeholders) = (ArcSwapOption::empty(), Arc::default());
        Self { credentials, leaks, placeholders, warnings: Vec::new() }
    }

    /// The values given to the agent in place of secrets: wherever they stand, they are none.
    #[must_use]
    pub fn with_placeholders<'a>(mut self, values: impl IntoIterator<Item = &'a str>) -> Self {
        self.know_placeholders(values);
        self
    }

    /// As [`Broker::with_placeholders`], for a broker that has a place already.
    pub fn know_placeholders<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) {
        self.placeholders = Arc::new(foreign::Placeholders::new(values));
    }

    /// What is not wrong, but should be known: a secret that is short.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The kind of each configured credential, by name.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.credentials.iter().map(|(name, c)| (&**name, c.issuer.kind()))
    }

    /// The credential for a call: the grant's, else the workflow's, else the provider's. None when
    /// the operation takes none, or nobody configured the provider's.
    ///
    /// # Errors
    /// `credential_unavailable` when a grant or workflow names one that is not configured or may
    /// not go to this destination: it is never replaced by another.
    pub fn choose(
        &self,
        grant: Option<&str>,
        workflow: Option<&str>,
        provider: Option<&str>,
        to: &Destination,
        operation: &Operation,
    ) -> Result<Option<Choice>, Refusal> {
        if !operation.takes_credential {
            return Ok(None);
        }
        if let Some((name, by)) = grant.map(|n| (n, "grant")).or_else(|| workflow.map(|n| (n, "workflow"))) {
            return self.named(name, by, to).map(Some);
        }
        let found = provider.and_then(|name| self.credentials.get(name));
        Ok(found.filter(|c| goes_to(c, to).is_ok()).map(|c| Choice(c.clone())))
    }

    fn named(&self, name: &str, by: &str, to: &Destination) -> Result<Choice, Refusal> {
        let unavailable = |detail: String| Refusal::new(Reason::CredentialUnavailable, detail);
        let Some(credential) = self.credentials.get(name) else {
            let near = nearest(name, self.credentials.keys().map(|k| &**k));
            let hint = near.map(|n| format!("; did the {by} mean `{n}`?")).unwrap_or_default();
            return Err(unavailable(format!("the {by} names the credential `{name}`, which is not configured{hint}")));
        };
        match goes_to(credential, to) {
            Ok(()) => Ok(Choice(credential.clone())),
            Err(why) => Err(unavailable(format!("the {by} names the credential `{name}`, which {why}"))),
        }
    }

    /// The scopes that credentials ask for, with the parameters that each fills in.
    pub fn scopes(&self) -> impl Iterator<Item = (&Arc<str>, &ScopeSpec, &[Box<str>])> {
        self.credentials.values().flat_map(|c| c.scope.uses().map(|(spec, uses)| (&c.name, spec, uses)))
    }

    /// Whether some credential's leases are issued for a task, and so are to be revoked.
    #[must_use]
    pub fn issues(&self) -> bool {
        self.credentials.values().any(|c| c.issuer.scoped())
    }

    /// Who issues each credential.
    pub(super) fn issuers(&self) -> impl Iterator<Item = (Arc<str>, Arc<dyn IssueCredential>)> {
        self.credentials.iter().map(|(name, c)| (name.clone(), c.issuer.clone()))
    }

    /// Judges what of a request is a credential although no credential field carries it, and
    /// whether it holds a configured secret, which then has leaked. `choice` is what the call gets.
    ///
    /// # Errors
    /// `foreign_credential`, naming the place and never the value.
    pub fn foreign(&self, head: &Head, body: &Body, choice: Option<&Choice>) -> Result<(), Refusal> {
        let query = choice.and_then(|c| c.0.issuer.query_name());
        let own = choice.is_some_and(Choice::is_own);
        let signs = choice.is_some_and(|c| c.0.issuer.signs_requests());
        if signs && head.path.query().is_some_and(kind::is_presigned) {
            let why = "the request is signed in its query: sign it in `Authorization`, with a placeholder; Remit signs it anew";
            return Err(Refusal::new(Reason::ForeignCredential, why));
        }
        foreign::judge(head, body, &foreign::Known { placeholders: &self.placeholders, leaks: self.leaks.load().as_deref(), query, own })
    }

    /// The same judgement for a body that streams; `own` where the agent's own login passes.
    #[must_use]
    pub fn search(&self, head: &Head, own: bool) -> Box<dyn Search> {
        Box::new(foreign::Stream::new(head, &self.placeholders, self.leaks.load_full(), own))
    }

    /// Whether `value` holds a configured secret in any form. A secret so short that it stands in
    /// ordinary text must be the whole of it.
    #[must_use]
    pub fn holds_secret(&self, value: &[u8]) -> bool {
        let holds = |secret: &str| match secret.len() {
            0..8 => value == secret.as_bytes(),
            _ => memchr::memmem::find(value, secret.as_bytes()).is_some(),
        };
        let mut raw = false;
        self.credentials.values().for_each(|c| c.issuer.secrets(&mut |secret| raw |= holds(secret)));
        raw || self.leaks.load().as_ref().is_some_and(|l| l.finds(value))
    }

    /// Whether `remit run` keeps a variable from its child: by its name, because its value holds a
    /// configured secret, or because it has the format of a well-known one.
    #[must_use]
    pub fn keeps_from_child(&self, name: &str, value: &[u8]) -> bool {
        is_credential_name(name) || self.holds_secret(value) || is_secret_value(value)
    }

    /// Reads the secret files that changed. What cannot be read keeps its old value and is
    /// returned as a problem. Blocks on the file system: not for the path of a call.
    pub fn refresh(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut changed = false;
        for credential in self.credentials.values() {
            match credential.issuer.refresh() {
                Ok(new) => changed |= new,
                Err(problem) => problems.push(problem.key(format!("credentials.{}", credential.name))),
            }
        }
        if changed && let Err(more) = self.learn_leaks() {
            problems.extend(more.0);
        }
        problems
    }

    /// Looks at the secret files every second until the broker is gone; `report` gets each problem
    /// once, until it changes. Needs a tokio runtime.
    pub fn watch(self: &Arc<Self>, report: impl Fn(&Problem) + Send + 'static) {
        if !self.credentials.values().any(|c| c.issuer.watches()) {
            return;
        }
        let broker = Arc::downgrade(self);
        tokio::spawn(watch(broker, report));
    }

    fn learn_leaks(&self) -> Result<(), Problems> {
        let mut values = Vec::new();
        for credential in self.credentials.values() {
            credential.issuer.secrets(&mut |v| {
                if v.len() >= SHORT {
                    values.push(crate::secret::Secret::new(v.as_bytes().to_vec()));
                }
                // A line of a key gives as much away as the key.
                let lines = v.lines().filter(|l| v.starts_with("-----BEGIN") && l.len() >= KEY_LINE && !l.starts_with("-----"));
                values.extend(lines.map(|l| crate::secret::Secret::new(l.as_bytes().to_vec())));
            });
        }
        let scrubber = Scrubber::new(values.iter().map(|v| v.expose().as_slice()))
            .map_err(|_| Problem::new("the configured secrets are too long to be searched for"))?;
        self.leaks.store((!values.is_empty()).then(|| Arc::new(scrubber)));
        Ok(())
    }
}

async fn watch(broker: Weak<Broker>, report: impl Fn(&Problem)) {
    let mut known: Vec<Problem> = Vec::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(broker) = broker.upgrade() else { return };
        let Ok(problems) = tokio::task::spawn_blocking(move || broker.refresh()).await else { return };
        problems.iter().filter(|p| !known.contains(p)).for_each(&report);
        known = problems;
    }
}

impl Credential {
    /// With an issuer of a test's own.
    #[cfg(test)]
    pub(super) fn of(name: &str, issuer: Arc<dyn IssueCredential>, scope: &[ScopeSpec]) -> Arc<Self> {
        let scope = Rules::new(scope).unwrap();
        Arc::new(Self { name: name.into(), hosts: Vec::new(), issuer, scope, written: name.into() })
    }

    /// Whether both are the same, also when one was loaded anew.
    pub(super) fn is(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || self.written == other.written
    }
}

/// Whether a credential may go to a destination, or why not.
fn goes_to(credential: &Credential, to: &Destination) -> Result<(), String> {
    if !credential.hosts.contains(&to.host) {
        let hosts: Vec<&str> = credential.hosts.iter().map(Host::as_str).collect();
        return Err(format!("goes only to {}, not to {}", hosts.join(", "), to.host));
    }
    let loopback = to.host.as_str() == "localhost" || to.host.ip().is_some_and(|ip| ip.is_loopback());
    if to.scheme == Scheme::Http && !loopback {
        return Err(format!("is not sent to {} over plain http; use https", to.host));
    }
    Ok(())
}

fn credential(spec: &CredentialSpec, made: &Made<'_>) -> Result<Credential, Problem> {
    if spec.hosts.is_empty() {
        return Err(Problem::new("a credential without hosts goes nowhere").key("hosts").help("list the exact hosts it may go to"));
    }
    let issuer: Arc<dyn IssueCredential> = match &spec.kind {
        CredentialKind::Static { secret, inject } => {
            let built = Fixed::new(spec.name.clone(), secret, inject.clone(), made.env);
            Arc::new(built.map_err(|p| if p.key.is_some() { p } else { p.key(format!("secret.{}", source::key(secret))) })?)
        }
        CredentialKind::Own => Arc::new(Own::new(spec.name.clone())),
        CredentialKind::Aws(aws) => kind::aws(aws, &spec.hosts, made)?,
        CredentialKind::GithubApp(config) => Arc::new(GithubApp::new(config, made)?),
        CredentialKind::Google(config) => Arc::new(Google::new(config, made)?),
        CredentialKind::Certificate(certificate) => Arc::new(Certificate::new(certificate, made)?),
        CredentialKind::Vault(vault) => Arc::new(Vault::new(vault, made)?),
        CredentialKind::Oauth(oauth) => Arc::new(Oauth::new(oauth, made)?),
    };
    Ok(Credential {
        name: spec.name.clone(),
        hosts: spec.hosts.clone(),
        issuer,
        scope: Rules::new(&spec.scope)?,
        written: format!("{spec:?}").into(),
    })
}

fn warn_if_short(credential: &Credential) -> Option<Problem> {
    let mut length = usize::MAX;
    credential.issuer.secrets(&mut |v| length = length.min(v.len()));
    (length < SHORT).then(|| {
        Problem::new(format!(
            "the secret has {length} bytes; one under {SHORT} can be guessed from what is scrubbed, and is not searched for in requests"
        ))
        .key(format!("credentials.{}", credential.name))
        .help("use a longer one")
    })
}

fn placed(problem: Problem, spec: &CredentialSpec) -> Problem {
    if spec.place.file.as_os_str().is_empty() {
        return problem;
    }
    problem.at(spec.place.file.clone(), (spec.place.line > 0).then_some(spec.place.line))
}

#[cfg(test)]
mod tests;
