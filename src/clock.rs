//! The one place where the time of day is read.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// The time of day, in UTC.
#[must_use]
pub fn utc() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Milliseconds since 1970; 0 for a clock set before it.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
