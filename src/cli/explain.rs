use std::{path::PathBuf, process::ExitCode};

use crate::{
    app,
    cli::{COULD_NOT, NO, fail},
    config::Config,
    problem::Problems,
};

/// Say what a request means, whether it would be allowed, and why. Sends nothing.
///
/// Examples:
///   remit explain --config remit.yaml --agent triage-bot --workflow triage-issues \
///       GET https://api.github.com/repos/acme/web/issues
///   remit explain --config remit.yaml POST https://api.github.com/repos/acme/web/issues -d '{"title":"x"}'
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The config file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The agent that would call; can be left out when one is registered.
    #[arg(long)]
    agent: Option<String>,
    /// The workflow it would run; can be left out when the agent has one.
    #[arg(long)]
    workflow: Option<String>,
    #[command(flatten)]
    request: crate::cli::request::Args,
    #[arg(long, value_enum, default_value_t)]
    output: crate::cli::Output,
}

pub fn run(args: Args) -> ExitCode {
    todo!()
}
