use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Version};
use hyper::ext::ReasonPhrase;

use super::*;
use crate::{
    call::{DecisionId, Host},
    refusal::render,
};

/// The text that every form carries, with `D` for the decision's id.
const TEXT: &str = "Remit: not_granted: github.issues.delete on acme/web is granted by no workflow of triage-bot \
(no grant of workflow triage-issues matches). Next: remit explain D; ask the owner, support@acme.example";

fn refusal() -> Refusal {
    Refusal::new(Reason::NotGranted, "github.issues.delete on acme/web is granted by no workflow of triage-bot")
        .with_reasons(vec!["no grant of workflow triage-issues matches".into()])
}

fn context(form: ErrorForm) -> Context<'static> {
    Context {
        form,
        agent: Some("triage-bot"),
        task: Some("t-1"),
        owner: Some("support@acme.example"),
        intents: vec!["github.issues.delete"],
        ..Context::new(DecisionId::new(1))
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(n, v)| (http::HeaderName::from_static(n), http::HeaderValue::from_static(v))).collect()
}

fn field<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |v| v.to_str().unwrap())
}

fn body(response: &Response<Bytes>, cx: &Context<'_>) -> String {
    String::from_utf8_lossy(response.body()).replace(&cx.decision.to_string(), "D")
}

/// Renders, checks what all forms share, and gives content type and body.
fn rendered(cx: &Context<'_>) -> (String, String) {
    let response = render(&refusal(), cx);
    assert_eq!(response.status(), 403);
    assert_eq!(field(&response, "remit-reason"), "not_granted");
    assert_eq!(field(&response, "remit-decision"), cx.decision.to_string());
    assert_eq!(field(&response, "x-should-retry"), "false");
    assert_eq!(field(&response, "cache-control"), "no-store");
    let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
    assert_eq!(phrase.as_bytes(), b"Forbidden by Remit: not_granted");
    (field(&response, "content-type").to_owned(), body(&response, cx))
}

fn json_of(cx: &Context<'_>) -> Value {
    let (content_type, body) = rendered(cx);
    assert_eq!(content_type, "application/json");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn problem_details_have_the_documented_members() {
    let want = json!({
        "type": "urn:remit:refusal:not_granted", "title": "Not within this task's remit", "status": 403, "reason": "not_granted",
        "detail": "github.issues.delete on acme/web is granted by no workflow of triage-bot",
        "decision": "D", "agent": "triage-bot", "task": "t-1", "intents": ["github.issues.delete"],
        "reasons": ["no grant of workflow triage-issues matches"],
        "next": "remit explain D; ask the owner, support@acme.example",
    });
    let accept = headers(&[("accept", "application/json;q=0.5, Application/Problem+JSON;q=0.9")]);
    // Asked for by name it comes whatever the provider's form, and with no other member.
    for form in [ErrorForm::Problem, ErrorForm::Github, ErrorForm::Grpc] {
        let cx = Context { headers: Some(&accept), ..context(form) };
        let (content_type, body) = rendered(&cx);
        assert_eq!(content_type, "application/problem+json");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), want);
    }
    let (_, body) = rendered(&context(ErrorForm::Problem));
    let mut wide = want;
    wide["message"] = TEXT.into();
    wide["error"] = TEXT.into();
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), wide);
}

#[test]
fn a_client_of_persisted_queries_is_told_to_send_its_document() {
    let refusal = Refusal::new(Reason::AmbiguousRequest, format!("{}: not yet", PERSISTED_QUERY_NOT_FOUND));
    let response = render(&refusal, &context(ErrorForm::Graphql));
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["errors"][0]["extensions"]["code"], "PERSISTED_QUERY_NOT_FOUND");
    assert_eq!(field(&response, "remit-reason"), "ambiguous_request");
}

#[test]
fn each_provider_has_its_form() {
    for (form, want) in [
        (ErrorForm::Github, json!({"message": TEXT, "status": "403", "reason": "not_granted", "decision": "D"})),
        (ErrorForm::Openai, json!({"error": {"message": TEXT, "type": "permission_error", "param": null, "code": "not_granted"}})),
        (ErrorForm::Anthropic, json!({"type": "error", "error": {"type": "permission_error", "message": TEXT}, "request_id": "D"})),
        (ErrorForm::Slack, json!({"ok": false, "error": "not_granted", "detail": TEXT})),
        (ErrorForm::Npm, json!({"error": TEXT, "reason": "not_granted"})),
        (
            ErrorForm::Graphql,
            json!({"errors": [{"message": TEXT, "type": "not_granted", "extensions": {"code": "not_granted", "decision": "D"}}], "message": TEXT}),
        ),
        (
            ErrorForm::Google,
            json!({"error": {
                "code": 403, "message": TEXT, "status": "PERMISSION_DENIED",
                "errors": [{"message": TEXT, "domain": "remit", "reason": "not_granted"}],
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "NOT_GRANTED", "domain": "remit",
                    "metadata": {"decision": "D"},
                }],
            }}),
        ),
    ] {
        assert_eq!(json_of(&context(form)), want);
    }
    for form in [ErrorForm::Git, ErrorForm::Plain] {
        assert_eq!(rendered(&context(form)), ("text/plain; charset=utf-8".into(), format!("{TEXT}\n")));
    }
}

