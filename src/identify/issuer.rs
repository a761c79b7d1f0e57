//! One issuer's tokens.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::{
    call::{Identity, Principal, Proof},
    clock::Moment,
    config::{IssuerSpec, ProvenBy},
    jose::{Claims, Fault, Leeway, Token},
    problem::Problem,
    refusal::{Reason, Refusal},
};

use crate::fetch::Fetch;

use super::{
    fetch::Ask,
    key_source::KeySource,
    review::{self, Reviewed, Reviewer},
};

/// How long a verified token is believed without another look at the keys: those may have been withdrawn.
const REMEMBERED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) spec: IssuerSpec,
    by: By,
}

#[derive(Debug)]
enum By {
    Keys(Arc<KeySource>),
    Review(Arc<Reviewer>),
}

/// For what a token is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// A call of an agent.
    Calls,
    /// To start tasks over the control API.
    Control,
}

impl Issuer {
    /// `before` had the same spec: what it has fetched goes on counting.
    pub(super) fn new(spec: &IssuerSpec, fetch: Fetch, before: Option<&Self>) -> Result<Self, Problem> {
        let by = match (before.filter(|b| b.spec == *spec).map(|b| &b.by), &spec.by) {
            // A file is read anew, since it may be what has changed.
            (Some(By::Keys(source)), ProvenBy::Keys(from)) if !matches!(from, crate::config::KeysFrom::File(_)) => By::Keys(source.clone()),
            (Some(By::Review(reviewer)), _) => By::Review(reviewer.clone()),
            (_, ProvenBy::Review(at)) => By::Review(Arc::new(Reviewer::new(at.clone(), Ask::new(fetch, spec.token.clone())))),
            (_, ProvenBy::Keys(from)) => {
                let source = KeySource::new(spec, from, Ask::new(fetch, spec.token.clone())).map_err(|why| {
                    let problem = Problem::new(format!("the keys of `{}` cannot be used: {why}", spec.issuer));
                    problem.at(&spec.place.file, Some(spec.place.line)).key("issuers").help("give a JWK set with at least one public key")
                })?;
                By::Keys(Arc::new(source))
            }
        };
        Ok(Self { spec: spec.clone(), by })
    }

    /// Whether its tokens may start tasks.
    pub(super) fn orchestrates(&self) -> bool {
        !self.spec.control.is_empty()
    }

    pub(super) fn begin(&self) {
        if let By::Keys(source) = &self.by {
            source.begin();
        }
    }

    /// Checks a token that says it is this issuer's.
    pub(super) async fn prove(&self, raw: &[u8], token: Token, wanted: For, now: Moment) -> Result<Proof, Refusal> {
        let types: Vec<&str> = self.spec.types.iter().map(|t| &**t).collect();
        token.check_type(&types, true).map_err(|fault| refused(&fault))?;
        match &self.by {
            By::Keys(source) => {
                let claims = self.verified(source, raw, token, now).await?;
                self.proof(&claims, wanted, None, REMEMBERED, now)
            }
            By::Review(reviewer) => {
                // Nothing of it is believed yet: this only spares the cluster what it would refuse.
                let claims = token.unverified();
                self.check(&claims, wanted, now)?;
                let text = std::str::from_utf8(raw).map_err(|_| refused(&Fault::Malformed("it is no text")))?;
                match reviewer.user(text, self.audience(wanted)).await {
                    Ok(user) => self.proof(&claims, wanted, Some(&user), self.spec.times.remember, now),
                    Err(Reviewed::No(why)) => Err(Refusal::new(Reason::NoTask, why)),
                    Err(Reviewed::Unanswered(why)) => Err(unavailable(&why)),
                }
            }
        }
    }

    async fn verified(&self, source: &KeySource, raw: &[u8], token: Token, now: Moment) -> Result<Claims, Refusal> {
        let first = match source.keys(now.instant) {
            Ok(keys) => token.verify(&keys, &self.spec.algorithms),
            Err(_) => Err(Fault::UnknownKey(String::new())),
        };
        match first {
            Ok(verified) => return Ok(verified.claims),
            Err(Fault::UnknownKey(_)) => source.look_again().await,
            Err(fault) => return Err(refused(&fault)),
        }
        let keys = source.keys(Moment::now().instant).map_err(|why| unavailable(&why))?;
        let again = Token::read(raw).and_then(|t| t.verify(&keys, &self.spec.algorithms));
        again.map(|v| v.claims).map_err(|fault| refused(&fault))
    }

    fn audience(&self, wanted: For) -> &[Box<str>] {
        match wanted {
            For::Calls => &self.spec.audience,
            For::Control => &self.spec.control,
        }
    }

    /// Answers when it expires, in seconds since 1970.
    fn check(&self, claims: &Claims, wanted: For, now: Moment) -> Result<i64, Refusal> {
        let checked = || {
            claims.check_issuer(&self.spec.issuer)?;
            claims.check_audience(self.audience(wanted))?;
            claims.check_times(now, Leeway(self.spec.times.leeway))
        };
        checked().map_err(|fault| refused(&fault))
    }

    /// `user`: who the cluster says it is.
    fn proof(&self, claims: &Claims, wanted: For, user: Option<&str>, remember: Duration, now: Moment) -> Result<Proof, Refusal> {
        let expires = self.check(claims, wanted, now)?;
        let subject = claims.text("sub").ok_or_else(|| refused(&Fault::Claim("sub")))?;
        let identity = if self.spec.kubernetes {
            let name = review::account(user.unwrap_or(subject));
            let name = name.ok_or_else(|| Refusal::new(Reason::NoTask, "the cluster's token is that of no service account"))?;
            Identity::ServiceAccount { issuer: self.spec.issuer.clone(), name: name.into() }
        } else {
            Identity::Token { issuer: self.spec.issuer.clone(), subject: subject.into() }
        };
        let left = expires.saturating_sub(now.utc.unix_timestamp());
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(0)) + self.spec.times.leeway;
        let principal = self.principal(claims)?;
        Ok(Proof {
            identity,
            claims: claims.all().clone(),
            certificate: None,
            principal,
            token: None,
            until: now.later(left),
            again: now.later(remember.min(left)),
        })
    }

    fn principal(&self, claims: &Claims) -> Result<Option<Principal>, Refusal> {
        let Some(rule) = &self.spec.principal else { return Ok(None) };
        let Some(id) = claims.text(&rule.claim).filter(|id| id.len() <= 256 && !id.chars().any(char::is_control)) else {
            let missing = format!("the token does not say for whom it is: its `{}` is missing or is no name", rule.claim);
            return Err(Refusal::new(Reason::NoTask, missing));
        };
        let kept: Map<String, Value> = rule.keep.iter().filter_map(|name| Some((name.to_string(), claims.get(name)?.clone()))).collect();
        Ok(Some(Principal { id: id.into(), verified: true, claims: Value::Object(kept) }))
    }
}

/// A token that is not believed leaves its call without a task.
pub(super) fn refused(fault: &Fault) -> Refusal {
    tracing::debug!(fault = fault.code(), "a token was refused");
    Refusal::new(Reason::NoTask, fault.to_string())
}

pub(super) fn unavailable(why: &str) -> Refusal {
    Refusal::new(Reason::StateUnavailable, format!("the token cannot be verified now: {why}"))
}
