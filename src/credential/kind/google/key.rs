use std::fmt;

use serde_json::Value;

use crate::{
    config::Endpoint,
    credential::{issuer::Issuer, kind::parsed},
    fetch::Fetch,
    jose::SigningKey,
    problem::Problem,
    secret::Secret,
};

/// A service account's key, as Google hands it out in JSON.
pub(super) struct ServiceKey {
    pub(super) email: Box<str>,
    /// Which of the account's keys it is.
    pub(super) id: Option<Box<str>>,
    pub(super) key: SigningKey,
    pub(super) pem: Secret<String>,
    /// The token endpoint that it is for.
    pub(super) issuer: Issuer,
}

const HELP: &str = "give the JSON that `gcloud iam service-accounts keys create` wrote";

impl ServiceKey {
    /// # Errors
    /// What of it is missing or of no use; nothing of its values.
    pub(super) fn read(text: &str, fetch: &Fetch) -> Result<Self, Problem> {
        let wrong = |why: &str| Problem::new(format!("it is no key of a service account: {why}")).help(HELP);
        let value: Value = serde_json::from_str(text).map_err(|_| wrong("it is not JSON"))?;
        let member = |name: &str| value.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
        let missing = |name: &str| wrong(&format!("`{name}` is missing"));
        match member("type") {
            Some("service_account") => {}
            Some("external_account") => return Err(wrong("it is a federation's configuration").help("write it as `federation: {…}`")),
            _ => return Err(wrong("its `type` is not `service_account`")),
        }
        let email = member("client_email").ok_or_else(|| missing("client_email"))?;
        let pem = Secret::new(member("private_key").ok_or_else(|| missing("private_key"))?.to_owned());
        let at = Endpoint::parse(member("token_uri").ok_or_else(|| missing("token_uri"))?)
            .map_err(|(message, _)| wrong(&format!("`token_uri`: {message}")))?;
        Ok(Self {
            email: email.into(),
            id: member("private_key_id").map(Into::into),
            key: parsed::rsa(pem.expose(), "Google")?,
            pem,
            issuer: Issuer::new(fetch.clone(), at),
        })
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceKey").field("email", &self.email).finish_non_exhaustive()
    }
}
