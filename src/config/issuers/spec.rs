use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    config::{Endpoint, Place, SecretSource},
    jose::Algorithm,
};

/// An issuer of tokens, and how theirs are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSpec {
    /// The `iss` of its tokens, compared whole.
    pub issuer: Arc<str>,
    /// One of these must be in `aud`.
    pub audience: Vec<Box<str>>,
    pub algorithms: Vec<Algorithm>,
    /// The `typ` that its tokens may have; they may also have none.
    pub types: Vec<Box<str>>,
    pub by: ProvenBy,
    /// Whether its subjects are Kubernetes service accounts.
    pub kubernetes: bool,
    /// PEM roots of the servers that are asked; None: those of `tls.upstream_roots`.
    pub ca: Option<PathBuf>,
    /// Presented to the servers that are asked.
    pub token: Option<SecretSource>,
    pub principal: Option<PrincipalSpec>,
    /// Audiences of the tokens that may start tasks over the control API.
    pub control: Vec<Box<str>>,
    pub times: IssuerTimes,
    pub place: Place,
}

/// How it is shown that a token is the issuer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvenBy {
    /// By a JWK set.
    Keys(KeysFrom),
    /// By a Kubernetes API server's TokenReview.
    Review(Endpoint),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysFrom {
    File(PathBuf),
    Url(Endpoint),
    /// The `jwks_uri` of the issuer's OpenID Connect discovery document, which is here.
    Discovery(Endpoint),
}

/// The claim that names whom a token's bearer acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalSpec {
    pub claim: Box<str>,
    /// Claims that policies see as `task.principal.claims`.
    pub keep: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerTimes {
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
    /// How often its keys are fetched.
    pub refresh: Duration,
    /// How long keys are used that could not be fetched anew.
    pub stale: Duration,
    /// How long a reviewed token is believed without asking again.
    pub remember: Duration,
}

impl Default for IssuerTimes {
    fn default() -> Self {
        Self {
            leeway: Duration::from_secs(30),
            refresh: Duration::from_secs(15 * 60),
            stale: Duration::from_secs(3600),
            remember: Duration::from_secs(120),
        }
    }
}
