//! Kind `aws`: keys, or a role that is assumed.

use std::time::Duration;

use serde_json::Value as Json;

use super::{ScopeSpec, secret};
use crate::config::{
    CredentialKind, Endpoint, SecretSource,
    read::{Fields, Value, shown},
    units,
};

/// Keys of AWS, and what is done with them.
#[derive(Debug, Clone)]
pub struct AwsSpec {
    /// None where a web identity is what proves who asks.
    pub keys: Option<AwsKeys>,
    /// For which service requests are signed, where the host does not say.
    pub service: Option<Box<str>>,
    /// … and for which region.
    pub region: Option<Box<str>>,
    /// None: the keys themselves sign.
    pub role: Option<AwsRole>,
}

/// Keys as IAM gives them out.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    pub id: SecretSource,
    pub secret: SecretSource,
    pub token: Option<SecretSource>,
}

/// A role that each task assumes, with no more than its calls need.
#[derive(Debug, Clone)]
pub struct AwsRole {
    pub arn: Box<str>,
    /// A token that proves who asks, instead of keys.
    pub web_identity: Option<SecretSource>,
    pub external_id: Option<Box<str>>,
    /// Whether sessions carry the principal as their source identity.
    pub source_identity: bool,
    /// The longest that a session lives.
    pub duration: Duration,
    /// None: that of the region.
    pub sts: Option<Endpoint>,
}

impl AwsSpec {
    /// Where its secrets are.
    pub(super) fn sources(&self) -> Vec<&SecretSource> {
        let keys = self.keys.iter().flat_map(|k| [Some(&k.id), Some(&k.secret), k.token.as_ref()]).flatten();
        keys.chain(self.role.iter().filter_map(|r| r.web_identity.as_ref())).collect()
    }
}

/// What a role's sessions can be asked for.
pub(super) const ASKS: &[&str] = &["allow"];

/// AWS's own bounds.
const SHORTEST: Duration = Duration::from_secs(900);
const LONGEST: Duration = Duration::from_secs(43_200);

/// Whether it is asked for something: a role is, keys are not.
pub(super) fn is_asked(entries: &[(&str, Value<'_>)]) -> bool {
    entries.iter().any(|(key, _)| *key == "role")
}

pub(super) fn kind(value: &Value<'_>) -> Option<CredentialKind> {
    const OF_KEYS: &[&str] = &["kind", "hosts", "access_key_id", "secret_access_key", "session_token", "service", "region"];
    const OF_ROLES: &[&str] = &["role", "web_identity", "external_id", "source_identity", "duration", "sts", "scope"];
    let asked = is_asked(&value.entries()?);
    if !asked && let Some((name, of_role)) = value.entries()?.iter().find(|(key, _)| OF_ROLES.contains(key)) {
        of_role
            .wrong(format!("`{name}` is for a role that is assumed, and `role` is missing"), "add `role: arn:aws:iam::ACCOUNT:role/NAME`");
        return None;
    }
    let known: Vec<&str> = OF_KEYS.iter().chain(OF_ROLES).copied().collect();
    let fields = value.fields(&known)?;
    let role = if asked { Some(role(&fields)?) } else { None };
    let by_token = role.as_ref().is_some_and(|r| r.web_identity.is_some());
    let keys = if by_token { no_keys(&fields)? } else { Some(keys(&fields)?) };
    let service = word(&fields, "service")?;
    let region = word(&fields, "region")?;
    Some(CredentialKind::Aws(Box::new(AwsSpec { keys, service, region, role })))
}

fn keys(fields: &Fields<'_>) -> Option<AwsKeys> {
    const HELP: &str = "say where it is: {env: NAME} or {file: PATH}";
    let id = fields.required("access_key_id", HELP).and_then(secret);
    let key = fields.required("secret_access_key", HELP).and_then(secret);
    let token = present(fields, "session_token", secret);
    Some(AwsKeys { id: id?, secret: key?, token: token? })
}

fn no_keys(fields: &Fields<'_>) -> Option<Option<AwsKeys>> {
    for name in ["access_key_id", "secret_access_key", "session_token"] {
        if let Some(key) = fields.optional(name) {
            key.wrong("a role is assumed with keys or with `web_identity`, not with both", "remove one of them");
            return None;
        }
    }
    Some(None)
}

fn role(fields: &Fields<'_>) -> Option<AwsRole> {
    let arn = fields.required("role", "").and_then(|v| v.parse(arn));
    let web_identity = present(fields, "web_identity", secret);
    let external_id = present(fields, "external_id", |v| v.text().map(Box::from));
    let source_identity = match fields.optional("source_identity") {
        None => Some(true),
        Some(v) => v.one_of(&[("principal", true), ("none", false)]),
    };
    let duration = match fields.optional("duration") {
        None => Some(SHORTEST),
        Some(v) => v.parse(duration),
    };
    let sts = present(fields, "sts", |v| v.parse(Endpoint::parse));
    let role = AwsRole {
        arn: arn?,
        web_identity: web_identity?,
        external_id: external_id?,
        source_identity: source_identity?,
        duration: duration?,
        sts: sts?,
    };
    if role.web_identity.is_some()
        && let Some(key) = fields.optional("external_id").or_else(|| fields.optional("source_identity"))
    {
        key.wrong("AssumeRoleWithWebIdentity does not take this", "remove it: the token itself says who asks");
        return None;
    }
    Some(role)
}

/// What `read` makes of a key that may be missing; None when it is wrong.
fn present<'a, T>(fields: &Fields<'a>, name: &str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Option<Option<T>> {
    match fields.optional(name) {
        None => (!fields.has(name)).then_some(None),
        Some(value) => read(value).map(Some),
    }
}

fn word(fields: &Fields<'_>, name: &str) -> Option<Option<Box<str>>> {
    let read = |text: &str| match text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Ok(Box::from(text)),
        false => Err((format!("`{}` is no {name}", shown(text)), "write it as in `s3` or `eu-west-1`".to_owned())),
    };
    present(fields, name, |v| v.parse(read))
}

fn arn(text: &str) -> Result<Box<str>, (String, String)> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let good = matches!(parts.as_slice(), ["arn", partition, "iam", "", account, name]
        if partition.starts_with("aws") && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())
            && name.strip_prefix("role/").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_graphic())));
    let help = "write it as arn:aws:iam::123456789012:role/NAME".to_owned();
    if good { Ok(text.into()) } else { Err((format!("`{}` is no ARN of a role", shown(text)), help)) }
}

