use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{
    keys::{Source, hidden},
    place,
    policy::{literal, session},
    signer::Signer,
    sts::{Asked, Session, Sts},
};
use crate::{
    call::{Host, Inject, Task},
    clock,
    config::{AwsRole, AwsSpec, SecretSource},
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued, Pending},
        kind::Made,
        source::{self, Watched},
    },
    problem::Problem,
};

/// AWS's own bound.
const SHORTEST: Duration = Duration::from_secs(900);
/// How many characters the name of a session, or a source identity, may have.
const LONGEST_NAME: usize = 64;

/// A role that every task assumes for itself, with a session policy made from what its calls need.
///
/// No session can be taken back alone, so each is kept short, and its policy ends with the task.
#[derive(Debug)]
pub(super) struct Assumed {
    sts: Sts,
    role: AwsRole,
    proof: Proof,
    service: Option<Box<str>>,
    region: Option<Box<str>>,
}

/// What STS is shown.
#[derive(Debug)]
enum Proof {
    Keys(Box<Source>),
    Token(Watched),
}

impl Assumed {
    pub(super) fn new(role: &AwsRole, keys: Option<Source>, spec: &AwsSpec, hosts: &[Host], made: &Made<'_>) -> Result<Self, Problem> {
        let token = |at: &SecretSource| {
            Watched::line(at, made.env).map(Proof::Token).map_err(|p| p.key(format!("web_identity.{}", source::key(at))))
        };
        let proof = match (&role.web_identity, keys) {
            (Some(at), _) => token(at)?,
            (None, Some(keys)) => Proof::Keys(Box::new(keys)),
            (None, None) => return Err(Problem::new("nothing proves who assumes the role").key("access_key_id")),
        };
        let region = spec.region.clone().or_else(|| hosts.iter().find_map(|h| place::said_by(h)?.region));
        let sts = Sts::new(role.sts.clone(), region.as_deref(), made.fetch)?;
        Ok(Self { sts, role: role.clone(), proof, service: spec.service.clone(), region: spec.region.clone() })
    }

    /// How long a session is asked for: no longer than its task, but for what STS gives at least.
    fn duration(&self, life: Duration) -> Duration {
        let whole = Duration::from_secs(life.as_secs() + u64::from(life.subsec_nanos() > 0));
        whole.clamp(SHORTEST, self.role.duration)
    }

    async fn assume(&self, ask: &Ask) -> Result<Issued, Fault> {
        let duration = self.duration(ask.life);
        let allow = ask.scope.value().get("allow").unwrap_or(&serde_json::Value::Null);
        let outlives = duration > ask.life;
        let end = outlives.then(|| self.sts.now() + ask.life);
        let policy = session(allow, end).map_err(Fault::Refused)?;
        let principal = &*ask.task.principal.id;
        let by_keys = matches!(self.proof, Proof::Keys(_));
        let asked = Asked {
            role: &self.role.arn,
            session: session_name(&ask.task, by_keys && self.role.source_identity),
            policy,
            duration,
            external_id: self.role.external_id.as_deref(),
            source_identity: (by_keys && self.role.source_identity).then(|| name(principal)).filter(|n| n.len() > 1),
        };
        let answered = match &self.proof {
            Proof::Keys(source) => self.sts.assume(&asked, &source.keys()).await?,
            Proof::Token(token) => self.sts.assume_with_token(&asked, &token.with(|t| crate::secret::Secret::new(t.to_owned()))).await?,
        };
        Ok(self.issued(answered, &asked, ask.life, outlives))
    }

    fn issued(&self, answered: Session, asked: &Asked<'_>, life: Duration, ends_with_task: bool) -> Issued {
        let wider = answered.wider(asked, self.sts.now());
        let lives = Duration::try_from(answered.expires - self.sts.now()).unwrap_or_default();
        let secrets = hidden(&answered.keys);
        let signer = Signer::new(answered.keys, self.service.clone(), self.region.clone()).by_the_clock(self.sts.now() - clock::utc());
        Issued {
            inject: Inject::Sign(Arc::new(signer)),
            secrets,
            // By its own policy it allows nothing past the end of its task.
            lives: Some(if ends_with_task { lives.min(life) } else { lives }),
            handle: None,
            wider,
        }
    }
}

/// What CloudTrail shows of a session: its task, and the principal where no source identity tells of it.
fn session_name(task: &Task, principal_told: bool) -> String {
    let id = name(task.id.as_str());
    if principal_told {
        return id;
    }
    let room = LONGEST_NAME.saturating_sub(id.len() + 1);
    let principal: String = name(&task.principal.id).chars().take(room).collect();
    if principal.is_empty() { id } else { format!("{id}={principal}") }
}

/// A text as STS takes names (`[\w+=,.@-]{2,64}`). One that is changed ends in a part of its hash, so that two stay two.
fn name(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if text.chars().all(fits) && text.len() <= LONGEST_NAME {
        return text.to_owned();
    }
    let hash = crate::credential::kind::fingerprint(text.as_bytes());
    let kept: String = text.chars().take(LONGEST_NAME - hash.len() - 1).map(|c| if fits(c) { c } else { '-' }).collect();
    format!("{kept}-{hash}")
}

impl IssueCredential for Assumed {
    fn kind(&self) -> &'static str {
        "aws"
    }

    fn value<'v>(&self, value: &'v str) -> Option<Cow<'v, str>> {
        Some(literal(value))
    }

    fn issue<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Issued> {
        Box::pin(self.assume(ask))
    }

    fn signs_requests(&self) -> bool {
        true
    }

    fn secrets(&self, see: &mut dyn FnMut(&str)) {
        match &self.proof {
            Proof::Keys(source) => source.secrets(see),
            Proof::Token(token) => token.with(see),
        }
    }

    fn watches(&self) -> bool {
        match &self.proof {
            Proof::Keys(source) => source.watches(),
            Proof::Token(token) => token.is_file(),
        }
    }

    fn refresh(&self) -> Result<bool, Problem> {
        match &self.proof {
            Proof::Keys(source) => source.refresh(),
            Proof::Token(token) => token.refresh(|_| Ok(())).map_err(|p| p.key("web_identity.file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_sts_takes_and_stay_apart() {
        assert_eq!(name("alice@acme.example"), "alice@acme.example");
        let (one, other) = (name("alice smith"), name("alice/smith"));
        assert!(one.starts_with("alice-smith-") && other.starts_with("alice-smith-") && one != other);
        let long = name(&"x".repeat(200));
        assert_eq!(long.len(), LONGEST_NAME);
        assert!(name(&"é".repeat(80)).is_ascii());
    }
}
