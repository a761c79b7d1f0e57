use serde_json::{Value, json};

use super::*;
use crate::config::VaultLogin;
use crate::credential::kind::scripted::{self, Asked as Seen, Scripted, ask, made};

const SECRET: &str = "secret-id-0123456789";
const SESSION: &str = "s.session-0123456789";
const CHILD: &str = "s.child-0123456789";

fn vault(at: &Scripted, secret: Option<VaultSecret>, token: bool) -> Vault {
    let login = match token {
        true => VaultLogin::Token(scripted::secret()),
        false => VaultLogin::AppRole { mount: "ci/approle".into(), role_id: "role".into(), secret_id: Some(scripted::secret()) },
    };
    let inject = match &secret {
        Some(VaultSecret { user: Some(_), .. }) => InjectSpec::Basic { user: String::new() },
        Some(_) => InjectSpec::Bearer,
        None => InjectSpec::Header(http::HeaderName::from_static("x-vault-token")),
    };
    let spec = VaultSpec { address: at.endpoint("/behind"), namespace: Some("team-a".into()), login, secret, inject };
    made(SECRET, |made| Vault::new(&spec, made)).unwrap()
}

fn creds() -> Option<VaultSecret> {
    Some(VaultSecret { kv: None, field: "password".into(), user: Some("username".into()) })
}

fn scope() -> Value {
    json!({"path": "database/creds/reader", "policies": ["reader"]})
}

