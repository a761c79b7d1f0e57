use bytes::Bytes;
use serde_json::{Value, json};

use crate::{call::Head, cli::request, intent::Catalog, refusal::Reason};

/// A server of tools and an agent, on one host.
pub(super) fn catalog() -> Catalog {
    let text = r#"
provider: acme
hosts: [api.acme.example]
credential: acme
fold: [team]
readers: [{mcp: "/teams/{team}/mcp"}, {a2a: /a2a}]
operations:
  - {id: acme.tool.create_issue, match: "mcp tools/call create_issue", effect: write, body: {title: /title, label: /labels/0}}
  - {id: acme.tool.any, match: "mcp tools/call", effect: execute, body: {name: /name}}
  - {id: acme.tools.list, match: "mcp tools/list", effect: read}
  - {id: acme.resources.read, match: "mcp resources/read", effect: read, body: {uri: /uri}}
  - {id: acme.session.respond, match: "mcp response", effect: write}
  - {id: acme.session.stream, match: "GET /teams/{team}/mcp", effect: read}
  - {id: acme.a2a.send, match: ["a2a SendMessage", "a2a message/send", "POST /message:send"], effect: write, body: {text: /message/parts/0/text}}
  - {id: acme.a2a.task, match: ["a2a GetTask", "GET /tasks/{id}"], effect: read}
"#;
    Catalog::parse("acme.yaml", text).unwrap()
}

pub(super) fn head(method: &str, url: &str, fields: &[(&str, &str)]) -> Head {
    request::head(method, url, fields.iter().copied()).unwrap()
}

type Answer = Result<Vec<(String, Value)>, String>;

/// Ids and parameters, or the detail of an `ambiguous_request`.
pub(super) fn ask(catalog: &Catalog, head: &Head, body: &str) -> Answer {
    let body = Bytes::copy_from_slice(body.as_bytes());
    match catalog.find(head).and_then(|found| found.read(head, Some(&body))) {
        Ok(reading) => Ok(reading.intents.iter().map(|i| (i.id().to_owned(), serde_json::to_value(&i.params).unwrap())).collect()),
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::AmbiguousRequest);
            Err(refusal.detail.into_owned())
        }
    }
}

fn mcp(fields: &[(&str, &str)], body: &Value) -> Answer {
    raw(fields, &body.to_string())
}

fn raw(fields: &[(&str, &str)], body: &str) -> Answer {
    let json = [("content-type", "application/json")];
    ask(&catalog(), &head("POST", "https://api.acme.example/teams/Web/mcp", &[&json[..], fields].concat()), body)
}

