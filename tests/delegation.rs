//! Delegation through the built binary: a part of a task can do what both may, takes from the limits
//! of the whole, labels it, and ends with it; and all of it is on record.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{process::Command, time::Duration};

use serde_json::Value;
use support::{Conn, Do, HOST, Lab, Remit, Settings, Upstream, agent};
use tokio::io::AsyncReadExt as _;

const CATALOG: &str = r#"
provider: example
hosts: [api.example.test]
operations:
  - {id: example.items.list, match: "GET /items", effect: read, labels: [untrusted-content]}
  - {id: example.items.get, match: "GET /items/{id}", effect: read}
  - {id: example.items.create, match: "POST /items", effect: write}
  - {id: example.items.remove, match: "DELETE /items/{id}", effect: delete}
  - {id: example.events.watch, match: "GET /events", effect: read}
  - {id: example.chat.create, match: "POST /chat", effect: execute, body: llm}
"#;

const MORE: &str = r#"
registry: [more.yaml]
labels: {sticky: 0}
"#;

const REGISTRY: &str = r#"
agents:
  - {id: helper, owner: owner@example.test, workflows: [help], delegates_to: [deep]}
  - {id: deep, owner: owner@example.test, workflows: [help], delegates_to: [deeper]}
  - {id: deeper, owner: owner@example.test, workflows: [help]}
  - {id: stranger, owner: owner@example.test, workflows: [help]}
workflows:
  - id: help
    purpose: Help with the work
    max_lifetime: 5m
    limits:
      - {effects: [execute], tokens: 500, per: task}
    grants:
      - {intents: [example.items.get, example.items.remove]}
      - {intents: [example.items.list, example.events.watch, example.chat.create]}
"#;

async fn house(name: &str) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    std::fs::write(lab.dir.join("catalog.yaml"), CATALOG).unwrap();
    std::fs::write(lab.dir.join("more.yaml"), REGISTRY).unwrap();
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |request| match request.target().as_str() {
        "/events" => Do::Hang(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec()),
        _ => Do::ok("hello"),
    })
    .await;
    let mut settings = Settings::to(upstream.address);
    settings.agent = "delegates_to: [helper]".into();
    settings.grants = vec![
        "{intents: [example.items.get], where: {id: \"7*\"}, limit: {calls: 3, per: task}}".into(),
        "{intents: [example.items.list, example.items.create, example.events.watch]}".into(),
        "{intents: [example.chat.create], limit: {tokens: 1000, per: agent}}".into(),
    ];
    settings.more = MORE.into();
    settings.ambient = false;
    let remit = lab.start(&settings);
    (lab, upstream, remit)
}

fn hand(remit: &Remit, handle: &str, id: &str, agent: &str, more: &[&str]) -> (Option<i32>, Value, String) {
    let config = remit.dir.join("remit.yaml");
    let done = Command::new(env!("CARGO_BIN_EXE_remit"))
        .args(["task", "delegate", id, "--agent", agent, "--workflow", "help", "--output", "json"])
        .args(more)
        .arg("--config")
        .arg(config)
        .env("REMIT_HANDLE", handle)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    (done.status.code(), serde_json::from_str(&out).unwrap_or_default(), out)
}

/// A part that was handed over: its id and handle.
fn part(remit: &Remit, from: &(String, String), agent: &str, more: &[&str]) -> (String, String) {
    let (code, task, out) = hand(remit, &from.1, &from.0, agent, more);
    assert_eq!(code, Some(0), "{out}");
    (task["id"].as_str().unwrap().into(), task["handle"].as_str().unwrap().into())
}

async fn ask(remit: &Remit, task: &(String, String), request: impl AsRef<[u8]>) -> Option<String> {
    agent::tls_as(remit, &task.1).await.ask(request).await.reason().map(str::to_owned)
}

fn chat(body: &str) -> String {
    agent::post("/chat", body)
}

