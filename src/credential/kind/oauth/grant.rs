//! What a token is given for: one form for each grant.

use std::sync::Arc;

use super::{
    Form,
    kept::{Kept, Turn},
    signed::Signer,
};
use crate::{
    config::{ActorSpec, AssertionSpec, OauthGrant, SubjectSpec, TokenType},
    credential::{
        issue::{Ask, Fault},
        issuer::Issuer,
        kind::Made,
        source,
        source::Watched,
    },
    problem::Problem,
    tls::OwnSvids,
};

#[derive(Debug)]
pub(super) enum Grant {
    ClientCredentials,
    Refresh(Refresh),
    JwtBearer(Token),
    Exchange { subject: Subject, actor: Option<(Token, TokenType)> },
}

/// A user's consent.
#[derive(Debug)]
pub(super) struct Refresh {
    /// As the user's consent gave it; what came of it since is kept.
    first: Watched,
    kept: Arc<Kept>,
}

/// A token that Remit has, or signs.
#[derive(Debug)]
pub(super) enum Token {
    Held(Watched),
    Signed(Box<Signer>),
    /// A JWT-SVID for this audience.
    Svid(Box<str>, Arc<dyn OwnSvids>),
}

#[derive(Debug)]
pub(super) enum Subject {
    Principal(TokenType),
    Held(Watched, TokenType),
}

impl Grant {
    pub(super) fn new(spec: &OauthGrant, audience: &str, made: &Made<'_>) -> Result<Self, Problem> {
        let held = |key: &str, from| Watched::line(from, made.env).map_err(|p| p.key(format!("{key}.{}", source::key(from))));
        let signed = |spec, key| Signer::of(spec, key, audience, made).map(|s| Token::Signed(Box::new(s)));
        Ok(match spec {
            OauthGrant::ClientCredentials => Self::ClientCredentials,
            OauthGrant::RefreshToken { token, keep } => {
                Self::Refresh(Refresh { first: held("refresh", token)?, kept: Kept::of(keep, made.name) })
            }
            OauthGrant::JwtBearer(AssertionSpec::Held(from)) => Self::JwtBearer(Token::Held(held("assertion", from)?)),
            OauthGrant::JwtBearer(AssertionSpec::Signed(spec)) => Self::JwtBearer(signed(spec, "assertion")?),
            OauthGrant::TokenExchange { subject, actor } => Self::Exchange {
                subject: match subject {
                    SubjectSpec::Principal(kind) => Subject::Principal(*kind),
                    SubjectSpec::Held(from, kind) => Subject::Held(held("subject", from)?, *kind),
                },
                actor: match actor {
                    None => None,
                    Some(ActorSpec::Held(from, kind)) => Some((Token::Held(held("actor", from)?), *kind)),
                    Some(ActorSpec::Svid(audience)) => Some((Token::svid(audience, made)?, TokenType::Jwt)),
                    Some(ActorSpec::Signed(spec)) => Some((signed(spec, "actor")?, TokenType::Jwt)),
                },
            },
        })
    }

