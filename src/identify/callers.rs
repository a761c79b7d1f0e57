//! Proofs: what a caller shows of who it is, checked.

use std::{collections::HashMap, fmt, sync::Arc};

use moka::sync::Cache;
use ring::digest;
use rustls::RootCertStore;

use crate::{
    call::{Identity, Principal, Proof},
    clock::Moment,
    config::{Config, Roots},
    fetch::Fetch,
    jose::Token,
    problem::{Problem, Problems},
    refusal::{Reason, Refusal},
    secret::Secret,
    tls::{UpstreamTls, load_roots},
};

use super::{
    issuer::{For, Issuer, refused},
    rules::{Identities, Mapped},
    spiffe::Spiffe,
};

/// Tokens remembered, over all connections.
const REMEMBERED: u64 = 8192;

/// Whose tokens and SVIDs prove who calls, and which agent each is. Fixed but for the keys in it; a
/// reload makes a new one, which goes on with the keys of the one before.
pub struct Callers {
    issuers: HashMap<Arc<str>, Issuer>,
    spiffe: Option<Arc<Spiffe>>,
    identities: Identities,
    /// Some credential exchanges the principal's token, so it stays with what it proved.
    keeps: bool,
    /// By SHA-256, so that no token is kept but where one is exchanged.
    proven: Cache<[u8; 32], Arc<Proof>>,
}

