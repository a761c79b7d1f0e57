use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    call::{Leash, Task},
    refusal::Reason,
};

/// What a call is watched for while it waits for upstream: the end of its task, and silence.
///
/// A connection keeps it from call to call. Most calls of a connection are of one task, and a timer
/// that is armed for too early is set anew when it fires: so a call that is answered soon registers
/// with neither.
pub(super) struct Vigil {
    task: Arc<Task>,
    /// Ends this call alone, where it stays open.
    leash: Option<Arc<Leash>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    timer: Option<Pin<Box<Sleep>>>,
    due: Instant,
}

impl Vigil {
    pub(super) fn new(task: &Arc<Task>) -> Self {
        let ended = Box::pin(task.ended.clone().cancelled_owned());
        Self { task: task.clone(), leash: None, ended, timer: None, due: Instant::now() }
    }

    /// Watches over a call of `task`, which may be another than before.
    pub(super) fn of(mut self, task: &Arc<Task>) -> Self {
        if !Arc::ptr_eq(&self.task, task) || self.leash.take().is_some() {
            self.task = task.clone();
            self.ended = Box::pin(task.ended.clone().cancelled_owned());
        }
        self
    }

    /// Watches over a call that can be ended by itself.
    pub(super) fn leashed(mut self, leash: Option<&Arc<Leash>>) -> Self {
        if let Some(leash) = leash {
            self.ended = Box::pin(leash.cut().clone().cancelled_owned());
            self.leash = Some(leash.clone());
        }
        self
    }

    /// Ready when the call is to end: why.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        let why = || self.leash.as_ref().map_or_else(|| self.task.why_over(), |leash| leash.why());
        self.ended.as_mut().poll(cx).map(|()| why())
    }

    /// A byte came: silence begins anew when it is next asked for.
    pub(super) fn heard(&mut self, limit: Duration) {
        self.due = Instant::now() + limit;
    }

    /// Ready when nothing was heard until the time that `heard` set.
    pub(super) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.due;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            std::task::ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}
