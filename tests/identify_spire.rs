//! The Workload API of a real SPIRE agent: Remit's own SVID, bundles, rotation, and an entry that goes away.
//!
//! `REMIT_TEST_SPIRE` names the folder of `spire-server` and `spire-agent` (`tests/tools/spire.sh` builds them). Without
//! them this test says on stderr that it was skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use remit::jose::{Algorithm, Keys, Token, Use};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use support::{
    Conn, Do, HOST, Lab, Remit, Settings, Upstream, agent,
    spire::Spire,
    svid::{Leaf, PROXY, in_tls, to},
};
use tokio_rustls::TlsConnector;

const RULE: &str = "identities: [{spiffe: \"spiffe://acme.test/agent/tester\", workflow: work}]";

async fn call(
    remit: &Remit,
    leaf: Option<&Leaf>,
    roots: &[CertificateDer<'static>],
    fields: &str,
) -> Option<(u16, CertificateDer<'static>)> {
    let mut conn = to(remit, leaf, roots.to_vec(), PROXY).await.ok()?;
    let shown = conn.stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    conn.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{fields}\r\n")).await;
    let head = conn.head().await?;
    if head.status != 200 {
        return Some((head.status, shown));
    }
    let mut config = (*remit.trust).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let inside = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST).unwrap(), conn.stream).await.ok()?;
    Some((Conn::new(inside).ask(agent::get("/items")).await.status, shown))
}

/// The credential is one that Remit's own JWT-SVID is exchanged for.
fn federated(lab: &Lab) {
    let path = lab.dir.join("remit.yaml");
    let federation = r#"federation: {audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/i", token: {svid: google}, sts: "https://sts.example.test/v1/token"}"#;
    let credential =
        format!("  example: {{kind: google, hosts: [{HOST}], {federation}, scope: [{{intents: [\"example.*\"], scopes: [drive]}}]}}");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().map(|l| if l.starts_with("  example: ") { credential.as_str() } else { l }).collect();
    fs::write(path, lines.join("\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn remit_lives_on_what_a_spire_agent_gives() {
    // A socket's path may have 107 bytes.
    let short = std::env::temp_dir().join(format!("rs{}", std::process::id()));
    let _ = fs::remove_dir_all(&short);
    fs::create_dir_all(&short).unwrap();
    let Some(spire) = Spire::start(&short) else { return };
    let own = spire.entry("spiffe://acme.test/remit", Path::new(env!("CARGO_BIN_EXE_remit")), &["-dns", PROXY, "-x509SVIDTTL", "8"]);
    spire.entry("spiffe://acme.test/agent/tester", &spire.bin.join("spire-agent"), &[]);

    let lab = Lab::new("spire");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let sts = Upstream::tls(lab.tls("sts.example.test", &[b"http/1.1"]), |_| {
        let given = json!({"access_token": "ya29.d.b0AXv0zTMqyxw", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 3599});
        Do::ok(&given.to_string())
    })
    .await;
    let more = format!("spiffe: {{workload_api: \"unix://{}\", audience: remit}}", short.join("api.sock").display());
    let resolve = vec![(HOST.into(), upstream.address), ("sts.example.test".into(), sts.address)];
    lab.write(&Settings { ambient: false, agent: RULE.into(), more, resolve, ..Settings::to(upstream.address) });
    federated(&lab);
    in_tls(&lab.dir, "{svid: true, clients: optional}");
    let remit = Remit::start(&lab.dir);

    let (leaf, roots) = spire.svid();
    let began = Instant::now();
    let first = loop {
        match call(&remit, Some(&leaf), &roots, "").await {
            Some((200, shown)) => break shown,
            other => assert!(began.elapsed() < Duration::from_secs(60), "{other:?}\n{}", remit.printed()),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let decision = remit.log().only().await.decision;
    assert_eq!((&decision["how"], &decision["identity"]), (&json!("svid"), &json!("spiffe://acme.test/agent/tester")));

    // What Remit proved to another issuer: its own JWT-SVID, which the trust domain's keys verify.
    let (_, bundle) = spire.server(&["bundle", "show", "-format", "spiffe"]);
    let exchanged = String::from_utf8(sts.seen()[0].body.clone()).unwrap().replace("%2E", ".").replace("%2D", "-").replace("%5F", "_");
    let subject = exchanged.split('&').find_map(|f| f.strip_prefix("subject_token=").filter(|t| t.starts_with("eyJ"))).unwrap();
    let verified =
        Token::read(subject.as_bytes()).unwrap().verify(&Keys::read(bundle.as_bytes(), Use::JwtSvid).unwrap(), &Algorithm::JWT_SVID);
    let claims = verified.unwrap().claims;
    assert_eq!((claims.text("sub"), claims.audiences().unwrap()), (Some("spiffe://acme.test/remit"), vec!["google"]));

    // A JWT-SVID of the same agent, on a connection without a certificate.
    let (fetched, said) = spire.agent(&["api", "fetch", "jwt", "-audience", "remit"]);
    assert!(fetched, "{said}");
    let token = said.lines().map(str::trim).find(|l| l.starts_with("eyJ")).unwrap_or_else(|| panic!("{said}"));
    let fields = format!("Proxy-Authorization: Bearer {token}\r\n");
    assert_eq!(call(&remit, None, &roots, &fields).await.map(|c| c.0), Some(200));
    let (_, said) = spire.agent(&["api", "fetch", "jwt", "-audience", "elsewhere"]);
    let other = said.lines().map(str::trim).find(|l| l.starts_with("eyJ")).unwrap();
    assert_eq!(call(&remit, None, &roots, &format!("Proxy-Authorization: Bearer {other}\r\n")).await.map(|c| c.0), Some(407));

    // Remit's SVID lives for 8 s: it rotates, and no call notices.
    let began = Instant::now();
    let mut rotated = false;
    let mut calls = 0;
    while began.elapsed() < Duration::from_secs(14) {
        let (status, shown) = call(&remit, Some(&leaf), &roots, "").await.expect("a call was dropped");
        assert_eq!(status, 200);
        rotated |= shown != first;
        calls += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(rotated && calls > 20, "{calls} calls");

    // The entry goes: nothing is for Remit any more, and it shows and trusts nothing.
    let (deleted, said) = spire.server(&["entry", "delete", "-entryID", &own]);
    assert!(deleted, "{said}");
    let began = Instant::now();
    while call(&remit, Some(&leaf), &roots, "").await.is_some_and(|c| c.0 == 200) {
        assert!(began.elapsed() < Duration::from_secs(30), "what was taken away still counts:\n{}", remit.printed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(remit.printed().contains("PermissionDenied"), "{}", remit.printed());
    drop(spire);
    let _ = fs::remove_dir_all(&short);
}
