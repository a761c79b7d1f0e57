//! Kind `vault`: a Vault or OpenBao server, which gives each task a token of its own.

use serde_json::Value as Json;

use crate::config::{
    CredentialKind, Endpoint, InjectSpec, ScopeSpec, SecretSource,
    node::Kind,
    read::{Fields, Value, shown},
};

use super::{fixed::inject, secret};

/// What it can be asked for.
pub(super) const ASKS: [&str; 2] = ["path", "policies"];

/// Where a service account's token lies in a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A server, how Remit logs in there, and what becomes of what it gives.
#[derive(Debug, Clone)]
pub struct VaultSpec {
    pub address: Endpoint,
    pub namespace: Option<String>,
    pub login: VaultLogin,
    /// What is read with the task's token; None: the token itself is the credential.
    pub secret: Option<VaultSecret>,
    pub inject: InjectSpec,
}

#[derive(Debug, Clone)]
pub enum VaultLogin {
    /// Remit's own token.
    Token(SecretSource),
    AppRole {
        mount: String,
        role_id: String,
        secret_id: Option<SecretSource>,
    },
    /// Auth methods `jwt` and `kubernetes`, which take the same.
    Jwt {
        method: &'static str,
        mount: String,
        role: String,
        jwt: SecretSource,
    },
    /// By Remit's own JWT-SVID for an audience.
    Svid {
        mount: String,
        role: String,
        audience: String,
    },
}

/// Which fields of what the path holds are the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSecret {
    /// The mount of a KV engine of version 2, in which the path then is.
    pub kv: Option<String>,
    pub field: String,
    /// The user of basic authentication stands there too.
    pub user: Option<String>,
}

impl VaultLogin {
    /// What proves Remit there.
    pub(super) fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::Token(secret) | Self::Jwt { jwt: secret, .. } => Some(secret),
            Self::AppRole { secret_id, .. } => secret_id.as_ref(),
            Self::Svid { .. } => None,
        }
    }
}

pub(super) fn vault(value: &Value<'_>) -> Option<CredentialKind> {
    let fields = value.fields(&["kind", "hosts", "address", "namespace", "login", "secret", "inject", "scope"])?;
    let address = fields.required("address", "say where it is, such as https://vault.example.com:8200");
    let address = address.and_then(|v| v.parse(Endpoint::parse));
    let namespace = match fields.optional("namespace") {
        None => None,
        Some(v) => Some(v.parse(path_of)?),
    };
    let login = fields.required("login", LOGIN).and_then(login);
    let secret = match fields.optional("secret") {
        None => None,
        Some(v) => Some(secret_fields(v)?),
    };
    let inject = injected(&fields, secret.as_ref());
    Some(CredentialKind::Vault(Box::new(VaultSpec { address: address?, namespace, login: login?, secret, inject: inject? })))
}

const LOGIN: &str = "write {token: {file: PATH}}, {approle: {role_id: ID, secret_id: {file: PATH}}}, {kubernetes: {role: NAME}} \
                     or {jwt: {role: NAME, jwt: {file: PATH}}}";

fn login(value: &Value<'_>) -> Option<VaultLogin> {
    let fields = value.fields(&["token", "approle", "kubernetes", "jwt"])?;
    let given: Vec<&str> = ["token", "approle", "kubernetes", "jwt"].into_iter().filter(|k| fields.has(k)).collect();
    let [one] = given.as_slice() else {
        value.wrong("Remit logs in in one way", LOGIN);
        return None;
    };
    let form = fields.required(one, LOGIN)?;
    match *one {
        "token" => secret(form).map(VaultLogin::Token),
        "approle" => {
            let fields = form.fields(&["mount", "role_id", "secret_id"])?;
            let role_id = fields.required("role_id", "write the RoleID; it is no secret").and_then(|v| v.text().map(str::to_owned));
            let secret_id = match fields.optional("secret_id") {
                None => None,
                Some(v) => Some(secret(v)?),
            };
            Some(VaultLogin::AppRole { mount: mount(&fields, "approle")?, role_id: role_id?, secret_id })
        }
        "kubernetes" => by_jwt(form, "kubernetes", Some(SERVICE_ACCOUNT)),
        _ => by_jwt(form, "jwt", None),
    }
}

fn by_jwt(value: &Value<'_>, method: &'static str, usual: Option<&str>) -> Option<VaultLogin> {
    let fields = value.fields(&["mount", "role", "jwt"])?;
    let role = fields.required("role", "name the role of the auth method").and_then(|v| v.text().map(str::to_owned));
    if let Some(audience) = fields.optional("jwt").and_then(svid) {
        return Some(VaultLogin::Svid { mount: mount(&fields, method)?, role: role?, audience: audience? });
    }
    let jwt = match (fields.has("jwt"), usual) {
        (false, Some(path)) => Some(SecretSource::File(path.into())),
        _ => fields.required("jwt", "say where the token is: {file: PATH}, or {svid: AUDIENCE}").and_then(secret),
    };
    Some(VaultLogin::Jwt { method, mount: mount(&fields, method)?, role: role?, jwt: jwt? })
}

