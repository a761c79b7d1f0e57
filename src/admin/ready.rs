use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Whether Remit can take calls, and what it waits for if not.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    for_what: BTreeMap<u64, Cow<'static, str>>,
}

/// Keeps Remit from being ready for as long as it is held.
///
/// Dropped by a panic it stays: what it stood for was not reached.
#[derive(Debug)]
#[must_use = "readiness is blocked while this is held"]
pub struct BlockReady {
    of: Readiness,
    number: u64,
}

impl Readiness {
    /// Ready until something blocks it: take all the blocks before listening.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for `what`, named as `/readyz` shows it.
    pub fn block(&self, what: impl Into<Cow<'static, str>>) -> BlockReady {
        let mut waiting = self.0.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.for_what.insert(number, what.into());
        BlockReady { of: self.clone(), number }
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.lock().for_what.is_empty()
    }

    /// What it waits for, in the order in which that was said.
    #[must_use]
    pub fn missing(&self) -> Vec<Cow<'static, str>> {
        self.0.lock().for_what.values().cloned().collect()
    }
}

impl BlockReady {
    /// What was waited for is there. The same as dropping it.
    pub fn done(self) {}
}

impl Drop for BlockReady {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.of.0.lock().for_what.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_nothing_is_waited_for_any_more() {
        let readiness = Readiness::new();
        let (listening, policies) = (readiness.block("listeners"), readiness.block("policies"));
        assert_eq!(readiness.missing(), ["listeners", "policies"]);
        listening.done();
        assert!(!readiness.is_ready());
        drop(policies);
        assert!(readiness.is_ready());
        let again = readiness.block("drain");
        assert_eq!(readiness.missing(), ["drain"]);
        drop(again);
    }

    #[test]
    fn two_blocks_of_one_name_are_two() {
        let readiness = Readiness::new();
        let (a, b) = (readiness.block("audit"), readiness.block("audit"));
        drop(a);
        assert_eq!(readiness.missing(), ["audit"]);
        drop(b);
    }

    #[test]
    fn a_panic_does_not_make_ready() {
        let readiness = Readiness::new();
        let block = readiness.block("policies");
        let thread = std::thread::spawn(move || {
            let _held = block;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(readiness.missing(), ["policies"]);
    }
}
