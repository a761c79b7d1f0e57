use std::time::Duration;

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::ACCESS_TOKEN;
use crate::{
    credential::{
        issue::{Fault, Issued},
        issuer::Issuer,
    },
    fetch::Answer,
    secret::Secret,
    shown::shown,
};

/// What Google may add to the life that is asked for.
const SLACK: Duration = Duration::from_secs(60);

/// Short names of scopes that Google writes out in its answers.
const LONG: [(&str, &str); 2] =
    [("email", "https://www.googleapis.com/auth/userinfo.email"), ("profile", "https://www.googleapis.com/auth/userinfo.profile")];

/// An access token, as Google gave it.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) value: Secret<String>,
    lives: Duration,
    pub(super) wider: Option<String>,
}

impl Token {
    /// RFC 6749 §5.1.
    pub(super) fn read(issuer: &Issuer, answer: &Answer, asked: &[&str]) -> Result<Self, Fault> {
        let given = Given::read(issuer, answer)?;
        let value = given.token("access_token")?;
        if !given.text("token_type").is_some_and(|t| t.eq_ignore_ascii_case("bearer")) {
            return Err(given.nonsense("its token is no bearer token"));
        }
        let seconds = match given.members.get("expires_in") {
            Some(Value::Number(n)) => n.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        let lives = seconds.map(Duration::from_secs).ok_or_else(|| given.nonsense("it does not say how long its token lives"))?;
        Ok(Self { value, lives, wider: given.text("scope").and_then(|scope| wider(scope, asked)) })
    }

    /// RFC 8693 §2.2.1.
    pub(super) fn exchanged(issuer: &Issuer, answer: &Answer, asked: &[&str]) -> Result<Self, Fault> {
        let given = Given::read(issuer, answer)?;
        match given.text("issued_token_type") {
            Some(ACCESS_TOKEN) => Self::read(issuer, answer, asked),
            _ => Err(given.nonsense("what it gave is no access token")),
        }
    }

    /// Of `generateAccessToken`, asked for `seconds`.
    pub(super) fn generated(issuer: &Issuer, answer: &Answer, seconds: u64) -> Result<Self, Fault> {
        let given = Given::read(issuer, answer)?;
        let value = given.token("accessToken")?;
        let end = given.text("expireTime").and_then(|e| OffsetDateTime::parse(e, &Rfc3339).ok());
        let lives = issuer.until(end.ok_or_else(|| given.nonsense("it does not say when its token expires"))?);
        let longer = lives > Duration::from_secs(seconds) + SLACK;
        Ok(Self { value, lives, wider: longer.then(|| format!("it lives {} s, and {seconds} s were asked", lives.as_secs())) })
    }

    /// Google has no way to take back a service account's token.
    pub(super) fn issued(self) -> Result<Issued, Fault> {
        let issued = Issued::bearer(self.value.expose())?;
        Ok(Issued { lives: Some(self.lives), wider: self.wider, ..issued })
    }
}

/// A good answer's members.
struct Given<'a> {
    issuer: &'a Issuer,
    members: Map<String, Value>,
}

impl<'a> Given<'a> {
    fn read(issuer: &'a Issuer, answer: &Answer) -> Result<Self, Fault> {
        match answer.json() {
            Ok(Value::Object(members)) => Ok(Self { issuer, members }),
            Ok(_) => Err(Fault::Unavailable(format!("{}: its answer is no object", issuer.at()))),
            Err(why) => Err(Fault::Unavailable(format!("{}: {why}", issuer.at()))),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    fn token(&self, name: &str) -> Result<Secret<String>, Fault> {
        let token = self.text(name).filter(|t| t.len() >= 16 && t.bytes().all(|b| b.is_ascii_graphic()));
        token.map(|t| Secret::new(t.to_owned())).ok_or_else(|| self.nonsense("it gave no token"))
    }

    fn nonsense(&self, why: &str) -> Fault {
        Fault::Unavailable(format!("{}: {why}", self.issuer.at()))
    }
}

/// The first scope that was given and not asked.
fn wider(given: &str, asked: &[&str]) -> Option<String> {
    let long = |scope: &'_ str| LONG.iter().find(|(short, _)| *short == scope).map(|(_, long)| *long);
    let more = given.split(' ').find(|g| !g.is_empty() && !asked.iter().any(|a| a == g || long(a) == Some(g)))?;
    Some(format!("the token has the scope `{}`", shown(more)))
}
