//! `kind: google`: who Remit is to Google, and as whom it acts.

use crate::config::{
    CredentialKind, Endpoint, SecretSource,
    credentials::secret,
    node::Kind,
    read::{Fields, Value, shown},
};

/// Access tokens of Google Cloud.
#[derive(Debug, Clone)]
pub struct Google {
    pub source: GoogleSource,
    /// The service account that a token is made for, where it is another than the source's.
    pub impersonate: Option<GoogleImpersonation>,
}

/// What Remit proves to Google.
#[derive(Debug, Clone)]
pub enum GoogleSource {
    /// The JSON of a service account's key, which names its token endpoint.
    Key(SecretSource),
    /// A token of another issuer, exchanged (workload identity federation).
    Federation(GoogleFederation),
}

impl GoogleSource {
    /// Where what it proves is.
    pub(in crate::config) fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::Key(source) | Self::Federation(GoogleFederation { token: GoogleSubject::Secret(source), .. }) => Some(source),
            Self::Federation(_) => None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct GoogleFederation {
    /// `//iam.googleapis.com/projects/N/locations/global/workloadIdentityPools/P/providers/I`.
    pub audience: Box<str>,
    pub token: GoogleSubject,
    /// RFC 8693 §3.
    pub token_type: &'static str,
    pub sts: Endpoint,
}

/// The token that is exchanged.
#[derive(Debug, Clone)]
pub enum GoogleSubject {
    /// Read anew whenever the file changes: whoever writes it rotates it.
    Secret(SecretSource),
    /// Remit's own JWT-SVID for this audience, from the Workload API.
    Svid(Box<str>),
}

#[derive(Debug, Clone)]
pub struct GoogleImpersonation {
    pub account: Box<str>,
    pub iam: Endpoint,
}

const STS: &str = "https://sts.googleapis.com/v1/token";
const IAM: &str = "https://iamcredentials.googleapis.com";

/// What a `scope` may ask for.
pub(super) const ASKS: &[&str] = &["scopes"];

pub(super) fn kind(value: &Value<'_>) -> Option<CredentialKind> {
    let fields = value.fields(&["kind", "hosts", "scope", "key", "federation", "impersonate"])?;
    let source = match (fields.optional("key"), fields.optional("federation")) {
        (Some(key), None) => secret(key).map(GoogleSource::Key),
        (None, Some(v)) => federation(v).map(GoogleSource::Federation),
        _ => {
            value.wrong(
                "nothing says who Remit is to Google, or two things do",
                "write `key: {file: KEY.json}` of a service account, or `federation: {audience: …, token: {file: TOKEN}}`",
            );
            None
        }
    };
    let impersonate = match fields.optional("impersonate") {
        Some(v) => Some(impersonation(v)?),
        None => None,
    };
    Some(CredentialKind::Google(Google { source: source?, impersonate }))
}

fn federation(value: &Value<'_>) -> Option<GoogleFederation> {
    let fields = value.fields(&["audience", "token", "token_type", "sts"])?;
    let audience = fields.required("audience", "write the provider's full name, //iam.googleapis.com/projects/…").and_then(audience);
    let token = fields.required("token", "say where the token to exchange is: {file: PATH}, or {svid: AUDIENCE}").and_then(subject);
    let types = [
        ("jwt", "urn:ietf:params:oauth:token-type:jwt"),
        ("id_token", "urn:ietf:params:oauth:token-type:id_token"),
        ("saml2", "urn:ietf:params:oauth:token-type:saml2"),
    ];
    let token_type = fields.optional("token_type").map_or(Some(types[0].1), |v| v.one_of(&types));
    let sts = at(&fields, "sts", STS);
    Some(GoogleFederation { audience: audience?, token: token?, token_type: token_type?, sts: sts? })
}

/// `{svid: AUDIENCE}`, or where a secret is.
fn subject(value: &Value<'_>) -> Option<GoogleSubject> {
    match &value.node.kind {
        Kind::Map(_) if value.entries()?.iter().any(|(key, _)| *key == "svid") => {
            let fields = value.fields(&["svid"])?;
            let audience = fields.required("svid", "write the audience that the provider expects")?.text()?;
            Some(GoogleSubject::Svid(audience.into()))
        }
        _ => secret(value).map(GoogleSubject::Secret),
    }
}

fn audience(value: &Value<'_>) -> Option<Box<str>> {
    let text = value.text()?;
    let whole = text.starts_with("//iam.googleapis.com/") && text.contains("/providers/") && text.bytes().all(|b| b.is_ascii_graphic());
    if !whole {
        value.wrong(
            format!("`{}` is no provider of a workload identity pool", shown(text)),
            "write //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
        );
        return None;
    }
    Some(text.into())
}

/// `ACCOUNT`, or `{account: ACCOUNT, iam: URL}`.
fn impersonation(value: &Value<'_>) -> Option<GoogleImpersonation> {
    if matches!(value.node.kind, Kind::Text(_)) {
        return Some(GoogleImpersonation { account: account(value)?, iam: Endpoint::parse(IAM).ok()? });
    }
    let fields = value.fields(&["account", "iam"])?;
    let account = fields.required("account", "name the service account by its e-mail address").and_then(account);
    let iam = at(&fields, "iam", IAM);
    Some(GoogleImpersonation { account: account?, iam: iam? })
}

/// An address; it stands in the path of what is asked.
fn account(value: &Value<'_>) -> Option<Box<str>> {
    let text = value.text()?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"@.-_:".contains(&b);
    if !text.contains('@') || !text.bytes().all(good) {
        value.wrong(
            format!("`{}` is no service account", shown(text)),
            "write its e-mail address, such as bot@project.iam.gserviceaccount.com",
        );
        return None;
    }
    Some(text.into())
}

fn at(fields: &Fields<'_>, key: &str, default: &str) -> Option<Endpoint> {
    match fields.optional(key) {
        Some(v) => v.parse(Endpoint::parse),
        None => Endpoint::parse(default).ok(),
    }
}

/// What one entry of `scope` asks. Without scopes Google would give the account's own default.
pub(super) fn asked(value: &Value<'_>, asks: &[(&str, Value<'_>)]) {
    let Some((_, scopes)) = asks.iter().find(|(k, _)| *k == "scopes") else {
        value.wrong(
            "`scopes` is missing: no token is asked for without",
            "write the narrowest that the call needs, such as [https://www.googleapis.com/auth/devstorage.read_only]",
        );
        return;
    };
    let Some(list) = scopes.list() else { return };
    if list.is_empty() {
        scopes.wrong("no scope is listed", "write at least one");
    }
    for item in &list {
        if let Some(text) = item.text()
            && (text.is_empty() || text.bytes().any(|b| !b.is_ascii_graphic() || b == b'"' || b == b'\\'))
        {
            item.wrong(
                format!("`{}` is no OAuth scope", shown(text)),
                "write one scope an item, such as https://www.googleapis.com/auth/drive",
            );
        }
    }
}
