//! Kind `github_app`: installation tokens of a GitHub App, each for the repositories and the
//! permissions of a call, and revoked when its task ends.

mod asked;
mod installation;

use std::borrow::Cow;

use http::{
    HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION},
};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::{asked::Asked, installation::Installations};
use super::{Made, parsed, parsed::Parsed, said::said};
use crate::{
    config::GithubApp as Config,
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued, Pending, Revoked},
        issuer::Issuer,
        source,
    },
    fetch::{Answer, Query},
    jose::SigningKey,
    problem::Problem,
    secret::Secret,
};

/// GitHub takes what lives no longer than 10 minutes, and wants it begun a little before its own now.
const BEFORE: i64 = 60;
const LIFE: i64 = 480;

/// An App, and how it proves itself.
#[derive(Debug)]
pub(in crate::credential) struct GithubApp {
    app: Box<str>,
    key: Parsed<AppKey>,
    issuer: Issuer,
    installations: Installations,
}

struct AppKey {
    pem: Secret<String>,
    key: SigningKey,
}

impl GithubApp {
    /// # Errors
    /// When the key cannot be read, or is none that GitHub takes.
    pub(in crate::credential) fn new(config: &Config, made: &Made<'_>) -> Result<Self, Problem> {
        let parse = |pem: &str| Ok(AppKey { key: parsed::rsa(pem, "GitHub")?, pem: Secret::new(pem.to_owned()) });
        let key = Parsed::new(&config.key, made.env, Box::new(parse))
            .map_err(|p| if p.key.is_some() { p } else { p.key(format!("private_key.{}", source::key(&config.key))) })?;
        Ok(Self {
            app: config.app.clone(),
            key,
            issuer: Issuer::new(made.fetch.clone(), config.api.clone()),
            installations: Installations::new(config.installation),
        })
    }

    /// What the App is known by, for the next minutes by GitHub's clock.
    fn proof(&self) -> Result<Secret<String>, Fault> {
        let now = self.issuer.now().unix_timestamp();
        let claims = json!({"iss": self.app, "iat": now - BEFORE, "exp": now + LIFE});
        let signed = self.key.value().key.sign("JWT", None, &[], &claims);
        signed.map(Secret::new).map_err(|fault| Fault::Unavailable(format!("the App's key: {fault}")))
    }

    /// Asks with a token or the App's proof.
    async fn ask(&self, mut query: Query, token: &str) -> Result<Answer, Fault> {
        let base = self.issuer.at().path.trim_end_matches('/');
        query.path.insert_str(0, base);
        query.headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        query.headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
        let value = Secret::new(format!("Bearer {token}"));
        self.issuer.ask(query.with_secret(AUTHORIZATION, value.expose()).map_err(Fault::Unavailable)?).await
    }

    async fn token(&self, asked: &Asked) -> Result<Issued, Fault> {
        let proof = self.proof()?;
        let installation = self.installation(asked, proof.expose()).await?;
        let query = Query::post_json(format!("/app/installations/{installation}/access_tokens"), &asked.body());
        let answer = self.ask(query, proof.expose()).await?;
        if answer.status == StatusCode::CREATED {
            return self.given(asked, &answer);
        }
        if answer.status == StatusCode::NOT_FOUND {
            // It may have been installed anew, under another number.
            self.installations.forget(installation);
        }
        Err(self.refusal(&answer, proof.expose()))
    }

    /// The token, and in what it is more than was asked.
    fn given(&self, asked: &Asked, answer: &Answer) -> Result<Issued, Fault> {
        let nonsense = |why: &str| Fault::Unavailable(format!("{}: {why}", self.issuer.at()));
        let value = answer.json().map_err(|why| nonsense(&why))?;
        let given = value.as_object().ok_or_else(|| nonsense("its answer is no object"))?;
        let token = given.get("token").and_then(|t| t.as_str()).filter(|t| t.len() >= 16).ok_or_else(|| nonsense("it gave no token"))?;
        let mut issued = Issued::bearer(token)?;
        issued.handle = Some(Secret::new(token.as_bytes().to_vec()));
        issued.wider = asked.wider(given);
        let expires = given.get("expires_at").and_then(|e| e.as_str()).and_then(|e| OffsetDateTime::parse(e, &Rfc3339).ok());
        match expires {
            Some(expires) => issued.lives = Some(self.issuer.until(expires)),
            None => issued.wider = Some("GitHub does not say when the token expires".to_owned()),
        }
        Ok(issued)
    }

    fn refusal(&self, answer: &Answer, proof: &str) -> Fault {
        let (at, status, words) = (self.issuer.at(), answer.status, said(answer, &[proof]));
        let held_back = |name: &str| answer.headers.get(name).is_some_and(|v| name != "x-ratelimit-remaining" || v == "0");
        let mend = match status {
            StatusCode::FORBIDDEN if held_back("retry-after") || held_back("x-ratelimit-remaining") => {
                return Fault::Unavailable(format!("{at}: it limits how often the App may ask{words}"));
            }
            StatusCode::UNAUTHORIZED => {
                "it does not accept the App's signature: check that `private_key` is a key of the App `app_id`, and not deleted there"
            }
            StatusCode::FORBIDDEN => "the installation is suspended, or the App may not do this: look at the App's installations on GitHub",
            StatusCode::NOT_FOUND => "the App is not installed there, or no more: install it, or mend `installation` or `owner`",
            StatusCode::UNPROCESSABLE_ENTITY => {
                "`scope` asks for a repository or a permission that the installation does not have: grant it on GitHub, or ask for less"
            }
            _ => "it gave no token",
        };
        Fault::Refused(format!("{at}: it answered {status}{words}; {mend}"))
    }

    async fn take_back(&self, token: &str) -> Result<Revoked, Fault> {
        let query = Query { method: Method::DELETE, ..Query::get("/installation/token") };
        let answer = self.ask(query, token).await?;
        match answer.status {
            // A token that it does not know authenticates nobody.
            StatusCode::NO_CONTENT | StatusCode::UNAUTHORIZED => Ok(Revoked::Done),
            status => {
                Err(Fault::Unavailable(format!("{}: it answered {status} to a revocation{}", self.issuer.at(), said(&answer, &[token]))))
            }
        }
    }
}

impl IssueCredential for GithubApp {
    fn kind(&self) -> &'static str {
        "github_app"
    }

    /// What else than a name's characters is in a value could name another repository.
    fn value<'v>(&self, value: &'v str) -> Option<Cow<'v, str>> {
        asked::is_name(value).then_some(Cow::Borrowed(value))
    }

    fn level(&self, word: &str) -> Option<u8> {
        asked::level(word)
    }

    fn issue<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Issued> {
        Box::pin(async move {
            let asked = &Asked::read(ask.scope.value())?;
            self.issuer.with_its_clock(|| self.token(asked)).await
        })
    }

    fn revoke<'a>(&'a self, handle: &'a [u8]) -> Pending<'a, Revoked> {
        Box::pin(async move {
            let token = std::str::from_utf8(handle).map_err(|_| Fault::Refused("what is to be revoked is no token".to_owned()))?;
            self.take_back(token).await
        })
    }

    fn secrets(&self, see: &mut dyn FnMut(&str)) {
        parsed::show_key(self.key.value().pem.expose(), see);
    }

    fn watches(&self) -> bool {
        self.key.is_file()
    }

    fn refresh(&self) -> Result<bool, Problem> {
        self.key.refresh()
    }
}

#[cfg(test)]
mod tests;
