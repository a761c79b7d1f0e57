use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};

use super::{desk::Desk, held::Held};
use crate::{clock, credential::issue::Revoked};

/// Issuers that are told at one time.
const AT_ONCE: usize = 64;
/// Between two tries, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

impl Desk {
    /// Revokes all of these; ready when each was tried. What failed is tried again, by and by, for as
    /// long as it lives. `since` is when it was to be over.
    pub(super) async fn revoke_all(self: &Arc<Self>, held: Vec<Arc<Held>>, since: Instant) {
        stream::iter(held).for_each_concurrent(AT_ONCE, |held| self.revoke_or_retry(held, since)).await;
    }

    async fn revoke_or_retry(self: &Arc<Self>, held: Arc<Held>, since: Instant) {
        self.due(&held);
        if !self.try_to_revoke(&held, since).await {
            let desk = self.clone();
            tokio::spawn(async move { desk.retry(held, since).await });
        }
    }

    async fn retry(self: &Arc<Self>, held: Arc<Held>, since: Instant) {
        let mut wait = AGAIN.0;
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
            if held.is_over(clock::utc()) {
                return self.gone(&held);
            }
            if self.try_to_revoke(&held, since).await {
                return;
            }
        }
    }

    /// False when it must be tried again.
    async fn try_to_revoke(&self, held: &Arc<Held>, since: Instant) -> bool {
        let issuer = self.issuers.lock().get(&held.credential).cloned();
        match held.revoke(issuer).await {
            Ok(revoked) => {
                self.events.revoked(held.listed(false), revoked == Revoked::Done, since.elapsed());
                // What nobody can revoke lives on, and stays in the list until it expires.
                if revoked == Revoked::Done || held.expires.is_none() {
                    self.gone(held);
                }
                true
            }
            Err(fault) => {
                self.events.not_revoked(held.listed(true), &fault.to_string());
                false
            }
        }
    }
}
