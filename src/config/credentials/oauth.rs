//! `kind: oauth`: what a file says of an authorization server, its client and its grant.

mod spec;

use crate::config::{
    CredentialKind, Endpoint, SecretSource, credentials,
    node::Kind,
    read::{Fields, Value, shown},
};

pub use spec::{
    ActorSpec, AssertionSpec, ClientProof, ClientSpec, KeepSpec, KeySpec, OauthGrant, OauthSpec, SignedSpec, SubjectSpec, TokenType,
};

/// What a `scope` entry may ask of the server.
pub(super) const ASKS: [&str; 3] = ["scope", "resource", "audience"];

const SECRET: &str = "say where it is: {env: NAME} or {file: PATH}";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    ClientCredentials,
    RefreshToken,
    JwtBearer,
    TokenExchange,
}

const GRANTS: [(&str, Grant); 4] = [
    ("client_credentials", Grant::ClientCredentials),
    ("refresh_token", Grant::RefreshToken),
    ("jwt_bearer", Grant::JwtBearer),
    ("token_exchange", Grant::TokenExchange),
];

pub(super) fn kind(value: &Value<'_>) -> Option<CredentialKind> {
    const KEYS: [&str; 13] = [
        "kind",
        "hosts",
        "scope",
        "grant",
        "token_endpoint",
        "revocation_endpoint",
        "issuer",
        "client",
        "refresh",
        "keep",
        "assertion",
        "subject",
        "actor",
    ];
    let fields = value.fields(&KEYS)?;
    let grant = fields.required("grant", "write client_credentials, refresh_token, jwt_bearer or token_exchange")?.one_of(&GRANTS)?;
    strays(&fields, grant);
    let token = fields.required("token_endpoint", "write the server's `token_endpoint`, such as https://id.example.org/token");
    let token = token.and_then(|v| v.parse(Endpoint::parse));
    let revocation = settled(fields.optional("revocation_endpoint").map(|v| v.parse(Endpoint::parse)))?;
    let issuer = settled(fields.optional("issuer").map(Value::text))?.map(Box::from);
    let client = settled(fields.optional("client").map(client))?;
    let spec = OauthSpec { token: token?, revocation, issuer, client, grant: self::grant(&fields, grant)? };
    fits(&fields, &spec, grant).then(|| CredentialKind::Oauth(Box::new(spec)))
}

/// What an entry of `scope` asks, looked at one by one.
pub(super) fn asked(_entry: &Value<'_>, asks: &[(&str, Value<'_>)]) {
    for (name, value) in asks {
        match *name {
            "scope" => words(value, is_scope, "one scope each, such as [read, write]"),
            "resource" => words(value, is_resource, "URLs without a fragment, such as https://api.example.org"),
            "audience" => words(value, |_| true, "the names of those who take the token"),
            _ => {}
        }
    }
}

/// RFC 6749 §3.3: what stands between two blanks.
fn is_scope(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'!' | b'#'..=b'[' | b']'..=b'~'))
}

/// RFC 8707 §2.
fn is_resource(text: &str) -> bool {
    text.contains(':') && !text.contains('#') && !text.contains(char::is_whitespace)
}

/// One text, or a list of them, each of which `fits`.
fn words(value: &Value<'_>, fits: impl Fn(&str) -> bool, wanted: &str) {
    let each = match value.node.kind {
        Kind::List(_) => value.list().unwrap_or_default(),
        _ => vec![value.clone()],
    };
    if each.is_empty() {
        value.wrong("nothing is listed, and the issuer's default is never asked for", format!("write {wanted}"));
    }
    for one in &each {
        if !matches!(&one.node.kind, Kind::Text(text) if !text.is_empty() && fits(text)) {
            one.wrong("this cannot be asked of an authorization server", format!("write {wanted}"));
        }
    }
}

/// Keys of another grant: they would be read by nobody.
fn strays(fields: &Fields<'_>, grant: Grant) {
    for (key, of) in [
        ("refresh", Grant::RefreshToken),
        ("keep", Grant::RefreshToken),
        ("assertion", Grant::JwtBearer),
        ("subject", Grant::TokenExchange),
        ("actor", Grant::TokenExchange),
    ] {
        if of != grant
            && let Some(stray) = fields.optional(key)
        {
            let name = GRANTS.iter().find(|(_, g)| *g == of).map_or("", |(name, _)| *name);
            stray.wrong("this grant does not read the key", format!("remove it, or write `grant: {name}`"));
        }
    }
}

