//! Remit in front of an agent: a request is a task, its calls out join it by their trace, and it ends with the answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::time::Duration;

use remit::jose::SigningKey;
use serde_json::{Value, json};
use support::{
    Conn, Do, Lab, Remit, Settings, Upstream,
    agent::{Answer, PATIENCE},
    behind::{Behind, passed_on},
};
use tokio::net::TcpStream;

const ISSUER: &str = "https://id.example.test";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct House {
    _lab: Lab,
    remit: Remit,
    agent: Behind,
    upstream: Upstream,
    key: SigningKey,
}

/// Remit with an agent behind it and an upstream that both reach in the clear.
async fn house(name: &str, more: &str, ambient: bool) -> House {
    let lab = Lab::new(name);
    let agent = Behind::new(more.contains("h2c")).await;
    let upstream = Upstream::plain(|_| Do::ok("done")).await;
    let key = key();
    std::fs::write(lab.dir.join("issuer.jwks"), json!({"keys": [key.public_jwk()]}).to_string()).unwrap();
    let inbound = format!("{{address: \"127.0.0.1:0\", to: \"{}\", agent: tester, workflow: work{more}}}", agent.address);
    let issuers = format!(
        "issuers: [{{issuer: \"{ISSUER}\", audience: [remit], keys: {{file: issuer.jwks}}, principal: sub}}]\nlimits: {{decision: 1s}}\n"
    );
    let settings = Settings {
        ambient,
        inbound,
        more: issuers,
        grants: vec!["{intents: [example.*], effects: [read]}".into()],
        ..Settings::to(upstream.address)
    };
    let remit = lab.start(&settings);
    agent.calls_through(remit.proxy);
    House { _lab: lab, remit, agent, upstream, key }
}

fn key() -> SigningKey {
    let pkcs8 =
        ring::signature::EcdsaKeyPair::generate_pkcs8(&ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING, &ring::rand::SystemRandom::new());
    SigningKey::from_pkcs8(pkcs8.unwrap().as_ref()).unwrap()
}

fn now() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

impl House {
    fn token(&self, subject: &str) -> String {
        let claims = json!({"iss": ISSUER, "aud": "remit", "sub": subject, "iat": now(), "exp": now() + 300});
        let token = self.key.sign("JWT", Some(&self.key.thumbprint()), &[], &claims).unwrap();
        format!("Authorization: Bearer {token}\r\n")
    }

    async fn conn(&self) -> Conn<TcpStream> {
        Conn::new(TcpStream::connect(self.remit.inbound.unwrap()).await.unwrap())
    }

    async fn ask(&self, path: &str, fields: &str) -> Answer {
        self.conn().await.ask(get(path, fields)).await
    }

    /// Every decision with the task's start it belongs to.
    async fn calls(&self, count: usize) -> Vec<(Value, Value)> {
        let pairs = self.remit.log().pairs(count).await;
        let tasks = self.remit.log().of_kind("task");
        let started = |id: &Value| tasks.iter().find(|t| t["event"] == "started" && t["id"] == *id).cloned().unwrap_or_default();
        pairs.into_iter().map(|p| (started(&p.decision["task"]), p.decision)).collect()
    }

    fn ended(&self, task: &Value) -> Option<String> {
        let tasks = self.remit.log().of_kind("task");
        tasks.iter().find(|t| t["event"] == "ended" && t["id"] == task["id"]).map(|t| t["why"].as_str().unwrap().to_owned())
    }

