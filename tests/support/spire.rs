//! A server and an agent of a real SPIRE.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::svid::Leaf;

/// A server and an agent of SPIRE, with one entry for Remit and one for whoever fetches by the agent's own binary.
pub struct Spire {
    pub bin: PathBuf,
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
    pub fn start(dir: &Path) -> Option<Self> {
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

    pub fn server(&self, args: &[&str]) -> (bool, String) {
        self.ask("spire-server", args, "server.sock")
    }

    pub fn agent(&self, args: &[&str]) -> (bool, String) {
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
    pub fn entry(&self, id: &str, program: &Path, more: &[&str]) -> String {
        let selector = format!("unix:path:{}", fs::canonicalize(program).unwrap().display());
        let create = ["entry", "create", "-parentID", "spiffe://acme.test/node", "-spiffeID", id, "-selector", &selector];
        let (made, said) = self.server(&[&create[..], more].concat());
        assert!(made, "{said}");
        said.lines().find_map(|l| l.strip_prefix("Entry ID")).unwrap().trim_matches([' ', ':']).to_owned()
    }

    /// The SVID that the agent gives to its own binary, with the bundle.
    pub fn svid(&self) -> (Leaf, Vec<CertificateDer<'static>>) {
        let to = self.dir.join("svid");
        fs::create_dir_all(&to).unwrap();
        self.until("an SVID", |s| s.agent(&["api", "fetch", "x509", "-write", &to.display().to_string()]).0);
        let read = |name: &str| CertificateDer::pem_file_iter(to.join(name)).unwrap().map(Result::unwrap).collect::<Vec<_>>();
        let key = PrivateKeyDer::from_pem_file(to.join("svid.0.key")).unwrap().secret_der().to_vec();
        (Leaf { chain: read("svid.0.pem"), key }, read("bundle.0.pem"))
    }
}
