use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::json;

use super::{Answer, Asker, Control, json_body};

/// What is issued to tasks and neither revoked nor expired. Never the values.
pub(super) async fn list(State(control): State<Control>, asker: Asker) -> Result<Response, Answer> {
    asker.role.operator()?;
    Ok(json_body(StatusCode::OK, &json!({"leases": control.leases.list()})))
}
