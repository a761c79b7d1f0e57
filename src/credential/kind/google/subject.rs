use std::{fmt, sync::Arc};

use crate::{
    config::GoogleSubject,
    credential::{
        issue::Fault,
        kind::Made,
        source::{self, Watched},
    },
    problem::Problem,
    secret::Secret,
    tls::OwnSvids,
};

/// What proves Remit to Google: a token of another issuer.
pub(super) enum Subject {
    Given(Watched),
    /// Asked of the Workload API for each use.
    Svid {
        audience: Box<str>,
        svids: Arc<dyn OwnSvids>,
    },
}

impl Subject {
    pub(super) fn new(config: &GoogleSubject, made: &Made<'_>) -> Result<Self, Problem> {
        const KEY: &str = "federation.token";
        match config {
            GoogleSubject::Secret(at) => {
                let read = Watched::line(at, made.env);
                read.map(Self::Given).map_err(|p| if p.key.is_some() { p } else { p.key(format!("{KEY}.{}", source::key(at))) })
            }
            GoogleSubject::Svid(audience) => {
                let none = || {
                    let problem = Problem::new("nothing says where an SVID comes from").key(format!("{KEY}.svid"));
                    problem.help("add `spiffe: {workload_api: env}`")
                };
                Ok(Self::Svid { audience: audience.clone(), svids: made.svids.cloned().ok_or_else(none)? })
            }
        }
    }

    /// The token as it is now.
    pub(super) async fn token(&self) -> Result<Secret<String>, Fault> {
        match self {
            Self::Given(token) => Ok(token.with(|t| Secret::new(t.to_owned()))),
            Self::Svid { audience, svids } => svids.token(audience).await.map_err(Fault::Unavailable),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(token) => token.fmt(f),
            Self::Svid { audience, .. } => write!(f, "Svid({audience})"),
        }
    }
}
