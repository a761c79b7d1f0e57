use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Task;
use crate::refusal::Reason;

/// What can end a call whose request side is open: the end of its task, or that it was decided again
/// and is not allowed any more.
pub struct Leash {
    task: Arc<Task>,
    /// Below the task's own end.
    cut: CancellationToken,
    why: OnceLock<Reason>,
    release: Mutex<Option<Release>>,
}

/// Takes a call from those that are decided again.
pub type Release = Box<dyn FnOnce() + Send>;

impl Leash {
    /// For a call of `task`; `release` is called once, when its request side is over.
    #[must_use]
    pub fn new(task: &Arc<Task>, release: Release) -> Self {
        Self { task: task.clone(), cut: task.ended.child_token(), why: OnceLock::new(), release: Mutex::new(Some(release)) }
    }

    /// Ends the call.
    pub fn pull(&self, why: Reason) {
        let _ = self.why.set(why);
        self.cut.cancel();
    }

    /// Cancelled when the call is to end.
    #[must_use]
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Why it was to end.
    #[must_use]
    pub fn why(&self) -> Reason {
        self.why.get().copied().unwrap_or_else(|| self.task.why_over())
    }

    /// The request side is over: what was asked for cannot change any more.
    pub fn release(&self) {
        let release = self.release.lock().take();
        if let Some(release) = release {
            release();
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Leash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leash").field("task", &self.task.id).field("why", &self.why).finish_non_exhaustive()
    }
}
