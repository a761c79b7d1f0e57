//! `/v1/tasks`: to start, show, hand over, change and end tasks.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    authority::{Delegate, Handle, Start},
    call::{Principal, Task, TaskId, TraceId},
    refusal::Refusal,
};

use super::{
    super::{
        answer::{self, Answer, json_body},
        peer::Role,
    },
    Asker, Control,
};

/// What `POST /v1/tasks` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTask {
    agent: Arc<str>,
    workflow: Arc<str>,
    /// An orchestrator's token says it.
    principal: Option<Arc<str>>,
    /// `90s`, `5m`, `2h`; absent: the workflow's `max_lifetime`.
    lifetime: Option<String>,
    #[serde(default)]
    grants: Vec<Value>,
    /// The trace whose calls are the task's (W3C Trace Context §3.2).
    traceparent: Option<String>,
}

/// What `POST /v1/tasks/{id}/delegate` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    agent: Arc<str>,
    workflow: Arc<str>,
    lifetime: Option<String>,
    #[serde(default)]
    grants: Vec<Value>,
    /// Nobody may name one: it is there to say so.
    #[serde(default)]
    principal: Option<Value>,
}

/// What `PATCH /v1/tasks/{id}` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// How long it shall last from now.
    lifetime: String,
}

/// How long one who ends a task waits for its leases to be revoked.
const REVOKING: Duration = Duration::from_secs(20);

pub(super) async fn start(State(control): State<Control>, asker: Asker, body: Bytes) -> Result<Response, Answer> {
    let proven = match &asker.role {
        Role::Orchestrator(proven) => Some(proven.clone()),
        role => role.operator().map(|()| None)?,
    };
    let new: NewTask = read("task", &body)?;
    let proof = proven.as_ref().and_then(|p| p.token.clone());
    let principal = principal(new.principal, proven.map(|p| p.principal))?;
    let lifetime = new.lifetime.as_deref().map(lifetime).transpose()?;
    let trace = new.traceparent.as_deref().map(trace).transpose()?;
    let start = Start { proof, lifetime, grants: new.grants, trace, ..Start::new(new.agent, new.workflow, principal) };
    let registry = control.registry.load_full();
    created(&control, control.tasks.start(&registry, start, asker.now))
}

pub(super) async fn delegate(
    State(control): State<Control>,
    Path(id): Path<String>,
    asker: Asker,
    body: Bytes,
) -> Result<Response, Answer> {
    let id = TaskId::from_text(&id);
    asker.role.may_touch(&id, &control.tasks, asker.now)?;
    let part: Part = read("part of the task", &body)?;
    if part.principal.is_some() {
        return Err(Answer::unprocessable("principal: a part of a task is for whom the task is for, and names nobody"));
    }
    if control.tasks.by_id(&id, asker.now.instant).is_none() {
        return Err(no_such_task(&id));
    }
    let lifetime = part.lifetime.as_deref().map(lifetime).transpose()?;
    let delegate = Delegate { agent: part.agent, workflow: part.workflow, lifetime, grants: part.grants };
    let registry = control.registry.load_full();
    created(&control, control.tasks.delegate(&registry, &id, delegate, asker.now))
}

pub(super) async fn list(State(control): State<Control>, asker: Asker) -> Result<Response, Answer> {
    asker.role.operator()?;
    let tasks: Vec<Value> = control.tasks.list().iter().map(|task| answer::task(task, task.over(asker.now.instant))).collect();
    Ok(json_body(StatusCode::OK, &json!({"tasks": tasks})))
}

pub(super) async fn show(State(control): State<Control>, Path(id): Path<String>, asker: Asker) -> Result<Response, Answer> {
    let id = TaskId::from_text(&id);
    asker.role.may_touch(&id, &control.tasks, asker.now)?;
    let found = control.tasks.by_id(&id, asker.now.instant).ok_or_else(|| no_such_task(&id))?;
    Ok(json_body(StatusCode::OK, &answer::task(&found.task, found.over)))
}

/// Moves a task's end: an operator within what the registry allows, a handle only to sooner.
pub(super) async fn change(State(control): State<Control>, Path(id): Path<String>, asker: Asker, body: Bytes) -> Result<Response, Answer> {
    let id = TaskId::from_text(&id);
    asker.role.may_touch(&id, &control.tasks, asker.now)?;
    let change: Change = read("change", &body)?;
    let lifetime = lifetime(&change.lifetime)?;
    let found = control.tasks.by_id(&id, asker.now.instant).ok_or_else(|| no_such_task(&id))?;
    if asker.now.later(lifetime).instant > found.task.deadline() {
        asker.role.operator().map_err(|_| Answer::forbidden("a task's handle may shorten its task; an operator extends it"))?;
    }
    let registry = control.registry.load_full();
    let changed = control.tasks.lasts(&registry, &id, lifetime, asker.now).map_err(|refusal| Answer::refused(&refusal))?;
    Ok(json_body(StatusCode::OK, &answer::task(&changed, changed.over(asker.now.instant))))
}

pub(super) async fn end(State(control): State<Control>, Path(id): Path<String>, asker: Asker) -> Result<Response, Answer> {
    let id = TaskId::from_text(&id);
    asker.role.may_touch(&id, &control.tasks, asker.now)?;
    if control.tasks.by_id(&id, asker.now.instant).is_none() {
        return Err(no_such_task(&id));
    }
    if !control.tasks.end(&id) {
        return Err(Answer::conflict(format!("task {id} has ended already")));
    }
    match tokio::time::timeout(REVOKING, control.tasks.revoked(&id)).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(_) => Err(Answer::unavailable("the task has ended; what was issued for it is still being revoked")),
    }
}

fn read<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Answer::unprocessable(format!("the {what} is not understood: {e}")),
        _ => Answer::bad_request(format!("the body is not JSON: {e}")),
    })
}

/// Whom the task is for: as an operator says, or as a token proves.
fn principal(said: Option<Arc<str>>, proven: Option<Principal>) -> Result<Principal, Answer> {
    match (said, proven) {
        (Some(said), Some(proven)) if said != proven.id => {
            Err(Answer::forbidden(format!("principal: the token proves {} and nobody else", proven.id)))
        }
        (_, Some(proven)) => Ok(proven),
        (Some(id), None) if !id.trim().is_empty() && id.len() <= 256 && !id.chars().any(char::is_control) => {
            Ok(Principal { id, verified: false, claims: json!({}) })
        }
        _ => Err(Answer::unprocessable("principal: 1 to 256 characters that name who the task is for are wanted")),
    }
}

fn created(control: &Control, started: Result<(Arc<Task>, Handle), Refusal>) -> Result<Response, Answer> {
    let (task, handle) = started.map_err(|refusal| Answer::refused(&refusal))?;
    let proxy = control.proxy.map(|address| match &control.in_tls {
        None => format!("http://task:{}@{}", handle.expose(), reachable(address)),
        Some(name) => format!("https://task:{}@{name}:{}", handle.expose(), address.port()),
    });
    let body = json!({"id": task.id.as_str(), "handle": handle.expose(), "proxy": proxy, "expires": answer::stamp(task.expires())});
    Ok(([(LOCATION, format!("/v1/tasks/{}", task.id))], json_body(StatusCode::CREATED, &body)).into_response())
}

fn no_such_task(id: &TaskId) -> Answer {
    Answer::not_found(format!("no task `{id}` is known here"))
}

fn trace(text: &str) -> Result<TraceId, Answer> {
    TraceId::of_traceparent(text).ok_or_else(|| Answer::unprocessable("traceparent: it is no W3C trace context"))
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
