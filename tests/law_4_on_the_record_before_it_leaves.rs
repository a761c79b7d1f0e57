//! Law 4: on the record before it leaves. On every way out there is one decision, written before a
//! byte reaches upstream, and one outcome.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Do, HOST, Lab, Remit, Settings, Upstream, agent, log::Log};

/// An upstream that, when a request arrives, looks whether its decision is on the record, and then
/// does as its path says.
async fn watching(lab: &Lab) -> Upstream {
    let log = Log(lab.dir.join("audit"));
    Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), move |request| {
        let target = request.target();
        let on_record = log.records().iter().any(|r| r["kind"] == "decision" && r["path"] == target && r["decision"] == "allow");
        let early = log.of_kind("outcome").len() >= log.of_kind("decision").len();
        let says = if on_record && !early { "on record" } else { "NOT on record" };
        // The scrubber holds back as many bytes as the credential has.
        let part = || format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{says}{}", ".".repeat(100)).into_bytes();
        match target.rsplit('/').next().unwrap() {
            "cut" => Do::Cut(part()),
            "silent" => Do::Cut(vec![]),
            "hang" => Do::Hang(part()),
            "wait" => Do::Hang(vec![]),
            "garbage" => Do::Cut(b"NOT HTTP\r\n\r\n".to_vec()),
            _ => Do::ok(says),
        }
    })
    .await
}

async fn house(name: &str) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    let upstream = watching(&lab).await;
    let settings = Settings { more: "timeouts: {first_byte: 2s, idle: 2s}".into(), ..Settings::to(upstream.address) };
    let remit = lab.start(&settings);
    (lab, upstream, remit)
}

/// Waits until upstream has got so many requests.
async fn arrived(upstream: &Upstream, count: usize) {
    for _ in 0..400 {
        if upstream.seen().len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} of {count} requests have arrived", upstream.seen().len());
}

fn text<'v>(record: &'v Value, key: &str) -> &'v str {
    record[key].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_allowed_call_is_on_record_when_it_arrives() {
    let (_lab, _upstream, remit) = house("law4-allowed").await;
    let mut conn = agent::tls(&remit).await;
    // A read is buffered, a write synced, a stream passes unread.
    for request in [agent::get("/items/7"), agent::post("/items", "{}"), agent::send("PUT", "/blobs/1", "some bytes")] {
        let answer = conn.ask(request).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "on record"));
    }
    let pairs = remit.log().pairs(3).await;
    for pair in &pairs {
        assert_eq!(
            (text(&pair.outcome, "outcome"), &pair.outcome["status"], &pair.outcome["upstream"]),
            ("complete", &200.into(), &200.into())
        );
        assert_eq!(pair.outcome["bytes_down"], 9);
        assert_eq!(pair.decision["lease"]["name"], "example");
    }
    assert_eq!(pairs[1].outcome["bytes_up"], 2);
    assert_eq!(pairs[2].outcome["bytes_up"], 10);
    for pair in &pairs[1..] {
        assert_eq!(text(&pair.outcome, "body_sha256").len(), 64);
    }
    remit.log().verify();
}

