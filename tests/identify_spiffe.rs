//! Who calls, by SPIFFE: certificates on the listener, JWT-SVIDs, and the Workload API's full sets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use support::{
    Answer, Conn, Do, HOST, Lab, Remit, Settings, Upstream, agent,
    svid::{Domain, Leaf, in_tls, to, to_proxy},
    tokens::{Key, now, set},
    workload::{State, WorkloadApi, bundles, svids},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

const ID: &str = "spiffe://acme.test/agent/tester";
const RULE: &str = "identities: [{spiffe: \"spiffe://acme.test/agent/tester\", workflow: work}]";
const NAMES: &str = "{names: [proxy.example.test]}";

struct House {
    _lab: Lab,
    upstream: Upstream,
    remit: Remit,
    acme: Domain,
}

/// Remit behind TLS, which trusts the domain `acme.test`, by a file.
async fn house(name: &str, tls: &str, agent: &str) -> House {
    let acme = Domain::new("acme.test");
    let lab = Lab::new(name);
    fs::write(lab.dir.join("roots.pem"), &acme.pem).unwrap();
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let more = "spiffe: {bundles: [{trust_domain: acme.test, roots: roots.pem}]}".into();
    lab.write(&Settings { ambient: false, agent: agent.into(), more, ..Settings::to(upstream.address) });
    in_tls(&lab.dir, tls);
    let remit = Remit::start(&lab.dir);
    House { _lab: lab, upstream, remit, acme }
}

/// A call through a CONNECT on a connection to the proxy.
async fn call_on<S>(remit: &Remit, mut conn: Conn<S>, fields: &str, inner: &str) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nConnection: close\r\n{fields}\r\n")).await;
    let head = conn.head().await.unwrap();
    if head.status != 200 {
        return head;
    }
    let mut config = (*remit.trust).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(HOST).unwrap();
    let inside = TlsConnector::from(Arc::new(config)).connect(name, conn.stream).await.unwrap();
    Conn::new(inside).ask(format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\n{inner}\r\n")).await
}

