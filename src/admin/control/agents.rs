//! Agents: suspended, retired, resumed and attested while Remit runs. An operator's; on the record.

use std::{fmt, sync::Arc};

use axum::{
    body::Bytes,
    extract::{ConnectInfo, Path, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asker, Control, agent_view};
use crate::{
    admin::{
        answer::{Answer, json_body},
        peer::Peer,
    },
    authority::{Agent, Change, End, Registry},
    config::{Attested, Status},
};

/// Takes the kind and the data of an event.
pub type Note = dyn Fn(&str, &Value) -> bool + Send + Sync;

/// Where what an operator changes is put on record, and whether it outlasts the process.
#[derive(Clone)]
pub struct Ledger {
    /// Records an event, and says whether it is durable.
    pub note: Arc<Note>,
    /// There is a state file.
    pub lasts: bool,
}

impl Default for Ledger {
    /// Records nothing and keeps nothing: for tests.
    fn default() -> Self {
        Self { note: Arc::new(|_, _| true), lasts: false }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

/// What `PATCH /v1/agents/{id}` takes: a status, or what the agent was attested to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    status: Option<Wanted>,
    attested: Option<Attested>,
    /// Why; on the record.
    reason: Option<Box<str>>,
    /// The asker knows that it is forgotten when Remit starts again.
    #[serde(default)]
    until_restart: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Active,
    Suspended,
    Retired,
}

pub(super) async fn change(
    State(control): State<Control>,
    Path(id): Path<String>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    asker: Asker,
    body: Bytes,
) -> Result<Response, Answer> {
    asker.role.operator()?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Answer::unprocessable(format!("the change is not understood: {e}")),
        _ => Answer::bad_request(format!("the body is not JSON: {e}")),
    })?;
    if asked.reason.as_ref().is_some_and(|r| r.len() > 1024 || r.chars().any(char::is_control)) {
        return Err(Answer::unprocessable("reason: at most 1024 characters without line breaks are wanted"));
    }
    let registry = control.registry.load_full();
    let agent = registry.agent(&id).ok_or_else(|| Answer::not_found(format!("no agent `{id}` is registered")))?;
    lasting(&control.ledger, &asked)?;
    let change = Change { by: by(peer), reason: asked.reason, at: asker.now.utc };
    let ended = match (asked.status, asked.attested) {
        (Some(wanted), None) => set(&control, agent, wanted, change)?,
        (None, Some(attested)) => attest(&control, &registry, agent, attested, change)?,
        _ => return Err(Answer::unprocessable("either `status` or `attested` is wanted")),
    };
    let mut view = agent_view(&registry, agent, &control.tasks.active_by_agent(), asker.now);
    if let Some(view) = view.as_object_mut() {
        view.insert("tasks_ended".into(), ended.into());
    }
    Ok(json_body(StatusCode::OK, &view))
}

/// What would be forgotten must be meant to be.
fn lasting(ledger: &Ledger, asked: &Asked) -> Result<(), Answer> {
    match (ledger.lasts, asked.until_restart) {
        (false, false) => Err(Answer::conflict(
            "this would be forgotten when Remit starts again: it keeps its state in memory. Write it in the registry file, keep a \
             `state:` file, or say that it may be forgotten (--until-restart, `until_restart`)",
        )),
        (true, true) => Err(Answer::unprocessable("this Remit keeps its state in a file, so it lasts: leave out --until-restart")),
        _ => Ok(()),
    }
}

fn set(control: &Control, agent: &Agent, wanted: Wanted, change: Change) -> Result<usize, Answer> {
    let id = &agent.spec.id;
    let (status, name) = match wanted {
        Wanted::Active => (Status::Active, "active"),
        Wanted::Suspended => (Status::Suspended, "suspended"),
        Wanted::Retired => (Status::Retired, "retired"),
    };
    let place = || format!("{}:{}", agent.spec.place.file.display(), agent.spec.place.line);
    if agent.known.status() == Status::Retired && status != Status::Retired {
        return Err(Answer::conflict(format!("agent `{id}` was retired, which is for good: register another")));
    }
    if status == Status::Active && agent.spec.status != Status::Active {
        return Err(Answer::conflict(format!("the registry says that agent `{id}` may not act: change its `status` at {}", place())));
    }
    let mut data = json!({"agent": id, "status": name, "by": change.by, "reason": change.reason});
    if status == Status::Active {
        // What widens is on the record first, or does not happen.
        if !(control.ledger.note)("agent", &data) {
            return Err(unrecorded(&format!("agent `{id}` was not resumed")));
        }
        agent.known.set_status(status, change);
        return Ok(0);
    }
    agent.known.set_status(status, change);
    let ended = control.tasks.end_agent(id, End::Withdrawn);
    if let Some(data) = data.as_object_mut() {
        data.insert("tasks_ended".into(), ended.into());
    }
    if !(control.ledger.note)("agent", &data) {
        return Err(unrecorded(&format!("agent `{id}` is {name} and {ended} of its tasks have ended, but that")));
    }
    Ok(ended)
}

fn attest(control: &Control, registry: &Registry, agent: &Agent, attested: Attested, change: Change) -> Result<usize, Answer> {
    let id = &agent.spec.id;
    let data = json!({"agent": id, "attested": attested, "by": change.by, "reason": change.reason});
    if !(control.ledger.note)("attested", &data) {
        return Err(unrecorded(&format!("agent `{id}` was not attested")));
    }
    registry.attest(id, attested, change);
    Ok(0)
}

fn unrecorded(what: &str) -> Answer {
    Answer::unavailable(format!("{what}: the audit cannot be written"))
}

/// `uid 1000 (pid 4711)`, as the kernel says; over TCP there is only the token.
fn by(peer: Peer) -> Box<str> {
    match (peer.uid, peer.pid) {
        (Some(uid), Some(pid)) => format!("uid {uid} (pid {pid})").into(),
        (Some(uid), None) => format!("uid {uid}").into(),
        (None, _) => "the operator's token".into(),
    }
}
