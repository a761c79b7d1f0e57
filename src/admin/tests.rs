use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::{
    answer::Answer,
    control::{Control, ControlSocket},
    peer::{Known, Peer, Role},
    *,
};
use crate::{
    authority::{
        Registry,
        fixture::{House, agent, spec},
    },
    call::Mode,
    cli::control::Client,
    config::{AgentSpec, Status},
    secret::Secret,
};

async fn http(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_readiness_and_metrics_answer_over_tcp() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let readiness = Readiness::new();
    let (policies, audit) = (readiness.block("policies"), readiness.block("audit: the disk is full"));
    let refresh = Arc::new(|m: &Metrics| m.tasks_active.set(7));
    let admin = Admin { metrics, readiness: readiness.clone(), refresh };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let server = tokio::spawn(serve(listener, admin, shutdown.clone()));

    assert!(http(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let waiting = http(address, "/readyz").await;
    assert!(
        waiting.starts_with("HTTP/1.1 503") && waiting.ends_with("waiting for: policies\nwaiting for: audit: the disk is full\n"),
        "{waiting}"
    );
    policies.done();
    audit.done();
    assert!(http(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let _drain = readiness.block("drain");
    assert!(http(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    let scraped = http(address, "/metrics").await;
    assert!(scraped.contains("content-type: text/plain; version=0.0.4") && scraped.contains("\nremit_tasks_active 7\n"), "{scraped}");
    assert!(http(address, "/v1/tasks").await.starts_with("HTTP/1.1 404"), "the admin listener controls nothing");
    shutdown.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn idle_connections_keep_nobody_out_for_long_and_shutdown_cuts_them() {
    let admin = Admin { metrics: Arc::new(Metrics::new().unwrap()), readiness: Readiness::new(), refresh: Arc::new(|_: &Metrics| ()) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let server = tokio::spawn(serve(listener, admin, shutdown.clone()));
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(http(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
    for stream in &mut idle {
        assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
}

/// A control API over a socket of its own.
struct Live {
    house: House,
    path: PathBuf,
    registry: Arc<ArcSwap<Registry>>,
    shutdown: CancellationToken,
}

fn socket_path(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("remit-admin-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(format!("{name}.sock"))
}

impl Live {
    fn start(name: &str, not_below: Option<u32>) -> Self {
        let house = House::new();
        let path = socket_path(name);
        let registry = Arc::new(ArcSwap::from_pointee(Registry::new(&spec(), Mode::Enforce)));
        let control = Control {
            leases: Default::default(),
            tasks: house.tasks.clone(),
            registry: registry.clone(),
            clock: house.clock.clone(),
            proxy: Some("0.0.0.0:8080".parse().unwrap()),
            in_tls: None,
            not_below,
            ledger: Default::default(),
            token: None,
            verify: None,
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(control::serve(ControlSocket::bind(&path).unwrap(), control, shutdown.clone()));
        Self { house, path, registry, shutdown }
    }

    async fn send(&self, handle: Option<&str>, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let client = Client::new(self.path.clone(), handle.map(|h| Secret::new(h.to_string())));
        let reply = client.send(method, path, body.as_ref()).await.unwrap();
        (reply.status.as_u16(), reply.body)
    }

    async fn post(&self, body: Value) -> (u16, Value) {
        self.send(None, Method::POST, "/v1/tasks", Some(body)).await
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn triage() -> Value {
    json!({"agent": "triage-bot", "workflow": "triage-issues", "principal": "alice@acme.example"})
}

fn with(key: &str, value: Value) -> Value {
    let mut body = triage();
    body[key] = value;
    body
}

#[tokio::test]
async fn a_task_is_started_shown_and_ended() {
    let live = Live::start("life", None);
    let (status, started) = live.post(with("lifetime", json!("5m"))).await;
    assert_eq!(status, 201, "{started}");
    let (id, handle) = (started["id"].as_str().unwrap(), started["handle"].as_str().unwrap());
    assert_eq!(started["proxy"], format!("http://task:{handle}@127.0.0.1:8080"));
    let found = live.house.tasks.by_handle(handle.as_bytes(), live.house.now().instant).unwrap();
    assert_eq!(found.task.id.as_str(), id);
    assert_eq!(started["expires"], answer::stamp(found.task.expires()));

    let (status, all) = live.send(None, Method::GET, "/v1/tasks", None).await;
    assert_eq!((status, &all["tasks"][0]["id"], &all["tasks"][0]["state"]), (200, &json!(id), &json!("active")));
    assert_eq!(all["tasks"][0]["principal"], json!({"id": "alice@acme.example", "verified": false}));
    assert!(!all.to_string().contains(handle), "a handle is shown once");

    let path = format!("/v1/tasks/{id}");
    assert_eq!(live.send(None, Method::DELETE, &path, None).await, (204, Value::Null));
    assert!(found.task.ended.is_cancelled());
    assert_eq!(live.send(None, Method::GET, &path, None).await.1["state"], "ended");
    assert_eq!(live.send(None, Method::DELETE, &path, None).await.0, 409);
    assert_eq!(live.send(None, Method::GET, "/v1/tasks", None).await.1, json!({"tasks": []}));
}

#[tokio::test]
async fn what_cannot_start_says_why_as_problem_details() {
    let live = Live::start("refusals", None);
    for (body, status, named) in [
        (with("agent", json!("nobody")), 422, "`nobody`"),
        (with("agent", json!("idle-bot")), 422, "not bound"),
        (with("workflow", json!("missing")), 422, "`missing`"),
        (with("lifetime", json!("2h")), 422, "1800 s"),
        (with("lifetime", json!("soon")), 422, "`soon`"),
        (with("lifetime", json!("0s")), 422, "longer than zero"),
        (with("lifetime", json!("99999999999999999999s")), 422, "no duration"),
        (with("principal", json!("")), 422, "principal"),
        (with("principal", json!("a\u{1b}b")), 422, "principal"),
        (with("grants", json!([{"intents": ["openai.*"]}])), 422, "openai.*"),
        (with("scope", json!("all")), 422, "unknown field `scope`"),
        (json!({"agent": "triage-bot"}), 422, "missing field"),
        (json!([]), 422, "not understood"),
    ] {
        let (got, problem) = live.post(body.clone()).await;
        assert_eq!(got, status, "{body} {problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(named), "{body} {problem}");
    }
    assert!(live.house.tasks.list().is_empty());
    let (_, problem) = live.post(with("agent", json!("nobody"))).await;
    assert_eq!((&problem["type"], &problem["reason"]), (&json!("urn:remit:refusal:unknown_agent"), &json!("unknown_agent")));

    let mut all = spec();
    all.agents[0].status = Status::Suspended;
    live.registry.store(Arc::new(Registry::new(&all, Mode::Enforce)));
    assert_eq!(live.post(triage()).await.0, 409);
    live.registry.store(Arc::new(Registry::new(&spec(), Mode::Enforce)));
    *live.house.events.full.lock() = true;
    assert_eq!(live.post(triage()).await.0, 503);
}

#[tokio::test]
async fn what_is_not_json_or_not_there_is_answered_in_kind() {
    let live = Live::start("raw", None);
    let raw = async |request: &str| {
        let mut stream = UnixStream::connect(&live.path).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = raw("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n{\"age").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("application/problem+json") && answer.contains("cache-control: no-store"),
        "{answer}"
    );
    let twice = "{\"agent\":\"a\",\"agent\":\"triage-bot\",\"workflow\":\"w\",\"principal\":\"p\"}";
    let answer =
        raw(&format!("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{twice}", twice.len())).await;
    assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("duplicate field"), "{answer}");
    for (method, path, status) in [
        (Method::GET, "/v2/tasks", 404),
        (Method::GET, "/v1/tasks/t-none", 404),
        (Method::DELETE, "/v1/tasks/t-none", 404),
        (Method::GET, "/v1/agents/nobody", 404),
        (Method::PUT, "/v1/tasks", 405),
    ] {
        let (got, problem) = live.send(None, method, path, None).await;
        assert_eq!((got, &problem["status"]), (status, &json!(status)), "{path}");
    }
}

#[tokio::test]
async fn a_handle_shows_and_ends_its_own_task_and_nothing_else() {
    let live = Live::start("handle", None);
    let (own, handle) = live.house.start();
    let (other, _) = live.house.start();
    let ask = async |method: Method, path: &str| live.send(Some(&handle), method, path, None).await.0;
    let (own_path, other_path) = (format!("/v1/tasks/{}", own.id), format!("/v1/tasks/{}", other.id));
    assert_eq!(ask(Method::GET, &own_path).await, 200);
    for (method, path) in [
        (Method::GET, &*other_path),
        (Method::DELETE, &*other_path),
        (Method::GET, "/v1/tasks/t-none"),
        (Method::GET, "/v1/tasks"),
        (Method::GET, "/v1/agents"),
        (Method::GET, "/v1/agents/triage-bot"),
    ] {
        assert_eq!(ask(method, path).await, 403, "{path}");
    }
    let (status, problem) = live.send(Some(&handle), Method::POST, "/v1/tasks", Some(triage())).await;
    assert_eq!(status, 403, "a wider task is not its to start: {problem}");
    assert_eq!(live.send(Some("wrong"), Method::GET, &own_path, None).await.0, 401);
    assert_eq!(ask(Method::DELETE, &own_path).await, 204);
    assert!(own.ended.is_cancelled() && !other.ended.is_cancelled());
}

#[tokio::test]
async fn agents_are_listed_with_their_status_and_tasks() {
    let live = Live::start("agents", None);
    let mut all = spec();
    all.agents.push(AgentSpec { expires: Some(live.house.now().utc), ..agent("old-bot", &[]) });
    all.agents.push(AgentSpec { status: Status::Retired, ..agent("gone-bot", &[]) });
    live.registry.store(Arc::new(Registry::new(&all, Mode::Enforce)));
    live.house.start();
    let (_, body) = live.send(None, Method::GET, "/v1/agents", None).await;
    let seen: Vec<_> = body["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a["id"].as_str().unwrap(), a["status"].as_str().unwrap(), a["tasks"].as_u64().unwrap()))
        .collect();
    assert_eq!(seen, [("gone-bot", "retired", 0), ("idle-bot", "active", 0), ("old-bot", "expired", 0), ("triage-bot", "active", 1)]);
    let (_, one) = live.send(None, Method::GET, "/v1/agents/triage-bot", None).await;
    assert_eq!(one["workflows"], json!([{"id": "triage-issues", "mode": "enforce"}, {"id": "other", "mode": "enforce"}]));
    assert_eq!(one["registered"], "registry.yaml:1");
}

#[tokio::test]
async fn what_a_run_started_is_no_operator_though_its_uid_is_the_same() {
    let child_of = std::os::unix::process::parent_id();
    let live = Live::start("below", Some(child_of));
    let (status, problem) = live.post(triage()).await;
    assert_eq!(status, 403, "{problem}");
    let (task, handle) = live.house.start();
    assert_eq!(live.send(Some(&handle), Method::GET, &format!("/v1/tasks/{}", task.id), None).await.0, 200);
    drop(live);
    let live = Live::start("beside", Some(std::process::id()));
    assert_eq!(live.post(triage()).await.0, 201, "Remit itself is not below itself");
}

#[tokio::test]
async fn another_user_is_no_operator() {
    let house = House::new();
    let known = Known { tasks: &house.tasks, not_below: None, token: None, verify: None };
    let role = |uid, headers: &HeaderMap| {
        let asked = Role::of(Peer { uid, pid: Some(1), tcp: false }, headers, known, house.now());
        futures_util::FutureExt::now_or_never(asked).unwrap()
    };
    let none = HeaderMap::new();
    assert!(matches!(role(Some(0), &none), Ok(Role::Operator)));
    assert!(role(Some(4_000_000_000), &none).is_err());
    assert!(role(None, &none).is_err());
    let (_, handle) = house.start();
    let field = |text: &str| [("authorization".parse().unwrap(), HeaderValue::from_str(text).unwrap())].into_iter().collect::<HeaderMap>();
    assert!(matches!(role(Some(4_000_000_000), &field(&format!("bearer {handle}"))), Ok(Role::Handle(_))));
    for wrong in [format!("Basic {handle}"), handle.clone(), "Bearer ".into(), String::new()] {
        assert!(role(Some(0), &field(&wrong)).is_err(), "a wrong claim is not passed over: {wrong}");
    }
    let mut twice = field(&format!("Bearer {handle}"));
    twice.append("authorization", HeaderValue::from_static("Bearer x"));
    assert_eq!(role(Some(0), &twice).unwrap_err(), Answer::bad_request("several Authorization fields"));
}

#[tokio::test]
async fn the_socket_is_the_owners_alone_and_goes_with_the_server() {
    let path = socket_path("file");
    let socket = ControlSocket::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ControlSocket::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(socket);
    assert!(!path.exists());

    // one that a process before left is replaced, a file is not
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = ControlSocket::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "not ours").unwrap();
    drop(socket);
    assert!(path.exists(), "what took its place stays");
    assert_eq!(ControlSocket::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn shutting_down_stops_the_server_and_removes_the_socket() {
    let live = Live::start("shutdown", None);
    assert_eq!(live.post(triage()).await.0, 201);
    live.shutdown.cancel();
    let gone = async {
        while live.path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}
