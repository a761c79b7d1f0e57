//! The decision document → a `Decision`. What is not well formed is an error, and so a deny.

use std::sync::Arc;

use crate::{
    call::{Decision, Label, LimitRule, Returns, Unit, Verdict, Window},
    refusal::Reason,
};

use super::engine::Value;

/// Reasons that are kept, and the bytes of each.
const MAX_REASONS: usize = 16;
const MAX_REASON: usize = 512;

/// A decision, and whether the policy lets it be kept.
pub(super) fn decision(value: &Value) -> Result<(Decision, bool), String> {
    let Value::Object(fields) = value else { return Err("the policy's decision is not an object".to_owned()) };
    let mut decision = Decision {
        verdict: Verdict::Deny,
        code: None,
        reasons: Vec::new(),
        labels: Vec::new(),
        limits: Vec::new(),
        credential: None,
        approval: None,
        scope: None,
        returns: Returns::default(),
        grants: Vec::new(),
    };
    let (mut verdict, mut code, mut cache) = (None, None, true);
    for (key, value) in fields.iter() {
        let Value::String(key) = key else { return Err("a key of the decision is not a text".to_owned()) };
        let read = match &**key {
            "decision" => self::verdict(value).map(|v| verdict = Some(v)),
            "code" => self::code(value).map(|c| code = c),
            "reasons" => texts(value).map(|r| decision.reasons = r),
            "labels" => labels(value).map(|l| decision.labels = l),
            "limits" => items(value).and_then(|l| l.iter().map(|v| limit(v)).collect::<Option<_>>()).map(|l| decision.limits = l),
            "credential" => credential(value).map(|c| decision.credential = c),
            "approval" => document(value).map(|d| decision.approval = d),
            "scope" => document(value).map(|d| decision.scope = d),
            "returns" => returns(value).map(|r| decision.returns = r),
            "grants" => texts(value).map(|g| decision.grants = g),
            "cache" => value.as_bool().ok().map(|c| cache = *c),
            _ => None,
        };
        if read.is_none() {
            return Err(format!("`{key}` of the policy's decision is not well formed"));
        }
    }
    let Some(verdict) = verdict else { return Err("the policy's decision has no `decision`".to_owned()) };
    decision.verdict = verdict;
    decision.code = match (verdict, code) {
        (Verdict::Allow, None) => None,
        (Verdict::Allow, Some(_)) => return Err("an allow has a `code`".to_owned()),
        (Verdict::Deny, code) => Some(code.unwrap_or(Reason::NotGranted)),
        (Verdict::Ask, _) => Some(Reason::ApprovalRequired),
    };
    Ok((decision, cache))
}

/// What stands for a decision that could not be made.
pub(super) fn failed(why: &str) -> Decision {
    Decision {
        verdict: Verdict::Deny,
        code: Some(Reason::PolicyFailed),
        reasons: vec![cut(why)],
        labels: Vec::new(),
        limits: Vec::new(),
        credential: None,
        approval: None,
        scope: None,
        returns: Returns::default(),
        grants: Vec::new(),
    }
}

fn verdict(value: &Value) -> Option<Verdict> {
    match &**value.as_string().ok()? {
        "allow" => Some(Verdict::Allow),
        "deny" => Some(Verdict::Deny),
        "ask" => Some(Verdict::Ask),
        _ => None,
    }
}

fn code(value: &Value) -> Option<Option<Reason>> {
    if *value == Value::Null {
        return Some(None);
    }
    let reason = match &**value.as_string().ok()? {
        "not_granted" => Reason::NotGranted,
        "guardrail" => Reason::Guardrail,
        "drift" => Reason::Drift,
        "approval_required" => Reason::ApprovalRequired,
        _ => return None,
    };
    Some(Some(reason))
}

/// The elements of an array or set.
fn items(value: &Value) -> Option<Vec<&Value>> {
    match value {
        Value::Array(items) => Some(items.iter().collect()),
        Value::Set(items) => Some(items.iter().collect()),
        _ => None,
    }
}

fn texts(value: &Value) -> Option<Vec<Box<str>>> {
    items(value)?.into_iter().take(MAX_REASONS).map(|v| v.as_string().ok().map(|t| cut(t))).collect()
}

fn cut(text: &str) -> Box<str> {
    let mut end = text.len().min(MAX_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

fn labels(value: &Value) -> Option<Vec<Label>> {
    items(value)?.into_iter().map(|v| v.as_string().ok().and_then(|t| Label::ALL.into_iter().find(|l| l.as_str() == &**t))).collect()
}

fn returns(value: &Value) -> Option<Returns> {
    items(value)?.into_iter().try_fold(Returns::default(), |all, v| {
        let text = v.as_string().ok()?;
        Returns::NAMES.into_iter().find(|(name, _)| *name == &**text).map(|(_, one)| all.or(one))
    })
}

/// `key`, `max` and `window`; for other than calls its `unit`, for one link's own its place.
fn limit(value: &Value) -> Option<LimitRule> {
    let Value::Object(fields) = value else { return None };
    let field = |name: &str| fields.get(&Value::from(name));
    let (unit, link) = (field("unit"), field("link"));
    if fields.len() != 3 + usize::from(unit.is_some()) + usize::from(link.is_some()) {
        return None;
    }
    let window = match field("window")? {
        Value::String(text) if &**text == "task" => Window::Task,
        Value::String(text) if &**text == "agent" => Window::Agent,
        seconds => Window::Seconds(seconds.as_u64().ok().filter(|s| *s > 0)?),
    };
    let unit = match unit.map(Value::as_string) {
        None => Unit::Calls,
        Some(Ok(text)) if &**text == "calls" => Unit::Calls,
        Some(Ok(text)) if &**text == "tokens" => Unit::Tokens,
        Some(_) => return None,
    };
    let link = match link.map(Value::as_u64) {
        None => None,
        Some(place) => Some(usize::try_from(place.ok()?).ok()?),
    };
    Some(LimitRule { key: field("key")?.as_string().ok()?.as_ref().into(), max: field("max")?.as_u64().ok()?, window, unit, link })
}

fn credential(value: &Value) -> Option<Option<Arc<str>>> {
    if *value == Value::Null { Some(None) } else { value.as_string().ok().map(|name| Some(name.clone())) }
}

/// An object; an empty one is none.
fn document(value: &Value) -> Option<Option<serde_json::Value>> {
    match value {
        Value::Null => Some(None),
        Value::Object(fields) if fields.is_empty() => Some(None),
        Value::Object(_) => serde_json::from_str(&value.to_json_str().ok()?).ok().map(Some),
        _ => None,
    }
}
