//! A folder with a config, a catalog and a CA for upstream; and Remit, run on it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::log::Log;

/// The host that the catalog of these tests knows.
pub const HOST: &str = "api.example.test";
/// The credential that Remit injects there.
pub const SECRET: &str = "injected-secret-5f3a9c71d2";

const CATALOG: &str = r#"
provider: example
hosts: [api.example.test]
credential: example
operations:
  - {id: example.items.list, match: "GET /items", effect: read, query: [page, "tag[]"]}
  - {id: example.items.get, match: "GET /items/{id}", effect: read}
  - {id: example.items.probe, match: "HEAD /items/{id}", effect: read}
  - {id: example.items.create, match: "POST /items", effect: write, body: {title: /title, owner: /by/owner}}
  - {id: example.items.update, match: "PUT /items/{id}", effect: write, body: {title: /title}}
  - {id: example.items.comment, match: "POST /items/{id}/comments", effect: write}
  - {id: example.items.remove, match: "DELETE /items/{id}", effect: delete}
  - {id: example.files.get, match: "GET /files/{name}", effect: read, reserved: [name]}
  - {id: example.blobs.put, match: "PUT /blobs/{id}", effect: write, body: stream}
  - {id: example.events.watch, match: "GET /events", effect: read}
  - {id: example.socket.open, match: "GET /socket", effect: read, upgrade: [websocket]}
"#;

const GRANTS: &str = "{intents: [example.*], effects: [read, write]}";

/// What a test varies of the config.
pub struct Settings {
    /// Host (and port) → address.
    pub resolve: Vec<(String, SocketAddr)>,
    pub allow: &'static str,
    pub ambient: bool,
    /// What stands in front of the agent, as `listen.inbound` has it.
    pub inbound: String,
    /// Hosts that are not intercepted.
    pub tunnel: &'static str,
    /// More members of the agent, such as `status: suspended`.
    pub agent: String,
    /// A proxy to go through.
    pub via: Option<SocketAddr>,
    pub lifetime: &'static str,
    pub grants: Vec<String>,
    pub durability: &'static str,
    /// More top-level keys.
    pub more: String,
}

impl Settings {
    pub fn to(upstream: SocketAddr) -> Self {
        Self {
            resolve: vec![(HOST.into(), upstream)],
            allow: "[127.0.0.0/8]",
            ambient: true,
            inbound: String::new(),
            tunnel: "[]",
            agent: String::new(),
            via: None,
            lifetime: "10m",
            grants: vec![GRANTS.into()],
            durability: "{read: buffered}",
            more: String::new(),
        }
    }

    pub fn yaml(&self) -> String {
        self.yaml_with(&format!("{{kind: static, hosts: [{HOST}], secret: {{file: secret.txt}}, inject: bearer}}"))
    }

    /// The same with another credential for the provider.
    pub fn yaml_with(&self, credential: &str) -> String {
        let resolve: Vec<String> = self.resolve.iter().map(|(host, to)| format!("{host:?}: \"{to}\"")).collect();
        let agent = if self.agent.is_empty() { String::new() } else { format!(", {}", self.agent) };
        let grants: String = self.grants.iter().map(|g| format!("      - {g}\n")).collect();
        let via = self.via.map_or(String::new(), |to| format!(", proxy: \"http://{to}\""));
        let inbound = if self.inbound.is_empty() { String::new() } else { format!(", inbound: {}", self.inbound) };
        let ambient = if self.ambient { "tasks: {ambient: {agent: tester, workflow: work}}\n" } else { "" };
        format!(
            "version: 1\n\
             listen: {{forward: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", control: \"unix:remit.sock\"{inbound}}}\n\
             tls: {{publish: ca.pem, upstream_roots: [upstream-ca.pem], tunnel: {}}}\n\
             catalog: [catalog.yaml]\n\
             agents:\n  - {{id: tester, owner: owner@example.test, workflows: [work]{agent}}}\n\
             workflows:\n  - id: work\n    purpose: Test the proxy\n    max_lifetime: {}\n    grants:\n{grants}\
             credentials:\n  example: {credential}\n\
             {ambient}upstream: {{allow_addresses: {}, resolve: {{{}}}{via}}}\n\
             audit: {{sinks: [{{dir: audit}}], durability: {}}}\n{}\n",
            self.tunnel,
            self.lifetime,
            self.allow,
            resolve.join(", "),
            self.durability,
            self.more
        )
    }
}

/// A folder of its own for one test, removed with it.
pub struct Lab {
    pub dir: PathBuf,
    ca: Issuer<'static, KeyPair>,
}

impl Lab {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("remit-{name}-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let (ca, pem) = authority(name);
        fs::write(dir.join("upstream-ca.pem"), pem).unwrap();
        fs::write(dir.join("catalog.yaml"), CATALOG).unwrap();
        fs::write(dir.join("secret.txt"), format!("{SECRET}\n")).unwrap();
        Self { dir, ca }
    }

