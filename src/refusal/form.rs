use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    PERSISTED_QUERY_NOT_FOUND, Reason, Refusal, aws,
    render::{Context, Worded},
    text::{message, next, shown},
};
use crate::call::ErrorForm;

/// Words a refusal in `form`.
pub(super) fn word(form: ErrorForm, refusal: &Refusal, cx: &Context<'_>, status: StatusCode) -> Worded {
    let message = message(refusal, cx);
    match form {
        ErrorForm::Problem => problem(refusal, cx, status, &message),
        ErrorForm::Github => Worded::json(&json!({
            "message": message, "status": status.as_str(), "reason": refusal.reason, "decision": cx.decision.to_string(),
        })),
        ErrorForm::Openai => Worded::json(&json!({
            "error": {"message": message, "type": openai_type(status), "param": null, "code": refusal.reason},
        })),
        ErrorForm::Anthropic => Worded::json(&json!({
            "type": "error",
            "error": {"type": anthropic_type(status), "message": message},
            "request_id": cx.decision.to_string(),
        })),
        ErrorForm::Aws => aws::word(cx, status, &message),
        ErrorForm::Google => google(refusal, cx, status, &message),
        ErrorForm::Slack => Worded::json(&json!({"ok": false, "error": refusal.reason, "detail": message})),
        ErrorForm::Npm => Worded::json(&json!({"error": message, "reason": refusal.reason})),
        ErrorForm::Jsonrpc => Worded::json(&jsonrpc(refusal, cx, status, &message)),
        ErrorForm::Graphql => Worded::json(&json!({
            "errors": [{"message": message, "type": refusal.reason, "extensions": {"code": graphql_code(refusal), "decision": cx.decision.to_string()}}],
            // Clients that look at the status first show this one.
            "message": message,
        })),
        ErrorForm::Grpc => grpc(refusal, cx, status, &message),
        ErrorForm::Git => git(cx, &message),
        ErrorForm::Plain => Worded::new("text/plain; charset=utf-8", format!("{message}\n").into_bytes()),
    }
}

/// The reason; or what tells a client of persisted queries to send its document along.
fn graphql_code(refusal: &Refusal) -> &str {
    if refusal.detail.starts_with(PERSISTED_QUERY_NOT_FOUND) { "PERSISTED_QUERY_NOT_FOUND" } else { refusal.reason.code() }
}

/// RFC 9457 problem details. To a client that did not ask for them by name, the members `message`
/// and `error` repeat the whole text, because generic clients print one or the other.
fn problem(refusal: &Refusal, cx: &Context<'_>, status: StatusCode, message: &str) -> Worded {
    let mut value = details(refusal, cx, status);
    if !cx.wants_problem() {
        value.insert("message".into(), message.into());
        value.insert("error".into(), message.into());
    }
    Worded::new("application/problem+json", Value::Object(value).to_string().into_bytes())
}

fn details(refusal: &Refusal, cx: &Context<'_>, status: StatusCode) -> Map<String, Value> {
    let mut value = Map::new();
    let mut put = |key: &str, member: Value| value.insert(key.into(), member);
    put("type", format!("urn:remit:refusal:{}", refusal.reason.code()).into());
    put("title", refusal.reason.title().into());
    put("status", status.as_u16().into());
    put("reason", refusal.reason.code().into());
    put("detail", shown(&refusal.detail).into());
    put("decision", cx.decision.to_string().into());
    for (key, text) in [("agent", cx.agent), ("task", cx.task)] {
        if let Some(text) = text {
            put(key, text.into());
        }
    }
    put("intents", cx.intents.iter().copied().collect());
    put("reasons", refusal.reasons.iter().map(|r| shown(r)).collect());
    put("next", next(refusal, cx).into());
    value
}

fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "permission_error",
        407 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "permission_error",
        407 => "authentication_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The gRPC status code for a refusal, and its name.
fn rpc_code(status: StatusCode) -> (u8, &'static str) {
    match status.as_u16() {
        403 => (7, "PERMISSION_DENIED"),
        407 => (16, "UNAUTHENTICATED"),
        413 | 429 => (8, "RESOURCE_EXHAUSTED"),
        504 => (4, "DEADLINE_EXCEEDED"),
        500.. => (14, "UNAVAILABLE"),
        _ => (3, "INVALID_ARGUMENT"),
    }
}

