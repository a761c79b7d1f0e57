//! `remit task`: starts, lists, shows and ends tasks.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::problem::Problem;

use super::control::{Client, Output, Reach, Reply, shown, table};

/// Tasks: one run of one workflow by one agent, for a principal
#[derive(Debug, Clone, Args)]
pub struct TaskArgs {
    #[command(subcommand)]
    pub command: TaskCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum TaskCommand {
    /// Start a task and print its handle, which is shown only now
    #[command(after_help = "Example:\n  remit task start --config remit.yaml --agent triage-bot --workflow triage-issues \\\n    \
                            --for alice@acme.example --lifetime 5m")]
    Start(StartArgs),
    /// List the tasks that have not ended
    #[command(after_help = "Example:\n  remit task list --config remit.yaml --output json")]
    List {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show one task
    #[command(after_help = "Example:\n  remit task show --config remit.yaml t-01JABCDEFGHJKMNPQRSTVWXYZ0")]
    Show {
        /// The task's id
        id: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// End a task: its next call is refused, what it has open is cut
    #[command(after_help = "Example:\n  remit task end --config remit.yaml t-01JABCDEFGHJKMNPQRSTVWXYZ0")]
    End {
        /// The task's id
        id: String,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// The agent that will act
    #[arg(long)]
    pub agent: String,
    /// The workflow it may act in
    #[arg(long)]
    pub workflow: String,
    /// The human or service the task is for
    #[arg(long = "for", value_name = "PRINCIPAL")]
    pub principal: String,
    /// How long it may live: 90s, 5m, 2h [default: the workflow's max_lifetime]
    #[arg(long, value_name = "DURATION")]
    pub lifetime: Option<String>,
    /// A grant that narrows the workflow's, as JSON in the registry's form; may be repeated
    #[arg(long = "grant", value_name = "JSON")]
    pub grants: Vec<String>,
    #[command(flatten)]
    pub reach: Reach,
}

/// Runs the command; answers the exit code.
///
/// # Errors
/// When Remit cannot be reached or the output cannot be written.
pub async fn run(args: &TaskArgs, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Problem> {
    let (reach, method, path, body) = match &args.command {
        TaskCommand::Start(start) => (&start.reach, Method::POST, "/v1/tasks".to_string(), Some(new_task(start)?)),
        TaskCommand::List { reach } => (reach, Method::GET, "/v1/tasks".to_string(), None),
        TaskCommand::Show { id, reach } => (reach, Method::GET, task_path(id), None),
        TaskCommand::End { id, reach } => (reach, Method::DELETE, task_path(id), None),
    };
    let reply = Client::find(reach)?.send(method, &path, body.as_ref()).await?;
    print(&args.command, reach.output, &reply, out, err).map_err(|e| Problem::new(format!("cannot write the answer: {e}")))?;
    Ok(reply.exit_code())
}

fn new_task(start: &StartArgs) -> Result<Value, Problem> {
    let grants = start.grants.iter().map(|text| {
        let problem =
            |e| Problem::new(format!("is not JSON: {e}")).key("--grant").help("write it as {\"intents\": [\"github.issues.get\"]}");
        serde_json::from_str::<Value>(text).map_err(problem)
    });
    let grants: Vec<Value> = grants.collect::<Result<_, _>>()?;
    let mut body = json!({"agent": start.agent, "workflow": start.workflow, "principal": start.principal, "grants": grants});
    if let (Some(lifetime), Some(object)) = (&start.lifetime, body.as_object_mut()) {
        object.insert("lifetime".into(), json!(lifetime));
    }
    Ok(body)
}

fn task_path(id: &str) -> String {
    format!("/v1/tasks/{}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

fn print(command: &TaskCommand, output: Output, reply: &Reply, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
    if output == Output::Json {
        return if reply.body.is_null() { Ok(()) } else { writeln!(out, "{}", reply.body) };
    }
    let body = match reply.success() {
        Ok(body) => body,
        Err(detail) => return writeln!(err, "{detail}"),
    };
    match command {
        TaskCommand::Start(_) => write!(out, "{}", fields(body, &["id", "expires", "proxy", "handle"])),
        TaskCommand::List { .. } => write!(out, "{}", list(body)),
        TaskCommand::Show { .. } => {
            let names = ["id", "agent", "workflow", "purpose", "state", "mode", "started", "expires", "labels"];
            write!(out, "{}for        {}\n{}", fields(body, &names), principal(body), delegation(body))
        }
        TaskCommand::End { id, .. } => writeln!(out, "ended {}", shown(id)),
    }
}

fn list(body: &Value) -> String {
    let tasks = body["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |task: &Value| {
        let cell = |name: &str| text(&task[name]);
        vec![cell("id"), cell("agent"), cell("workflow"), principal(task), cell("mode"), cell("labels"), cell("expires")]
    };
    table(&["ID", "AGENT", "WORKFLOW", "FOR", "MODE", "LABELS", "EXPIRES"], &tasks.iter().map(row).collect::<Vec<_>>())
}

/// `alice@acme.example (not verified)`
fn principal(task: &Value) -> String {
    let verified = if task["principal"]["verified"] == json!(true) { "" } else { " (not verified)" };
    format!("{}{verified}", text(&task["principal"]["id"]))
}

/// The links below the principal, and what narrows them.
fn delegation(task: &Value) -> String {
    let links = task["delegation"].as_array().map(Vec::as_slice).unwrap_or_default();
    let grants = links.iter().filter_map(|l| l["grants"].as_array()).flatten();
    grants.map(|grant| format!("narrowed   {}\n", shown(&grant.to_string()))).collect()
}

fn fields(body: &Value, names: &[&str]) -> String {
    let given = names.iter().filter(|name| !body[**name].is_null() && body[**name] != json!([]));
    given.map(|name| format!("{name:<9}  {}\n", text(&body[*name]))).collect()
}

/// A value as a cell: texts bare, lists with commas.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => shown(s),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(","),
        other => shown(&other.to_string()),
    }
}
