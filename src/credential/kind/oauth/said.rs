//! What a server says when it gives nothing (RFC 6749 §5.2), and what to mend.

use http::StatusCode;
use serde_json::Value;

use super::{Form, client::Client, grant::Grant};
use crate::{config::Endpoint, credential::issue::Fault, fetch::Answer, jose::quoted};

/// What was being done.
pub(super) struct Doing<'a> {
    pub(super) at: &'a Endpoint,
    pub(super) form: &'a Form,
    pub(super) client: Option<&'a Client>,
    /// None: a revocation.
    pub(super) grant: Option<&'a Grant>,
}

/// The code of an error, where there is one.
pub(super) fn code(answer: &Answer) -> Option<String> {
    answer.json().ok()?.get("error")?.as_str().map(str::to_owned)
}

/// What an answer that gives nothing comes to.
pub(super) fn no(answer: &Answer, doing: &Doing<'_>) -> Fault {
    let (at, status) = (doing.at, answer.status);
    let Some(code) = code(answer) else {
        return if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE) {
            Fault::Refused(format!("{at}: it answered {status}: this is no endpoint of the server; look at its metadata"))
        } else {
            Fault::Unavailable(format!("{at}: it answered {status}, and not as an authorization server does"))
        };
    };
    if matches!(code.as_str(), "temporarily_unavailable" | "server_error" | "slow_down") {
        return Fault::Unavailable(format!("{at}: it says `{}`", quoted(&code)));
    }
    let described = description(answer, doing.form).map(|d| format!(" ({d})")).unwrap_or_default();
    Fault::Refused(format!("{at}: it says `{}`{described}: {}", quoted(&code), mend(&code, status, doing)))
}

fn mend(code: &str, status: StatusCode, doing: &Doing<'_>) -> String {
    let client = || match doing.client {
        None => "the configuration names no `client`, and this server wants one".to_owned(),
        Some(client) => format!("the client `{}` {}; look at how the server registered it, and at both clocks", client.id, client.how()),
    };
    match code {
        _ if status == StatusCode::UNAUTHORIZED => client(),
        "invalid_client" => client(),
        "unauthorized_client" | "unsupported_grant_type" => "the server does not let this client use this grant: allow it there".to_owned(),
        "invalid_scope" => "the server does not give one of these scopes, or not to this client: look at `scope`".to_owned(),
        "invalid_target" => "the server does not know this resource or audience, or not for this client: look at `scope`".to_owned(),
        "invalid_grant" | "invalid_request" => doing.grant.map_or_else(client, |grant| grant.mend().to_owned()),
        "access_denied" => "the server's own rules do not give this".to_owned(),
        _ => "look at the server's documentation".to_owned(),
    }
}

/// The server's own words, unless they repeat a part of a secret.
fn description(answer: &Answer, form: &Form) -> Option<String> {
    let body = answer.json().ok()?;
    let text = body.get("error_description").and_then(Value::as_str).filter(|t| !t.is_empty())?;
    let repeats = |secret: &str| secret.as_bytes().windows(8).any(|part| memchr::memmem::find(text.as_bytes(), part).is_some());
    let secret = |name: &str| {
        !matches!(name, "grant_type" | "scope" | "resource" | "audience" | "client_id" | "token_type_hint") && !name.ends_with("_type")
    };
    if form.fields.iter().any(|(name, value)| secret(name) && repeats(value.expose())) {
        return None;
    }
    // What a header carries is encoded: a server would repeat the secret in it.
    let basic = form.headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()?.strip_prefix("Basic "));
    let decoded = basic.and_then(|b| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, b).ok());
    let password = decoded.as_deref().and_then(|d| std::str::from_utf8(d).ok()?.split_once(':')).map(|(_, password)| password);
    let plain = password.map(|p| percent_encoding::percent_decode_str(p).decode_utf8_lossy().into_owned());
    if plain.as_deref().is_some_and(repeats) {
        return None;
    }
    Some(quoted(text))
}
