//! The command line: one file per command.

pub mod agents;
pub mod control;
pub mod task;
