//! `docs/control-api.yaml` against the router: every path, method, status and field is real, and
//! what asks for more than it may have is refused with its reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use remit::{
    admin::control::{Control, ControlSocket, Orchestrator, Proving, ROUTES, VerifyToken, serve, serve_tcp},
    authority::{NoEvents, Registry, RevokeLeases, Revoking, Tasks},
    call::{Mode, Principal, Task},
    clock::{Moment, SystemClock},
    config::Config,
    refusal::{Reason, Refusal},
    secret::Secret,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_util::sync::CancellationToken;

const REGISTRY: &str = r#"
version: 1
agents:
  - {id: lead, owner: o@acme.example, workflows: [work], delegates_to: [helper]}
  - {id: helper, owner: o@acme.example, workflows: [help]}
  - {id: stopped, owner: o@acme.example, workflows: [work], status: suspended}
workflows:
  - {id: work, purpose: p, max_lifetime: 30m, grants: [{intents: [github.*], effects: [read]}]}
  - {id: help, purpose: p, max_lifetime: 30m, grants: [{intents: [github.issues.*]}]}
"#;

const TOKEN: &str = "an-operators-token-of-some-length";

/// The API over a socket and a port.
struct Api {
    tasks: Arc<Tasks>,
    path: std::path::PathBuf,
    port: std::net::SocketAddr,
    spec: Value,
    /// (path, method) → the statuses that were answered.
    seen: parking_lot::Mutex<BTreeMap<(String, String), BTreeSet<u16>>>,
}

fn proven(principal: Principal) -> Orchestrator {
    Orchestrator { principal, token: None }
}

/// Takes `x.alice.y` for a token that proves alice.
struct ByMiddle;

impl VerifyToken for ByMiddle {
    fn principal<'a>(&'a self, token: &'a str, _: Moment) -> Proving<'a> {
        Box::pin(async move {
            match token.split('.').nth(1) {
                Some("alice") => Ok(proven(Principal { id: "alice".into(), verified: true, claims: json!({"team": "support"}) })),
                Some("unproven") => Ok(proven(Principal { id: "bob".into(), verified: false, claims: json!({}) })),
                _ => Err(Refusal::new(Reason::NoTask, "the token is not from a known issuer")),
            }
        })
    }
}

