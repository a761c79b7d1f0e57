//! Who calls, by a signed token: what a good one gives, and each bad one refused with its reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use support::{
    Answer, Conn, Do, HOST, Lab, Remit, Settings, Upstream, agent,
    tokens::{ISSUER, Key, claims, now, set},
};

const RULE: &str = "identities: [{jwt: {issuer: \"https://id.example.test\", claims: {sub: bot}}, workflow: work}]";

fn issuers(keys: &str, more: &str) -> String {
    format!("issuers:\n  - {{issuer: \"{ISSUER}\", audience: remit, algorithms: [ES256, RS256], keys: {keys}{more}}}\n")
}

struct House {
    _lab: Lab,
    upstream: Upstream,
    remit: Remit,
    key: Key,
}

/// Remit without ambient authority, where `bot` of the tests' issuer is `tester`.
async fn house(name: &str, agent: &str, more: &str) -> House {
    let lab = Lab::new(name);
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let key = Key::new("k1");
    fs::write(lab.dir.join("jwks.json"), set(&[&key])).unwrap();
    let more = issuers("{file: jwks.json}", more);
    let settings = Settings { ambient: false, agent: agent.into(), more, ..Settings::to(upstream.address) };
    let remit = lab.start(&settings);
    House { _lab: lab, upstream, remit, key }
}

/// The answer to a CONNECT that presents this.
async fn connect(remit: &Remit, fields: &str) -> Answer {
    let mut conn = agent::tcp(remit).await;
    conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nConnection: close\r\n{fields}\r\n")).await;
    conn.answer().await.unwrap()
}

/// Whether a CONNECT that presents this is accepted; its status.
async fn status(remit: &Remit, fields: &str) -> u16 {
    let mut conn = agent::tcp(remit).await;
    conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{fields}\r\n")).await;
    conn.head().await.unwrap().status
}

fn bearer(token: &str) -> String {
    format!("Proxy-Authorization: Bearer {token}\r\n")
}

/// A call inside a CONNECT that presents `outer`, with `inner` of its own.
async fn call(remit: &Remit, outer: &str, inner: &str) -> Answer {
    let inside = agent::connect(remit, &format!("{HOST}:443"), outer).await;
    let mut conn: Conn<_> = agent::shake(remit, inside, HOST, &[b"http/1.1"]).await;
    conn.ask(format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\n{inner}\r\n")).await
}

#[tokio::test]
async fn a_token_proves_the_agent_and_for_whom_it_acts() {
    let h = house("token-good", RULE, ", principal: {claim: email, keep: [groups]}").await;
    let token = h.key.token(&claims(json!({"email": "alice@example.test", "groups": ["support"], "phone": "123"})));
    assert_eq!(call(&h.remit, &bearer(&token), "").await.status, 200);
    let basic = format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("jwt:{token}")));
    assert_eq!(call(&h.remit, &basic, "").await.status, 200, "as the password of a proxy URL");
    let received = h.upstream.seen();
    assert!(received.iter().all(|r| !format!("{r:?}").contains(&token)), "the token stays here");
    let pairs = h.remit.log().pairs(2).await;
    for pair in &pairs {
        assert_eq!((&pair.decision["how"], &pair.decision["agent"]), (&json!("token"), &json!("tester")));
        assert_eq!(pair.decision["identity"], json!(format!("bot of {ISSUER}")));
    }
    assert_eq!(pairs[0].decision["task"], pairs[1].decision["task"], "one ambient task for one principal");
    let tasks = h.remit.log().of_kind("task");
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0]["principal"]["id"], "alice@example.test");
    assert_eq!(tasks[0]["principal"]["verified"], true);
    assert_eq!(tasks[0]["principal"]["claims"], json!({"groups": ["support"]}), "and no claim that was not asked for");
    // Another person is another task.
    let token = h.key.token(&claims(json!({"email": "bob@example.test"})));
    assert_eq!(call(&h.remit, &bearer(&token), "").await.status, 200);
    assert_eq!(h.remit.log().of_kind("task").len(), 2);
}

#[tokio::test]
async fn without_a_principal_rule_nobody_is_verified() {
    let h = house("token-owner", RULE, "").await;
    assert_eq!(call(&h.remit, &bearer(&h.key.token(&claims(json!({"email": "alice@example.test"})))), "").await.status, 200);
    let tasks = h.remit.log().of_kind("task");
    assert_eq!((&tasks[0]["principal"]["id"], &tasks[0]["principal"]["verified"]), (&json!("owner@example.test"), &json!(false)));
}

