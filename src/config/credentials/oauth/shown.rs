//! How the client, and whom a token is for, are shown.

use super::{SECRET, has, settled};
use crate::config::{
    SecretSource, credentials,
    node::Kind,
    read::{Fields, Value, shown},
};

use super::{ActorSpec, ClientProof, ClientSpec, KeySpec, SignedSpec, SubjectSpec, TokenType};

pub(super) fn client(value: &Value<'_>) -> Option<ClientSpec> {
    let fields = value.fields(&["id", "secret", "send", "key", "kid", "assertion"])?;
    let id = fields.required("id", "write the client's id as the server registered it").and_then(Value::text);
    let send = match fields.optional("send") {
        None => ClientProof::Basic as fn(SecretSource) -> ClientProof,
        Some(v) => v.one_of(&[("basic", ClientProof::Basic as fn(SecretSource) -> ClientProof), ("post", ClientProof::Post)])?,
    };
    for (key, with) in [("send", "secret"), ("kid", "key")] {
        if let Some(stray) = fields.optional(key).filter(|_| !fields.has(with)) {
            stray.wrong(format!("without `{with}` this is not read"), format!("add `{with}`, or remove it"));
        }
    }
    let proof = match (fields.optional("secret"), fields.optional("key"), fields.optional("assertion")) {
        (None, None, None) => ClientProof::Nothing,
        (Some(secret), None, None) => send(credentials::secret(secret)?),
        (None, Some(_), None) => ClientProof::Key(key(&fields)?),
        (None, None, Some(assertion)) => ClientProof::Assertion(credentials::secret(assertion)?),
        _ => {
            value.wrong("a client proves itself in one way", "keep one of `secret`, `key` and `assertion`");
            return None;
        }
    };
    Some(ClientSpec { id: id?.into(), proof })
}

fn key(fields: &Fields<'_>) -> Option<KeySpec> {
    let pem = fields.required("key", SECRET).and_then(credentials::secret);
    let kid = settled(fields.optional("kid").map(Value::text))?.map(Box::from);
    Some(KeySpec { pem: pem?, kid })
}

/// `{key, kid, issuer, subject}`.
pub(super) fn signed(value: &Value<'_>) -> Option<SignedSpec> {
    let fields = value.fields(&["key", "kid", "issuer", "subject"])?;
    let key = key(&fields);
    let issuer = fields.required("issuer", "write the `iss` by which the server knows the key").and_then(Value::text);
    let subject = fields.required("subject", "write the `sub`, such as \"{principal.id}\" or \"{agent.spiffe_id}\"");
    let subject = subject.and_then(|v| v.parse(template));
    Some(SignedSpec { key: key?, issuer: issuer?.into(), subject: subject? })
}

/// What a subject may be made from.
const NAMES: [&str; 4] = ["principal.id", "agent.id", "agent.spiffe_id", "task.id"];

fn template(text: &str) -> Result<Box<str>, (String, String)> {
    let known = || NAMES.map(|n| format!("{{{n}}}")).join(", ");
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let name = after.split_once('}');
        let Some((name, after)) = name else {
            return Err(("a `{` is not closed".to_owned(), format!("known here: {}", known())));
        };
        if !NAMES.contains(&name) {
            return Err((format!("`{{{}}}` is not known here", shown(name)), format!("known here: {}", known())));
        }
        rest = after;
    }
    Ok(text.into())
}

const TYPES: [(&str, TokenType); 3] = [("access_token", TokenType::AccessToken), ("id_token", TokenType::IdToken), ("jwt", TokenType::Jwt)];

/// `principal`, `{principal: TYPE}` or `{file: PATH, type: TYPE}`.
pub(super) fn subject(value: &Value<'_>) -> Option<SubjectSpec> {
    if matches!(value.node.kind, Kind::Text(_)) {
        return value.one_of(&[("principal", ())]).map(|()| SubjectSpec::Principal(TokenType::AccessToken));
    }
    if has(value, "principal") {
        let fields = value.fields(&["principal"])?;
        return Some(SubjectSpec::Principal(fields.optional("principal")?.one_of(&TYPES)?));
    }
    let (source, kind) = held(value, TokenType::AccessToken)?;
    Some(SubjectSpec::Held(source, kind))
}

/// `client`, `{file: PATH, type: TYPE}`, `{svid: AUDIENCE}` or `{key, kid, issuer, subject}`. `client`: nobody else acts.
pub(super) fn actor(value: &Value<'_>) -> Option<Option<ActorSpec>> {
    if matches!(value.node.kind, Kind::Text(_)) {
        return value.one_of(&[("client", ())]).map(|()| None);
    }
    if has(value, "key") {
        return Some(Some(ActorSpec::Signed(signed(value)?)));
    }
    if has(value, "svid") {
        let fields = value.fields(&["svid"])?;
        return Some(Some(ActorSpec::Svid(fields.optional("svid")?.text()?.into())));
    }
    let (source, kind) = held(value, TokenType::Jwt)?;
    Some(Some(ActorSpec::Held(source, kind)))
}

/// A token in a variable or file, with its type.
fn held(value: &Value<'_>, default: TokenType) -> Option<(SecretSource, TokenType)> {
    let fields = value.fields(&["env", "file", "type"])?;
    let kind = settled(fields.optional("type").map(|v| v.one_of(&TYPES)))?.unwrap_or(default);
    match (fields.optional("env"), fields.optional("file")) {
        (Some(env), None) => Some((SecretSource::Env(env.parse(credentials::secret::variable)?), kind)),
        (None, Some(file)) => Some((SecretSource::File(file.path()?), kind)),
        _ => {
            value.wrong("a token has one source, `env` or `file`", SECRET);
            None
        }
    }
}
