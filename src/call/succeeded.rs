use std::{collections::BTreeSet, sync::Arc};

use parking_lot::RwLock;

/// The operations of which a task had an answer of success. Grows only, to a bound: a rule that waits
/// for one more waits for ever.
#[derive(Debug, Default)]
pub struct Succeeded(RwLock<BTreeSet<Arc<str>>>);

/// Operations that are remembered of one task.
const MOST: usize = 1024;

impl Succeeded {
    /// Adds an operation by its id; true when it was not there.
    pub fn add(&self, operation: &Arc<str>) -> bool {
        if self.0.read().contains(operation) {
            return false;
        }
        let mut all = self.0.write();
        all.len() < MOST && all.insert(operation.clone())
    }

    /// In the order of their ids.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<str>> {
        self.0.read().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_succeeded_is_listed_once_in_order_and_bounded() {
        let all = Succeeded::default();
        assert!(all.add(&"b".into()) && all.add(&"a".into()) && !all.add(&"b".into()));
        assert_eq!(all.list(), [Arc::from("a"), Arc::from("b")]);
        for i in 0..2 * MOST {
            all.add(&format!("x{i}").into());
        }
        assert_eq!(all.list().len(), MOST);
    }
}
