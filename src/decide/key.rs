//! Cache keys: exactly the values that the footprint names, tagged by type, held whole.

use std::collections::BTreeSet;

use crate::call::{Intent, Label, Param};

use super::{
    contract::Leaf,
    facts::{Facts, State},
    footprint::{Footprint, Params},
};

/// Longer keys are not kept.
const MAX_KEY: usize = 4096;

/// How to build the key of one loaded set of policies.
#[derive(Debug)]
pub(super) struct Plan {
    leaves: Vec<Leaf>,
    params: Option<Box<[Box<str>]>>,
    /// Whether decisions depend on what succeeded in a task.
    pub(super) asks_what_succeeded: bool,
}

impl Plan {
    pub(super) fn new(footprint: &Footprint) -> Self {
        let params = match &footprint.params {
            Params::All => None,
            Params::Named(names) => Some(names.iter().cloned().collect()),
        };
        let asks_what_succeeded = footprint.leaves.contains(&Leaf::Succeeded);
        Self { leaves: footprint.leaves.iter().copied().collect(), params, asks_what_succeeded }
    }

    /// Writes the key; false when the call's values do not fit in one.
    ///
    /// Every value says its own length or end, so two different lists of values never have the
    /// same bytes.
    pub(super) fn write(&self, facts: &Facts<'_>, intent: &Intent, state: &State, out: &mut Vec<u8>) -> bool {
        out.clear();
        for leaf in &self.leaves {
            self.leaf(*leaf, facts, intent, state, out);
        }
        for (name, value) in intent.params.iter() {
            let place = match &self.params {
                Some(names) => names.binary_search_by(|n| (**n).cmp(name)).ok(),
                None => Some(0),
            };
            // What is not there is absent: that is not null.
            let Some(place) = place else { continue };
            if self.params.is_some() {
                out.push(b'p');
                out.extend((place as u32).to_le_bytes());
            } else {
                text(name, out);
            }
            if !param(value, out) {
                return false;
            }
        }
        out.len() <= MAX_KEY
    }

    fn leaf(&self, leaf: Leaf, facts: &Facts<'_>, intent: &Intent, state: &State, out: &mut Vec<u8>) {
        let (operation, request) = (&intent.operation, &facts.request);
        match leaf {
            Leaf::Task => out.extend(facts.task.number.to_le_bytes()),
            Leaf::Delegated => delegated(facts, intent, out),
            Leaf::How => text(facts.how.as_str(), out),
            Leaf::Listener => text(facts.listener.as_str(), out),
            Leaf::Drift => {
                length(facts.drift.len(), out);
                facts.drift.iter().for_each(|d| text(d, out));
            }
            Leaf::TaskLabels => these(&state.labels, out),
            Leaf::Succeeded => {
                length(state.succeeded.len(), out);
                state.succeeded.iter().for_each(|id| text(id, out));
            }
            Leaf::Id => text(&operation.id, out),
            Leaf::Provider => text(&operation.provider.id, out),
            Leaf::Group => text(&operation.group, out),
            Leaf::Name => text(&operation.name, out),
            Leaf::Effect => out.push(operation.effect as u8),
            Leaf::Labels => these(&operation.labels, out),
            Leaf::Method => text(request.method, out),
            Leaf::Scheme => text(request.scheme, out),
            Leaf::Host => text(request.host, out),
            Leaf::Port => out.extend(request.port.to_le_bytes()),
            Leaf::Path => text(request.path, out),
            Leaf::Protocol => text(request.protocol, out),
            Leaf::Upgrade => optional(request.upgrade, text, out),
            Leaf::BodyBytes => optional(request.body_bytes, |n, out| out.extend(n.to_le_bytes()), out),
            // Written last, by name.
            Leaf::Params => {}
        }
    }
}

/// The parameters that the task's own grants name: which these are is fixed by its number.
fn delegated(facts: &Facts<'_>, intent: &Intent, out: &mut Vec<u8>) {
    let mut names = BTreeSet::new();
    for grant in facts.task.chain.iter().filter_map(|link| link.grants.as_ref()).flatten() {
        names.extend(grant.get("where").and_then(|w| w.as_object()).into_iter().flat_map(|w| w.keys()));
    }
    for name in names {
        optional(
            intent.params.lookup(name),
            |value, out| {
                if !param(value, out) {
                    out.resize(MAX_KEY + 1, 0)
                }
            },
            out,
        );
    }
}

/// False when the value alone is too long: its bytes are then not copied.
fn param(value: &Param, out: &mut Vec<u8>) -> bool {
    match value {
        Param::Text(t) if out.len() + t.len() > MAX_KEY => return false,
        Param::Text(t) => text(t, out),
        Param::Json(v) => return json(v, out),
    }
    true
}

fn json(value: &serde_json::Value, out: &mut Vec<u8>) -> bool {
    use serde_json::Value as V;
    if out.len() > MAX_KEY {
        return false;
    }
    match value {
        V::Null => out.push(b'z'),
        V::Bool(b) => out.push(if *b { b't' } else { b'f' }),
        V::Number(n) => number(n, out),
        V::String(t) if out.len() + t.len() > MAX_KEY => return false,
        V::String(t) => text(t, out),
        V::Array(items) => {
            out.push(b'a');
            length(items.len(), out);
            return items.iter().all(|i| json(i, out));
        }
        V::Object(fields) => {
            out.push(b'o');
            length(fields.len(), out);
            return fields.iter().all(|(k, v)| {
                text(k, out);
                json(v, out)
            });
        }
    }
    true
}

/// 1 is not 1.0.
fn number(n: &serde_json::Number, out: &mut Vec<u8>) {
    if let Some(i) = n.as_i64() {
        out.push(b'i');
        out.extend(i.to_le_bytes());
    } else if let Some(u) = n.as_u64() {
        out.push(b'u');
        out.extend(u.to_le_bytes());
    } else {
        out.push(b'd');
        out.extend(n.as_f64().unwrap_or(f64::NAN).to_bits().to_le_bytes());
    }
}

fn text(t: &str, out: &mut Vec<u8>) {
    out.push(b's');
    length(t.len(), out);
    out.extend_from_slice(t.as_bytes());
}

fn these(labels: &[Label], out: &mut Vec<u8>) {
    length(labels.len(), out);
    out.extend(labels.iter().map(|l| *l as u8));
}

fn optional<T>(value: Option<T>, write: impl FnOnce(T, &mut Vec<u8>), out: &mut Vec<u8>) {
    match value {
        Some(value) => {
            out.push(1);
            write(value, out);
        }
        None => out.push(0),
    }
}

fn length(n: usize, out: &mut Vec<u8>) {
    out.extend((n as u64).to_le_bytes().iter().take(4));
}