impl Callers {
    /// `roots` verify the servers that have the keys, where an issuer names none of its own.
    ///
    /// # Errors
    /// Files that cannot be used, each with its place.
    pub fn new(config: &Config, roots: &RootCertStore, before: Option<&Self>) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut issuers = HashMap::new();
        for spec in &config.issuers {
            let made = servers(spec.ca.as_deref(), roots).and_then(|tls| {
                let before = before.and_then(|b| b.issuers.get(&spec.issuer));
                Issuer::new(spec, Fetch::new(tls, &config.upstream.resolve), before)
            });
            match made {
                Ok(issuer) => drop(issuers.insert(spec.issuer.clone(), issuer)),
                Err(problem) => problems.push(problem),
            }
        }
        let before = before.and_then(|b| b.spiffe.as_deref());
        let spiffe = config.spiffe.as_ref().and_then(|spec| Spiffe::new(spec, before).map(Arc::new).map_err(|p| problems.extend(p)).ok());
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let keeps =
            config.credentials.iter().any(|c| matches!(c.kind, crate::config::CredentialKind::Oauth(ref o) if o.exchanges_principal()));
        Ok(Self { issuers, spiffe, identities: Identities::new(&config.registry), keeps, proven: Cache::new(REMEMBERED) })
    }

    /// Begins to fetch keys, and to fetch them again. Needs a Tokio runtime.
    pub fn begin(&self) {
        self.issuers.values().for_each(Issuer::begin);
        if let Some(spiffe) = &self.spiffe {
            spiffe.begin();
        }
    }

    /// Whether any token could prove anything here.
    #[must_use]
    pub fn take_tokens(&self) -> bool {
        !self.issuers.is_empty() || self.spiffe.as_ref().is_some_and(|s| s.takes_tokens())
    }

    /// What is known of SVIDs, where that is configured.
    #[must_use]
    pub fn spiffe(&self) -> Option<&Arc<Spiffe>> {
        self.spiffe.as_ref()
    }

    /// What a token that came with a call proves.
    ///
    /// # Errors
    /// `no_task` for a token that is not believed, with why; `state_unavailable` when it cannot be
    /// verified now.
    pub async fn prove(&self, token: &[u8], now: Moment) -> Result<Arc<Proof>, Refusal> {
        let digest = digest_of(token);
        if let Some(proof) = self.proven.get(&digest)
            && proof.is_fresh(now)
            && self.believes(&proof)
        {
            return Ok(proof);
        }
        let mut proof = self.look(token, For::Calls, now).await?;
        proof.token = self.kept(token);
        let proof = Arc::new(proof);
        self.proven.insert(digest, proof.clone());
        Ok(proof)
    }

    /// Whom a token that was shown to the control API may start tasks for, and the token where it is exchanged.
    ///
    /// # Errors
    /// As [`Callers::prove`]; a token for calls is none for this.
    pub async fn prove_orchestrator(&self, token: &[u8], now: Moment) -> Result<(Principal, Option<Arc<Secret<String>>>), Refusal> {
        if !self.issuers.values().any(Issuer::orchestrates) {
            return Err(Refusal::new(Reason::NoTask, "no issuer has a `control` audience, so no token may start tasks"));
        }
        let proof = self.look(token, For::Control, now).await?;
        let nobody = || Refusal::new(Reason::NoTask, "the token does not say for whom tasks may be started");
        Ok((proof.principal.ok_or_else(nobody)?, self.kept(token)))
    }

    fn kept(&self, token: &[u8]) -> Option<Arc<Secret<String>>> {
        let token = std::str::from_utf8(token).ok().filter(|_| self.keeps)?;
        Some(Arc::new(Secret::new(token.to_owned())))
    }

    async fn look(&self, raw: &[u8], wanted: For, now: Moment) -> Result<Proof, Refusal> {
        let token = Token::read(raw).map_err(|fault| refused(&fault))?;
        let claimed = token.claimed_issuer().map(crate::jose::quoted);
        match token.claimed_issuer().and_then(|iss| self.issuers.get(iss)) {
            Some(issuer) => issuer.prove(raw, token, wanted, now).await,
            // A JWT-SVID need not say who issued it: its subject's trust domain did.
            None if wanted == For::Calls
                && let Some(spiffe) = self.spiffe.as_ref().filter(|s| s.takes_tokens())
                && token.claimed_subject().is_some_and(|sub| sub.starts_with("spiffe://")) =>
            {
                spiffe.prove_token(token, now)
            }
            None => Err(Refusal::new(
                Reason::NoTask,
                match claimed {
                    Some(iss) => format!("the token was issued by `{iss}`, which is none of `issuers`"),
                    None => "the token does not say who issued it".to_owned(),
                },
            )),
        }
    }

    /// Whether the keys by which a token proved something are still there: a bundle may be unloaded at any time.
    #[must_use]
    pub fn believes(&self, proof: &Proof) -> bool {
        match &proof.identity {
            Identity::Spiffe(id) => self.spiffe.as_ref().is_some_and(|s| s.trusts_tokens(id)),
            Identity::Token { .. } | Identity::ServiceAccount { .. } => true,
        }
    }

    /// A certificate's proof, while it still counts.
    ///
    /// # Errors
    /// `no_task`.
    pub fn still<'a>(&self, proof: &'a Arc<Proof>, now: Moment) -> Result<&'a Arc<Proof>, Refusal> {
        if !proof.counts(now) {
            return Err(Refusal::new(Reason::NoTask, "the certificate of the connection has expired"));
        }
        match (&proof.identity, &self.spiffe) {
            (Identity::Spiffe(id), Some(spiffe)) if spiffe.trusts(id) => Ok(proof),
            _ => Err(Refusal::new(Reason::NoTask, "the trust domain of the connection's certificate is trusted no more")),
        }
    }

    /// The one agent that a proof stands for.
    ///
    /// # Errors
    /// `unknown_agent`, with how to register it.
    pub fn agent_of(&self, proof: &Proof) -> Result<&Mapped, Refusal> {
        self.identities.agent_of(proof)
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").field("issuers", &self.issuers.keys()).finish_non_exhaustive()
    }
}

fn servers(ca: Option<&std::path::Path>, roots: &RootCertStore) -> Result<UpstreamTls, Problem> {
    let roots = match ca {
        None => roots.clone(),
        Some(path) => load_roots(&[Roots::File(path.to_path_buf())]).map_err(|p| p.key("issuers.ca"))?,
    };
    UpstreamTls::new(roots).map_err(|e| Problem::new(format!("TLS to issuers: {e}")))
}

fn digest_of(token: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
    out
}
