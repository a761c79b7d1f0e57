//! JSON-RPC 2.0 messages, for the protocols that are made of them.

use serde_json::value::RawValue;

use crate::intent::{
    json::{self, Members},
    request::Media,
};

use super::MOST;

/// One message.
#[derive(Debug)]
pub(super) enum Message<'b> {
    /// A request or a notification, with its parameters as they are written (an object, or `null`),
    /// and each of them.
    Call { method: String, params: &'b str, members: Members<'b> },
    /// The answer to a request of the server's.
    Response,
}

/// The messages of a body.
#[derive(Debug)]
pub(super) enum Body<'b> {
    One(Message<'b>),
    Batch(Vec<Message<'b>>),
}

impl<'b> Body<'b> {
    pub(super) fn into_messages(self) -> Vec<Message<'b>> {
        match self {
            Self::One(message) => vec![message],
            Self::Batch(messages) => messages,
        }
    }
}

/// The members of a message.
const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// Reads a body: one message, or a batch of them. `names` are the parameters that have a meaning. What
/// parameters hold is left to be read.
pub(super) fn read<'b>(media: &Media, body: &'b str, names: &[&str]) -> Result<Body<'b>, String> {
    if !media.is_json() {
        return Err(format!("the body is {:?}, and a JSON-RPC message is JSON", media.essence));
    }
    match json::items(body, MOST)? {
        Some(batch) => Ok(Body::Batch(batch.into_iter().map(|one| message(one.get(), names)).collect::<Result<_, _>>()?)),
        None => message(body, names).map(Body::One),
    }
}

fn message<'b>(text: &'b str, names: &[&str]) -> Result<Message<'b>, String> {
    let Some(members) = json::members(text, &MEMBERS)? else { return Err("a JSON-RPC message is an object".into()) };
    members.iter().filter(|(name, _)| *name != "params").try_for_each(|(_, raw)| json::check(raw.get()))?;
    let member = |name: &str| members.get(name).copied();
    if member("jsonrpc").and_then(json::text).as_deref() != Some("2.0") {
        return Err("a JSON-RPC message begins with `\"jsonrpc\": \"2.0\"`".into());
    }
    if member("id").is_some_and(|id| !id.get().starts_with(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])) {
        return Err("the `id` of a JSON-RPC message is text or a number".into());
    }
    let answers = member("result").is_some() || member("error").is_some();
    match member("method").map(json::text) {
        Some(Some(method)) if !answers => {
            let params = member("params").map_or("null", RawValue::get);
            if params != "null" && !params.starts_with('{') {
                return Err("`params` is not an object: parameters have names here".into());
            }
            Ok(Message::Call { method, params, members: json::members(params, names)?.unwrap_or_default() })
        }
        None if answers && member("params").is_none() => Ok(Message::Response),
        _ => Err("a JSON-RPC message is either a call with a `method` or an answer with a `result` or an `error`".into()),
    }
}