#[tokio::test]
async fn each_bad_token_is_refused_with_its_reason() {
    let h = house("token-bad", RULE, "").await;
    let rsa: Value = json!({"kid": "k1"});
    let (key, good) = (&h.key, claims(json!({})));
    let with = |more: Value| key.token(&claims(more));
    let header = |header: Value| key.signed(&header, &good);
    let es = json!({"alg": "ES256", "kid": "k1"});
    let act = |depth: usize| (0..depth).fold(json!({"sub": "a"}), |inner, _| json!({"sub": "a", "act": inner}));
    let unsigned = |alg: &str| {
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": "k1"}).to_string());
        format!("{head}.{}.", URL_SAFE_NO_PAD.encode(good.to_string()))
    };
    let confused = {
        // The public key, which everyone has, as the secret of an HMAC.
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.jwk().to_string().as_bytes());
        let signed = unsigned("HS256").trim_end_matches('.').to_owned();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, signed.as_bytes())))
    };
    let twice = key.texts(&es.to_string(), &good.to_string().replacen('{', "{\"sub\":\"root\",", 1));
    let foreign = Key::new("k1").token(&good);
    let table: Vec<(&str, String, &str)> = vec![
        ("expired", with(json!({"exp": now() - 60})), "expired"),
        ("no expiry", with(json!({"exp": null})), "`exp`"),
        ("not yet valid", with(json!({"nbf": now() + 120})), "not valid for another"),
        ("issued in the future", with(json!({"iat": now() + 120})), "not valid for another"),
        ("for someone else", with(json!({"aud": "other"})), "not for this audience"),
        ("for nobody", with(json!({"aud": null})), "`aud`"),
        ("of another issuer", with(json!({"iss": "https://evil.example"})), "none of `issuers`"),
        ("of no issuer", with(json!({"iss": null})), "who issued it"),
        ("of no subject", with(json!({"sub": null})), "`sub`"),
        ("of another type", header(json!({"alg": "ES256", "kid": "k1", "typ": "remit-delegation+jwt"})), "type"),
        ("unsigned", unsigned("none") + "AA", "`none`"),
        ("key confusion", confused, "`HS256`"),
        ("another algorithm of the key", header(json!({"alg": "RS256", "kid": rsa["kid"]})), "does not fit"),
        ("an algorithm not listed", header(json!({"alg": "ES384", "kid": "k1"})), "`ES384`"),
        ("unknown kid", header(json!({"alg": "ES256", "kid": "k2"})), "`k2`"),
        ("a key of its own", header(json!({"alg": "ES256", "kid": "k2", "jwk": key.jwk()})), "`k2`"),
        ("critical", header(json!({"alg": "ES256", "kid": "k1", "crit": ["exp"]})), "`crit`"),
        ("of another key", foreign, "signature"),
        ("a member twice", twice, "twice"),
        ("act 100 deep", with(json!({"act": act(100)})), "nests deeper"),
        ("64 KiB", with(json!({"pad": "x".repeat(48 << 10)})), "too long"),
        ("more than a token is", with(json!({"pad": "x".repeat(14 << 10)})), "longer than 16 KiB"),
        ("no token", "a.b.c".into(), "token"),
    ];
    let count = table.len();
    for (what, token, says) in table {
        if what == "64 KiB" {
            // A head that long is no head: it is answered so, or the connection just ends.
            let mut conn = agent::tcp(&h.remit).await;
            conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{}\r\n", bearer(&token))).await;
            assert!(conn.answer().await.is_none_or(|a| a.status == 431), "{what}");
            continue;
        }
        let answer = connect(&h.remit, &bearer(&token)).await;
        assert_eq!((answer.status, answer.reason()), (407, Some("no_task")), "{what}: {}", answer.text());
        assert!(answer.text().contains(says), "{what}: {}", answer.text());
    }
    assert!(h.upstream.seen().is_empty() && h.upstream.opened() == 0);
    let decisions = h.remit.log().of_kind("decision");
    let refused: Vec<_> = decisions.iter().filter(|d| d["code"] == "no_task").collect();
    assert_eq!(refused.len(), count - 1, "each is on the record");
    assert!(refused.iter().all(|d| d["agent"].is_null() && d["reasons"][0].as_str().unwrap().len() < 300));
}

