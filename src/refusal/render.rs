use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::ext::ReasonPhrase;

use super::{Reason, Refusal, form, text};
use crate::call::{DecisionId, ErrorForm, Head, Host, Intent, Task};

/// What is known of the refused call; little, when it was refused early.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    pub decision: DecisionId,
    /// How the provider's clients expect an error to be worded.
    pub form: ErrorForm,
    pub agent: Option<&'a str>,
    pub task: Option<&'a str>,
    /// Whom to ask.
    pub owner: Option<&'a str>,
    /// Ids of what was asked for.
    pub intents: Vec<&'a str>,
    /// A call without a task is asked for proxy credentials (407) instead of refused: true on the
    /// forward listener.
    pub proxy_auth: bool,
    /// A caller of the agent that is not known is asked for a token (401): true on the inbound listener.
    pub bearer_auth: bool,
    pub method: Option<&'a Method>,
    pub version: Version,
    pub host: Option<&'a Host>,
    pub headers: Option<&'a HeaderMap>,
    /// The request body, when it was read: a JSON-RPC error names the request that it answers.
    pub body: Option<&'a [u8]>,
}

impl<'a> Context<'a> {
    #[must_use]
    pub fn new(decision: DecisionId) -> Self {
        Self {
            decision,
            form: ErrorForm::default(),
            agent: None,
            task: None,
            owner: None,
            intents: Vec::new(),
            proxy_auth: false,
            bearer_auth: false,
            method: None,
            version: Version::HTTP_11,
            host: None,
            headers: None,
            body: None,
        }
    }

    #[must_use]
    pub fn with_head(self, head: &'a Head) -> Self {
        Self { method: Some(&head.method), version: head.version, host: Some(&head.to.host), headers: Some(&head.headers), ..self }
    }

    #[must_use]
    pub fn with_task(self, task: &'a Task) -> Self {
        Self { agent: Some(&task.agent.id), task: Some(task.id.as_str()), owner: Some(&task.agent.owner), ..self }
    }

    /// Also takes the form of the first intent's provider.
    #[must_use]
    pub fn with_intents(self, intents: &'a [Intent]) -> Self {
        let form = intents.first().map_or(self.form, |i| i.operation.provider.errors);
        Self { form, intents: intents.iter().map(Intent::id).collect(), ..self }
    }

    /// A request field's value, when it is text.
    pub(super) fn field(&self, name: &str) -> &'a str {
        self.headers.and_then(|h| h.get(name)).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// Whether the client asks for RFC 9457 problem details by name.
    pub(super) fn wants_problem(&self) -> bool {
        self.headers.is_some_and(|headers| {
            let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
            accepted.flat_map(|v| v.split(',')).any(|range| {
                let name = range.split(';').next().unwrap_or(range).trim();
                name.eq_ignore_ascii_case("application/problem+json")
            })
        })
    }

    /// The form of this answer. What the client asks for comes first, then what its protocol
    /// can carry, then the provider's.
    fn form(&self) -> ErrorForm {
        if self.wants_problem() {
            return ErrorForm::Problem;
        }
        if self.field("content-type").starts_with("application/grpc") {
            return ErrorForm::Grpc;
        }
        if self.form == ErrorForm::Problem && self.field("user-agent").starts_with("git/") {
            return ErrorForm::Git;
        }
        self.form
    }
}

/// A body and the fields that go with it.
#[derive(Debug)]
pub(super) struct Worded {
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) fields: Vec<(&'static str, String)>,
    /// The HTTP status, where the form has its own way to tell (gRPC: always 200).
    pub(super) status: Option<StatusCode>,
}

impl Worded {
    pub(super) fn new(content_type: &'static str, body: Vec<u8>) -> Self {
        Self { content_type, body, fields: Vec::new(), status: None }
    }

    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::new("application/json", value.to_string().into_bytes())
    }
}

/// The answer to a refused call: the one place where a refusal becomes a response.
#[must_use]
pub fn render(refusal: &Refusal, cx: &Context<'_>) -> Response<Bytes> {
    let asks_login = cx.proxy_auth && refusal.reason == Reason::NoTask;
    let asks_token = cx.bearer_auth && refusal.reason == Reason::NoTask;
    let status = match (asks_login, asks_token) {
        (true, _) => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        (false, true) => StatusCode::UNAUTHORIZED,
        (false, false) => refusal.status(),
    };
    let form = if asks_login && !cx.wants_problem() { ErrorForm::Plain } else { cx.form() };
    let worded = form::word(form, refusal, cx, status);

    let empty = cx.method == Some(&Method::HEAD);
    let mut response = Response::new(if empty { Bytes::new() } else { Bytes::from(worded.body) });
    *response.status_mut() = worded.status.unwrap_or(status);
    if cx.version < Version::HTTP_2 && worded.status.is_none() {
        // Clients that show only the status line show the reason too.
        let phrase = format!("{} by Remit: {}", status.canonical_reason().unwrap_or("Refused"), refusal.reason.code());
        if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
            response.extensions_mut().insert(phrase);
        }
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(worded.content_type));
    common(headers, refusal, cx.decision);
    if asks_login {
        headers.insert(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"remit\""));
    }
    if asks_token {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"remit\""));
    }
    if refusal.reason == Reason::AmbiguousRequest && cx.version < Version::HTTP_2 {
        // Where one request ends and the next begins may be what is ambiguous (RFC 9112 §6.1).
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in worded.fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Fields that every refusal carries.
fn common(headers: &mut HeaderMap, refusal: &Refusal, decision: DecisionId) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("remit-reason", HeaderValue::from_static(refusal.reason.code()));
    if let Ok(id) = HeaderValue::from_bytes(&decision.text()) {
        headers.insert("remit-decision", id);
    }
    match refusal.retry_after {
        Some(after) => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(text::seconds(after.max(Duration::from_secs(1)))));
        }
        None if !refusal.reason.may_retry() => {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        None => {}
    }
}