#[test]
fn git_is_known_where_no_catalog_says_so() {
    let agent = headers(&[("user-agent", "git/2.47.0")]);
    let cx = Context { headers: Some(&agent), ..context(ErrorForm::Problem) };
    assert_eq!(rendered(&cx).0, "text/plain; charset=utf-8");
}

#[test]
fn git_is_answered_in_its_own_protocol_where_it_shows_nothing_else() {
    for (kind, media, before) in
        [("receive", "application/x-git-receive-pack-request", "\u{3}"), ("upload", "application/x-git-upload-pack-request", "ERR ")]
    {
        let request = headers(&[("content-type", media)]);
        let cx = Context { headers: Some(&request), body: Some(b""), ..context(ErrorForm::Git) };
        // The id of the decision is longer than the `D` that stands for it here.
        let line = format!("{before}{TEXT}\n");
        let length = line.len() + 4 + cx.decision.to_string().len() - 1;
        let want = (format!("application/x-git-{kind}-pack-result"), format!("{length:04x}{line}0000"));
        let response = render(&refusal(), &cx);
        assert_eq!((field(&response, "content-type").to_owned(), body(&response, &cx)), want);
        assert_eq!((response.status().as_u16(), field(&response, "remit-reason")), (200, "not_granted"));
    }
}

