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

fn start(lab: &Lab, settings: &Settings, credential: &str) -> Remit {
    fs::write(lab.dir.join("remit.yaml"), settings.yaml_with(credential)).unwrap();
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
