//! The control API: HTTP and JSON over a Unix socket. `docs/tasks.md` describes it.

mod agents;
mod socket;

use std::{
    collections::HashMap,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, FromRequestParts, Path, State},
    http::{StatusCode, header::LOCATION, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    authority::{Agent, Registry, Start, Tasks},
    call::{Principal, TaskId},
    clock::{Clock, Moment},
};

use super::{
    answer::{self, Answer, json_body},
    peer::{Peer, Role},
};

pub use agents::Ledger;
pub use socket::ControlSocket;

/// What the control API works on.
#[derive(Clone)]
pub struct Control {
    pub tasks: Arc<Tasks>,
    /// Replaced on reload.
    pub registry: Arc<ArcSwap<Registry>>,
    pub clock: Arc<dyn Clock>,
    /// Where calls go: the forward listener, when there is one.
    pub proxy: Option<SocketAddr>,
    /// A process whose descendants are never operators: in `remit run`, Remit itself.
    pub not_below: Option<u32>,
    /// Where changes of agents are put on record.
    pub ledger: Ledger,
}

/// Serves the control API on `socket` until `shutdown`; then the socket is removed.
pub async fn serve(socket: ControlSocket, control: Control, shutdown: CancellationToken) {
    let routes = Router::new()
        .route("/v1/tasks", get(list_tasks).post(start_task))
        .route("/v1/tasks/{id}", get(show_task).delete(end_task))
        .route("/v1/agents", get(list_agents))
        .route("/v1/agents/{id}", get(show_agent).patch(agents::change))
        .fallback(async || Answer::not_found("the control API has no such path"))
        .method_not_allowed_fallback(async || Answer::no_such_method())
        .with_state(control);
    let (listener, _removed_at_the_end) = socket.into_parts();
    super::serve::serve(listener, routes, Peer::of, shutdown).await;
}

/// What `POST /v1/tasks` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTask {
    agent: Arc<str>,
    workflow: Arc<str>,
    principal: Arc<str>,
    /// `90s`, `5m`, `2h`; absent: the workflow's `max_lifetime`.
    lifetime: Option<String>,
    #[serde(default)]
    grants: Vec<Value>,
}

/// The role of who asks, and when.
struct Asker {
    role: Role,
    now: Moment,
}

impl FromRequestParts<Control> for Asker {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Answer> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map_or_else(Peer::default, |info| info.0);
        let now = control.clock.now();
        let role = Role::of(peer, &parts.headers, &control.tasks, control.not_below, now)?;
        Ok(Self { role, now })
    }
}

async fn start_task(State(control): State<Control>, asker: Asker, body: Bytes) -> Result<Response, Answer> {
    asker.role.operator()?;
    let new: NewTask = serde_json::from_slice(&body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Answer::unprocessable(format!("the task is not understood: {e}")),
        _ => Answer::bad_request(format!("the body is not JSON: {e}")),
    })?;
    if new.principal.trim().is_empty() || new.principal.len() > 256 || new.principal.chars().any(char::is_control) {
        return Err(Answer::unprocessable("principal: 1 to 256 characters that name who the task is for are wanted"));
    }
    let lifetime = new.lifetime.as_deref().map(lifetime).transpose()?;
    let principal = Principal { id: new.principal, verified: false, claims: json!({}) };
    let start = Start { lifetime, grants: new.grants, ..Start::new(new.agent, new.workflow, principal) };
    let registry = control.registry.load_full();
    let (task, handle) = control.tasks.start(&registry, start, asker.now).map_err(|refusal| Answer::refused(&refusal))?;
    let proxy = control.proxy.map(|address| format!("http://task:{}@{}", handle.expose(), reachable(address)));
    let body = json!({"id": task.id.as_str(), "handle": handle.expose(), "proxy": proxy, "expires": answer::stamp(task.expires())});
    Ok(([(LOCATION, format!("/v1/tasks/{}", task.id))], json_body(StatusCode::CREATED, &body)).into_response())
}

async fn list_tasks(State(control): State<Control>, asker: Asker) -> Result<Response, Answer> {
    asker.role.operator()?;
    let tasks: Vec<Value> = control.tasks.list().iter().map(|task| answer::task(task, task.over(asker.now.instant))).collect();
    Ok(json_body(StatusCode::OK, &json!({"tasks": tasks})))
}

async fn show_task(State(control): State<Control>, Path(id): Path<String>, asker: Asker) -> Result<Response, Answer> {
    let id = TaskId::from_text(&id);
    asker.role.may_touch(&id)?;
    let found = control.tasks.by_id(&id, asker.now.instant).ok_or_else(|| no_such_task(&id))?;
    Ok(json_body(StatusCode::OK, &answer::task(&found.task, found.over)))
}

async fn end_task(State(control): State<Control>, Path(id): Path<String>, asker: Asker) -> Result<Response, Answer> {
    let id = TaskId::from_text(&id);
    asker.role.may_touch(&id)?;
    if control.tasks.by_id(&id, asker.now.instant).is_none() {
        return Err(no_such_task(&id));
    }
    if !control.tasks.end(&id) {
        return Err(Answer::conflict(format!("task {id} has ended already")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_agents(State(control): State<Control>, asker: Asker) -> Result<Response, Answer> {
    asker.role.operator()?;
    let (registry, tasks) = (control.registry.load_full(), control.tasks.active_by_agent());
    let agents: Vec<Value> = registry.agents().into_iter().map(|agent| agent_view(&registry, agent, &tasks, asker.now)).collect();
    Ok(json_body(StatusCode::OK, &json!({"agents": agents})))
}

async fn show_agent(State(control): State<Control>, Path(id): Path<String>, asker: Asker) -> Result<Response, Answer> {
    asker.role.operator()?;
    let (registry, tasks) = (control.registry.load_full(), control.tasks.active_by_agent());
    let agent = registry.agent(&id).ok_or_else(|| Answer::not_found(format!("no agent `{id}` is registered")))?;
    Ok(json_body(StatusCode::OK, &agent_view(&registry, agent, &tasks, asker.now)))
}

fn agent_view(registry: &Registry, agent: &Agent, tasks: &HashMap<Arc<str>, usize>, now: Moment) -> Value {
    let id = &agent.spec.id;
    let modes: Vec<_> = agent.spec.workflows.iter().map(|w| (&**w, registry.mode(id, w, now.utc))).collect();
    answer::agent(agent, &modes, tasks.get(id).copied().unwrap_or(0), now.utc)
}

fn no_such_task(id: &TaskId) -> Answer {
    Answer::not_found(format!("no task `{id}` is known here"))
}

/// A duration as configurations write it.
fn lifetime(text: &str) -> Result<Duration, Answer> {
    let wrong = || Answer::unprocessable(format!("lifetime: `{text}` is no duration; write 90s, 5m, 2h or 1d"));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// A listener on every address is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(a) if a.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, address.port())
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("tasks", &self.tasks).field("proxy", &self.proxy).finish_non_exhaustive()
    }
}
