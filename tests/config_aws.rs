//! Credentials of kind `aws`: what loads, and what a user gets wrong.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::{path::Path, time::Duration};

use remit::config::{AwsSpec, Config, CredentialKind, SecretSource};

#[test]
fn the_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/credentials");
    let config = Config::parse("version: 1\ncredentials: aws.yaml\n", &folder, Path::new("remit.yaml")).unwrap();
    let named = |name: &str| -> (AwsSpec, usize) {
        let found = config.credentials.iter().find(|c| &*c.name == name).unwrap();
        let CredentialKind::Aws(aws) = &found.kind else { panic!() };
        (AwsSpec::clone(aws), found.scope.len())
    };
    let (lake, scope) = named("lake");
    let role = lake.role.unwrap();
    assert_eq!(
        (&*role.arn, role.source_identity, role.duration),
        ("arn:aws:iam::123456789012:role/agents", true, Duration::from_secs(900))
    );
    assert!(lake.keys.is_some() && role.sts.is_none() && scope == 3);
    let (orders, _) = named("orders");
    let role = orders.role.unwrap();
    assert_eq!(role.duration, Duration::from_secs(3600));
    assert!(orders.keys.is_none() && matches!(role.web_identity, Some(SecretSource::File(_))));
    let (minio, scope) = named("minio");
    assert_eq!((minio.service.as_deref(), minio.region.as_deref(), minio.role.is_none(), scope), (Some("s3"), Some("us-east-1"), true, 0));
    for name in ["token", "minio.id", "minio.secret"] {
        assert!(config.files.iter().any(|f| f.ends_with(name)), "{name} is a file that Remit obeys");
    }
}

fn problems(body: &str) -> String {
    let text = format!("version: 1\ncredentials:\n  it: {{kind: aws, hosts: [s3.eu-west-1.amazonaws.com], {body}}}\n");
    match Config::parse(&text, Path::new("/nonexistent"), Path::new("remit.yaml")) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

const KEYS: &str = "access_key_id: {env: A}, secret_access_key: {env: B}";
const ROLE: &str = "role: \"arn:aws:iam::123456789012:role/agents\"";
const SCOPE: &str = "scope: [{intents: [aws.s3.get-object], allow: [{action: s3:GetObject, resource: \"arn:aws:s3:::{Bucket}/{Key}\"}]}]";

/// In each body `KEYS`, `ROLE` and `SCOPE` stand for what is right.
fn check(table: &[(&str, &str)]) {
    for (body, want) in table {
        let body = body.replace("KEYS", KEYS).replace("ROLE", ROLE).replace("SCOPE", SCOPE);
        let found = problems(&body);
        let first = found.lines().next().unwrap_or_default();
        let want = if want.is_empty() { String::new() } else { format!("remit.yaml:3: credentials.it{want}") };
        assert!(if want.is_empty() { found.is_empty() } else { first.starts_with(&want) }, "{body}\n  {found}\n  {want}");
    }
}

#[test]
fn what_is_right_loads() {
    check(&[
        ("KEYS", ""),
        ("KEYS, session_token: {file: t}, region: eu-west-1, service: s3", ""),
        ("KEYS, ROLE, SCOPE", ""),
        ("KEYS, ROLE, external_id: acme, source_identity: none, duration: 12h, sts: \"https://sts.example.com\", SCOPE", ""),
        ("web_identity: {file: t}, ROLE, SCOPE", ""),
        (
            "KEYS, ROLE, scope: [{effects: [read], allow: [{action: [\"s3:Get*\", s3:ListBucket], resource: [\"*\"], \
             condition: {StringEquals: {\"s3:prefix\": \"a\"}}}]}]",
            "",
        ),
    ]);
}

#[test]
fn what_is_wrong_is_named() {
    check(&[
        ("secret_access_key: {env: B}", ": `access_key_id` is missing; say where it is: {env: NAME} or {file: PATH}"),
        ("access_key_id: AKIAHUNTER2, secret_access_key: {env: B}", ".access_key_id: a secret stands inline"),
        ("KEYS, secret: {env: C}", ".secret: unknown key; known here: `kind`"),
        ("KEYS, external_id: x", ".external_id: `external_id` is for a role that is assumed, and `role` is missing"),
        ("KEYS, SCOPE", ".scope: `scope` is for a role that is assumed, and `role` is missing"),
        ("KEYS, ROLE", ": `scope` is missing"),
        ("KEYS, web_identity: {file: t}, ROLE, SCOPE", ".access_key_id: a role is assumed with keys or with `web_identity`, not with both"),
        ("web_identity: {file: t}, ROLE, external_id: x, SCOPE", ".external_id: AssumeRoleWithWebIdentity does not take this"),
        ("KEYS, role: agents, SCOPE", ".role: `agents` is no ARN of a role; write it as arn:aws:iam::123456789012:role/NAME"),
        ("KEYS, role: \"arn:aws:iam::12345:role/x\", SCOPE", ".role: `arn:aws:iam::12345:role/x` is no ARN of a role"),
        ("KEYS, role: \"arn:aws:iam::123456789012:user/x\", SCOPE", ".role: `arn:aws:iam::123456789012:user/x` is no ARN of a role"),
        ("KEYS, ROLE, duration: 5m, SCOPE", ".duration: STS gives no session of 5m; write 15m to 12h"),
        ("KEYS, ROLE, duration: 1d, SCOPE", ".duration: STS gives no session of 1d"),
        ("KEYS, ROLE, source_identity: alice, SCOPE", ".source_identity: `alice` is no value for this"),
        ("KEYS, ROLE, sts: \"http://sts.example.com\", SCOPE", ".sts: `http://sts.example.com` is plain HTTP beyond loopback"),
        ("KEYS, region: \"eu west\"", ".region: `eu west` is no region"),
        ("KEYS, ROLE, scope: [{intents: [aws.s3.get-object], policy: x}]", ".scope[0].policy: unknown key"),
        ("KEYS, ROLE, scope: [{intents: [aws.s3.get-object]}]", ".scope[0]: it asks for nothing"),
        ("KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: []}]", ".scope[0].allow: it allows nothing"),
        ("KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: x}]", ".scope[0].allow: a text where a list is wanted"),
        ("KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: [{action: s3:GetObject}]}]", ".scope[0].allow[0]: `resource` is missing"),
        ("KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: [{resource: \"*\"}]}]", ".scope[0].allow[0]: `action` is missing"),
        (
            "KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: [{effect: Deny, action: s3:GetObject, resource: \"*\"}]}]",
            ".scope[0].allow[0].effect: unknown key",
        ),
        (
            "KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: [{action: GetObject, resource: \"*\"}]}]",
            ".scope[0].allow[0].action: `GetObject` is no action",
        ),
        (
            "KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: [{action: \"s3:{Action}\", resource: \"*\"}]}]",
            ".scope[0].allow[0].action: `s3:{Action}` is no action",
        ),
        (
            "KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: [{action: s3:GetObject, resource: [acme]}]}]",
            ".scope[0].allow[0].resource[0]: `acme` is no ARN",
        ),
        (
            "KEYS, ROLE, scope: [{intents: [aws.s3.*], allow: [{action: s3:GetObject, resource: \"*\", condition: {StringEquals: {}}}]}]",
            ".scope[0].allow[0].condition.StringEquals: `StringEquals` tests nothing",
        ),
    ]);
}