fn duration(text: &str) -> Result<Duration, (String, String)> {
    let duration = units::duration(text)?;
    if (SHORTEST..=LONGEST).contains(&duration) {
        return Ok(duration);
    }
    Err((
        format!("STS gives no session of {}", shown(text)),
        "write 15m to 12h; what the role allows at most is its own setting".to_owned(),
    ))
}

/// Checks what is asked: `allow: [{action, resource, condition}]`, as IAM has them.
pub(super) fn check(value: &Value<'_>, _: &CredentialKind, specs: &[ScopeSpec]) -> bool {
    for spec in specs {
        let Some(Json::Array(all)) = spec.ask.get("allow") else {
            value.wrong("`allow` is no list of statements", EXAMPLE);
            return false;
        };
        if let Some(why) = all.iter().find_map(|s| statement(s).err()).or_else(|| all.is_empty().then(|| "it allows nothing".to_owned())) {
            value.wrong(format!("`allow` for {}: {why}", spec.intents.join(", ")), EXAMPLE);
            return false;
        }
    }
    true
}

const EXAMPLE: &str = "write it as allow: [{action: s3:GetObject, resource: \"arn:aws:s3:::{Bucket}/{Key}\"}]";

fn statement(statement: &Json) -> Result<(), String> {
    let Json::Object(parts) = statement else { return Err("a statement is a mapping".to_owned()) };
    if let Some(other) = parts.keys().find(|k| !matches!(k.as_str(), "action" | "resource" | "condition")) {
        return Err(format!("`{}` is no part of a statement", shown(other)));
    }
    let texts = |name: &str| match parts.get(name) {
        Some(Json::String(text)) => Ok(vec![text.as_str()]),
        Some(Json::Array(all)) if !all.is_empty() => {
            all.iter().map(|v| v.as_str().ok_or_else(|| format!("`{name}` holds something other than texts"))).collect()
        }
        _ => Err(format!("`{name}` is missing, or no text")),
    };
    let action = |text: &&str| {
        let (service, name) = text.split_once(':').unwrap_or_default();
        let good = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-*?".contains(&b));
        service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && good(service) && good(name)
    };
    if let Some(wrong) = texts("action")?.iter().find(|a| !action(a)) {
        return Err(format!("`{}` is no action", shown(wrong)));
    }
    if let Some(wrong) = texts("resource")?.iter().find(|r| !r.starts_with("arn:") && **r != "*") {
        return Err(format!("`{}` is no ARN", shown(wrong)));
    }
    match parts.get("condition") {
        None => Ok(()),
        Some(Json::Object(tests)) if tests.values().all(Json::is_object) => Ok(()),
        Some(_) => Err("`condition` is a mapping from operator to key to value".to_owned()),
    }
}
