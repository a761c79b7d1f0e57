//! Credentials of kind `oauth`: what loads, and what a user gets wrong.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::path::Path;

use remit::config::{ActorSpec, AssertionSpec, ClientProof, Config, CredentialKind, OauthGrant, OauthSpec, SubjectSpec, TokenType};

#[test]
fn the_example_loads_with_each_grant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/credentials");
    let config = Config::parse("version: 1\ncredentials: oauth.yaml\n", &folder, Path::new("remit.yaml")).unwrap();
    let named = |name: &str| -> OauthSpec {
        match config.credentials.iter().find(|c| &*c.name == name).map(|c| &c.kind) {
            Some(CredentialKind::Oauth(oauth)) => (**oauth).clone(),
            _ => panic!("{name}"),
        }
    };
    let crm = named("crm");
    assert_eq!((crm.grant.clone(), crm.revocation.is_some()), (OauthGrant::ClientCredentials, true));
    assert!(matches!(crm.client.unwrap().proof, ClientProof::Basic(_)));
    let files = named("files");
    assert!(matches!(&files.client.as_ref().unwrap().proof, ClientProof::Key(key) if key.kid.as_deref() == Some("remit-2026")));
    let OauthGrant::TokenExchange { subject, actor } = &files.grant else { panic!() };
    assert_eq!(*subject, SubjectSpec::Principal(TokenType::AccessToken));
    assert!(matches!(actor, Some(ActorSpec::Held(_, TokenType::Jwt))) && files.exchanges_principal());
    assert!(matches!(named("calendar").grant, OauthGrant::RefreshToken { .. }));
    let ledger = named("ledger");
    assert!(matches!(&ledger.grant, OauthGrant::JwtBearer(AssertionSpec::Signed(s)) if &*s.subject == "{principal.id}"));
    assert!(ledger.client.is_none() && !ledger.exchanges_principal());
    for file in ["crm.secret", "remit.pem", "calendar.consent"] {
        assert!(config.files.contains(&folder.join(file)), "{file}");
    }
}

fn problems(body: &str) -> String {
    let text = format!("version: 1\ncredentials:\n  it: {{kind: oauth, hosts: [a.example], {body}}}\n");
    match Config::parse(&text, Path::new("/nonexistent"), Path::new("remit.yaml")) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_is_wrong_is_named() {
    let scope = "scope: [{intents: [a], scope: [read]}]";
    let token = "token_endpoint: \"https://id.example/token\"";
    let client = "client: {id: remit, secret: {file: s}}";
    let signed = "{key: {file: k}, issuer: me, subject: \"{principal.id}\"}";
    let keep = "keep: {file: f, key: {file: k}}";
    let good = [
        format!("grant: client_credentials, {token}, {client}, {scope}"),
        format!("grant: client_credentials, {token}, client: {{id: remit, secret: {{env: S}}, send: post}}, {scope}"),
        format!("grant: client_credentials, {token}, client: {{id: remit, assertion: {{file: a}}}}, {scope}"),
        format!("grant: refresh_token, {token}, client: {{id: public}}, refresh: {{file: r}}, {keep}, {scope}"),
        format!("grant: jwt_bearer, {token}, assertion: {{file: a}}, {scope}"),
        format!("grant: token_exchange, {token}, {client}, actor: client, {scope}"),
        format!("grant: token_exchange, {token}, {client}, actor: {{svid: id}}, {scope}"),
        format!("grant: token_exchange, {token}, {client}, subject: {{principal: id_token}}, issuer: i, actor: {signed}, {scope}"),
        format!("grant: token_exchange, {token}, {client}, subject: {{env: S, type: jwt}}, {scope}"),
    ];
    for body in good {
        assert_eq!(problems(&body), "", "{body}");
    }
    let table = [
        (
            format!("{token}, {client}, {scope}"),
            ": `grant` is missing; write client_credentials, refresh_token, jwt_bearer or token_exchange",
        ),
        (format!("grant: password, {token}, {client}, {scope}"), ".grant: `password` is no value for this"),
        (format!("grant: client_credentials, {client}, {scope}"), ": `token_endpoint` is missing"),
        (
            format!("grant: client_credentials, token_endpoint: \"http://id.example/t\", {client}, {scope}"),
            ".token_endpoint: `http://id.example/t` is plain HTTP beyond loopback",
        ),
        (format!("grant: client_credentials, {token}, {scope}"), ": `client` is missing"),
        (
            format!("grant: client_credentials, {token}, client: {{id: x}}, {scope}"),
            ".client: a public client is given no token of its own",
        ),
        (
            format!("grant: client_credentials, {token}, client: {{id: x, secret: hunter2}}, {scope}"),
            ".client.secret: a secret stands inline",
        ),
        (
            format!("grant: client_credentials, {token}, client: {{id: x, secret: {{file: a}}, key: {{file: b}}}}, {scope}"),
            ".client: a client proves itself in one way",
        ),
        (
            format!("grant: client_credentials, {token}, client: {{id: x, send: post}}, {scope}"),
            ".client.send: without `secret` this is not read",
        ),
        (
            format!("grant: client_credentials, {token}, client: {{id: x, key: {{file: k}}}}, {scope}"),
            ": what Remit signs names for whom it is",
        ),
        (
            format!("grant: client_credentials, {token}, {client}, refresh: {{file: r}}, {scope}"),
            ".refresh: this grant does not read the key",
        ),
        (format!("grant: refresh_token, {token}, {client}, {keep}, {scope}"), ": `refresh` is missing"),
        (format!("grant: refresh_token, {token}, {client}, refresh: {{file: r}}, {scope}"), ": `keep` is missing"),
        (format!("grant: jwt_bearer, {token}, {scope}"), ": `assertion` is missing"),
        (
            format!(
                "grant: jwt_bearer, {token}, issuer: i, assertion: {{key: {{file: k}}, issuer: me, subject: \"{{user.id}}\"}}, {scope}"
            ),
            ".assertion.subject: `{user.id}` is not known here; known here: {principal.id}, {agent.id}, {agent.spiffe_id}, {task.id}",
        ),
        (format!("grant: token_exchange, {token}, {client}, subject: alice, {scope}"), ".subject: `alice` is no value for this"),
        (
            format!("grant: token_exchange, {token}, {client}, actor: {{file: a, type: saml2}}, {scope}"),
            ".actor.type: `saml2` is no value for this",
        ),
        (format!("grant: client_credentials, {token}, {client}"), ": `scope` is missing: it says what is asked of the issuer"),
        (format!("grant: client_credentials, {token}, {client}, scope: [{{intents: [a]}}]"), ".scope[0]: it asks for nothing"),
        (
            format!("grant: client_credentials, {token}, {client}, scope: [{{intents: [a], scope: \"read write\"}}]"),
            ".scope[0].scope: this cannot be asked of an authorization server; write one scope each, such as [read, write]",
        ),
        (
            format!("grant: client_credentials, {token}, {client}, scope: [{{intents: [a], scope: []}}]"),
            ".scope[0].scope: nothing is listed",
        ),
        (
            format!("grant: client_credentials, {token}, {client}, scope: [{{intents: [a], resource: \"https://a.example/#x\"}}]"),
            ".scope[0].resource: this cannot be asked",
        ),
        (format!("grant: client_credentials, {token}, {client}, scope: [{{intents: [a], scopes: [x]}}]"), ".scope[0].scopes: unknown key"),
    ];
    for (body, want) in table {
        let found = problems(&body);
        assert!(found.starts_with(&format!("remit.yaml:3: credentials.it{want}")), "{body}\n{found}");
        assert!(!found.contains("hunter2"));
    }
}
