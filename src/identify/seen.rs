use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use crate::{
    authority::Found,
    call::{Proof, Task},
    clock::Moment,
    refusal::Refusal,
    secret::Secret,
};

use super::{Callers, Proven};

/// What one connection has presented, so that a handle is decoded and hashed once and not for
/// every call. Made with the connection and dropped with it; that a task is over is still seen
/// on each call.
#[derive(Default)]
pub struct Seen {
    proxy: Slot,
    header: Slot,
    /// The last token that proved something, as it was presented, and what it proved.
    token: ArcSwapOption<(Secret<Vec<u8>>, Arc<Proof>)>,
    /// What its proofs come to.
    proven: ArcSwapOption<Proven>,
}

/// The first value that named a task, and that task.
type Slot = OnceLock<(Secret<Vec<u8>>, Arc<Task>)>;

impl Seen {
    /// What this value proved before, when that needs no new look.
    #[must_use]
    pub fn proved(&self, value: &HeaderValue, now: Moment) -> Option<Arc<Proof>> {
        let token = self.token.load();
        let (seen, proof) = &**token.as_ref()?;
        (same(seen.expose(), value.as_bytes()) && proof.is_fresh(now)).then(|| proof.clone())
    }

    /// What these proofs come to; they are looked up when they are not those of before.
    ///
    /// # Errors
    /// As [`Proven::of`].
    pub fn proven(
        &self,
        callers: &Arc<Callers>,
        svid: Option<&Arc<Proof>>,
        token: Option<&Arc<Proof>>,
    ) -> Result<Option<Arc<Proven>>, Refusal> {
        if let Some(proven) = &*self.proven.load()
            && proven.is_of(callers, svid, token)
        {
            return Ok(Some(proven.clone()));
        }
        let proven = Proven::of(callers, svid, token)?.map(Arc::new);
        self.proven.store(proven.clone());
        Ok(proven)
    }

    /// Remembers what a value proved.
    pub fn keep(&self, value: &HeaderValue, proof: &Arc<Proof>) {
        self.token.store(Some(Arc::new((Secret::new(value.as_bytes().to_vec()), proof.clone()))));
    }

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