async fn call(remit: &Remit, leaf: &Leaf) -> Option<Answer> {
    // TLS 1.3 tells a client that its certificate was refused only when it reads.
    let conn = to_proxy(remit, Some(leaf)).await.ok()?;
    let mut conn = conn;
    conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n")).await;
    let head = conn.head().await?;
    if head.status != 200 {
        return Some(head);
    }
    let mut config = (*remit.trust).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let inside = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST).unwrap(), conn.stream).await.unwrap();
    Some(Conn::new(inside).ask(agent::get("/items")).await)
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn an_svid_on_the_listener_proves_the_agent() {
    let h = house("svid-good", NAMES, RULE).await;
    let answer = call(&h.remit, &h.acme.svid(ID)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let pair = h.remit.log().only().await;
    assert_eq!(
        (&pair.decision["how"], &pair.decision["agent"], &pair.decision["identity"]),
        (&json!("svid"), &json!("tester"), &json!(ID))
    );
    assert_eq!(h.remit.log().of_kind("task")[0]["principal"]["verified"], false, "a workload is no person");
    let stranger = call(&h.remit, &h.acme.svid("spiffe://acme.test/agent/other")).await.unwrap();
    assert_eq!((stranger.status, stranger.reason()), (403, Some("unknown_agent")));
    assert!(stranger.text().contains("{spiffe: \\\"spiffe://acme.test/agent/other\\\"}"), "{}", stranger.text());
    assert_eq!(h.upstream.seen().len(), 1);
}

#[tokio::test]
async fn what_is_no_svid_or_is_not_trusted_is_turned_away_in_the_handshake() {
    let h = house("svid-bad", NAMES, RULE).await;
    let (acme, evil) = (&h.acme, Domain::new("acme.test"));
    let bad: Vec<(&str, Leaf)> = vec![
        ("by another root of the same name", evil.svid(ID)),
        ("of a trust domain nobody knows", acme.svid("spiffe://other.test/agent/tester")),
        ("with two URIs", acme.leaf(&[ID, "spiffe://acme.test/agent/other"], |_| ())),
        ("with no URI", acme.leaf(&[], |p| p.subject_alt_names = vec![rcgen::SanType::DnsName("a.test".try_into().unwrap())])),
        ("without a path", acme.leaf(&["spiffe://acme.test"], |_| ())),
        ("of another scheme", acme.leaf(&["https://acme.test/agent/tester"], |_| ())),
        ("of a CA", acme.leaf(&[ID], |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("that may sign certificates", acme.leaf(&[ID], |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        ("that has expired", acme.leaf(&[ID], |p| p.not_after = time::OffsetDateTime::now_utc() - time::Duration::seconds(5))),
        ("that is not valid yet", acme.leaf(&[ID], |p| p.not_before = time::OffsetDateTime::now_utc() + time::Duration::hours(1))),
    ];
    for (what, leaf) in bad {
        assert!(call(&h.remit, &leaf).await.is_none(), "{what}");
    }
    let none = to_proxy(&h.remit, None).await;
    let refused = match none {
        Err(_) => true,
        Ok(mut conn) => {
            conn.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            conn.answer().await.is_none()
        }
    };
    assert!(refused, "without a certificate");
    assert!(h.upstream.seen().is_empty());
    assert_eq!(call(&h.remit, &h.acme.svid(ID)).await.unwrap().status, 200, "and the listener still serves");
}

#[tokio::test]
async fn where_certificates_are_optional_a_handle_still_serves_but_not_a_stolen_one() {
    let h = house("svid-optional", "{names: [proxy.example.test], clients: optional}", RULE).await;
    let (_, handle) = h.remit.task(&[]);
    let (_, printed) = h.remit.command(&["task", "start", "--agent", "tester", "--workflow", "work", "--for", "a", "--output", "json"]);
    assert!(printed.contains("https://task:") && printed.contains("@proxy.example.test:"), "{printed}");
    let shown = format!("Proxy-Authorization: Bearer {handle}\r\n");
    let anonymous = async || call_on(&h.remit, to_proxy(&h.remit, None).await.unwrap(), &shown, "").await;
    let own = async || call_on(&h.remit, to_proxy(&h.remit, Some(&h.acme.svid(ID))).await.unwrap(), &shown, "").await;
    assert_eq!(own().await.status, 200);
    let stolen = anonymous().await;
    assert_eq!((stolen.status, stolen.reason()), (403, Some("delegation_invalid")), "it was shown by an identity before");
    assert_eq!(own().await.status, 200);
    let none = call_on(&h.remit, to_proxy(&h.remit, None).await.unwrap(), "", "").await;
    assert_eq!((none.status, none.reason()), (407, Some("no_task")));
}

#[tokio::test]
async fn a_jwt_svid_proves_the_agent() {
    let lab = Lab::new("svid-jwt");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let key = Key::new("k1");
    let keys = set(&[&key]).replace("\"use\":\"sig\"", "\"use\":\"jwt-svid\"");
    fs::write(lab.dir.join("jwks.json"), keys).unwrap();
    let more = "spiffe: {audience: \"spiffe://acme.test/remit\", bundles: [{trust_domain: acme.test, jwks: jwks.json}]}".into();
    let remit = lab.start(&Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) });
    let ask = async |claims: serde_json::Value| {
        let fields = format!("Proxy-Authorization: Bearer {}\r\n", key.token(&claims));
        let answer = call_on(&remit, agent::tcp(&remit).await, &fields, "").await;
        (answer.status, answer.reason().map(str::to_owned))
    };
    let good = json!({"sub": ID, "aud": ["spiffe://acme.test/remit"], "exp": now() + 60});
    assert_eq!(ask(good.clone()).await.0, 200);
    assert_eq!(remit.log().only().await.decision["how"], "svid");
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    for (claims, reason) in [
        (with("aud", json!("spiffe://acme.test/other")), "no_task"),
        (with("exp", json!(now() - 60)), "no_task"),
        (with("exp", json!(null)), "no_task"),
        (with("sub", json!("spiffe://other.test/agent/tester")), "no_task"),
        (with("sub", json!("spiffe://acme.test")), "no_task"),
    ] {
        assert_eq!(ask(claims.clone()).await, (407, Some(reason.into())), "{claims}");
    }
    assert_eq!(ask(with("sub", json!("spiffe://acme.test/agent/other"))).await, (403, Some("unknown_agent".into())));
}

/// Remit that shows an SVID of the Workload API and trusts what that gives.
async fn by_api(name: &str, state: impl FnOnce(&Domain) -> State) -> (Lab, Upstream, Remit, WorkloadApi, Domain) {
    let acme = Domain::new("acme.test");
    let lab = Lab::new(name);
    let api = WorkloadApi::at(&lab.dir.join("api.sock"), state(&acme));
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let more = "spiffe: {workload_api: \"unix:api.sock\", audience: remit}".into();
    lab.write(&Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) });
    in_tls(&lab.dir, NAMES);
    let remit = Remit::start(&lab.dir);
    (lab, upstream, remit, api, acme)
}

fn full(acme: &Domain) -> State {
    let own = acme.svid("spiffe://acme.test/remit");
    State {
        svids: svids("spiffe://acme.test/remit", &own, &acme.der),
        x509: bundles(2, &[("acme.test", &acme.der)]),
        jwt: bundles(1, &[("acme.test", set(&[&Key::new("none")]).as_bytes())]),
        ..State::default()
    }
}

#[tokio::test]
async fn what_the_workload_api_gives_counts_and_what_it_takes_away_does_not() {
    let (_lab, _upstream, remit, api, acme) = by_api("api-sets", full).await;
    let works = async |leaf: &Leaf| call(&remit, leaf).await.is_some_and(|a| a.status == 200);
    let leaf = acme.svid(ID);
    until("the first set", async || works(&leaf).await).await;
    assert!(api.asked.lock().iter().all(|(_, knows)| *knows), "each request shows the metadata");
    // A connection that is open while its domain's bundle goes away is told so; new ones are refused.
    let mut open = to_proxy(&remit, Some(&leaf)).await.unwrap();
    let absolute = format!("GET http://{HOST}/items HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_ne!(open.ask(&absolute).await.reason(), Some("no_task"));
    let other = Domain::new("other.test");
    api.push(|s| s.x509 = bundles(2, &[("other.test", &other.der)]));
    until("absence is unloading", async || !works(&leaf).await).await;
    let told = open.ask(&absolute).await;
    assert_eq!(told.reason(), Some("no_task"), "{}", told.text());
    api.push(|s| s.x509 = bundles(2, &[("acme.test", &acme.der)]));
    until("it is back", async || works(&leaf).await).await;
    // A bundle that cannot be used is not trusted, and takes nobody else's trust away.
    api.push(|s| s.x509 = bundles(2, &[("broken.test", b"no certificate"), ("acme.test", &acme.der)]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(works(&leaf).await);
    // A stream that breaks takes nothing away, and is opened again.
    let before = api.asked.lock().len();
    api.push(|s| s.cut = true);
    until("asked again", async || api.asked.lock().len() > before).await;
    assert!(works(&leaf).await);
    api.push(|s| s.cut = false);
    // PermissionDenied: what it had must no longer be used.
    api.push(|s| s.refuse = Some(7));
    until("denied", async || !works(&leaf).await).await;
    api.push(|s| s.refuse = None);
    until("allowed again", async || works(&leaf).await).await;
}

#[tokio::test]
async fn jwt_bundles_are_full_sets_too() {
    let key = Key::new("k1");
    let keys = set(&[&key]).replace("\"use\":\"sig\"", "\"use\":\"jwt-svid\"");
    let (_lab, _upstream, remit, api, acme) = by_api("api-jwt", full).await;
    let leaf = acme.svid(ID);
    let ask = async || {
        let token = key.token(&json!({"sub": ID, "aud": "remit", "exp": now() + 600}));
        let Ok(conn) = to_proxy(&remit, Some(&leaf)).await else { return 0 };
        let mut conn = conn;
        conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: Bearer {token}\r\n\r\n")).await;
        conn.head().await.map_or(0, |a| a.status)
    };
    until("its key is not known", async || ask().await == 407).await;
    api.push(|s| s.jwt = bundles(1, &[("acme.test", keys.as_bytes())]));
    until("its key is known", async || ask().await == 200).await;
    api.push(|s| s.jwt = Vec::new());
    until("its key is unloaded, for tokens seen before too", async || ask().await == 407).await;
}

#[tokio::test]
async fn its_own_svid_rotates_without_a_dropped_request() {
    let acme = Domain::new("acme.test");
    let lab = Lab::new("api-rotate");
    let api = WorkloadApi::at(&lab.dir.join("api.sock"), full(&acme));
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let more = "spiffe: {workload_api: \"unix:api.sock\"}".into();
    lab.write(&Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) });
    in_tls(&lab.dir, "{svid: true}");
    let remit = Remit::start(&lab.dir);
    // A client that trusts the domain and looks at no name, as SPIFFE clients do, is stood in for by a leaf with one.
    let own = |serial: u64| {
        acme.leaf(&["spiffe://acme.test/remit"], |p| {
            p.subject_alt_names.push(rcgen::SanType::DnsName("proxy.example.test".try_into().unwrap()));
            p.serial_number = Some(serial.into());
        })
    };
    let leaf = acme.svid(ID);
    let roots = || [CertificateDer::from(acme.der.clone())];
    let first = own(1);
    api.push(|s| s.svids = svids("spiffe://acme.test/remit", &first, &acme.der));
    let serial = async || {
        let conn = to(&remit, Some(&leaf), roots(), "proxy.example.test").await.ok()?;
        Some(conn.stream.get_ref().1.peer_certificates().unwrap()[0].clone())
    };
    until("the first SVID", async || serial().await.as_ref() == Some(&first.chain[0])).await;
    let mut open = to(&remit, Some(&leaf), roots(), "proxy.example.test").await.unwrap();
    let absolute = format!("GET http://{HOST}/items HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let before = open.ask(&absolute).await.status;
    for turn in 2..12 {
        let next = own(turn);
        api.push(|s| s.svids = svids("spiffe://acme.test/remit", &next, &acme.der));
        until("the next SVID", async || serial().await.as_ref() == Some(&next.chain[0])).await;
        assert_eq!(open.ask(&absolute).await.status, before, "what was open goes on");
    }
    // Nothing is for this workload any more: it has no certificate to show.
    api.push(|s| s.svids = Vec::new());
    until("no SVID", async || serial().await.is_none()).await;
}

#[tokio::test]
async fn who_does_not_show_the_metadata_gets_nothing_from_the_tests_own_api() {
    let dir = Lab::new("api-strict");
    let _api = WorkloadApi::at(&dir.dir.join("api.sock"), State::default());
    let socket = tokio::net::UnixStream::connect(dir.dir.join("api.sock")).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://localhost/SpiffeWorkloadAPI/FetchX509SVID")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().headers()["grpc-status"], "3");
}
