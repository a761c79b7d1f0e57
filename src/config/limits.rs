//! Limits as they stand in a file: on a grant, or over all that a workflow or an agent does.

use std::time::Duration;

use crate::{
    call::{Unit, Window},
    config::{
        LimitSpec, WideLimitSpec,
        node::Kind,
        read::{Fields, Value},
        registry, units,
    },
};

/// `limit` of a grant: `{calls: 20, per: task}`.
pub(super) fn limit(value: &Value<'_>) -> Option<LimitSpec> {
    of(value, &value.fields(&["calls", "tokens", "per"])?)
}

/// `limits` of a workflow or an agent: each on what its `intents` and `effects` say, or on all.
pub(super) fn limits(value: &Value<'_>) -> Option<Vec<WideLimitSpec>> {
    let list = value.list()?;
    if list.is_empty() {
        value.wrong("no limit is listed", "list one, such as {effects: [write, delete], calls: 50, per: 1h}, or remove the key");
        return None;
    }
    let read: Vec<Option<WideLimitSpec>> = list.iter().map(wide).collect();
    read.into_iter().collect()
}

fn wide(value: &Value<'_>) -> Option<WideLimitSpec> {
    let fields = value.fields(&["intents", "effects", "calls", "tokens", "per"])?;
    let intents = fields.optional("intents").map(registry::intents);
    let effects = fields.optional("effects").map(registry::effects);
    let limit = of(value, &fields);
    // A key without a value is noted already; the limit must not become wider by it.
    let whole = ["intents", "effects"].iter().all(|key| !fields.has(key) || fields.optional(key).is_some());
    let spec = WideLimitSpec {
        intents: registry::settled(intents)?.unwrap_or_default(),
        effects: registry::settled(effects)?.unwrap_or_default(),
        limit: limit?,
    };
    whole.then_some(spec)
}

fn of(value: &Value<'_>, fields: &Fields<'_>) -> Option<LimitSpec> {
    let (unit, key, help) = match (fields.has("calls"), fields.has("tokens")) {
        (true, true) => {
            value.wrong("a limit is on `calls` or on `tokens`", "write one limit for each");
            return None;
        }
        (false, true) => (Unit::Tokens, "tokens", "say how many tokens a model may answer with"),
        (_, false) => (Unit::Calls, "calls", "say how many calls"),
    };
    let most = if unit == Unit::Tokens { 1 << 48 } else { u64::from(u32::MAX) };
    let max = fields.required(key, help).and_then(|v| v.number(1, most));
    let per = match fields.optional("per") {
        None if fields.has("per") => return None,
        None => Window::Task,
        Some(per) => window(per)?,
    };
    Some(LimitSpec { max: max?, unit, per })
}

fn window(per: &Value<'_>) -> Option<Window> {
    match &per.node.kind {
        Kind::Text(text) if text == "task" => Some(Window::Task),
        Kind::Text(text) if text == "agent" => Some(Window::Agent),
        _ => per.parse(|text| {
            let seconds = units::duration(text).and_then(whole_seconds);
            seconds
                .map(Window::Seconds)
                .map_err(|(m, _)| (m, "write `task`, `agent` or a duration of whole seconds, such as 1h".to_string()))
        }),
    }
}

fn whole_seconds(duration: Duration) -> Result<u64, (String, String)> {
    if duration.subsec_nanos() == 0 && !duration.is_zero() {
        Ok(duration.as_secs())
    } else {
        Err(("the window is no whole number of seconds".to_string(), String::new()))
    }
}
