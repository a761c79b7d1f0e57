//! What proves who calls is asked of its issuer, with a token of Remit's own where it wants one.

use std::io;

use bytes::Bytes;
use http::{StatusCode, header::AUTHORIZATION};

use crate::{
    config::{Endpoint, SecretSource},
    fetch::{Fetch, Query},
    secret::Secret,
};

const LARGEST_TOKEN: u64 = 64 << 10;

/// Asks whoever knows the keys.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    fetch: Fetch,
    /// Presented as a bearer token; read anew each time, since it rotates.
    token: Option<SecretSource>,
}

impl Ask {
    pub(super) fn new(fetch: Fetch, token: Option<SecretSource>) -> Self {
        Self { fetch, token }
    }

    /// The body of a 200.
    pub(super) async fn get(&self, at: &Endpoint) -> Result<Bytes, String> {
        self.send(at, Query::get(&*at.path)).await
    }

    /// Posts JSON; the body of a 200 or 201.
    pub(super) async fn post(&self, at: &Endpoint, path: &str, body: &serde_json::Value) -> Result<Bytes, String> {
        self.send(at, Query::post_json(path, body)).await
    }

    async fn send(&self, at: &Endpoint, mut query: Query) -> Result<Bytes, String> {
        if let Some(token) = self.bearer()? {
            query = query.with_secret(AUTHORIZATION, token.expose())?;
        }
        let answer = self.fetch.ask(at, query).await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED => Ok(answer.body),
            status => Err(format!("{at}: it answered {status}")),
        }
    }

    fn bearer(&self) -> Result<Option<Secret<String>>, String> {
        let text = match &self.token {
            None => return Ok(None),
            Some(SecretSource::Env(name)) => std::env::var(name).map_err(|_| format!("the variable {name} is not set"))?,
            Some(SecretSource::File(path)) => {
                let unreadable = |e: io::Error| format!("its token {} cannot be read: {e}", path.display());
                if std::fs::metadata(path).map_err(unreadable)?.len() > LARGEST_TOKEN {
                    return Err(format!("{} is too large to hold a token", path.display()));
                }
                std::fs::read_to_string(path).map_err(unreadable)?
            }
        };
        let text = Secret::new(text);
        Ok(Some(Secret::new(format!("Bearer {}", text.expose().trim()))))
    }
}
