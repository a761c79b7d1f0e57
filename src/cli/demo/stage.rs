use std::{
    fmt, fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    app::App,
    authority::Start,
    call::{Principal, TaskId},
    clock::{self, Moment},
    config::Config,
    enforce::House,
    hex::hex,
    secret::Secret,
};

use super::{agent::Agent, upstream::Upstream};

pub(super) const HOST: &str = "api.tracker.example";

/// What everything stands on: a folder, an upstream, Remit.
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) upstream: Upstream,
    pub(super) proxy: SocketAddr,
    pub(super) secret: Secret<String>,
    house: House,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// Why the stage could not be set.
#[derive(Debug)]
pub(super) struct StageError(String);

impl StageError {
    pub(super) fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the demo cannot go on: {}", self.0)
    }
}

impl Stage {
    /// Starts the upstream and Remit on free ports of loopback.
    pub(super) async fn set() -> Result<Self, StageError> {
        let dir = std::env::temp_dir().join(format!("remit-demo-{}", TaskId::new(clock::unix_ms())));
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(StageError::new)?;
        let secret = Secret::new(random()?);
        let upstream = Upstream::start(HOST, &secret).await?;
        write(&dir, "upstream-ca.pem", upstream.ca.as_bytes())?;
        write(&dir, "tracker.token", secret.expose().as_bytes())?;
        write(&dir, "tracker.yaml", include_bytes!("tracker.yaml"))?;
        let text = include_str!("remit.yaml").replace("UPSTREAM", &upstream.address.to_string());
        let path = write(&dir, "remit.yaml", text.as_bytes())?;
        let config = Config::load(&path).map_err(StageError::new)?;
        let app = App::build(config).map_err(StageError::new)?;
        let proxy = app.address().ok_or_else(|| StageError::new("Remit has no listener"))?;
        let house = app.house().clone();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(app.run(async move {
            let _ = stopped.await;
        }));
        Ok(Self { dir, upstream, proxy, secret, house, stop, serving })
    }

    /// Starts a task for alice, narrowed to `grants`, and an agent that holds its handle.
    pub(super) fn start(&self, grants: &[&str]) -> Result<(TaskId, Agent), StageError> {
        let grants = grants.iter().map(|g| serde_json::from_str(g)).collect::<Result<Vec<_>, _>>().map_err(StageError::new)?;
        let principal = Principal { id: Arc::from("alice@acme.example"), verified: false, claims: serde_json::json!({}) };
        let start = Start { grants, ..Start::new("triage-bot", "triage-issues", principal) };
        let (task, handle) = self
            .house
            .tasks()
            .start(&self.house.rules().registry, start, Moment::now())
            .map_err(|refusal| StageError::new(format!("{}: {}", refusal.reason, refusal.detail)))?;
        let agent = Agent::new(self.proxy, handle.expose(), self.house.terminator().authority().pem())?;
        Ok((task.id.clone(), agent))
    }

    pub(super) fn end(&self, task: &TaskId) -> bool {
        self.house.tasks().end(task)
    }

    /// Drains Remit and closes its audit; answers where that is.
    pub(super) async fn close(self) -> Result<PathBuf, StageError> {
        let _ = self.stop.send(());
        self.serving.await.map_err(StageError::new)?;
        Ok(self.dir.join("audit"))
    }
}

/// Changes one byte in the middle of the log.
pub(super) fn change_one_byte(audit: &Path) -> Result<String, StageError> {
    let files = fs::read_dir(audit).map_err(StageError::new)?.filter_map(Result::ok).map(|e| e.path());
    let log = files.filter(|p| p.extension().is_some_and(|e| e == "jsonl")).max().ok_or_else(|| StageError::new("there is no log"))?;
    let mut bytes = fs::read(&log).map_err(StageError::new)?;
    // The project of the refused write: who reads the log would think it was another.
    let at = memchr::memmem::find(&bytes, b"billing").ok_or_else(|| StageError::new("the refused call is not in the log"))?;
    if let Some(byte) = bytes.get_mut(at) {
        *byte = b'f';
    }
    fs::write(&log, bytes).map_err(StageError::new)?;
    let name = log.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(format!("{name}: `billing` reads `filling` now"))
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, StageError> {
    let path = dir.join(name);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(StageError::new)?;
    file.write_all(bytes).map_err(StageError::new)?;
    Ok(path)
}

fn random() -> Result<String, StageError> {
    let mut bytes = [0u8; 24];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StageError::new("the system gives no random numbers"))?;
    Ok(format!("tracker_{}", hex(&bytes)))
}
