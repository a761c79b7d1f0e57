//! `remit agents`: who is registered, and what an operator changes while Remit runs.

mod attest;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

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
    /// Suspend an agent: its tasks end now, what they have open is cut, and it can start none
    #[command(after_help = "Example:\n  remit agents suspend --config remit.yaml triage-bot --until-restart --reason 'odd calls'")]
    Suspend(ChangeArgs),
    /// Let a suspended agent act again
    #[command(after_help = "Example:\n  remit agents resume --config remit.yaml triage-bot --until-restart")]
    Resume(ChangeArgs),
    /// Retire an agent for good: as suspend, and nothing takes it back
    #[command(after_help = "Example:\n  remit agents retire --config remit.yaml triage-bot --until-restart")]
    Retire(ChangeArgs),
    /// Learn from the audit what an agent is: prints what to paste below it, or attests it in the running Remit
    #[command(after_help = "Examples:\n  remit agents attest triage-bot --from audit\n  \
                            remit agents attest triage-bot --from audit --apply --until-restart --config remit.yaml")]
    Attest(AttestArgs),
}

#[derive(Debug, Clone, Args)]
pub struct ChangeArgs {
    /// The agent's id
    pub id: String,
    /// Why; stands on the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Say that it may be forgotten when Remit starts again; needed where there is no `state:` file
    #[arg(long)]
    pub until_restart: bool,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Clone, Args)]
pub struct AttestArgs {
    #[command(flatten)]
    pub change: ChangeArgs,
    /// The audit directory to learn from
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Attest it in the running Remit, instead of printing what to paste
    #[arg(long)]
    pub apply: bool,
}

/// Runs the command; answers the exit code.
///
/// # Errors
/// When Remit cannot be reached or the output cannot be written.
pub async fn run(args: &AgentsArgs, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Problem> {
    let status = |change: &ChangeArgs, status: &str| Some(asked(change, "status", json!(status)));
    let (reach, method, path, body) = match &args.command {
        AgentsCommand::List { reach } => (reach, Method::GET, "/v1/agents".to_string(), None),
        AgentsCommand::Show { id, reach } => (reach, Method::GET, path(id), None),
        AgentsCommand::Suspend(change) => (&change.reach, Method::PATCH, path(&change.id), status(change, "suspended")),
        AgentsCommand::Resume(change) => (&change.reach, Method::PATCH, path(&change.id), status(change, "active")),
        AgentsCommand::Retire(change) => (&change.reach, Method::PATCH, path(&change.id), status(change, "retired")),
        AgentsCommand::Attest(attest) => {
            let change = &attest.change;
            let learnt = attest::learn(&attest.from, &change.id)?;
            if !attest.apply {
                let text =
                    if change.reach.output == Output::Json { format!("{}\n", json!(learnt)) } else { attest::yaml(&change.id, &learnt) };
                return out.write_all(text.as_bytes()).map(|()| 0).map_err(|e| unwritten(&e));
            }
            (&change.reach, Method::PATCH, path(&change.id), Some(asked(change, "attested", json!(learnt))))
        }
    };
    let reply = Client::find(reach)?.send(method, &path, body.as_ref()).await?;
    print(&args.command, reach.output, &reply, out, err).map_err(|e| unwritten(&e))?;
    Ok(reply.exit_code())
}

fn unwritten(error: &io::Error) -> Problem {
    Problem::new(format!("cannot write the answer: {error}"))
}

fn path(id: &str) -> String {
    format!("/v1/agents/{}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

fn asked(change: &ChangeArgs, name: &str, value: Value) -> Value {
    let mut body = json!({name: value, "until_restart": change.until_restart});
    if let (Some(reason), Some(body)) = (&change.reason, body.as_object_mut()) {
        body.insert("reason".into(), json!(reason));
    }
    body
}

fn print(command: &AgentsCommand, output: Output, reply: &Reply, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
    if output == Output::Json {
        return writeln!(out, "{}", reply.body);
    }
    let done = |what: &str, agent: &Value| format!("{what} {}; tasks ended: {}\n", text(&agent["id"]), text(&agent["tasks_ended"]));
    match (command, reply.success()) {
        (_, Err(detail)) => writeln!(err, "{detail}"),
        (AgentsCommand::List { .. }, Ok(body)) => write!(out, "{}", list(body)),
        (AgentsCommand::Show { .. }, Ok(agent)) => write!(out, "{}", one(agent)),
        (AgentsCommand::Suspend(_), Ok(agent)) => write!(out, "{}", done("suspended", agent)),
        (AgentsCommand::Retire(_), Ok(agent)) => write!(out, "{}", done("retired", agent)),
        (AgentsCommand::Resume(_), Ok(agent)) => writeln!(out, "resumed {}", text(&agent["id"])),
        (AgentsCommand::Attest(_), Ok(agent)) => writeln!(out, "attested {}", text(&agent["id"])),
    }
}

fn list(body: &Value) -> String {
    let agents = body["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |agent: &Value| {
        let workflows = agent["workflows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let workflows: Vec<String> = workflows.iter().map(|w| text(&w["id"])).collect();
        let cell = |name: &str| text(&agent[name]);
        let drift = match agent["drift"].as_array().map(Vec::as_slice) {
            None => "-".to_owned(),
            Some([]) => "none".to_owned(),
            Some([one]) if one == "unobserved" => text(one),
            Some(all) => all.iter().filter(|d| *d != "unobserved").count().to_string(),
        };
        vec![cell("id"), cell("status"), cell("owner"), cell("expires"), cell("tasks"), drift, workflows.join(",")]
    };
    table(&["ID", "STATUS", "OWNER", "EXPIRES", "TASKS", "DRIFT", "WORKFLOWS"], &agents.iter().map(row).collect::<Vec<_>>())
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
    for name in ["set", "attested"] {
        if let Some(change) = agent[name].as_object() {
            let what = change.get("status").map(|s| format!("{} ", text(s))).unwrap_or_default();
            let why = change.get("reason").filter(|r| !r.is_null()).map(|r| format!(": {}", text(r))).unwrap_or_default();
            out.push_str(&format!("{name:<12}  {what}by {} at {}{why}\n", text(&agent[name]["by"]), text(&agent[name]["at"])));
        }
    }
    for differs in agent["drift"].as_array().map(Vec::as_slice).unwrap_or_default() {
        out.push_str(&format!("{:<12}  {}\n", "drift", text(differs)));
    }
    out
}
