//! What is written about a call, a task, an event.

use std::borrow::Cow;

use http::Method;
use serde_json::Value;
use time::OffsetDateTime;

use super::{line, text};
use crate::{
    call::{
        Caller, DecisionId, Destination, Intent, Lease, LimitRule, Listener, Mode, Outcome, Param, Path, Returns, Task, TaskId, TraceId,
        Unit, Verdict, Window,
    },
    refusal::Reason,
};

/// Parameters are written up to this many bytes; of longer ones the start, their length and their SHA-256.
pub const LONGEST_PARAMETER: usize = 256;

/// Sentences (reasons, purposes) are written up to this many bytes.
const LONGEST_SENTENCE: usize = 1024;

/// What was decided about a call, before it is sent. Borrowed from the call; what is not known
/// (an unidentified caller, a malformed request) is None.
#[derive(Debug, Clone, Copy)]
pub struct DecisionRecord<'a> {
    pub id: DecisionId,
    pub time: OffsetDateTime,
    /// The `traceparent` field as it came (W3C Trace Context §3.2); its trace id is written when it has one.
    pub traceparent: Option<&'a str>,
    pub mode: Mode,
    pub listener: Listener,
    /// Agent, task and how the caller showed them.
    pub caller: Option<&'a Caller>,
    pub method: Option<&'a Method>,
    pub to: Option<&'a Destination>,
    pub path: Option<&'a Path>,
    pub intents: &'a [Intent],
    pub verdict: Verdict,
    /// The reason code, when the verdict is not `allow`.
    pub code: Option<Reason>,
    pub reasons: &'a [Box<str>],
    pub approval: Option<&'a Value>,
    /// The revision of the policies and registry that decided.
    pub revision: &'a str,
    pub cached: bool,
    pub lease: Option<&'a Lease>,
    /// What the lease was narrowed to.
    pub scope: Option<&'a Value>,
    /// What its answer may hold that else does not reach the agent.
    pub returns: Returns,
    /// The grants that allow it, as [`crate::call::Decision::grants`] has them.
    pub grants: &'a [Box<str>],
    /// What was taken from: one for each, or `tokens` where it counts those.
    pub limits: &'a [LimitRule],
    pub tokens: Option<u64>,
    /// Whether the agent's own login passes (credential kind `own`, `mode: observe`).
    pub own_login: bool,
    /// The delegation token that came with the call, or goes with it.
    pub passed: Option<Passed<'a>>,
}

/// Which delegation token passed between two agents: the same `jti` stands on both records.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'a> {
    pub jti: &'a str,
    /// The SPIFFE ID of the agent that handed it over, on the record of who was handed it.
    pub from: Option<&'a str>,
    /// The SPIFFE ID of the agent that it was for, on the record of who handed it over.
    pub to: Option<&'a str>,
}

/// A task's start, with what every call of it shares, or its end.
#[derive(Debug, Clone, Copy)]
pub enum TaskRecord<'a> {
    Started(&'a Task),
    /// The reason in words: `ended by its handle`, `expired`.
    Ended {
        task: &'a TaskId,
        why: &'a str,
    },
}

/// Appends `,"NAME":` in one piece.
macro_rules! key {
    ($out:expr, $name:literal) => {
        $out.extend_from_slice(concat!(",\"", $name, "\":").as_bytes())
    };
}

/// Appends a member whose value needs no escape.
macro_rules! plain {
    ($out:expr, $name:literal, $value:expr) => {{
        $out.extend_from_slice(concat!(",\"", $name, "\":\"").as_bytes());
        $out.extend_from_slice($value.as_bytes());
        $out.push(b'"');
    }};
}

/// Appends a member that is a text.
macro_rules! field {
    ($out:expr, $name:literal, $value:expr) => {{
        key!($out, $name);
        text::string($out, $value);
    }};
}

/// Appends a member that is a whole number.
macro_rules! count {
    ($out:expr, $name:literal, $value:expr) => {{
        key!($out, $name);
        text::number($out, $value);
    }};
}

