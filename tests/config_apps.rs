//! Credentials of kinds `github_app` and `google`: what loads, and what a user gets wrong.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::{fs, path::Path, process::Command};

use remit::config::{Config, CredentialKind, GoogleSource, SecretSource};

fn example(name: &str) -> Config {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/credentials");
    let text = format!("version: 1\ncredentials: {name}\n");
    Config::parse(&text, &folder, Path::new("remit.yaml")).unwrap()
}

#[test]
fn the_example_of_a_github_app_loads() {
    let config = example("github-app.yaml");
    let [github] = config.credentials.as_slice() else { panic!() };
    let CredentialKind::GithubApp(app) = &github.kind else { panic!() };
    assert_eq!((&*app.app, app.installation), ("1234", None));
    assert_eq!(app.api.to_string(), "https://api.github.com/");
    assert_eq!(github.scope.len(), 5);
    let SecretSource::File(key) = &app.key else { panic!() };
    assert!(config.files.contains(key), "what signs is a file that Remit obeys");
}

#[test]
fn the_example_of_google_loads() {
    let config = example("google.yaml");
    let named = |name: &str| config.credentials.iter().find(|c| &*c.name == name).map(|c| &c.kind);
    let Some(CredentialKind::Google(sheets)) = named("sheets") else { panic!() };
    assert!(matches!(sheets.source, GoogleSource::Key(SecretSource::File(_))) && sheets.impersonate.is_none());
    let Some(CredentialKind::Google(storage)) = named("storage") else { panic!() };
    let GoogleSource::Federation(federation) = &storage.source else { panic!() };
    assert_eq!(federation.sts.to_string(), "https://sts.googleapis.com/v1/token");
    assert_eq!(&*storage.impersonate.as_ref().unwrap().account, "reports-bot@acme.iam.gserviceaccount.com");
}

#[test]
fn every_example_of_credentials_is_loaded_by_some_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/credentials");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!example(&name).credentials.is_empty(), "{name}");
    }
}

