//! Kind `google`: access tokens of Google Cloud with the scopes of a call, by a service account's
//! key or by another issuer's token, and as another service account where one is impersonated.

mod key;
mod subject;
mod token;

use std::borrow::Cow;

use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use serde_json::json;

use self::{key::ServiceKey, subject::Subject, token::Token};
use super::{Made, parsed, parsed::Parsed, said::said};
use crate::{
    config::{Google as Config, GoogleFederation, GoogleSource},
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued, Pending},
        issuer::Issuer,
        source,
    },
    fetch::{Answer, Query},
    problem::Problem,
    secret::Secret,
};

/// What is needed to be given another account's tokens, and no more.
const TO_IMPERSONATE: &str = "https://www.googleapis.com/auth/iam";
/// Google gives no longer one without an organisation's leave (1 h).
const LONGEST: u64 = 3600;
/// An assertion is used at once.
const BEFORE: i64 = 30;
const LIFE: i64 = 300;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Who Remit is to Google, and as whom it acts.
#[derive(Debug)]
pub(in crate::credential) struct Google {
    source: Source,
    impersonate: Option<Impersonation>,
}

#[derive(Debug)]
enum Source {
    Key(Parsed<ServiceKey>),
    Federation { config: GoogleFederation, subject: Subject, sts: Issuer },
}

#[derive(Debug)]
struct Impersonation {
    account: Box<str>,
    iam: Issuer,
}

impl Google {
    /// # Errors
    /// When a key or token cannot be read, or is of no use to Google.
    pub(in crate::credential) fn new(config: &Config, made: &Made<'_>) -> Result<Self, Problem> {
        let placed = |p: Problem, key: &str, at| if p.key.is_some() { p } else { p.key(format!("{key}.{}", source::key(at))) };
        let source = match &config.source {
            GoogleSource::Key(at) => {
                let fetch = made.fetch.clone();
                let parse = Box::new(move |text: &str| ServiceKey::read(text, &fetch));
                Source::Key(Parsed::new(at, made.env, parse).map_err(|p| placed(p, "key", at))?)
            }
            GoogleSource::Federation(f) => Source::Federation {
                subject: Subject::new(&f.token, made)?,
                sts: Issuer::new(made.fetch.clone(), f.sts.clone()),
                config: f.clone(),
            },
        };
        let impersonate = config
            .impersonate
            .as_ref()
            .map(|i| Impersonation { account: i.account.clone(), iam: Issuer::new(made.fetch.clone(), i.iam.clone()) });
        Ok(Self { source, impersonate })
    }

    async fn token(&self, ask: &Ask) -> Result<Issued, Fault> {
        let scopes = ask.scope.texts("scopes");
        if scopes.is_empty() || !scopes.iter().all(|s| is_scope(s)) {
            return Err(Fault::Refused("the scope asks for no OAuth scopes of Google".to_owned()));
        }
        let Some(impersonation) = &self.impersonate else { return self.source.token(&scopes).await?.issued() };
        let own = self.source.token(&[TO_IMPERSONATE]).await?;
        if let Some(wider) = own.wider {
            return Err(Fault::Refused(format!("the token to impersonate with is more than was asked: {wider}")));
        }
        impersonation.token(&own.value, &scopes, ask.life.as_secs().clamp(1, LONGEST)).await?.issued()
    }
}

impl Source {
    async fn token(&self, scopes: &[&str]) -> Result<Token, Fault> {
        match self {
            Self::Key(key) => {
                let key = &*key.value();
                key.issuer.with_its_clock(|| signed(key, scopes)).await
            }
            Self::Federation { config, subject, sts } => exchanged(config, &subject.token().await?, sts, scopes).await,
        }
    }
}

