use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Label;

/// What a task has touched. Grows only, and its version with it.
#[derive(Debug, Default)]
pub struct Labels {
    all: AtomicU8,
    /// Those that were touched here, and not brought along.
    own: AtomicU8,
    kept: Mutex<Kept>,
}

/// Who remembers what was touched, and until when it may be at hand.
#[derive(Debug, Default)]
struct Kept {
    by: Vec<Arc<Touched>>,
    until: Option<Instant>,
}

/// What an agent has touched in any of its tasks, and until when one of these could last.
#[derive(Debug, Default)]
pub struct Touched(Mutex<[Option<Instant>; Label::ALL.len()]>);

impl Labels {
    /// Which labels there are, as one number: another whenever one was added.
    #[must_use]
    pub fn version(&self) -> u64 {
        u64::from(self.all.load(Ordering::Acquire))
    }

    /// In the order of [`Label::ALL`].
    #[must_use]
    pub fn list(&self) -> Vec<Label> {
        named(self.all.load(Ordering::Acquire)).collect()
    }

    /// Those that were touched here, and not brought along.
    #[must_use]
    pub fn touched(&self) -> Vec<Label> {
        named(self.own.load(Ordering::Acquire)).collect()
    }

    /// Adds what was touched; true when not all of it was there.
    pub fn add(&self, labels: &[Label]) -> bool {
        let new = bits(labels);
        if self.own.load(Ordering::Acquire) & new == new {
            return false;
        }
        let kept = self.kept.lock();
        self.own.fetch_or(new, Ordering::AcqRel);
        kept.note(new);
        let before = self.all.fetch_or(new, Ordering::AcqRel);
        before | new != before
    }

    /// Adds what an agent brings along from tasks before; true when not all of it was there.
    pub(crate) fn bring(&self, labels: &[Label]) -> bool {
        let new = bits(labels);
        let before = self.all.fetch_or(new, Ordering::AcqRel);
        before | new != before
    }

    /// Lets `agent` remember what is touched here, by a task that lasts until `until`.
    pub(crate) fn remembered_by(&self, agent: &Arc<Touched>, until: Instant) {
        let mut kept = self.kept.lock();
        kept.until = kept.until.max(Some(until));
        if !kept.by.iter().any(|one| Arc::ptr_eq(one, agent)) {
            kept.by.push(agent.clone());
        }
        kept.note(self.own.load(Ordering::Acquire));
    }

    /// A task that they are of lasts longer than it did.
    pub(crate) fn lasts_until(&self, until: Instant) {
        let mut kept = self.kept.lock();
        kept.until = kept.until.max(Some(until));
        kept.note(self.own.load(Ordering::Acquire));
    }
}

impl Kept {
    fn note(&self, bits: u8) {
        let Some(until) = self.until.filter(|_| bits != 0) else { return };
        for touched in &self.by {
            let mut all = touched.0.lock();
            for (label, held) in Label::ALL.into_iter().zip(all.iter_mut()) {
                if bits & bit(label) != 0 {
                    *held = (*held).max(Some(until));
                }
            }
        }
    }
}

impl Touched {
    /// What was touched, and until when a task that did could last.
    #[must_use]
    pub fn kept(&self) -> Vec<(Label, Instant)> {
        Label::ALL.into_iter().zip(self.0.lock().iter()).filter_map(|(label, held)| Some((label, (*held)?))).collect()
    }

    /// Goes on from what was kept.
    pub(crate) fn restore(&self, kept: impl Iterator<Item = (Label, Instant)>) {
        let mut all = self.0.lock();
        for (label, until) in kept {
            if let Some(held) = all.get_mut(label as usize) {
                *held = (*held).max(Some(until));
            }
        }
    }

    /// What sticks at `now`, for as long as `sticky` after the last task that could have it at hand.
    #[must_use]
    pub fn sticking(&self, sticky: Duration, now: Instant) -> Vec<Label> {
        if sticky.is_zero() {
            return Vec::new();
        }
        let sticks = |held: &Option<Instant>| held.is_some_and(|held| held.checked_add(sticky).is_none_or(|end| end > now));
        Label::ALL.into_iter().zip(self.0.lock().iter()).filter(|(_, held)| sticks(held)).map(|(label, _)| label).collect()
    }
}

const fn bit(label: Label) -> u8 {
    1 << label as u8
}

fn bits(labels: &[Label]) -> u8 {
    labels.iter().fold(0, |bits, label| bits | bit(*label))
}

fn named(bits: u8) -> impl Iterator<Item = Label> {
    Label::ALL.into_iter().filter(move |label| bits & bit(*label) != 0)
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

    #[test]
    fn what_was_touched_sticks_for_a_time_after_the_task_could_last_and_what_was_brought_does_not_renew_it() {
        let (agent, now) = (Arc::<Touched>::default(), Instant::now());
        let secs = Duration::from_secs;
        let first = Labels::default();
        first.remembered_by(&agent, now + secs(10));
        assert!(agent.sticking(secs(60), now).is_empty());
        first.add(&[Label::PrivateData]);
        assert_eq!(agent.sticking(secs(60), now + secs(69)), [Label::PrivateData]);
        assert!(agent.sticking(secs(60), now + secs(70)).is_empty() && agent.sticking(secs(0), now).is_empty());
        let second = Labels::default();
        assert!(second.bring(&agent.sticking(secs(60), now)));
        second.remembered_by(&agent, now + secs(50));
        assert!(agent.sticking(secs(60), now + secs(70)).is_empty(), "brought along, and not touched again");
        assert!(!second.add(&[Label::PrivateData]), "it was there");
        assert_eq!(agent.sticking(secs(60), now + secs(109)), [Label::PrivateData], "now it was touched again");
        let child = Arc::<Touched>::default();
        second.remembered_by(&child, now + secs(20));
        assert_eq!(child.sticking(secs(60), now + secs(109)), [Label::PrivateData], "who is handed a part has it too");
    }
}
