//! A call as OCSF API Activity (class 6003, schema 1.9.0) in a CloudEvents 1.0 envelope.

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Call;

/// The OCSF schema that is written.
pub const OCSF_VERSION: &str = "1.9.0";

const CATEGORY: u64 = 6;
const CLASS: u64 = 6003;

/// One call, with the record of its task's beginning where it is known. Its id is the decision's, so
/// that the same call has the same id however often it is exported.
#[must_use]
pub fn cloud_event(call: &Call, task: Option<&Value>) -> Value {
    let d = &call.decision;
    let mut event = json!({
        "specversion": "1.0",
        "id": d["id"],
        "source": format!("urn:remit:audit:{}", call.chain),
        "type": "remit.call",
        "time": d["time"],
        "datacontenttype": "application/json",
        "dataschema": format!("https://schema.ocsf.io/{OCSF_VERSION}/classes/api_activity"),
        "data": api_activity(call, task),
    });
    if let (Some(agent), Some(event)) = (d["agent"].as_str(), event.as_object_mut()) {
        event.insert("subject".into(), agent.into());
    }
    event
}

fn api_activity(call: &Call, task: Option<&Value>) -> Value {
    let d = &call.decision;
    let (activity, activity_name) = activity(d);
    let (status, status_name) = status(call);
    let (action, action_name, disposition, disposition_name) = action(d);
    let (severity, severity_name) = severity(d);
    let mut data = json!({
        "category_uid": CATEGORY, "category_name": "Application Activity",
        "class_uid": CLASS, "class_name": "API Activity",
        "activity_id": activity, "activity_name": activity_name,
        "type_uid": CLASS * 100 + activity, "type_name": format!("API Activity: {activity_name}"),
        "severity_id": severity, "severity": severity_name,
        "status_id": status, "status": status_name,
        "action_id": action, "action": action_name,
        "disposition_id": disposition, "disposition": disposition_name,
        "time": millis(&d["time"]),
        "message": message(d),
        "metadata": metadata(call),
        "actor": actor(d, task),
        "api": api(call),
        "src_endpoint": {"svc_name": d["agent"].as_str().unwrap_or("unidentified"), "name": d["listener"]},
        "resources": resources(d),
        "authorizations": authorizations(d),
        "unmapped": unmapped(call, task),
    });
    let Some(out) = data.as_object_mut() else { return data };
    let code = d["code"].as_str().map(str::to_owned).or_else(|| outcome(call, "status").as_u64().map(|s| s.to_string()));
    put(out, "status_code", code.map(Value::from));
    put(out, "status_detail", texts(&d["reasons"]));
    put(out, "dst_endpoint", endpoint(d));
    put(out, "http_request", http_request(d));
    put(out, "http_response", http_response(call));
    put(out, "ai_agent", d["agent"].as_str().map(|agent| json!({"uid": agent, "name": agent, "instance_uid": d["task"]})));
    put(out, "trace", d["trace"].as_str().map(|id| json!({"uid": id})));
    data
}

fn put(out: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    out.extend(value.map(|v| (name.to_owned(), v)));
}

/// The activity of the call's strongest effect: a call with several intents is one event.
fn activity(d: &Value) -> (u64, &'static str) {
    let intents = d["intents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let each = intents.iter().map(|i| {
        let name = i["id"].as_str().unwrap_or("").rsplit('.').next().unwrap_or("");
        match i["effect"].as_str() {
            Some("read") => (2, "Read"),
            Some("write") if ["create", "insert", "add"].iter().any(|verb| name.starts_with(verb)) => (1, "Create"),
            Some("write") => (3, "Update"),
            Some("delete") => (4, "Delete"),
            _ => (99, "Other"),
        }
    });
    each.max_by_key(|(id, _)| [2, 1, 3, 99, 4].iter().position(|x| x == id)).unwrap_or((0, "Unknown"))
}

fn status(call: &Call) -> (u64, &'static str) {
    let refused = call.decision["decision"] != "allow" && call.decision["mode"] != "observe";
    match (outcome(call, "outcome").as_str(), outcome(call, "status").as_u64()) {
        _ if refused => (2, "Failure"),
        (Some("complete"), Some(status)) if status < 400 => (1, "Success"),
        (Some("complete" | "incomplete"), _) => (2, "Failure"),
        _ => (0, "Unknown"),
    }
}

fn action(d: &Value) -> (u64, &'static str, u64, &'static str) {
    match (d["decision"].as_str(), d["mode"].as_str()) {
        (Some("allow"), _) => (1, "Allowed", 1, "Allowed"),
        (_, Some("observe")) => (3, "Observed", 17, "Logged"),
        _ => (2, "Denied", 2, "Blocked"),
    }
}

/// What someone should look at stands out: a refusal, and more a credential, a foreign task or drift.
fn severity(d: &Value) -> (u64, &'static str) {
    match (d["decision"].as_str(), d["code"].as_str()) {
        (_, Some("foreign_credential" | "delegation_invalid" | "drift" | "misdirected")) => (4, "High"),
        (Some("allow"), _) if d["drift"].as_array().is_some_and(|all| all.iter().any(|x| x != "unobserved")) => (3, "Medium"),
        (Some("allow"), _) => (1, "Informational"),
        _ => (3, "Medium"),
    }
}

/// `allow github.issues.create on api.github.com by triage-bot`
fn message(d: &Value) -> String {
    let word = |key: &str| d[key].as_str().unwrap_or("");
    let agent = d["agent"].as_str().unwrap_or("nobody who was identified");
    format!("{} {} on {} by {agent}", word("decision"), operation(d), word("host"))
}

