//! The registry as policies look it up.

use serde_json::{Map, Value, json};

use crate::{
    call::{Effect, Unit, Window},
    config::{GrantSpec, LimitSpec, OnDrift, RegistrySpec, WideLimitSpec, WorkflowSpec},
};

/// What stands at `data.remit`, indexed so that a decision costs the same with 10 agents and 10,000.
///
/// ```json
/// {"agents": {"triage-bot": {"workflows": ["triage-issues"], "on_drift": "record"}},
///  "workflows": {"triage-issues": {
///    "exact": {"github.issues.add-labels": {"write": [1], "read": [1], …}},
///    "cover": {"read": [0]},
///    "grants": [
///      {"name": "grant 1", "key": "triage-issues/1", "prefixes": ["github."],
///       "where": [{"param": "repo", "any": ["web"], "prefixes": ["docs-"], "wanted": "web or docs-*"}]},
///      {"name": "grant 2", "key": "triage-issues/2", "prefixes": [], "where": [],
///       "limit": {"max": 20, "window": "task", "unit": "calls"}, "approval": {"by": […]}, "credential": "github", "returns": ["cookies"]}],
///    "limits": [
///      {"key": "triage-issues/limits/1", "effects": ["write", "delete"], "exact": [], "prefixes": [""],
///       "max": 50, "window": 3600, "unit": "calls"}]}}}
/// ```
///
/// `exact`: intent → effect → the grants that name the intent. `cover`: effect → the grants that
/// cover intents by a prefix (`""` for a grant by effect alone). Both hold places in `grants`, in
/// file order. A window is `"task"`, `"agent"` or seconds; `limits`, where there
/// are any, stand beside an agent's `workflows` too. A number or boolean in `where` also matches its
/// text, since path and query give text.
#[must_use]
pub fn registry_data(registry: &RegistrySpec) -> Value {
    let agents: Map<String, Value> = registry
        .agents
        .iter()
        .map(|agent| {
            let on_drift = match agent.on_drift {
                OnDrift::Record => "record",
                OnDrift::ReadOnly => "read_only",
                OnDrift::Deny => "deny",
            };
            let workflows: Vec<&str> = agent.workflows.iter().map(|w| &**w).collect();
            let mut fields = json!({"workflows": workflows, "on_drift": on_drift});
            if let Some(fields) = fields.as_object_mut().filter(|_| !agent.limits.is_empty()) {
                fields.insert("limits".to_owned(), wide("", &agent.limits));
            }
            (agent.id.to_string(), fields)
        })
        .collect();
    let workflows: Map<String, Value> = registry.workflows.iter().map(|w| (w.id.to_string(), workflow(w))).collect();
    json!({"agents": agents, "workflows": workflows})
}

/// The parameters that `where` constraints name.
pub(super) fn wheres(data: &Value) -> std::collections::BTreeSet<Box<str>> {
    let workflows = data.get("workflows").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let mut names = std::collections::BTreeSet::new();
    for constraint in workflows.flat_map(|w| list(w, "grants")).flat_map(|g| list(g, "where")) {
        if let Some(name) = constraint.get("param").and_then(Value::as_str)
            && !names.contains(name)
        {
            names.insert(Box::from(name));
        }
    }
    names
}

fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn workflow(workflow: &WorkflowSpec) -> Value {
    let (mut exact, mut cover) = (Map::new(), Map::new());
    for (place, grant) in workflow.grants.iter().enumerate() {
        for effect in effects(grant) {
            for intent in grant.intents.iter().filter(|i| !i.ends_with('*')) {
                let by_effect = exact.entry(&**intent).or_insert_with(|| json!({}));
                push(by_effect.as_object_mut(), effect, place);
            }
            if !prefixes(grant).is_empty() {
                push(Some(&mut cover), effect, place);
            }
        }
    }
    let grants: Vec<Value> = workflow.grants.iter().enumerate().map(|(place, g)| grant(workflow, place, g)).collect();
    let mut fields = json!({"exact": exact, "cover": cover, "grants": grants});
    if let Some(fields) = fields.as_object_mut().filter(|_| !workflow.limits.is_empty()) {
        fields.insert("limits".to_owned(), wide(&format!("{}/", workflow.id), &workflow.limits));
    }
    fields
}

