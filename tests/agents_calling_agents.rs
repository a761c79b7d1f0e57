//! One agent calls another, each behind a Remit of its own: what the first hands over, the second is held to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, net::SocketAddr, time::Duration};

use base64::Engine as _;
use remit::jose::SigningKey;
use serde_json::{Value, json};
use support::{
    Conn, Do, Lab, Remit, Settings, Upstream,
    agent::{Answer, PATIENCE},
    behind::Behind,
};
use tokio::net::TcpStream;

const ISSUER: &str = "https://id.example.test";
const ORCHESTRATOR: &str = "spiffe://example.test/agent/orchestrator";
const SUMMARISER: &str = "spiffe://example.test/agent/summariser";

const PEERS: &str = r#"
provider: peers
hosts: [summariser.test, other.test]
operations:
  - {id: peers.agents.ask, match: "GET /{path...}", effect: read}
"#;

/// One Remit and the agent behind it.
struct Sidecar {
    _lab: Lab,
    remit: Remit,
    agent: Behind,
}

struct Both {
    orchestrator: Sidecar,
    summariser: Sidecar,
    upstream: Upstream,
    key: SigningKey,
}

/// A key, in PEM at `file` and as the set that verifies it beside.
fn key(dir: &std::path::Path, name: &str) -> SigningKey {
    let pkcs8 =
        ring::signature::EcdsaKeyPair::generate_pkcs8(&ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING, &ring::rand::SystemRandom::new());
    let pkcs8 = pkcs8.unwrap();
    let key = SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap();
    let body = base64::engine::general_purpose::STANDARD.encode(pkcs8.as_ref());
    fs::write(dir.join(format!("{name}.pem")), format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")).unwrap();
    fs::write(dir.join(format!("{name}.jwks")), json!({"keys": [key.public_jwk()]}).to_string()).unwrap();
    key
}

fn now() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The agent that is called. What the orchestrator signs is verified by the set that lies in its folder.
async fn summariser(lab: Lab, upstream: SocketAddr) -> Sidecar {
    let agent = Behind::new(false).await;
    let inbound = format!(
        "{{address: \"127.0.0.1:0\", to: \"{}\", agent: tester, workflow: work, requires: network, delegation: required}}",
        agent.address
    );
    let settings = Settings {
        ambient: false,
        inbound,
        agent: format!("identities: [{{spiffe: \"{SUMMARISER}\"}}]"),
        grants: vec!["{intents: [example.*], effects: [read]}".into()],
        more: format!("delegation: {{trust: [{{spiffe: \"{ORCHESTRATOR}\", jwks: orchestrator.jwks}}]}}\nlimits: {{decision: 1s}}\n"),
        ..Settings::to(upstream)
    };
    let remit = lab.start(&settings);
    agent.calls_through(remit.proxy);
    Sidecar { _lab: lab, remit, agent }
}

/// The agent that calls it, at `peer`.
async fn orchestrator(lab: Lab, peer: SocketAddr, upstream: SocketAddr, grants: &str) -> Sidecar {
    let agent = Behind::new(false).await;
    fs::write(lab.dir.join("peers.yaml"), PEERS).unwrap();
    let registry = format!(
        "agents:\n  - {{id: summariser, owner: o, identities: [{{spiffe: \"{SUMMARISER}\"}}], workflows: [work], address: \"summariser.test:80\"}}\n"
    );
    fs::write(lab.dir.join("registry.yaml"), registry).unwrap();
    let inbound = format!("{{address: \"127.0.0.1:0\", to: \"{}\", agent: tester, workflow: work}}", agent.address);
    let settings = Settings {
        ambient: false,
        inbound,
        resolve: vec![("summariser.test".into(), peer), ("other.test".into(), peer), ("api.example.test".into(), upstream)],
        agent: format!("identities: [{{spiffe: \"{ORCHESTRATOR}\"}}], delegates_to: [summariser]"),
        grants: vec!["{intents: [peers.agents.ask]}".into(), grants.into()],
        more: format!(
            "registry: [registry.yaml]\ndelegation: {{key: {{file: orchestrator.pem, publish: published.jwks}}}}\n\
             issuers: [{{issuer: \"{ISSUER}\", audience: [remit], keys: {{file: issuer.jwks}}, principal: sub}}]\nlimits: {{decision: 1s}}\n"
        ),
        ..Settings::to(upstream)
    };
    let yaml = settings.yaml().replace("catalog: [catalog.yaml]", "catalog: [catalog.yaml, peers.yaml]");
    fs::write(lab.dir.join("remit.yaml"), yaml).unwrap();
    let remit = Remit::start(&lab.dir);
    agent.calls_through(remit.proxy);
    Sidecar { _lab: lab, remit, agent }
}

async fn both(name: &str, asks: &str) -> Both {
    let upstream = Upstream::plain(|_| Do::ok("done")).await;
    let (first, second) = (Lab::new(name), Lab::new(name));
    let issuer = key(&first.dir, "issuer");
    key(&first.dir, "orchestrator");
    fs::copy(first.dir.join("orchestrator.jwks"), second.dir.join("orchestrator.jwks")).unwrap();
    let summariser = summariser(second, upstream.address).await;
    let grants = "{intents: [example.items.get], effects: [read]}";
    let orchestrator = orchestrator(first, summariser.remit.inbound.unwrap(), upstream.address, grants).await;
    orchestrator.agent.asks(asks);
    Both { orchestrator, summariser, upstream, key: issuer }
}

impl Both {
    async fn conn(&self) -> Conn<TcpStream> {
        Conn::new(TcpStream::connect(self.orchestrator.remit.inbound.unwrap()).await.unwrap())
    }

    async fn ask(&self, path: &str) -> Answer {
        self.conn().await.ask(self.request(path)).await
    }

    /// What alice asks of the orchestrator.
    fn request(&self, path: &str) -> String {
        let claims = json!({"iss": ISSUER, "aud": "remit", "sub": "alice@example.test", "iat": now(), "exp": now() + 300});
        let token = self.key.sign("JWT", Some(&self.key.thumbprint()), &[], &claims).unwrap();
        format!("GET {path} HTTP/1.1\r\nHost: orchestrator.test\r\nAuthorization: Bearer {token}\r\n\r\n")
    }
}

impl Sidecar {
    fn tasks(&self) -> Vec<Value> {
        self.remit.log().of_kind("task")
    }

    async fn ends(&self) -> String {
        for _ in 0..500 {
            if let Some(end) = self.tasks().iter().find(|t| t["event"] == "ended") {
                return end["why"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no task has ended: {:?}", self.tasks());
    }
}

#[tokio::test]
async fn the_second_agent_acts_for_the_principal_of_the_first_and_both_records_say_so() {
    let both = both("delegation-chain", "http://summariser.test/call").await;
    let answer = both.ask("/ask").await;
    assert_eq!(answer.json()["status"], 200, "{}", answer.text());
    assert!(answer.json()["body"].as_str().unwrap().contains("done"), "{}", answer.text());
    // The first: a request that came in, and a call that went to a peer.
    let first = both.orchestrator.remit.log().pairs(2).await;
    let second = both.summariser.remit.log().pairs(2).await;
    let (sent, came, out) = (&first[1].decision, &second[0].decision, &second[1].decision);
    assert_eq!(sent["delegation"]["to"], SUMMARISER);
    assert_eq!(came["delegation"]["from"], ORCHESTRATOR);
    assert_eq!(sent["delegation"]["jti"], came["delegation"]["jti"]);
    assert_eq!((&came["listener"], &out["how"]), (&json!("inbound"), &json!("trace")));
    assert_eq!(sent["trace"], out["trace"], "one trace, over both");
    let task = &both.summariser.tasks()[0];
    assert_eq!(task["principal"], json!({"id": "alice@example.test", "verified": true, "claims": {}}));
    let chain: Vec<&str> = task["delegation"].as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap()).collect();
    assert_eq!(chain, ["alice@example.test", ORCHESTRATOR, "tester"]);
    assert_eq!(
        task["delegation"][1]["grants"],
        json!([{"intents": ["peers.agents.ask"]}, {"intents": ["example.items.get"], "effects": ["read"]}])
    );
    let seconds = |v: &Value| time::OffsetDateTime::parse(v.as_str().unwrap(), &time::format_description::well_known::Rfc3339).unwrap();
    assert!(seconds(&task["expires"]) - seconds(&task["time"]) <= time::Duration::seconds(60), "{task}");
    assert_eq!(both.summariser.ends().await, "closed");
    let set = |name: &str| fs::read_to_string(both.orchestrator.remit.dir.join(name)).unwrap();
    assert_eq!(set("published.jwks"), set("orchestrator.jwks"), "what the other side is to trust");
}

#[tokio::test]
async fn what_the_first_was_not_granted_the_second_may_not_do_for_it() {
    // The second's own workflow reads whatever it likes; the first may only get an item.
    let both = both("delegation-narrower", "http://summariser.test/list").await;
    let answer = both.ask("/ask").await;
    let inner: Value = serde_json::from_str(answer.json()["body"].as_str().unwrap()).unwrap();
    assert_eq!((&inner["status"], &inner["reason"]), (&json!(403), &json!("not_granted")), "{}", answer.text());
    assert!(inner["body"].as_str().unwrap().contains(&format!("no grant that was delegated to {ORCHESTRATOR} matches")), "{inner}");
    assert!(both.upstream.seen().is_empty());
}

#[tokio::test]
async fn no_agent_sets_or_sees_a_token_and_nobody_but_a_peer_gets_one() {
    let both = both("delegation-stripped", "http://summariser.test/call").await;
    let answer = both.ask("/forge").await;
    assert_eq!(answer.json()["status"], 200, "{}", answer.text());
    let upstream = both.upstream.seen();
    assert_eq!(upstream.len(), 1);
    for seen in [both.orchestrator.agent.seen(), both.summariser.agent.seen()] {
        assert!(seen.iter().all(|h| !h.contains_key("remit-delegation")));
        assert!(seen.iter().all(|h| h.get("remit-principal").unwrap() == "alice@example.test"));
    }
    assert_eq!(upstream[0].field("remit-delegation"), None);
    assert_eq!(upstream[0].field("remit-principal"), None);
    for log in [both.orchestrator.remit.log(), both.summariser.remit.log()] {
        assert!(!format!("{:?}", log.records()).contains("eyJ"), "no token is on record");
        log.verify();
    }
}

#[tokio::test]
async fn a_host_that_is_no_peer_is_not_let_in() {
    let both = both("delegation-no-peer", "http://other.test/call").await;
    let answer = both.ask("/ask").await;
    assert_eq!((&answer.json()["status"], &answer.json()["reason"]), (&json!(403), &Value::Null), "{}", answer.text());
    assert!(both.summariser.agent.seen().is_empty());
    let refused = both.summariser.remit.log().only().await.decision;
    assert_eq!(refused["code"], "delegation_invalid");
    assert!(both.orchestrator.remit.log().pairs(2).await[1].decision["delegation"].is_null());
}

#[tokio::test]
async fn ending_the_first_task_cuts_the_stream_of_the_second_and_ends_its_task() {
    let both = both("delegation-ended", "http://summariser.test/stream").await;
    let mut conn = both.conn().await;
    conn.send(both.request("/ask")).await;
    both.summariser.agent.waits().await;
    let id = both.orchestrator.tasks()[0]["id"].as_str().unwrap().to_owned();
    let began = std::time::Instant::now();
    both.orchestrator.remit.end_task(&id);
    assert_eq!(both.summariser.ends().await, "closed");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let answer = tokio::time::timeout(PATIENCE, conn.answer()).await.expect("the caller is told");
    assert!(answer.is_none_or(|a| a.status >= 400));
}

/// What a peer gets is good once, for that peer, and for it alone.
#[tokio::test]
async fn a_token_that_is_caught_is_good_for_nothing_else() {
    let both = both("delegation-caught", "http://summariser.test/call").await;
    let catcher = Upstream::plain(|_| Do::ok("caught")).await;
    let (lab, key) = (Lab::new("delegation-catcher"), both.key.public_jwk());
    for name in ["orchestrator.pem", "orchestrator.jwks"] {
        fs::copy(both.orchestrator.remit.dir.join(name), lab.dir.join(name)).unwrap();
    }
    fs::write(lab.dir.join("issuer.jwks"), json!({"keys": [key]}).to_string()).unwrap();
    let catching = orchestrator(lab, catcher.address, both.upstream.address, "{intents: [example.items.get]}").await;
    catching.agent.asks("http://summariser.test/x");
    let mut conn = Conn::new(TcpStream::connect(catching.remit.inbound.unwrap()).await.unwrap());
    assert_eq!(conn.ask(both.request("/ask")).await.status, 200);
    let token = catcher.take().unwrap().field("remit-delegation").unwrap();

    let present = async |fields: &str| {
        let mut conn = Conn::new(TcpStream::connect(both.summariser.remit.inbound.unwrap()).await.unwrap());
        conn.ask(format!("GET / HTTP/1.1\r\nHost: s\r\n{fields}\r\n")).await
    };
    let field = format!("Remit-Delegation: {token}\r\n");
    let answer = present(&format!("{field}{field}")).await;
    assert_eq!((answer.status, answer.reason()), (400, Some("ambiguous_request")));
    assert_eq!(present(&field).await.status, 200);
    let answer = present(&field).await;
    assert_eq!((answer.status, answer.reason()), (403, Some("delegation_invalid")));
    assert!(answer.text().contains("used before"), "{}", answer.text());
    let answer = present("").await;
    assert_eq!((answer.status, answer.reason()), (403, Some("delegation_invalid")));
    let answer = present(&format!("Remit-Delegation: {}\r\n", "a".repeat(32 << 10))).await;
    assert_eq!((answer.status, answer.reason()), (403, Some("delegation_invalid")));
    assert!(answer.text().contains("longer than 16 KiB"), "{}", answer.text());
    let answer = present(&format!("Remit-Delegation: {}\r\n", "a".repeat(64 << 10))).await;
    assert_eq!(answer.status, 431);
    // The orchestrator is not who it is for, whoever brings it.
    let mut conn = both.conn().await;
    let request = both.request("/").replace("\r\n\r\n", &format!("\r\n{field}\r\n"));
    let answer = conn.ask(request).await;
    assert_eq!((answer.status, answer.reason()), (403, Some("delegation_invalid")));
}

/// TLS to where the agent is called, with an SVID or none.
async fn over_tls(remit: &Remit, leaf: Option<&support::svid::Leaf>) -> std::io::Result<Conn<tokio_rustls::client::TlsStream<TcpStream>>> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    CertificateDer::pem_file_iter(remit.dir.join("ca.pem")).unwrap().for_each(|c| roots.add(c.unwrap()).unwrap());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder.with_client_auth_cert(leaf.chain.clone(), PrivateKeyDer::Pkcs8(leaf.key.clone().into())).unwrap(),
    };
    let tcp = TcpStream::connect(remit.inbound.unwrap()).await?;
    let name = ServerName::try_from("agent.example.test").unwrap();
    Ok(Conn::new(tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await?))
}

#[tokio::test]
async fn over_mutual_tls_a_token_is_its_issuers_and_bound_to_its_certificate() {
    let lab = Lab::new("delegation-mtls");
    let domain = support::svid::Domain::new("example.test");
    fs::write(lab.dir.join("roots.pem"), &domain.pem).unwrap();
    let signing = key(&lab.dir, "orchestrator");
    let agent = Behind::new(false).await;
    let tls = "tls: {names: [agent.example.test], clients: optional}";
    let settings = Settings {
        ambient: false,
        inbound: format!("{{address: \"127.0.0.1:0\", to: \"{}\", agent: tester, workflow: work, requires: mtls, {tls}}}", agent.address),
        agent: format!("identities: [{{spiffe: \"{SUMMARISER}\"}}]"),
        more: format!(
            "spiffe: {{bundles: [{{trust_domain: example.test, roots: roots.pem}}]}}\n\
             delegation: {{trust: [{{spiffe: \"{ORCHESTRATOR}\", jwks: orchestrator.jwks}}]}}\n"
        ),
        ..Settings::to(agent.address)
    };
    let remit = lab.start(&settings);
    let (own, other) = (domain.svid(ORCHESTRATOR), domain.svid("spiffe://example.test/agent/other"));
    let thumb = |leaf: &support::svid::Leaf| {
        let digest = ring::digest::digest(&ring::digest::SHA256, &leaf.chain[0]);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
    };
    let mut count = 0;
    let mut token = |cnf: Value| {
        count += 1;
        let mut claims = json!({
            "iss": ORCHESTRATOR, "aud": SUMMARISER, "sub": "alice@example.test", "act": {"sub": ORCHESTRATOR}, "iat": now(), "exp": now() + 60,
            "jti": format!("{count}"), "grants": [{"intents": ["example.items.get"]}],
        });
        if !cnf.is_null() {
            claims["cnf"] = cnf;
        }
        let token = signing.sign("remit-delegation+jwt", Some(&signing.thumbprint()), &[], &claims).unwrap();
        format!("GET / HTTP/1.1\r\nHost: s\r\nRemit-Delegation: {token}\r\n\r\n")
    };
    let bound = json!({"x5t#S256": thumb(&own)});
    let elsewhere = json!({"x5t#S256": thumb(&other)});
    for (leaf, cnf, status, why) in [
        (Some(&own), bound.clone(), 200, ""),
        (Some(&own), Value::Null, 403, "not bound to the connection's certificate"),
        (Some(&own), elsewhere, 403, "bound to another certificate"),
        (Some(&other), json!({"x5t#S256": thumb(&other)}), 403, "another agent issued it"),
        (None, bound, 401, "the connection proved none"),
    ] {
        let answer = over_tls(&remit, leaf).await.unwrap().ask(token(cnf)).await;
        assert_eq!(answer.status, status, "{why}: {}", answer.text());
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    // Who brings an SVID and no token acts for itself.
    let answer = over_tls(&remit, Some(&other)).await.unwrap().ask("GET / HTTP/1.1\r\nHost: s\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let principals: Vec<Value> =
        remit.log().of_kind("task").iter().filter(|t| t["event"] == "started").map(|t| t["principal"]["id"].clone()).collect();
    assert_eq!(principals, [json!("alice@example.test"), json!("spiffe://example.test/agent/other")]);
    assert_eq!(agent.seen().len(), 2);
}
