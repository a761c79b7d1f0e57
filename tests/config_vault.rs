//! Credentials of kinds `vault` and `certificate`: what loads, and what a user gets wrong.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::path::Path;

use remit::config::{Config, CredentialKind, InjectSpec, SecretSource, VaultLogin};

fn example(name: &str) -> Config {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/credentials");
    Config::parse(&format!("version: 1\ncredentials: {name}\n"), &folder, Path::new("remit.yaml")).unwrap()
}

#[test]
fn the_example_of_vault_loads() {
    let config = example("vault.yaml");
    let [warehouse, ci, vault] = ["warehouse", "ci", "vault"].map(|name| {
        let found = config.credentials.iter().find(|c| &*c.name == name).unwrap();
        let CredentialKind::Vault(spec) = &found.kind else { panic!() };
        (spec, &found.scope)
    });
    let VaultLogin::Jwt { method: "kubernetes", mount, jwt: SecretSource::File(path), .. } = &warehouse.0.login else { panic!() };
    assert_eq!((&**mount, path.to_str().unwrap()), ("kubernetes", "/var/run/secrets/kubernetes.io/serviceaccount/token"));
    assert_eq!(warehouse.0.secret.as_ref().unwrap().user.as_deref(), Some("username"));
    assert!(matches!(&ci.0.inject, InjectSpec::Header(name) if name == "x-ci-token"));
    assert!(config.files.iter().any(|f| f.ends_with("secret-id")), "what logs in is a file that Remit obeys");
    assert!(vault.0.secret.is_none() && matches!(&vault.0.inject, InjectSpec::Header(name) if name == "x-vault-token"));
    assert_eq!(vault.1[0].ask["policies"], serde_json::json!(["read-{agent.id}"]));
}

#[test]
fn the_example_of_a_certificate_loads() {
    let config = example("certificate.yaml");
    let [partner] = config.credentials.as_slice() else { panic!() };
    assert!(matches!(partner.kind, CredentialKind::Certificate(_)) && partner.scope.is_empty());
    assert_eq!(config.files.iter().filter(|f| f.to_string_lossy().contains("partner.")).count(), 2);
}

fn problems(body: &str) -> String {
    let text = format!("version: 1\ncredentials:\n  it: {{hosts: [a.example], {body}}}\n");
    match Config::parse(&text, Path::new("/nonexistent"), Path::new("remit.yaml")) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn what_is_wrong_with_vault_is_named_with_its_fix() {
    let good = "kind: vault, address: \"https://v.example:8200\", login: {token: {file: t}}, secret: {field: password}, \
                scope: [{effects: [read], path: database/creds/reader}]";
    assert_eq!(problems(good), "");
    for (from, to, wants) in [
        ("address: \"https://v.example:8200\", ", "", "`address` is missing; say where it is, such as https://vault.example.com:8200"),
        ("https://v.example:8200", "http://v.example:8200", "plain HTTP beyond loopback"),
        ("login: {token: {file: t}}, ", "", "`login` is missing"),
        ("{token: {file: t}}", "{token: s.abcdef}", "a secret stands inline; put it in a variable or a file"),
        ("{token: {file: t}}", "{token: {file: t}, jwt: {role: r, jwt: {file: j}}}", "Remit logs in in one way"),
        ("{token: {file: t}}", "{approle: {secret_id: {file: t}}}", "`role_id` is missing"),
        ("{token: {file: t}}", "{jwt: {role: r}}", "`jwt` is missing; say where the token is: {file: PATH}, or {svid: AUDIENCE}"),
        ("{token: {file: t}}", "{kubernetes: {mount: ../sys}}", "no path"),
        ("{field: password}", "{kv: secret}", "`field` is missing; name the field that holds the secret"),
        (
            "secret: {field: password}",
            "secret: {field: p, user: u}, inject: bearer",
            "user and secret go as basic authentication; remove `inject`",
        ),
        ("path: database/creds/reader", "path: /database", "`path` is no path of a secret; write it as it stands in the API behind /v1/"),
        ("path: database/creds/reader", "path: sys/seal", "`path` is no path of a secret"),
        ("path: database/creds/reader", "path: auth/token/create", "`path` is no path of a secret"),
        ("path: database/creds/reader", "path: database/../sys/seal", "`path` is no path of a secret"),
        ("path: database/creds/reader", "policies: [a]", "`path` is missing; say what is read there"),
        ("path: database/creds/reader", "path: a, policies: a", "`policies` is no list of names; write it as [web-read]"),
        ("path: database/creds/reader", "path: a, policies: [Root]", "`root` may do everything"),
        ("path: database/creds/reader", "repositories: [a]", "repositories"),
        ("secret: {field: password}, ", "", "nothing says which field of it is used; add `secret: {field: NAME}`"),
        (
            "secret: {field: password}, scope: [{effects: [read], path: database/creds/reader}]",
            "scope: [{effects: [read], policies: []}]",
            "no list of names",
        ),
        (", scope: [{effects: [read], path: database/creds/reader}]", "", "`scope` is missing"),
    ] {
        assert!(good.contains(from), "{from}");
        let found = problems(&good.replace(from, to));
        assert!(found.starts_with("remit.yaml:3: credentials.it") && found.contains(wants), "{to}: {found}");
        assert!(!found.contains("s.abcdef"), "{found}");
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_named_with_its_fix() {
    for (body, wants) in [
        ("kind: certificate", "a client certificate has one source; write `cert: FILE` and `key: FILE`, or `svid: true`"),
        ("kind: certificate, cert: c.pem", "`key` is missing; name the PEM file of the key"),
        ("kind: certificate, svid: true, key: k", "has one source"),
        ("kind: certificate, svid: false", "has one source"),
        ("kind: certificate, svid: true, server: summariser", "server"),
        ("kind: certificate, svid: true, scope: [{effects: [read], path: a}]", "scope"),
    ] {
        let found = problems(body);
        assert!(found.starts_with("remit.yaml:3: credentials.it") && found.contains(wants), "{body}: {found}");
    }
}
