//! Kind `oauth`: access tokens of an OAuth 2.0 authorization server (RFC 6749), for exactly the scopes, resources and
//! audiences that the call needs.

mod answer;
mod client;
mod grant;
mod kept;
mod said;
mod signed;

use std::borrow::Cow;

use crate::{
    config::{Endpoint, OauthSpec},
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued, Pending, Revoked},
        issuer::Issuer,
        kind::Made,
    },
    problem::Problem,
    secret::Secret,
};

use answer::Given;
use client::Client;
use grant::Grant;
use said::Doing;

/// The fields of a request, secrets among them.
#[derive(Debug, Default)]
struct Form {
    fields: Vec<(&'static str, Secret<String>)>,
    headers: http::HeaderMap,
}

impl Form {
    fn push(&mut self, name: &'static str, value: impl Into<String>) {
        self.fields.push((name, Secret::new(value.into())));
    }

    async fn post(&self, to: &Issuer) -> Result<crate::fetch::Answer, Fault> {
        let fields: Vec<(&str, &str)> = self.fields.iter().map(|(name, value)| (*name, value.expose().as_str())).collect();
        to.post_form(&fields, self.headers.clone()).await
    }
}

#[derive(Debug)]
pub(in crate::credential) struct Oauth {
    token: Issuer,
    revocation: Option<Issuer>,
    client: Option<Client>,
    grant: Grant,
}

impl Oauth {
    /// # Errors
    /// A secret or key that cannot be used, and its key in the configuration.
    pub(in crate::credential) fn new(spec: &OauthSpec, made: &Made<'_>) -> Result<Self, Problem> {
        let audience = spec.issuer.clone().unwrap_or_default();
        let issuer = |at: &Endpoint| Issuer::new(made.fetch.clone(), at.clone());
        Ok(Self {
            token: issuer(&spec.token),
            revocation: spec.revocation.as_ref().map(issuer),
            client: spec.client.as_ref().map(|client| Client::new(client, &audience, made)).transpose()?,
            grant: Grant::new(&spec.grant, &audience, made)?,
        })
    }

    async fn give(&self, ask: &Ask) -> Result<Issued, Fault> {
        // One at a time, where a token is worth one use.
        let turn = self.grant.turn().await?;
        let given = self.token.with_its_clock(|| self.asked(ask, turn.as_ref())).await?;
        if let (Some(turn), Some(next)) = (turn, &given.refresh) {
            turn.rotate(next).await;
        }
        match &given.unusable {
            None => given.issued(ask, self.revocation.is_some(), self.grant.keeps_refresh()),
            Some(why) => {
                // It lives, and nobody will use it.
                let _ = self.take_back(&given.handle(self.grant.keeps_refresh())).await;
                Err(Fault::Refused(format!("{}: {why}", self.token.at())))
            }
        }
    }

    async fn asked(&self, ask: &Ask, turn: Option<&kept::Turn<'_>>) -> Result<Given, Fault> {
        let mut form = Form::default();
        self.grant.fill(&mut form, ask, turn, &self.token).await?;
        let scopes = ask.scope.texts("scope");
        if !scopes.is_empty() {
            form.push("scope", scopes.join(" "));
        }
        for name in ["resource", "audience"] {
            ask.scope.texts(name).into_iter().for_each(|value| form.push(name, value));
        }
        if let Some(client) = &self.client {
            client.prove(&mut form, &self.token)?;
        }
        let answer = form.post(&self.token).await?;
        if answer.status != http::StatusCode::OK {
            let doing = Doing { at: self.token.at(), form: &form, client: self.client.as_ref(), grant: Some(&self.grant) };
            return Err(said::no(&answer, &doing));
        }
        Given::read(&answer, &self.token)
    }

    /// RFC 7009 §2.1: each token that stands in the handle.
    async fn take_back(&self, handle: &[u8]) -> Result<Revoked, Fault> {
        let (Some(at), Ok(handle)) = (&self.revocation, std::str::from_utf8(handle)) else { return Ok(Revoked::Irrevocable) };
        let mut revoked = Revoked::Done;
        // The refresh token first: with the other alone gone, it would still give new ones.
        let tokens: Vec<&str> = handle.split('\n').collect();
        for (nth, token) in tokens.iter().enumerate().rev() {
            let hint = if nth == 0 { "access_token" } else { "refresh_token" };
            if at.with_its_clock(|| self.revoke_one(at, token, hint)).await? == Revoked::Irrevocable {
                revoked = Revoked::Irrevocable;
            }
        }
        Ok(revoked)
    }

    async fn revoke_one(&self, at: &Issuer, token: &str, hint: &str) -> Result<Revoked, Fault> {
        let mut form = Form::default();
        form.push("token", token);
        form.push("token_type_hint", hint);
        if let Some(client) = &self.client {
            client.prove(&mut form, at)?;
        }
        let answer = form.post(at).await?;
        // §2.2: also for a token that it does not know, since there is nothing left to do.
        if answer.status.is_success() {
            return Ok(Revoked::Done);
        }
        if said::code(&answer).as_deref() == Some("unsupported_token_type") {
            return Ok(Revoked::Irrevocable);
        }
        Err(said::no(&answer, &Doing { at: at.at(), form: &form, client: self.client.as_ref(), grant: None }))
    }
}

impl IssueCredential for Oauth {
    fn kind(&self) -> &'static str {
        "oauth"
    }

    /// A blank would make two scopes of one (RFC 6749 §3.3), a `:` or `/` another one, a `*` many.
    fn value<'v>(&self, value: &'v str) -> Option<Cow<'v, str>> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'@' | b'+');
        (value.bytes().all(plain) && !value.contains("..") && value != ".").then_some(Cow::Borrowed(value))
    }

    fn issue<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Issued> {
        Box::pin(self.give(ask))
    }

    fn revoke<'a>(&'a self, handle: &'a [u8]) -> Pending<'a, Revoked> {
        Box::pin(self.take_back(handle))
    }

    fn secrets(&self, see: &mut dyn FnMut(&str)) {
        if let Some(client) = &self.client {
            client.secrets(see);
        }
        self.grant.secrets(see);
    }

    fn watches(&self) -> bool {
        self.client.as_ref().is_some_and(Client::watches) || self.grant.watches()
    }

    fn refresh(&self) -> Result<bool, Problem> {
        let client = self.client.as_ref().map_or(Ok(false), Client::refresh)?;
        Ok(self.grant.refresh()? | client)
    }
}

#[cfg(test)]
mod tests;
