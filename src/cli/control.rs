//! The client of the control socket, which `task` and `agents` share.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use crate::{problem::Problem, secret::Secret};

/// Where the Remit to ask is, and how its answer is printed.
#[derive(Debug, Clone, Args)]
pub struct Reach {
    /// The configuration of the Remit to ask: its `listen.control` names the socket
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The control socket itself, or http://HOST:PORT of it [default: $REMIT_CONTROL]
    #[arg(long, value_name = "SOCKET", conflicts_with = "config")]
    pub control: Option<PathBuf>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// Asks one Remit over its control socket.
#[derive(Debug)]
pub struct Client {
    to: Place,
    /// Presented as a bearer token: a task's handle, or over TCP the operator's token. Without it the
    /// socket's peer is judged by its uid.
    handle: Option<Secret<String>>,
}

/// Where the control API is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Socket(PathBuf),
    /// `host:port`, on loopback.
    Port(String),
}

/// What the control API answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: StatusCode,
    /// Null when there was no body.
    pub body: Value,
}

const PATIENCE: Duration = Duration::from_secs(30);
const LARGEST: usize = 256 << 20;

impl Client {
    #[must_use]
    pub fn new(socket: PathBuf, handle: Option<Secret<String>>) -> Self {
        Self { to: Place::Socket(socket), handle }
    }

    /// Finds the socket or the port by `--control`, `--config` or `REMIT_CONTROL`, in this order. With
    /// `REMIT_HANDLE` it presents that handle.
    ///
    /// # Errors
    /// When none of them names a socket.
    pub fn find(reach: &Reach) -> Result<Self, Problem> {
        let handle = env::var("REMIT_HANDLE").ok().filter(|h| !h.is_empty()).map(Secret::new);
        let (to, token) = match (&reach.control, &reach.config, env::var_os("REMIT_CONTROL")) {
            (Some(control), ..) => (Place::of(control), None),
            (None, Some(config), _) => configured(config)?,
            (None, None, Some(value)) => (Place::of(Path::new(&value)), None),
            (None, None, None) => {
                let problem = Problem::new("it is not known which Remit to ask");
                return Err(problem.help("name its configuration with --config FILE, or its socket with --control or REMIT_CONTROL"));
            }
        };
        let handle = match (handle, token) {
            (None, Some(file)) => Some(Secret::new(token_in(&file)?)),
            (handle, _) => handle,
        };
        Ok(Self { to, handle })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When nobody answers on the socket, or not in HTTP and JSON.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, Problem> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
            Ok(answered) => answered,
            Err(_) => Err(self.problem("Remit did not answer within 30 s")),
        }
    }

    async fn exchange(&self, method: Method, path_of: &str, body: Option<&Value>) -> Result<Reply, Problem> {
        match &self.to {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|e| self.unreachable(&e))?;
                self.ask(stream, method, path_of, body).await
            }
            Place::Port(place) => {
                let stream = TcpStream::connect(place).await.map_err(|e| self.unreachable(&e))?;
                self.ask(stream, method, path_of, body).await
            }
        }
    }

    async fn ask<S>(&self, stream: S, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, Problem>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |e: &dyn fmt::Display| self.problem(format!("the control socket does not answer as Remit does: {e}"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, "remit").header(CONTENT_TYPE, "application/json");
        if let Some(handle) = &self.handle {
            request = request.header(AUTHORIZATION, format!("Bearer {}", handle.expose()));
        }
        let bytes = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let request = request.body(Full::new(bytes)).map_err(|e| broken(&e))?;
        let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let status = response.status();
        let collected = Limited::new(response.into_body(), LARGEST).collect().await.map_err(|e| broken(&e))?;
        driver.abort();
        let bytes = collected.to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).map_err(|e| broken(&e))? };
        Ok(Reply { status, body })
    }

    fn unreachable(&self, error: &io::Error) -> Problem {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "is Remit running? `remit serve --config FILE` makes the socket that `listen.control` names",
            io::ErrorKind::ConnectionRefused => "Remit is not running any more; start it again with `remit serve --config FILE`",
            io::ErrorKind::PermissionDenied => "ask as the user that Remit runs as",
            _ => "check the socket's path",
        };
        self.problem(format!("cannot reach the control socket: {error}")).help(help)
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        match &self.to {
            Place::Socket(path) => Problem::new(message).at(path, None),
            Place::Port(place) => Problem::new(format!("{place}: {}", message.into())),
        }
    }
}

impl Place {
    /// `http://host:port`, else a path, with or without `unix:`.
    fn of(text: &Path) -> Self {
        match text.to_str().and_then(|t| t.strip_prefix("http://")) {
            Some(place) => Self::Port(place.trim_end_matches('/').to_owned()),
            None => Self::Socket(without_scheme(text)),
        }
    }
}

impl Reply {
    /// The body of a success, or what the API said against it, in words.
    ///
    /// # Errors
    /// The `detail` of the problem, else its status.
    pub fn success(&self) -> Result<&Value, String> {
        if self.status.is_success() {
            return Ok(&self.body);
        }
        Err(self.body["detail"].as_str().map_or_else(|| self.status.to_string(), shown))
    }

