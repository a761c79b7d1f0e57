//! JSON-RPC 2.0 messages, for the protocols that are made of them.

use serde_json::{Map, Value};

use crate::intent::{json, query, request::Media};

/// One message.
#[derive(Debug)]
pub(super) enum Message {
    /// A request or a notification.
    Call { method: String, params: Value },
    /// The answer to a request of the server's.
    Response,
}

/// The messages of a body.
#[derive(Debug)]
pub(super) enum Body {
    One(Message),
    Batch(Vec<Message>),
}

impl Body {
    pub(super) fn into_messages(self) -> Vec<Message> {
        match self {
            Self::One(message) => vec![message],
            Self::Batch(messages) => messages,
        }
    }
}

/// The members of a message.
const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// Reads a body: one message, or a batch of them.
pub(super) fn read(media: &Media, body: &[u8]) -> Result<Body, String> {
    if !media.is_json() {
        return Err(format!("the body is {:?}, and a JSON-RPC message is JSON", media.essence));
    }
    let text = std::str::from_utf8(body).map_err(|e| format!("the body is not UTF-8 (byte {})", e.valid_up_to()))?;
    match json::value(text)? {
        Value::Array(batch) => Ok(Body::Batch(batch.into_iter().map(message).collect::<Result<_, _>>()?)),
        one => Ok(Body::One(message(one)?)),
    }
}

fn message(value: Value) -> Result<Message, String> {
    let Value::Object(mut members) = value else { return Err("a JSON-RPC message is an object".into()) };
    exact(&members, &MEMBERS)?;
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err("a JSON-RPC message begins with `\"jsonrpc\": \"2.0\"`".into());
    }
    if !matches!(members.get("id"), None | Some(Value::String(_) | Value::Number(_))) {
        return Err("the `id` of a JSON-RPC message is text or a number".into());
    }
    let answers = members.contains_key("result") || members.contains_key("error");
    match members.remove("method") {
        Some(Value::String(method)) if !answers => {
            let params = members.remove("params").unwrap_or(Value::Null);
            if !matches!(params, Value::Null | Value::Object(_)) {
                return Err("`params` is not an object: parameters have names here".into());
            }
            Ok(Message::Call { method, params })
        }
        None if answers && !members.contains_key("params") => Ok(Message::Response),
        _ => Err("a JSON-RPC message is either a call with a `method` or an answer with a `result` or an `error`".into()),
    }
}

/// Refuses keys that differ from one of `names` only in case: some readers take them for it.
pub(super) fn exact(members: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    for key in members.keys().filter(|k| !names.contains(&k.as_str())) {
        let folded = query::fold(key);
        if names.iter().any(|n| query::fold(n) == folded) {
            let short: String = key.chars().take(60).collect();
            return Err(format!("the key {short:?} differs from one that has a meaning only in case"));
        }
    }
    Ok(())
}
