//! The server's HTTP API: tokens, leases, and reading a path.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::handle::Handle;
use crate::{
    credential::{issue::Fault, issuer::Issuer, kind::said::said},
    fetch::{Answer, Query},
    secret::Secret,
};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Says that whoever asks knows whom it asks: agents of the server may want it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

#[derive(Debug)]
pub(super) struct Api {
    issuer: Issuer,
    namespace: Option<HeaderValue>,
    /// Begins and ends with `/`.
    prefix: String,
}

/// A token that Remit acts with.
#[derive(Debug)]
pub(super) struct Session {
    token: Secret<String>,
    /// It was made for this lease, and ends with it.
    ours: bool,
    pub(super) lives: Option<Duration>,
}

impl Session {
    pub(super) fn given(token: String) -> Self {
        Self { token: Secret::new(token), ours: false, lives: None }
    }

    pub(super) fn own(&self) -> Option<Secret<String>> {
        self.ours.then(|| self.token.clone())
    }
}

/// A token made for a task.
pub(super) struct Child {
    pub(super) token: Secret<String>,
    pub(super) lives: Option<Duration>,
    pub(super) policies: Vec<String>,
}

/// What a path holds.
pub(super) struct Read {
    /// As JSON.
    pub(super) data: Secret<String>,
    pub(super) lease: Option<String>,
    pub(super) lives: Option<Duration>,
}

