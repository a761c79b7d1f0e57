//! Grants by value: what a link says that it may do, compared with and cut to the link above.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    authority::narrow,
    call::{Effect, Unit, Window},
    config::{GrantSpec, LimitSpec},
};

/// The most grants that a link carries.
const MOST: usize = 64;
/// The most intents, and the most values of a parameter, of one grant.
const MOST_PARTS: usize = 256;

/// One grant, in the registry's form. Which credential is used is the receiver's business.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    intents: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    effects: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", rename = "where")]
    constraints: BTreeMap<Box<str>, Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<Limit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approval: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    /// `task`, or whole seconds such as `3600s`.
    #[serde(default = "per_task")]
    per: Box<str>,
}

fn per_task() -> Box<str> {
    "task".into()
}

impl Limit {
    fn of(spec: &LimitSpec) -> Self {
        let (calls, tokens) = match spec.unit {
            Unit::Calls => (Some(spec.max), None),
            Unit::Tokens => (None, Some(spec.max)),
        };
        let per = match spec.per {
            // What counts over an agent's tasks here counts in one task there, where they are others.
            Window::Task | Window::Agent => per_task(),
            Window::Seconds(seconds) => format!("{seconds}s").into(),
        };
        Self { calls, tokens, per }
    }

    fn is_sound(&self) -> bool {
        let seconds = |text: &str| !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
        self.calls.is_some() != self.tokens.is_some() && (&*self.per == "task" || self.per.strip_suffix('s').is_some_and(seconds))
    }

    /// Whether both count the same over the same time.
    fn is_like(&self, other: &Self) -> bool {
        self.per == other.per && self.calls.is_some() == other.calls.is_some()
    }

    fn most(&self) -> u64 {
        self.calls.or(self.tokens).unwrap_or(0)
    }
}

/// Reads the grants of a link. None at all would read as "whatever the workflow grants" further on, so a
/// link has to have some.
pub(super) fn read(value: Option<&Value>) -> Result<Vec<Grant>, String> {
    let list = value.and_then(Value::as_array).ok_or("`grants` is no list")?;
    if list.is_empty() || list.len() > MOST {
        return Err(format!("it has {} grants; 1 to {MOST} are wanted", list.len()));
    }
    list.iter().map(Grant::read).collect()
}

/// The grants of a workflow, or those that narrow it, by value.
pub(super) fn of(workflow: &[GrantSpec], narrowed: &[Value]) -> Result<Vec<Grant>, String> {
    if narrowed.is_empty() { Ok(workflow.iter().map(Grant::of).collect()) } else { narrowed.iter().map(Grant::read).collect() }
}

pub(super) fn to_json(grants: &[Grant]) -> Vec<Value> {
    grants.iter().filter_map(|g| serde_json::to_value(g).ok()).collect()
}

/// Whether each grant lies within one of `above`.
pub(super) fn within(grants: &[Grant], above: &[Grant]) -> Result<(), String> {
    for (i, grant) in grants.iter().enumerate() {
        let mut wider = None;
        let fits = above.iter().any(|a| match grant.wider_than(a) {
            None => true,
            Some(why) => {
                wider = Some(why);
                false
            }
        });
        if !fits {
            return Err(format!("grants[{i}] {}", wider.unwrap_or_else(|| "lies in none above".to_owned())));
        }
    }
    Ok(())
}

/// What both grant: each result lies within one grant of `own` and one of `above`.
pub(super) fn both(own: &[Grant], above: &[Grant]) -> Result<Vec<Grant>, String> {
    let mut out: Vec<Grant> = Vec::new();
    for grant in own.iter().flat_map(|o| above.iter().filter_map(|a| o.and(a))) {
        if !out.contains(&grant) {
            out.push(grant);
        }
    }
    if out.len() > MOST { Err(format!("{} grants are more than the {MOST} a token carries", out.len())) } else { Ok(out) }
}

