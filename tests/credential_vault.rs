//! Kind `vault` against a real OpenBao, and a real PostgreSQL whose users it makes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::Engine as _;
use serde_json::json;
use support::{
    Answer, Do, HOST, Lab, Remit, Settings, Upstream,
    agent::{get, tls_as},
    openbao::{Bao, Postgres},
};

/// What Remit's login may do in these tests.
const REMIT: &str = r#"
path "auth/token/create" { capabilities = ["update"] }
path "secret/data/ci/*" { capabilities = ["read"] }
path "database/creds/*" { capabilities = ["read"] }
"#;

/// The settings of a lab with another credential in the place of the static one.
fn yaml(settings: &Settings, credential: &str) -> String {
    let fixed = format!("{{kind: static, hosts: [{HOST}], secret: {{file: secret.txt}}, inject: bearer}}");
    let yaml = settings.yaml();
    assert!(yaml.contains(&fixed));
    yaml.replace(&fixed, credential)
}

fn start(lab: &Lab, settings: &Settings, credential: &str) -> Remit {
    fs::write(lab.dir.join("remit.yaml"), yaml(settings, credential)).unwrap();
    Remit::start(&lab.dir)
}

async fn asks(remit: &Remit, handle: &str, path: &str) -> Answer {
    tls_as(remit, handle).await.ask(get(path)).await
}

/// The user and password of basic authentication.
fn basic(field: &str) -> (String, String) {
    let pair = base64::engine::general_purpose::STANDARD.decode(field.strip_prefix("Basic ").unwrap()).unwrap();
    let (user, password) = String::from_utf8(pair).unwrap().split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned())).unwrap();
    (user, password)
}

