//! STS: AssumeRole and AssumeRoleWithWebIdentity (API version 2011-06-15).

mod answer;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use ring::digest::{SHA256, digest};
use time::OffsetDateTime;

use super::{
    place,
    signer::{Keys, Signer},
    sigv4::escape,
};
use crate::{
    call::{Destination, Host, Leaving, Path, Scheme},
    config::Endpoint,
    credential::{issue::Fault, issuer::Issuer},
    fetch::{Fetch, Query},
    problem::Problem,
    secret::Secret,
};

pub(super) use answer::Session;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The service that gives sessions.
#[derive(Debug)]
pub(super) struct Sts {
    issuer: Issuer,
    /// For which its requests are signed.
    region: Box<str>,
}

/// What is asked of a session.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) role: &'a str,
    pub(super) session: String,
    pub(super) policy: String,
    pub(super) duration: Duration,
    pub(super) external_id: Option<&'a str>,
    pub(super) source_identity: Option<String>,
}

impl Sts {
    /// At the address that the config gives, or that of `region`.
    ///
    /// # Errors
    /// When there is neither.
    pub(super) fn new(at: Option<Endpoint>, region: Option<&str>, fetch: &Fetch) -> Result<Self, Problem> {
        let lacks =
            || Problem::new("nothing says which region's STS is asked").key("region").help("write `region: eu-west-1`, or whichever it is");
        let at = match at {
            Some(at) => at,
            None => endpoint(region.ok_or_else(lacks)?)?,
        };
        let of_host = place::said_by(&at.host).and_then(|s| s.region);
        let region = of_host.or_else(|| region.map(Into::into)).ok_or_else(lacks)?;
        Ok(Self { issuer: Issuer::new(fetch.clone(), at), region })
    }

    /// What time it is there.
    pub(super) fn now(&self) -> OffsetDateTime {
        self.issuer.now()
    }

    pub(super) async fn assume(&self, asked: &Asked<'_>, keys: &Keys) -> Result<Session, Fault> {
        let seconds = asked.duration.as_secs().to_string();
        let mut fields = asked.fields("AssumeRole", &seconds);
        fields.extend(asked.external_id.map(|id| ("ExternalId", id)));
        fields.extend(asked.source_identity.as_deref().map(|id| ("SourceIdentity", id)));
        let body = form(&fields);
        self.issuer.with_its_clock(|| self.ask(&body, Some(keys))).await
    }

    pub(super) async fn assume_with_token(&self, asked: &Asked<'_>, token: &Secret<String>) -> Result<Session, Fault> {
        let seconds = asked.duration.as_secs().to_string();
        let mut fields = asked.fields("AssumeRoleWithWebIdentity", &seconds);
        fields.push(("WebIdentityToken", token.expose()));
        let body = form(&fields);
        self.ask(&body, None).await
    }

    async fn ask(&self, body: &Secret<String>, keys: Option<&Keys>) -> Result<Session, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
        if let Some(keys) = keys {
            self.sign(&mut headers, body.expose().as_bytes(), keys).map_err(Fault::Refused)?;
        }
        // Asked for JSON, STS answers in JSON; its protocol is XML.
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/xml"));
        let path = self.issuer.at().path.to_string();
        let query = Query { method: Method::POST, path, headers, body: body.expose().clone().into() };
        let answer = self.issuer.ask(query).await?;
        answer::read(&answer, self.issuer.at())
    }

    fn sign(&self, headers: &mut HeaderMap, body: &[u8], keys: &Keys) -> Result<(), String> {
        let at = self.issuer.at();
        let path = at.path.parse().map_err(|_| ()).and_then(|p| Path::parse(p).map_err(|_| ()));
        let path = path.map_err(|()| format!("{at}: its path cannot be signed"))?;
        let to = Destination { scheme: if at.tls { Scheme::Https } else { Scheme::Http }, host: at.host.clone(), port: at.port };
        let hash = digest(&SHA256, body).as_ref().try_into().ok();
        let leaving = Leaving { method: &Method::POST, to: &to, path: &path, headers, body: hash };
        let signer = Signer::new(keys.clone(), Some("sts".into()), Some(self.region.clone()));
        signer.sign_at(leaving, self.issuer.now()).map(|_| ()).map_err(|e| e.to_string())
    }
}

impl<'a> Asked<'a> {
    fn fields(&'a self, action: &'static str, seconds: &'a str) -> Vec<(&'static str, &'a str)> {
        vec![
            ("Action", action),
            ("Version", "2011-06-15"),
            ("RoleArn", self.role),
            ("RoleSessionName", &self.session),
            ("DurationSeconds", seconds),
            ("Policy", &self.policy),
        ]
    }
}

fn form(fields: &[(&str, &str)]) -> Secret<String> {
    let mut body = String::new();
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        // A blank as AWS's own clients write it.
        body.push_str(&escape(value.as_bytes(), false).replace("%20", "+"));
    }
    Secret::new(body)
}

/// The region's own: its sessions hold in every region, and it does not fail with another's.
fn endpoint(region: &str) -> Result<Endpoint, Problem> {
    let ending = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let host = Host::parse(&format!("sts.{region}.{ending}"))
        .map_err(|e| Problem::new(format!("the STS of `{region}` has no address: {e}")).key("region").help("write `sts: https://…`"))?;
    Ok(Endpoint { tls: true, host, port: 443, path: "/".into() })
}
