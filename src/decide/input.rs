//! The input document, built as the engine's own value. What is fixed for a task is built once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;

use crate::call::{Intent, Link, LinkKind, Operation, Param, Params, Task};

use super::{
    engine::Value,
    facts::{Facts, State},
};

/// Tasks whose parts are kept. Past it all are dropped and built again as they are met.
const MAX_TASKS: usize = 4096;

/// The parts of the input that a task fixes, by its number.
#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<HashMap<u64, Arc<Parts>>>);

#[derive(Debug)]
struct Parts {
    agent: [(Value, Value); 2],
    /// Without its labels.
    task: BTreeMap<Value, Value>,
    delegation: Value,
}

/// The input for one intent of a call.
pub(super) fn input(tasks: &Tasks, facts: &Facts<'_>, intent: &Intent, state: &State) -> Value {
    let parts = tasks.parts(facts.task);
    let mut task = parts.task.clone();
    task.insert(key("labels"), list(state.labels.iter().map(|l| text(l.as_str()))));
    task.insert(key("succeeded"), list(state.succeeded.iter().map(|id| Value::String(id.clone()))));
    let [id, spiffe] = parts.agent.clone();
    let agent = BTreeMap::from([id, spiffe, (key("drift"), list(facts.drift.iter().map(|d| text(d))))]);
    let caller = [("how", text(facts.how.as_str())), ("listener", text(facts.listener.as_str()))];
    object([
        ("caller", object(caller)),
        ("agent", Value::from(agent)),
        ("task", Value::from(task)),
        ("delegation", parts.delegation.clone()),
        ("intent", self::intent(&intent.operation, &intent.params)),
        ("request", request(facts)),
    ])
}

impl Tasks {
    fn parts(&self, task: &Task) -> Arc<Parts> {
        let mut known = self.0.lock();
        if let Some(parts) = known.get(&task.number) {
            return parts.clone();
        }
        if known.len() >= MAX_TASKS {
            known.clear();
        }
        let parts = Arc::new(Parts::new(task));
        known.insert(task.number, parts.clone());
        parts
    }
}

impl Parts {
    fn new(task: &Task) -> Self {
        let principal = object([
            ("id", text(&task.principal.id)),
            ("verified", Value::from(task.principal.verified)),
            ("claims", json(&task.principal.claims)),
        ]);
        let spiffe = task.agent.spiffe_id.as_deref().map_or(Value::Null, text);
        Self {
            agent: [(key("id"), text(&task.agent.id)), (key("spiffe_id"), spiffe)],
            task: BTreeMap::from([
                (key("id"), text(task.id.as_str())),
                (key("workflow"), text(&task.workflow)),
                (key("purpose"), text(&task.purpose)),
                (key("principal"), principal),
            ]),
            delegation: list(task.chain.iter().map(link)),
        }
    }
}

fn link(link: &Link) -> Value {
    let kind = match link.kind {
        LinkKind::Principal => "principal",
        LinkKind::Agent => "agent",
    };
    let mut fields = BTreeMap::from([(key("kind"), text(kind)), (key("id"), text(&link.id))]);
    if let Some(workflow) = &link.workflow {
        fields.insert(key("workflow"), text(workflow));
    }
    if let Some(grants) = &link.grants {
        fields.insert(key("grants"), list(grants.iter().map(json)));
    }
    Value::from(fields)
}

fn intent(operation: &Operation, params: &Params) -> Value {
    let params: BTreeMap<Value, Value> = params.iter().map(|(name, value)| (Value::String(name.clone()), param(value))).collect();
    object([
        ("id", Value::String(operation.id.clone())),
        ("provider", Value::String(operation.provider.id.clone())),
        ("group", Value::String(operation.group.clone())),
        ("name", Value::String(operation.name.clone())),
        ("effect", text(operation.effect.as_str())),
        ("labels", list(operation.labels.iter().map(|l| text(l.as_str())))),
        ("params", Value::from(params)),
    ])
}

fn request(facts: &Facts<'_>) -> Value {
    let request = &facts.request;
    object([
        ("method", text(request.method)),
        ("scheme", text(request.scheme)),
        ("host", text(request.host)),
        ("port", Value::from(u64::from(request.port))),
        ("path", text(request.path)),
        ("protocol", text(request.protocol)),
        ("upgrade", request.upgrade.map_or(Value::Null, text)),
        ("body_bytes", request.body_bytes.map_or(Value::Null, Value::from)),
    ])
}

fn param(value: &Param) -> Value {
    match value {
        Param::Text(t) => text(t),
        Param::Json(v) => json(v),
    }
}

pub(super) fn json(value: &serde_json::Value) -> Value {
    use serde_json::Value as V;
    match value {
        V::Null => Value::Null,
        V::Bool(b) => Value::from(*b),
        V::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::from(i),
            (None, Some(u)) => Value::from(u),
            (None, None) => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        V::String(t) => text(t),
        V::Array(items) => list(items.iter().map(json)),
        V::Object(fields) => Value::from(fields.iter().map(|(k, v)| (text(k), json(v))).collect::<BTreeMap<_, _>>()),
    }
}

/// The engine's value as JSON; a set becomes an array.
pub(super) fn to_json(value: &Value) -> serde_json::Value {
    value.to_json_str().ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn object<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    Value::from(fields.into_iter().map(|(k, v)| (key(k), v)).collect::<BTreeMap<_, _>>())
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    Value::from(items.collect::<Vec<_>>())
}

fn text(t: &str) -> Value {
    Value::String(Arc::from(t))
}

/// A key of the contract: made once, then shared.
fn key(name: &'static str) -> Value {
    static KEYS: LazyLock<HashMap<&'static str, Value, ahash::RandomState>> = LazyLock::new(|| {
        let mut names: Vec<&str> = super::contract::PATHS.iter().flat_map(|(path, _)| path.iter().copied()).collect();
        names.extend(["kind", "grants"]);
        names.into_iter().map(|n| (n, text(n))).collect()
    });
    KEYS.get(name).cloned().unwrap_or_else(|| text(name))
}
