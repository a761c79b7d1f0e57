use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Ends what is open: first asks, then waits up to a deadline.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    asked: CancellationToken,
    /// Set before `asked` is: what every connection looks at whenever it runs.
    is_asked: Arc<AtomicBool>,
    /// Fired when the deadline has passed: what is still open is dropped.
    over: CancellationToken,
    open: TaskTracker,
}

impl Drain {
    /// Resolves when a drain was asked for.
    pub async fn asked(&self) {
        let mut asked = pin!(self.asked.cancelled());
        let mut known = None;
        poll_fn(|cx| if self.is_asked() { Poll::Ready(()) } else { register(asked.as_mut(), &mut known, cx) }).await;
    }

    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }

    /// Spawns a task that the drain waits for, and drops at its deadline.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        let drain = self.clone();
        self.open.spawn(async move {
            let (mut task, mut over) = (pin!(task), pin!(drain.over.cancelled()));
            let mut known = None;
            poll_fn(|cx| match task.as_mut().poll(cx) {
                Poll::Pending if drain.is_asked() => over.as_mut().poll(cx),
                Poll::Pending => register(over.as_mut(), &mut known, cx),
                done => done,
            })
            .await;
        });
    }

    /// Asks all to end, waits for them up to `deadline`; returns how many had to be dropped.
    pub async fn run(&self, deadline: Duration) -> usize {
        self.is_asked.store(true, Ordering::Release);
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

/// Polls a wait only for a waker that it does not know: a task that runs often need not take the
/// wait's lock each time to say the same again.
fn register<F: Future<Output = ()>>(wait: std::pin::Pin<&mut F>, known: &mut Option<Waker>, cx: &mut Context<'_>) -> Poll<()> {
    if known.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        return Poll::Pending;
    }
    *known = Some(cx.waker().clone());
    wait.poll(cx)
}
