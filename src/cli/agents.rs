//! `remit agents`: who is registered.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::problem::Problem;

use super::{
    control::{Client, Output, Reach, Reply, table},
    task::text,
};

/// Agents: who is registered, and what each may act in
#[derive(Debug, Clone, Args)]
pub struct AgentsArgs {
    #[command(subcommand)]
    pub command: AgentsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum AgentsCommand {
    /// List the registered agents
    #[command(after_help = "Example:\n  remit agents list --config remit.yaml")]
    List {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show one agent
    #[command(after_help = "Example:\n  remit agents show --config remit.yaml triage-bot")]
    Show {
        /// The agent's id
        id: String,
        #[command(flatten)]
        reach: Reach,
    },
}

/// Runs the command; answers the exit code.
///
/// # Errors
/// When Remit cannot be reached or the output cannot be written.
pub async fn run(args: &AgentsArgs, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Problem> {
    let (reach, path) = match &args.command {
        AgentsCommand::List { reach } => (reach, "/v1/agents".to_string()),
        AgentsCommand::Show { id, reach } => (reach, format!("/v1/agents/{}", utf8_percent_encode(id, NON_ALPHANUMERIC))),
    };
    let reply = Client::find(reach)?.send(Method::GET, &path, None).await?;
    print(&args.command, reach.output, &reply, out, err).map_err(|e| Problem::new(format!("cannot write the answer: {e}")))?;
    Ok(reply.exit_code())
}

fn print(command: &AgentsCommand, output: Output, reply: &Reply, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
    if output == Output::Json {
        return writeln!(out, "{}", reply.body);
    }
    match (command, reply.success()) {
        (_, Err(detail)) => writeln!(err, "{detail}"),
        (AgentsCommand::List { .. }, Ok(body)) => write!(out, "{}", list(body)),
        (AgentsCommand::Show { .. }, Ok(agent)) => write!(out, "{}", one(agent)),
    }
}

fn list(body: &Value) -> String {
    let agents = body["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |agent: &Value| {
        let workflows = agent["workflows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let workflows: Vec<String> = workflows.iter().map(|w| text(&w["id"])).collect();
        let cell = |name: &str| text(&agent[name]);
        vec![cell("id"), cell("status"), cell("owner"), cell("expires"), cell("tasks"), workflows.join(",")]
    };
    table(&["ID", "STATUS", "OWNER", "EXPIRES", "TASKS", "WORKFLOWS"], &agents.iter().map(row).collect::<Vec<_>>())
}

fn one(agent: &Value) -> String {
    let names = ["id", "status", "owner", "expires", "spiffe_id", "delegates_to", "tasks", "registered"];
    let given = names.iter().map(|name| (*name, text(&agent[*name]))).filter(|(_, value)| !value.is_empty());
    let mut out: String = given.map(|(name, value)| format!("{name:<12}  {value}\n")).collect();
    for workflow in agent["workflows"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let until = text(&workflow["until"]);
        let until = if until.is_empty() { until } else { format!(" until {until}") };
        out.push_str(&format!("{:<12}  {} ({}{until})\n", "workflow", text(&workflow["id"]), text(&workflow["mode"])));
    }
    out
}
