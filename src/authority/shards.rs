use std::{collections::HashMap, fmt, hash::Hash};

use ahash::RandomState;
use parking_lot::RwLock;

/// A map in 64 parts, each under its own lock, so that calls of different tasks seldom meet.
pub(super) struct Shards<K, V> {
    parts: Box<[RwLock<HashMap<K, V, RandomState>>]>,
    spread: RandomState,
}

const PARTS: usize = 64;

impl<K: Eq + Hash, V: Clone> Shards<K, V> {
    pub(super) fn new() -> Self {
        let spread = RandomState::new();
        // The parts' own hash must differ from the one that picks the part, or buckets go unused.
        let parts = (0..PARTS).map(|_| RwLock::new(HashMap::with_hasher(RandomState::new()))).collect();
        Self { parts, spread }
    }

    pub(super) fn find(&self, key: &K) -> Option<V> {
        self.part(key).read().get(key).cloned()
    }

    pub(super) fn insert(&self, key: K, value: V) {
        self.part(&key).write().insert(key, value);
    }

    /// Changes what stands under `key`, from nothing if there is nothing. What becomes empty stays.
    pub(super) fn change(&self, key: K, change: impl FnOnce(&mut V))
    where
        V: Default,
    {
        change(self.part(&key).write().entry(key).or_default());
    }

    /// Takes from what stands under `key`; goes with it when nothing is left.
    pub(super) fn shrink(&self, key: &K, left: impl FnOnce(&mut V) -> bool) {
        let mut part = self.part(key).write();
        if part.get_mut(key).is_some_and(|value| !left(value)) {
            part.remove(key);
        }
    }

    pub(super) fn remove(&self, key: &K) {
        self.part(key).write().remove(key);
    }

    /// The values that `keep` keeps; not one moment's picture when others write meanwhile.
    pub(super) fn select(&self, mut keep: impl FnMut(&V) -> bool) -> Vec<V> {
        let mut out = Vec::new();
        self.each(|v| out.extend(keep(v).then(|| v.clone())));
        out
    }

    pub(super) fn each(&self, mut see: impl FnMut(&V)) {
        self.parts.iter().for_each(|part| part.read().values().for_each(&mut see));
    }

    fn part(&self, key: &K) -> &RwLock<HashMap<K, V, RandomState>> {
        let index = self.spread.hash_one(key) as usize % PARTS;
        &self.parts[index]
    }
}

impl<K, V> fmt::Debug for Shards<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").finish_non_exhaustive()
    }
}
