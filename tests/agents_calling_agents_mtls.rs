//! Two agents, each behind a Remit of its own, with mutual TLS between the two: each Remit shows its agent's SVID, and a
//! delegation token is of use only to who holds the key of the certificate that it names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use support::{
    Answer, Conn, Do, Lab, Remit, Settings, Upstream,
    agent::get,
    behind::Behind,
    svid::{Domain, Leaf},
    workload::{State, WorkloadApi, bundles, svids},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const ORCHESTRATOR: &str = "spiffe://example.test/agent/orchestrator";
const SUMMARISER: &str = "spiffe://example.test/agent/summariser";

const PEERS: &str = r#"
provider: peers
hosts: [summariser.test]
credential: mesh
operations:
  - {id: peers.agents.ask, match: "GET /{path...}", effect: read}
"#;

struct Sidecar {
    lab: Lab,
    api: WorkloadApi,
    remit: Remit,
}

/// The key of an SVID and its chain, as whoever signs with it has them.
fn written(lab: &Lab, leaf: &Leaf) {
    let pem = |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    fs::write(lab.dir.join("signing.pem"), pem("PRIVATE KEY", &leaf.key)).unwrap();
    let chain: String = leaf.chain.iter().map(|c| pem("CERTIFICATE", c)).collect();
    fs::write(lab.dir.join("chain.pem"), chain).unwrap();
}

/// The Workload API that gives this SVID.
fn workload(lab: &Lab, id: &str, leaf: &Leaf, domain: &Domain) -> WorkloadApi {
    let state = State { svids: svids(id, leaf, &domain.der), x509: bundles(2, &[("example.test", &domain.der)]), ..State::default() };
    WorkloadApi::at(&lab.dir.join("api.sock"), state)
}

fn spiffe(lab: &Lab) -> String {
    format!("spiffe: {{workload_api: \"unix://{}\"}}\n", lab.dir.join("api.sock").display())
}

async fn summariser(name: &str, domain: &Domain, agent: &Behind) -> Sidecar {
    let lab = Lab::new(name);
    fs::write(lab.dir.join("roots.pem"), &domain.pem).unwrap();
    let api = workload(&lab, SUMMARISER, &domain.svid(SUMMARISER), domain);
    let inbound = format!(
        "{{address: \"127.0.0.1:0\", to: \"{}\", agent: tester, workflow: work, requires: mtls, delegation: required, tls: {{svid: true}}}}",
        agent.address
    );
    let settings = Settings {
        ambient: false,
        inbound,
        agent: format!("identities: [{{spiffe: \"{SUMMARISER}\"}}]"),
        more: format!("{}delegation: {{trust: [{{trust_domain: example.test, bundle: roots.pem}}]}}\n", spiffe(&lab)),
        ..Settings::to(agent.address)
    };
    let remit = lab.start(&settings);
    Sidecar { lab, api, remit }
}

async fn orchestrator(name: &str, domain: &Domain, own: &Leaf, peer: SocketAddr, server: &str) -> Sidecar {
    let lab = Lab::new(name);
    written(&lab, &domain.svid(ORCHESTRATOR));
    let api = workload(&lab, ORCHESTRATOR, own, domain);
    fs::write(lab.dir.join("peers.yaml"), PEERS).unwrap();
    let settings = Settings {
        resolve: vec![("summariser.test".into(), peer)],
        agent: format!("identities: [{{spiffe: \"{ORCHESTRATOR}\"}}], delegates_to: [summariser]"),
        grants: vec!["{intents: [peers.agents.ask]}".into(), "{intents: [example.items.get]}".into()],
        more: format!("{}registry: [registry.yaml]\ndelegation: {{key: {{file: signing.pem, chain: chain.pem}}}}\n", spiffe(&lab)),
        ..Settings::to(peer)
    };
    let registry = format!(
        "agents:\n  - {{id: summariser, owner: o, identities: [{{spiffe: \"{SUMMARISER}\"}}], workflows: [work], address: summariser.test}}\n"
    );
    fs::write(lab.dir.join("registry.yaml"), registry).unwrap();
    let mesh = format!("credentials:\n  mesh: {{kind: certificate, hosts: [summariser.test], svid: true, server: \"{server}\"}}\n");
    let yaml = settings.yaml().replace("catalog: [catalog.yaml]", "catalog: [catalog.yaml, peers.yaml]").replace("credentials:\n", &mesh);
    fs::write(lab.dir.join("remit.yaml"), yaml).unwrap();
    let remit = Remit::start(&lab.dir);
    Sidecar { lab, api, remit }
}

/// What the orchestrator's agent asks of the summariser.
async fn asks(remit: &Remit) -> Answer {
    let inside = support::agent::connect(remit, "summariser.test:443", "").await;
    let mut conn = support::agent::shake(remit, inside, "summariser.test", &[b"http/1.1"]).await;
    conn.ask(get("/summary").replace("api.example.test", "summariser.test")).await
}

