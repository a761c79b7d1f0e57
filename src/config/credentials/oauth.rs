//! `kind: oauth`: what a file says of an authorization server, its client and its grant.

mod shown;
mod spec;

use crate::config::{
    CredentialKind, Endpoint, credentials,
    node::Kind,
    read::{Fields, Value},
};

use shown::{actor, client, signed, subject};

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
