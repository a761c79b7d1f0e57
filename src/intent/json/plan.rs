//! Which places in a body are parameters.

use serde_json::Value;
use smallvec::SmallVec;

use crate::intent::query::fold;

use super::{Want, keys::show};

/// Where in a body the declared parameters are.
#[derive(Debug, Default)]
pub(in crate::intent) struct Plan {
    pub(super) root: Step,
}

/// One place in a body: perhaps a parameter, perhaps with more below it.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The parameters that this place gives.
    pub(super) slots: SmallVec<[u16; 1]>,
    pub(super) below: Vec<(Box<str>, Step)>,
}

impl Plan {
    /// Adds a parameter at an RFC 6901 pointer.
    pub(in crate::intent) fn add(&mut self, pointer: &str, slot: u16) -> Result<(), String> {
        let mut step = &mut self.root;
        if !pointer.is_empty() {
            let Some(path) = pointer.strip_prefix('/') else {
                return Err(format!("`{pointer}` is not a JSON pointer: it starts with `/`, such as `/title`"));
            };
            for token in path.split('/') {
                if token.replace("~0", "").replace("~1", "").contains('~') {
                    return Err(format!("`{pointer}`: in a JSON pointer `~` is written `~0`"));
                }
                let key = token.replace("~1", "/").replace("~0", "~");
                step = step.child(key);
            }
        }
        step.slots.push(slot);
        Ok(())
    }

    /// Takes the parameters from a value that was built, as [`read`] does from a body.
    pub(in crate::intent) fn take(&self, value: &Value) -> Result<Vec<(u16, Value)>, String> {
        let mut taken = Vec::new();
        self.root.check(value)?;
        self.root.give(value, &mut taken);
        Ok(taken)
    }

    /// Whether a top-level key is looked at by some parameter.
    pub(in crate::intent) fn has_top(&self, key: &str) -> bool {
        self.root.below.iter().any(|(k, _)| **k == *key)
    }

    /// The top-level keys that parameters look at.
    pub(in crate::intent) fn tops(&self) -> impl Iterator<Item = &str> {
        self.root.below.iter().map(|(k, _)| &**k)
    }
}

impl Step {
    fn child(&mut self, key: String) -> &mut Self {
        let at = self.below.iter().position(|(k, _)| **k == *key).unwrap_or_else(|| {
            self.below.push((key.into(), Self::default()));
            self.below.len() - 1
        });
        &mut self.below[at].1
    }

    /// Gives a value that was built to the parameters; one that takes all of it takes it uncopied.
    pub(super) fn hand_out(&self, value: Value, out: &mut Vec<(u16, Value)>) -> Value {
        match (self.slots.as_slice(), self.below.is_empty()) {
            ([slot], true) => {
                out.push((*slot, value));
                Value::Null
            }
            _ => {
                self.give(&value, out);
                value
            }
        }
    }

    /// Refuses keys that differ from a parameter's only in case.
    fn check(&self, value: &Value) -> Result<(), String> {
        let Value::Object(map) = value else { return Ok(()) };
        for (key, inner) in map {
            if let Want::Walk(step) = self.look(key)? {
                step.check(inner)?;
            }
        }
        Ok(())
    }

    /// What the value of a key is wanted for.
    pub(super) fn look(&self, key: &str) -> Result<Want<'_>, String> {
        if let Some((_, step)) = self.below.iter().find(|(k, _)| **k == *key) {
            return Ok(Want::Walk(step));
        }
        // Short of a fold: most keys differ in length from every declared one.
        if self.below.iter().any(|(k, _)| (k.len() == key.len() || !key.is_ascii()) && fold(k) == fold(key)) {
            return Err(format!("the key {} differs from a parameter only in case", show(key)));
        }
        Ok(Want::Nothing)
    }

    /// Hands out what this place and those below give, from a value that was built.
    fn give(&self, value: &Value, out: &mut Vec<(u16, Value)>) {
        out.extend(self.slots.iter().map(|slot| (*slot, value.clone())));
        for (key, step) in &self.below {
            let inner = match value {
                Value::Object(map) => map.get(&**key),
                Value::Array(items) => index(key).and_then(|i| items.get(i)),
                _ => None,
            };
            if let Some(inner) = inner {
                step.give(inner, out);
            }
        }
    }
}

/// An array index of a JSON pointer: digits without a leading zero (RFC 6901 §4).
pub(super) fn index(key: &str) -> Option<usize> {
    if key.len() > 1 && key.starts_with('0') { None } else { key.parse().ok().filter(|_| key.bytes().all(|b| b.is_ascii_digit())) }
}
