use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use http::HeaderValue;

use crate::{authority::Found, call::Task, refusal::Refusal, secret::Secret};

/// What one connection has presented, so that a handle is decoded and hashed once and not for
/// every call. Made with the connection and dropped with it; that a task is over is still seen
/// on each call.
#[derive(Default)]
pub struct Seen {
    proxy: Slot,
    header: Slot,
}

/// The first value that named a task, and that task.
type Slot = OnceLock<(Secret<Vec<u8>>, Arc<Task>)>;

impl Seen {
    pub(super) fn in_proxy_authorization(
        this: Option<&Self>,
        value: &HeaderValue,
        now: Instant,
        look: impl FnOnce() -> Result<Found, Refusal>,
    ) -> Result<Found, Refusal> {
        remembered(this.map(|s| &s.proxy), value, now, look)
    }

    pub(super) fn in_remit_task(
        this: Option<&Self>,
        value: &HeaderValue,
        now: Instant,
        look: impl FnOnce() -> Result<Found, Refusal>,
    ) -> Result<Found, Refusal> {
        remembered(this.map(|s| &s.header), value, now, look)
    }
}

fn remembered(
    slot: Option<&Slot>,
    value: &HeaderValue,
    now: Instant,
    look: impl FnOnce() -> Result<Found, Refusal>,
) -> Result<Found, Refusal> {
    let Some(slot) = slot else { return look() };
    match slot.get() {
        Some((seen, task)) if same(seen.expose(), value.as_bytes()) => Ok(Found { task: task.clone(), over: task.over(now) }),
        Some(_) => look(),
        None => {
            let found = look()?;
            // Another call of this connection may have been first; then this one is looked up each time.
            let _ = slot.set((Secret::new(value.as_bytes().to_vec()), found.task.clone()));
            Ok(found)
        }
    }
}

/// Compares in a time that does not tell where two values differ: a connection may be shared.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}
