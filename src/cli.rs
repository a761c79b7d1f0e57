//! The command line: one file per command.

pub mod intents;
pub mod request;
