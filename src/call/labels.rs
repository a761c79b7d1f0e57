use std::sync::atomic::{AtomicU8, Ordering};

use super::Label;

/// What a task has touched. Grows only, and its version with it.
#[derive(Debug, Default)]
pub struct Labels(AtomicU8);

impl Labels {
    /// Which labels there are, as one number: another whenever one was added.
    #[must_use]
    pub fn version(&self) -> u64 {
        u64::from(self.0.load(Ordering::Acquire))
    }

    /// In the order of [`Label::ALL`].
    #[must_use]
    pub fn list(&self) -> Vec<Label> {
        let bits = self.0.load(Ordering::Acquire);
        Label::ALL.into_iter().filter(|label| bits & bit(*label) != 0).collect()
    }

    /// Adds labels; true when not all of them were there.
    pub fn add(&self, labels: &[Label]) -> bool {
        let new = labels.iter().fold(0, |bits, label| bits | bit(*label));
        let before = self.0.fetch_or(new, Ordering::AcqRel);
        before | new != before
    }
}

const fn bit(label: Label) -> u8 {
    1 << label as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_grow_in_one_order_and_each_growth_is_another_version() {
        let labels = Labels::default();
        assert!(labels.list().is_empty());
        let first = labels.version();
        assert!(labels.add(&[Label::UntrustedContent]));
        let second = labels.version();
        assert!(!labels.add(&[Label::UntrustedContent]) && !labels.add(&[]));
        assert_eq!(labels.version(), second);
        assert!(labels.add(&[Label::UntrustedContent, Label::PrivateData]));
        assert_eq!(labels.list(), [Label::PrivateData, Label::UntrustedContent]);
        assert!(first != second && second != labels.version());
        assert!(labels.add(&Label::ALL));
        assert_eq!(labels.list(), Label::ALL);
    }
}