    /// The right to use what is worth one use.
    pub(super) async fn turn(&self) -> Result<Option<Turn<'_>>, Fault> {
        match self {
            Self::Refresh(refresh) => refresh.kept.turn(&refresh.first).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Whether a refresh token that comes with an answer is the consent itself.
    pub(super) fn keeps_refresh(&self) -> bool {
        matches!(self, Self::Refresh(_))
    }

    /// Adds what the token is asked for by.
    pub(super) async fn fill(&self, form: &mut Form, ask: &Ask, turn: Option<&Turn<'_>>, to: &Issuer) -> Result<(), Fault> {
        match self {
            Self::ClientCredentials => form.push("grant_type", "client_credentials"),
            Self::Refresh(_) => {
                form.push("grant_type", "refresh_token");
                if let Some(turn) = turn {
                    form.push("refresh_token", turn.token());
                }
            }
            Self::JwtBearer(token) => {
                form.push("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                form.push("assertion", token.text(ask, to).await?);
            }
            Self::Exchange { subject, actor } => {
                form.push("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
                form.push("requested_token_type", TokenType::AccessToken.urn());
                subject.fill(form, ask)?;
                if let Some((token, kind)) = actor {
                    form.push("actor_token", token.text(ask, to).await?);
                    form.push("actor_token_type", kind.urn());
                }
            }
        }
        Ok(())
    }

    /// What to mend when the server no longer takes what the token is asked for by.
    pub(super) fn mend(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "look at the client's grants there",
            Self::Refresh(_) => {
                "the user's consent was withdrawn, has expired, or its token was used by someone else too: \
                 let the user consent again, and put the new refresh token in its place"
            }
            Self::JwtBearer(_) => "the assertion was not accepted: look at its issuer, subject, audience and key there, and at both clocks",
            Self::Exchange { subject: Subject::Principal(_), .. } => {
                "the principal's token was not accepted: it may have expired, or not be meant for this server"
            }
            Self::Exchange { subject: Subject::Held(..), .. } => "the subject's token was not accepted: it may have expired",
        }
    }

    pub(super) fn secrets(&self, see: &mut dyn FnMut(&str)) {
        if let Self::Refresh(refresh) = self {
            refresh.kept.secret(see);
        }
        self.watched().for_each(|watched| watched.with(&mut *see));
        self.signers().for_each(|signer| signer.secrets(&mut *see));
    }

    pub(super) fn watches(&self) -> bool {
        self.keeps_refresh() || self.watched().any(Watched::is_file) || self.signers().any(Signer::watches)
    }

    pub(super) fn refresh(&self) -> Result<bool, Problem> {
        let mut changed = false;
        for watched in self.watched() {
            changed |= watched.refresh(|_| Ok(()))?;
        }
        for signer in self.signers() {
            changed |= signer.refresh()?;
        }
        match self {
            Self::Refresh(refresh) => Ok(refresh.kept.settle()? | changed),
            _ => Ok(changed),
        }
    }

    fn watched(&self) -> impl Iterator<Item = &Watched> {
        let (one, two) = match self {
            Self::Refresh(refresh) => (Some(&refresh.first), None),
            Self::JwtBearer(token) => (token.held(), None),
            Self::Exchange { subject, actor } => {
                let subject = match subject {
                    Subject::Held(held, _) => Some(held),
                    Subject::Principal(_) => None,
                };
                (subject, actor.as_ref().and_then(|(token, _)| token.held()))
            }
            Self::ClientCredentials => (None, None),
        };
        one.into_iter().chain(two)
    }

    fn signers(&self) -> impl Iterator<Item = &Signer> {
        let token = match self {
            Self::JwtBearer(token) | Self::Exchange { actor: Some((token, _)), .. } => Some(token),
            _ => None,
        };
        token.into_iter().filter_map(|token| match token {
            Token::Signed(signer) => Some(&**signer),
            Token::Held(_) | Token::Svid(..) => None,
        })
    }
}

impl Token {
    fn svid(audience: &str, made: &Made<'_>) -> Result<Self, Problem> {
        let none = || {
            let help = "add `spiffe: {workload_api: env}`, or the socket of the SPIFFE agent";
            Problem::new("nothing says where an SVID comes from").key("actor.svid").help(help)
        };
        Ok(Self::Svid(audience.into(), made.svids.cloned().ok_or_else(none)?))
    }

    fn held(&self) -> Option<&Watched> {
        match self {
            Self::Held(held) => Some(held),
            Self::Signed(_) | Self::Svid(..) => None,
        }
    }

    async fn text(&self, ask: &Ask, to: &Issuer) -> Result<String, Fault> {
        match self {
            Self::Held(held) => Ok(held.with(str::to_owned)),
            Self::Signed(signer) => signer.sign(Some(&ask.task), to.now()),
            Self::Svid(audience, svids) => {
                let token = svids.token(audience).await.map_err(Fault::Unavailable)?;
                Ok(token.expose().clone())
            }
        }
    }
}

impl Subject {
    fn fill(&self, form: &mut Form, ask: &Ask) -> Result<(), Fault> {
        let kind = match self {
            Self::Held(held, kind) => {
                held.with(|token| form.push("subject_token", token));
                kind
            }
            Self::Principal(kind) => {
                let token = ask.task.proof.held().ok_or_else(|| {
                    let task = &ask.task;
                    Fault::Refused(format!(
                        "no token of {} came with task {}, so none can be exchanged: start it over the control API with the principal's \
                         token, or call the agent through `listen.inbound` with one; after a restart it has to be shown again",
                        task.principal.id, task.id
                    ))
                })?;
                form.push("subject_token", token.expose().as_str());
                kind
            }
        };
        form.push("subject_token_type", kind.urn());
        Ok(())
    }
}
