//! Whether two grants have anything in common. Only sure answers are of use: what is said to lie
//! outside could never be allowed; the rest is judged call by call.

use serde_json::Value;

use crate::config::{GrantSpec, WorkflowSpec};

use super::{narrow::covers, nearest::value_means};

/// What of a grant is compared.
struct Sketch<'a> {
    intents: Vec<&'a str>,
    effects: Vec<&'a str>,
    constraints: Vec<(&'a str, Vec<&'a Value>)>,
}

/// Whether something of `grants` (of all that `workflow` grants, when there are none) lies within
/// a link that holds `held` of the workflow `above`.
pub(super) fn any_within(above: &WorkflowSpec, held: &[Value], workflow: &WorkflowSpec, grants: &[Value]) -> bool {
    let wanted: Vec<Sketch<'_>> =
        if grants.is_empty() { workflow.grants.iter().map(of_spec).collect() } else { grants.iter().filter_map(of_json).collect() };
    let registered: Vec<Sketch<'_>> = above.grants.iter().map(of_spec).collect();
    let narrowed: Vec<Sketch<'_>> = held.iter().filter_map(of_json).collect();
    wanted.iter().any(|want| {
        registered.iter().any(|grant| grant.meets(want)) && (narrowed.is_empty() || narrowed.iter().any(|grant| grant.meets(want)))
    })
}

fn of_spec(grant: &GrantSpec) -> Sketch<'_> {
    Sketch {
        intents: grant.intents.iter().map(|i| &**i).collect(),
        effects: grant.effects.iter().map(|e| e.as_str()).collect(),
        constraints: grant.constraints.iter().map(|(name, values)| (&**name, values.iter().collect())).collect(),
    }
}

/// A grant as `narrow` writes it out: its values are lists.
fn of_json(grant: &Value) -> Option<Sketch<'_>> {
    let fields = grant.as_object()?;
    let list = |name: &str| fields.get(name).and_then(Value::as_array).into_iter().flatten();
    let constraints = fields.get("where").and_then(Value::as_object).into_iter().flatten();
    Some(Sketch {
        intents: list("intents").filter_map(Value::as_str).collect(),
        effects: list("effects").filter_map(Value::as_str).collect(),
        constraints: constraints.map(|(name, values)| (name.as_str(), values.as_array().into_iter().flatten().collect())).collect(),
    })
}

impl Sketch<'_> {
    fn meets(&self, other: &Self) -> bool {
        share(&self.intents, &other.intents, |a, b| covers(a, b) || covers(b, a))
            && share(&self.effects, &other.effects, |a, b| a == b)
            && self.constraints.iter().all(|(name, values)| {
                let mut others = other.constraints.iter().filter(|(n, _)| n == name);
                others.all(|(_, theirs)| share(values, theirs, |a, b| value_means(a, b) || value_means(b, a)))
            })
    }
}

/// Whether two lists have an element in common; an empty one leaves open what it means.
fn share<T>(a: &[T], b: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|x| b.iter().any(|y| same(x, y)))
}
