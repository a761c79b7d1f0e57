//! The Workload API of a real SPIRE agent: Remit's own SVID, bundles, rotation, and an entry that goes away.
//!
//! `REMIT_TEST_SPIRE` names the folder of `spire-server` and `spire-agent` (`tests/tools/spire.sh` builds them). Without
//! them this test says on stderr that it was skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::json;
use support::{
    Conn, Do, HOST, Lab, Remit, Settings, Upstream, agent,
    svid::{Leaf, PROXY, in_tls, to},
};
use tokio_rustls::TlsConnector;

const RULE: &str = "identities: [{spiffe: \"spiffe://acme.test/agent/tester\", workflow: work}]";

/// A server and an agent of SPIRE, with one entry for Remit and one for whoever fetches by the agent's own binary.
struct Spire {
    bin: PathBuf,
    dir: PathBuf,
    running: Vec<Child>,
}

impl Drop for Spire {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Spire {
    /// None, loudly, where SPIRE is not to be had.
    fn start(dir: &Path) -> Option<Self> {
        let named =
            std::env::var_os("REMIT_TEST_SPIRE").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.work/bin"), Into::into);
        if !named.join("spire-server").is_file() || !named.join("spire-agent").is_file() {
            // Not by a macro, whose output is kept back when a test passes.
            let said = format!(
                "\nSKIPPED identify_spire: no SPIRE in {}; tests/tools/spire.sh DIR builds it, REMIT_TEST_SPIRE=DIR names it\n",
                named.display()
            );
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            return None;
        }
        let mut spire = Self { bin: named, dir: dir.to_owned(), running: Vec::new() };
        let port = free_port();
        let at = dir.display();
        fs::create_dir_all(dir.join("server")).unwrap();
        fs::create_dir_all(dir.join("agent")).unwrap();
        fs::write(
            dir.join("server.conf"),
            format!(
                r#"server {{ bind_address = "127.0.0.1" bind_port = "{port}" socket_path = "{at}/server.sock" trust_domain = "acme.test" data_dir = "{at}/server" log_level = "WARN" }}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{at}/server/data.sqlite3" }} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}"#
            ),
        )
        .unwrap();
        spire.run("spire-server", &["run", "-config", &format!("{at}/server.conf")]);
        spire.until("the server", |s| s.server(&["healthcheck"]).0);
        let (_, token) = spire.server(&["token", "generate", "-spiffeID", "spiffe://acme.test/node"]);
        let token = token.trim().strip_prefix("Token: ").unwrap_or_else(|| panic!("{token}")).to_owned();
        fs::write(
            dir.join("agent.conf"),
            format!(
                r#"agent {{ data_dir = "{at}/agent" log_level = "WARN" trust_domain = "acme.test" server_address = "127.0.0.1" server_port = "{port}" socket_path = "{at}/api.sock" insecure_bootstrap = true
  experimental {{ sync_interval = "1s" }} }}
plugins {{
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{ discover_workload_path = true }} }}
}}"#
            ),
        )
        .unwrap();
        spire.run("spire-agent", &["run", "-config", &format!("{at}/agent.conf"), "-joinToken", &token]);
        spire.until("the agent", |s| s.agent(&["healthcheck"]).0);
        Some(spire)
    }

    fn run(&mut self, program: &str, args: &[&str]) {
        let log = fs::File::create(self.dir.join(format!("{program}.log"))).unwrap();
        let command =
            Command::new(self.bin.join(program)).args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.running.push(command.unwrap());
    }

    fn ask(&self, program: &str, args: &[&str], socket: &str) -> (bool, String) {
        let socket = self.dir.join(socket);
        let done = Command::new(self.bin.join(program)).args(args).arg("-socketPath").arg(socket).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    }

    fn server(&self, args: &[&str]) -> (bool, String) {
        self.ask("spire-server", args, "server.sock")
    }

    fn agent(&self, args: &[&str]) -> (bool, String) {
        self.ask("spire-agent", args, "api.sock")
    }

    fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            let logs: String =
                ["spire-server.log", "spire-agent.log"].iter().map(|l| fs::read_to_string(self.dir.join(l)).unwrap_or_default()).collect();
            assert!(began.elapsed() < Duration::from_secs(60), "waited in vain for {what}:\n{logs}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// An entry for whoever runs the program at this path; its id.
    fn entry(&self, id: &str, program: &Path, more: &[&str]) -> String {
        let selector = format!("unix:path:{}", fs::canonicalize(program).unwrap().display());
        let create = ["entry", "create", "-parentID", "spiffe://acme.test/node", "-spiffeID", id, "-selector", &selector];
        let (made, said) = self.server(&[&create[..], more].concat());
        assert!(made, "{said}");
        said.lines().find_map(|l| l.strip_prefix("Entry ID")).unwrap().trim_matches([' ', ':']).to_owned()
    }

    /// The SVID that the agent gives to its own binary, with the bundle.
    fn svid(&self) -> (Leaf, Vec<CertificateDer<'static>>) {
        let to = self.dir.join("svid");
        fs::create_dir_all(&to).unwrap();
        self.until("an SVID", |s| s.agent(&["api", "fetch", "x509", "-write", &to.display().to_string()]).0);
        let read = |name: &str| CertificateDer::pem_file_iter(to.join(name)).unwrap().map(Result::unwrap).collect::<Vec<_>>();
        let key = PrivateKeyDer::from_pem_file(to.join("svid.0.key")).unwrap().secret_der().to_vec();
        (Leaf { chain: read("svid.0.pem"), key }, read("bundle.0.pem"))
    }
}

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
    let more = format!("spiffe: {{workload_api: \"unix://{}\", audience: remit}}", short.join("api.sock").display());
    lab.write(&Settings { ambient: false, agent: RULE.into(), more, ..Settings::to(upstream.address) });
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
