//! Kind `aws`: keys, or a role that is assumed.

use std::time::Duration;

use super::secret;
use crate::config::{
    CredentialKind, Endpoint, SecretSource,
    node::Kind,
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

const EXAMPLE: &str = "write it as allow: [{action: s3:GetObject, resource: \"arn:aws:s3:::{Bucket}/{Key}\"}]";

/// Checks what an entry of `scope` asks: `allow: [{action, resource, condition}]`, as IAM has them.
pub(super) fn asked(_: &Value<'_>, entries: &[(&str, Value<'_>)]) {
    let Some((_, allow)) = entries.iter().find(|(key, _)| *key == "allow") else { return };
    let Some(statements) = allow.list() else { return };
    if statements.is_empty() {
        allow.wrong("it allows nothing", EXAMPLE);
    }
    for statement in &statements {
        let Some(fields) = statement.fields(&["action", "resource", "condition"]) else { continue };
        each(&fields, "action", |text| is_action(text).then_some(()).ok_or("is no action"));
        each(&fields, "resource", |text| (text == "*" || text.starts_with("arn:")).then_some(()).ok_or("is no ARN"));
        if let Some(condition) = fields.optional("condition") {
            for (operator, test) in condition.entries().unwrap_or_default() {
                if test.entries().is_some_and(|keys| keys.is_empty()) {
                    test.wrong(
                        format!("`{}` tests nothing", shown(operator)),
                        "write it as IAM does: {StringEquals: {\"s3:prefix\": \"{prefix}\"}}",
                    );
                }
            }
        }
    }
}

/// One text, or a list of them.
fn each(fields: &Fields<'_>, name: &str, check: impl Fn(&str) -> Result<(), &'static str>) {
    let Some(value) = fields.required(name, EXAMPLE) else { return };
    let all = if matches!(value.node.kind, Kind::List(_)) { value.list().unwrap_or_default() } else { vec![value.clone()] };
    if all.is_empty() {
        value.wrong("the list is empty", EXAMPLE);
    }
    for one in &all {
        let text = one.text();
        if let Some(Err(why)) = text.map(&check) {
            one.wrong(format!("`{}` {why}", shown(text.unwrap_or_default())), EXAMPLE);
        }
    }
}

/// `s3:GetObject`, `s3:Get*`: IAM takes no variable here, and so no parameter is filled in.
fn is_action(text: &str) -> bool {
    let word = |part: &str, wild: bool| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || (wild && b"*?".contains(&b)))
    };
    text.split_once(':').is_some_and(|(service, name)| word(service, false) && word(name, true))
}