fn operation(d: &Value) -> String {
    let ids: Vec<&str> = d["intents"].as_array().into_iter().flatten().filter_map(|i| i["id"].as_str()).collect();
    match ids.split_first() {
        Some((first, [])) => (*first).to_owned(),
        Some((first, rest)) => format!("{first} and {} more", rest.len()),
        None => d["method"].as_str().unwrap_or("unknown").to_owned(),
    }
}

fn metadata(call: &Call) -> Value {
    let mut metadata = json!({
        "version": OCSF_VERSION,
        "product": {"name": "Remit", "vendor_name": "Remit", "version": env!("CARGO_PKG_VERSION")},
        "profiles": ["ai_operation", "security_control", "trace"],
        "uid": call.decision["id"],
        "log_name": call.chain,
        "sequence": call.seq,
        "original_time": call.decision["time"],
    });
    if let (Some(task), Some(out)) = (call.decision["task"].as_str(), metadata.as_object_mut()) {
        out.insert("correlation_uid".into(), task.into());
    }
    metadata
}

/// The principal acts; the agent is what it acts with.
fn actor(d: &Value, task: Option<&Value>) -> Value {
    let mut actor = json!({"app_name": d["agent"].as_str().unwrap_or("unidentified")});
    if let (Some(id), Some(out)) = (task.and_then(|t| t["principal"]["id"].as_str()), actor.as_object_mut()) {
        out.insert("user".into(), json!({"uid": id, "name": id, "type_id": 0}));
    }
    actor
}

fn api(call: &Call) -> Value {
    let d = &call.decision;
    let mut api = json!({"operation": operation(d), "request": {"uid": d["id"]}});
    let provider = d["intents"][0]["id"].as_str().and_then(|id| id.split('.').next());
    if let Some(out) = api.as_object_mut() {
        put(out, "service", provider.map(|name| json!({"name": name})));
        let mut response = Map::new();
        put(&mut response, "code", outcome(call, "status").as_u64().map(Value::from));
        put(&mut response, "error", d["code"].as_str().or_else(|| outcome(call, "reason").as_str()).map(Value::from));
        put(&mut response, "error_message", texts(&d["reasons"]));
        put(out, "response", (!response.is_empty()).then_some(Value::Object(response)));
    }
    api
}

fn endpoint(d: &Value) -> Option<Value> {
    d["host"].as_str().map(|host| json!({"hostname": host, "port": d["port"]}))
}

fn http_request(d: &Value) -> Option<Value> {
    let (method, host, path) = (d["method"].as_str()?, d["host"].as_str()?, d["path"].as_str()?);
    let scheme = d["scheme"].as_str().unwrap_or("https");
    let url = json!({"scheme": scheme, "hostname": host, "port": d["port"], "path": path});
    Some(json!({"http_method": method, "url": url, "uid": d["id"]}))
}

fn http_response(call: &Call) -> Option<Value> {
    let code = outcome(call, "status").as_u64()?;
    let mut response = Map::from_iter([("code".to_owned(), code.into())]);
    put(&mut response, "latency", outcome(call, "ms").as_f64().map(|ms| json!(ms.round() as u64)));
    put(&mut response, "length", outcome(call, "bytes_down").as_u64().map(Value::from));
    Some(Value::Object(response))
}

fn resources(d: &Value) -> Value {
    let intents = d["intents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let each = intents.iter().map(|i| {
        let mut resource = json!({"name": i["id"], "type": i["effect"], "data": i["params"]});
        if let (Some(labels), Some(out)) = (i["labels"].as_array(), resource.as_object_mut()) {
            out.insert("labels".into(), labels.clone().into());
        }
        resource
    });
    each.collect()
}

/// The grants that allowed it, as the policies that they are.
fn authorizations(d: &Value) -> Value {
    let policy = |name: &Value| json!({"decision": d["decision"], "policy": {"name": name, "version": d["policy"], "is_applied": true}});
    match d["grants"].as_array() {
        Some(grants) => grants.iter().map(policy).collect(),
        None => json!([{"decision": d["decision"], "policy": {"name": "remit", "version": d["policy"], "is_applied": true}}]),
    }
}

/// What OCSF has no word for, under the log's own names.
fn unmapped(call: &Call, task: Option<&Value>) -> Value {
    let mut out = Map::new();
    for name in ["mode", "listener", "how", "drift", "grants", "limits", "approval", "lease", "cached", "returns", "own_login", "query"] {
        put(&mut out, name, call.decision.get(name).cloned());
    }
    for name in ["workflow", "purpose", "principal", "delegation", "parent"] {
        put(&mut out, name, task.and_then(|t| t.get(name)).cloned());
    }
    for name in ["outcome", "upstream", "bytes_up", "body_sha256", "scrubbed", "withheld"] {
        put(&mut out, name, call.outcome.as_ref().and_then(|o| o.get(name)).cloned());
    }
    Value::Object(out)
}

fn outcome<'a>(call: &'a Call, name: &str) -> &'a Value {
    call.outcome.as_ref().map_or(&Value::Null, |o| &o[name])
}

/// Several sentences as one; None for none.
fn texts(list: &Value) -> Option<Value> {
    let all: Vec<&str> = list.as_array()?.iter().filter_map(Value::as_str).collect();
    (!all.is_empty()).then(|| all.join("; ").into())
}

fn millis(time: &Value) -> Value {
    let time = time.as_str().and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
    time.map_or(Value::Null, |t| json!(t.unix_timestamp_nanos() as i64 / 1_000_000))
}
