//! Room 5: Caller + Intents → Decision. Pure: no I/O and no clock of its own.

mod permit;

pub use permit::Permit;
