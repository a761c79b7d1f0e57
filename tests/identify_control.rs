//! The orchestrator of the control API: a token starts tasks for the principal it proves, and for nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{
    Conn, Do, HOST, Lab, Remit, Settings, Upstream, agent,
    tokens::{ISSUER, Key, claims, set},
};
use tokio::net::UnixStream;

async fn house(name: &str, more: &str) -> (Lab, Upstream, Remit, Key) {
    let lab = Lab::new(name);
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let key = Key::new("k1");
    fs::write(lab.dir.join("jwks.json"), set(&[&key])).unwrap();
    let more = format!(
        "issuers:\n  - {{issuer: \"{ISSUER}\", audience: remit, algorithms: [ES256], keys: {{file: jwks.json}}, principal: sub{more}}}\n"
    );
    let rule = format!("identities: [{{jwt: {{issuer: \"{ISSUER}\", claims: {{sub: bot}}}}}}]");
    let remit = lab.start(&Settings { ambient: false, agent: rule, more, ..Settings::to(upstream.address) });
    (lab, upstream, remit, key)
}

async fn ask(remit: &Remit, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let mut conn = Conn::new(UnixStream::connect(remit.dir.join("remit.sock")).await.unwrap());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: remit\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n");
    let answer = conn.ask(head + &body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_token_starts_tasks_for_whom_it_proves_and_nobody_else() {
    let (_lab, upstream, remit, key) = house("control-token", ", control: remit-control").await;
    let token = |more: Value| key.token(&claims(more));
    let alice = token(json!({"sub": "alice@example.test", "aud": "remit-control"}));
    let task = |more: Value| {
        let mut task = json!({"agent": "tester", "workflow": "work"});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task
    };
    let (status, started) = ask(&remit, "POST", "/v1/tasks", &alice, &task(json!({}))).await;
    assert_eq!(status, 201, "{started}");
    // Its handle serves as any other.
    let handle = started["handle"].as_str().unwrap();
    assert_eq!(agent::tls_as(&remit, handle).await.ask(agent::get("/items")).await.status, 200);
    assert_eq!(upstream.seen().len(), 1);
    let records = remit.log().of_kind("task");
    let record = &records[0];
    assert_eq!((&record["principal"]["id"], &record["principal"]["verified"]), (&json!("alice@example.test"), &json!(true)));
    let (status, said) = ask(&remit, "POST", "/v1/tasks", &alice, &task(json!({"principal": "bob@example.test"}))).await;
    assert!((400..500).contains(&status), "for another: {status} {said}");
    let (status, _) = ask(&remit, "GET", "/v1/tasks", &alice, &Value::Null).await;
    assert_eq!(status, 403, "it sees no other's tasks");
    let (status, _) = ask(&remit, "DELETE", &format!("/v1/tasks/{}", started["id"].as_str().unwrap()), &alice, &Value::Null).await;
    assert_eq!(status, 403, "nor ends one");
    let started = remit.log().of_kind("task").len();
    for (what, bad) in [
        ("an agent's own token", token(json!({"sub": "alice@example.test"}))),
        ("for someone else", token(json!({"sub": "alice@example.test", "aud": "other"}))),
        ("expired", token(json!({"aud": "remit-control", "exp": 1_700_000_000}))),
        ("of no person", token(json!({"aud": "remit-control", "sub": null}))),
        ("of another key", Key::new("k1").token(&claims(json!({"aud": "remit-control"})))),
    ] {
        let (status, said) = ask(&remit, "POST", "/v1/tasks", &bad, &task(json!({}))).await;
        assert_eq!(status, 401, "{what}: {said}");
        assert!(said["detail"].as_str().unwrap().contains("token"), "{what}: {said}");
    }
    assert_eq!(remit.log().of_kind("task").len(), started);
    // And who orchestrates is no agent.
    let fields = format!("Proxy-Authorization: Bearer {alice}\r\n");
    let mut conn = agent::tcp(&remit).await;
    conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{fields}\r\n")).await;
    assert_eq!(conn.head().await.unwrap().status, 407);
}

#[tokio::test]
async fn without_a_control_audience_no_token_starts_anything() {
    let (_lab, _upstream, remit, key) = house("control-none", "").await;
    let (status, said) =
        ask(&remit, "POST", "/v1/tasks", &key.token(&claims(json!({}))), &json!({"agent": "tester", "workflow": "work"})).await;
    assert_eq!(status, 401);
    assert!(said["detail"].as_str().unwrap().contains("`control` audience"), "{said}");
}