impl Grant {
    fn read(value: &Value) -> Result<Self, String> {
        let mut value = value.clone();
        // The registry's form allows one value where a list may stand.
        if let Some(constraints) = value.get_mut("where").and_then(Value::as_object_mut) {
            for one in constraints.values_mut().filter(|v| !v.is_array()) {
                *one = json!([one.take()]);
            }
        }
        let grant = Self::deserialize(value).map_err(|e| format!("a grant is not understood: {e}"))?;
        let wild = |p: &str| p.is_empty() || p.trim_end_matches('*').contains('*') || p.ends_with("**");
        let lists = [grant.intents.len(), grant.effects.len()].into_iter().chain(grant.constraints.values().map(Vec::len));
        if grant.intents.is_empty() && grant.effects.is_empty() {
            return Err("a grant names neither intents nor effects".to_owned());
        }
        if lists.max().unwrap_or(0) > MOST_PARTS {
            return Err(format!("a grant has a list of more than {MOST_PARTS}"));
        }
        if let Some(bad) = grant.intents.iter().find(|p| wild(p)) {
            return Err(format!("`{bad}` is neither an intent nor a prefix ending in one `*`"));
        }
        if let Some(bad) = grant.effects.iter().find(|e| !Effect::ALL.iter().any(|known| known.as_str() == &***e)) {
            return Err(format!("`{bad}` is no effect"));
        }
        if grant.limit.as_ref().is_some_and(|l| !l.is_sound()) {
            return Err("`limit` is not so many calls or tokens, per task or per so many seconds".to_owned());
        }
        if let Some((name, _)) = grant.constraints.iter().find(|(_, v)| v.is_empty()) {
            return Err(format!("`{name}` allows no value"));
        }
        Ok(grant)
    }

    fn of(spec: &GrantSpec) -> Self {
        Self {
            intents: spec.intents.clone(),
            effects: spec.effects.iter().map(|e| e.as_str().into()).collect(),
            constraints: spec.constraints.iter().cloned().collect(),
            limit: spec.limit.as_ref().map(Limit::of),
            approval: spec.approval.as_ref().and_then(Value::as_object).cloned(),
        }
    }

    /// What of this goes beyond `above`, if anything does. What `above` says and this does not goes beyond.
    fn wider_than(&self, above: &Self) -> Option<String> {
        if !above.intents.is_empty() {
            let outside = self.intents.iter().find(|p| !above.intents.iter().any(|a| narrow::covers(a, p)));
            if self.intents.is_empty() || outside.is_some() {
                return Some(format!("intents: `{}` is not granted above", outside.map_or("*", |p| p)));
            }
        }
        if !above.effects.is_empty() && (self.effects.is_empty() || self.effects.iter().any(|e| !above.effects.contains(e))) {
            return Some("effects: more than is granted above".to_owned());
        }
        for (name, allowed) in &above.constraints {
            let values = self.constraints.get(name).map_or(&[][..], Vec::as_slice);
            if values.is_empty() || values.iter().any(|v| !allowed.iter().any(|a| narrow::value_covers(a, v))) {
                return Some(format!("where: `{name}` may be more than is granted above"));
            }
        }
        if let Some(theirs) = &above.limit
            && !self.limit.as_ref().is_some_and(|ours| ours.is_like(theirs) && ours.most() <= theirs.most())
        {
            return Some("limit: more than is granted above".to_owned());
        }
        (above.approval.is_some() && self.approval.is_none()).then(|| "approval: needed above and not here".to_owned())
    }

    /// What this and `above` both grant.
    fn and(&self, above: &Self) -> Option<Self> {
        let limit = match (&self.limit, &above.limit) {
            (Some(ours), Some(theirs)) if ours.is_like(theirs) => Some(if ours.most() < theirs.most() { ours } else { theirs }.clone()),
            // Not to be compared: the one above is what the reader holds this to; ours still counts here.
            (_, Some(theirs)) => Some(theirs.clone()),
            (ours, None) => ours.clone(),
        };
        let mut constraints = self.constraints.clone();
        for (name, theirs) in &above.constraints {
            let values = match constraints.get(name) {
                Some(ours) => narrower(ours, theirs, narrow::value_covers)?,
                None => theirs.clone(),
            };
            constraints.insert(name.clone(), values);
        }
        Some(Self {
            intents: narrower(&self.intents, &above.intents, |a, b| narrow::covers(a, b))?,
            effects: narrower(&self.effects, &above.effects, |a, b| a == b)?,
            constraints,
            limit,
            approval: above.approval.clone().or_else(|| self.approval.clone()),
        })
    }
}

/// What both lists hold; an empty one holds everything. None when that is nothing.
fn narrower<T: Clone + PartialEq>(ours: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> Option<Vec<T>> {
    if ours.is_empty() || theirs.is_empty() {
        return Some(if ours.is_empty() { theirs } else { ours }.to_vec());
    }
    let mut out: Vec<T> = Vec::new();
    for (a, b) in ours.iter().flat_map(|a| theirs.iter().map(move |b| (a, b))) {
        let one = if covers(a, b) {
            b
        } else if covers(b, a) {
            a
        } else {
            continue;
        };
        if !out.contains(one) {
            out.push(one.clone());
        }
    }
    (!out.is_empty()).then_some(out)
}
