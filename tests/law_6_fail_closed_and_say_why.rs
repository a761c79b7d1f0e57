//! Law 6: fail closed, and say why. Each reason that Remit can refuse for is provoked through the
//! built binary; the answer names what to do, the record agrees, and upstream saw nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, process::Command, time::Duration};

use serde_json::Value;
use support::{Answer, Do, HOST, Lab, Remit, SECRET, Settings, Upstream, agent, lab};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const OWNER: &str = "owner@example.test";

async fn upstream(lab: &Lab) -> Upstream {
    Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await
}

/// Remit with what the test varies, before an upstream that answers all.
async fn house(name: &str, vary: impl FnOnce(&mut Settings)) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    let upstream = upstream(&lab).await;
    let mut settings = Settings::to(upstream.address);
    vary(&mut settings);
    let remit = lab.start(&settings);
    (lab, upstream, remit)
}

/// A refusal with everything its reader needs: `says` is in the text, `next` in what to do about it.
fn refusal(answer: &Answer, status: u16, reason: &str, says: &str, next: &str) {
    assert_eq!((answer.status, answer.reason()), (status, Some(reason)), "{answer:?}");
    let decision = answer.field("remit-decision").unwrap();
    assert!(decision.starts_with("d-") && decision.len() == 28, "{decision}");
    assert!(answer.line.contains(&format!("by Remit: {reason}")), "{}", answer.line);
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    let text = answer.text();
    assert!(text.contains(says), "{says:?} is not in {text}");
    if status == 407 {
        // Before a task is known there is no form but plain text.
        assert!(text.contains(next) && text.contains(decision), "{text}");
        return;
    }
    let told = answer.json();
    assert_eq!((told["status"].as_u64(), &told["reason"], &told["decision"]), (Some(status.into()), &reason.into(), &decision.into()));
    let advice = told["next"].as_str().unwrap();
    assert!(advice.contains(next) && advice.contains(&format!("remit explain {decision}")), "{advice}");
    assert!(told["message"].as_str().unwrap().contains(reason), "{text}");
}

/// The record of the one call there was: refused before it left.
async fn recorded(remit: &Remit, reason: &str) {
    let pair = remit.log().only().await;
    assert_ne!(pair.decision["decision"], "allow");
    assert_eq!((&pair.decision["code"], &pair.outcome["reason"]), (&reason.into(), &reason.into()));
    assert_eq!(pair.outcome["upstream"], Value::Null);
    remit.log().verify();
}

