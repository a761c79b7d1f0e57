//! Credentials as they stand in a file. A secret's value never stands there, and is never shown.

mod aws;
mod certificate;
mod fixed;
mod github;
mod google;
mod oauth;
mod scope;
mod secret;
mod vault;

pub use aws::{AwsKeys, AwsRole, AwsSpec};
pub use certificate::{CertificateFrom, CertificateSpec};
pub use github::GithubApp;
pub use google::{Google, GoogleFederation, GoogleImpersonation, GoogleSource, GoogleSubject};
pub use oauth::{
    ActorSpec, AssertionSpec, ClientProof, ClientSpec, KeepSpec, KeySpec, OauthGrant, OauthSpec, SignedSpec, SubjectSpec, TokenType,
};
pub use scope::ScopeSpec;
pub use vault::{VaultLogin, VaultSecret, VaultSpec};

pub(super) use secret::secret;

use std::path::PathBuf;

use crate::{
    call::Host,
    config::{
        CredentialKind, CredentialSpec, SecretSource,
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

/// What the kinds of credentials have in a file.
struct Form {
    kind: &'static str,
    read: fn(&Value<'_>) -> Option<CredentialKind>,
    /// What its issuer can be asked for, by name, in an entry of `scope`; empty: it is asked for nothing.
    asks: &'static [&'static str],
    /// Whether this one is asked, of a kind that can be.
    is_asked: fn(&[(&str, Value<'_>)]) -> bool,
    /// Notes what is wrong with what an entry of `scope` asks.
    asked: fn(&Value<'_>, &[(&str, Value<'_>)]),
    /// Whether kind and `scope` go together; notes what is wrong.
    check: fn(&Value<'_>, &CredentialKind, &[ScopeSpec]) -> bool,
}

impl Form {
    /// Of a kind that is asked for nothing.
    const fn new(kind: &'static str, read: fn(&Value<'_>) -> Option<CredentialKind>) -> Self {
        Self { kind, read, asks: &[], is_asked: |_| true, asked: |_, _| {}, check: |_, _, _| true }
    }

    const fn asked(self, asks: &'static [&'static str], asked: fn(&Value<'_>, &[(&str, Value<'_>)])) -> Self {
        Self { asks, asked, ..self }
    }
}

const FORMS: [Form; 8] = [
    Form::new("static", fixed::fixed),
    Form::new("own", fixed::own),
    Form::new("certificate", certificate::certificate),
    Form::new("github_app", github::kind).asked(github::ASKS, github::asked),
    Form::new("google", google::kind).asked(google::ASKS, google::asked),
    Form::new("oauth", oauth::kind).asked(&oauth::ASKS, oauth::asked),
    Form { is_asked: aws::is_asked, ..Form::new("aws", aws::kind).asked(aws::ASKS, aws::asked) },
    Form { asks: &vault::ASKS, check: vault::check, ..Form::new("vault", vault::vault) },
];

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

fn spec(id: &Ref, value: &Value<'_>) -> Option<CredentialSpec> {
    let entries = value.entries()?;
    let Some((_, kind)) = entries.iter().find(|(key, _)| *key == "kind") else {
        value.wrong("`kind` is missing", "write `kind: static`, or `kind: own` for the agent's own login");
        return None;
    };
    let text = kind.text()?;
    let Some(form) = FORMS.iter().find(|form| form.kind == text) else {
        let help = suggestion(text, &FORMS.each_ref().map(|form| form.kind));
        kind.wrong(format!("`{}` is no kind of credential", shown(text)), help);
        return None;
    };
    let read = (form.read)(value);
    let hosts = hosts(value, &entries);
    let scope = scope(form, value, &entries);
    let (kind, scope) = (read?, scope?);
    if !(form.check)(value, &kind, &scope) {
        return None;
    }
    Some(CredentialSpec { name: id.name.clone(), hosts: hosts?, kind, scope, place: value.spot().place() })
}

/// A kind that is asked for nothing has no such key, and says so itself.
fn scope(form: &Form, value: &Value<'_>, entries: &[(&str, Value<'_>)]) -> Option<Vec<ScopeSpec>> {
    if form.asks.is_empty() || !(form.is_asked)(entries) {
        return Some(Vec::new());
    }
    let Some((_, scope)) = entries.iter().find(|(key, _)| *key == "scope") else {
        let help = format!("add `scope: [{{intents: [github.issues.*], …}}]`; asked can be: {}", form.asks.join(", "));
        value.wrong("`scope` is missing: it says what is asked of the issuer for which intents", help);
        return None;
    };
    for entry in scope.list().unwrap_or_default() {
        (form.asked)(&entry, &entry.entries().unwrap_or_default());
    }
    scope::scope(scope, form.asks)
}

impl CredentialKind {
    /// The files with secrets that it names.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let secrets: Vec<&SecretSource> = match self {
            Self::Static { secret, .. } => vec![secret],
            Self::Own | Self::Certificate(CertificateSpec { from: CertificateFrom::Svid, .. }) => Vec::new(),
            Self::Certificate(CertificateSpec { from: CertificateFrom::Files { cert, key }, .. }) => {
                return vec![cert.clone(), key.clone()];
            }
            Self::Aws(aws) => aws.sources(),
            Self::GithubApp(app) => vec![&app.key],
            Self::Google(google) => google.source.secret().into_iter().collect(),
            Self::Oauth(oauth) => oauth.sources(),
            Self::Vault(vault) => vault.login.secret().into_iter().collect(),
        };
        let file = |source: &&SecretSource| match source {
            SecretSource::File(path) => Some(path.clone()),
            SecretSource::Env(_) => None,
        };
        secrets.iter().filter_map(file).collect()
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
