//! JSON bodies, read once and strictly (law 2).
//!
//! What two readers could take in two ways is an error that names the key: a key twice in one
//! object, keys that differ only in case where a parameter is looked for, a lone surrogate, text
//! after the value, invalid UTF-8, nesting beyond what readers agree on. Only values that were
//! declared are built; everything else is checked and dropped as it goes by.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fmt,
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, value::RawValue};
use smallvec::SmallVec;

use super::query::fold;

/// Whole numbers up to here are the same to every reader (RFC 8259 §6).
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Objects with more keys than this are checked with a hash set.
const FEW: usize = 16;

/// Where in a body the declared parameters are.
#[derive(Debug, Default)]
pub(super) struct Plan {
    root: Step,
}

/// One place in a body: perhaps a parameter, perhaps with more below it.
#[derive(Debug, Default)]
struct Step {
    /// The parameters that this place gives.
    slots: SmallVec<[u16; 1]>,
    below: Vec<(Box<str>, Step)>,
}

impl Plan {
    /// Adds a parameter at an RFC 6901 pointer.
    pub(super) fn add(&mut self, pointer: &str, slot: u16) -> Result<(), String> {
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
    pub(super) fn take(&self, value: &Value) -> Result<Vec<(u16, Value)>, String> {
        let mut taken = Vec::new();
        self.root.check(value)?;
        self.root.give(value, &mut taken);
        Ok(taken)
    }

    /// Whether a top-level key is looked at by some parameter.
    pub(super) fn has_top(&self, key: &str) -> bool {
        self.root.below.iter().any(|(k, _)| **k == *key)
    }

    /// The top-level keys that parameters look at.
    pub(super) fn tops(&self) -> impl Iterator<Item = &str> {
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
    fn hand_out(&self, value: Value, out: &mut Vec<(u16, Value)>) -> Value {
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
fn index(key: &str) -> Option<usize> {
    if key.len() > 1 && key.starts_with('0') { None } else { key.parse().ok().filter(|_| key.bytes().all(|b| b.is_ascii_digit())) }
}

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

impl Step {
    /// What the value of a key is wanted for.
    fn look(&self, key: &str) -> Result<Want<'_>, String> {
        if let Some((_, step)) = self.below.iter().find(|(k, _)| **k == *key) {
            return Ok(Want::Walk(step));
        }
        // Short of a fold: most keys differ in length from every declared one.
        if self.below.iter().any(|(k, _)| (k.len() == key.len() || !key.is_ascii()) && fold(k) == fold(key)) {
            return Err(format!("the key {} differs from a parameter only in case", show(key)));
        }
        Ok(Want::Nothing)
    }
}

/// The keys of one object so far.
pub(super) struct Keys<'de> {
    folds: bool,
    few: SmallVec<[Cow<'de, str>; FEW]>,
    many: Option<HashSet<Box<str>, ahash::RandomState>>,
}

impl<'de> Keys<'de> {
    pub(super) fn new(folds: bool) -> Self {
        Self { folds, few: SmallVec::new(), many: None }
    }

    #[allow(clippy::ptr_arg)] // a borrowed key is kept as it is, not copied
    pub(super) fn check(&mut self, key: &Cow<'de, str>) -> Result<(), String> {
        let same = match fold(key) {
            Cow::Owned(folded) if self.folds => Cow::Owned(folded),
            _ => key.clone(),
        };
        let new = if self.few.len() < FEW {
            let new = !self.few.contains(&same);
            self.few.push(same);
            new
        } else {
            let few = &self.few;
            let many = self.many.get_or_insert_with(|| few.iter().map(|k| Box::from(&**k)).collect());
            many.insert(same.as_ref().into())
        };
        if new {
            return Ok(());
        }
        let how = if self.folds { "stands twice in one object (letter case aside)" } else { "stands twice in one object" };
        Err(format!("the key {} {how}", show(key)))
    }
}

/// A key, quoted and shortened, with what could upset a terminal escaped.
fn show(key: &str) -> String {
    let short: String = key.chars().take(60).collect();
    format!("{short:?}")
}

/// Reads a key, borrowed where it can be; named by what an error says was expected.
pub(super) struct Key(pub &'static str);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Cow<'de, str>, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(v.to_owned()))
    }
}