    async fn ends(&self, task: &Value) -> String {
        for _ in 0..200 {
            if let Some(why) = self.ended(task) {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the task has not ended: {task}");
    }
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: agent.example.test\r\n{fields}\r\n")
}

#[tokio::test]
async fn a_request_is_a_task_and_its_calls_out_join_it() {
    let house = house("inbound-joins", "", false).await;
    let answer = house.ask("/call", &house.token("alice@example.test")).await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (200, json!(200)), "{}", answer.text());
    let calls = house.calls(2).await;
    let (inbound, outbound) = (&calls[0], &calls[1]);
    assert_eq!(inbound.1["listener"], "inbound");
    assert_eq!((&inbound.1["how"], &outbound.1["how"]), (&json!("inbound"), &json!("trace")));
    assert_eq!(inbound.1["task"], outbound.1["task"]);
    assert_eq!(inbound.1["trace"], outbound.1["trace"]);
    assert_eq!(inbound.0["principal"], json!({"id": "alice@example.test", "verified": true, "claims": {}}));
    assert_eq!(house.ends(&inbound.0).await, "closed");
    let seen = house.agent.seen().remove(0);
    assert_eq!(seen.get("host").unwrap(), "agent.example.test");
    assert_eq!(seen.get("remit-principal").unwrap(), "alice@example.test");
    assert!(seen.get("authorization").is_none(), "the caller's token stays with Remit");
    assert_eq!(house.upstream.take().unwrap().field("authorization"), None);
}

#[tokio::test]
async fn two_principals_at_once_are_told_apart() {
    let house = house("inbound-two", "", false).await;
    let (alice, bob) = (house.token("alice@example.test"), house.token("bob@example.test"));
    let many = (0..20).map(|i| {
        let token = if i % 2 == 0 { &alice } else { &bob };
        house.ask("/call", token)
    });
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer.json()["status"], 200, "{}", answer.text());
    }
    let calls = house.calls(40).await;
    let mut by_task: std::collections::HashMap<String, Vec<String>> = Default::default();
    for (task, decision) in &calls {
        let who = task["principal"]["id"].as_str().unwrap().to_owned();
        by_task
            .entry(decision["task"].as_str().unwrap().into())
            .or_default()
            .push(format!("{} {who}", decision["listener"].as_str().unwrap()));
    }
    assert_eq!(by_task.len(), 20);
    let of = |who: &str| by_task.values().filter(|l| **l == [format!("inbound {who}"), format!("forward {who}")]).count();
    assert_eq!((of("alice@example.test"), of("bob@example.test")), (10, 10));
}

#[tokio::test]
async fn after_the_answer_its_trace_gives_nothing_but_what_is_ambient() {
    for ambient in [false, true] {
        let house = house("inbound-after", "", ambient).await;
        house.ask("/", &house.token("alice@example.test")).await;
        house.ends(&house.calls(1).await[0].0).await;
        let late = house.agent.call("http://api.example.test/items/1", &passed_on(&house.agent.seen()[0])).await;
        let (task, decision) = house.calls(2).await.remove(1);
        if ambient {
            assert_eq!((late.status, &decision["how"]), (200, &json!("ambient")));
            assert_eq!(task["principal"]["verified"], false);
        } else {
            assert_eq!((late.status, late.reason()), (407, Some("no_task")));
            assert!(decision["task"].is_null());
        }
    }
}