/// … until both have their SVIDs.
async fn asks_until(remit: &Remit, status: u16) -> Answer {
    let began = Instant::now();
    loop {
        let answer = asks(remit).await;
        if answer.status == status && answer.reason() != Some("credential_unavailable") {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{} {}", answer.status, answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn thumbprint(leaf: &Leaf) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &leaf.chain[0]))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shows_its_svid_and_the_token_is_bound_to_it() {
    let domain = Domain::new("example.test");
    let agent = Behind::new(false).await;
    let called = summariser("mtls-called", &domain, &agent).await;
    let (own, next) = (domain.svid(ORCHESTRATOR), domain.svid(ORCHESTRATOR));
    let calling = orchestrator("mtls-calling", &domain, &own, called.remit.inbound.unwrap(), SUMMARISER).await;
    asks_until(&calling.remit, 200).await;

    let started = called.remit.log().of_kind("task").into_iter().find(|t| t["event"] == "started").unwrap();
    let chain: Vec<&Value> = started["delegation"].as_array().unwrap().iter().map(|l| &l["id"]).collect();
    assert!(chain.contains(&&json!(ORCHESTRATOR)), "{started}");
    let sent = calling.remit.log().of_kind("decision").last().unwrap().clone();
    assert_eq!(sent["lease"]["kind"], "certificate", "{sent}");
    // The agent that is called sees neither the token nor a certificate.
    assert!(agent.seen().iter().all(|fields| !fields.contains_key("remit-delegation")));

    // The SVID rotates: what follows is bound to the new one, over a connection with the new one.
    calling.api.push(|state| state.svids = svids(ORCHESTRATOR, &next, &domain.der));
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..5 {
        assert_eq!(asks(&calling.remit).await.status, 200);
    }
    // So does the other's.
    called.api.push(|state| state.svids = svids(SUMMARISER, &domain.svid(SUMMARISER), &domain.der));
    assert_eq!(asks(&calling.remit).await.status, 200);
    drop(called.lab);
    drop(calling.lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_caught_is_of_no_use_to_another() {
    let domain = Domain::new("example.test");
    let agent = Behind::new(false).await;
    let called = summariser("mtls-caught", &domain, &agent).await;
    // Someone at the peer's address, with the peer's own SVID, keeps what it gets.
    let leaf = domain.svid(SUMMARISER);
    let verifier = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(domain.der.clone())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
    };
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(leaf.chain.clone(), PrivateKeyDer::Pkcs8(leaf.key.into()))
        .unwrap();
    let catcher = Upstream::tls(config, |_| Do::ok("thanks")).await;
    let own = domain.svid(ORCHESTRATOR);
    let calling = orchestrator("mtls-catching", &domain, &own, catcher.address, SUMMARISER).await;
    asks_until(&calling.remit, 200).await;
    let caught = catcher.take().unwrap().field("remit-delegation").unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(caught.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(claims["cnf"], json!({"x5t#S256": thumbprint(&own)}));
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(caught.split('.').next().unwrap()).unwrap()).unwrap();
    assert!(header["x5c"].is_array() && header["kid"].is_null(), "{header}");

    let present = async |leaf: &Leaf, token: &str| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(domain.der.clone())).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(support::svid::AnyServer))
            .with_client_auth_cert(leaf.chain.clone(), PrivateKeyDer::Pkcs8(leaf.key.clone().into()))
            .unwrap();
        let tcp = TcpStream::connect(called.remit.inbound.unwrap()).await.unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("summariser.test").unwrap(), tcp).await.unwrap();
        Conn::new(tls).ask(format!("GET / HTTP/1.1\r\nHost: s\r\nRemit-Delegation: {token}\r\n\r\n")).await
    };
    // Another agent, the same agent with another certificate, and at last whoever holds that key, for whom it still counts.
    for (leaf, why) in [
        (domain.svid("spiffe://example.test/agent/thief"), "another agent issued it"),
        (domain.svid(ORCHESTRATOR), "bound to another certificate"),
    ] {
        let answer = present(&leaf, &caught).await;
        assert_eq!((answer.status, answer.reason(), agent.seen().len()), (403, Some("delegation_invalid"), 0), "{}", answer.text());
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    let answer = present(&own, &caught).await;
    assert_eq!((answer.status, agent.seen().len()), (200, 1), "{}", answer.text());
    drop((called.lab, called.api, calling.lab, calling.api));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_peer_gets_no_token() {
    let domain = Domain::new("example.test");
    let agent = Behind::new(false).await;
    let called = summariser("mtls-not", &domain, &agent).await;
    let calling =
        orchestrator("mtls-not-calling", &domain, &domain.svid(ORCHESTRATOR), called.remit.inbound.unwrap(), "spiffe://example.test/other")
            .await;
    let answer = asks_until(&calling.remit, 502).await;
    assert_eq!(answer.reason(), Some("upstream_unreachable"));
    assert!(answer.text().contains("the server is spiffe://example.test/agent/summariser"), "{}", answer.text());
    assert_eq!(called.remit.log().of_kind("task").len(), 0);
    drop((called.lab, called.api, calling.lab, calling.api));
}