#[tokio::test]
async fn what_nobody_granted() {
    let (_lab, upstream, remit) = house("law6-granted", |_| ()).await;
    let inside = agent::connect(&remit, "other.example.test:443", "").await;
    let mut elsewhere = agent::shake(&remit, inside, "other.example.test", &[b"http/1.1"]).await;
    let answer = elsewhere.ask("GET /x HTTP/1.1\r\nHost: other.example.test\r\n\r\n").await;
    refusal(&answer, 403, "unknown_host", "other.example.test is in no catalog", OWNER);
    assert_eq!(answer.field("x-should-retry"), Some("false"));
    let answer = agent::ask(&remit, agent::get("/nothing/here")).await;
    refusal(&answer, 403, "unknown_operation", "GET /nothing/here", OWNER);
    let answer = agent::ask(&remit, agent::send("DELETE", "/items/7", "")).await;
    refusal(&answer, 403, "not_granted", "example.items.remove on 7", OWNER);
    assert_eq!(answer.json()["intents"], serde_json::json!(["example.items.remove"]));
    let answer = agent::ask(&remit, agent::get("/items?access_token=abcdefgh12345678")).await;
    refusal(&answer, 403, "foreign_credential", "access_token", "without the credential");
    let answer = agent::ask(&remit, agent::get(&format!("/items?q={SECRET}"))).await;
    refusal(&answer, 403, "foreign_credential", "it has leaked; rotate it", "without the credential");
    assert!(!answer.text().contains(SECRET));
    // A plain call to the known host, where no credential may go.
    let answer = agent::tcp(&remit).await.ask(format!("GET http://{HOST}/nothing HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    refusal(&answer, 403, "unknown_operation", "GET /nothing", OWNER);
    assert!(remit.log().pairs(6).await.iter().all(|p| p.decision["decision"] == "deny" && p.outcome["upstream"].is_null()));
    assert_eq!(upstream.opened(), 0);
    remit.log().verify();
}

#[tokio::test]
async fn a_client_that_asks_for_problem_details_gets_them() {
    let (_lab, _upstream, remit) = house("law6-problem", |_| ()).await;
    let request = agent::send("DELETE", "/items/7", "").replace("Content-Type", "Accept: application/problem+json\r\nContent-Type");
    let answer = agent::ask(&remit, request).await;
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let told = answer.json();
    assert_eq!(told["type"], "urn:remit:refusal:not_granted");
    assert_eq!((&told["agent"], &told["intents"][0]), (&"tester".into(), &"example.items.remove".into()));
    assert!(told["task"].as_str().unwrap().starts_with("t-"));
    assert!(!told["title"].as_str().unwrap().is_empty());
    assert!(told["reasons"].as_array().is_some_and(|r| !r.is_empty()));
    assert_eq!(told.get("message"), None);
}

#[tokio::test]
async fn an_agent_that_may_not_act() {
    for (member, reason) in
        [("status: suspended", "agent_suspended"), ("status: retired", "agent_retired"), ("expires: 2020-01-01T00:00:00Z", "agent_expired")]
    {
        let (_lab, upstream, remit) = house(reason, |s| s.agent = member.into()).await;
        let answer = agent::ask(&remit, agent::get("/items")).await;
        refusal(&answer, 403, reason, "tester", "ask");
        recorded(&remit, reason).await;
        assert_eq!(upstream.opened(), 0);
    }
}

#[tokio::test]
async fn a_call_without_a_task() {
    let (_lab, upstream, remit) = house("law6-no-task", |s| s.ambient = false).await;
    let bare = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
    let answer = agent::tcp(&remit).await.ask(&bare).await;
    refusal(&answer, 407, "no_task", "presents no task", "proxy URL");
    assert_eq!(answer.field("proxy-authenticate"), Some("Basic realm=\"remit\""));
    recorded(&remit, "no_task").await;
    // A wrong handle is no better than none; the same for absolute form.
    let wrong = bare.replace("\r\n\r\n", "\r\nProxy-Authorization: Basic dGFzazp3cm9uZw==\r\n\r\n");
    refusal(&agent::tcp(&remit).await.ask(wrong).await, 407, "no_task", "no task known here", "proxy URL");
    let absolute = format!("GET http://{HOST}/items HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    refusal(&agent::tcp(&remit).await.ask(absolute).await, 407, "no_task", "presents no task", "proxy URL");
    remit.log().pairs(3).await;
    assert_eq!(upstream.opened(), 0);
}

#[tokio::test]
async fn the_challenge_can_be_answered_on_its_connection() {
    let (_lab, upstream, remit) = house("law6-challenge", |s| s.ambient = false).await;
    let (_, handle) = remit.task(&[]);
    let mut conn = agent::tcp(&remit).await;
    let bare = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
    assert_eq!(conn.ask(&bare).await.status, 407);
    conn.send(bare.replace("\r\n\r\n", &format!("\r\nProxy-Authorization: Bearer {handle}\r\n\r\n"))).await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    let mut inside = agent::shake(&remit, conn, HOST, &[b"http/1.1"]).await;
    assert_eq!(inside.ask(agent::get("/items")).await.status, 200);
    assert_eq!(upstream.seen().len(), 1);
    remit.log().pairs(2).await;
}

#[tokio::test]
async fn claims_of_two_tasks() {
    let (_lab, upstream, remit) = house("law6-two", |_| ()).await;
    let ((_, one), (_, two)) = (remit.task(&[]), remit.task(&[]));
    let mut conn = agent::tls_as(&remit, &one).await;
    let answer = conn.ask(format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\nRemit-Task: {two}\r\n\r\n")).await;
    refusal(&answer, 403, "delegation_invalid", "different tasks", "ask");
    recorded(&remit, "delegation_invalid").await;
    assert_eq!(upstream.opened(), 0);
}

#[tokio::test]
async fn a_limit_that_is_spent() {
    let grants =
        ["{intents: [example.items.get], limit: {calls: 2, per: task}}", "{intents: [example.items.list], limit: {calls: 1, per: 1h}}"];
    let (_lab, upstream, remit) = house("law6-limit", |s| s.grants = grants.map(String::from).to_vec()).await;
    let mut conn = agent::tls(&remit).await;
    for id in 1..=2 {
        assert_eq!(conn.ask(agent::get(&format!("/items/{id}"))).await.status, 200);
    }
    let answer = conn.ask(agent::get("/items/3")).await;
    refusal(&answer, 403, "limit_exceeded", "2", OWNER);
    assert_eq!((answer.field("retry-after"), answer.field("x-should-retry")), (None, Some("false")));
    assert_eq!(conn.ask(agent::get("/items")).await.status, 200);
    let answer = conn.ask(agent::get("/items")).await;
    refusal(&answer, 429, "limit_exceeded", "1", "");
    let after: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&after), "{after}");
    remit.log().pairs(5).await;
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test]
async fn what_needs_a_human() {
    let grant = "{intents: [example.items.get], approval: {by: [\"group:leads\"], within: 10m}}";
    let (_lab, upstream, remit) = house("law6-approval", |s| s.grants = vec![grant.into()]).await;
    let answer = agent::ask(&remit, agent::get("/items/7")).await;
    refusal(&answer, 403, "approval_required", "needs the approval of a human", OWNER);
    recorded(&remit, "approval_required").await;
    assert_eq!(remit.log().of_kind("decision")[0]["decision"], "ask");
    assert_eq!(upstream.opened(), 0);
}

/// Remit with a guardrail.
async fn guarded(name: &str, rules: &str) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    fs::create_dir(lab.dir.join("rails")).unwrap();
    fs::write(lab.dir.join("rails/rails.rego"), format!("package remit.guardrails\n\n{rules}\n")).unwrap();
    let upstream = upstream(&lab).await;
    let remit = lab.start(&Settings { more: "policies: {paths: [rails]}".into(), ..Settings::to(upstream.address) });
    (lab, upstream, remit)
}

#[tokio::test]
async fn a_guardrail() {
    let (_lab, upstream, remit) =
        guarded("law6-guardrail", "deny contains \"seven is not for agents\" if input.intent.params.id == \"7\"").await;
    let answer = agent::ask(&remit, agent::get("/items/7")).await;
    refusal(&answer, 403, "guardrail", "seven is not for agents", OWNER);
    recorded(&remit, "guardrail").await;
    assert_eq!(upstream.opened(), 0);
    assert_eq!(agent::ask(&remit, agent::get("/items/8")).await.status, 200);
}

#[tokio::test]
async fn a_policy_that_fails() {
    for (name, rules) in [
        ("divides by zero", "deny contains \"x\" if 1 / count(input.intent.labels) > 0"),
        ("is of the wrong type", "deny contains \"x\" if count(input.intent.params.id + 1) > 0"),
        ("conflicts", "grade := 1 if input.intent.params.id\n\ngrade := 2 if input.intent.effect\n\ndeny contains \"x\" if grade > 2"),
        ("says what is no limit", "limit contains {\"key\": \"k\", \"max\": -1, \"window\": \"task\"} if input.intent.params.id"),
        ("says what is no label", "label contains \"nonsense\" if input.intent.params.id"),
    ] {
        let (_lab, upstream, remit) = guarded("law6-policy", rules).await;
        let answer = agent::ask(&remit, agent::get("/items/7")).await;
        assert_eq!((answer.status, answer.reason()), (503, Some("policy_failed")), "{name}: {answer:?}");
        refusal(&answer, 503, "policy_failed", "example.items.get on 7", OWNER);
        recorded(&remit, "policy_failed").await;
        assert_eq!(upstream.opened(), 0);
    }
}

#[tokio::test]
async fn a_credential_that_is_for_another_host() {
    let (_lab, upstream, remit) = house("law6-credential", |s| {
        s.grants = vec!["{intents: [example.items.get], credential: example}".into()];
    })
    .await;
    // It is not sent in the clear, and nothing less is sent in its place.
    let answer = agent::tcp(&remit).await.ask(format!("GET http://{HOST}/items/7 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    refusal(&answer, 502, "credential_unavailable", "`example`", OWNER);
    let pair = remit.log().only().await;
    assert_eq!((&pair.decision["decision"], &pair.decision["code"]), (&"deny".into(), &"credential_unavailable".into()));
    assert_eq!(upstream.opened(), 0);
}

#[tokio::test]
async fn a_secret_whose_file_is_gone_stays_and_is_reported() {
    let (lab, upstream, remit) = house("law6-secret", |_| ()).await;
    fs::remove_file(lab.dir.join("secret.txt")).unwrap();
    while !remit.printed().contains("secret.txt") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(agent::ask(&remit, agent::get("/items")).await.status, 200);
    assert_eq!(upstream.take().unwrap().field("authorization"), Some(format!("Bearer {SECRET}")));
    assert!(!remit.printed().contains(SECRET));
}

#[tokio::test]
async fn an_address_that_may_not_be_reached() {
    let (_lab, upstream, remit) = house("law6-address", |s| s.allow = "[]").await;
    let answer = agent::ask(&remit, agent::get("/items")).await;
    refusal(&answer, 403, "address_forbidden", "127.0.0.1, a loopback address; `upstream.allow_addresses`", OWNER);
    let pair = remit.log().only().await;
    assert_eq!((&pair.decision["decision"], &pair.outcome["reason"]), (&"allow".into(), &"address_forbidden".into()));
    assert_eq!(upstream.opened(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_to_be_judged() {
    let (_lab, upstream, remit) = house("law6-large", |s| s.more = "limits: {body: {default: 1KiB}}".into()).await;
    let large = format!("{{\"title\":\"{}\"}}", "x".repeat(1100));
    let answer = agent::ask(&remit, agent::post("/items", &large)).await;
    refusal(&answer, 413, "body_too_large", "1024 bytes (`limits.body`)", "smaller body");
    let head = format!("POST /items HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunks: String = large.as_bytes().chunks(100).map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c))).collect();
    let answer = agent::ask(&remit, format!("{head}{chunks}0\r\n\r\n")).await;
    refusal(&answer, 413, "body_too_large", "1024 bytes (`limits.body`)", "smaller body");
    // Only announced: it need not be sent first.
    let announced = format!("POST /items HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n");
    refusal(&agent::ask(&remit, announced).await, 413, "body_too_large", "1024 bytes (`limits.body`)", "smaller body");
    remit.log().pairs(3).await;
    assert_eq!(upstream.opened(), 0);
    assert_eq!(agent::ask(&remit, agent::send("PUT", "/blobs/1", &large)).await.status, 200);
}

#[tokio::test]
async fn more_than_remit_can_take() {
    let (_lab, upstream, remit) = house("law6-bodies", |s| s.more = "limits: {body: {default: 1KiB, llm: 1KiB, total: 1KiB}}".into()).await;
    let head = |length: usize| {
        format!("POST /items HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut first = agent::tls(&remit).await;
    first.send(head(1000)).await;
    let mut answer = agent::ask(&remit, agent::post("/items", "{}")).await;
    for _ in 0..100 {
        // Until Remit has begun to read the first.
        if answer.status == 503 {
            break;
        }
        answer = agent::ask(&remit, agent::post("/items", "{}")).await;
    }
    refusal(&answer, 503, "overloaded", "`limits.body.total`", "try again in 1 s");
    assert_eq!(answer.field("retry-after"), Some("1"));
    let before = upstream.seen().len();
    let body = format!("{{{}}}", " ".repeat(998));
    assert_eq!(first.ask(&body).await.status, 200);
    assert_eq!(upstream.seen().len(), before + 1);
    assert_eq!(agent::ask(&remit, agent::post("/items", "{}")).await.status, 200);
}

#[tokio::test]
async fn more_connections_than_remit_can_take() {
    let (_lab, upstream, remit) = house("law6-connections", |s| s.more = "limits: {connections: 2}".into()).await;
    let (mut one, two) = (agent::tls(&remit).await, agent::tcp(&remit).await);
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
    let mut third = agent::tcp(&remit).await;
    let answer = third.ask(&connect).await;
    refusal(&answer, 503, "overloaded", "`limits.connections`", "try again in 1 s");
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert!(third.closes().await);
    recorded(&remit, "overloaded").await;
    assert_eq!(upstream.opened(), 0);
    // Those that are there go on, and a place that is given back is taken.
    assert_eq!(one.ask(agent::get("/items")).await.status, 200);
    drop(two);
    for _ in 0..100 {
        if agent::tcp(&remit).await.ask(&connect).await.status == 503 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            return;
        }
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_trusted_or_reached() {
    let lab = Lab::new("law6-upstream");
    let hello = |_: &support::Received| Do::ok("hello");
    let stranger = Lab::new("law6-stranger");
    let untrusted = Upstream::tls(stranger.tls(HOST, &[b"http/1.1"]), hello).await;
    let misnamed = Upstream::tls(lab.tls("other.example.test", &[b"http/1.1"]), hello).await;
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let speaks_no_tls = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = plain.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = tcp.read_to_end(&mut vec![]).await;
    });
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (address, says) in [
        (untrusted.address, "TLS: invalid peer certificate: UnknownIssuer"),
        (misnamed.address, "not valid for name"),
        (speaks_no_tls, "TLS: received corrupt message"),
        (closed, "refused"),
        (silent.local_addr().unwrap(), "no connection within 1s"),
    ] {
        let _ = fs::remove_dir_all(lab.dir.join("audit"));
        let remit = lab.start(&Settings { more: "timeouts: {connect: 1s}".into(), ..Settings::to(address) });
        let answer = agent::ask(&remit, agent::get("/items")).await;
        refusal(&answer, 502, "upstream_unreachable", says, "try again later");
        assert_eq!(answer.field("x-should-retry"), None);
        let pair = remit.log().only().await;
        assert_eq!((&pair.decision["decision"], &pair.outcome["reason"]), (&"allow".into(), &"upstream_unreachable".into()));
    }
    assert!([untrusted, misnamed].iter().all(|u| u.seen().is_empty()));
}

#[tokio::test]
async fn a_name_that_leads_nowhere() {
    let (_lab, upstream, remit) = house("law6-name", |s| s.resolve.clear()).await;
    let answer = agent::ask(&remit, agent::get("/items")).await;
    refusal(&answer, 502, "upstream_unreachable", "does not resolve", "try again later");
    assert_eq!(upstream.opened(), 0);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer() {
    let lab = Lab::new("law6-timeout");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::Hang(vec![])).await;
    let remit = lab.start(&Settings { more: "timeouts: {first_byte: 500ms}".into(), ..Settings::to(upstream.address) });
    let answer = agent::ask(&remit, agent::get("/items")).await;
    refusal(&answer, 504, "upstream_timeout", "no answer within 500ms", "try again later");
    let pair = remit.log().only().await;
    assert_eq!((&pair.decision["decision"], &pair.outcome["reason"]), (&"allow".into(), &"upstream_timeout".into()));
}

#[tokio::test]
async fn a_disk_that_is_full() {
    let lab = Lab::new("law6-disk");
    let log = lab.dir.join("audit");
    fs::create_dir(&log).unwrap();
    if !lab::small_disk(&log, "a_disk_that_is_full") {
        return;
    }
    let upstream = upstream(&lab).await;
    let remit = lab.start(&Settings::to(upstream.address));
    assert_eq!(agent::ask(&remit, agent::get("/items/1")).await.status, 200);
    assert!(fs::write(log.join("ballast"), vec![b'x'; 600 << 10]).is_err());
    let mut answer = agent::ask(&remit, agent::get("/items/2")).await;
    for _ in 0..50 {
        // What the last page still holds.
        if answer.status != 200 {
            break;
        }
        answer = agent::ask(&remit, agent::get("/items/2")).await;
    }
    refusal(&answer, 503, "audit_unavailable", "cannot be recorded", "try again later");
    let before = upstream.seen().len();
    let answer = agent::ask(&remit, agent::post("/items", "{}")).await;
    refusal(&answer, 503, "audit_unavailable", "cannot be recorded", "try again later");
    assert_eq!(upstream.seen().len(), before);
    fs::remove_file(log.join("ballast")).unwrap();
    for _ in 0..100 {
        if agent::ask(&remit, agent::get("/items/3")).await.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let passed = upstream.seen().len();
    assert!(passed > before);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let calls = remit.log().of_kind("decision").len();
    let pairs = remit.log().pairs(calls).await;
    let allowed = pairs.iter().filter(|p| p.decision["decision"] == "allow" && p.outcome["reason"] != "audit_unavailable").count();
    assert_eq!(allowed, passed);
    remit.log().verify();
    drop(remit);
    let _ = Command::new("umount").arg("-l").arg(&log).status();
}
