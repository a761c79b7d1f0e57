//! What time it is: one source for the whole house, settable in tests.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use time::OffsetDateTime;

/// One moment on both clocks: deadlines are kept on the monotonic one, dates on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub instant: Instant,
    pub utc: OffsetDateTime,
}

impl Moment {
    /// This moment, by the machine's clocks.
    #[must_use]
    pub fn now() -> Self {
        Self { instant: Instant::now(), utc: OffsetDateTime::now_utc() }
    }

    /// The moment `by` later on both clocks; stays where it is when that is out of range.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        let utc = time::Duration::try_from(by).ok().and_then(|d| self.utc.checked_add(d));
        match (self.instant.checked_add(by), utc) {
            (Some(instant), Some(utc)) => Self { instant, utc },
            _ => self,
        }
    }
}

/// The time of day, in UTC, by the machine's clock.
#[must_use]
pub fn utc() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Milliseconds since 1970 by the machine's clock; 0 for a clock set before it.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// The milliseconds since 1970 of a moment; 0 before it.
#[must_use]
pub fn unix_ms_of(moment: Moment) -> u64 {
    u64::try_from(moment.utc.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    fn now(&self) -> Moment;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::now()
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct SettableClock {
    start: Moment,
    passed_ms: AtomicU64,
}

impl SettableClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn at(start: Moment) -> Self {
        Self { start, passed_ms: AtomicU64::new(0) }
    }

    /// Moves both clocks forward, in whole milliseconds.
    pub fn advance(&self, by: Duration) {
        self.passed_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for SettableClock {
    fn now(&self) -> Moment {
        self.start.later(Duration::from_millis(self.passed_ms.load(Ordering::SeqCst)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settable_clock_moves_both_clocks_and_only_when_told() {
        let clock = SettableClock::at(Moment::now());
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance(Duration::from_secs(90));
        assert_eq!(clock.now().instant - before.instant, Duration::from_secs(90));
        assert_eq!(clock.now().utc - before.utc, time::Duration::seconds(90));
    }

    #[test]
    fn a_moment_out_of_range_stays_where_it_is() {
        let now = Moment::now();
        assert_eq!(now.later(Duration::MAX), now);
    }
}
