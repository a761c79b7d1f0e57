//! JSON bodies, read once and strictly (law 2).
//!
//! What two readers could take in two ways is an error that names the key: a key twice in one
//! object, keys that differ only in case where a parameter is looked for, a lone surrogate, text
//! after the value, invalid UTF-8, nesting beyond what readers agree on. Only values that were
//! declared are built; everything else is checked and dropped as it goes by.

mod keys;
mod plan;

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, value::RawValue};

use super::query::fold;

use keys::show;
pub(super) use keys::{Key, Keys};
pub(super) use plan::Plan;
use plan::{Step, index};

/// Whole numbers up to here are the same to every reader (RFC 8259 §6).
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What was taken from a body.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Parameter → value, for those that the body has.
    pub params: Vec<(u16, Value)>,
    /// Undeclared top-level keys that `watch` asked for, with their values.
    pub watched: Vec<(Box<str>, Value)>,
}

/// Reads a whole body. `watch` says of an undeclared, folded top-level key whether its value
/// matters.
///
/// # Errors
/// One sentence, when the body has more than one reading or is not JSON.
pub(super) fn read(body: &[u8], plan: &Plan, watch: &dyn Fn(&str) -> bool) -> Result<Taken, String> {
    let text = std::str::from_utf8(body).map_err(|e| format!("the body is not UTF-8 (byte {})", e.valid_up_to()))?;
    let mut taken = Taken::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let root = Reader { want: Want::Walk(&plan.root), top: Some(Top { plan, watch }), out: &mut taken };
    root.deserialize(&mut json).and_then(|_| json.end()).map_err(|e| format!("the body is not JSON with one reading: {e}"))?;
    Ok(taken)
}

/// The members of an object, as they are written; None for what is no object. `names` are those that
/// have a meaning, so that no other may differ from one only in case. What the members hold is still to
/// be read, or checked with [`check`].
///
/// # Errors
/// As [`read`], as far as the object's own keys go.
pub(super) fn members<'t>(text: &'t str, names: &[&str]) -> Result<Option<Members<'t>>, String> {
    if !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_map(Collect { names }).and_then(|members| json.end().map(|()| members));
    members.map(Some).map_err(|e| format!("the body is not JSON with one reading: {e}"))
}

/// The members of an object, as they are written.
pub(super) type Members<'t> = BTreeMap<String, &'t RawValue>;

/// Checks that a JSON text has one reading.
///
/// # Errors
/// As [`read`].
pub(super) fn check(text: &str) -> Result<(), String> {
    read(text.as_bytes(), &Plan::default(), &|_| false).map(drop)
}

struct Collect<'n> {
    names: &'n [&'n str],
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut keys, mut members) = (Keys::new(true), BTreeMap::new());
        while let Some(key) = map.next_key_seed(Key("a key"))? {
            keys.check(&key).map_err(A::Error::custom)?;
            if !self.names.contains(&&*key) && self.names.iter().any(|n| fold(n) == fold(&key)) {
                return Err(A::Error::custom(format_args!("the key {} differs from one that has a meaning only in case", show(&key))));
            }
            members.insert(key.into_owned(), map.next_value::<&'de RawValue>()?);
        }
        Ok(members)
    }
}

/// The items of an array, as they are written and each still to be read; None for what is no array.
///
/// # Errors
/// When it is no JSON, or has more than `most` items.
pub(super) fn items(text: &str, most: usize) -> Result<Option<Vec<&RawValue>>, String> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let all: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| format!("the body is not JSON with one reading: {e}"))?;
    if all.len() > most { Err(format!("the batch has {} requests; {most} can be judged", all.len())) } else { Ok(Some(all)) }
}

/// A text; None for what is none.
pub(super) fn text(raw: &RawValue) -> Option<String> {
    if raw.get().starts_with('"') { serde_json::from_str(raw.get()).ok() } else { None }
}