fn refused(reason: &str) -> Option<String> {
    Some(reason.to_owned())
}

#[tokio::test]
async fn a_part_can_do_what_both_may_and_says_for_whom() {
    let (_lab, upstream, remit) = house("delegation-narrow").await;
    let lead = remit.task(&[]);
    let helper = part(&remit, &lead, "helper", &[]);
    let narrow = part(&remit, &lead, "helper", &["--grant", r#"{"intents": ["example.items.get"], "where": {"id": "7"}}"#]);
    for (task, request, want) in [
        (&helper, agent::get("/items/7"), None),
        (&helper, agent::get("/items/9"), refused("not_granted")),
        (&helper, agent::post("/items", "{}"), refused("not_granted")),
        (&helper, agent::send("DELETE", "/items/7", ""), refused("not_granted")),
        (&lead, agent::send("DELETE", "/items/7", ""), refused("not_granted")),
        (&lead, agent::post("/items", "{}"), None),
        (&narrow, agent::get("/items/7"), None),
        (&narrow, agent::get("/items/71"), refused("not_granted")),
        (&narrow, agent::get("/events"), refused("not_granted")),
    ] {
        assert_eq!(ask(&remit, task, &request).await, want, "{request}");
    }
    assert_eq!(upstream.seen().len(), 3);
    let started = remit.log().of_kind("task");
    let record = started.iter().find(|r| r["id"] == *helper.0 && r["event"] == "started").unwrap();
    assert_eq!((&record["parent"], &record["principal"]["id"]), (&lead.0.as_str().into(), &"alice@example.test".into()));
    let chain: Vec<_> = record["delegation"].as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap()).collect();
    assert_eq!(chain, ["alice@example.test", "tester", "helper"]);
    let (_, shown) = remit.command(&["task", "show", &helper.0]);
    assert!(shown.contains(&lead.0), "{shown}");
}

#[tokio::test]
async fn what_may_not_be_handed_over_is_refused_with_its_reason() {
    let (_lab, _upstream, remit) = house("delegation-refused").await;
    let lead = remit.task(&[]);
    for (agent, more, part) in [
        ("stranger", &[][..], "may not delegate to `stranger`"),
        ("deep", &[], "may not delegate to `deep`"),
        ("helper", &["--grant", r#"{"intents": ["example.items.remove"]}"#], "grants[0] lies outside what agent `tester` has"),
        ("helper", &["--grant", r#"{"intents": ["example.items.get"], "where": {"id": "9"}}"#], "lies outside"),
        ("helper", &["--grant", r#"{"intents": ["example.items.create"]}"#], "not within what the workflow grants"),
        ("helper", &["--lifetime", "6m"], "longer than the 300 s"),
    ] {
        let (code, _, out) = hand(&remit, &lead.1, &lead.0, agent, more);
        assert!(code == Some(1) && out.contains(part), "{agent} {more:?}: {out}");
    }
    let helper = part(&remit, &lead, "helper", &[]);
    let deep = part(&remit, &helper, "deep", &[]);
    let deeper = part(&remit, &deep, "deeper", &[]);
    assert_eq!(ask(&remit, &deeper, agent::get("/items/7")).await, None);
    let (code, _, out) = hand(&remit, &helper.1, &lead.0, "helper", &[]);
    assert!(code == Some(1) && out.contains("for an operator"), "a part hands over nothing of the whole: {out}");
}

#[tokio::test]
async fn a_part_takes_from_the_limits_of_the_whole() {
    let (_lab, upstream, remit) = house("delegation-limits").await;
    let lead = remit.task(&[]);
    let (one, two) = (part(&remit, &lead, "helper", &[]), part(&remit, &lead, "helper", &[]));
    for task in [&one, &two, &lead] {
        assert_eq!(ask(&remit, task, agent::get("/items/7")).await, None);
    }
    for task in [&one, &two, &lead] {
        assert_eq!(ask(&remit, task, agent::get("/items/7")).await, refused("limit_exceeded"));
    }
    // Tokens: what the call says is the most that it may use. 500 of a part, 1000 of the lead agent.
    let of = |n: u64| chat(&format!(r#"{{"model": "m", "max_tokens": {n}, "messages": []}}"#));
    for (task, request, want) in [
        (&one, chat(r#"{"model": "m", "messages": []}"#), refused("limit_exceeded")),
        (&one, of(501), refused("limit_exceeded")),
        (&one, chat(r#"{"model": "m", "max_tokens": 300, "n": 2, "messages": []}"#), refused("limit_exceeded")),
        (&one, of(400), None),
        (&one, of(101), refused("limit_exceeded")),
        (&one, of(100), None),
        (&two, of(450), None),
        (&lead, of(51), refused("limit_exceeded")),
        (&lead, of(50), None),
        (&lead, of(1), refused("limit_exceeded")),
    ] {
        assert_eq!(ask(&remit, task, &request).await, want, "{request}");
    }
    let next = remit.task(&[]);
    assert_eq!(ask(&remit, &next, of(1)).await, refused("limit_exceeded"), "`per: agent` is over all of its tasks");
    assert_eq!(upstream.seen().len(), 7);
    remit.log().verify();
}

#[tokio::test]
async fn what_a_part_touches_the_whole_has_touched() {
    let (_lab, _upstream, remit) = house("delegation-labels").await;
    let lead = remit.task(&[]);
    let (one, two) = (part(&remit, &lead, "helper", &[]), part(&remit, &lead, "helper", &[]));
    assert_eq!(ask(&remit, &one, agent::get("/items")).await, None);
    for (id, _) in [&lead, &one, &two] {
        let (_, shown) = remit.command(&["task", "show", id, "--output", "json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["labels"], serde_json::json!(["untrusted-content"]), "{id}");
    }
}

#[tokio::test]
async fn the_end_of_a_task_cuts_what_its_parts_have_open() {
    let (_lab, _upstream, remit) = house("delegation-end").await;
    let lead = remit.task(&[]);
    let helper = part(&remit, &lead, "helper", &[]);
    let deep = part(&remit, &helper, "deep", &[]);
    let spared = remit.task(&[]);
    let mut open = Vec::new();
    for task in [&helper, &deep, &spared] {
        let mut conn = agent::tls_as(&remit, &task.1).await;
        conn.send(agent::get("/events")).await;
        assert_eq!(conn.head().await.unwrap().status, 200);
        open.push(conn);
    }
    remit.end_task(&lead.0);
    let mut still = open.pop().unwrap();
    for mut conn in open {
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(2), conn.stream.read_to_end(&mut rest)).await.unwrap().ok();
    }
    let waited = tokio::time::timeout(Duration::from_millis(300), still.stream.read_to_end(&mut Vec::new())).await;
    assert!(waited.is_err(), "another task was cut");
    for task in [&lead, &helper, &deep] {
        assert_eq!(ask(&remit, task, agent::get("/items/7")).await, refused("task_ended"));
    }
    let (code, _, out) = hand(&remit, &helper.1, &helper.0, "deep", &[]);
    assert!(code == Some(1) && out.contains("is over"), "{out}");
    let ended = |id: &str| remit.log().of_kind("task").into_iter().find(|r| r["id"] == id && r["event"] == "ended").unwrap()["why"].clone();
    assert_eq!([ended(&lead.0), ended(&helper.0), ended(&deep.0)], ["asked", "parent", "parent"]);
    // What was cut is counted, with how long it lasted after the end.
    let mut conn = Conn::new(tokio::net::TcpStream::connect(remit.admin).await.unwrap());
    let metrics = conn.ask("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.text();
    assert!(metrics.contains("remit_revocation_seconds_count 2") && metrics.contains("remit_tasks_active 1"), "{metrics}");
}
