use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    call::{Effect, Unit, Window},
    config::{GrantSpec, WorkflowSpec},
    refusal::{Reason, Refusal},
};

use super::nearest::value_means;

/// Grants that narrow a workflow's, as they are asked for: the registry's form, without what only
/// the registry may say (which credential).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    intents: Vec<Box<str>>,
    #[serde(default)]
    effects: Vec<Effect>,
    #[serde(default, rename = "where")]
    constraints: BTreeMap<Box<str>, OneOrMany>,
    limit: Option<Limit>,
    approval: Option<serde_json::Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    #[serde(default)]
    per: PerTask,
}

impl Limit {
    /// What it counts and how much of it; None when it says neither, or both.
    fn of(&self) -> Option<(Unit, u64)> {
        match (self.calls, self.tokens) {
            (Some(calls), None) => Some((Unit::Calls, calls)),
            (None, Some(tokens)) => Some((Unit::Tokens, tokens)),
            _ => None,
        }
    }
}

/// A narrowing limit counts over the task: a window's count is the agent's, not the task's.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum PerTask {
    #[default]
    Task,
}

const MOST_GRANTS: usize = 64;
const MOST_INTENTS: usize = 256;

/// Checks that `asked` only narrows what `workflow` grants and writes it out whole: what it leaves
/// unsaid (effects, intents, a `where`) it inherits. Each result lies within one grant of the
/// workflow. Both must still grant a call, so a `*` here gains nothing there.
///
/// # Errors
/// `delegation_invalid`, naming what is wider or not understood.
pub(super) fn narrow(workflow: &WorkflowSpec, asked: &[Value]) -> Result<Vec<Value>, Refusal> {
    Ok(narrow_apart(workflow, asked)?.into_iter().flatten().collect())
}

/// As [`narrow`], what came of each by itself.
pub(super) fn narrow_apart(workflow: &WorkflowSpec, asked: &[Value]) -> Result<Vec<Vec<Value>>, Refusal> {
    if asked.len() > MOST_GRANTS {
        return Err(invalid(format!("{} grants are more than the {MOST_GRANTS} a task can carry", asked.len())));
    }
    let mut out = Vec::new();
    for (i, value) in asked.iter().enumerate() {
        let wanted = Asked::deserialize(value).map_err(|e| invalid(format!("grants[{i}]: {e}")))?;
        wanted.check().map_err(|why| invalid(format!("grants[{i}]: {why}")))?;
        out.push(wanted.within(workflow).map_err(|why| invalid(format!("grants[{i}]: {why}")))?);
    }
    Ok(out)
}

fn invalid(detail: String) -> Refusal {
    Refusal::new(Reason::DelegationInvalid, detail)
}

impl Asked {
    fn check(&self) -> Result<(), String> {
        if self.intents.len() > MOST_INTENTS {
            return Err(format!("more than {MOST_INTENTS} intents"));
        }
        if let Some(bad) = self.intents.iter().find(|p| p.is_empty() || p.trim_end_matches('*').contains('*') || p.ends_with("**")) {
            return Err(format!("intents: `{bad}` is neither an intent nor a prefix ending in one `*`"));
        }
        if self.limit.as_ref().is_some_and(|limit| limit.of().is_none()) {
            return Err("limit: it is on one of `calls` and `tokens`".to_string());
        }
        if let Some((name, _)) = self.constraints.iter().find(|(_, values)| values.as_slice().is_empty()) {
            return Err(format!("where: `{name}` allows no value"));
        }
        Ok(())
    }

    fn within(&self, workflow: &WorkflowSpec) -> Result<Vec<Value>, String> {
        let mut fits: Vec<(&GrantSpec, Vec<&str>)> = Vec::new();
        let unsaid = [None];
        let said: Vec<Option<&str>> = self.intents.iter().map(|p| Some(&**p)).collect();
        for pattern in if said.is_empty() { &unsaid[..] } else { &said[..] } {
            let mut why = format!("workflow `{}` grants nothing", workflow.id);
            let mut fitted = false;
            for grant in &workflow.grants {
                match self.wider_than(grant, *pattern) {
                    Some(wider) => why = wider.more_telling(why),
                    None => {
                        fitted = true;
                        match fits.iter_mut().find(|(g, _)| std::ptr::eq(*g, grant)) {
                            Some((_, patterns)) => patterns.extend(*pattern),
                            None => fits.push((grant, pattern.iter().copied().collect())),
                        }
                    }
                }
            }
            if !fitted {
                return Err(why);
            }
        }
        if self.limit.is_some() && fits.len() > 1 {
            return Err("limit: this lies in several grants of the workflow, and would count in each: write one for each".to_string());
        }
        Ok(fits.into_iter().map(|(grant, patterns)| self.written_out(grant, &patterns)).collect())
    }