async fn until(mut done: impl FnMut() -> bool, within: Duration) -> Duration {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < within, "not within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

/// A server whose answers say which user of the database asked, and with what.
struct Database {
    bao: Bao,
    postgres: Arc<Postgres>,
    upstream: Upstream,
    credential: String,
}

async fn database(lab: &Lab, name: &str, ttl: &str) -> Option<Database> {
    let (bao, postgres) = (Bao::start(&lab.dir)?, Postgres::start(name)?);
    bao.root("POST", "sys/mounts/database", json!({"type": "database"}));
    bao.root(
        "POST",
        "database/config/items",
        json!({"plugin_name": "postgresql-database-plugin", "allowed_roles": "reader", "connection_url": postgres.connection(),
               "username": "postgres", "password": "unused"}),
    );
    let make = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';";
    bao.root(
        "POST",
        "database/roles/reader",
        json!({"db_name": "items", "creation_statements": [make], "default_ttl": ttl, "max_ttl": "1h"}),
    );
    bao.policy("remit", REMIT);
    bao.policy("reader", "path \"database/creds/reader\" { capabilities = [\"read\"] }");
    let (role_id, secret_id) = bao.approle("remit", "remit,reader", json!({}));
    fs::write(lab.dir.join("secret-id"), secret_id).unwrap();
    let credential = format!(
        "{{kind: vault, hosts: [{HOST}], address: \"{}\", login: {{approle: {{role_id: {role_id}, secret_id: {{file: secret-id}}}}}}, \
         secret: {{user: username, field: password}}, scope: [{{intents: [\"example.items.*\"], path: database/creds/reader, policies: [reader]}}]}}",
        bao.url()
    );
    let sql = postgres.asks();
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), move |request| {
        let (user, password) = basic(&request.field("authorization").unwrap());
        match sql(&user, &password, "select current_user") {
            Ok(who) => Do::ok(&format!("{who} {password}")),
            Err(why) => Do::Say(format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\n\r\n{why}", why.len()).into_bytes()),
        }
    })
    .await;
    Some(Database { bao, postgres: Arc::new(postgres), upstream, credential })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_database_lives_as_long_as_its_task() {
    let lab = Lab::new("vault-db");
    let Some(db) = database(&lab, "db", "1h").await else { return };
    let remit = start(&lab, &Settings { ambient: false, ..Settings::to(db.upstream.address) }, &db.credential);
    let before = db.bao.tokens();
    let ((task, handle), (other, others)) = (remit.task(&[]), remit.task(&[]));

    let answer = asks(&remit, &handle, "/items/1").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let users = db.postgres.users();
    let [user] = users.as_slice() else { panic!("{users:?}") };
    let (sent, password) = basic(&db.upstream.take().unwrap().field("authorization").unwrap());
    assert_eq!(sent, *user);
    // What the server echoes of it does not reach the agent.
    assert_eq!(answer.text(), format!("{user} {}", "*".repeat(password.len())));
    // The lease is used again within the task, and another task has a user of its own.
    assert_eq!(asks(&remit, &handle, "/items/2").await.status, 200);
    assert_eq!(db.postgres.users().len(), 1);
    assert_eq!(asks(&remit, &others, "/items/1").await.status, 200);
    assert_eq!(db.postgres.users().len(), 2);
    // For each: the session, and the task's own token in it.
    assert_eq!(db.bao.tokens(), before + 4);

    remit.end_task(&task);
    until(|| !db.postgres.users().contains(user), Duration::from_secs(1)).await;
    let why = db.postgres.sql(user, &password, "select 1").unwrap_err();
    assert!(why.contains("authentication failed"), "{why}");
    assert_eq!(db.bao.tokens(), before + 2);
    assert_eq!(asks(&remit, &others, "/items/1").await.status, 200, "the other task's user is untouched");
    remit.end_task(&other);
    until(|| db.postgres.users().is_empty(), Duration::from_secs(1)).await;
    assert_eq!(db.bao.tokens(), before);
    let log = fs::read_dir(lab.dir.join("audit")).unwrap().flatten().map(|f| fs::read(f.path()).unwrap_or_default()).collect::<Vec<_>>();
    assert!(!String::from_utf8_lossy(&log.concat()).contains(&password));
    assert!(!remit.printed().contains(&password));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_prolonged_in_its_place_while_its_task_goes_on() {
    let lab = Lab::new("vault-renew");
    let Some(db) = database(&lab, "renew", "6s").await else { return };
    let remit = start(&lab, &Settings { ambient: false, ..Settings::to(db.upstream.address) }, &db.credential);
    let (task, handle) = remit.task(&[]);
    assert_eq!(asks(&remit, &handle, "/items/1").await.status, 200);
    let users = db.postgres.users();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answer = asks(&remit, &handle, "/items/1").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(db.postgres.users(), users, "the same user, twice as long as its lease");
    remit.end_task(&task);
    until(|| db.postgres.users().is_empty(), Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_remit_left_is_revoked_at_the_next_start() {
    let lab = Lab::new("vault-kill");
    let Some(db) = database(&lab, "kill", "1h").await else { return };
    let settings = Settings { ambient: false, ..Settings::to(db.upstream.address) };
    let remit = start(&lab, &settings, &db.credential);
    let before = db.bao.tokens();
    let (_, handle) = remit.task(&[]);
    assert_eq!(asks(&remit, &handle, "/items/1").await.status, 200);
    remit.kill();
    assert_eq!(db.postgres.users().len(), 1);
    let _remit = start(&lab, &settings, &db.credential);
    until(|| db.postgres.users().is_empty(), Duration::from_secs(2)).await;
    assert_eq!(db.bao.tokens(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_revokes_what_tasks_hold() {
    let lab = Lab::new("vault-drain");
    let Some(db) = database(&lab, "drain", "1h").await else { return };
    let mut remit = start(&lab, &Settings { ambient: false, ..Settings::to(db.upstream.address) }, &db.credential);
    let before = db.bao.tokens();
    let (_, handle) = remit.task(&[]);
    assert_eq!(asks(&remit, &handle, "/items/1").await.status, 200);
    remit.signal("TERM");
    assert!(remit.ended(Duration::from_secs(20)).await.success());
    until(|| db.postgres.users().is_empty(), Duration::from_secs(1)).await;
    assert_eq!(db.bao.tokens(), before);
}

/// What is injected where a KV engine holds it, for each way to log in.
struct Kv {
    lab: Lab,
    bao: Bao,
    upstream: Upstream,
}

impl Kv {
    async fn new(name: &str) -> Option<Self> {
        let lab = Lab::new(name);
        let bao = Bao::start(&lab.dir)?;
        bao.policy("remit", REMIT);
        bao.policy("ci", "path \"secret/data/ci/*\" { capabilities = [\"read\"] }");
        for item in ["web", "docs"] {
            bao.root(
                "POST",
                &format!("secret/data/ci/{item}"),
                json!({"data": {"token": format!("value-of-{item}-0123456789"), "number": 7}}),
            );
        }
        let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("done")).await;
        Some(Self { lab, bao, upstream })
    }

    fn credential(&self, login: &str, scope: &str) -> String {
        let address = self.bao.url();
        format!(
            "{{kind: vault, hosts: [{HOST}], address: \"{address}\", login: {login}, secret: {{kv: secret, field: token}}, \
             inject: {{header: X-Ci-Token}}, scope: [{scope}]}}"
        )
    }

    fn start(&self, login: &str, scope: &str) -> Remit {
        start(&self.lab, &Settings { ambient: false, ..Settings::to(self.upstream.address) }, &self.credential(login, scope))
    }

    async fn refused(&self, remit: &Remit, path: &str) -> String {
        let (_, handle) = remit.task(&[]);
        let answer = asks(remit, &handle, path).await;
        assert_eq!((answer.status, answer.reason()), (502, Some("credential_unavailable")), "{}", answer.text());
        assert_eq!(self.upstream.seen().len(), 0, "nothing is sent without its credential");
        answer.json()["detail"].as_str().unwrap_or(&answer.text()).to_owned()
    }
}

const SCOPE: &str = "{intents: [example.items.get], path: \"ci/{id}\", policies: [ci]}";

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_filled_in_from_the_call_and_read_with_a_token_that_ends() {
    let Some(kv) = Kv::new("vault-kv").await else { return };
    let (role_id, secret_id) = kv.bao.approle("remit", "remit,ci", json!({}));
    fs::write(kv.lab.dir.join("secret-id"), secret_id).unwrap();
    let remit = kv.start(&format!("{{approle: {{role_id: {role_id}, secret_id: {{file: secret-id}}}}}}"), SCOPE);
    let before = kv.bao.tokens();
    let (_, handle) = remit.task(&[]);
    for item in ["web", "docs"] {
        assert_eq!(asks(&remit, &handle, &format!("/items/{item}")).await.status, 200);
        assert_eq!(kv.upstream.take().unwrap().field("x-ci-token").unwrap(), format!("value-of-{item}-0123456789"));
    }
    assert_eq!(kv.bao.tokens(), before, "a value that was read needs no token any more");
    // The value itself nobody takes back: it is listed as such, and kept short.
    let (code, list) = remit.command(&["leases", "list", "--output", "json"]);
    assert_eq!(code, Some(0), "{list}");
    assert!(list.contains("\"revocable\":false") && !list.contains("value-of"), "{list}");
    let refused = kv.refused(&remit, "/items/none").await;
    assert!(refused.contains("nothing is at `secret/data/ci/none`"), "{refused}");
    // A value that would be another path is not filled in.
    let refused = kv.refused(&remit, "/items/a%20b").await;
    assert!(refused.contains("`id` would ask for more than itself"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_remit_was_given_makes_one_for_each_task() {
    let Some(kv) = Kv::new("vault-token").await else { return };
    let token = kv.bao.root("POST", "auth/token/create", json!({"policies": ["remit", "ci"], "ttl": "1h"}));
    fs::write(kv.lab.dir.join("token"), token["auth"]["client_token"].as_str().unwrap()).unwrap();
    let remit = kv.start("{token: {file: token}}", SCOPE);
    let before = kv.bao.tokens();
    let (_, handle) = remit.task(&[]);
    assert_eq!(asks(&remit, &handle, "/items/web").await.status, 200);
    assert_eq!(kv.bao.tokens(), before);
    assert!(kv.bao.knows(token["auth"]["client_token"].as_str().unwrap()), "Remit's own token stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_asked_by_the_agent_with_a_token_of_its_task() {
    let Some(kv) = Kv::new("vault-itself").await else { return };
    let (role_id, secret_id) = kv.bao.approle("remit", "remit,ci", json!({}));
    fs::write(kv.lab.dir.join("secret-id"), secret_id).unwrap();
    fs::write(
        kv.lab.dir.join("catalog.yaml"),
        "provider: vault\nhosts: [127.0.0.1]\ncredential: example\noperations:\n  \
         - {id: vault.kv.read, match: \"GET /v1/secret/data/{team}/{name}\", effect: read}\n  \
         - {id: vault.tokens.lookup, match: \"GET /v1/auth/token/lookup-self\", effect: read}\n",
    )
    .unwrap();
    let credential = format!(
        "{{kind: vault, hosts: [127.0.0.1], address: \"{}\", login: {{approle: {{role_id: {role_id}, secret_id: {{file: secret-id}}}}}}, \
         scope: [{{intents: [\"vault.*\"], policies: [ci]}}]}}",
        kv.bao.url()
    );
    let settings =
        Settings { ambient: false, grants: vec!["{intents: [\"vault.*\"], effects: [read]}".into()], ..Settings::to(kv.bao.address) };
    let remit = start(&kv.lab, &settings, &credential);
    let before = kv.bao.tokens();
    let (task, handle) = remit.task(&[]);
    let ask = async |path: &str| {
        let at = kv.bao.address;
        let request = format!("GET http://{at}{path} HTTP/1.1\r\nHost: {at}\r\nProxy-Authorization: Bearer {handle}\r\n\r\n");
        support::agent::tcp(&remit).await.ask(request).await
    };
    let answer = ask("/v1/secret/data/ci/web").await;
    assert_eq!(answer.json()["data"]["data"]["token"], "value-of-web-0123456789", "{}", answer.text());
    assert_eq!(ask("/v1/secret/data/ops/root").await.status, 403, "the policy that was asked for, and no more");
    let seen = ask("/v1/auth/token/lookup-self").await;
    let data = &seen.json()["data"];
    assert_eq!(data["policies"], json!(["ci", "default"]));
    assert_eq!((&data["meta"]["task"], &data["meta"]["principal"]), (&json!(task), &json!("alice@example.test")));
    // The server names the token in its answer, and the agent does not get it.
    let id = data["id"].as_str().unwrap();
    assert!(!id.is_empty() && id.bytes().all(|b| b == b'*'), "{id}");
    assert_eq!(kv.bao.tokens(), before + 2);
    remit.end_task(&task);
    assert_eq!(kv.bao.tokens(), before);
}