fn grant(fields: &Fields<'_>, grant: Grant) -> Option<OauthGrant> {
    Some(match grant {
        Grant::ClientCredentials => OauthGrant::ClientCredentials,
        Grant::RefreshToken => {
            let token = fields.required("refresh", "say where the refresh token of the user's consent is: {file: PATH} or {env: NAME}");
            let token = token.and_then(credentials::secret);
            let keep = fields.required(
                "keep",
                "a server that rotates the token makes the one before worthless: say where the newest is kept, {file: PATH, key: {file: PATH}}",
            );
            OauthGrant::RefreshToken { keep: keep.and_then(keep_in)?, token: token? }
        }
        Grant::JwtBearer => {
            let assertion = fields.required("assertion", "write {key: {file: PATH}, issuer: …, subject: …}, or {file: PATH}")?;
            OauthGrant::JwtBearer(if has(assertion, "key") {
                AssertionSpec::Signed(signed(assertion)?)
            } else {
                AssertionSpec::Held(credentials::secret(assertion)?)
            })
        }
        Grant::TokenExchange => {
            let subject = match fields.optional("subject") {
                None => SubjectSpec::Principal(TokenType::AccessToken),
                Some(v) => subject(v)?,
            };
            let actor = settled(fields.optional("actor").map(actor))?.flatten();
            OauthGrant::TokenExchange { subject, actor }
        }
    })
}

/// What has to stand together, or may not.
fn fits(fields: &Fields<'_>, spec: &OauthSpec, grant: Grant) -> bool {
    let proof = spec.client.as_ref().map(|c| &c.proof);
    let whole = &fields.whole;
    match (grant, proof) {
        (Grant::JwtBearer, None) | (_, Some(_)) => {}
        (_, None) => {
            whole.wrong("`client` is missing", "write the client that the server registered: {id: NAME, secret: {file: PATH}}");
            return false;
        }
    }
    if grant == Grant::ClientCredentials && proof == Some(&ClientProof::Nothing) {
        let client = fields.optional("client").unwrap_or(whole);
        client.wrong("a public client is given no token of its own (RFC 6749 §4.4)", "add `secret`, `key` or `assertion`");
        return false;
    }
    let signs = matches!(proof, Some(ClientProof::Key(_)))
        || matches!(&spec.grant, OauthGrant::JwtBearer(AssertionSpec::Signed(_)))
        || matches!(&spec.grant, OauthGrant::TokenExchange { actor: Some(ActorSpec::Signed(_)), .. });
    if signs && spec.issuer.is_none() {
        let help =
            "write the server's `issuer` as its metadata has it, such as https://id.example.org (some want the token endpoint's URL)";
        whole.wrong("what Remit signs names for whom it is, and `issuer` is missing", help);
        return false;
    }
    true
}

fn client(value: &Value<'_>) -> Option<ClientSpec> {
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
fn signed(value: &Value<'_>) -> Option<SignedSpec> {
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
fn subject(value: &Value<'_>) -> Option<SubjectSpec> {
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
fn actor(value: &Value<'_>) -> Option<Option<ActorSpec>> {
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

/// `{file: PATH, key: {file: PATH}}`.
fn keep_in(value: &Value<'_>) -> Option<KeepSpec> {
    let fields = value.fields(&["file", "key"])?;
    let file = fields.required("file", "say in which file it is kept, sealed").and_then(Value::path);
    let key = fields.required("key", "say where the key is that seals it: {file: PATH}; it is made where there is none yet");
    let key = key.and_then(|v| v.fields(&["file"])?.required("file", "name the file that holds it")?.path());
    Some(KeepSpec { file: file?, key: key? })
}

fn has(value: &Value<'_>, key: &str) -> bool {
    matches!(&value.node.kind, Kind::Map(entries) if entries.iter().any(|e| e.key == key))
}

/// Absent stays absent; present and wrong ends the spec.
fn settled<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}