    /// What of this is wider than `grant`, if anything is.
    fn wider_than(&self, grant: &GrantSpec, pattern: Option<&str>) -> Option<Wider> {
        if let Some(p) = pattern
            && !grant.intents.is_empty()
            && !grant.intents.iter().any(|g| covers(g, p))
        {
            return Some(Wider::Intent(format!("intents: `{p}` is not within what the workflow grants")));
        }
        if let Some(e) = self.effects.iter().find(|e| !grant.effects.is_empty() && !grant.effects.contains(e)) {
            return Some(Wider::Part(format!("effects: `{e}` is not within what the workflow grants")));
        }
        for (name, allowed) in &grant.constraints {
            let Some(values) = self.constraints.get(name) else { continue };
            if let Some(v) = values.as_slice().iter().find(|v| !allowed.iter().any(|a| value_covers(a, v))) {
                return Some(Wider::Part(format!("where: {name} {v} is not within what the workflow grants")));
            }
        }
        let ((unit, ours), theirs) = (self.limit.as_ref()?.of()?, grant.limit.as_ref()?);
        let what = if unit == Unit::Tokens { "tokens" } else { "calls" };
        (theirs.per == Window::Task && unit == theirs.unit && ours > theirs.max)
            .then(|| Wider::Part(format!("limit: {ours} {what} are more than the workflow's {}", theirs.max)))
    }

    fn written_out(&self, grant: &GrantSpec, patterns: &[&str]) -> Value {
        let mut out = serde_json::Map::new();
        let intents: Vec<&str> = if patterns.is_empty() { grant.intents.iter().map(|p| &**p).collect() } else { patterns.to_vec() };
        let effects = if self.effects.is_empty() { &grant.effects } else { &self.effects };
        let mut constraints: serde_json::Map<String, Value> =
            grant.constraints.iter().map(|(name, values)| (name.to_string(), values.clone().into())).collect();
        for (name, values) in &self.constraints {
            constraints.insert(name.to_string(), values.as_slice().to_vec().into());
        }
        if !intents.is_empty() {
            out.insert("intents".into(), intents.into());
        }
        if !effects.is_empty() {
            out.insert("effects".into(), effects.iter().map(|e| e.as_str()).collect::<Vec<_>>().into());
        }
        if !constraints.is_empty() {
            out.insert("where".into(), constraints.into());
        }
        if let Some(limit) = &self.limit {
            out.insert("limit".into(), serde_json::json!(limit));
        }
        if let Some(approval) = &self.approval {
            out.insert("approval".into(), approval.clone().into());
        }
        Value::Object(out)
    }
}

impl OneOrMany {
    fn as_slice(&self) -> &[Value] {
        match self {
            Self::Many(values) => values,
            Self::One(value) => std::slice::from_ref(value),
        }
    }
}

/// Why a grant does not hold what was asked; that its intents fit tells more.
enum Wider {
    Intent(String),
    Part(String),
}

impl Wider {
    fn more_telling(self, before: String) -> String {
        match self {
            Self::Part(why) => why,
            Self::Intent(why) if before.starts_with("workflow") => why,
            Self::Intent(_) => before,
        }
    }
}

/// Whether everything that pattern `inner` means, `outer` means too.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    match outer.strip_suffix('*') {
        Some(prefix) => inner.trim_end_matches('*').starts_with(prefix),
        None => outer == inner,
    }
}

/// Whether every value that `inner` means, `outer` means too.
pub(super) fn value_covers(outer: &Value, inner: &Value) -> bool {
    match (outer, inner) {
        (Value::String(o), Value::String(i)) => covers(o, i),
        _ => value_means(outer, inner),
    }
}
