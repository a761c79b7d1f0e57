use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ahash::RandomState;
use parking_lot::Mutex;
use ring::digest;
use time::OffsetDateTime;

use crate::{
    clock::Moment,
    refusal::{Reason, Refusal},
};

use super::{LEEWAY, LIFE};

/// Tokens that are remembered. A token lives a minute: this is over a thousand new ones a second.
const MOST: usize = 1 << 17;

/// Tokens that were used, each until it can be used no more. When it is full, no further token is
/// believed until one has expired.
#[derive(Debug)]
pub struct Used {
    seen: Mutex<Seen>,
    most: usize,
}

#[derive(Debug, Default)]
struct Seen {
    by_digest: HashMap<[u8; 16], Until, RandomState>,
    /// When it pays to look for expired ones again.
    next: Option<Instant>,
}

/// Both clocks must be past: the wall clock may be set back, and the token be valid anew.
#[derive(Debug, Clone, Copy)]
struct Until {
    utc: OffsetDateTime,
    instant: Instant,
}

impl Default for Used {
    fn default() -> Self {
        Self { seen: Mutex::default(), most: MOST }
    }
}

impl Used {
    #[cfg(test)]
    pub(super) fn at_most(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Uses a token up.
    ///
    /// # Errors
    /// `delegation_invalid` when it was used before; `state_unavailable` when no more can be remembered.
    pub(super) fn once(&self, issuer: &str, jti: &str, expires: OffsetDateTime, now: Moment) -> Result<(), Refusal> {
        let digest = key(issuer, jti);
        let mut seen = self.seen.lock();
        if seen.by_digest.contains_key(&digest) {
            return Err(Refusal::new(Reason::DelegationInvalid, "the delegation token was used before: each call is handed its own"));
        }
        if seen.by_digest.len() >= self.most {
            seen.forget(now);
            if seen.by_digest.len() >= self.most {
                let detail = "too many delegation tokens were used within a minute to remember one more";
                return Err(Refusal::new(Reason::StateUnavailable, detail).with_retry_after(Duration::from_secs(5)));
            }
        }
        let keep = LIFE + LEEWAY.0 * 2;
        let until = Until { utc: expires + LEEWAY.0, instant: now.later(keep).instant };
        seen.by_digest.insert(digest, until);
        if seen.next.is_none_or(|next| next <= now.instant) {
            seen.forget(now);
        }
        Ok(())
    }
}

impl Seen {
    fn forget(&mut self, now: Moment) {
        self.by_digest.retain(|_, until| until.utc > now.utc || until.instant > now.instant);
        self.next = Some(now.later(LIFE).instant);
    }
}

/// Half of SHA-256, of which no two are found that are the same.
fn key(issuer: &str, jti: &str) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(issuer.as_bytes());
    context.update(&[0]);
    context.update(jti.as_bytes());
    let mut out = [0; 16];
    out.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_once_and_forgotten_when_it_is_over() {
        let (used, now) = (Used::at_most(2), Moment::now());
        let ends = now.later(LIFE).utc;
        assert!(used.once("spiffe://a/x", "1", ends, now).is_ok());
        assert_eq!(used.once("spiffe://a/x", "1", ends, now).unwrap_err().reason, Reason::DelegationInvalid);
        assert!(used.once("spiffe://a/y", "1", ends, now).is_ok());
        assert_eq!(used.once("spiffe://a/x", "2", ends, now).unwrap_err().reason, Reason::StateUnavailable);
        let later = now.later(LIFE + LEEWAY.0 * 2);
        assert!(used.once("spiffe://a/x", "2", later.later(LIFE).utc, later).is_ok());
    }

    #[test]
    fn a_clock_set_back_brings_no_token_back() {
        let (used, now) = (Used::at_most(1), Moment::now());
        let ends = now.later(LIFE).utc;
        assert!(used.once("spiffe://a/x", "1", ends, now).is_ok());
        let back = Moment { utc: now.utc - Duration::from_secs(3600), instant: now.later(LIFE * 10).instant };
        assert_eq!(used.once("spiffe://a/x", "1", ends, back).unwrap_err().reason, Reason::DelegationInvalid);
        assert_eq!(used.once("spiffe://a/x", "2", ends, back).unwrap_err().reason, Reason::StateUnavailable);
    }
}