/// What they ask is of intents, and of parameters, that the catalog has; and the keys are looked at.
#[test]
fn the_examples_are_right_to_the_last_parameter() {
    let dir = std::env::temp_dir().join(format!("remit-config-apps-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let pem = include_str!("../src/jose/fixture/rsa.pem");
    let key = serde_json::json!({
        "type": "service_account", "client_email": "bot@acme.iam.gserviceaccount.com", "private_key": pem,
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    for (name, text) in [
        ("github-app.yaml", include_str!("../config/credentials/github-app.yaml").to_owned()),
        ("google.yaml", include_str!("../config/credentials/google.yaml").replace("/var/run/secrets/google/token", "token")),
        ("app.pem", pem.to_owned()),
        ("sheets-bot.json", key.to_string()),
        ("token", "a-token-of-another-issuer".to_owned()),
        ("remit.yaml", "version: 1\nlisten: {forward: \"127.0.0.1:0\"}\ncredentials: [github-app.yaml, google.yaml]\n".to_owned()),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    let checked = Command::new(env!("CARGO_BIN_EXE_remit")).args(["check", "--config"]).arg(dir.join("remit.yaml")).output().unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && said.contains("3 credentials") && !said.contains("PRIVATE"), "{said}");
    fs::remove_dir_all(&dir).unwrap();
}

fn problems(body: &str) -> String {
    let text = format!("version: 1\ncredentials:\n  it: {{hosts: [a.example], {body}}}\n");
    match Config::parse(&text, Path::new("/nonexistent"), Path::new("remit.yaml")) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

fn check(head: &str, scope: &str, table: &[(&str, &str)]) {
    assert_eq!(problems(&format!("{head}, scope: [{scope}]")), "");
    for (body, want) in table {
        let body = body.replace("HEAD", head).replace("SCOPE", scope);
        let found = problems(&body);
        assert_eq!(found.lines().next().unwrap_or_default(), format!("remit.yaml:3: credentials.it{want}"), "{body}");
    }
}

#[test]
fn what_is_wrong_with_a_github_app_is_named() {
    let head = "kind: github_app, app_id: 1, private_key: {file: app.pem}";
    let scope = "{intents: [\"github.issues.*\"], repositories: [\"{owner}/{repo}\"], permissions: {issues: write}}";
    check(
        head,
        scope,
        &[
            (
                "kind: github_app, private_key: {file: a}, scope: [SCOPE]",
                ": `app_id` is missing; write the App's ID or its client ID, as the App's page on GitHub shows it",
            ),
            ("kind: github_app, app_id: 1, scope: [SCOPE]", ": `private_key` is missing; say where the App's key is: {file: app.pem}"),
            (
                "kind: github_app, app_id: 1, private_key: hunter2, scope: [SCOPE]",
                ".private_key: a secret stands inline; put it in a variable or a file and write {env: NAME} or {file: PATH}",
            ),
            (
                "kind: github_app, app_id: \"a b\", private_key: {file: a}, scope: [SCOPE]",
                ".app_id: `a b` is no ID of an App; write its App ID, such as 1234, or its client ID, such as Iv23liAbCd",
            ),
            (
                "HEAD, api: \"http://github.example\", scope: [SCOPE]",
                ".api: `http://github.example` is plain HTTP beyond loopback; write https: who is in between could give keys of his own",
            ),
            (
                "HEAD, installation: 0, scope: [SCOPE]",
                ".installation: 0 is out of range; write a whole number from 1 to 18446744073709551615",
            ),
            (
                "HEAD, token: x, scope: [SCOPE]",
                ".token: unknown key; known here: `kind`, `hosts`, `scope`, `app_id`, `private_key`, `installation`, `api`",
            ),
            (
                "HEAD",
                ": `scope` is missing: it says what is asked of the issuer for which intents; add `scope: [{intents: [github.issues.*], …}]`; asked can be: repositories, permissions, owner",
            ),
        ],
    );
}

#[test]
fn what_a_github_app_would_be_asked_by_default_is_named() {
    let head = "kind: github_app, app_id: 1, private_key: {file: app.pem}";
    let scope = "{intents: [\"github.issues.*\"], repositories: [\"{owner}/{repo}\"], permissions: {issues: write}}";
    check(
        head,
        scope,
        &[
            (
                "HEAD, scope: [{intents: [a], permissions: {issues: read}}]",
                ".scope[0]: `repositories` is missing: GitHub would give all of the installation's; write the ones that the call needs, such as [\"{owner}/{repo}\"], or [\"*\"] for all",
            ),
            (
                "HEAD, scope: [{intents: [a], repositories: [web]}]",
                ".scope[0]: `permissions` is missing: GitHub would give all that the App has; write what the call needs, such as {issues: write}",
            ),
            (
                "HEAD, scope: [{intents: [a], repositories: [], permissions: {issues: read}}]",
                ".scope[0].repositories: no repository is listed, which to GitHub is all of them; write [\"*\"] if that is meant",
            ),
            (
                "HEAD, scope: [{intents: [a], repositories: [\"*\", web], permissions: {issues: read}}]",
                ".scope[0].repositories[0]: `*` is all repositories, so that the others say nothing; write [\"*\"], or leave it out",
            ),
            (
                "HEAD, scope: [{intents: [a], repositories: [\"a/b/c\"], permissions: {issues: read}}]",
                ".scope[0].repositories[0]: `a/b/c` is no repository; write NAME or OWNER/NAME, such as \"{owner}/{repo}\"",
            ),
            (
                "HEAD, scope: [{intents: [a], repositories: [web], permissions: {}}]",
                ".scope[0].permissions: no permission is listed, which to GitHub is all that the App has; write one, such as {metadata: read}",
            ),
            (
                "HEAD, scope: [{intents: [a], repositories: [web], permissions: {issues: wriet}}]",
                ".scope[0].permissions.issues: `wriet` is no value for this; did you mean `write`?",
            ),
            (
                "HEAD, scope: [{intents: [a], repositories: [web], permissions: {Issues: read}}]",
                ".scope[0].permissions.Issues: `Issues` is no permission of a GitHub App; write it as issues or pull_requests",
            ),
            (
                "HEAD, scope: [{intents: [a], owner: \"a/b\", repositories: [web], permissions: {issues: read}}]",
                ".scope[0].owner: `a/b` is no account on GitHub; write its login, such as acme or \"{owner}\"",
            ),
        ],
    );
}

#[test]
fn what_is_wrong_with_google_is_named() {
    let head = "kind: google, key: {file: key.json}";
    let scope = "{intents: [\"google.storage.*\"], scopes: [https://www.googleapis.com/auth/devstorage.read_only]}";
    let audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/i";
    let both = format!("HEAD, federation: {{audience: {audience}, token: {{file: t}}}}, scope: [SCOPE]");
    check(
        head,
        scope,
        &[
            (
                "kind: google, scope: [SCOPE]",
                ": nothing says who Remit is to Google, or two things do; write `key: {file: KEY.json}` of a service account, or `federation: {audience: …, token: {file: TOKEN}}`",
            ),
            (
                &both,
                ": nothing says who Remit is to Google, or two things do; write `key: {file: KEY.json}` of a service account, or `federation: {audience: …, token: {file: TOKEN}}`",
            ),
            (
                "kind: google, federation: {token: {file: t}}, scope: [SCOPE]",
                ".federation: `audience` is missing; write the provider's full name, //iam.googleapis.com/projects/…",
            ),
            (
                "kind: google, federation: {audience: pool, token: {file: t}}, scope: [SCOPE]",
                ".federation.audience: `pool` is no provider of a workload identity pool; write //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
            ),
            (
                "HEAD, impersonate: \"../bot\", scope: [SCOPE]",
                ".impersonate: `../bot` is no service account; write its e-mail address, such as bot@project.iam.gserviceaccount.com",
            ),
            ("HEAD, scope: [{intents: [a], scopes: []}]", ".scope[0].scopes: no scope is listed; write at least one"),
            (
                "HEAD, scope: [{intents: [a], scopes: [\"a b\"]}]",
                ".scope[0].scopes[0]: `a b` is no OAuth scope; write one scope an item, such as https://www.googleapis.com/auth/drive",
            ),
            (
                "HEAD, scope: [{intents: [a]}]",
                ".scope[0]: `scopes` is missing: no token is asked for without; write the narrowest that the call needs, such as [https://www.googleapis.com/auth/devstorage.read_only]",
            ),
            ("kind: googel, scope: [SCOPE]", ".kind: `googel` is no kind of credential; did you mean `google`?"),
        ],
    );
}
