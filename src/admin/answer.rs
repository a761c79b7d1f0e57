use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    authority::{Agent, EffectiveMode},
    call::Task,
    config::Status,
    refusal::{Reason, Refusal},
};

/// An error of the control API, as problem details (RFC 9457).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    status: StatusCode,
    detail: String,
    reason: Option<Reason>,
}

impl Answer {
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail: detail.into(), reason: None }
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, detail: detail.into(), reason: None }
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, detail: detail.into(), reason: None }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, detail: detail.into(), reason: None }
    }

    pub(super) fn no_such_method() -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, detail: "this path does not take this method".into(), reason: None }
    }

    pub(super) fn too_slow() -> Self {
        Self { status: StatusCode::REQUEST_TIMEOUT, detail: "the request took too long".into(), reason: None }
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, detail: detail.into(), reason: None }
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, detail: detail.into(), reason: None }
    }

    /// What was understood and cannot be done as it stands.
    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, detail: detail.into(), reason: None }
    }

    /// A start that was refused: 409 for a state that can change, 422 for what was asked.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let status = match refusal.reason {
            Reason::AgentSuspended | Reason::AgentRetired | Reason::AgentExpired | Reason::TaskEnded | Reason::TaskExpired => {
                StatusCode::CONFLICT
            }
            Reason::UnknownAgent | Reason::NotGranted | Reason::DelegationInvalid => StatusCode::UNPROCESSABLE_ENTITY,
            other => other.status(),
        };
        Self { status, detail: refusal.detail.to_string(), reason: Some(refusal.reason) }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Self { status, detail, reason } = self;
        let title = reason.map_or_else(|| status.canonical_reason().unwrap_or_default(), Reason::title);
        let mut body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
        if let (Some(reason), Some(object)) = (reason, body.as_object_mut()) {
            object.insert("type".into(), format!("urn:remit:refusal:{reason}").into());
            object.insert("reason".into(), reason.code().into());
        }
        let mut response = with_body(status, "application/problem+json", &body);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer in JSON that nobody may keep: it may hold a handle.
pub(super) fn json_body(status: StatusCode, body: &Value) -> Response {
    with_body(status, "application/json", body)
}

fn with_body(status: StatusCode, kind: &'static str, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body.to_string()).into_response()
}

/// A task as the API shows it.
pub(super) fn task(task: &Task, over: Option<Reason>) -> Value {
    let state = match over {
        None => "active",
        Some(Reason::TaskExpired) => "expired",
        Some(_) => "ended",
    };
    json!({
        "id": task.id.as_str(),
        "parent": task.parent.as_ref().map(|parent| parent.id.as_str()),
        "agent": task.agent.id,
        "workflow": task.workflow,
        "purpose": task.purpose,
        "principal": {"id": task.principal.id, "verified": task.principal.verified},
        "delegation": task.chain,
        "mode": task.mode.as_str(),
        "labels": task.labels.list(),
        "state": state,
        "started": stamp(task.started),
        "expires": stamp(task.expires()),
    })
}

/// An agent as the API shows it.
pub(super) fn agent(agent: &Agent, modes: &[(&str, EffectiveMode)], tasks: usize, now: OffsetDateTime) -> Value {
    let spec = &agent.spec;
    let status = match agent.status(now) {
        Some(Reason::AgentExpired) => "expired",
        _ => match agent.set_status() {
            Status::Active => "active",
            Status::Suspended => "suspended",
            Status::Retired => "retired",
        },
    };
    let workflows: Vec<Value> = modes
        .iter()
        .map(|(id, mode)| match mode.until {
            Some(until) => json!({"id": id, "mode": mode.mode.as_str(), "until": stamp(until)}),
            None => json!({"id": id, "mode": mode.mode.as_str()}),
        })
        .collect();
    json!({
        "id": spec.id,
        "owner": spec.owner,
        "status": status,
        "expires": spec.expires.map(stamp),
        "spiffe_id": spec.spiffe_id,
        "workflows": workflows,
        "delegates_to": spec.delegates_to,
        "tasks": tasks,
        "set": agent.known.change().map(|c| json!({"status": agent.known.status(), "by": c.by, "reason": c.reason, "at": stamp(c.at)})),
        "on_drift": agent.spec.on_drift,
        "drift": agent.known.attested().map(|_| agent.known.drift()),
        "attested": agent.known.reattested(spec.attested.as_ref()).map(|c| json!({"by": c.by, "reason": c.reason, "at": stamp(c.at)})),
        "registered": format!("{}:{}", spec.place.file.display(), spec.place.line),
    })
}

/// RFC 3339, to the millisecond.
pub(super) fn stamp(when: OffsetDateTime) -> String {
    let when = when.to_offset(time::UtcOffset::UTC);
    when.replace_millisecond(when.millisecond()).unwrap_or(when).format(&Rfc3339).unwrap_or_default()
}