fn api(name: &str, verify: Option<Arc<dyn VerifyToken>>) -> Api {
    let dir = std::env::temp_dir().join(format!("remit-api-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let config = Config::parse(REGISTRY, &dir, std::path::Path::new("remit.yaml")).unwrap();
    let tasks = Arc::new(Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::from_secs(30)));
    let control = Control {
        leases: Default::default(),
        tasks: tasks.clone(),
        registry: Arc::new(ArcSwap::from_pointee(Registry::new(&config.registry, Mode::Enforce))),
        clock: Arc::new(SystemClock),
        proxy: Some("127.0.0.1:8080".parse().unwrap()),
        in_tls: None,
        not_below: None,
        token: Some(Arc::new(Secret::new(TOKEN.into()))),
        verify,
        ledger: Default::default(),
    };
    let path = dir.join("remit.sock");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap();
    tokio::spawn(serve(ControlSocket::bind(&path).unwrap(), control.clone(), CancellationToken::new()));
    tokio::spawn(serve_tcp(TcpListener::from_std(listener).unwrap(), control, CancellationToken::new()));
    let spec: Value = serde_yaml::from_str(include_str!("../docs/control-api.yaml")).unwrap();
    Api { tasks, path, port, spec, seen: parking_lot::Mutex::default() }
}

impl Api {
    /// Asks, and holds the answer to what the description says of it.
    async fn ask(&self, bearer: Option<&str>, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let stream = UnixStream::connect(&self.path).await.unwrap();
        let answer = exchange(stream, bearer, method, path, body).await;
        self.described(method, path, answer.0, &answer.1);
        answer
    }

    async fn over_tcp(&self, bearer: Option<&str>, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let stream = TcpStream::connect(self.port).await.unwrap();
        let answer = exchange(stream, bearer, method, path, body).await;
        self.described(method, path, answer.0, &answer.1);
        answer
    }

    fn described(&self, method: &str, path: &str, status: u16, body: &Value) {
        let Some(template) = template(path) else { return };
        let operation = &self.spec["paths"][template][method];
        if operation.is_null() {
            return assert_eq!(status, 405, "{method} {path}");
        }
        let response = self.resolved(&operation["responses"][status.to_string()]);
        assert!(response.is_object(), "{method} {template} answers {status}, which is not described: {body}");
        let content = response["content"].as_object().and_then(|kinds| kinds.values().next());
        match content {
            None => assert!(body.is_null(), "{method} {template} {status}: {body}"),
            Some(content) => self.fits(&content["schema"], body, template),
        }
        self.seen.lock().entry((template.into(), method.into())).or_default().insert(status);
    }

    fn resolved<'a>(&'a self, node: &'a Value) -> &'a Value {
        match node["$ref"].as_str() {
            None => node,
            Some(to) => self.spec.pointer(to.trim_start_matches('#')).unwrap_or_else(|| panic!("{to}")),
        }
    }

    /// Whether a value is as its schema says: no field too many, none too few, each of its type.
    fn fits(&self, schema: &Value, value: &Value, at: &str) {
        let schema = self.resolved(schema);
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(all) => all.iter().map(|t| t.as_str().unwrap()).collect(),
            _ => vec![],
        };
        let is = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(types.is_empty() || types.contains(&is), "{at}: {value} is no {types:?}");
        if let Some(all) = schema["enum"].as_array() {
            assert!(all.contains(value), "{at}: {value}");
        }
        if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
            for (name, field) in fields {
                self.fits(known.get(name).unwrap_or_else(|| panic!("{at}.{name} is not described")), field, &format!("{at}.{name}"));
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().unwrap()), "{at}: {name} is missing");
            }
        }
        for item in value.as_array().into_iter().flatten() {
            self.fits(&schema["items"], item, at);
        }
    }

    async fn start(&self, agent: &str) -> (String, String) {
        let (status, started) = self.ask(None, "post", "/v1/tasks", Some(new(agent))).await;
        assert_eq!(status, 201, "{started}");
        (started["id"].as_str().unwrap().into(), started["handle"].as_str().unwrap().into())
    }
}

fn new(agent: &str) -> Value {
    json!({"agent": agent, "workflow": "work", "principal": "alice", "lifetime": "5m"})
}

fn part() -> Value {
    json!({"agent": "helper", "workflow": "help"})
}

/// The described path that a request's path is one of.
fn template(path: &str) -> Option<&'static str> {
    let fits = |template: &str| {
        let (a, b): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        a.len() == b.len() && a.iter().zip(&b).all(|(t, p)| t == p || t.starts_with('{'))
    };
    ROUTES.iter().map(|(path, _)| *path).find(|t| fits(t))
}