/// `{svid: AUDIENCE}`; None where it is something else.
fn svid(value: &Value<'_>) -> Option<Option<String>> {
    let Kind::Map(_) = value.node.kind else { return None };
    value.entries()?.iter().any(|(key, _)| *key == "svid").then_some(())?;
    let audience = value.fields(&["svid"]).and_then(|fields| {
        let audience = fields.required("svid", "write the audience that the role is bound to")?;
        audience.text().map(str::to_owned)
    });
    Some(audience)
}

fn mount(fields: &Fields<'_>, usual: &str) -> Option<String> {
    fields.optional("mount").map_or_else(|| Some(usual.to_owned()), |v| v.parse(path_of))
}

fn secret_fields(value: &Value<'_>) -> Option<VaultSecret> {
    let fields = value.fields(&["kv", "field", "user"])?;
    let kv = match fields.optional("kv") {
        None => None,
        Some(v) => Some(v.parse(path_of)?),
    };
    let field = fields.required("field", "name the field that holds the secret, such as password")?.text()?.to_owned();
    let user = match fields.optional("user") {
        None => None,
        Some(v) => Some(v.text()?.to_owned()),
    };
    Some(VaultSecret { kv, field, user })
}

fn injected(fields: &Fields<'_>, secret: Option<&VaultSecret>) -> Option<InjectSpec> {
    match (fields.optional("inject"), secret) {
        (Some(v), Some(VaultSecret { user: Some(_), .. })) => {
            v.wrong("user and secret go as basic authentication", "remove `inject`, or `secret.user`");
            None
        }
        (None, Some(VaultSecret { user: Some(_), .. })) => Some(InjectSpec::Basic { user: String::new() }),
        (Some(v), _) => inject(v),
        (None, Some(_)) => Some(InjectSpec::Bearer),
        (None, None) => Some(InjectSpec::Header(http::HeaderName::from_static("x-vault-token"))),
    }
}

/// A path below `/v1/`, or a part of one: as it is written it is sent.
fn path_of(text: &str) -> Result<String, (String, String)> {
    let text = text.trim_end_matches('/');
    match is_path(text) {
        true => Ok(text.to_owned()),
        false => {
            Err((format!("`{}` is no path", shown(text)), "write it as team-a/secret: no `/` before it, no `..`, no blank".to_owned()))
        }
    }
}

fn is_path(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~@:+=,{}".contains(&b);
    text.split('/').all(|part| !part.is_empty() && !part.bytes().all(|b| b == b'.') && part.bytes().all(good))
}

/// What a `scope` entry asks is a path where something is read, and policies where the token itself is given.
pub(super) fn check(value: &Value<'_>, kind: &CredentialKind, scope: &[ScopeSpec]) -> bool {
    let CredentialKind::Vault(spec) = kind else { return true };
    let mut good = true;
    let mut wrong = |one: &ScopeSpec, message: String, help: &str| {
        value.wrong(format!("scope at line {}: {message}", one.place.line), help);
        good = false;
    };
    for one in scope {
        match (one.ask.get("path"), &spec.secret) {
            (Some(Json::String(path)), Some(_)) if is_path(path) && !path.starts_with("sys/") && !path.starts_with("auth/") => {}
            (Some(_), Some(_)) => {
                let help =
                    "write it as it stands in the API behind /v1/ (in a KV engine: behind MOUNT/data/), such as database/creds/reader";
                wrong(one, "`path` is no path of a secret".to_owned(), help);
            }
            (None, Some(_)) => wrong(one, "`path` is missing".to_owned(), "say what is read there: `path: database/creds/reader`"),
            (Some(_), None) => {
                wrong(one, "nothing says which field of it is used".to_owned(), "add `secret: {field: NAME}` to the credential")
            }
            (None, None) => {}
        }
        let policies = match one.ask.get("policies") {
            None if spec.secret.is_none() => {
                wrong(one, "`policies` is missing: the token would hold all that Remit's own does".to_owned(), "list the token's policies");
                continue;
            }
            None => continue,
            Some(policies) => policies,
        };
        let list: Option<Vec<&str>> = policies.as_array().map(|all| all.iter().filter_map(Json::as_str).collect());
        match list.filter(|l| !l.is_empty() && Some(l.len()) == policies.as_array().map(Vec::len)) {
            None => wrong(one, "`policies` is no list of names".to_owned(), "write it as [web-read]"),
            Some(list) if list.iter().any(|p| p.eq_ignore_ascii_case("root")) => {
                wrong(one, "`root` may do everything".to_owned(), "name a policy that allows what the intents need");
            }
            Some(_) => {}
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_it_is_sent() {
        for good in ["secret", "team-a/kv", "database/creds/{owner}", "ci/alice@acme.example"] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["", "/secret", "a//b", "a/../b", "a/.", "a b", "a?b", "a%2fb", "a#b", "a/*"] {
            assert!(!is_path(bad), "{bad}");
        }
    }
}