#[tokio::test]
async fn who_is_nobodys_agent_is_told_how_to_be_registered() {
    let h = house("token-nobody", RULE, "").await;
    let answer = call(&h.remit, &bearer(&h.key.token(&claims(json!({"sub": "stranger"})))), "").await;
    assert_eq!((answer.status, answer.reason()), (403, Some("unknown_agent")));
    assert!(answer.text().contains(r#"{jwt: {issuer: \"https://id.example.test\", claims: {sub: \"stranger\"}}}"#), "{}", answer.text());
    // Nested `act` never identifies.
    let nested = h.key.token(&claims(json!({"sub": "x", "act": {"sub": "y", "act": {"sub": "bot"}}})));
    assert_eq!(call(&h.remit, &bearer(&nested), "").await.reason(), Some("unknown_agent"));
    assert!(h.upstream.seen().is_empty());
}

#[tokio::test]
async fn the_outermost_act_names_the_agent_and_sub_the_principal() {
    let rule = "identities: [{jwt: {issuer: \"https://id.example.test\", claims: {act: {sub: bot}}}, workflow: work}]";
    let h = house("token-act", rule, ", principal: sub").await;
    let token = h.key.token(&claims(json!({"sub": "alice", "act": {"sub": "bot", "act": {"sub": "older"}}})));
    assert_eq!(call(&h.remit, &bearer(&token), "").await.status, 200);
    assert_eq!(h.remit.log().of_kind("task")[0]["principal"]["id"], "alice");
    // The same person without the agent is no agent.
    let alone = h.key.token(&claims(json!({"sub": "alice"})));
    assert_eq!(call(&h.remit, &bearer(&alone), "").await.reason(), Some("unknown_agent"));
}

#[tokio::test]
async fn two_tokens_in_one_call_are_refused() {
    let h = house("token-two", RULE, "").await;
    let (one, two) = (bearer(&h.key.token(&claims(json!({})))), bearer(&h.key.token(&claims(json!({"jti": "2"})))));
    let answer = connect(&h.remit, &format!("{one}{two}")).await;
    assert_eq!((answer.status, answer.reason()), (400, Some("ambiguous_request")));
    let answer = call(&h.remit, &one, &two).await;
    assert_eq!((answer.status, answer.reason()), (403, Some("delegation_invalid")));
    assert_eq!(call(&h.remit, &one, &one).await.status, 200, "the same twice is one");
}

#[tokio::test]
async fn a_handle_is_of_use_to_its_own_agent_from_where_it_was_shown() {
    let agent = format!(
        "{RULE}}}\n  - {{id: other, owner: o@example.test, workflows: [work], identities: [{{jwt: {{issuer: \"{ISSUER}\", claims: {{sub: rival}}}}}}]"
    );
    let h = house("token-handle", &agent, "").await;
    let (own, rival) = (bearer(&h.key.token(&claims(json!({})))), bearer(&h.key.token(&claims(json!({"sub": "rival"})))));
    let (_, handle) = h.remit.task(&[]);
    let shown = format!("Remit-Task: {handle}\r\n");
    assert_eq!(call(&h.remit, &own, &shown).await.status, 200);
    assert_eq!(h.remit.log().only().await.decision["how"], "handle");
    let stolen = call(&h.remit, &rival, &shown).await;
    assert_eq!((stolen.status, stolen.reason()), (403, Some("delegation_invalid")), "by another agent");
    let stolen = call(&h.remit, &bearer(&handle), "").await;
    assert_eq!((stolen.status, stolen.reason()), (403, Some("delegation_invalid")), "by who proves nothing");
    assert_eq!(call(&h.remit, &own, &shown).await.status, 200, "its own goes on");
    // An agent whose rule names no workflow shows a task, or has none.
    let none = call(&h.remit, &rival, "").await;
    assert_eq!(none.reason(), Some("no_task"));
    assert!(none.text().contains("workflow"), "{}", none.text());
}

#[tokio::test]
async fn a_trace_alone_is_nobody() {
    let h = house("token-trace", RULE, "").await;
    let answer = connect(&h.remit, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n").await;
    assert_eq!((answer.status, answer.reason()), (407, Some("no_task")));
}

/// Who publishes keys: what it answers, and how often it was asked.
async fn publisher(answer: Arc<Mutex<String>>, up: Arc<AtomicBool>) -> Upstream {
    Upstream::plain(move |_| {
        if up.load(Ordering::SeqCst) {
            Do::ok(&answer.lock())
        } else {
            Do::Cut(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
    })
    .await
}

#[tokio::test]
async fn keys_rotate_and_are_asked_for_once_however_many_tokens_name_new_ones() {
    let lab = Lab::new("token-rotate");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let (first, second) = (Key::new("k1"), Key::new("k2"));
    let (keys, up) = (Arc::new(Mutex::new(set(&[&first]))), Arc::new(AtomicBool::new(true)));
    let server = publisher(keys.clone(), up.clone()).await;
    let more = issuers(&format!("{{url: \"http://{}/jwks\"}}", server.address), ", refresh: 1s, stale: 1s");
    let settings = Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) };
    let remit = lab.start(&settings);
    let works = async |key: &Key| {
        let token = key.token(&claims(json!({"jti": format!("{:?}", std::time::Instant::now())})));
        status(&remit, &bearer(&token)).await
    };
    assert_eq!(works(&first).await, 200);
    // A key nobody has, many times over: the flood is not passed on.
    let stranger = Key::new("k9");
    let asked = server.seen().len();
    for _ in 0..20 {
        assert_eq!(works(&stranger).await, 407);
    }
    assert!(server.seen().len() <= asked + 3, "{} questions for 20 tokens", server.seen().len() - asked);
    // Rotated: the new key is learnt, the old one forgotten.
    *keys.lock() = set(&[&second]);
    let patient = async |key: &Key, wanted: u16| {
        for _ in 0..100 {
            if works(key).await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {wanted}");
    };
    patient(&second, 200).await;
    assert_eq!(works(&first).await, 407);
    // Nobody answers: what is known counts for a while, then nothing does.
    up.store(false, Ordering::SeqCst);
    assert_eq!(works(&second).await, 200);
    patient(&second, 503).await;
    let answer = connect(&remit, &bearer(&second.token(&claims(json!({"jti": "last"}))))).await;
    assert_eq!((answer.status, answer.reason()), (503, Some("state_unavailable")), "{}", answer.text());
    up.store(true, Ordering::SeqCst);
    patient(&second, 200).await;
}

#[tokio::test]
async fn a_reload_keeps_the_keys_and_takes_new_rules() {
    let lab = Lab::new("token-reload");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let key = Key::new("k1");
    let (keys, up) = (Arc::new(Mutex::new(set(&[&key]))), Arc::new(AtomicBool::new(true)));
    let server = publisher(keys, up.clone()).await;
    let more = issuers(&format!("{{url: \"http://{}/jwks\"}}", server.address), "");
    let mut settings = Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) };
    let remit = lab.start(&settings);
    let token = bearer(&key.token(&claims(json!({}))));
    let other = bearer(&key.token(&claims(json!({"sub": "robot"}))));
    let inside = agent::connect(&remit, &format!("{HOST}:443"), &token).await;
    let mut open = agent::shake(&remit, inside, HOST, &[b"http/1.1"]).await;
    assert_eq!(open.ask(agent::get("/items")).await.status, 200);
    up.store(false, Ordering::SeqCst);
    settings.agent = RULE.replace("sub: bot", "sub: robot");
    lab.write(&settings);
    for _ in 0..200 {
        if remit.log().of_kind("event").iter().any(|e| e["event"] == "reload") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(call(&remit, &other, "").await.status, 200, "by keys fetched before, from a server that is gone");
    assert_eq!(open.ask(agent::get("/items")).await.reason(), Some("unknown_agent"), "what a connection proved is mapped anew");
}

#[tokio::test]
async fn a_token_that_expires_ends_the_connection_that_it_opened() {
    let h = house("token-worn", RULE, ", leeway: 1ms").await;
    let inside = agent::connect(&h.remit, &format!("{HOST}:443"), &bearer(&h.key.token(&claims(json!({"exp": now() + 2}))))).await;
    let mut conn = agent::shake(&h.remit, inside, HOST, &[b"http/1.1"]).await;
    assert_eq!(conn.ask(agent::get("/items")).await.status, 200);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let worn = conn.ask(agent::get("/items")).await;
    assert_eq!((worn.reason(), worn.field("connection")), (Some("no_task"), Some("close")), "{}", worn.text());
    assert!(worn.text().contains("expired"));
    assert!(conn.closes().await, "so that the client presents its next token");
    assert_eq!(h.upstream.seen().len(), 1);
}

#[tokio::test]
async fn check_warns_of_identities_that_nobody_can_prove() {
    let lab = Lab::new("token-unproved");
    let agent = "identities: [{spiffe: \"spiffe://a/b\", workflow: work}, {service_account: a/b, workflow: work}, {service_account: a/c}]";
    let settings = Settings { agent: agent.into(), ..Settings::to("127.0.0.1:1".parse().unwrap()) };
    let remit = lab.start(&settings);
    let (code, said) = remit.command(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("nobody can prove this identity").count(), 2, "{said}");
    assert!(said.contains("remit.yaml:6: identities: nobody can prove this identity: no SVID is verified here; add `spiffe:`"), "{said}");
}