/// The effects a grant is for: all, when it lists none.
fn effects(grant: &GrantSpec) -> Vec<Effect> {
    if grant.effects.is_empty() { Effect::ALL.to_vec() } else { grant.effects.clone() }
}

fn prefixes(grant: &GrantSpec) -> Vec<&str> {
    if grant.intents.is_empty() && !grant.effects.is_empty() {
        return vec![""];
    }
    grant.intents.iter().filter_map(|i| i.strip_suffix('*')).collect()
}

fn push(lists: Option<&mut Map<String, Value>>, effect: Effect, place: usize) {
    let list = lists.map(|l| l.entry(effect.as_str()).or_insert_with(|| json!([])));
    if let Some(places) = list.and_then(Value::as_array_mut)
        && places.last() != Some(&json!(place))
    {
        places.push(json!(place));
    }
}

fn grant(workflow: &WorkflowSpec, place: usize, grant: &GrantSpec) -> Value {
    let number = place + 1;
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(format!("grant {number}")));
    fields.insert("key".to_owned(), json!(format!("{}/{number}", workflow.id)));
    fields.insert("prefixes".to_owned(), json!(prefixes(grant)));
    let wheres: Vec<Value> = grant.constraints.iter().map(|(param, values)| constraint(param, values)).collect();
    fields.insert("where".to_owned(), json!(wheres));
    if let Some(limit) = &grant.limit {
        fields.insert("limit".to_owned(), self::limit(limit));
    }
    if !grant.labels.is_empty() {
        fields.insert("labels".to_owned(), json!(grant.labels));
    }
    if let Some(approval) = &grant.approval {
        fields.insert("approval".to_owned(), approval.clone());
    }
    if let Some(credential) = grant.credential.as_ref().or(workflow.credential.as_ref()) {
        fields.insert("credential".to_owned(), json!(&**credential));
    }
    let returns: Vec<&str> = grant.returns.names().collect();
    if !returns.is_empty() {
        fields.insert("returns".to_owned(), json!(returns));
    }
    Value::Object(fields)
}

/// `{"max": 20, "window": "task", "unit": "calls"}`; a window is `"task"`, `"agent"` or seconds.
fn limit(limit: &LimitSpec) -> Value {
    let window = match limit.per {
        Window::Task => json!("task"),
        Window::Agent => json!("agent"),
        Window::Seconds(seconds) => json!(seconds.max(1)),
    };
    let unit = match limit.unit {
        Unit::Calls => "calls",
        Unit::Tokens => "tokens",
    };
    json!({"max": limit.max, "window": window, "unit": unit})
}

/// The limits over all grants: by effect, the places of those that are on it.
fn wide(key: &str, limits: &[WideLimitSpec]) -> Value {
    let of = |(i, wide): (usize, &WideLimitSpec)| {
        let mut fields = limit(&wide.limit);
        let effects: Vec<&str> =
            if wide.effects.is_empty() { &Effect::ALL[..] } else { &wide.effects }.iter().map(|e| e.as_str()).collect();
        let prefixes: Vec<&str> =
            if wide.intents.is_empty() { vec![""] } else { wide.intents.iter().filter_map(|i| i.strip_suffix('*')).collect() };
        let exact: Vec<&str> = wide.intents.iter().filter(|i| !i.ends_with('*')).map(|i| &**i).collect();
        if let Some(fields) = fields.as_object_mut() {
            fields.extend([
                ("key".to_owned(), json!(format!("{key}limits/{}", i + 1))),
                ("effects".to_owned(), json!(effects)),
                ("exact".to_owned(), json!(exact)),
                ("prefixes".to_owned(), json!(prefixes)),
            ]);
        }
        fields
    };
    limits.iter().enumerate().map(of).collect()
}

fn constraint(param: &str, values: &[Value]) -> Value {
    let (mut any, mut prefixes, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::String(text) => {
                wanted.push(text.clone());
                match text.strip_suffix('*') {
                    Some(prefix) => prefixes.push(prefix),
                    None => any.push(value.clone()),
                }
            }
            Value::Number(_) | Value::Bool(_) => {
                wanted.push(value.to_string());
                any.extend([value.clone(), json!(value.to_string())]);
            }
            other => {
                wanted.push(other.to_string());
                any.push(other.clone());
            }
        }
    }
    json!({"param": param, "any": any, "prefixes": prefixes, "wanted": wanted.join(" or ")})
}
