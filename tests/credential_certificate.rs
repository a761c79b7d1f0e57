//! Kind `certificate`: what Remit shows to upstream, from files and from the Workload API, and on which connections.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::KeyPair;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use support::{
    Answer, HOST, Lab, Remit, Settings,
    agent::{get, tls},
    chunks,
    svid::{Domain, Leaf},
    workload::{State, WorkloadApi, bundles, svids},
};
use time::OffsetDateTime;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tokio_rustls::TlsAcceptor;

const REMIT: &str = "spiffe://acme.test/agent/tester";
const SERVER: &str = "spiffe://acme.test/api";

/// First 16 hex digits of a certificate's SHA-256, as the audit has it.
fn named(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// A certificate with its key, in files.
fn written(lab: &Lab, leaf: &Leaf) {
    use base64::Engine as _;
    let pem = |label: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let chain: String = leaf.chain.iter().map(|c| pem("CERTIFICATE", c)).collect();
    for (name, text) in [("client.pem", chain), ("client.key", pem("PRIVATE KEY", &leaf.key))] {
        // As whoever rotates certificates does it: no reader sees half a file.
        fs::write(lab.dir.join("new"), text).unwrap();
        fs::rename(lab.dir.join("new"), lab.dir.join(name)).unwrap();
    }
}

/// An upstream that turns away whoever shows no certificate of `clients`, and says who came on which connection.
async fn upstream(config: ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, count) = (acceptor.clone(), count.clone());
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let who = tls.get_ref().1.peer_certificates().map_or_else(|| "nobody".into(), |chain| named(&chain[0]));
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (mut buffer, body) = (vec![], format!("{who} {number}"));
                while let Some(end) = chunks::until(&mut tls, &mut buffer, b"\r\n\r\n").await {
                    buffer.drain(..end);
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if tls.write_all(answer.as_bytes()).await.is_err() || tls.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn roots(of: &Domain) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(of.der.clone())).unwrap();
    Arc::new(roots)
}

/// A server by the lab's CA, or by an SVID; clients by the roots of `clients`.
fn server(chain: Vec<CertificateDer<'static>>, key: Vec<u8>, clients: &Domain, required: bool) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(clients), provider.clone());
    let verifier = if required { verifier } else { verifier.allow_unauthenticated() }.build().unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    config.with_client_cert_verifier(verifier).with_single_cert(chain, PrivateKeyDer::Pkcs8(key.into())).unwrap()
}

/// A server for the host's name, by a CA that Remit trusts.
fn by_name(lab: &Lab, clients: &Domain, required: bool) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let (ca, pem) = support::lab::authority("upstream");
    fs::write(lab.dir.join("upstream-ca.pem"), pem).unwrap();
    let leaf = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    server(vec![leaf.der().clone()], key.serialize_der(), clients, required)
}

fn config(lab: &Lab, to: SocketAddr, credential: &str, more: &str) {
    let settings = Settings { more: more.into(), ..Settings::to(to) };
    fs::write(lab.dir.join("remit.yaml"), settings.yaml_with(credential)).unwrap();
}

const FILES: &str = "{kind: certificate, hosts: [api.example.test], cert: client.pem, key: client.key}";

async fn asks(remit: &Remit) -> Answer {
    tls(remit).await.ask(get("/items")).await
}

