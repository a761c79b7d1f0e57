use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    config::{SecretSource, VaultLogin},
    credential::{
        issue::Fault,
        kind::Made,
        source::{self, Watched},
    },
    problem::Problem,
    tls::OwnSvids,
};

/// How Remit proves itself to the server.
#[derive(Debug)]
pub(super) enum Login {
    Token(Watched),
    AppRole { mount: String, role_id: String, secret_id: Option<Watched> },
    Jwt { mount: String, role: String, jwt: Watched },
    Svid { mount: String, role: String, audience: String, svids: Arc<dyn OwnSvids> },
}

/// What is done to log in.
pub(super) enum By {
    Token(String),
    /// This is asked at this path.
    Asking(String, Value),
}

impl Login {
    pub(super) fn new(spec: &VaultLogin, made: &Made<'_>) -> Result<Self, Problem> {
        let watched = |source: &SecretSource, key: &str| {
            Watched::line(source, made.env)
                .map_err(|p| if p.key.is_some() { p } else { p.key(format!("login.{key}.{}", source::key(source))) })
        };
        Ok(match spec {
            VaultLogin::Token(source) => Login::Token(watched(source, "token")?),
            VaultLogin::AppRole { mount, role_id, secret_id } => Login::AppRole {
                mount: mount.clone(),
                role_id: role_id.clone(),
                secret_id: secret_id.as_ref().map(|s| watched(s, "approle.secret_id")).transpose()?,
            },
            VaultLogin::Jwt { method, mount, role, jwt } => {
                Login::Jwt { mount: mount.clone(), role: role.clone(), jwt: watched(jwt, &format!("{method}.jwt"))? }
            }
            VaultLogin::Svid { mount, role, audience } => {
                let none = || Problem::new("nothing says where an SVID comes from").help("add `spiffe: {workload_api: env}`");
                let svids = made.svids.cloned().ok_or_else(|| none().key("login.jwt.jwt.svid"))?;
                Self::Svid { mount: mount.clone(), role: role.clone(), audience: audience.clone(), svids }
            }
        })
    }

    pub(super) async fn ask(&self) -> Result<By, Fault> {
        Ok(match self {
            Self::Token(token) => By::Token(token.with(str::to_owned)),
            Self::AppRole { mount, role_id, secret_id } => {
                let mut body = json!({"role_id": role_id});
                if let Some(secret_id) = secret_id {
                    body["secret_id"] = secret_id.with(|text| Value::from(text));
                }
                By::Asking(format!("auth/{mount}/login"), body)
            }
            Self::Jwt { mount, role, jwt } => {
                By::Asking(format!("auth/{mount}/login"), json!({"role": role, "jwt": jwt.with(|text| Value::from(text))}))
            }
            Self::Svid { mount, role, audience, svids } => {
                let svid = svids.token(audience).await.map_err(Fault::Unavailable)?;
                By::Asking(format!("auth/{mount}/login"), json!({"role": role, "jwt": svid.expose()}))
            }
        })
    }

    pub(super) fn secret(&self) -> Option<&Watched> {
        match self {
            Self::Token(secret) | Self::Jwt { jwt: secret, .. } => Some(secret),
            Self::AppRole { secret_id, .. } => secret_id.as_ref(),
            Self::Svid { .. } => None,
        }
    }
}