async fn exchange<S>(mut stream: S, bearer: Option<&str>, method: &str, path: &str, body: Option<Value>) -> (u16, Value)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let body = body.map(|b| if let Value::String(raw) = &b { raw.clone() } else { b.to_string() }).unwrap_or_default();
    let claim = bearer.map(|b| format!("Authorization: Bearer {b}\r\n")).unwrap_or_default();
    let head = format!("{} {path} HTTP/1.1\r\nHost: remit\r\nConnection: close\r\n{claim}", method.to_uppercase());
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn what_is_described_is_what_is_routed() {
    let spec: Value = serde_yaml::from_str(include_str!("../docs/control-api.yaml")).unwrap();
    assert_eq!(spec["openapi"], "3.1.0");
    let described: BTreeMap<&str, BTreeSet<&str>> = spec["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| (path.as_str(), item.as_object().unwrap().keys().map(String::as_str).filter(|k| *k != "parameters").collect()))
        .collect();
    let routed: BTreeMap<&str, BTreeSet<&str>> = ROUTES.iter().map(|(path, methods)| (*path, methods.iter().copied().collect())).collect();
    assert_eq!(described, routed);
}

#[tokio::test]
async fn every_answer_is_one_that_is_described_and_every_described_answer_can_be_had() {
    let api = api("spec", Some(Arc::new(ByMiddle)));
    let (id, handle) = api.start("lead").await;
    let (other, _) = api.start("lead").await;
    let (own, delegate) = (format!("/v1/tasks/{id}"), format!("/v1/tasks/{id}/delegate"));
    for (bearer, method, path, body, want) in [
        (None, "get", "/v1/tasks", None, 200),
        (Some("nonsense"), "get", "/v1/tasks", None, 401),
        (Some(&*handle), "get", "/v1/tasks", None, 403),
        (None, "post", "/v1/tasks", Some(json!("{\"age")), 400),
        (Some("nonsense"), "post", "/v1/tasks", Some(new("lead")), 401),
        (Some(&*handle), "post", "/v1/tasks", Some(new("lead")), 403),
        (None, "post", "/v1/tasks", Some(new("stopped")), 409),
        (None, "post", "/v1/tasks", Some(new("nobody")), 422),
        (None, "get", &*own, None, 200),
        (Some("nonsense"), "get", &*own, None, 401),
        (Some(&*handle), "get", &format!("/v1/tasks/{other}"), None, 403),
        (None, "get", "/v1/tasks/t-none", None, 404),
        (None, "patch", &*own, Some(json!({"lifetime": "10m"})), 200),
        (None, "patch", &*own, Some(json!("[")), 400),
        (Some("nonsense"), "patch", &*own, Some(json!({"lifetime": "1m"})), 401),
        (Some(&*handle), "patch", &*own, Some(json!({"lifetime": "20m"})), 403),
        (None, "patch", "/v1/tasks/t-none", Some(json!({"lifetime": "1m"})), 404),
        (None, "patch", &*own, Some(json!({"lifetime": "31m"})), 422),
        (None, "post", &*delegate, Some(part()), 201),
        (None, "post", &*delegate, Some(json!("nothing")), 400),
        (Some("nonsense"), "post", &*delegate, Some(part()), 401),
        (Some(&*handle), "post", &format!("/v1/tasks/{other}/delegate"), Some(part()), 403),
        (None, "post", "/v1/tasks/t-none/delegate", Some(part()), 404),
        (None, "post", &*delegate, Some(json!({"agent": "lead", "workflow": "work"})), 422),
        (None, "get", "/v1/agents", None, 200),
        (Some("nonsense"), "get", "/v1/agents", None, 401),
        (Some(&*handle), "get", "/v1/agents", None, 403),
        (None, "get", "/v1/leases", None, 200),
        (Some("nonsense"), "get", "/v1/leases", None, 401),
        (Some(&*handle), "get", "/v1/leases", None, 403),
        (None, "get", "/v1/agents/lead", None, 200),
        (Some("nonsense"), "get", "/v1/agents/lead", None, 401),
        (Some(&*handle), "get", "/v1/agents/lead", None, 403),
        (None, "get", "/v1/agents/nobody", None, 404),
        (None, "patch", "/v1/agents/helper", Some(json!({"status": "suspended", "until_restart": true})), 200),
        (None, "patch", "/v1/agents/helper", Some(json!({"status": "active", "until_restart": true, "reason": "it was us"})), 200),
        (None, "patch", "/v1/agents/helper", Some(json!({"attested": {"models": ["m"]}, "until_restart": true})), 200),
        (None, "patch", "/v1/agents/helper", Some(json!("[")), 400),
        (Some("nonsense"), "patch", "/v1/agents/helper", Some(json!({"status": "active"})), 401),
        (Some(&*handle), "patch", "/v1/agents/lead", Some(json!({"attested": {}, "until_restart": true})), 403),
        (None, "patch", "/v1/agents/nobody", Some(json!({"status": "active", "until_restart": true})), 404),
        (None, "patch", "/v1/agents/helper", Some(json!({"status": "suspended"})), 409),
        (None, "patch", "/v1/agents/helper", Some(json!({"until_restart": true})), 422),
        (Some("nonsense"), "delete", &*own, None, 401),
        (Some(&*handle), "delete", &format!("/v1/tasks/{other}"), None, 403),
        (None, "delete", "/v1/tasks/t-none", None, 404),
        (Some(&*handle), "delete", &*own, None, 204),
        (None, "delete", &*own, None, 409),
        (None, "patch", &*own, Some(json!({"lifetime": "1m"})), 409),
        (None, "post", &*delegate, Some(part()), 409),
    ] {
        let (status, answer) = api.ask(bearer, method, path, body).await;
        assert_eq!(status, want, "{method} {path}: {answer}");
    }
    // 503 needs an audit that cannot be written, or a lease that cannot be revoked; 429 a thousand parts.
    let seen = api.seen.lock();
    for (path, item) in api.spec["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(m, _)| *m != "parameters") {
            let described = operation["responses"].as_object().unwrap().keys().map(|s| s.parse::<u16>().unwrap());
            let described: BTreeSet<u16> = described.filter(|s| *s != 503 && *s != 429).collect();
            assert_eq!(seen[&(path.clone(), method.clone())], described, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn what_an_agent_may_not_ask_for_is_refused_with_its_reason() {
    let api = api("agent", None);
    let (id, handle) = api.start("lead").await;
    let own = format!("/v1/tasks/{id}");
    let ask = async |method: &str, path: &str, body: Value| api.ask(Some(&handle), method, path, Some(body)).await;
    for (method, path, body, status, reason) in [
        ("post", "/v1/tasks", new("lead"), 403, "for an operator"),
        ("post", &*format!("{own}/delegate"), json!({"agent": "helper", "workflow": "help", "principal": "root"}), 422, "names nobody"),
        ("post", &*format!("{own}/delegate"), json!({"agent": "stopped", "workflow": "work"}), 422, "may not delegate"),
        (
            "post",
            &*format!("{own}/delegate"),
            json!({"agent": "helper", "workflow": "help", "grants": [{"intents": ["openai.*"]}]}),
            422,
            "not within what the workflow grants",
        ),
        ("patch", &*own, json!({"lifetime": "25m"}), 403, "an operator extends it"),
        ("post", "/v1/approvals/a-1", json!({"approve": true}), 403, "for an operator"),
        ("post", "/v1/agents/lead/attest", json!({}), 403, "for an operator"),
        ("delete", "/v1/agents/lead", json!({}), 405, "method"),
    ] {
        let (got, answer) = ask(method, path, body).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(reason), "{method} {path}: {answer}");
    }
    // What it may.
    assert_eq!(ask("patch", &own, json!({"lifetime": "1m"})).await.0, 200);
    let (status, started) = ask("post", &format!("{own}/delegate"), part()).await;
    assert_eq!(status, 201, "{started}");
    let below = format!("/v1/tasks/{}", started["id"].as_str().unwrap());
    let theirs = started["handle"].as_str().unwrap();
    assert_eq!(ask("get", &below, Value::Null).await.1["parent"], *id);
    assert_eq!(api.ask(Some(theirs), "get", &own, None).await.0, 403, "a part may not look up");
    assert_eq!(api.ask(Some(theirs), "delete", &own, None).await.0, 403);
    assert_eq!(ask("delete", &below, Value::Null).await.0, 204);
}

#[tokio::test]
async fn over_tcp_a_token_is_the_operator_and_nothing_is_nobody() {
    let api = api("tcp", None);
    let (status, started) = api.over_tcp(Some(TOKEN), "post", "/v1/tasks", Some(new("lead"))).await;
    assert_eq!(status, 201, "{started}");
    let handle = started["handle"].as_str().unwrap();
    let own = format!("/v1/tasks/{}", started["id"].as_str().unwrap());
    assert_eq!(api.over_tcp(Some(TOKEN), "get", "/v1/agents", None).await.0, 200);
    assert_eq!(api.over_tcp(Some(handle), "get", &own, None).await.0, 200);
    assert_eq!(api.over_tcp(Some(handle), "get", "/v1/tasks", None).await.0, 403);
    for wrong in [None, Some(""), Some("x"), Some(&TOKEN[1..])] {
        let (status, answer) = api.over_tcp(wrong, "get", "/v1/tasks", None).await;
        assert_eq!(status, 401, "{wrong:?}: {answer}");
    }
    assert_eq!(api.ask(Some(TOKEN), "get", "/v1/tasks", None).await.0, 401, "the token is the port's");
}

#[tokio::test]
async fn an_orchestrator_starts_tasks_for_whom_its_token_proves_and_nothing_else() {
    let api = api("orchestrator", Some(Arc::new(ByMiddle)));
    let token = Some("x.alice.y");
    let named = |principal: Option<&str>| match principal {
        Some(p) => json!({"agent": "lead", "workflow": "work", "principal": p}),
        None => json!({"agent": "lead", "workflow": "work"}),
    };
    for body in [named(None), named(Some("alice"))] {
        let (status, started) = api.over_tcp(token, "post", "/v1/tasks", Some(body)).await;
        assert_eq!(status, 201, "{started}");
        let task = api.tasks.by_handle(started["handle"].as_str().unwrap().as_bytes(), std::time::Instant::now()).unwrap().task;
        assert!(task.principal.verified && &*task.principal.id == "alice" && task.principal.claims["team"] == "support");
    }
    let (status, answer) = api.ask(token, "post", "/v1/tasks", Some(named(Some("bob")))).await;
    assert!(status == 403 && answer["detail"].as_str().unwrap().contains("proves alice and nobody else"), "{answer}");
    assert_eq!(api.ask(token, "get", "/v1/tasks", None).await.0, 403);
    for wrong in ["x.mallory.y", "x.unproven.y"] {
        assert_eq!(api.ask(Some(wrong), "post", "/v1/tasks", Some(named(None))).await.0, 401, "{wrong}");
    }
    let none = self::api("no-issuer", None);
    let (status, answer) = none.ask(token, "post", "/v1/tasks", Some(named(None))).await;
    assert!(status == 401 && answer["detail"].as_str().unwrap().contains("no issuer is configured"), "{answer}");
}

/// Revokes when it is told to.
struct Slow(CancellationToken);

impl RevokeLeases for Slow {
    fn revoke(&self, _: &Arc<Task>) -> Option<Revoking> {
        Some(Box::pin(self.0.clone().cancelled_owned()))
    }
}

#[tokio::test]
async fn an_end_is_answered_once_what_was_issued_is_revoked() {
    let api = Arc::new(api("revoke", None));
    let revoked = CancellationToken::new();
    api.tasks.revoke_by(Arc::new(Slow(revoked.clone())));
    let (id, _) = api.start("lead").await;
    let own = format!("/v1/tasks/{id}");
    assert_eq!(api.ask(None, "post", &format!("{own}/delegate"), Some(part())).await.0, 201);
    let ending = tokio::spawn({
        let (api, own) = (api.clone(), own.clone());
        async move { api.ask(None, "delete", &own, None).await.0 }
    });
    while api.tasks.active() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!ending.is_finished(), "it has ended, and what was issued for it is still of use");
    assert_eq!(api.ask(None, "get", &own, None).await.1["state"], "ended");
    revoked.cancel();
    assert_eq!(ending.await.unwrap(), 204);
}
