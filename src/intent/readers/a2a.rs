//! A2A's JSON-RPC binding: the method is the operation, its parameters are the `params`.
//!
//! `match: "a2a SendMessage"` (1.0), or `"a2a message/send"` as versions before called it. The
//! HTTP+JSON binding is matched by path: `"POST /message:send"`.

use crate::{call::Effect, intent::request::Media};

use super::{
    Arguments, Ask,
    jsonrpc::{self, Message},
};

pub(super) fn read<'b>(media: &Media, body: &'b str) -> Result<Vec<Ask<'b>>, String> {
    jsonrpc::read(media, body, &[])?.into_messages().into_iter().map(ask).collect()
}

fn ask(message: Message<'_>) -> Result<Ask<'_>, String> {
    let Message::Call { method, params, .. } = message else {
        return Err("an A2A client sends calls, not answers".into());
    };
    let verb = method.rsplit('/').next().unwrap_or(&method);
    let reads = verb.starts_with("Get") || verb.starts_with("List") || verb == "get" || verb == "list";
    let effect = if reads { Effect::Read } else { Effect::Write };
    Ok(Ask { key: format!("a2a {method}"), general: None, arguments: Arguments::Written(params), inside: None, effect })
}