fn google(refusal: &Refusal, cx: &Context<'_>, status: StatusCode, message: &str) -> Worded {
    Worded::json(&json!({"error": {
        "code": status.as_u16(),
        "message": message,
        "status": rpc_code(status).1,
        "errors": [{"message": message, "domain": "remit", "reason": refusal.reason}],
        "details": [{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": refusal.reason.code().to_ascii_uppercase(),
            "domain": "remit",
            "metadata": {"decision": cx.decision.to_string()},
        }],
    }}))
}

/// JSON-RPC 2.0 §5.1: an error for each request that was made, so that each caller is told. A
/// notification has no id; when nothing has, the id is null.
fn jsonrpc(refusal: &Refusal, cx: &Context<'_>, status: StatusCode, message: &str) -> Value {
    // The codes from -32000 to -32099 are the server's own; one that cannot be read is -32600.
    let code = if refusal.reason == Reason::AmbiguousRequest { -32600 } else { -32000 };
    let error = |id: Value| {
        let data = Value::Object(details(refusal, cx, status));
        json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": data}})
    };
    let id_of = |request: &Value| request.get("id").filter(|id| id.is_string() || id.is_number()).cloned();
    match cx.body.and_then(|b| serde_json::from_slice(b).ok()) {
        Some(Value::Array(batch)) if batch.iter().any(|r| id_of(r).is_some()) => batch.iter().filter_map(id_of).map(error).collect(),
        Some(request) => error(id_of(&request).unwrap_or(Value::Null)),
        None => error(Value::Null),
    }
}

/// git shows the text of a refused `info/refs`. Of a refused POST it shows nothing but the status, so
/// that one is answered in its own protocol: a push on the side band for fatal errors, a fetch with
/// an `ERR` line (gitprotocol-pack, gitprotocol-common). Not while git still sends: it reads no
/// answer before its end then, but stops at an error.
fn git(cx: &Context<'_>, message: &str) -> Worded {
    let (content_type, before) = match cx.field("content-type") {
        _ if cx.body.is_none() => return Worded::new("text/plain; charset=utf-8", format!("{message}\n").into_bytes()),
        "application/x-git-receive-pack-request" => ("application/x-git-receive-pack-result", "\u{3}"),
        "application/x-git-upload-pack-request" => ("application/x-git-upload-pack-result", "ERR "),
        _ => return Worded::new("text/plain; charset=utf-8", format!("{message}\n").into_bytes()),
    };
    let mut end = message.len().min(8000);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let line = format!("{before}{}\n", message.get(..end).unwrap_or(""));
    let mut worded = Worded::new(content_type, format!("{:04x}{line}0000", line.len() + 4).into_bytes());
    worded.status = Some(StatusCode::OK);
    worded
}

/// A gRPC response that is only trailers: they stand in the one header block, and there is no
/// body. The message is percent-encoded.
fn grpc(refusal: &Refusal, cx: &Context<'_>, status: StatusCode, message: &str) -> Worded {
    let content_type =
        if cx.field("content-type").starts_with("application/grpc-web") { "application/grpc-web" } else { "application/grpc" };
    let mut worded = Worded::new(content_type, Vec::new());
    worded.status = Some(StatusCode::OK);
    worded.fields.push(("grpc-status", rpc_code(status).0.to_string()));
    worded.fields.push(("grpc-message", grpc_message(message)));
    if !refusal.reason.may_retry() && refusal.retry_after.is_none() {
        // Tells the client's retry policy not to.
        worded.fields.push(("grpc-retry-pushback-ms", "-1".into()));
    }
    worded
}

/// As gRPC's HTTP/2 mapping writes `Status-Message`: printable ASCII but `%` as it is. Cut at
/// 2,000 bytes, since clients bound the size of a header block.
fn grpc_message(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().take(2000).fold(String::with_capacity(text.len()), |mut out, byte| {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests;