fn auth(token: &str, policies: Value, seconds: u64) -> (u16, Vec<(&'static str, String)>, String) {
    scripted::json(200, json!({"auth": {"client_token": token, "policies": policies, "lease_duration": seconds, "renewable": true}}))
}

/// What a server says when nothing is wrong.
fn good(seen: &Seen) -> (u16, Vec<(&'static str, String)>, String) {
    let token = seen.field("x-vault-token");
    if (seen.field("x-vault-namespace"), seen.field("x-vault-request")) != ("team-a", "true") {
        return scripted::json(400, json!({"errors": ["which namespace?"]}));
    }
    match (&*seen.line, token) {
        ("POST /behind/v1/auth/ci/approle/login", "") if seen.json() == json!({"role_id": "role", "secret_id": SECRET}) => {
            auth(SESSION, json!(["default", "remit"]), 1200)
        }
        ("POST /behind/v1/auth/token/create", SESSION | SECRET) => auth(CHILD, json!(["default", "reader"]), 600),
        ("GET /behind/v1/database/creds/reader", CHILD) => scripted::json(
            200,
            json!({"lease_id": "database/creds/reader/x", "lease_duration": 300, "data": {"username": "v-1", "password": "the-password-0123"}}),
        ),
        ("GET /behind/v1/secret/data/ci/web", CHILD) => {
            scripted::json(200, json!({"lease_id": "", "data": {"data": {"password": "kv-0123456789"}, "metadata": {"version": 3}}}))
        }
        ("POST /behind/v1/auth/token/renew-self", SESSION | CHILD) => auth(token, json!(["default"]), 500),
        ("POST /behind/v1/sys/leases/renew", CHILD) => scripted::json(200, json!({"lease_duration": 200})),
        ("POST /behind/v1/auth/token/revoke-self", SESSION | CHILD) => (204, vec![], String::new()),
        _ => scripted::json(403, json!({"errors": ["permission denied"]})),
    }
}

fn lines(at: &Scripted) -> Vec<String> {
    at.asked().iter().map(|seen| seen.line.replace("/behind/v1/", "")).collect()
}

/// A server that answers one question otherwise; what comes of issuing.
async fn but(line: &'static str, status: u16, body: Value) -> (Scripted, Result<Issued, Fault>) {
    let script = move |seen: &Seen| if seen.line.ends_with(line) { scripted::json(status, body.clone()) } else { good(seen) };
    let at = Scripted::new(0, script).await;
    let issued = vault(&at, creds(), false).issue(&ask(scope())).await;
    (at, issued)
}

#[tokio::test]
async fn a_token_is_made_for_the_task_prolonged_and_ended_with_its_session() {
    let at = Scripted::new(0, good).await;
    let vault = vault(&at, creds(), false);
    let issued = vault.issue(&ask(scope())).await.unwrap();
    let child = at.asked()[1].json();
    assert_eq!(
        (&child["policies"], &child["ttl"], &child["explicit_max_ttl"], &child["meta"]["principal"]),
        (&json!(["reader"]), &json!("600s"), &json!("600s"), &json!("alice"))
    );
    let Inject::Header(_, value) = &issued.inject else { panic!("{issued:?}") };
    assert_eq!(value.to_str().unwrap(), format!("Basic {}", STANDARD.encode("v-1:the-password-0123")));
    assert!(value.is_sensitive());
    assert_eq!((issued.lives, issued.wider), (Some(Duration::from_secs(300)), None), "what ends first of lease, token and session");
    let handle = issued.handle.unwrap();

    let prolonged = vault.renew(handle.expose(), &ask(scope())).await.unwrap();
    assert_eq!((prolonged.lives, prolonged.handle.unwrap().expose()), (Some(Duration::from_secs(200)), handle.expose()));
    assert_eq!(vault.revoke(handle.expose()).await, Ok(Revoked::Done));
    let asked = lines(&at);
    assert_eq!(asked.last().unwrap(), "POST auth/token/revoke-self");
    assert_eq!(at.asked().last().unwrap().field("x-vault-token"), SESSION, "its children go with it");
}

#[tokio::test]
async fn a_value_that_is_only_read_leaves_no_token_behind() {
    let at = Scripted::new(0, good).await;
    let kv = || Some(VaultSecret { kv: Some("secret".into()), field: "password".into(), user: None });
    let issued = vault(&at, kv(), false).issue(&ask(json!({"path": "ci/web", "policies": ["reader"]}))).await.unwrap();
    assert_eq!((issued.secrets[0].expose().as_slice(), issued.handle.is_none(), issued.lives), (&b"kv-0123456789"[..], true, Some(KEPT)));
    assert_eq!(lines(&at).last().unwrap(), "POST auth/token/revoke-self");
    assert_eq!(at.asked()[1].json()["explicit_max_ttl"], "60s");
    // A token that Remit was given is not ended: the one made in it is.
    let at = Scripted::new(0, good).await;
    vault(&at, kv(), true).issue(&ask(json!({"path": "ci/web", "policies": ["reader"]}))).await.unwrap();
    assert_eq!(at.asked().last().unwrap().field("x-vault-token"), CHILD);
}

/// Where Remit was given a token, what it made with it is ended when nothing comes of it.
#[tokio::test]
async fn a_token_of_a_task_that_gets_nothing_ends_too() {
    for (line, status, body) in
        [("creds/reader", 403, json!({})), ("creds/reader", 200, json!({"lease_id": "l", "data": {"username": "v"}}))]
    {
        let script = move |seen: &Seen| if seen.line.ends_with(line) { scripted::json(status, body.clone()) } else { good(seen) };
        let at = Scripted::new(0, script).await;
        assert!(vault(&at, creds(), true).issue(&ask(scope())).await.is_err());
        let last = at.asked().pop().unwrap();
        assert!(last.line.ends_with("revoke-self") && last.field("x-vault-token") == CHILD, "{}", last.line);
    }
}

#[tokio::test]
async fn a_token_that_may_more_than_was_asked_reads_nothing() {
    for policies in [json!(["default", "reader", "admin"]), json!(["root"]), json!(["default", "READER", "root"])] {
        let body = json!({"auth": {"client_token": CHILD, "policies": policies, "lease_duration": 600}});
        let (at, issued) = but("auth/token/create", 200, body).await;
        let issued = issued.unwrap();
        assert!(issued.wider.is_some() && issued.handle.is_some(), "{policies}");
        assert_eq!(at.asked().len(), 2);
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_said_with_what_to_mend_and_leaves_no_session() {
    for (line, status, body, why) in [
        (
            "approle/login",
            400,
            json!({"errors": [format!("invalid secret ID {SECRET}")]}),
            "refused Remit's login (400 Bad Request); mend `login`",
        ),
        ("approle/login", 400, json!({"errors": ["invalid role or secret ID"]}), ": \"invalid role or secret ID\"; mend `login`"),
        (
            "token/create",
            400,
            json!({"errors": ["child policies must be subset of parent"]}),
            "subset of parent\"; let Remit's policy update",
        ),
        (
            "creds/reader",
            403,
            json!({"errors": [format!("1 error occurred: {CHILD}")]}),
            "(403 Forbidden); let a policy of the task's token read",
        ),
        ("creds/reader", 404, json!({"errors": []}), "nothing is at `database/creds/reader`: mend the `path`"),
        ("creds/reader", 200, json!({"lease_id": "l", "data": {"username": "v-1"}}), "no text `password`: mend `secret.field`"),
        ("creds/reader", 307, json!({}), "a redirect is not followed"),
    ] {
        let (at, issued) = but(line, status, body).await;
        let Err(Fault::Refused(said)) = issued else { panic!("{line}: {issued:?}") };
        assert!(said.contains(why) && said.contains(&at.at), "{why}: {said}");
        for secret in [SECRET, SESSION, CHILD] {
            assert!(!said.contains(secret), "{said}");
        }
        let left = line == "approle/login" || lines(&at).last().unwrap() == "POST auth/token/revoke-self";
        assert!(left, "{line}: {:?}", lines(&at));
    }
}

#[tokio::test]
async fn what_may_pass_is_no_refusal() {
    for (line, status, body) in [
        ("approle/login", 503, json!({"errors": ["Vault is sealed"]})),
        ("approle/login", 429, json!({})),
        ("approle/login", 200, json!({"auth": null})),
        ("approle/login", 200, json!(["nonsense"])),
        ("token/create", 200, json!({"auth": {"client_token": ""}})),
        ("token/create", 200, json!({"auth": {"client_token": "a\nb", "policies": []}})),
        ("token/create", 500, json!({})),
        ("creds/reader", 200, json!({"data": "nonsense"})),
        ("creds/reader", 200, json!({"lease_id": "l", "data": {"username": "a:b", "password": "x"}})),
        ("creds/reader", 200, json!({"lease_id": "l", "data": {"username": "a", "password": "x\ny"}})),
    ] {
        let (_, issued) = but(line, status, body.clone()).await;
        assert!(matches!(issued, Err(Fault::Unavailable(_))), "{line} {body}: {issued:?}");
    }
}

#[tokio::test]
async fn revoking_is_done_when_it_is_gone_and_not_when_the_server_only_says_no() {
    let handle = Handle { token: Secret::new(CHILD.into()), session: None, lease: None, data: None }.seal().unwrap();
    for (revoke, lookup, done) in [(204, 403, Ok(Revoked::Done)), (403, 403, Ok(Revoked::Done)), (403, 200, Err(())), (503, 200, Err(()))] {
        let at = Scripted::new(0, move |seen: &Seen| {
            let status = if seen.line.ends_with("revoke-self") { revoke } else { lookup };
            scripted::json(status, json!({"errors": ["permission denied"]}))
        })
        .await;
        let revoked = vault(&at, None, true).revoke(handle.expose()).await;
        assert_eq!(revoked.clone().map_err(drop), done, "{revoke} {lookup}: {revoked:?}");
    }
    let at = Scripted::new(0, good).await;
    assert!(vault(&at, None, true).revoke(b"{}").await.is_err());
}

#[tokio::test]
async fn what_reached_its_greatest_age_is_not_prolonged() {
    let handle = Handle { token: Secret::new(CHILD.into()), session: None, lease: None, data: None }.seal().unwrap();
    let at = Scripted::new(0, |_: &Seen| auth(CHILD, json!(["default"]), 3)).await;
    assert!(matches!(vault(&at, None, true).renew(handle.expose(), &ask(scope())).await, Err(Fault::Refused(_))));
}

#[tokio::test]
async fn a_value_is_one_part_of_a_path() {
    let at = Scripted::new(0, good).await;
    let vault = vault(&at, None, true);
    for good in ["web", "alice@acme.example", "v1.2_x~y-z", "..."] {
        assert_eq!(vault.value(good).is_some(), good != "...", "{good}");
    }
    for bad in ["a/b", "..", ".", "a b", "*", "a%2fb", "a?b", "a#b", "+", "root", "ROOT", "é", "a\n"] {
        assert_eq!(vault.value(bad), None, "{bad}");
    }
}
