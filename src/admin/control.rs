//! The control API: HTTP and JSON over a Unix socket. `docs/tasks.md` describes it.

mod agents;
mod leases;
mod socket;
mod task;

use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{ConnectInfo, FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    authority::{Agent, Registry, Tasks},
    clock::{Clock, Moment},
    credential::Leases,
    secret::Secret,
};

use super::{
    answer::{self, Answer, json_body},
    peer::{Known, Peer, Role},
};

pub use super::peer::{Orchestrator, Proving, VerifyToken};
pub use agents::{Ledger, Note};
pub use socket::ControlSocket;

/// What the control API works on.
#[derive(Clone)]
pub struct Control {
    pub tasks: Arc<Tasks>,
    /// Replaced on reload.
    pub registry: Arc<ArcSwap<Registry>>,
    /// What is issued to tasks.
    pub leases: Leases,
    pub clock: Arc<dyn Clock>,
    /// Where calls go: the forward listener, when there is one.
    pub proxy: Option<SocketAddr>,
    /// The name under which clients reach that in TLS; None: it speaks plain HTTP.
    pub in_tls: Option<Arc<str>>,
    /// A process whose descendants are never operators: in `remit run`, Remit itself.
    pub not_below: Option<u32>,
    /// Where changes of agents are put on record.
    pub ledger: Ledger,
    /// What stands for the operator over TCP.
    pub token: Option<Arc<Secret<String>>>,
    /// Proves whom an orchestrator acts for; None: nobody is one.
    pub verify: Option<Arc<dyn VerifyToken>>,
}

/// Every path with its methods. `docs/control-api.yaml` describes them; a test compares.
pub const ROUTES: [(&str, &[&str]); 6] = [
    ("/v1/tasks", &["get", "post"]),
    ("/v1/tasks/{id}", &["get", "patch", "delete"]),
    ("/v1/tasks/{id}/delegate", &["post"]),
    ("/v1/agents", &["get"]),
    ("/v1/agents/{id}", &["get", "patch"]),
    ("/v1/leases", &["get"]),
];

/// Serves the control API on `socket` until `shutdown`; then the socket is removed.
pub async fn serve(socket: ControlSocket, control: Control, shutdown: CancellationToken) {
    let (listener, _removed_at_the_end) = socket.into_parts();
    super::serve::serve(listener, routes(control), Peer::of, shutdown).await;
}

/// Serves it on a loopback port, to who presents a token, until `shutdown`.
pub async fn serve_tcp(listener: TcpListener, control: Control, shutdown: CancellationToken) {
    super::serve::serve(listener, routes(control), |_| Peer::over_tcp(), shutdown).await;
}

fn routes(control: Control) -> Router {
    Router::new()
        .route("/v1/tasks", get(task::list).post(task::start))
        .route("/v1/tasks/{id}", get(task::show).patch(task::change).delete(task::end))
        .route("/v1/tasks/{id}/delegate", post(task::delegate))
        .route("/v1/agents", get(list_agents))
        .route("/v1/agents/{id}", get(show_agent).patch(agents::change))
        .route("/v1/leases", get(leases::list))
        .fallback(nowhere)
        .method_not_allowed_fallback(async || Answer::no_such_method())
        .with_state(control)
}

/// A handle learns that it may not before it learns that there is no such path.
async fn nowhere(asker: Asker) -> Answer {
    match asker.role.operator() {
        Ok(()) => Answer::not_found("the control API has no such path"),
        Err(answer) => answer,
    }
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
        let (token, verify) = (control.token.as_deref(), control.verify.as_deref());
        let known = Known { tasks: &control.tasks, not_below: control.not_below, token, verify };
        let role = Role::of(peer, &parts.headers, known, now).await?;
        Ok(Self { role, now })
    }
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

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("tasks", &self.tasks).field("proxy", &self.proxy).finish_non_exhaustive()
    }
}