/// Appends the body of a `decision` record.
pub(super) fn decision(out: &mut Vec<u8>, r: &DecisionRecord<'_>) {
    out.extend_from_slice(b"{\"kind\":\"decision\",\"id\":\"");
    out.extend_from_slice(&r.id.text());
    out.extend_from_slice(b"\",\"time\":");
    text::time(out, r.time);
    if let Some(trace) = r.traceparent.and_then(TraceId::text_in) {
        plain!(out, "trace", trace);
    }
    plain!(out, "mode", r.mode.as_str());
    plain!(out, "listener", r.listener.as_str());
    match r.caller {
        Some(caller) => {
            plain!(out, "how", caller.how.as_str());
            if let Some(proof) = &caller.proof {
                field!(out, "identity", &proof.identity.to_string());
            }
            field!(out, "agent", &caller.task.agent.id);
            field!(out, "task", caller.task.id.as_str());
            if !caller.drift.is_empty() {
                key!(out, "drift");
                text::list(out, b"[]", caller.drift.iter(), |out, d| sentence(out, d));
            }
        }
        None => out.extend_from_slice(b",\"agent\":null,\"task\":null"),
    }
    if let Some(passed) = r.passed {
        out.extend_from_slice(b",\"delegation\":{\"jti\":");
        text::string(out, passed.jti);
        for (name, id) in [("from", passed.from), ("to", passed.to)] {
            let Some(id) = id else { continue };
            out.push(b',');
            text::string(out, name);
            out.push(b':');
            text::string(out, id);
        }
        out.push(b'}');
    }
    request(out, r);
    // A refusal for a credential in the request must not put that credential on record.
    let redact = r.code == Some(Reason::ForeignCredential);
    key!(out, "intents");
    text::list(out, b"[]", r.intents.iter(), |out, i| intent(out, i, redact));
    verdict(out, r);
    out.push(b'}');
}

/// Appends the body of an `outcome` record. `micros` is what the call took.
pub(super) fn outcome(out: &mut Vec<u8>, o: &Outcome, time: OffsetDateTime, micros: u128) {
    out.extend_from_slice(b"{\"kind\":\"outcome\",\"id\":\"");
    out.extend_from_slice(&o.id.text());
    out.extend_from_slice(b"\",\"time\":");
    text::time(out, time);
    plain!(out, "outcome", if o.complete { "complete" } else { "incomplete" });
    key!(out, "status");
    status(out, o.status);
    key!(out, "upstream");
    status(out, o.upstream);
    if let Some(reason) = o.reason {
        plain!(out, "reason", reason.code());
    }
    count!(out, "bytes_up", o.bytes_up);
    count!(out, "bytes_down", o.bytes_down);
    if let Some(sum) = o.body_sha256 {
        key!(out, "body_sha256");
        out.push(b'"');
        text::hex(out, &sum);
        out.push(b'"');
    }
    if o.scrubbed > 0 {
        count!(out, "scrubbed", u64::from(o.scrubbed));
    }
    if let Some(what) = o.withheld.named() {
        plain!(out, "withheld", what);
    }
    key!(out, "ms");
    text::millis(out, micros);
    out.push(b'}');
}

/// Appends the body of the outcome of a call whose process died; `id` and `chain` as they stand in its log.
pub(super) fn unknown_outcome(out: &mut Vec<u8>, id: &line::CallId, chain: &str, time: OffsetDateTime) {
    out.extend_from_slice(b"{\"kind\":\"outcome\",\"id\":\"");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\",\"time\":");
    text::time(out, time);
    plain!(out, "outcome", "unknown");
    plain!(out, "chain", chain);
    out.push(b'}');
}

/// Appends the body of a `task` record.
pub(super) fn task(out: &mut Vec<u8>, record: &TaskRecord<'_>, time: OffsetDateTime) {
    start(out, "task", time);
    match record {
        TaskRecord::Started(task) => {
            plain!(out, "event", "started");
            field!(out, "id", task.id.as_str());
            if let Some(parent) = &task.parent {
                field!(out, "parent", parent.id.as_str());
            }
            if let Some(trace) = task.trace {
                field!(out, "trace", &trace.to_string());
            }
            plain!(out, "mode", task.mode.as_str());
            field!(out, "agent", &task.agent.id);
            if let Some(spiffe) = &task.agent.spiffe_id {
                field!(out, "spiffe_id", spiffe);
            }
            field!(out, "workflow", &task.workflow);
            key!(out, "purpose");
            sentence(out, &task.purpose);
            key!(out, "principal");
            text::value(out, &serde_json::to_value(&task.principal).unwrap_or_default());
            key!(out, "delegation");
            text::value(out, &serde_json::to_value(&task.chain).unwrap_or_default());
            key!(out, "expires");
            text::time(out, task.expires());
        }
        TaskRecord::Ended { task, why } => {
            plain!(out, "event", "ended");
            field!(out, "id", task.as_str());
            key!(out, "why");
            sentence(out, why);
        }
    }
    out.push(b'}');
}

