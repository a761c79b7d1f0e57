//! The canary: with credentials of every kind there is, before an upstream and an issuer that say back all they are
//! told, every byte that the agent, the log, the metrics, the admin interface, the control API, the audit and the state
//! ever get is searched for every secret.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use remit::credential::Scrubber;
use serde_json::json;
use support::{Conn, Do, HOST, Lab, Received, Remit, Settings, Upstream, agent};
use tokio::net::TcpStream;

/// What the configuration holds, and what the issuer gives.
const CONFIGURED: &str = "configured-4e1f0c7b9a52d883";
const ISSUED: &str = "ghs_Issued0123456789abcdefABCDEF0123456789";
const SESSION: &str = "session-token-9d0e7f1a2b3c4d5e";
const RSA: &str = include_str!("../src/jose/fixture/rsa.pem");

/// A credential as the configuration has it.
struct Canary {
    kind: &'static str,
    yaml: String,
    /// Whether an issuer is asked, which may refuse.
    asked: bool,
}

fn canaries(issuer: SocketAddr) -> Vec<Canary> {
    let of = |kind, asked, yaml: String| Canary { kind, yaml, asked };
    let fixed = |inject: &str| of("static", false, format!("secret: {{file: secret.txt}}, inject: {inject}"));
    let scope = |ask: &str| format!("scope: [{{intents: [\"example.*\"], {ask}}}]");
    vec![
        fixed("bearer"),
        fixed("{basic: {user: me}}"),
        fixed("{header: X-Api-Key}"),
        fixed("{query: key}"),
        of("own", false, String::new()),
        of("certificate", false, "cert: client.pem, key: client.key".into()),
        of(
            "github_app",
            true,
            format!(
                "app_id: 1, installation: 99, private_key: {{file: app.pem}}, api: \"http://{issuer}\", {}",
                scope("repositories: [acme/web], permissions: {issues: write}")
            ),
        ),
        of("google", true, format!("key: {{file: google.json}}, {}", scope("scopes: [\"https://www.googleapis.com/auth/x\"]"))),
        of(
            "oauth",
            true,
            format!(
                "token_endpoint: \"http://{issuer}/token\", grant: client_credentials, client: {{id: remit, secret: {{file: secret.txt}}}}, {}",
                scope("scope: [items]")
            ),
        ),
        of(
            "aws",
            false,
            "access_key_id: {file: aws-id}, secret_access_key: {file: secret.txt}, session_token: {file: aws-session}, service: execute-api, \
             region: eu-west-1"
                .into(),
        ),
        of(
            "vault",
            true,
            format!(
                "address: \"http://{issuer}\", login: {{approle: {{role_id: r, secret_id: {{file: secret.txt}}}}}}, inject: {{header: X-Vault-Token}}, {}",
                scope("policies: [items]")
            ),
        ),
    ]
}

/// All that it was told, in its head, its fields and its body; an issuer knows what it gave, too.
fn echo(request: &Received, status: &str, knows: &str) -> Do {
    let told = String::from_utf8_lossy(&request.head).replace("\r\n", " | ");
    let body = json!({"error": told, "error_description": knows, "message": String::from_utf8_lossy(&request.body), "errors": [knows]})
        .to_string();
    let login = request.field("authorization").unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status} {login}{knows}\r\nContent-Type: application/json\r\nX-Told: {told}\r\nX-Knows: {knows}\r\nWWW-Authenticate: Bearer error=\"{login}\"\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Do::Say((head + &body).into_bytes())
}

/// What an issuer knows of a request: what it was told, and what the client's login stands for.
fn known(request: &Received) -> String {
    let (login, body) = (request.field("authorization").unwrap_or_default(), String::from_utf8_lossy(&request.body).replace('\n', " "));
    let secret = if login.starts_with("Basic ") || body.contains(CONFIGURED) { CONFIGURED } else { "" };
    format!("{secret} {login} {body}")
}

