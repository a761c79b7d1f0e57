//! Who waits for a record to be written or durable, and who wakes them.

use std::{
    future::poll_fn,
    mem,
    sync::atomic::Ordering,
    task::{Poll, Waker},
};

use super::{Log, Unwritten};

impl Log {
    /// Waits until record `seq` was taken by `write(2)`.
    pub(in crate::audit) async fn until_written(&self, seq: u64) -> Result<(), Unwritten> {
        // Whoever else is ready to run appends first; one write then serves all.
        tokio::task::yield_now().await;
        let failures = self.failures.load(Ordering::Acquire);
        loop {
            if self.written.load(Ordering::Acquire) >= seq {
                return Ok(());
            }
            if self.inline || self.syncs.lock().ended {
                if let Some(result) = self.try_flush() {
                    result?;
                    continue;
                }
            } else if self.failures.load(Ordering::Acquire) != failures {
                return Err(Unwritten);
            }
            self.turn(seq).await;
        }
    }

    /// Waits until record `seq` is covered by `fdatasync`.
    pub(in crate::audit) async fn until_durable(&self, seq: u64) -> Result<(), Unwritten> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut registered = false;
        poll_fn(|cx| {
            if self.durable.load(Ordering::Acquire) >= seq {
                return Poll::Ready(Ok(()));
            }
            let mut syncs = self.syncs.lock();
            // Looked at under the lock under which waiters are let go.
            if self.durable.load(Ordering::Acquire) >= seq {
                return Poll::Ready(Ok(()));
            }
            if syncs.ended || self.failures.load(Ordering::Acquire) != failures {
                return Poll::Ready(Err(Unwritten));
            }
            let known = if mem::replace(&mut registered, true) { syncs.waiters.iter_mut().find(|(s, _)| *s == seq) } else { None };
            match known {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => syncs.waiters.push((seq, cx.waker().clone())),
            }
            let wake = syncs.waiters.len() >= syncs.wake_at;
            drop(syncs);
            if wake {
                self.wake_writer();
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until whoever writes now is done.
    async fn turn(&self, seq: u64) {
        let mut registered = false;
        poll_fn(|cx| {
            if mem::replace(&mut registered, true) {
                return Poll::Ready(());
            }
            self.waiting.lock().push(cx.waker().clone());
            if !self.inline {
                self.wake_writer();
            }
            // A writer lets go of `io` first and wakes then: still held means it will see us.
            let missed = self.written.load(Ordering::Acquire) >= seq || (self.inline && !self.io.is_locked());
            if missed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Lets go who waits for what is durable now; how many, and how many are left.
    pub(in crate::audit) fn release(&self) -> (usize, usize) {
        let mut syncs = self.syncs.lock();
        let durable = self.durable.load(Ordering::Acquire);
        let (done, rest): (Vec<_>, Vec<_>) = mem::take(&mut syncs.waiters).into_iter().partition(|(seq, _)| *seq <= durable);
        syncs.waiters = rest;
        let left = syncs.waiters.len();
        drop(syncs);
        let released = done.len();
        done.into_iter().for_each(|(_, waker)| waker.wake());
        (released, left)
    }

    /// The writer is gone, and nobody must wait for it: what is not durable by now has failed.
    pub(in crate::audit) fn end(&self) {
        self.syncs.lock().ended = true;
        self.release();
        self.fail_syncs();
        self.wake_waiting();
    }

    /// Everyone who waits for a sync has failed.
    pub(in crate::audit) fn fail_syncs(&self) {
        let mut syncs = self.syncs.lock();
        self.failures.fetch_add(1, Ordering::AcqRel);
        let waiters = mem::take(&mut syncs.waiters);
        drop(syncs);
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(super) fn wake_waiting(&self) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        let wakers = mem::take(&mut *waiting);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}
