//! An MCP server as it describes itself: its answer to `tools/list`, and with it perhaps those to
//! `resources/list` and `prompts/list`.
//!
//! What a server says of its tools (`readOnlyHint`, `destructiveHint`, `openWorldHint`) is its own word: a
//! hint counts where the tool's name does not gainsay it, and then as uncertain.

use serde_json::Value;

use crate::{
    call::{Effect, Label},
    intent::pattern::is_name,
    problem::Problem,
};

use super::{
    Draft, DraftBody, DraftOperation, MAX_OPERATIONS, address,
    derive::{self, Derived, kebab},
    openapi::name_from_host,
    resolve::{problem, token},
};

/// What every server may be asked: id behind the provider, key, effect, parameters at the top.
const STANDARD: [(&str, &str, Effect, &[&str]); 26] = [
    ("session.initialize", "initialize", Effect::Read, &[]),
    ("session.ping", "ping", Effect::Read, &[]),
    ("session.discover", "server/discover", Effect::Read, &[]),
    ("session.respond", "response", Effect::Write, &[]),
    ("session.initialized", "notifications/initialized", Effect::Read, &[]),
    ("session.cancelled", "notifications/cancelled", Effect::Read, &[]),
    ("session.progress", "notifications/progress", Effect::Read, &[]),
    ("session.roots-changed", "notifications/roots/list_changed", Effect::Read, &[]),
    ("tools.list", "tools/list", Effect::Read, &[]),
    ("resources.list", "resources/list", Effect::Read, &[]),
    ("resources.list-templates", "resources/templates/list", Effect::Read, &[]),
    ("resources.read", "resources/read", Effect::Read, &["uri"]),
    ("resources.subscribe", "resources/subscribe", Effect::Read, &["uri"]),
    ("resources.unsubscribe", "resources/unsubscribe", Effect::Read, &["uri"]),
    ("subscriptions.listen", "subscriptions/listen", Effect::Read, &[]),
    ("prompts.list", "prompts/list", Effect::Read, &[]),
    ("prompts.get", "prompts/get", Effect::Read, &["name"]),
    ("completion.complete", "completion/complete", Effect::Read, &[]),
    ("logging.set-level", "logging/setLevel", Effect::Write, &["level"]),
    ("tasks.get", "tasks/get", Effect::Read, &["taskId"]),
    ("tasks.list", "tasks/list", Effect::Read, &[]),
    ("tasks.result", "tasks/result", Effect::Read, &["taskId"]),
    ("tasks.update", "tasks/update", Effect::Write, &["taskId"]),
    ("tasks.cancel", "tasks/cancel", Effect::Write, &["taskId"]),
    ("tasks.status-changed", "notifications/tasks/status", Effect::Read, &["taskId"]),
    ("elicitation.completed", "notifications/elicitation/complete", Effect::Read, &[]),
];

/// Reads a server's answers: one, or a list of them (pages).
pub(super) fn draft(document: &Value, provider: Option<&str>, host: Option<&str>) -> Result<Draft, Problem> {
    let (host, path) = address(host, "/mcp")?;
    let provider = provider.map_or_else(|| name_from_host(&host), str::to_owned);
    let mut operations = Vec::new();
    let pages: Vec<(String, &Value)> = match document {
        Value::Array(pages) => pages.iter().enumerate().map(|(i, p)| (format!("/{i}"), p)).collect(),
        one => vec![(String::new(), one)],
    };
    for (at, page) in pages {
        let (at, page) = page.get("result").map_or_else(|| (at.clone(), page), |inner| (format!("{at}/result"), inner));
        for (i, tool) in list(page, "tools").enumerate() {
            let pointer = format!("{at}/tools/{i}");
            let made = self::tool(tool, &provider, &pointer)?;
            if operations.iter().any(|o: &DraftOperation| o.id == made.id) {
                return Err(problem(&pointer, format!("the tool of `{}` stands twice", made.id)));
            }
            operations.push(made);
            if operations.len() > MAX_OPERATIONS / 10 {
                return Err(problem(&pointer, "there are too many tools"));
            }
        }
    }
    if operations.is_empty() {
        return Err(problem("/tools", "the answer lists no tools"));
    }
    for (id, key, effect, names) in STANDARD {
        let mut made = DraftOperation::new(format!("{provider}.{id}"), vec![format!("mcp {key}")], effect);
        made.body = DraftBody::Json(names.iter().map(|n| ((*n).to_owned(), format!("/{n}"))).collect());
        operations.push(made);
    }
    for (id, method, effect) in [("session.stream", "GET", Effect::Read), ("session.end", "DELETE", Effect::Read)] {
        operations.push(DraftOperation::new(format!("{provider}.{id}"), vec![format!("{method} {path}")], effect));
    }
    Ok(Draft {
        provider,
        hosts: vec![host],
        operations,
        readers: vec![("mcp".into(), path)],
        errors: Some("jsonrpc".into()),
        ..Draft::default()
    })
}

fn list<'d>(page: &'d Value, key: &str) -> impl Iterator<Item = &'d Value> {
    page.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn tool(tool: &Value, provider: &str, pointer: &str) -> Result<DraftOperation, Problem> {
    let Some(name) = tool.get("name").and_then(Value::as_str).filter(|n| !n.is_empty()) else {
        return Err(problem(pointer, "a tool without a name"));
    };
    let hint = |key: &str| tool.pointer(&format!("/annotations/{key}")).and_then(Value::as_bool);
    let Derived { effect, mut labels, mut uncertain } = derive::effect("post", "tool", &kebab(name));
    let by_hint = match (hint("readOnlyHint"), hint("destructiveHint")) {
        (Some(true), _) => Some(Effect::Read),
        (_, Some(true)) => Some(Effect::Delete),
        (Some(false), Some(false)) => Some(Effect::Write),
        _ => None,
    };
    let effect = match by_hint {
        // The name and the server agree, or only the server says anything.
        Some(hinted) if hinted == effect => hinted,
        Some(Effect::Read) if effect == Effect::Write && !uncertain => {
            uncertain = true;
            Effect::Read
        }
        Some(hinted) => {
            uncertain = true;
            stricter(hinted, effect)
        }
        None => {
            uncertain = true;
            effect
        }
    };
    if hint("openWorldHint") == Some(true) && !labels.contains(&Label::SendsElsewhere) {
        labels.push(Label::SendsElsewhere);
        uncertain = true;
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    for key in tool.pointer("/inputSchema/properties").and_then(Value::as_object).into_iter().flatten().map(|(k, _)| k) {
        if is_name(key) && !parameters.iter().any(|(n, _)| n.eq_ignore_ascii_case(key)) && parameters.len() < 1000 {
            parameters.push((key.clone(), format!("/{}", token(key))));
        }
    }
    let id = format!("{provider}.tool.{name}");
    let mut made = DraftOperation::new(id, vec![format!("mcp tools/call {name}")], effect);
    (made.labels, made.uncertain, made.body) = (labels, uncertain, DraftBody::Json(parameters));
    Ok(made)
}

/// What a tool is to be taken for when its name and its server say different things.
fn stricter(a: Effect, b: Effect) -> Effect {
    let rank = |effect| match effect {
        Effect::Read => 0,
        Effect::Write => 1,
        Effect::Execute => 2,
        Effect::Delete => 3,
        Effect::Admin => 4,
    };
    if rank(a) >= rank(b) { a } else { b }
}
