//! `remit leases`: what is issued to tasks, and what is still to be revoked.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use crate::problem::Problem;

use super::{
    control::{Client, Output, Reach, Reply, table},
    task::text,
};

/// Leases: what is issued to tasks, and what is still to be revoked
#[derive(Debug, Clone, Args)]
pub struct LeasesArgs {
    #[command(subcommand)]
    pub command: LeasesCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum LeasesCommand {
    /// List what is neither revoked nor expired; never the values
    #[command(after_help = "Example:\n  remit leases list --config remit.yaml")]
    List {
        #[command(flatten)]
        reach: Reach,
    },
}

/// Runs the command. The exit code: 0, or 1 when the answer is no.
///
/// # Errors
/// When no Remit is reached, or the answer cannot be written.
pub async fn run(args: &LeasesArgs, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Problem> {
    let LeasesCommand::List { reach } = &args.command;
    let reply = Client::find(reach)?.send(Method::GET, "/v1/leases", None).await?;
    print(reach.output, &reply, out, err).map_err(|e| Problem::new(format!("cannot write the answer: {e}")))?;
    Ok(reply.exit_code())
}

fn print(output: Output, reply: &Reply, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
    if output == Output::Json {
        return writeln!(out, "{}", reply.body);
    }
    match reply.success() {
        Err(detail) => writeln!(err, "{detail}"),
        Ok(body) => write!(out, "{}", list(body)),
    }
}

fn list(body: &Value) -> String {
    let row = |lease: &Value| {
        let cell = |name: &str| text(&lease[name]);
        let state = match (lease["unrevoked"].as_bool(), lease["revocable"].as_bool()) {
            (Some(true), Some(true)) => "being revoked",
            (Some(true), _) => "lives until it expires",
            (_, Some(true)) => "active",
            _ => "active, not revocable",
        };
        let expires = lease["expires"].as_str().map_or_else(|| "-".to_owned(), str::to_owned);
        vec![cell("credential"), cell("kind"), cell("task"), cell("agent"), expires, state.to_owned(), cell("scope")]
    };
    let leases = body["leases"].as_array().map(Vec::as_slice).unwrap_or_default();
    table(&["CREDENTIAL", "KIND", "TASK", "AGENT", "EXPIRES", "STATE", "SCOPE"], &leases.iter().map(row).collect::<Vec<_>>())
}
