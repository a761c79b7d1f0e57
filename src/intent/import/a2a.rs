//! A2A agent cards: the operations are the protocol's, the card says where and in which bindings.

use serde_json::Value;

use crate::{
    call::{Effect, Label},
    problem::Problem,
};

use super::{Draft, DraftBody, DraftOperation, openapi::name_from_host, resolve::problem};

/// One operation of the protocol.
struct Known {
    id: &'static str,
    /// As version 1.0 calls it, and versions before.
    methods: [&'static str; 2],
    /// Of the HTTP+JSON binding.
    rest: &'static [&'static str],
    effect: Effect,
    elsewhere: bool,
    body: &'static [(&'static str, &'static str)],
}

const PUSH: &[(&str, &str)] =
    &[("push_url", "/configuration/taskPushNotificationConfig/url"), ("push_url_before_1", "/configuration/pushNotificationConfig/url")];

const KNOWN: [Known; 11] = [
    known("message.send", ["SendMessage", "message/send"], &["POST /message:send"], Effect::Execute, PUSH),
    known("message.stream", ["SendStreamingMessage", "message/stream"], &["POST /message:stream"], Effect::Execute, PUSH),
    known("tasks.get", ["GetTask", "tasks/get"], &["GET /tasks/{id}"], Effect::Read, &[]),
    known("tasks.list", ["ListTasks", "tasks/list"], &["GET /tasks"], Effect::Read, &[]),
    known("tasks.cancel", ["CancelTask", "tasks/cancel"], &["POST /tasks/{id}:cancel"], Effect::Write, &[]),
    known(
        "tasks.subscribe",
        ["SubscribeToTask", "tasks/resubscribe"],
        &["GET /tasks/{id}:subscribe", "POST /tasks/{id}:subscribe"],
        Effect::Read,
        &[],
    ),
    Known {
        elsewhere: true,
        ..known(
            "push.create",
            ["CreateTaskPushNotificationConfig", "tasks/pushNotificationConfig/set"],
            &["POST /tasks/{taskId}/pushNotificationConfigs"],
            Effect::Write,
            &[("url", "/url")],
        )
    },
    known(
        "push.get",
        ["GetTaskPushNotificationConfig", "tasks/pushNotificationConfig/get"],
        &["GET /tasks/{taskId}/pushNotificationConfigs/{id}"],
        Effect::Read,
        &[],
    ),
    known(
        "push.list",
        ["ListTaskPushNotificationConfigs", "tasks/pushNotificationConfig/list"],
        &["GET /tasks/{taskId}/pushNotificationConfigs"],
        Effect::Read,
        &[],
    ),
    known(
        "push.delete",
        ["DeleteTaskPushNotificationConfig", "tasks/pushNotificationConfig/delete"],
        &["DELETE /tasks/{taskId}/pushNotificationConfigs/{id}"],
        Effect::Delete,
        &[],
    ),
    known("card.extended", ["GetExtendedAgentCard", "agent/getAuthenticatedExtendedCard"], &["GET /extendedAgentCard"], Effect::Read, &[]),
];

const fn known(
    id: &'static str,
    methods: [&'static str; 2],
    rest: &'static [&'static str],
    effect: Effect,
    body: &'static [(&'static str, &'static str)],
) -> Known {
    Known { id, methods, rest, effect, elsewhere: false, body }
}

/// Reads an agent card.
pub(super) fn draft(card: &Value, provider: Option<&str>) -> Result<Draft, Problem> {
    let mut interfaces = Vec::new();
    for (key, binding) in [("/supportedInterfaces", "protocolBinding"), ("/additionalInterfaces", "transport")] {
        for (i, one) in card.pointer(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            interfaces.push((format!("{key}/{i}"), one.get("url"), one.get(binding)));
        }
    }
    interfaces.push(("/url".into(), card.get("url"), card.get("preferredTransport")));
    let (mut host, mut rpc, mut rest): (Option<String>, Option<String>, Option<String>) = (None, None, None);
    for (pointer, url, binding) in interfaces {
        let Some(url) = url.and_then(Value::as_str) else { continue };
        let (own, path) = place(url).ok_or_else(|| problem(&pointer, "the URL is not https://HOST/PATH"))?;
        if host.as_ref().is_some_and(|h| *h != own) {
            return Err(problem(&pointer, "the card names several hosts").help("import a card with one, and list the others by hand"));
        }
        host = Some(own);
        match binding.and_then(Value::as_str).unwrap_or("JSONRPC") {
            "JSONRPC" => rpc = rpc.or_else(|| Some(if path.is_empty() { "/".into() } else { path })),
            "HTTP+JSON" => rest = rest.or(Some(path)),
            // gRPC is imported from its descriptor set.
            _ => {}
        }
    }
    let Some(host) = host.filter(|_| rpc.is_some() || rest.is_some()) else {
        return Err(problem("/supportedInterfaces", "the card names no interface of JSON-RPC or HTTP+JSON"));
    };
    let provider = provider.map_or_else(|| name_from_host(&host), str::to_owned);
    let mut operations: Vec<DraftOperation> = KNOWN.iter().map(|k| operation(k, &provider, rpc.is_some(), rest.as_deref())).collect();
    operations.push(DraftOperation::new(format!("{provider}.card.get"), vec!["GET /.well-known/agent-card.json".into()], Effect::Read));
    let version = card.get("version").and_then(Value::as_str).unwrap_or("").to_owned();
    let readers = rpc.into_iter().map(|path| ("a2a".to_owned(), path)).collect();
    Ok(Draft { provider, version, hosts: vec![host], operations, readers, ..Draft::default() })
}

fn operation(known: &Known, provider: &str, rpc: bool, rest: Option<&str>) -> DraftOperation {
    let mut matches: Vec<String> = known.methods.iter().filter(|_| rpc).map(|m| format!("a2a {m}")).collect();
    if let Some(base) = rest {
        matches.extend(known.rest.iter().map(|m| m.replacen(" /", &format!(" {base}/"), 1)));
    }
    let mut made = DraftOperation::new(format!("{provider}.{}", known.id), matches, known.effect);
    if known.elsewhere {
        made.labels.push(Label::SendsElsewhere);
    }
    let ids = ["id", "taskId"].iter().filter(|_| rest.is_none());
    let in_path = |n: &&&str| known.rest.iter().any(|m| m.contains(&format!("{{{n}}}")));
    let paths = ids.filter(in_path).map(|n| ((*n).to_owned(), format!("/{n}")));
    made.body = DraftBody::Json(paths.chain(known.body.iter().map(|(n, p)| ((*n).to_owned(), (*p).to_owned()))).collect());
    made
}

/// Host and path, without a trailing slash.
fn place(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let fits = !host.is_empty() && !path.contains(['?', '#', '{', '}', '%']);
    fits.then(|| (host.to_owned(), path.trim_end_matches('/').to_owned()))
}