fn call(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

pub(super) fn is(answer: Answer, want: &[(&str, Value)]) {
    assert_eq!(answer, Ok(want.iter().map(|(id, params)| ((*id).to_owned(), params.clone())).collect()));
}

pub(super) fn refused(answer: Answer, about: &str) {
    match answer {
        Err(detail) => assert!(detail.contains(about), "{detail:?} does not speak of {about:?}"),
        Ok(read) => panic!("read as {read:?}, expected a refusal about {about:?}"),
    }
}

#[test]
fn a_tool_is_an_operation_with_its_arguments() {
    let create = call("tools/call", json!({"name": "create_issue", "arguments": {"title": "x", "labels": ["a", "b"], "other": 1}}));
    is(mcp(&[], &create), &[("acme.tool.create_issue", json!({"team": "web", "title": "x", "label": "a"}))]);
    let other = call("tools/call", json!({"name": "wipe", "arguments": {"title": "x"}}));
    is(mcp(&[], &other), &[("acme.tool.any", json!({"team": "web", "name": "wipe"}))]);
    is(
        mcp(&[], &call("resources/read", json!({"uri": "file:///x"}))),
        &[("acme.resources.read", json!({"team": "web", "uri": "file:///x"}))],
    );
    is(mcp(&[], &json!({"jsonrpc": "2.0", "method": "notifications/x"})), &[("acme.unknown", json!({}))]);
    is(mcp(&[], &json!({"jsonrpc": "2.0", "id": 4, "result": {"roots": []}})), &[("acme.session.respond", json!({"team": "web"}))]);
    let stream = head("GET", "https://api.acme.example/teams/web/mcp", &[("accept", "text/event-stream")]);
    is(ask(&catalog(), &stream, ""), &[("acme.session.stream", json!({"team": "web"}))]);
}

#[test]
fn every_message_of_a_batch_is_an_intent() {
    let one = call("tools/list", json!({}));
    is(mcp(&[], &json!([one, one])), &[("acme.tools.list", json!({"team": "web"})), ("acme.tools.list", json!({"team": "web"}))]);
    refused(mcp(&[], &Value::Array(vec![one.clone(); 65])), "65 requests");
    refused(raw(&[], "[]"), "0 things");
    refused(mcp(&[("Mcp-Method", "tools/list")], &json!([one])), "batch");
}

#[test]
fn messages_with_two_readings_are_refused() {
    let in_message = |inside: &str| raw(&[], &format!(r#"{{"jsonrpc": "2.0", "id": 1, {inside}}}"#));
    refused(in_message(r#""method": "tools/list", "method": "tools/call""#), "twice");
    refused(in_message(r#""method": "tools/list", "Method": "tools/call""#), "twice");
    refused(in_message(r#""method": "tools/list", "Params": {}"#), "only in case");
    refused(in_message(r#""method": "tools/list", "result": 1"#), "either");
    refused(in_message(r#""method": "tools/call", "params": {"name": "create_issue", "Arguments": {"title": 1}}"#), "only in case");
    refused(in_message(r#""method": "tools/call", "params": {"name": "create_issue", "arguments": {"Title": 1}}"#), "only in case");
    refused(in_message(r#""method": "tools/call", "params": {"name": "create_issue", "arguments": {"team": "other"}}"#), "`team`");
    refused(in_message(r#""method": "tools/call", "params": {"name": "create_issue", "arguments": [1]}"#), "object");
    refused(in_message(r#""method": "tools/call", "params": {}"#), "name");
    refused(in_message(r#""method": "tools/list", "params": [1]"#), "names");
    refused(raw(&[], r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"} {}"#), "trailing");
    refused(raw(&[], r#"{"id": 1, "method": "tools/list"}"#), "2.0");
    refused(raw(&[], r#"{"jsonrpc": "2.0", "id": null, "method": "tools/list"}"#), "`id`");
    refused(raw(&[("content-encoding", "gzip")], "{}"), "Content-Encoding");
    let form = head("POST", "https://api.acme.example/teams/web/mcp", &[("content-type", "text/plain")]);
    refused(ask(&catalog(), &form, "{}"), "text/plain");
}

#[test]
fn headers_must_name_what_the_body_does() {
    let read = call("resources/read", json!({"uri": "file:///é"}));
    let new = ("MCP-Protocol-Version", "2026-07-28");
    let want = [("acme.resources.read", json!({"team": "web", "uri": "file:///é"}))];
    is(mcp(&[new, ("Mcp-Method", "resources/read"), ("Mcp-Name", "=?base64?ZmlsZTovLy/DqQ==?=")], &read), &want);
    is(mcp(&[("MCP-Protocol-Version", "2025-11-25")], &read), &want);
    refused(mcp(&[new], &read), "must name");
    refused(mcp(&[new, ("Mcp-Method", "resources/read")], &read), "must name");
    refused(mcp(&[("Mcp-Method", "tools/list")], &read), "`Mcp-Method`");
    refused(mcp(&[("Mcp-Method", "resources/read"), ("Mcp-Name", "file:///x")], &read), "`Mcp-Name`");
    refused(mcp(&[("Mcp-Method", "resources/read"), ("Mcp-Method", "tools/list")], &read), "twice");
    let meta = call("tools/list", json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}));
    refused(mcp(&[("MCP-Protocol-Version", "2025-11-25")], &meta), "two revisions");
    refused(mcp(&[], &meta), "must name");
}

#[test]
fn both_bindings_of_a2a_are_one_operation() {
    let send = json!({"message": {"parts": [{"text": "hello"}]}});
    let post = |path: &str, body: &Value| {
        ask(
            &catalog(),
            &head("POST", &format!("https://api.acme.example{path}"), &[("content-type", "application/json")]),
            &body.to_string(),
        )
    };
    for (path, body) in [("/message:send", send.clone()), ("/a2a", call("SendMessage", send.clone())), ("/a2a", call("message/send", send))]
    {
        is(post(path, &body), &[("acme.a2a.send", json!({"text": "hello"}))]);
    }
    is(post("/a2a", &call("GetTask", json!({"id": "t1"}))), &[("acme.a2a.task", json!({"id": "t1"}))]);
    is(ask(&catalog(), &head("GET", "https://api.acme.example/tasks/t1", &[]), ""), &[("acme.a2a.task", json!({"id": "t1"}))]);
}

#[test]
fn what_nothing_finds_is_an_error_of_the_catalog() {
    let parse = |readers: &str, operation: &str| {
        let text =
            format!("provider: p\nhosts: [p.example]\nreaders: {readers}\noperations:\n  - {{id: p.a.b, effect: read, {operation}}}\n");
        Catalog::parse("p.yaml", &text).unwrap_err().to_string()
    };
    for (readers, operation, about) in [
        ("[]", "match: \"mcp tools/list\"", "no reader `mcp`"),
        ("[{mpc: /x}]", "match: \"GET /x\"", "did you mean `mcp`"),
        ("[{mcp: x}]", "match: \"GET /x\"", "must start with `/`"),
        ("[{mcp: /x, more: y}]", "match: \"GET /x\"", "its word and a path"),
        ("[{mcp: /x}]", "match: \"POST /x\"", "also matched by"),
        ("[{mcp: /x}]", "match: [\"mcp ping\", \"mcp ping\"]", "also what"),
        ("[{mcp: /x}]", "match: \"mcp \"", "without a key"),
        ("[{mcp: /x}]", "match: \"mcp ping\", query: [a]", "`query`"),
        ("[{mcp: /x}]", "match: \"mcp ping\", body: stream", "stream"),
    ] {
        let problems = parse(readers, operation);
        assert!(problems.contains(about), "{problems} does not speak of {about}");
    }
}