#[tokio::test]
async fn what_was_taken_from_the_agent_does_not_fall_to_ambient_authority() {
    let house = house("inbound-revoked", "", true).await;
    let token = house.token("alice@example.test");
    let mut conn = house.conn().await;
    conn.send(get("/stream", &token)).await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    house.agent.waits().await;
    let (code, out) = house.remit.command(&["task", "list", "--output", "json"]);
    assert_eq!(code, Some(0), "{out}");
    let listed: Value = serde_json::from_str(&out).unwrap();
    let id = listed["tasks"][0]["id"].as_str().unwrap().to_owned();
    house.remit.end_task(&id);
    let seen = house.agent.seen().remove(0);
    for _ in 0..3 {
        let late = house.agent.call("http://api.example.test/items/1", &passed_on(&seen)).await;
        assert_eq!((late.status, late.reason()), (403, Some("task_ended")), "{}", late.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The stream to the caller was cut, and did not come to its end.
    let rest = tokio::time::timeout(PATIENCE, support::chunks::until(&mut conn.stream, &mut conn.read, b"0\r\n\r\n")).await;
    assert_eq!(rest.expect("the stream is cut"), None);
    assert_eq!(house.ends(&json!({ "id": id })).await, "asked");
}

#[tokio::test]
async fn nobody_is_let_in_without_a_token_that_is_believed() {
    let house = house("inbound-nobody", "", true).await;
    let other =
        key().sign("JWT", Some(&house.key.thumbprint()), &[], &json!({"iss": ISSUER, "aud": "remit", "sub": "a", "exp": now() + 60}));
    let expired = house.key.sign("JWT", None, &[], &json!({"iss": ISSUER, "aud": "remit", "sub": "a", "exp": now() - 60}));
    let token = house.token("alice@example.test");
    for (fields, status, reason) in [
        (String::new(), 401, "no_task"),
        ("Authorization: Basic YTpi\r\n".to_owned(), 401, "no_task"),
        (format!("Authorization: Bearer {}\r\n", other.unwrap()), 401, "no_task"),
        (format!("Authorization: Bearer {}\r\n", expired.unwrap()), 401, "no_task"),
        (format!("{token}{token}"), 400, "ambiguous_request"),
    ] {
        let answer = house.ask("/", &fields).await;
        assert_eq!((answer.status, answer.reason()), (status, Some(reason)), "{fields}: {}", answer.text());
        assert_eq!(answer.field("www-authenticate").is_some(), status == 401);
    }
    assert!(house.agent.seen().is_empty());
    for (_, decision) in house.calls(5).await {
        assert_eq!((&decision["listener"], &decision["decision"]), (&json!("inbound"), &json!("deny")));
    }
}

#[tokio::test]
async fn two_requests_of_one_trace_share_a_task_or_the_second_is_refused() {
    let house = house("inbound-trace", "", false).await;
    let (alice, bob) = (house.token("alice@example.test"), house.token("bob@example.test"));
    let trace = format!("traceparent: {TRACE}\r\n");
    let mut first = house.conn().await;
    first.send(get("/waits-and-calls", &format!("{alice}{trace}"))).await;
    house.agent.waits().await;
    let refused = house.ask("/", &format!("{bob}{trace}")).await;
    assert_eq!((refused.status, refused.reason()), (400, Some("ambiguous_request")), "{}", refused.text());
    let joined = house.ask("/", &format!("{alice}{trace}")).await;
    assert_eq!(joined.status, 200);
    // The one that joined is over, and the task is not.
    house.agent.go();
    let answer = first.answer().await.unwrap();
    assert_eq!(answer.json()["status"], 200, "{}", answer.text());
    let calls = house.calls(4).await;
    let tasks: std::collections::HashSet<String> = calls.iter().filter_map(|(_, d)| d["task"].as_str().map(str::to_owned)).collect();
    assert_eq!(tasks.len(), 1);
    assert!(calls.iter().all(|(_, d)| d["trace"] == TRACE[3..35]), "the caller's trace is kept");
    assert_eq!(house.ends(&calls[0].0).await, "closed");
    // Over, it is no one's: bob may have it.
    assert_eq!(house.ask("/call", &format!("{bob}{trace}")).await.json()["status"], 200);
}

#[tokio::test]
async fn a_trace_is_made_where_there_is_none_and_kept_where_it_is_valid() {
    let house = house("inbound-made", "", false).await;
    let token = house.token("alice@example.test");
    house.ask("/", &token).await;
    house.ask("/", &format!("{token}traceparent: {TRACE}\r\ntracestate: a=1\r\n")).await;
    house.ask("/", &format!("{token}traceparent: 00-{}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n", "0".repeat(32))).await;
    let fields: Vec<(String, bool)> = house
        .agent
        .seen()
        .iter()
        .map(|h| (h.get("traceparent").unwrap().to_str().unwrap().to_owned(), h.contains_key("tracestate")))
        .collect();
    assert_eq!(fields[1], (TRACE.to_owned(), true));
    for (made, state) in [&fields[0], &fields[2]] {
        assert!(remit::call::TraceId::of_traceparent(made).is_some() && !state, "{made}");
    }
    assert_ne!(fields[0].0, fields[2].0);
}

#[tokio::test]
async fn streams_uploads_trailers_and_web_sockets_pass_both_ways() {
    let house = house("inbound-streams", "", false).await;
    let token = house.token("alice@example.test");
    // Server-sent events: the first is there before the second is made.
    let mut conn = house.conn().await;
    conn.send(get("/stream", &format!("{token}TE: trailers\r\n"))).await;
    assert_eq!(conn.head().await.unwrap().field("content-type"), Some("text/event-stream"));
    assert_eq!(support::chunks::chunk(&mut conn.stream, &mut conn.read).await.unwrap(), b"data: 1\n\n");
    house.agent.go();
    assert_eq!(support::chunks::chunk(&mut conn.stream, &mut conn.read).await.unwrap(), b"data: 2\n\n");
    assert!(support::chunks::chunk(&mut conn.stream, &mut conn.read).await.unwrap().is_empty());
    let trailers = support::chunks::trailers(&mut conn.stream, &mut conn.read).await.unwrap();
    assert_eq!(trailers, [("etag".to_owned(), "\"end\"".to_owned())]);
    // A chunked upload with trailers.
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{token}Transfer-Encoding: chunked\r\nTrailer: etag\r\n\r\n");
    let answer = house.conn().await.ask(format!("{head}3\r\nabc\r\n0\r\netag: 1\r\n\r\n")).await;
    assert_eq!(answer.json(), json!({"body": "abc", "trailers": 1}));
    // A WebSocket's bytes.
    let mut conn = house.conn().await;
    conn.send(get("/socket", &format!("{token}Connection: Upgrade\r\nUpgrade: websocket\r\n"))).await;
    assert_eq!(conn.head().await.unwrap().status, 101);
    conn.send("ping").await;
    assert_eq!(support::chunks::exactly(&mut conn.stream, &mut conn.read, 4).await.unwrap(), b"ping");
    let open = house.remit.log().of_kind("decision").pop().unwrap();
    let task = json!({"id": open["task"]});
    assert_eq!(house.ended(&task), None, "the task lasts as long as the stream");
    drop(conn);
    assert_eq!(house.ends(&task).await, "closed");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_task() {
    let house = house("inbound-gone", "", false).await;
    let mut conn = house.conn().await;
    conn.send(get("/waits-and-calls", &house.token("alice@example.test"))).await;
    house.agent.waits().await;
    let task = house.remit.log().of_kind("task").remove(0);
    drop(conn);
    assert_eq!(house.ends(&task).await, "closed");
}

#[tokio::test]
async fn a_drain_lets_what_is_open_come_to_its_end_and_nothing_new_begin() {
    let mut house = house("inbound-drain", "", false).await;
    let token = house.token("alice@example.test");
    let mut conn = house.conn().await;
    conn.send(get("/stream", &token)).await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    house.agent.waits().await;
    house.remit.signal("TERM");
    let refused = async {
        while TcpStream::connect(house.remit.inbound.unwrap()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("nothing new is taken");
    house.agent.go();
    let end = tokio::time::timeout(PATIENCE, support::chunks::until(&mut conn.stream, &mut conn.read, b"0\r\n")).await;
    assert!(end.unwrap().is_some(), "the stream came to its end");
    assert!(house.remit.ended(PATIENCE).await.success());
    let outcome = house.remit.log().only().await.outcome;
    assert_eq!(outcome["outcome"], "complete");
    house.remit.log().verify();
}

#[tokio::test]
async fn both_sides_may_speak_http_2_in_the_clear() {
    use http_body_util::BodyExt as _;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let house = house("inbound-h2c", ", protocol: h2c", false).await;
    let tcp = TcpStream::connect(house.remit.inbound.unwrap()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let token = house.token("alice@example.test");
    let bearer = token.trim().strip_prefix("Authorization: ").unwrap();
    let request = http::Request::get("http://agent.example.test/call").header("authorization", bearer);
    let answer = sender.send_request(request.body(support::web::full("")).unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    let body: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["status"], 200);
    let request = http::Request::get("http://agent.example.test/").body(support::web::full("")).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), http::StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_rule_chooses_the_workflow_and_what_only_remit_says_is_dropped() {
    let house = house("inbound-rules", ", requires: network, rules: [{path: \"/a/*\", workflow: work}]", false).await;
    let answer = house.ask("/a/b", "Remit-Principal: root\r\nRemit-Task: x\r\nAuthorization: Bearer app\r\n").await;
    assert_eq!(answer.status, 200);
    let seen = house.agent.seen().remove(0);
    assert_eq!(seen.get("remit-principal").unwrap(), "owner@example.test");
    assert_eq!(seen.get("authorization").unwrap(), "Bearer app", "not looked at, so it is the agent's");
    assert!(seen.get("remit-task").is_none());
    let task = house.calls(1).await.remove(0).0;
    assert_eq!(task["principal"], json!({"id": "owner@example.test", "verified": false, "claims": {}}));
}

#[tokio::test]
async fn what_has_two_readings_is_refused_and_an_agent_that_is_gone_is_said_to_be() {
    let house = house("inbound-ambiguous", ", requires: network", false).await;
    for bad in [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /a/..;/b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    ] {
        let answer = house.conn().await.ask(bad).await;
        assert_eq!((answer.status, answer.reason()), (400, Some("ambiguous_request")), "{bad:?}");
    }
    assert!(house.agent.seen().is_empty());
    let lab = Lab::new("inbound-down");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let inbound = format!("{{address: \"127.0.0.1:0\", to: \"{free}\", agent: tester, workflow: work, requires: network}}");
    let remit = lab.start(&Settings { inbound, ..Settings::to(free) });
    let mut conn = Conn::new(TcpStream::connect(remit.inbound.unwrap()).await.unwrap());
    let answer = conn.ask(get("/", "")).await;
    assert_eq!((answer.status, answer.reason()), (502, Some("upstream_unreachable")));
}
