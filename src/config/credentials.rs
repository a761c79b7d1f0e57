//! Credentials as they stand in a file. A secret's value never stands there, and is never shown.

mod aws;
mod certificate;
mod github;
mod google;
mod scope;
mod vault;

pub use aws::{AwsKeys, AwsRole, AwsSpec};
pub use certificate::{CertificateFrom, CertificateSpec};
pub use github::GithubApp;
pub use google::{Google, GoogleFederation, GoogleImpersonation, GoogleSource};
pub use scope::ScopeSpec;
pub use vault::{VaultLogin, VaultSecret, VaultSpec};

use std::path::PathBuf;

use http::HeaderName;

use crate::{
    call::Host,
    config::{
        CredentialKind, CredentialSpec, InjectSpec, SecretSource,
        node::Kind,
        read::{Ref, Value, shown, suggestion},
        units,
    },
};

/// What a file says of one credential; `spec` is None when something in it is wrong.
#[derive(Debug)]
pub(super) struct RawCredential {
    pub(super) name: Ref,
    pub(super) spec: Option<CredentialSpec>,
}

/// The credentials of a mapping from name to credential.
pub(super) fn credentials(value: &Value<'_>) -> Vec<RawCredential> {
    value.entries().unwrap_or_default().iter().map(|(name, v)| credential(name, v)).collect()
}

fn credential(name: &str, value: &Value<'_>) -> RawCredential {
    let id = Ref { name: name.into(), spot: value.spot() };
    if let Err((message, help)) = units::id(name) {
        value.wrong(message, help);
    }
    let spec = spec(&id, value);
    RawCredential { name: id, spec }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Static,
    Own,
    Aws,
    GithubApp,
    Google,
    Certificate,
    Vault,
    Later,
}

const KINDS: [(&str, Named); 9] = [
    ("static", Named::Static),
    ("own", Named::Own),
    ("github_app", Named::GithubApp),
    ("oauth", Named::Later),
    ("token_exchange", Named::Later),
    ("aws", Named::Aws),
    ("google", Named::Google),
    ("certificate", Named::Certificate),
    ("vault", Named::Vault),
];

/// The kinds that this version has.
fn there() -> Vec<&'static str> {
    KINDS.iter().filter(|(_, named)| *named != Named::Later).map(|(name, _)| *name).collect()
}

fn spec(id: &Ref, value: &Value<'_>) -> Option<CredentialSpec> {
    let entries = value.entries()?;
    let Some((_, kind)) = entries.iter().find(|(key, _)| *key == "kind") else {
        value.wrong("`kind` is missing", "write `kind: static`, or `kind: own` for the agent's own login");
        return None;
    };
    let text = kind.text()?;
    let kind_spec = match KINDS.iter().find(|(name, _)| *name == text).map(|(_, named)| *named) {
        Some(Named::Static) => static_kind(value),
        Some(Named::Own) => own_kind(value),
        Some(Named::Aws) => aws::kind(value),
        Some(Named::GithubApp) => github::kind(value),
        Some(Named::Google) => google::kind(value),
        Some(Named::Certificate) => certificate::certificate(value),
        Some(Named::Vault) => vault::vault(value),
        Some(Named::Later) => {
            let message = format!("kind `{text}`: not in this version");
            kind.wrong(message, suggestion("", &there()));
            return None;
        }
        None => {
            kind.wrong(format!("`{}` is no kind of credential", shown(text)), suggestion(text, &there()));
            return None;
        }
    };
    let hosts = hosts(value, &entries);
    // Keys of AWS are asked for nothing, a role is.
    let asks = asks(text).filter(|_| text != "aws" || aws::is_asked(&entries));
    let scope = match entries.iter().find(|(key, _)| *key == "scope") {
        // A kind that is asked for nothing has no such key, and says so.
        None => Some(Vec::new()),
        Some((_, scope)) => {
            shapes(text, scope);
            asks.map_or(Some(Vec::new()), |asks| scope::scope(scope, asks))
        }
    };
    if scope.as_ref().is_some_and(Vec::is_empty) && asks.is_some() {
        let help = format!("add `scope: [{{intents: [github.issues.*], …}}]`; asked can be: {}", asks.unwrap_or_default().join(", "));
        value.wrong("`scope` is missing: it says what is asked of the issuer for which intents", help);
        return None;
    }
    let (kind, scope) = (kind_spec?, scope?);
    if !vault::check(value, &kind, &scope) {
        return None;
    }
    Some(CredentialSpec { name: id.name.clone(), hosts: hosts?, kind, scope, place: value.spot().place() })
}

impl CredentialKind {
    /// The files with secrets that it names.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let secrets: Vec<&SecretSource> = match self {
            Self::Static { secret, .. } => vec![secret],
            Self::Own => Vec::new(),
            Self::Certificate(CertificateSpec { from: CertificateFrom::Svid, .. }) => Vec::new(),
            Self::Certificate(CertificateSpec { from: CertificateFrom::Files { cert, key }, .. }) => {
                return vec![cert.clone(), key.clone()];
            }
            Self::GithubApp(app) => vec![&app.key],
            Self::Google(google) => vec![google.source.secret()],
            Self::Aws(aws) => aws.secrets(),
            Self::Vault(vault) => vault.login.secret().into_iter().collect(),
        };
        let file = |source: &&SecretSource| match source {
            SecretSource::File(path) => Some(path.clone()),
            SecretSource::Env(_) => None,
        };
        secrets.iter().filter_map(file).collect()
    }
}