impl Api {
    pub(super) fn new(issuer: Issuer, namespace: Option<&str>) -> Result<Self, String> {
        let namespace = namespace.map(|n| HeaderValue::from_str(n).map_err(|_| "no header can carry it".to_owned())).transpose()?;
        let base = issuer.at().path.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self { issuer, namespace, prefix: format!("{base}/v1/") })
    }

    pub(super) async fn log_in(&self, path: &str, body: &Value) -> Result<Session, Fault> {
        let help = "mend `login`: the role, and the secret that proves it";
        let auth = self.token_of(None, path, body, "Remit's login", help).await?;
        Ok(Session { token: auth.token, ours: true, lives: auth.lives })
    }

    pub(super) async fn child(&self, session: &Session, body: &Value) -> Result<Child, Fault> {
        let help = "let Remit's policy update `auth/token/create`, and hold the policies that `scope` asks for";
        self.token_of(Some(&session.token), "auth/token/create", body, "a token for the task", help).await
    }

    async fn token_of(&self, token: Option<&Secret<String>>, path: &str, body: &Value, what: &str, help: &str) -> Result<Child, Fault> {
        let answer = self.post(token, path, body).await?;
        let sent = ["secret_id", "jwt"].iter().filter_map(|name| body[*name].as_str()).chain(token.map(|t| t.expose().as_str()));
        self.expect(&answer, &sent.collect::<Vec<_>>(), what, help)?;
        let answer = self.json(&answer)?;
        let auth = &answer["auth"];
        let token = auth["client_token"].as_str().filter(|t| (1..=8192).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic()));
        let token = token.ok_or_else(|| self.nonsense("it gave no token"))?;
        let policies = auth["policies"].as_array().ok_or_else(|| self.nonsense("it does not say what its token may do"))?;
        let policies = policies.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Child { token: Secret::new(token.to_owned()), lives: lives(&auth["lease_duration"]), policies })
    }

    /// `kv`: what version 2 of the engine adds around a secret is taken off.
    pub(super) async fn read(&self, token: &Secret<String>, path: &str, kv: bool) -> Result<Read, Fault> {
        let answer = self.ask(Some(token), Method::GET, path, None).await?;
        let what = format!("reading `{path}`");
        if answer.status == StatusCode::NOT_FOUND {
            return Err(self.refused(&format!("nothing is at `{path}`: mend the `path` of `scope`")));
        }
        self.expect(&answer, &[token.expose()], &what, "let a policy of the task's token read that path")?;
        let answer = self.json(&answer)?;
        let data = if kv { &answer["data"]["data"] } else { &answer["data"] };
        if !data.is_object() {
            let why = if kv { "it holds no secret of a KV engine of version 2" } else { "it holds no fields" };
            return Err(self.nonsense(&format!("{what}: {why}")));
        }
        let lease = answer["lease_id"].as_str().filter(|l| !l.is_empty()).map(str::to_owned);
        Ok(Read { data: Secret::new(data.to_string()), lease, lives: lives(&answer["lease_duration"]) })
    }

    /// Prolongs the session, the token and what was read with it; answers what then lives shortest.
    pub(super) async fn renew(&self, handle: &Handle, life: Duration) -> Result<Duration, Fault> {
        let increment = format!("{}s", life.as_secs().max(1));
        let mut shortest = Duration::MAX;
        for token in handle.session.iter().chain([&handle.token]) {
            let answer = self.post(Some(token), "auth/token/renew-self", &json!({"increment": increment})).await?;
            self.expect(&answer, &[token.expose()], "renewing a token", "give its role a longer maximum")?;
            shortest = shortest.min(lives(&self.json(&answer)?["auth"]["lease_duration"]).unwrap_or(Duration::MAX));
        }
        if let Some(lease) = &handle.lease {
            let body = json!({"lease_id": lease, "increment": life.as_secs().max(1)});
            let answer = self.post(Some(&handle.token), "sys/leases/renew", &body).await?;
            self.expect(&answer, &[handle.token.expose(), lease], "renewing a lease", "give its role a longer maximum")?;
            shortest = shortest.min(lives(&self.json(&answer)?["lease_duration"]).unwrap_or_default());
        }
        Ok(shortest)
    }

    /// Ends a token with all that was made with it: users in databases, tokens below it.
    pub(super) async fn end(&self, handle: &Handle) -> Result<(), Fault> {
        self.revoke(handle.session.as_ref().unwrap_or(&handle.token)).await
    }

    /// Ends a session that was made for one lease, when there is none. It would end by itself.
    pub(super) async fn leave(&self, session: &Session) {
        if session.ours
            && let Err(fault) = self.revoke(&session.token).await
        {
            tracing::warn!("a session that is not needed stays until it expires: {fault}");
        }
    }

    async fn revoke(&self, token: &Secret<String>) -> Result<(), Fault> {
        let answer = self.post(Some(token), "auth/token/revoke-self", &json!({})).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        // A token that is gone may do nothing, and one that still is can look at itself: that is in every token's policy `default`.
        let seen = self.ask(Some(token), Method::GET, "auth/token/lookup-self", None).await?;
        if matches!(seen.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) {
            return Ok(());
        }
        self.expect(&answer, &[token.expose()], "revoking the task's token", "let the policy `default` update `auth/token/revoke-self`")
    }

    async fn post(&self, token: Option<&Secret<String>>, path: &str, body: &Value) -> Result<Answer, Fault> {
        self.ask(token, Method::POST, path, Some(body)).await
    }

    async fn ask(&self, token: Option<&Secret<String>>, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Fault> {
        let mut query = Query::get(format!("{}{path}", self.prefix));
        if let Some(body) = body {
            query = query.with_body(method, "application/json", body.to_string());
        }
        query.headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            query.headers.insert(NAMESPACE, namespace.clone());
        }
        if let Some(token) = token {
            query = query.with_secret(TOKEN, token.expose()).map_err(Fault::Refused)?;
        }
        self.issuer.ask(query).await
    }

    /// `sent`: the secrets that it was sent, which it may quote in what it says.
    fn expect(&self, answer: &Answer, sent: &[&str], what: &str, help: &str) -> Result<(), Fault> {
        if answer.status.is_success() {
            return Ok(());
        }
        let said = said(answer, sent);
        Err(self.refused(&format!("it refused {what} ({}){said}; {help}", answer.status)))
    }

    pub(super) fn refused(&self, why: &str) -> Fault {
        Fault::Refused(format!("{}: {why}", self.issuer.at()))
    }

    fn json(&self, answer: &Answer) -> Result<Value, Fault> {
        answer.json().map_err(|why| self.nonsense(&why))
    }

    fn nonsense(&self, why: &str) -> Fault {
        Fault::Unavailable(format!("{}: {why}: is it a Vault or OpenBao server?", self.issuer.at()))
    }
}

/// Seconds; 0 stands for no end.
fn lives(value: &Value) -> Option<Duration> {
    value.as_u64().filter(|s| *s > 0).map(Duration::from_secs)
}
