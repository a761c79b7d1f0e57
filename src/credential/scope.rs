//! What is asked of an issuer for a call: as the configuration says for each of its intents, and
//! narrower where a policy says so. Never the issuer's default.

mod narrow;
mod rules;

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

pub(super) use rules::{Rules, Uses};

/// Exactly what a lease is to allow. Cheap to clone.
#[derive(Clone)]
pub struct Scope(Arc<Asked>);

struct Asked {
    value: Value,
    /// The value with its members in the order of their names: two that are the same are equal.
    text: Box<str>,
}

impl Scope {
    #[must_use]
    pub fn new(value: Map<String, Value>) -> Self {
        let value = Value::Object(value);
        let text = value.to_string().into();
        Self(Arc::new(Asked { value, text }))
    }

    /// What is asked, by its name in the configuration.
    #[must_use]
    pub fn value(&self) -> &Map<String, Value> {
        static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        self.0.value.as_object().unwrap_or(&NONE)
    }

    /// The same as JSON, for the record.
    #[must_use]
    pub fn as_json(&self) -> &Value {
        &self.0.value
    }

    /// The texts of a list, or of one text; empty where it asks nothing of that name.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<&str> {
        match self.value().get(name) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// A text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value().get(name).and_then(Value::as_str)
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Scope {}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}