#[tokio::test]
async fn a_refusal_of_every_room_is_on_record() {
    let (_lab, upstream, remit) = house("law4-refused").await;
    let inside = agent::connect(&remit, "other.example.test:443", "").await;
    let mut elsewhere = agent::shake(&remit, inside, "other.example.test", &[b"http/1.1"]).await;
    let cases = [
        ("ambiguous_request", agent::ask(&remit, agent::get("/items//7")).await),
        (
            "no_task",
            agent::tcp(&remit)
                .await
                .ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Bearer x\r\n\r\n"))
                .await,
        ),
        ("no_task", agent::ask(&remit, format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\nRemit-Task: x\r\n\r\n")).await),
        ("ambiguous_request", agent::ask(&remit, agent::post("/items", "{")).await),
        ("unknown_operation", agent::ask(&remit, agent::get("/nothing")).await),
        ("unknown_host", elsewhere.ask("GET / HTTP/1.1\r\nHost: other.example.test\r\n\r\n").await),
        ("not_granted", agent::ask(&remit, agent::send("DELETE", "/items/7", "")).await),
        ("foreign_credential", agent::ask(&remit, agent::get("/items?access_token=abcdefgh12345678")).await),
    ];
    let pairs = remit.log().pairs(cases.len()).await;
    for ((reason, answer), pair) in cases.iter().zip(&pairs) {
        assert_eq!(answer.reason(), Some(*reason), "{}", answer.text());
        assert_eq!(answer.field("remit-decision"), Some(text(&pair.decision, "id")));
        assert_eq!((text(&pair.decision, "decision"), text(&pair.decision, "code")), ("deny", *reason));
        assert_eq!((text(&pair.outcome, "outcome"), text(&pair.outcome, "reason")), ("complete", *reason));
        assert_eq!(pair.outcome["status"], answer.status);
        assert!(pair.outcome["upstream"].is_null());
    }
    assert_eq!(upstream.opened(), 0);
    remit.log().verify();
}

#[tokio::test]
async fn what_upstream_breaks_is_on_record() {
    let (_lab, upstream, remit) = house("law4-upstream").await;
    let whole = |path: &str| agent::ask(&remit, agent::get(path));
    for (path, status, reason) in [
        ("/items/silent", 502, "upstream_unreachable"),
        ("/items/garbage", 502, "upstream_unreachable"),
        ("/items/wait", 504, "upstream_timeout"),
    ] {
        let answer = whole(path).await;
        assert_eq!((answer.status, answer.reason()), (status, Some(reason)), "{path}");
    }
    for path in ["/items/cut", "/items/hang"] {
        let answer = whole(path).await;
        assert_eq!((answer.status, answer.whole, answer.text().starts_with("on record")), (200, false, true), "{path}: {answer:?}");
    }
    let pairs = remit.log().pairs(5).await;
    let outcomes: Vec<_> = pairs.iter().map(|p| (text(&p.outcome, "outcome"), text(&p.outcome, "reason"))).collect();
    let want = [
        ("complete", "upstream_unreachable"),
        ("complete", "upstream_unreachable"),
        ("complete", "upstream_timeout"),
        ("incomplete", "upstream_unreachable"),
        ("incomplete", "upstream_timeout"),
    ];
    assert_eq!(outcomes, want);
    assert!(pairs.iter().all(|p| p.decision["decision"] == "allow"));
    assert_eq!(upstream.seen().len(), 5);
    remit.log().verify();
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_on_record() {
    let lab = Lab::new("law4-nobody");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let remit = lab.start(&Settings::to(closed));
    let answer = agent::ask(&remit, agent::get("/items")).await;
    assert_eq!((answer.status, answer.reason()), (502, Some("upstream_unreachable")));
    let pair = remit.log().only().await;
    assert_eq!((text(&pair.decision, "decision"), text(&pair.outcome, "reason")), ("allow", "upstream_unreachable"));
}

#[tokio::test]
async fn an_agent_that_goes_away_leaves_an_outcome() {
    let (_lab, upstream, remit) = house("law4-gone").await;
    // While upstream is asked.
    let mut conn = agent::tls(&remit).await;
    conn.send(agent::get("/items/wait")).await;
    arrived(&upstream, 1).await;
    drop(conn);
    // In the middle of the answer.
    let mut conn = agent::tls(&remit).await;
    conn.send(agent::get("/items/hang")).await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    drop(conn);
    let pairs = remit.log().pairs(2).await;
    assert!(pairs.iter().all(|p| p.outcome["outcome"] == "incomplete"), "{pairs:#?}");
    assert_eq!(pairs[0].outcome["status"], Value::Null);
    assert_eq!(pairs[1].outcome["status"], 200);
    // In the middle of a body that streams.
    let mut conn = agent::tls(&remit).await;
    conn.send(format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nhalf of it")).await;
    while remit.log().of_kind("decision").len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(conn);
    let pairs = remit.log().pairs(3).await;
    assert_eq!((text(&pairs[2].outcome, "reason"), &pairs[2].outcome["bytes_up"]), ("ambiguous_request", &10.into()), "{pairs:#?}");
    assert!(upstream.seen().iter().all(|r| r.line() != "PUT /blobs/1 HTTP/1.1" || !r.whole));
    remit.log().verify();
}

#[tokio::test]
async fn an_agent_that_goes_away_before_a_decision_leaves_a_pair_or_nothing() {
    let (_lab, upstream, remit) = house("law4-early").await;
    let mut conn = agent::tls(&remit).await;
    conn.send(format!("POST /items HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(conn);
    assert_eq!(agent::ask(&remit, agent::get("/items/7")).await.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let decisions = remit.log().of_kind("decision").len();
    let pairs = remit.log().pairs(decisions).await;
    assert!(pairs.len() <= 2, "{pairs:#?}");
    assert_eq!(upstream.seen().len(), 1);
    remit.log().verify();
}

#[tokio::test]
async fn the_end_of_a_task_in_mid_stream_is_on_record() {
    let (_lab, upstream, remit) = house("law4-ended").await;
    let (id, handle) = remit.task(&[]);
    let mut streaming = agent::tls_as(&remit, &handle).await;
    streaming.send(agent::get("/items/hang")).await;
    assert_eq!(streaming.head().await.unwrap().status, 200);
    let mut waiting = agent::tls_as(&remit, &handle).await;
    waiting.send(agent::get("/items/wait")).await;
    arrived(&upstream, 2).await;
    remit.end_task(&id);
    let answer = waiting.answer().await.unwrap();
    assert_eq!((answer.status, answer.reason()), (403, Some("task_ended")));
    let pairs = remit.log().pairs(2).await;
    let outcomes: Vec<_> = pairs.iter().map(|p| (text(&p.outcome, "outcome"), text(&p.outcome, "reason"))).collect();
    assert_eq!(outcomes, [("incomplete", "task_ended"), ("complete", "task_ended")]);
    let tasks = remit.log().of_kind("task");
    assert_eq!(tasks.iter().filter(|t| t["id"] == *id).count(), 2, "{tasks:#?}");
    remit.log().verify();
}

#[tokio::test]
async fn calls_of_a_killed_process_get_their_outcome_from_the_next() {
    let (lab, upstream, remit) = house("law4-killed").await;
    assert_eq!(agent::ask(&remit, agent::get("/items/1")).await.status, 200);
    remit.log().pairs(1).await;
    let mut waiting = agent::tls(&remit).await;
    waiting.send(agent::get("/items/wait")).await;
    let mut streaming = agent::tls(&remit).await;
    streaming.send(agent::get("/items/hang")).await;
    assert_eq!(streaming.head().await.unwrap().status, 200);
    arrived(&upstream, 3).await;
    remit.kill();

    let remit = Remit::start(&lab.dir);
    let pairs = remit.log().pairs(3).await;
    let mut outcomes: Vec<_> = pairs.iter().map(|p| text(&p.outcome, "outcome")).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["complete", "unknown", "unknown"]);
    remit.log().verify();
    // Once: a third process finds nothing left.
    remit.kill();
    let remit = Remit::start(&lab.dir);
    assert_eq!(agent::ask(&remit, agent::get("/items/1")).await.status, 200);
    remit.log().pairs(4).await;
    remit.log().verify();
}

#[tokio::test]
async fn many_calls_at_once_have_one_outcome_each() {
    let (_lab, _upstream, mut remit) = house("law4-many").await;
    let agents = (0..16).map(|n| {
        let remit = &remit;
        async move {
            let mut conn = agent::tls(remit).await;
            for turn in 0..20 {
                let request = if turn % 4 == 0 { agent::post("/items", "{}") } else { agent::get(&format!("/items/{n}-{turn}")) };
                assert_eq!(conn.ask(request).await.text(), "on record");
            }
        }
    });
    futures_util::future::join_all(agents).await;
    remit.log().pairs(16 * 20).await;
    remit.signal("TERM");
    assert!(remit.ended(Duration::from_secs(20)).await.success());
    assert!(remit.log().verify().contains("closed"));
    remit.log().pairs(16 * 20).await;
}