/// Builds a whole JSON text, as strictly as [`read`]: keys of one object that differ only in case
/// are two readings of one key.
///
/// # Errors
/// As [`read`].
pub(super) fn value(text: &str) -> Result<Value, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let mut taken = Taken::default();
    let root = Reader { want: Want::Fold, top: None, out: &mut taken };
    let value = root.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|e| format!("the body is not JSON with one reading: {e}"))
}

#[derive(Clone, Copy)]
enum Want<'a> {
    /// Check it and drop it.
    Nothing,
    /// Build it.
    Value,
    /// Build it, and let no keys differ only in case.
    Fold,
    /// Look for parameters in it.
    Walk(&'a Step),
}

#[derive(Clone, Copy)]
struct Top<'a> {
    plan: &'a Plan,
    watch: &'a dyn Fn(&str) -> bool,
}

/// Reads one value, handing what was declared to `out`; gives the value when it was to be built.
struct Reader<'a, 'o> {
    want: Want<'a>,
    top: Option<Top<'a>>,
    out: &'o mut Taken,
}

impl Reader<'_, '_> {
    fn builds(&self) -> bool {
        match self.want {
            Want::Nothing => false,
            Want::Value | Want::Fold => true,
            Want::Walk(step) => !step.slots.is_empty(),
        }
    }

    /// A scalar, or an object or array that was built.
    fn done(self, value: impl FnOnce() -> Value) -> Value {
        if !self.builds() {
            return Value::Null;
        }
        let value = value();
        match self.want {
            Want::Walk(step) => step.hand_out(value, &mut self.out.params),
            Want::Nothing | Want::Value | Want::Fold => value,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(self.done(|| Value::Null))
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(self.done(|| Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(self.done(|| v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(self.done(|| v.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        if self.builds() && v.fract() == 0.0 && v.abs() >= EXACT {
            return Err(E::custom("a parameter is a number too large for every reader to hold"));
        }
        Ok(self.done(|| Number::from_f64(v).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(self.done(|| v.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let builds = self.builds();
        let mut items = Vec::new();
        let mut at = 0_usize;
        loop {
            let want = match self.want {
                Want::Fold => Want::Fold,
                _ if builds => Want::Value,
                Want::Walk(step) => step.below.iter().find(|(k, _)| index(k) == Some(at)).map_or(Want::Nothing, |(_, s)| Want::Walk(s)),
                Want::Nothing | Want::Value => Want::Nothing,
            };
            let Some(value) = seq.next_element_seed(Reader { want, top: None, out: self.out })? else { break };
            if builds {
                items.push(value);
            }
            at += 1;
        }
        Ok(self.done(|| Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let builds = self.builds();
        // Where parameters are looked for, keys equal but for case are one key to lax readers.
        let looks = match self.want {
            Want::Walk(step) => !step.below.is_empty() || self.top.is_some(),
            Want::Fold => true,
            Want::Nothing | Want::Value => false,
        };
        let mut keys = Keys::new(looks);
        let mut object = Map::new();
        while let Some(key) = map.next_key_seed(Key("a key"))? {
            keys.check(&key).map_err(A::Error::custom)?;
            let want = match self.want {
                Want::Fold => Want::Fold,
                _ if builds => Want::Value,
                Want::Walk(step) => step.look(&key).map_err(A::Error::custom)?,
                Want::Nothing | Want::Value => Want::Nothing,
            };
            let watched = self.top.is_some_and(|top| top.watches(&key));
            let want = if watched { Want::Value } else { want };
            let value = map.next_value_seed(Reader { want, top: None, out: self.out })?;
            if watched {
                self.out.watched.push((key.as_ref().into(), value.clone()));
            }
            if builds {
                object.insert(key.into_owned(), value);
            }
        }
        Ok(self.done(|| Value::Object(object)))
    }
}

impl Top<'_> {
    fn watches(&self, key: &str) -> bool {
        !self.plan.has_top(key) && (self.watch)(&fold(key))
    }
}