#[test]
fn json_rpc_answers_each_request_by_its_id() {
    let answer = |body: Option<&'static [u8]>| json_of(&Context { body, ..context(ErrorForm::Jsonrpc) });
    let one = answer(Some(br#"{"jsonrpc":"2.0","id":"a","method":"tools/call"}"#));
    assert_eq!((&one["jsonrpc"], &one["id"]), (&json!("2.0"), &json!("a")));
    assert_eq!((&one["error"]["code"], &one["error"]["message"]), (&json!(-32000), &json!(TEXT)));
    assert_eq!(one["error"]["data"]["reason"], "not_granted");
    let batch = answer(Some(br#"[{"id":1},{"method":"note"},{"id":2}]"#));
    assert_eq!(batch.as_array().unwrap().iter().map(|e| e["id"].clone()).collect::<Vec<_>>(), [json!(1), json!(2)]);
    for body in [None, Some(&b"not json"[..]), Some(&b"{\"id\":{}}"[..]), Some(&b"[]"[..])] {
        assert_eq!(answer(body)["id"], Value::Null);
    }
}

#[test]
fn aws_is_answered_in_the_protocol_that_was_spoken() {
    let aws = |fields: &[(&'static str, &'static str)], host: &str| {
        let (headers, host) = (headers(fields), Host::parse(host).unwrap());
        let cx = Context { headers: Some(&headers), host: Some(&host), ..context(ErrorForm::Aws) };
        let response = render(&refusal(), &cx);
        (response.headers().clone(), field(&response, "content-type").to_owned(), body(&response, &cx))
    };
    let (fields, content_type, body) =
        aws(&[("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "DynamoDB_20120810.Get")], "x.example");
    assert_eq!(
        (content_type.as_str(), &fields["x-amzn-errortype"]),
        ("application/x-amz-json-1.0", &"AccessDeniedException".parse().unwrap())
    );
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({"__type": "AccessDeniedException", "message": TEXT, "Message": TEXT}));

    let (_, content_type, body) = aws(&[("content-type", "application/x-www-form-urlencoded; charset=utf-8")], "sts.amazonaws.com");
    assert_eq!(content_type, "text/xml");
    assert_eq!(
        body,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
             <Message>{TEXT}</Message></Error><RequestId>D</RequestId></ErrorResponse>"
        )
    );
    for host in ["s3.eu-west-1.amazonaws.com", "bucket.s3.amazonaws.com", "s3-eu-west-1.amazonaws.com"] {
        let (_, content_type, body) = aws(&[], host);
        assert_eq!(content_type, "application/xml");
        assert!(
            body.ends_with(&format!("<Error><Code>AccessDenied</Code><Message>{TEXT}</Message><RequestId>D</RequestId></Error>")),
            "{body}"
        );
    }
    let (_, content_type, _) = aws(&[], "lambda.eu-west-1.amazonaws.com");
    assert_eq!(content_type, "application/json");

    let (fields, content_type, body) = aws(&[("smithy-protocol", "rpc-v2-cbor")], "x.example");
    assert_eq!((content_type.as_str(), &fields["smithy-protocol"]), ("application/cbor", &"rpc-v2-cbor".parse().unwrap()));
    assert!(body.contains("f__type") && body.contains("AccessDeniedException") && body.contains(TEXT));
}

#[test]
fn grpc_gets_trailers_only() {
    let spoken = headers(&[("content-type", "application/grpc+proto")]);
    let cx = Context { headers: Some(&spoken), version: Version::HTTP_2, ..context(ErrorForm::Google) };
    let detail = "100 % of it, ünder acme/web";
    let response = render(&Refusal::new(Reason::NotGranted, detail), &cx);
    assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
    assert_eq!(field(&response, "content-type"), "application/grpc");
    assert_eq!(field(&response, "grpc-status"), "7");
    assert!(field(&response, "grpc-message").starts_with("Remit: not_granted: 100 %25 of it, %C3%BCnder acme/web. Next: "));
    assert_eq!(field(&response, "grpc-retry-pushback-ms"), "-1");
    assert!(response.extensions().get::<ReasonPhrase>().is_none());
    let response = render(&Refusal::new(Reason::Overloaded, "too many calls"), &cx);
    assert_eq!((field(&response, "grpc-status"), field(&response, "grpc-retry-pushback-ms")), ("14", ""));
}

#[test]
fn a_head_has_no_body_and_http_2_no_phrase() {
    let cx = Context { method: Some(&Method::HEAD), version: Version::HTTP_2, ..context(ErrorForm::Github) };
    let response = render(&refusal(), &cx);
    assert!(response.body().is_empty() && response.extensions().get::<ReasonPhrase>().is_none());
    assert_eq!((response.status().as_u16(), field(&response, "remit-reason")), (403, "not_granted"));
}

#[test]
fn no_task_asks_for_proxy_credentials_on_the_forward_listener_only() {
    let no_task = Refusal::new(Reason::NoTask, "the call names no task");
    let response = render(&no_task, &Context { proxy_auth: true, ..context(ErrorForm::Github) });
    assert_eq!((response.status().as_u16(), field(&response, "proxy-authenticate")), (407, "Basic realm=\"remit\""));
    assert_eq!(field(&response, "content-type"), "text/plain; charset=utf-8");
    let response = render(&no_task, &context(ErrorForm::Github));
    assert_eq!((response.status().as_u16(), field(&response, "proxy-authenticate")), (403, ""));
    assert_eq!(render(&refusal(), &Context { proxy_auth: true, ..context(ErrorForm::Github) }).status(), 403);
}

#[test]
fn retrying_is_forbidden_where_it_helps_nobody_and_timed_where_it_does() {
    let limit = Refusal::new(Reason::LimitExceeded, "20 calls per task");
    let spent = render(&limit, &context(ErrorForm::Openai));
    assert_eq!((spent.status().as_u16(), field(&spent, "x-should-retry"), field(&spent, "retry-after")), (403, "false", ""));
    let cx = context(ErrorForm::Openai);
    let timed = render(&limit.with_retry_after(Duration::from_millis(12_300)), &cx);
    assert_eq!((timed.status().as_u16(), field(&timed, "x-should-retry"), field(&timed, "retry-after")), (429, "", "13"));
    assert!(body(&timed, &cx).contains("remit explain D; try again in 13 s"));
    let down = render(&Refusal::new(Reason::UpstreamUnreachable, "connection refused"), &cx);
    assert_eq!((down.status().as_u16(), field(&down, "x-should-retry")), (502, ""));
    let broken = render(&Refusal::new(Reason::PolicyFailed, "the policy is undefined"), &cx);
    assert_eq!((broken.status().as_u16(), field(&broken, "x-should-retry")), (503, "false"));
}

#[test]
fn what_a_terminal_would_obey_is_escaped_and_markup_too() {
    let hostile = Refusal::new(Reason::UnknownHost, "evil\u{1b}[2J\r\nX: y \u{202e}txt <b>&");
    let text = "evil\\u{1b}[2J\\u{d}\\u{a}X: y \\u{202e}txt <b>&";
    for form in [ErrorForm::Plain, ErrorForm::Github, ErrorForm::Problem, ErrorForm::Jsonrpc] {
        let cx = context(form);
        let response = render(&hostile, &cx);
        let shown = body(&response, &cx).replace("\\\\", "\\");
        assert!(shown.contains(text), "{form:?}: {shown}");
        assert!(!shown.trim_end().contains(|c: char| c.is_control()), "{form:?}");
    }
    let host = Host::parse("s3.amazonaws.com").unwrap();
    let cx = Context { host: Some(&host), ..context(ErrorForm::Aws) };
    assert!(body(&render(&hostile, &cx), &cx).contains("txt &lt;b&gt;&amp;"));
    let long = Refusal::new(Reason::UnknownHost, "x".repeat(100_000));
    assert!(render(&long, &context(ErrorForm::Problem)).body().len() < 10_000);
}

#[test]
fn every_reason_renders_in_every_form_and_names_itself() {
    use ErrorForm::{Anthropic, Aws, Git, Github, Google, Graphql, Grpc, Jsonrpc, Npm, Openai, Plain, Problem, Slack};
    for form in [Problem, Github, Openai, Anthropic, Aws, Google, Slack, Npm, Jsonrpc, Graphql, Grpc, Git, Plain] {
        for reason in Reason::ALL {
            let response = render(&Refusal::new(reason, "what was refused"), &context(form));
            let text = if form == Grpc { field(&response, "grpc-message").into() } else { String::from_utf8_lossy(response.body()) };
            assert!(
                text.contains(reason.code()) && text.contains("what was refused") && text.contains("remit explain"),
                "{form:?} {reason}"
            );
            assert_eq!(field(&response, "remit-reason"), reason.code());
        }
    }
}