/// What a kind can be asked for, by name, in a `scope` entry; None for a kind that issues nothing.
fn asks(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "aws" => Some(aws::ASKS),
        "github_app" => Some(github::ASKS),
        "google" => Some(google::ASKS),
        "vault" => Some(&vault::ASKS),
        _ => None,
    }
}

/// Whether what each entry of a `scope` asks is what the kind's issuer could be asked.
fn shapes(kind: &str, scope: &Value<'_>) {
    let check = match kind {
        "aws" => aws::asked,
        "github_app" => github::asked,
        "google" => google::asked,
        _ => return,
    };
    for entry in scope.list().unwrap_or_default() {
        check(&entry, &entry.entries().unwrap_or_default());
    }
}

/// Exact names: a pattern could send a credential where nobody meant it to go.
fn hosts(value: &Value<'_>, entries: &[(&str, Value<'_>)]) -> Option<Vec<Host>> {
    let Some((_, hosts)) = entries.iter().find(|(key, _)| *key == "hosts") else {
        value.wrong("`hosts` is missing", "list the hosts it may go to, such as [api.github.com]");
        return None;
    };
    let list = hosts.list()?;
    if list.is_empty() {
        hosts.wrong("the credential may go nowhere", "list the hosts it may go to, such as [api.github.com]");
        return None;
    }
    let read: Vec<Option<Host>> = list.iter().map(|v| v.parse(units::host)).collect();
    read.into_iter().collect()
}

fn own_kind(value: &Value<'_>) -> Option<CredentialKind> {
    value.fields(&["kind", "hosts"])?;
    Some(CredentialKind::Own)
}

fn static_kind(value: &Value<'_>) -> Option<CredentialKind> {
    let fields = value.fields(&["kind", "hosts", "secret", "inject"])?;
    let secret = fields.required("secret", "say where it is: {env: NAME} or {file: PATH}").and_then(secret);
    let inject = match fields.optional("inject") {
        Some(value) => inject(value),
        None => (!fields.has("inject")).then_some(InjectSpec::Bearer),
    };
    Some(CredentialKind::Static { secret: secret?, inject: inject? })
}

/// `{env: NAME}` or `{file: PATH}`; anything else is refused without being shown.
pub(super) fn secret(value: &Value<'_>) -> Option<SecretSource> {
    const HELP: &str = "put it in a variable or a file and write {env: NAME} or {file: PATH}";
    if !matches!(value.node.kind, Kind::Map(_)) {
        value.wrong("a secret stands inline", HELP);
        return None;
    }
    let entries = value.entries()?;
    let (source, from) = match entries.as_slice() {
        [(source @ ("env" | "file"), from)] => (*source, from),
        _ => {
            value.wrong("a secret has one source, `env` or `file`", HELP);
            return None;
        }
    };
    let text = from.text()?;
    if source == "file" {
        return Some(SecretSource::File(value.source.path(text)));
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.starts_with(|c: char| c.is_ascii_digit()) || !text.bytes().all(good) {
        // not shown: it may be the secret itself
        from.wrong("this is no name of an environment variable", "name the variable that holds the secret, such as GITHUB_TOKEN");
        return None;
    }
    Some(SecretSource::Env(text.to_string()))
}

/// Fields that frame or route a request; a credential in one of them would change what is sent.
const RESERVED: [&str; 11] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "proxy-connection",
];

fn inject(value: &Value<'_>) -> Option<InjectSpec> {
    if matches!(value.node.kind, Kind::Text(_)) {
        return value.one_of(&[("bearer", ())]).map(|()| InjectSpec::Bearer);
    }
    let fields = value.fields(&["basic", "header", "query"])?;
    let given: Vec<&str> = ["basic", "header", "query"].into_iter().filter(|k| fields.has(k)).collect();
    let [one] = given.as_slice() else {
        value.wrong("a credential is injected in one way", "write `bearer`, {basic: {user: NAME}}, {header: NAME} or {query: NAME}");
        return None;
    };
    let form = fields.optional(one)?;
    match *one {
        "basic" => {
            let user = form.fields(&["user"])?.required("user", "name the user").and_then(|v| v.parse(user))?;
            Some(InjectSpec::Basic { user })
        }
        "header" => form.parse(header).map(InjectSpec::Header),
        _ => form.parse(|text| Ok(InjectSpec::Query(text.to_string()))),
    }
}

/// RFC 7617 §2: a user holds no colon and no control character.
fn user(text: &str) -> Result<String, (String, String)> {
    if text.contains(':') || text.chars().any(char::is_control) {
        return Err((
            "a user of basic authentication holds no `:`".to_string(),
            "write the user alone; the password is the secret".to_string(),
        ));
    }
    Ok(text.to_string())
}

fn header(text: &str) -> Result<HeaderName, (String, String)> {
    let name =
        HeaderName::try_from(text).map_err(|_| (format!("`{}` is no header name", shown(text)), "write it as X-Api-Key".to_string()))?;
    if RESERVED.contains(&name.as_str()) {
        return Err((format!("`{name}` cannot carry a credential"), "name the header the API documents, such as X-Api-Key".to_string()));
    }
    Ok(name)
}
