//! Keys, of which no object may have one twice.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Visitor},
};
use smallvec::SmallVec;

use crate::intent::query::fold;

/// Objects with more keys than this are checked with a hash set.
const FEW: usize = 16;

/// The keys of one object so far.
pub(in crate::intent) struct Keys<'de> {
    folds: bool,
    few: SmallVec<[Cow<'de, str>; FEW]>,
    many: Option<HashSet<Box<str>, ahash::RandomState>>,
}

impl<'de> Keys<'de> {
    pub(in crate::intent) fn new(folds: bool) -> Self {
        Self { folds, few: SmallVec::new(), many: None }
    }

    #[allow(clippy::ptr_arg)] // a borrowed key is kept as it is, not copied
    pub(in crate::intent) fn check(&mut self, key: &Cow<'de, str>) -> Result<(), String> {
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
pub(super) fn show(key: &str) -> String {
    let short: String = key.chars().take(60).collect();
    format!("{short:?}")
}

/// Reads a key, borrowed where it can be; named by what an error says was expected.
pub(in crate::intent) struct Key(pub &'static str);

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
