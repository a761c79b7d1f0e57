//! `kind: github_app`: which App, and where GitHub is.

use crate::config::{
    CredentialKind, Endpoint, SecretSource,
    credentials::secret,
    node::Kind,
    read::{Value, shown},
};

/// A GitHub App: it signs for itself, and is given tokens of its installations.
#[derive(Debug, Clone)]
pub struct GithubApp {
    /// The App's ID or client ID: `iss` of what it signs.
    pub app: Box<str>,
    /// An RSA key in PEM, as GitHub made it.
    pub key: SecretSource,
    /// Of github.com, or of a server of one's own (`https://HOST/api/v3`).
    pub api: Endpoint,
    /// None: found by the owner that a call asks for.
    pub installation: Option<u64>,
}

/// GitHub's own, where the config names no other.
const API: &str = "https://api.github.com";

/// What a `scope` may ask for.
pub(super) const ASKS: &[&str] = &["repositories", "permissions", "owner"];

/// The longest list that GitHub takes.
const MOST_REPOSITORIES: usize = 500;

pub(super) fn kind(value: &Value<'_>) -> Option<CredentialKind> {
    let fields = value.fields(&["kind", "hosts", "scope", "app_id", "private_key", "installation", "api"])?;
    let app = fields.required("app_id", "write the App's ID or its client ID, as the App's page on GitHub shows it").and_then(app);
    let key = fields.required("private_key", "say where the App's key is: {file: app.pem}").and_then(secret);
    let api = match fields.optional("api") {
        Some(v) => v.parse(Endpoint::parse),
        None => Endpoint::parse(API).ok(),
    };
    let installation = match fields.optional("installation") {
        Some(v) => Some(v.number(1, u64::MAX)?),
        None => None,
    };
    Some(CredentialKind::GithubApp(GithubApp { app: app?, key: key?, api: api?, installation }))
}

/// Digits, or a client ID such as `Iv23liAbCd`.
fn app(value: &Value<'_>) -> Option<Box<str>> {
    if matches!(value.node.kind, Kind::Number(_)) {
        return value.number(1, u64::MAX).map(|id| id.to_string().into());
    }
    let text = value.text()?;
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') {
        value
            .wrong(format!("`{}` is no ID of an App", shown(text)), "write its App ID, such as 1234, or its client ID, such as Iv23liAbCd");
        return None;
    }
    Some(text.into())
}

/// What one entry of `scope` asks. Nothing is left to GitHub's defaults, which are all repositories
/// and all that the App was ever given.
pub(super) fn asked(value: &Value<'_>, asks: &[(&str, Value<'_>)]) {
    let find = |key: &str| asks.iter().find(|(k, _)| *k == key).map(|(_, v)| v);
    match find("repositories") {
        Some(list) => repositories(list),
        None => value.wrong(
            "`repositories` is missing: GitHub would give all of the installation's",
            "write the ones that the call needs, such as [\"{owner}/{repo}\"], or [\"*\"] for all",
        ),
    }
    match find("permissions") {
        Some(map) => permissions(map),
        None => value.wrong(
            "`permissions` is missing: GitHub would give all that the App has",
            "write what the call needs, such as {issues: write}",
        ),
    }
    if let Some(owner) = find("owner")
        && let Some(text) = owner.text()
        && (text.contains('/') || !is_name(text))
    {
        owner.wrong(format!("`{}` is no account on GitHub", shown(text)), "write its login, such as acme or \"{owner}\"");
    }
}

fn repositories(value: &Value<'_>) {
    let Some(list) = value.list() else { return };
    if list.is_empty() {
        value.wrong("no repository is listed, which to GitHub is all of them", "write [\"*\"] if that is meant");
    }
    if list.len() > MOST_REPOSITORIES {
        value.wrong(format!("GitHub takes at most {MOST_REPOSITORIES} repositories"), "write [\"*\"] for all of the installation's");
    }
    for item in &list {
        let Some(text) = item.text() else { continue };
        if text == "*" && list.len() > 1 {
            item.wrong("`*` is all repositories, so that the others say nothing", "write [\"*\"], or leave it out");
        } else if text != "*" && !is_repository(text) {
            item.wrong(format!("`{}` is no repository", shown(text)), "write NAME or OWNER/NAME, such as \"{owner}/{repo}\"");
        }
    }
}

fn permissions(value: &Value<'_>) {
    let Some(entries) = value.entries() else { return };
    if entries.is_empty() {
        value.wrong("no permission is listed, which to GitHub is all that the App has", "write one, such as {metadata: read}");
    }
    for (name, level) in &entries {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            level.wrong(format!("`{}` is no permission of a GitHub App", shown(name)), "write it as issues or pull_requests");
        }
        level.one_of(&[("read", ()), ("write", ()), ("admin", ())]);
    }
}

fn is_repository(text: &str) -> bool {
    match text.split_once('/') {
        Some((owner, name)) => is_name(owner) && is_name(name),
        None => is_name(text),
    }
}

/// What GitHub's names are made of, or parameters that stand for some of it.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.{}".contains(&b))
}