    /// TLS for an upstream with a certificate for `name`, by the CA that Remit trusts.
    pub fn tls(&self, name: &str, alpn: &[&[u8]]) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.ca).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        config
    }

    pub fn write(&self, settings: &Settings) {
        fs::write(self.dir.join("remit.yaml"), settings.yaml()).unwrap();
    }

    /// Runs Remit until it listens.
    pub fn start(&self, settings: &Settings) -> Remit {
        self.write(settings);
        Remit::start(&self.dir)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A CA that no one else has, and its certificate.
pub fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// `remit serve`, running; killed when dropped.
pub struct Remit {
    child: Child,
    pub dir: PathBuf,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    /// Where the agent behind it is called.
    pub inbound: Option<SocketAddr>,
    pub trust: Arc<ClientConfig>,
    printed: Arc<Mutex<String>>,
}

impl Remit {
    pub fn start(dir: &Path) -> Self {
        Self::start_from(Path::new(env!("CARGO_BIN_EXE_remit")), dir)
    }

    /// As [`Remit::start`], from another build: `REMIT_BIN` names the one that ships.
    pub fn start_from(binary: &Path, dir: &Path) -> Self {
        Self::start_with(binary, dir, &std::env::var("REMIT_TEST_LOG").unwrap_or_else(|_| "info".into()))
    }

    /// As [`Remit::start`], logging as much as `level` says.
    pub fn start_logging(dir: &Path, level: &str) -> Self {
        Self::start_with(Path::new(env!("CARGO_BIN_EXE_remit")), dir, level)
    }

    fn start_with(binary: &Path, dir: &Path, level: &str) -> Self {
        let mut child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(dir.join("remit.yaml"))
            .env("REMIT_LOG", level)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        let (tell, told) = mpsc::channel();
        let keep = printed.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                for what in ["forward proxy", "admin"] {
                    if line.contains(&format!("{what} listening"))
                        && let Some(at) = line.split("address=").nth(1)
                    {
                        let _ = tell.send((what, at.trim().parse::<SocketAddr>().unwrap()));
                    }
                }
                if std::env::var_os("REMIT_TEST_LOG").is_some() {
                    eprintln!("{line}");
                }
                keep.lock().push_str(&(line + "\n"));
            }
        });
        let heard = || told.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("Remit did not start:\n{}", printed.lock()));
        let (first, second) = (heard(), heard());
        assert_eq!((first.0, second.0), ("forward proxy", "admin"));
        let inbound =
            printed.lock().lines().find(|l| l.contains("inbound listening")).and_then(|l| l.split("address=").nth(1)?.trim().parse().ok());
        let trust = trust(&dir.join("ca.pem"));
        Self { child, dir: dir.to_owned(), proxy: first.1, admin: second.1, inbound, trust, printed }
    }

    /// What it has logged so far.
    pub fn printed(&self) -> String {
        self.printed.lock().clone()
    }

    pub fn log(&self) -> Log {
        Log(self.dir.join("audit"))
    }

    /// A number of `/proc/PID/status`, in KiB.
    pub fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// CPU time that the process has used, all threads together.
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.child.id().to_string())
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < within, "Remit has not ended:\n{}", self.printed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs another command of Remit on the same config; its exit code and output.
    pub fn command(&self, args: &[&str]) -> (Option<i32>, String) {
        let config = self.dir.join("remit.yaml");
        let done = Command::new(env!("CARGO_BIN_EXE_remit")).args(args).arg("--config").arg(config).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    }

    /// Starts a task; its id and handle.
    pub fn task(&self, more: &[&str]) -> (String, String) {
        let mut args = vec!["task", "start", "--agent", "tester", "--workflow", "work", "--for", "alice@example.test", "--output", "json"];
        args.extend(more);
        let (code, out) = self.command(&args);
        assert_eq!(code, Some(0), "{out}");
        let task: serde_json::Value = serde_json::from_str(&out).unwrap();
        (task["id"].as_str().unwrap().into(), task["handle"].as_str().unwrap().into())
    }

    pub fn end_task(&self, id: &str) {
        let (code, out) = self.command(&["task", "end", id]);
        assert_eq!(code, Some(0), "{out}");
    }
}

impl Drop for Remit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process (`self`: of this one), from the scheduler's own count of each of its threads.
pub fn cpu_of(process: &str) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanos = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(|t| nanos(t.ok()?)).sum())
}

fn trust(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Puts a file system of 512 KiB at `dir`. Without the right to mount one, the test runs itself
/// again in a user namespace that has it, and this answers false.
pub fn small_disk(dir: &Path, test: &str) -> bool {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(dir).output();
    if mounted.is_ok_and(|o| o.status.success()) {
        return true;
    }
    assert!(std::env::var_os("REMIT_IN_NAMESPACE").is_none(), "no file system can be mounted in a user namespace");
    let this = std::env::current_exe().unwrap();
    let again = Command::new("unshare").arg("-Urm").arg(this).args(["--exact", test]).env("REMIT_IN_NAMESPACE", "1").status();
    assert!(again.unwrap().success(), "the test failed in its namespace, or there are no user namespaces here");
    false
}
