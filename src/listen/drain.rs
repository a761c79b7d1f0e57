use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Ends what is open: first asks, then waits up to a deadline.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    asked: CancellationToken,
    /// Fired when the deadline has passed: what is still open is dropped.
    over: CancellationToken,
    open: TaskTracker,
}

impl Drain {
    /// Resolves when a drain was asked for.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Spawns a task that the drain waits for, and drops at its deadline.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        let over = self.over.clone();
        self.open.spawn(async move {
            tokio::select! {
                biased;
                () = task => {}
                () = over.cancelled() => {}
            }
        });
    }

    /// Asks all to end, waits for them up to `deadline`; returns how many had to be dropped.
    pub async fn run(&self, deadline: Duration) -> usize {
        self.asked.cancel();
        self.open.close();
        if tokio::time::timeout(deadline, self.open.wait()).await.is_ok() {
            return 0;
        }
        let left = self.open.len();
        self.over.cancel();
        self.open.wait().await;
        left
    }
}
