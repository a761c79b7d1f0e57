use std::fmt;

use serde_json::Value;

use crate::{
    call::{Effect, Intent, Label, Param},
    config::{GrantSpec, Place},
};

/// The grant that came nearest to an intent: where it is written and what it lacked.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    pub place: Place,
    /// Its place among the workflow's grants, from 0.
    pub index: usize,
    /// Empty when the grant covers the intent.
    pub lacked: Vec<Lack>,
}

/// One thing that kept a grant from covering an intent.
#[derive(Debug, Clone, PartialEq)]
pub enum Lack {
    /// The grant is for other intents.
    Intent { asked: Box<str>, granted: Vec<Box<str>> },
    /// The operation is in no catalog, so no grant can mean it.
    Unlisted { asked: Box<str> },
    /// A grant ending in `*` does not cover effect `admin` nor these labels: it must name the operation.
    NotNamed { asked: Box<str>, because: &'static str },
    /// The grant is for other effects.
    Effect { asked: Effect, granted: Vec<Effect> },
    /// A `where` is not met; `given` is None when the call lacks the parameter.
    Param { name: Box<str>, given: Option<Value>, wanted: Vec<Value> },
}

/// Longest parameter value that is shown whole.
const SHOWN: usize = 80;

pub(super) fn nearest(grants: &[GrantSpec], intent: &Intent) -> Option<Nearest> {
    let judged = grants.iter().enumerate().map(|(index, grant)| {
        let lacked = lacks(grant, intent);
        (distance(grant, intent, &lacked), index, lacked)
    });
    let (_, index, lacked) = judged.min_by_key(|(distance, index, _)| (*distance, *index))?;
    Some(Nearest { place: grants.get(index)?.place.clone(), index, lacked })
}

/// Whether `pattern` (an exact id, or a prefix and `*`) means `id`.
pub(super) fn means(pattern: &str, id: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == id, |prefix| id.starts_with(prefix))
}

/// Whether a `where` value (a text ending in `*` is a prefix) means `value`.
pub(super) fn value_means(wanted: &Value, value: &Value) -> bool {
    match (wanted, value) {
        (Value::String(w), Value::String(v)) => means(w, v),
        (w, v) => w == v,
    }
}

fn lacks(grant: &GrantSpec, intent: &Intent) -> Vec<Lack> {
    let mut out = Vec::new();
    let id = intent.id();
    let operation = &intent.operation;
    let named = grant.intents.iter().any(|p| !p.ends_with('*') && **p == *id);
    if !named && (intent.is_unknown_host() || intent.is_unknown_operation()) {
        out.push(Lack::Unlisted { asked: id.into() });
    }
    if !grant.intents.is_empty() && !grant.intents.iter().any(|p| means(p, id)) {
        out.push(Lack::Intent { asked: id.into(), granted: grant.intents.clone() });
    } else if !named && &*operation.group == "tunnel" {
        out.push(Lack::NotNamed { asked: id.into(), because: "a tunnel, which is not opened" });
    } else if let Some(because) = (!named).then(|| must_be_named(operation.effect, &operation.labels)).flatten() {
        out.push(Lack::NotNamed { asked: id.into(), because });
    }
    if !grant.effects.is_empty() && !grant.effects.contains(&operation.effect) {
        out.push(Lack::Effect { asked: operation.effect, granted: grant.effects.clone() });
    }
    for (name, wanted) in &grant.constraints {
        let given = intent.params.lookup(name).map(|p| match p {
            Param::Text(text) => Value::String(text.to_string()),
            Param::Json(value) => value.clone(),
        });
        if !given.as_ref().is_some_and(|g| wanted.iter().any(|w| value_means(w, g))) {
            out.push(Lack::Param { name: name.clone(), given, wanted: wanted.clone() });
        }
    }
    out
}

/// What about an operation keeps a grant ending in `*` from covering it.
fn must_be_named(effect: Effect, labels: &[Label]) -> Option<&'static str> {
    if effect == Effect::Admin {
        return Some("effect admin");
    }
    let reserved = [Label::MintsCredential, Label::SharesAccess, Label::SendsElsewhere];
    labels.iter().find(|l| reserved.contains(l)).map(|l| l.as_str())
}

/// How far a grant is from an intent: first the intents, then what the grant says of them.
fn distance(grant: &GrantSpec, intent: &Intent, lacked: &[Lack]) -> u32 {
    let id = intent.id();
    let shared = |p: &str| p.trim_end_matches('*').bytes().zip(id.bytes()).take_while(|(a, b)| a == b).count();
    let words = id.len().saturating_sub(grant.intents.iter().map(|p| shared(p)).max().unwrap_or(0));
    lacked
        .iter()
        .map(|lack| match lack {
            Lack::Unlisted { .. } => 0,
            Lack::Param { given: Some(_), .. } => 1,
            Lack::Param { given: None, .. } => 2,
            Lack::Effect { .. } => 10,
            Lack::NotNamed { .. } => 12,
            Lack::Intent { .. } => 1000 + 10 * u32::try_from(words).unwrap_or(u32::MAX / 100),
        })
        .sum()
}

impl fmt::Display for Nearest {
    /// `FILE:LINE: what it lacked; what else it lacked`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place.file.display())?;
        if self.place.line > 0 {
            write!(f, ":{}", self.place.line)?;
        }
        f.write_str(": ")?;
        if self.lacked.is_empty() {
            return f.write_str("this grant covers the call");
        }
        for (i, lack) in self.lacked.iter().enumerate() {
            write!(f, "{}{lack}", if i > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intent { asked, granted } => {
                write!(f, "intent: {} granted, `{asked}` asked", or(granted.iter().map(|g| format!("`{g}`"))))
            }
            Self::Unlisted { asked } => write!(f, "`{asked}`: what is in no catalog must be granted by that name"),
            Self::NotNamed { asked, because } => write!(f, "a grant that ends in `*` does not cover {because}: name `{asked}`"),
            Self::Effect { asked, granted } => write!(f, "effect: {} granted, {asked} asked", or(granted.iter().map(ToString::to_string))),
            Self::Param { name, given, wanted } => {
                write!(f, "{name}: {} wanted, ", or(wanted.iter().map(|w| format!("`{}`", text(w)))))?;
                match given {
                    Some(given) => write!(f, "`{}` given", text(given)),
                    None => f.write_str("none given"),
                }
            }
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
fn or(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// A value as it is shown: control and bidirectional characters escaped, long ones cut.
fn text(value: &Value) -> String {
    let whole = match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let mut out: String = whole.chars().take(SHOWN).flat_map(|c| if plain(c) { vec![c] } else { c.escape_unicode().collect() }).collect();
    if whole.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

fn plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
