//! The command line: one file per command.
//!
//! Exit codes: 0 ok, 1 the answer is no, 2 usage, 3 could not do it; `run` exits with its command's.

use std::{
    io::{stderr, stdout},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::problem::Problem;

pub mod agents;
pub mod audit;
pub mod check;
pub mod control;
pub mod demo;
pub mod explain;
pub mod init;
pub mod intents;
pub mod leases;
pub mod policy;
mod records;
pub mod request;
pub mod run;
pub mod serve;
pub mod task;
mod who;

/// The proxy that decides, call by call, what an AI agent may do.
#[derive(Debug, Parser)]
#[command(name = "remit", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Run(run::Args),
    Serve(serve::Args),
    Check(check::Args),
    Explain(explain::Args),
    Intents(intents::Args),
    Policy(policy::Args),
    Task(task::TaskArgs),
    Agents(agents::AgentsArgs),
    Leases(leases::LeasesArgs),
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    Init(init::Args),
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(&args, crate::app::load),
        Command::Explain(args) => explain::run(args),
        Command::Intents(args) => intents::run(args),
        Command::Policy(args) => policy::run(&args, crate::app::policy_sources),
        Command::Task(args) => asking(task::run(&args, &mut stdout(), &mut stderr())),
        Command::Agents(args) => asking(agents::run(&args, &mut stdout(), &mut stderr())),
        Command::Leases(args) => asking(leases::run(&args, &mut stdout(), &mut stderr())),
        Command::Audit { command } => audit::run(&command, crate::config::Config::load),
        Command::Init(args) => init::run(&args),
    }
}

/// Runs a command that asks a running Remit.
fn asking(command: impl Future<Output = Result<u8, Problem>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(COULD_NOT, &error),
    };
    match runtime.block_on(command) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => fail(COULD_NOT, &problem),
    }
}

/// The answer is no.
pub(crate) const NO: u8 = 1;
/// It could not be done.
pub(crate) const COULD_NOT: u8 = 3;

/// Prints an error as every command does, and answers its exit code.
pub(crate) fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(code)
}

pub(crate) use crate::shown::shown;

/// How a command that answers with data prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    #[default]
    Text,
    Json,
}
