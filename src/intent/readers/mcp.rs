//! The Model Context Protocol over HTTP, revisions 2025-03-26 to 2026-07-28.
//!
//! A tool is an operation: `match: "mcp tools/call create_issue"`, with parameters from the call's
//! `arguments`. Any other method is one by its name (`"mcp resources/read"`), with parameters from
//! its `params`; `"mcp tools/call"` and `"mcp prompts/get"` stand for what is not listed by name; an
//! answer to the server is `"mcp response"`. What the headers of 2026-07-28 say must be what the body
//! says, since a server or a router may go by either.

use crate::{
    call::{Effect, Head},
    intent::{json, request::Media},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;

use super::{
    Arguments, Ask,
    jsonrpc::{self, Body, Message},
};

/// From this revision on, each request names its method in a header and is one message.
const NAMED: &str = "2026-07-28";

const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// Where a message names its revision itself.
const VERSION_META: &str = "io.modelcontextprotocol/protocolVersion";

/// Parameters that have a meaning here.
const NAMES: [&str; 4] = ["name", "arguments", "uri", "_meta"];

pub(super) fn read<'b>(head: &Head, media: &Media, body: &'b str) -> Result<Vec<Ask<'b>>, String> {
    let body = jsonrpc::read(media, body, &NAMES)?;
    check_headers(&head.headers, &body)?;
    body.into_messages().into_iter().map(ask).collect()
}

fn ask(message: Message<'_>) -> Result<Ask<'_>, String> {
    let Message::Call { method, params, members } = message else {
        let arguments = Arguments::Written("null");
        return Ok(Ask { key: "mcp response".into(), general: None, arguments, inside: None, effect: Effect::Write });
    };
    let arguments = Arguments::Written(params);
    let general = match &*method {
        "tools/call" => "mcp tools/call",
        "prompts/get" => "mcp prompts/get",
        _ => {
            let verb = method.rsplit('/').next().unwrap_or(&method);
            let reads = matches!(verb, "list" | "read" | "get" | "ping" | "discover" | "complete");
            let effect = if reads { Effect::Read } else { Effect::Write };
            return Ok(Ask { key: format!("mcp {method}"), general: None, arguments, inside: None, effect });
        }
    };
    members.iter().filter(|(name, _)| *name != "arguments").try_for_each(|(_, raw)| json::check(raw.get()))?;
    let Some(name) = members.get("name").copied().and_then(json::text).filter(|n| !n.is_empty()) else {
        return Err(format!("`{method}` without the `name` of what is called"));
    };
    if members.get("arguments").is_some_and(|a| a.get() != "null" && !a.get().starts_with('{')) {
        return Err(format!("the `arguments` of `{method}` are not an object"));
    }
    let inside = Some(Arguments::Written(members.get("arguments").map_or("null", |a| a.get())));
    let effect = if method == "prompts/get" { Effect::Read } else { Effect::Write };
    Ok(Ask { key: format!("{general} {name}"), general: Some(general), arguments, inside, effect })
}

/// What is named outside the body must be what is in it.
fn check_headers(headers: &HeaderMap, body: &Body<'_>) -> Result<(), String> {
    let (version, method, name) = (field(headers, VERSION)?, field(headers, METHOD)?, field(headers, NAME)?);
    let named = |version: &str| version.len() == NAMED.len() && version >= NAMED;
    let message = match body {
        Body::One(message) => message,
        Body::Batch(_) if method.is_some() || name.is_some() || version.is_some_and(named) => {
            return Err("a batch cannot be named in the headers `Mcp-Method` and `Mcp-Name`: send one message a request".into());
        }
        Body::Batch(_) => return Ok(()),
    };
    let Message::Call { method: own, members, .. } = message else {
        return if method.is_some() || name.is_some() {
            Err("`Mcp-Method` names a call, and the body is an answer".into())
        } else {
            Ok(())
        };
    };
    let text_of = |name: &str| members.get(name).copied().and_then(json::text);
    let meta = members.get("_meta").map_or(Ok(None), |m| json::members(m.get(), &[VERSION_META]))?;
    let meta = meta.and_then(|m| m.get(VERSION_META).copied().and_then(json::text));
    if let (Some(outside), Some(inside)) = (version, meta.as_deref())
        && outside != inside
    {
        return Err("`MCP-Protocol-Version` and the message's `_meta` name two revisions".into());
    }
    let own_name = match &**own {
        "tools/call" | "prompts/get" => text_of("name"),
        "resources/read" => text_of("uri"),
        _ => None,
    };
    if version.or(meta.as_deref()).is_some_and(named) && (method.is_none() || (own_name.is_some() && name.is_none())) {
        return Err(format!("from revision {NAMED} on, `Mcp-Method` and `Mcp-Name` must name what the body asks for"));
    }
    if method.is_some_and(|m| m != own) {
        return Err(format!("`Mcp-Method` is not the body's method, `{}`", short(own)));
    }
    match (name.map(decode).transpose()?, own_name.as_deref()) {
        (Some(named), Some(own)) if named != own => Err(format!("`Mcp-Name` is not the name in the body, `{}`", short(own))),
        (Some(_), None) if matches!(&**own, "tools/call" | "prompts/get" | "resources/read") => {
            Err("`Mcp-Name` names what the body does not".into())
        }
        _ => Ok(()),
    }
}

/// The one value of a field.
fn field<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, String> {
    let mut all = headers.get_all(name).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(format!("the field `{name}` stands twice"));
    }
    value.to_str().map(Some).map_err(|_| format!("the field `{name}` is not ASCII text"))
}

/// `=?base64?…?=` wraps what cannot stand in a header.
fn decode(value: &str) -> Result<String, String> {
    let Some(inner) = value.strip_prefix("=?base64?").and_then(|v| v.strip_suffix("?=")) else { return Ok(value.to_owned()) };
    let bytes = STANDARD.decode(inner).map_err(|_| "`Mcp-Name` is not base64 as it says".to_owned())?;
    String::from_utf8(bytes).map_err(|_| "`Mcp-Name` is not UTF-8 once decoded".to_owned())
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