/// Appends the body of a record with a time and members of `data` beside them.
pub(super) fn event(out: &mut Vec<u8>, kind: &str, data: &Value, time: OffsetDateTime) {
    start(out, "event", time);
    field!(out, "event", kind);
    if !data.is_null() {
        key!(out, "data");
        text::value(out, data);
    }
    out.push(b'}');
}

/// Appends `{"kind":"…","time":"…"`, without the closing brace.
pub(super) fn start(out: &mut Vec<u8>, kind: &str, time: OffsetDateTime) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"time\":");
    text::time(out, time);
}

/// Appends the start of a signed record, which names its chain: a file's first line is not hashed.
pub(super) fn signed(out: &mut Vec<u8>, kind: &str, chain: &str, time: OffsetDateTime) {
    start(out, kind, time);
    plain!(out, "chain", chain);
}

fn request(out: &mut Vec<u8>, r: &DecisionRecord<'_>) {
    if let Some(method) = r.method {
        field!(out, "method", method.as_str());
    }
    if let Some(to) = r.to {
        plain!(out, "scheme", to.scheme.as_str());
        field!(out, "host", to.host.as_str());
        count!(out, "port", u64::from(to.port));
    }
    let Some(p) = r.path else { return };
    key!(out, "path");
    if r.code == Some(Reason::ForeignCredential) {
        text::string(out, &without_long_segments(p.raw()));
    } else {
        text::string(out, p.raw());
    }
    if let Some(query) = p.query() {
        key!(out, "query");
        text::list(out, b"[]", query.split('&'), |out, pair| text::string(out, &query_name(pair, r.intents)));
    }
}

/// The name of a query parameter, without its value: what a catalog declares stands with the
/// intent, and anything else may be a secret. So may a name that stands alone.
fn query_name<'a>(pair: &'a str, intents: &[Intent]) -> Cow<'a, str> {
    let (raw, alone) = match pair.split_once('=') {
        Some((name, _)) => (name, false),
        None => (pair, true),
    };
    let name = Path::decode(raw);
    let declared = intents.iter().any(|i| i.params.lookup(&name).is_some());
    if declared || (!alone && name.len() <= 64) { name } else { Cow::Borrowed("…") }
}

/// A path in which nothing that could be a key is left.
fn without_long_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        out.push('/');
        out.push_str(if segment.len() < 16 { segment } else { "…" });
    }
    out
}

fn intent(out: &mut Vec<u8>, i: &Intent, redact: bool) {
    out.extend_from_slice(b"{\"id\":");
    text::string(out, i.id());
    plain!(out, "effect", i.operation.effect.as_str());
    if !i.operation.labels.is_empty() {
        key!(out, "labels");
        text::list(out, b"[]", i.operation.labels.iter(), |out, l| text::string(out, l.as_str()));
    }
    out.extend_from_slice(b",\"params\":");
    let mut cut = false;
    text::list(out, b"{}", i.params.iter(), |out, (name, param)| {
        text::string(out, name);
        out.push(b':');
        cut |= parameter(out, param, redact);
    });
    if cut {
        shortened(out, i, redact);
    }
    out.push(b'}');
}

/// Appends a parameter's value, or of a long one its start; whether it was cut.
fn parameter(out: &mut Vec<u8>, param: &Param, redact: bool) -> bool {
    match param {
        Param::Text(t) => bounded(out, t, redact),
        Param::Json(Value::String(t)) => bounded(out, t, redact),
        Param::Json(v @ (Value::Null | Value::Bool(_) | Value::Number(_))) => {
            text::value(out, v);
            false
        }
        Param::Json(v) => {
            let from = out.len();
            text::value(out, v);
            if out.len() - from <= LONGEST_PARAMETER && !redact {
                return false;
            }
            out.truncate(from);
            bounded(out, &v.to_string(), redact)
        }
    }
}

/// Appends a text, or its start when it is long, or nothing of it when it may be a credential.
fn bounded(out: &mut Vec<u8>, t: &str, redact: bool) -> bool {
    if redact && t.len() >= 16 {
        text::string(out, "…");
        return true;
    }
    let start = text::cut(t, LONGEST_PARAMETER);
    text::string(out, start);
    start.len() < t.len()
}

