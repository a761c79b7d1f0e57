//! Kind `vault`: Vault or OpenBao. Each lease has a token of its own there, made for its task and no
//! wider than its scope; what is read with it, a database user say, ends with it.
//!
//! Remit keeps no session: it logs in for each lease, so that what ends with a task is all there is.

mod api;
mod handle;
mod login;

use std::{borrow::Cow, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::Made;
use crate::{
    call::{Inject, Task},
    config::{InjectSpec, VaultSecret, VaultSpec},
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued, Pending, Revoked},
        issuer::Issuer,
        source::Watched,
    },
    problem::Problem,
    secret::Secret,
};

use api::{Api, Session};
use handle::Handle;
use login::Login;

/// How long a task's token lives there without being renewed: if Remit is gone, so is it.
const TTL: Duration = Duration::from_secs(3600);
/// How long a value that cannot be taken back is used before it is read again.
const KEPT: Duration = Duration::from_secs(300);
/// What is prolonged by less is as good as over: another one is issued.
const LEAST: Duration = Duration::from_secs(10);
/// A token that only reads one path.
const READING: Duration = Duration::from_secs(60);

/// A server, with Remit's login there.
#[derive(Debug)]
pub(in crate::credential) struct Vault {
    api: Api,
    login: Login,
    secret: Option<VaultSecret>,
    inject: InjectSpec,
}

impl Vault {
    pub(in crate::credential) fn new(spec: &VaultSpec, made: &Made<'_>) -> Result<Self, Problem> {
        let login = Login::new(&spec.login, made)?;
        let issuer = Issuer::new(made.fetch.clone(), spec.address.clone());
        let api = Api::new(issuer, spec.namespace.as_deref()).map_err(|why| Problem::new(why).key("namespace"))?;
        Ok(Self { api, login, secret: spec.secret.clone(), inject: spec.inject.clone() })
    }

    /// The token that Remit acts with: a new session, or the one it was given.
    async fn session(&self) -> Result<Session, Fault> {
        match self.login.ask().await? {
            login::By::Token(token) => Ok(Session::given(token)),
            login::By::Asking(path, body) => self.api.log_in(&path, &body).await,
        }
    }

    async fn give(&self, ask: &Ask) -> Result<Issued, Fault> {
        let session = self.session().await?;
        match self.with_session(&session, ask).await {
            Ok(issued) => {
                if issued.handle.is_none() {
                    // All that it was for has been read.
                    self.api.leave(&session).await;
                }
                Ok(issued)
            }
            Err(fault) => {
                self.api.leave(&session).await;
                Err(fault)
            }
        }
    }

    async fn with_session(&self, session: &Session, ask: &Ask) -> Result<Issued, Fault> {
        let kv = self.secret.as_ref().is_some_and(|s| s.kv.is_some());
        let life = if kv { READING.min(ask.life) } else { ask.life };
        let child = self.api.child(session, &child(ask, life)).await?;
        let mut handle = Handle { token: child.token, session: session.own(), lease: None, data: None };
        let lives = shorter(child.lives, session.lives);
        let wider = wider(&child.policies, ask);
        let issued = self.with_token(&mut handle, lives, wider, ask).await;
        // The session takes its children along; where Remit was given a token, that stays, and this one goes.
        if session.own().is_none() && !issued.as_ref().is_ok_and(|i| i.handle.is_some()) {
            let _ = self.api.end(&handle).await;
        }
        issued
    }

    async fn with_token(&self, handle: &mut Handle, lives: Option<Duration>, wider: Option<String>, ask: &Ask) -> Result<Issued, Fault> {
        if wider.is_some() || self.secret.is_none() {
            // One that is too wide reads nothing.
            return self.issued(handle, lives, wider);
        }
        let read = self.read(handle, ask).await?;
        (handle.data, handle.lease) = (Some(read.data), read.lease);
        if handle.lease.is_some() {
            return self.issued(handle, shorter(lives, read.lives), None);
        }
        let lives = read.lives.map_or(KEPT, |lives| lives.min(KEPT));
        Ok(Issued { handle: None, ..self.issued(handle, Some(lives), None)? })
    }

    async fn read(&self, handle: &Handle, ask: &Ask) -> Result<api::Read, Fault> {
        let path = ask.scope.text("path").ok_or_else(|| Fault::Refused("its scope asks for no `path`".to_owned()))?;
        match self.secret.as_ref().and_then(|s| s.kv.as_deref()) {
            Some(mount) => self.api.read(&handle.token, &format!("{mount}/data/{path}"), true).await,
            None => self.api.read(&handle.token, path, false).await,
        }
    }

    /// What goes into the request.
    fn issued(&self, handle: &Handle, lives: Option<Duration>, wider: Option<String>) -> Result<Issued, Fault> {
        let mut issued = match (&self.secret, &handle.data) {
            (Some(secret), Some(data)) => {
                let value = self.field(data, &secret.field)?;
                let user = secret.user.as_ref().map(|user| self.field(data, user)).transpose()?;
                self.inject(value.expose(), user.as_ref().map(|u| u.expose().as_str()))?
            }
            _ => self.inject(handle.token.expose(), None)?,
        };
        issued.handle = Some(handle.seal()?);
        issued.lives = lives;
        issued.wider = wider;
        Ok(issued)
    }

