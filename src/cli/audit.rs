//! `remit audit`: reads, verifies and exports the log.

mod export;
mod tail;
mod tree;
mod verify;
mod words;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Subcommand, ValueEnum};

use crate::{
    config::{self, Config},
    problem::{Problem, Problems},
};

pub use self::{export::ExportArgs, tail::TailArgs, tree::TreeArgs, verify::VerifyArgs};

/// Reads the file given with `--config`; the same as everywhere else.
pub type Load = fn(&Path) -> Result<Config, Problems>;

/// Read and verify the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify that a log is as it was written.
    Verify(VerifyArgs),
    /// Show the newest calls, each decision with its outcome.
    Tail(TailArgs),
    /// Show a task with every call of it, and every task below it.
    Tree(TreeArgs),
    /// Write the calls as OCSF API Activity in CloudEvents, one JSON object a line.
    Export(ExportArgs),
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// The answer is no.
const NO: u8 = 1;
const USAGE: u8 = 2;
const COULD_NOT: u8 = 3;

/// Runs the command. Exit codes: 0 verified or shown, 1 not verified, 2 usage, 3 could not be read.
#[must_use]
pub fn run(command: &AuditCommand, load: Load) -> ExitCode {
    match command {
        AuditCommand::Verify(args) => verify::run(args, load),
        AuditCommand::Tail(args) => tail::run(args, load),
        AuditCommand::Tree(args) => tree::run(args, load),
        AuditCommand::Export(args) => export::run(args, load),
    }
}

/// The log's directories in a configuration.
fn dirs(audit: &config::Audit) -> Vec<PathBuf> {
    audit.sinks.iter().filter_map(|s| if let config::Sink::Dir(dir) = s { Some(dir.clone()) } else { None }).collect()
}

/// The directories to read: those given, else those that a configuration writes.
fn asked(given: &[PathBuf], config: Option<&Path>, load: Load) -> Result<Vec<PathBuf>, ExitCode> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let Some(file) = config else { return Err(usage("give a directory, or --config FILE")) };
    match load(file) {
        // A second directory is a mirror of the first.
        Ok(config) => match dirs(&config.audit).into_iter().next() {
            Some(dir) => Ok(vec![dir]),
            None => Err(usage("the configuration writes its log to no directory")),
        },
        Err(problems) => Err(fail_all(&problems)),
    }
}

fn fail(problem: &Problem) -> ExitCode {
    eprintln!("remit: {problem}");
    ExitCode::from(COULD_NOT)
}

fn usage(message: &str) -> ExitCode {
    eprintln!("remit: {message}");
    ExitCode::from(USAGE)
}

fn fail_all(problems: &Problems) -> ExitCode {
    eprintln!("remit: {problems}");
    ExitCode::from(COULD_NOT)
}
