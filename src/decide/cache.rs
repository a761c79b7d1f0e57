//! Decisions that were made before, under keys that are held whole and compared whole.
//!
//! The memory is split into shares, and an agent is always in the same one: it can push out what
//! shares its share with it, and nothing else. Within a share the least recently used goes first.
//! A cache belongs to one `Decider`, so a reload starts with an empty one.

use std::sync::Arc;

use ahash::RandomState;
use moka::policy::EvictionPolicy;

use crate::call::Decision;

/// Shares of the memory.
const SHARES: usize = 8;
/// What an entry takes beside its key and texts: the table's slot, its place in the queue, the counters.
const OVERHEAD: usize = 320;

type Key = Box<[u8]>;
type Share = moka::sync::Cache<Key, Arc<Decision>, RandomState>;

#[derive(Debug)]
pub(super) struct Cache {
    shares: Box<[Share]>,
    hasher: RandomState,
}

impl Cache {
    /// A cache of at most `bytes`, entries weighed with their overhead.
    pub(super) fn new(bytes: u64) -> Self {
        let hasher = RandomState::new();
        let share = || {
            moka::sync::Cache::builder()
                .max_capacity(bytes / SHARES as u64)
                .weigher(|key: &Key, decision: &Arc<Decision>| weight(key, decision))
                .eviction_policy(EvictionPolicy::lru())
                .build_with_hasher(hasher.clone())
        };
        Self { shares: (0..SHARES).map(|_| share()).collect(), hasher }
    }

    pub(super) fn find(&self, agent: &str, key: &[u8]) -> Option<Arc<Decision>> {
        self.share(agent)?.get(key)
    }

    pub(super) fn keep(&self, agent: &str, key: &[u8], decision: &Arc<Decision>) {
        if let Some(share) = self.share(agent) {
            share.insert(key.into(), decision.clone());
        }
    }

    /// Decisions kept now; roughly, since counting lags behind.
    pub(super) fn entries(&self) -> u64 {
        self.shares.iter().map(Share::entry_count).sum()
    }

    fn share(&self, agent: &str) -> Option<&Share> {
        self.shares.get(self.hasher.hash_one(agent) as usize % SHARES)
    }
}

fn weight(key: &[u8], decision: &Decision) -> u32 {
    let texts: usize = decision.reasons.iter().map(|r| r.len() + 16).sum();
    let limits: usize = decision.limits.iter().map(|l| l.key.len() + 48).sum();
    let grants: usize = decision.grants.iter().map(|g| g.len() + 24).sum();
    // An approval or scope is the registry's; its text is at most a few hundred bytes.
    let rest = [&decision.approval, &decision.scope].into_iter().flatten().map(|v| v.to_string().len() * 4).sum::<usize>();
    u32::try_from(OVERHEAD + key.len() + texts + limits + grants + rest).unwrap_or(u32::MAX)
}