    fn field(&self, data: &Secret<String>, name: &str) -> Result<Secret<String>, Fault> {
        let text = handle::text_in(data.expose(), name).map(Secret::new);
        text.ok_or_else(|| self.api.refused(&format!("what the path holds has no text `{name}`: mend `secret.field`, or what lies there")))
    }

    fn inject(&self, value: &str, user: Option<&str>) -> Result<Issued, Fault> {
        match &self.inject {
            InjectSpec::Bearer => Issued::bearer(value),
            InjectSpec::Header(name) => Issued::header(name.clone(), value, value),
            InjectSpec::Basic { user: fixed } => {
                let user = user.unwrap_or(fixed);
                // RFC 7617 §2.
                if user.contains(':') || user.chars().chain(value.chars()).any(char::is_control) {
                    let why = "it gave a user or a password that basic authentication cannot carry";
                    return Err(Fault::Unavailable(why.to_owned()));
                }
                let pair = Secret::new(STANDARD.encode(format!("{user}:{value}")));
                let mut issued = Issued::header(AUTHORIZATION, &format!("Basic {}", pair.expose()), value)?;
                issued.secrets.push(Secret::new(pair.expose().as_bytes().to_vec()));
                Ok(issued)
            }
            InjectSpec::Query(name) => Ok(Issued {
                inject: Inject::Query(name.as_str().into(), Secret::new(value.into())),
                secrets: vec![Secret::new(value.as_bytes().to_vec())],
                lives: None,
                handle: None,
                wider: None,
            }),
        }
    }

    async fn prolong(&self, sealed: &[u8], ask: &Ask) -> Result<Issued, Fault> {
        let handle = Handle::open(sealed)?;
        let lives = self.api.renew(&handle, ask.life).await?;
        if lives < LEAST.min(ask.life) {
            return Err(Fault::Refused("it has reached the greatest age that its role allows".to_owned()));
        }
        self.issued(&handle, Some(lives), None)
    }
}

/// What the task's token is asked to be.
fn child(ask: &Ask, life: Duration) -> Value {
    let task: &Task = &ask.task;
    let whole = life.as_secs().max(1);
    let mut body = json!({
        "display_name": "remit",
        "ttl": format!("{}s", whole.min(TTL.as_secs())),
        "explicit_max_ttl": format!("{whole}s"),
        "renewable": true,
        // For the audit of the server.
        "meta": {"task": task.id.as_str(), "agent": &*task.agent.id, "workflow": &*task.workflow, "principal": &*task.principal.id},
    });
    let policies = ask.scope.texts("policies");
    if !policies.is_empty() {
        body["policies"] = policies.into();
    }
    body
}

/// In what a token holds more than was asked for. Every token has the policy `default`.
fn wider(policies: &[String], ask: &Ask) -> Option<String> {
    let asked = ask.scope.texts("policies");
    let more = policies.iter().find(|p| match asked.is_empty() {
        // Then it holds what Remit's own token does, which is never everything.
        true => *p == "root",
        false => *p != "default" && !asked.iter().any(|a| a.eq_ignore_ascii_case(p)),
    });
    more.map(|policy| format!("its token holds the policy `{}` too", crate::jose::quoted(policy)))
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl IssueCredential for Vault {
    fn kind(&self) -> &'static str {
        "vault"
    }

    /// One part of a path, or of a policy's name.
    fn value<'v>(&self, value: &'v str) -> Option<Cow<'v, str>> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~@:".contains(&b);
        let one = value.bytes().all(good) && !value.bytes().all(|b| b == b'.') && !value.eq_ignore_ascii_case("root");
        one.then_some(Cow::Borrowed(value))
    }

    fn issue<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Issued> {
        Box::pin(self.give(ask))
    }

    fn renew<'a>(&'a self, handle: &'a [u8], ask: &'a Ask) -> Pending<'a, Issued> {
        Box::pin(self.prolong(handle, ask))
    }

    /// With its token ends all that was read with it.
    fn revoke<'a>(&'a self, handle: &'a [u8]) -> Pending<'a, Revoked> {
        Box::pin(async move { self.api.end(&Handle::open(handle)?).await.map(|()| Revoked::Done) })
    }

    fn secrets(&self, see: &mut dyn FnMut(&str)) {
        if let Some(secret) = self.login.secret() {
            secret.with(see);
        }
    }

    fn query_name(&self) -> Option<&str> {
        match &self.inject {
            InjectSpec::Query(name) => Some(name),
            InjectSpec::Bearer | InjectSpec::Basic { .. } | InjectSpec::Header(_) => None,
        }
    }

    fn watches(&self) -> bool {
        self.login.secret().is_some_and(Watched::is_file)
    }

    fn refresh(&self) -> Result<bool, Problem> {
        self.login.secret().map_or(Ok(false), |secret| secret.refresh(|_| Ok(())))
    }
}

#[cfg(test)]
mod tests;