/// Appends `"cut":{"name":{"bytes":N,"sha256":"…"}}` for the parameters that were cut. A hash of
/// what may be a credential is not written: short ones could be guessed from it.
fn shortened(out: &mut Vec<u8>, i: &Intent, redact: bool) {
    key!(out, "cut");
    let mut scratch = Vec::new();
    let cut = i.params.iter().filter(|(_, p)| {
        scratch.clear();
        parameter(&mut scratch, p, redact)
    });
    text::list(out, b"{}", cut, |out, (name, param)| {
        let whole: Cow<'_, str> = match param {
            Param::Text(t) => Cow::Borrowed(t),
            Param::Json(Value::String(t)) => Cow::Borrowed(t),
            Param::Json(v) => Cow::Owned(v.to_string()),
        };
        text::string(out, name);
        out.extend_from_slice(b":{\"bytes\":");
        text::number(out, whole.len() as u64);
        if !redact {
            out.extend_from_slice(b",\"sha256\":\"");
            text::hex(out, &line::sha256(whole.as_bytes()));
            out.push(b'"');
        }
        out.push(b'}');
    });
}

fn verdict(out: &mut Vec<u8>, r: &DecisionRecord<'_>) {
    plain!(out, "decision", r.verdict.as_str());
    if let Some(code) = r.code {
        plain!(out, "code", code.code());
    }
    key!(out, "reasons");
    text::list(out, b"[]", r.reasons.iter(), |out, s| sentence(out, s));
    if !r.grants.is_empty() {
        key!(out, "grants");
        text::list(out, b"[]", r.grants.iter(), |out, g| text::string(out, g));
    }
    if !r.limits.is_empty() {
        key!(out, "limits");
        text::list(out, b"[]", r.limits.iter(), |out, l| limit(out, l, r.tokens));
    }
    if let Some(approval) = r.approval {
        key!(out, "approval");
        text::value(out, approval);
    }
    field!(out, "policy", r.revision);
    out.extend_from_slice(if r.cached { b",\"cached\":true" } else { b",\"cached\":false" });
    if r.returns != Returns::default() {
        key!(out, "returns");
        text::list(out, b"[]", r.returns.names(), text::string);
    }
    if r.own_login {
        out.extend_from_slice(b",\"own_login\":true");
    }
    let Some(lease) = r.lease else { return };
    out.extend_from_slice(b",\"lease\":{\"kind\":");
    text::string(out, lease.kind);
    field!(out, "name", &lease.name);
    field!(out, "fingerprint", &lease.fingerprint);
    if let Some(scope) = r.scope {
        key!(out, "scope");
        text::value(out, scope);
    }
    if let Some(expires) = lease.expires {
        key!(out, "expires");
        text::time(out, expires);
    }
    out.push(b'}');
}

/// `{"key":"…","window":"task"}`: `task`, `agent` or seconds; with the number of the link that owns it,
/// and how many tokens were taken, where it counts those.
fn limit(out: &mut Vec<u8>, limit: &LimitRule, tokens: Option<u64>) {
    out.extend_from_slice(b"{\"key\":");
    text::string(out, &limit.key);
    key!(out, "window");
    match limit.window {
        Window::Task => out.extend_from_slice(b"\"task\""),
        Window::Agent => out.extend_from_slice(b"\"agent\""),
        Window::Seconds(s) => text::number(out, s),
    }
    if let Some(link) = limit.link {
        count!(out, "link", link as u64);
    }
    if limit.unit == Unit::Tokens {
        count!(out, "tokens", tokens.unwrap_or(0));
    }
    out.push(b'}');
}

fn sentence(out: &mut Vec<u8>, s: &str) {
    let start = text::cut(s, LONGEST_SENTENCE);
    out.push(b'"');
    text::inner(out, start);
    if start.len() < s.len() {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

fn status(out: &mut Vec<u8>, status: Option<u16>) {
    match status {
        Some(status) => text::number(out, u64::from(status)),
        None => out.extend_from_slice(b"null"),
    }
}

pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    name_of(out, name);
    text::string(out, value);
}

pub(super) fn count(out: &mut Vec<u8>, name: &str, n: u64) {
    name_of(out, name);
    text::number(out, n);
}

fn name_of(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}