/// For what the service account's key signed (RFC 7523 §2.1).
async fn signed(key: &ServiceKey, scopes: &[&str]) -> Result<Token, Fault> {
    let issuer = &key.issuer;
    let now = issuer.now().unix_timestamp();
    let claims = json!({
        "iss": key.email, "scope": scopes.join(" "), "aud": issuer.at().to_string(), "iat": now - BEFORE, "exp": now + LIFE,
    });
    let signed = key.key.sign("JWT", key.id.as_deref(), &[], &claims);
    let assertion = Secret::new(signed.map_err(|fault| Fault::Unavailable(format!("the service account's key: {fault}")))?);
    let answer = issuer.post_form(&[("grant_type", JWT_BEARER), ("assertion", assertion.expose())], HeaderMap::new()).await?;
    if answer.status == StatusCode::OK {
        return Token::read(issuer, &answer, scopes);
    }
    let mend = "check that the key is one of the service account's and not deleted, and the account not disabled";
    Err(refusal(issuer, &answer, assertion.expose(), mend))
}

/// For another issuer's token (RFC 8693 §2.1). Nothing authenticates the request but that token.
async fn exchanged(config: &GoogleFederation, subject: &Secret<String>, sts: &Issuer, scopes: &[&str]) -> Result<Token, Fault> {
    let scope = scopes.join(" ");
    let fields = [
        ("grant_type", EXCHANGE),
        ("audience", &*config.audience),
        ("scope", &*scope),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token", subject.expose()),
        ("subject_token_type", config.token_type),
    ];
    let answer = sts.post_form(&fields, HeaderMap::new()).await?;
    if answer.status == StatusCode::OK {
        return Token::exchanged(sts, &answer, scopes);
    }
    let mend = "check that the token's issuer and audience are those of the provider, that it is not expired, and `audience`";
    Err(refusal(sts, &answer, subject.expose(), mend))
}

impl Impersonation {
    /// A token of the account, for `seconds`.
    async fn token(&self, own: &Secret<String>, scopes: &[&str], seconds: u64) -> Result<Token, Fault> {
        let path =
            format!("{}/v1/projects/-/serviceAccounts/{}:generateAccessToken", self.iam.at().path.trim_end_matches('/'), self.account);
        let query = Query::post_json(path, &json!({"scope": scopes, "lifetime": format!("{seconds}s")}));
        let value = Secret::new(format!("Bearer {}", own.expose()));
        let answer = self.iam.ask(query.with_secret(AUTHORIZATION, value.expose()).map_err(Fault::Unavailable)?).await?;
        if answer.status == StatusCode::OK {
            return Token::generated(&self.iam, &answer, seconds);
        }
        let mend = format!("let Remit's account create tokens of {} (roles/iam.serviceAccountTokenCreator)", self.account);
        Err(refusal(&self.iam, &answer, own.expose(), &mend))
    }
}

fn refusal(issuer: &Issuer, answer: &Answer, sent: &str, mend: &str) -> Fault {
    Fault::Refused(format!("{}: it answered {}{}; {mend}", issuer.at(), answer.status, said(answer, &[sent])))
}

/// RFC 6749 §3.3: one scope holds no blank, quote or backslash.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

impl IssueCredential for Google {
    fn kind(&self) -> &'static str {
        "google"
    }

    fn value<'v>(&self, value: &'v str) -> Option<Cow<'v, str>> {
        // In a URL, which a scope is, these would begin another part.
        (is_scope(value) && !value.contains(['/', '?', '#']) && value != "." && value != "..").then_some(Cow::Borrowed(value))
    }

    fn issue<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Issued> {
        Box::pin(self.token(ask))
    }

    fn secrets(&self, see: &mut dyn FnMut(&str)) {
        match &self.source {
            Source::Key(key) => parsed::show_key(key.value().pem.expose(), see),
            Source::Federation { subject: Subject::Given(token), .. } => token.with(see),
            Source::Federation { .. } => {}
        }
    }

    fn watches(&self) -> bool {
        match &self.source {
            Source::Key(key) => key.is_file(),
            Source::Federation { subject: Subject::Given(token), .. } => token.is_file(),
            Source::Federation { .. } => false,
        }
    }

    fn refresh(&self) -> Result<bool, Problem> {
        match &self.source {
            Source::Key(key) => key.refresh(),
            Source::Federation { subject: Subject::Given(token), .. } => token.refresh(|_| Ok(())),
            Source::Federation { .. } => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;