    /// 0; 1 when the answer is no; 3 when Remit could not do it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.status.as_u16() {
            200..=299 => 0,
            400..=499 => 1,
            _ => 3,
        }
    }
}

/// Text as it may be shown on a terminal.
#[must_use]
pub fn shown(text: &str) -> String {
    crate::shown::shown(text).into_owned()
}

/// Columns, each as wide as its widest cell; the last is not padded.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |column: usize| rows.iter().filter_map(move |r| r.get(column)).map(|c| c.chars().count());
    let widths: Vec<usize> = head.iter().enumerate().map(|(i, h)| cells(i).max().unwrap_or(0).max(h.len())).collect();
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    };
    line(&mut head.iter().copied());
    rows.iter().for_each(|row| line(&mut row.iter().map(|c| &**c)));
    out
}

/// The `listen.control` of a configuration, and the file of its token where that is needed. Nothing
/// else of it is read, so that a task can be ended while the file is being edited.
fn configured(config: &Path) -> Result<(Place, Option<PathBuf>), Problem> {
    let wrong = |message: String| Problem::new(message).at(config, None);
    let text = fs::read_to_string(config).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let whole: Value = serde_yaml::from_str(&text).map_err(|e| wrong(format!("is not YAML: {e}")))?;
    let beside = config.parent().unwrap_or_else(|| Path::new(""));
    let control = &whole["listen"]["control"];
    if let Some(path) = control.as_str().or_else(|| control["unix"].as_str()) {
        return Ok((Place::Socket(beside.join(without_scheme(Path::new(path)))), None));
    }
    if let Some(place) = control["tcp"].as_str() {
        return Ok((Place::Port(place.to_owned()), control["token"]["file"].as_str().map(|file| beside.join(file))));
    }
    let problem = wrong("names no control socket".into()).key("listen.control");
    Err(problem.help("add `control: unix:remit.sock` under `listen`"))
}

fn token_in(file: &Path) -> Result<String, Problem> {
    let text = fs::read_to_string(file).map_err(|e| Problem::new(format!("the token cannot be read: {e}")).at(file, None))?;
    Ok(text.trim().to_owned())
}

fn without_scheme(value: &Path) -> PathBuf {
    value.to_str().and_then(|v| v.strip_prefix("unix:")).map_or_else(|| value.to_path_buf(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> PathBuf {
        let dir = env::temp_dir().join(format!("remit-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("remit.yaml"), text).unwrap();
        dir.join("remit.yaml")
    }

    #[test]
    fn the_socket_is_the_configurations_relative_to_it() {
        let config = file("relative", "listen: {control: 'unix:run/remit.sock'}\nother: [broken to remit, fine to yaml]\n");
        assert_eq!(configured(&config).unwrap(), (Place::Socket(config.parent().unwrap().join("run/remit.sock")), None));
        let config = file("absolute", "listen:\n  control: unix:/run/remit.sock\n");
        assert_eq!(configured(&config).unwrap(), (Place::Socket("/run/remit.sock".into()), None));
        let config = file("both", "listen: {control: {unix: remit.sock, tcp: '127.0.0.1:9902', token: {file: t}}}\n");
        assert_eq!(configured(&config).unwrap(), (Place::Socket(config.parent().unwrap().join("remit.sock")), None));
        let config = file("port", "listen: {control: {tcp: '127.0.0.1:9902', token: {file: t}}}\n");
        assert_eq!(configured(&config).unwrap(), (Place::Port("127.0.0.1:9902".into()), Some(config.parent().unwrap().join("t"))));
        assert_eq!(Place::of(Path::new("http://127.0.0.1:9902/")), Place::Port("127.0.0.1:9902".into()));
    }

    #[test]
    fn a_configuration_without_a_socket_names_the_key_and_the_fix() {
        let config = file("without", "listen: {forward: '127.0.0.1:8080'}\n");
        let problem = configured(&config).unwrap_err().to_string();
        assert!(problem.contains("remit.yaml: listen.control: names no control socket; add `control:"), "{problem}");
        assert!(configured(Path::new("/nowhere/remit.yaml")).unwrap_err().message.contains("cannot be read"));
    }

    #[test]
    fn what_is_shown_cannot_steer_a_terminal() {
        assert_eq!(shown("a\u{1b}[31m\u{202e}b\nü"), "a\\u{1b}[31m\\u{202e}b\\u{a}ü");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "long cell".into(), "x".into()], vec!["bbb".into(), "c".into(), String::new()]];
        assert_eq!(table(&["ID", "WHAT", "Z"], &rows), "ID   WHAT       Z\na    long cell  x\nbbb  c\n");
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_says_what_to_do() {
        let client = Client::new("/nowhere/remit.sock".into(), None);
        let problem = client.send(Method::GET, "/v1/tasks", None).await.unwrap_err().to_string();
        assert!(problem.starts_with("/nowhere/remit.sock: ") && problem.contains("is Remit running?"), "{problem}");
    }
}
