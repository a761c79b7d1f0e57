//! Which installation of the App a token is of.

use std::collections::HashMap;

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Asked, GithubApp};
use crate::{credential::issue::Fault, fetch::Query};

/// More owners than one App is installed at, in what one Remit serves.
const MOST: usize = 4096;

/// The installations that were found, by owner. They change when an App is installed anew.
#[derive(Debug)]
pub(super) struct Installations {
    configured: Option<u64>,
    found: Mutex<HashMap<Box<str>, u64>>,
}

impl Installations {
    pub(super) fn new(configured: Option<u64>) -> Self {
        Self { configured, found: Mutex::default() }
    }

    pub(super) fn forget(&self, installation: u64) {
        self.found.lock().retain(|_, known| *known != installation);
    }
}

impl GithubApp {
    /// The one that the config names; else that of the owner; else the only one there is.
    pub(super) async fn installation(&self, asked: &Asked, proof: &str) -> Result<u64, Fault> {
        let owner = asked.owner.as_deref().map(str::to_ascii_lowercase);
        match (self.installations.configured, &asked.repositories) {
            // GitHub says of which owner the repositories are that it gives; where it gives all, it does not.
            (Some(configured), Some(_)) => return Ok(configured),
            (Some(configured), None) if owner.is_none() => return Ok(configured),
            _ => {}
        }
        let key = owner.as_deref().unwrap_or_default();
        let known = self.installations.found.lock().get(key).copied();
        let found = match (known, &owner) {
            (Some(known), _) => known,
            (None, Some(owner)) => self.of_owner(owner, asked, proof).await?,
            (None, None) => self.only_one(proof).await?,
        };
        if self.installations.configured.is_some_and(|configured| configured != found) {
            return Err(Fault::Refused(format!(
                "`installation` is not that of `{key}`, which the call is for: leave it out, or mend `owner`"
            )));
        }
        let mut all = self.installations.found.lock();
        if all.len() < MOST {
            all.insert(key.into(), found);
        }
        Ok(found)
    }

    async fn of_owner(&self, owner: &str, asked: &Asked, proof: &str) -> Result<u64, Fault> {
        let first = asked.repositories.as_ref().and_then(|r| r.first());
        let paths = match first {
            Some(repository) => vec![format!("/repos/{owner}/{repository}/installation")],
            None => vec![format!("/orgs/{owner}/installation"), format!("/users/{owner}/installation")],
        };
        let mut last = None;
        for path in paths {
            let answer = self.ask(Query::get(path), proof).await?;
            if answer.status == StatusCode::OK {
                let value = answer.json().map_err(|why| self.nonsense(&why))?;
                let account = value.pointer("/account/login").and_then(Value::as_str).unwrap_or_default();
                let id = value.get("id").and_then(Value::as_u64);
                return id.filter(|_| account.eq_ignore_ascii_case(owner)).ok_or_else(|| self.nonsense("it names another installation"));
            }
            let gone = answer.status == StatusCode::NOT_FOUND;
            last = Some(self.refusal(&answer, proof));
            if !gone {
                break;
            }
        }
        Err(last.unwrap_or_else(|| self.nonsense("it names no installation")))
    }

    async fn only_one(&self, proof: &str) -> Result<u64, Fault> {
        let answer = self.ask(Query::get("/app/installations?per_page=2"), proof).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(&answer, proof));
        }
        let value = answer.json().map_err(|why| self.nonsense(&why))?;
        let all = value.as_array().ok_or_else(|| self.nonsense("it lists no installations"))?;
        match all.as_slice() {
            [one] => one.get("id").and_then(Value::as_u64).ok_or_else(|| self.nonsense("its installation has no id")),
            [] => Err(Fault::Refused(format!(
                "{}: the App is installed nowhere: install it at the owner of the repositories",
                self.issuer.at()
            ))),
            _ => Err(Fault::Refused(
                "the App is installed at several owners: write `repositories: [\"{owner}/{repo}\"]`, or `installation`".to_owned(),
            )),
        }
    }

    fn nonsense(&self, why: &str) -> Fault {
        Fault::Unavailable(format!("{}: {why}", self.issuer.at()))
    }
}