/// Waits until upstream sees the certificate; on which connection.
async fn shows(remit: &Remit, leaf: &Leaf) -> String {
    let want = named(&leaf.chain[0]);
    for _ in 0..200 {
        let answer = asks(remit).await;
        if answer.status == 200 && answer.text().starts_with(&want) {
            return answer.text();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("upstream never saw the certificate: {}", remit.printed());
}

#[tokio::test]
async fn a_certificate_from_files_is_shown_and_rotates_without_a_refused_call() {
    let (lab, domain) = (Lab::new("cert-files"), Domain::new("clients.test"));
    let first = domain.svid("spiffe://clients.test/first");
    written(&lab, &first);
    let at = upstream(by_name(&lab, &domain, true)).await;
    config(&lab, at, FILES, "");
    let remit = Remit::start(&lab.dir);

    let seen = shows(&remit, &first).await;
    assert_eq!(asks(&remit).await.text(), seen, "its connection is used again");
    let lease = remit.log().of_kind("decision").last().unwrap()["lease"].clone();
    assert_eq!((lease["kind"].as_str(), lease["fingerprint"].as_str()), (Some("certificate"), Some(&*named(&first.chain[0]))));

    let second = domain.svid("spiffe://clients.test/second");
    written(&lab, &second);
    let now = shows(&remit, &second).await;
    assert_ne!(now.split(' ').nth(1), seen.split(' ').nth(1), "a new certificate never rides on an old connection");

    // A file that does not fit leaves what was there in force, and says so.
    fs::write(lab.dir.join("client.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    for _ in 0..200 {
        assert_eq!(asks(&remit).await.status, 200);
        if remit.printed().contains("client certificate") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing was said of the broken key: {}", remit.printed());
}

#[tokio::test]
async fn calls_without_the_credential_never_use_its_connections() {
    let (lab, domain) = (Lab::new("cert-pool"), Domain::new("clients.test"));
    let leaf = domain.svid("spiffe://clients.test/x");
    written(&lab, &leaf);
    let catalog = fs::read_to_string(lab.dir.join("catalog.yaml")).unwrap();
    let plain = "match: \"GET /events\", effect: read";
    assert!(catalog.contains(plain));
    fs::write(lab.dir.join("catalog.yaml"), catalog.replace(plain, &format!("{plain}, credential: none"))).unwrap();
    let at = upstream(by_name(&lab, &domain, false)).await;
    config(&lab, at, FILES, "");
    let remit = Remit::start(&lab.dir);
    let with = shows(&remit, &leaf).await;
    let without = tls(&remit).await.ask(get("/events")).await.text();
    assert!(without.starts_with("nobody "), "{without}");
    // Both again, each on its own.
    assert_eq!(asks(&remit).await.text(), with);
    assert_eq!(tls(&remit).await.ask(get("/events")).await.text(), without);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_said_at_load_or_refused() {
    let (lab, domain) = (Lab::new("cert-bad"), Domain::new("clients.test"));
    let at = upstream(by_name(&lab, &domain, true)).await;
    let (one, other) = (domain.svid("spiffe://clients.test/one"), domain.svid("spiffe://clients.test/other"));
    written(&lab, &Leaf { chain: one.chain.clone(), key: other.key });
    let check = |credential: &str, why: &str| {
        config(&lab, at, credential, "");
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_remit"))
            .args(["check", "--config"])
            .arg(lab.dir.join("remit.yaml"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(!done.status.success() && text.contains(why) && text.contains("remit.yaml:"), "{text}");
    };
    check(FILES, "the key is another certificate's");
    check("{kind: certificate, hosts: [api.example.test], cert: client.pem, key: none.key}", "none.key` does not exist");
    check("{kind: certificate, hosts: [api.example.test], svid: true}", "add `spiffe: {workload_api: env}`");
    check("{kind: certificate, hosts: [api.example.test], svid: true, cert: a, key: b}", "has one source");
    check("{kind: certificate, hosts: [api.example.test], cert: client.pem, key: client.key, server: acme}", "server");
    // One that has expired is no reason to refuse every other call, so it is said by those that need it.
    let old = domain.leaf(&["spiffe://clients.test/old"], |p| p.not_after = OffsetDateTime::now_utc() - time::Duration::seconds(1));
    written(&lab, &old);
    config(&lab, at, FILES, "");
    let remit = Remit::start(&lab.dir);
    let answer = asks(&remit).await;
    assert_eq!((answer.status, answer.reason()), (502, Some("credential_unavailable")), "{}", answer.text());
    assert!(answer.text().contains("has expired at"), "{}", answer.text());
    // Nor does one that upstream does not know pass for another.
    let stranger = Domain::new("other.test").svid("spiffe://other.test/x");
    written(&lab, &stranger);
    for _ in 0..200 {
        let answer = asks(&remit).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        if answer.reason() == Some("upstream_unreachable") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the new certificate was never shown");
}

#[tokio::test]
async fn the_workload_apis_svid_is_shown_to_a_server_that_proves_its_own() {
    let (lab, acme) = (Lab::new("cert-svid"), Domain::new("acme.test"));
    let (own, next) = (acme.svid(REMIT), acme.svid(REMIT));
    let state = State { svids: svids(REMIT, &own, &acme.der), x509: bundles(2, &[("acme.test", &acme.der)]), ..State::default() };
    let api = WorkloadApi::at(&lab.dir.join("api.sock"), state);
    let leaf = acme.svid(SERVER);
    let at = upstream(server(leaf.chain, leaf.key, &acme, true)).await;
    let spiffe = format!("spiffe: {{workload_api: \"unix://{}\"}}", lab.dir.join("api.sock").display());
    let credential = |server: &str| format!("{{kind: certificate, hosts: [{HOST}], svid: true, server: \"{server}\"}}");
    config(&lab, at, &credential(SERVER), &spiffe);
    let remit = Remit::start(&lab.dir);
    let seen = shows(&remit, &own).await;
    assert_eq!(asks(&remit).await.text(), seen);

    api.push(|state| state.svids = svids(REMIT, &next, &acme.der));
    let now = shows(&remit, &next).await;
    assert_ne!(now.split(' ').nth(1), seen.split(' ').nth(1));

    // What the Workload API takes back is shown no more.
    api.push(|state| state.svids = vec![]);
    let mut answer = asks(&remit).await;
    for _ in 0..200 {
        if answer.status != 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = asks(&remit).await;
    }
    assert_eq!((answer.status, answer.reason()), (502, Some("credential_unavailable")), "{}", answer.text());
    assert!(answer.text().contains("gives no X.509-SVID"), "{}", answer.text());
}

#[tokio::test]
async fn a_server_that_is_another_than_it_has_to_be_gets_no_request() {
    let (acme, other) = (Domain::new("acme.test"), Domain::new("other.test"));
    let own = acme.svid(REMIT);
    let cases = [
        (acme.svid("spiffe://acme.test/elsewhere"), "the server is spiffe://acme.test/elsewhere"),
        (other.svid("spiffe://other.test/api"), "the server is spiffe://other.test/api"),
        // It calls itself so, and by other roots.
        (other.svid(SERVER), "certificate"),
        (acme.leaf(&[SERVER, "spiffe://acme.test/b"], |_| ()), "exactly one URI"),
        (acme.leaf(&[SERVER], |p| p.not_after = OffsetDateTime::now_utc() - time::Duration::minutes(1)), "xpired"),
        (acme.leaf(&[SERVER], |p| p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]), "certificate"),
    ];
    for (leaf, why) in cases {
        let lab = Lab::new("cert-server");
        let state = State { svids: svids(REMIT, &own, &acme.der), x509: bundles(2, &[("acme.test", &acme.der)]), ..State::default() };
        let _api = WorkloadApi::at(&lab.dir.join("api.sock"), state);
        let at = upstream(server(leaf.chain, leaf.key, &acme, true)).await;
        let spiffe = format!("spiffe: {{workload_api: \"unix://{}\"}}", lab.dir.join("api.sock").display());
        config(&lab, at, &format!("{{kind: certificate, hosts: [{HOST}], svid: true, server: \"{SERVER}\"}}"), &spiffe);
        let remit = Remit::start(&lab.dir);
        let mut answer = asks(&remit).await;
        for _ in 0..100 {
            if answer.reason() != Some("credential_unavailable") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = asks(&remit).await;
        }
        assert_eq!((answer.status, answer.reason()), (502, Some("upstream_unreachable")), "{}", answer.text());
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
    }
}