fn gives(status: &str, value: serde_json::Value) -> Do {
    let body = value.to_string();
    Do::Say(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn issue(request: &Received) -> Do {
    match request.target().as_str() {
        "/app/installations/99/access_tokens" => gives(
            "201 Created",
            json!({
                "token": ISSUED, "expires_at": "2099-01-01T00:00:00Z", "permissions": {"issues": "write", "metadata": "read"},
                "repository_selection": "selected", "repositories": [{"id": 1, "name": "web", "full_name": "acme/web", "owner": {"login": "acme"}}]
            }),
        ),
        "/token" => gives("200 OK", json!({"access_token": ISSUED, "token_type": "Bearer", "expires_in": 600})),
        path if path.starts_with("/v1/auth/") => gives(
            "200 OK",
            json!({"auth": {"client_token": ISSUED, "accessor": "a", "policies": ["items"], "token_policies": ["items"], "lease_duration": 600, "renewable": true}}),
        ),
        _ => echo(request, "400", &known(request)),
    }
}

/// What no one may see, in every form: what is configured, what was issued, and by what Remit proved itself.
fn secrets(lab: &Lab, issuer: &Upstream) -> Scrubber {
    let key = fs::read_to_string(lab.dir.join("client.key")).unwrap();
    let lines = RSA.lines().chain(key.lines()).filter(|l| !l.starts_with("-----") && l.len() > 30).map(str::to_owned);
    let told: String =
        issuer.seen().iter().map(|r| format!("{} {} ", String::from_utf8_lossy(&r.head), String::from_utf8_lossy(&r.body))).collect();
    let word = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
    let assertions =
        told.split(word).filter(|w| w.starts_with("eyJ") && w.len() > 100).filter_map(|w| w.rsplit('.').next()).map(str::to_owned);
    let all: Vec<String> = [CONFIGURED, ISSUED, SESSION].map(str::to_owned).into_iter().chain(lines).chain(assertions).collect();
    Scrubber::new(all.iter().map(|s| s.as_bytes())).unwrap()
}

fn prepare(lab: &Lab, issuer: SocketAddr) {
    let write = |name: &str, text: &str| fs::write(lab.dir.join(name), text).unwrap();
    write("secret.txt", CONFIGURED);
    write("app.pem", RSA);
    write("aws-id", "AKIAQ3EGPLW7HNO4TIBC");
    write("aws-session", SESSION);
    let account = json!({"type": "service_account", "client_email": "bot@acme.iam.gserviceaccount.com", "private_key_id": "k1", "private_key": RSA, "token_uri": format!("http://{issuer}/token")});
    write("google.json", &account.to_string());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["client".to_owned()]).unwrap().self_signed(&key).unwrap();
    write("client.pem", &certificate.pem());
    write("client.key", &key.serialize_pem());
}

/// All that lies in a folder, but for what the operator put there.
fn files(dir: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    const PUT: [&str; 6] = ["secret.txt", "app.pem", "google.json", "client.key", "aws-session", "aws-id"];
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() {
            files(&path, into);
        } else if !PUT.contains(&name.as_str()) && entry.file_type().unwrap().is_file() {
            into.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

/// Everything that anyone is told, after some calls.
async fn everything(remit: &Remit, task: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![];
    for path in ["/metrics", "/healthz", "/readyz", "/"] {
        let mut conn = Conn::new(TcpStream::connect(remit.admin).await.unwrap());
        let answer = conn.ask(format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n")).await;
        all.push((path.to_owned(), format!("{}{:?}{}", answer.line, answer.fields, answer.text()).into_bytes()));
    }
    let commands: [&[&str]; 9] = [
        &["task", "list", "--output", "json"],
        &["task", "show", task],
        &["agents", "list", "--output", "json"],
        &["leases", "list", "--output", "json"],
        &["audit", "tail"],
        &["audit", "export"],
        &["check"],
        &["explain", "--agent", "tester", "--workflow", "work", "GET", "https://api.example.test/items", "--output", "json"],
        &["intents", "list", "--output", "json"],
    ];
    for command in commands {
        all.push((command.join(" "), remit.command(command).1.into_bytes()));
    }
    remit.end_task(task);
    tokio::time::sleep(Duration::from_millis(300)).await;
    files(&remit.dir, &mut all);
    all.push(("the log".into(), remit.printed().into_bytes()));
    all
}

async fn flies(canary: &Canary, lab: &Lab, api: &Upstream, issuer: &Upstream, refuses: bool) {
    let settings = Settings {
        grants: vec!["{intents: [example.*], effects: [read, write]}".into()],
        more: "state: {file: state, key: {file: state.key}}".into(),
        ..Settings::to(api.address)
    };
    let comma = if canary.yaml.is_empty() { "" } else { ", " };
    let credential = format!("{{kind: {}, hosts: [{HOST}]{comma}{}}}", canary.kind, canary.yaml);
    fs::write(lab.dir.join("remit.yaml"), settings.yaml_with(&credential)).unwrap();
    let remit = Remit::start_logging(&lab.dir, "trace");
    let (task, handle) = remit.task(&[]);
    let what = format!("{} ({}), issuer refuses: {refuses}", canary.kind, canary.yaml);
    let mut seen = vec![];
    let asked = [
        agent::get("/items"),
        agent::get("/items/7"),
        agent::post("/items", "{\"title\":\"hello\"}"),
        format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        agent::get("/items/8?page=1"),
        agent::get("/nowhere"),
    ];
    for (i, request) in asked.iter().enumerate() {
        let answer = agent::tls_as(&remit, &handle).await.ask(request).await;
        let expected = match (refuses && canary.asked, i) {
            (_, 5) => 403,
            (true, _) => 502,
            (false, _) => 200,
        };
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
        seen.push((
            format!("answer {i}"),
            format!("{}{:?}{}{:?}", answer.line, answer.fields, answer.text(), answer.trailers).into_bytes(),
        ));
    }
    // What leaked, sent by the agent: refused, and not shown in the refusal or the record.
    if canary.kind != "own" && canary.kind != "certificate" {
        let secret = if matches!(canary.kind, "github_app" | "google") { RSA.lines().nth(16).unwrap() } else { CONFIGURED };
        let answer = agent::tls_as(&remit, &handle).await.ask(agent::post("/items", &format!("{{\"title\":\"{secret}\"}}"))).await;
        assert_eq!(answer.reason(), Some("foreign_credential"), "{what}: {}", answer.text());
        seen.push(("the refusal".into(), answer.text().into_bytes()));
    }
    seen.extend(everything(&remit, &task).await);
    let secrets = secrets(lab, issuer);
    for (place, bytes) in &seen {
        let mut masked = bytes.clone();
        assert_eq!(secrets.mask(&mut masked), 0, "{what}: {place} shows a secret:\n{}", String::from_utf8_lossy(&masked));
    }
    assert!(seen.len() > 25, "{what}: only {} places were searched", seen.len());
}

async fn all_fly(refuses: bool) {
    let issuer = Upstream::plain(move |request| if refuses { echo(request, "400", &known(request)) } else { issue(request) }).await;
    for canary in canaries(issuer.address) {
        let lab = Lab::new("canary");
        prepare(&lab, issuer.address);
        let api = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), move |request| {
            // The agent's own login is the agent's; nothing of the others is.
            echo(request, "200", "")
        })
        .await;
        if canary.kind == "own" || canary.kind == "certificate" {
            // Nothing that Remit holds is sent as text, so only what is said at other places counts.
            drop(api);
            let api = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
            flies(&canary, &lab, &api, &issuer, refuses).await;
        } else {
            flies(&canary, &lab, &api, &issuer, refuses).await;
        }
    }
}

#[tokio::test]
async fn no_secret_of_any_kind_is_seen_anywhere() {
    all_fly(false).await;
}

#[tokio::test]
async fn nor_where_an_issuer_refuses_and_says_back_what_it_was_told() {
    all_fly(true).await;
}

/// A kind that is added without a canary fails here.
#[test]
fn every_kind_has_its_canary() {
    let lab = Lab::new("canary-kinds");
    fs::write(lab.dir.join("remit.yaml"), "version: 1\ncredentials:\n  a: {kind: nonsense, hosts: [a.example]}\n").unwrap();
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_remit"))
        .args(["check", "--config"])
        .arg(lab.dir.join("remit.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    let known: Vec<&str> = canaries("127.0.0.1:1".parse().unwrap()).iter().map(|c| c.kind).collect();
    let listed: Vec<&str> = ["static", "own", "certificate", "github_app", "google", "oauth", "aws", "vault"]
        .into_iter()
        .filter(|k| said.contains(k))
        .collect();
    assert!(!listed.is_empty(), "{said}");
    let kinds = said.lines().find(|l| l.contains("github_app")).unwrap_or_else(|| panic!("no line lists the kinds: {said}"));
    for kind in kinds.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).filter(|w| w.contains('_') || listed.contains(w)) {
        assert!(known.contains(&kind), "kind `{kind}` has no canary: {kinds}");
    }
}
