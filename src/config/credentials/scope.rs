use serde_json::{Map, Value as Json};

use crate::{
    call::{Effect, Intent},
    config::{Place, node::Kind, read::Value},
};

/// What is asked of an issuer for some intents.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeSpec {
    /// Exact ids, or prefixes ending in `*`; empty: any that has one of the effects.
    pub intents: Vec<Box<str>>,
    /// Empty: all.
    pub effects: Vec<Effect>,
    /// By name, with `{parameter}` where a call's value is filled in.
    pub ask: Map<String, Json>,
    pub place: Place,
}

impl ScopeSpec {
    /// Whether it is for this intent.
    #[must_use]
    pub fn matches(&self, intent: &Intent) -> bool {
        let id = intent.id();
        let named = |pattern: &str| pattern.strip_suffix('*').map_or(pattern == id, |prefix| id.starts_with(prefix));
        (self.intents.is_empty() || self.intents.iter().any(|pattern| named(pattern)))
            && (self.effects.is_empty() || self.effects.contains(&intent.operation.effect))
    }
}

const EFFECTS: [(&str, Effect); 5] =
    [("read", Effect::Read), ("write", Effect::Write), ("delete", Effect::Delete), ("admin", Effect::Admin), ("execute", Effect::Execute)];

/// A list of `{intents, effects, …}` of which the other keys are among `asks`: what a kind of credential
/// can be asked for.
pub(super) fn scope(value: &Value<'_>, asks: &[&str]) -> Option<Vec<ScopeSpec>> {
    let list = value.list()?;
    if list.is_empty() {
        value.wrong("`scope` is empty: every call would be refused", "say what is asked for which intents");
        return None;
    }
    let read: Vec<Option<ScopeSpec>> = list.iter().map(|one| entry(one, asks)).collect();
    read.into_iter().collect()
}

fn entry(value: &Value<'_>, asks: &[&str]) -> Option<ScopeSpec> {
    let known: Vec<&str> = ["intents", "effects"].into_iter().chain(asks.iter().copied()).collect();
    let fields = value.fields(&known)?;
    let intents = fields.optional("intents").map(|v| v.texts());
    let effects =
        fields.optional("effects").map(|v| v.list().map(|all| all.iter().map(|e| e.one_of(&EFFECTS)).collect::<Option<Vec<_>>>()));
    if intents.is_none() && effects.is_none() {
        value.wrong("it says not for which intents", "add `intents: [github.issues.*]`, or `effects: [read]`");
        return None;
    }
    let mut ask = Map::new();
    for name in asks {
        if let Some(value) = fields.optional(name) {
            ask.insert((*name).to_owned(), json(value)?);
        }
    }
    if ask.is_empty() {
        value.wrong("it asks for nothing", format!("say what is asked of the issuer: {}", asks.join(", ")));
        return None;
    }
    let intents = match intents {
        None => Vec::new(),
        Some(texts) => texts?.into_iter().map(|r| Box::from(&*r.name)).collect(),
    };
    if let Some(wrong) = intents.iter().map(|i| &**i).find(|i: &&str| i.strip_suffix('*').unwrap_or(i).contains('*')) {
        value.wrong(format!("`{wrong}` has a `*` before its end"), "a `*` may only end it, as in github.issues.*");
        return None;
    }
    Some(ScopeSpec { intents, effects: effects.unwrap_or(Some(Some(Vec::new())))??, ask, place: value.spot().place() })
}

/// What was written, as JSON.
fn json(value: &Value<'_>) -> Option<Json> {
    match &value.node.kind {
        Kind::Null => {
            value.wrong("the key has no value", "give it one, or remove the key");
            None
        }
        Kind::Bool(b) => Some(Json::Bool(*b)),
        Kind::Number(n) => Some(Json::Number(n.clone())),
        Kind::Text(text) => Some(Json::String(text.clone())),
        Kind::List(_) => value.list()?.iter().map(json).collect::<Option<Vec<_>>>().map(Json::Array),
        Kind::Map(_) => {
            let one = |(name, value): &(&str, Value<'_>)| Some(((*name).to_owned(), json(value)?));
            value.entries()?.iter().map(one).collect::<Option<Map<_, _>>>().map(Json::Object)
        }
    }
}
