//! `remit task`: starts, lists, shows, hands over, changes and ends tasks.

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
    /// Hand part of a task to another agent, and print that part's handle, which is shown only now
    #[command(after_help = "Example:\n  remit task delegate --config remit.yaml t-01JABCDEFGHJKMNPQRSTVWXYZ0 --agent summariser \\\n    \
                            --workflow summarise --grant '{\"intents\": [\"github.issues.get\"]}'\n\n\
                            With REMIT_HANDLE set to its handle, a task hands over part of itself.")]
    Delegate(DelegateArgs),
    /// Let a task last longer, or less long
    #[command(after_help = "Example:\n  remit task extend --config remit.yaml t-01JABCDEFGHJKMNPQRSTVWXYZ0 --lifetime 10m")]
    Extend {
        /// The task's id
        id: String,
        /// How long it shall last from now: 90s, 5m, 2h
        #[arg(long, value_name = "DURATION")]
        lifetime: String,
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

#[derive(Debug, Clone, Args)]
pub struct DelegateArgs {
    /// The id of the task that hands over
    pub id: String,
    /// The agent that takes over; the registry lets this task's agent delegate to it
    #[arg(long)]
    pub agent: String,
    /// The workflow it may act in
    #[arg(long)]
    pub workflow: String,
    /// How long the part may live: 90s, 5m, 2h [default: as long as the task]
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
        TaskCommand::Delegate(part) => (&part.reach, Method::POST, format!("{}/delegate", task_path(&part.id)), Some(new_part(part)?)),
        TaskCommand::Extend { id, lifetime, reach } => (reach, Method::PATCH, task_path(id), Some(json!({"lifetime": lifetime}))),
        TaskCommand::List { reach } => (reach, Method::GET, "/v1/tasks".to_string(), None),
        TaskCommand::Show { id, reach } => (reach, Method::GET, task_path(id), None),
        TaskCommand::End { id, reach } => (reach, Method::DELETE, task_path(id), None),
    };
    let reply = Client::find(reach)?.send(method, &path, body.as_ref()).await?;
    print(&args.command, reach.output, &reply, out, err).map_err(|e| Problem::new(format!("cannot write the answer: {e}")))?;
    Ok(reply.exit_code())
}

fn new_task(start: &StartArgs) -> Result<Value, Problem> {
    let grants = grants(&start.grants)?;
    let mut body = json!({"agent": start.agent, "workflow": start.workflow, "principal": start.principal, "grants": grants});
    lasting(&mut body, start.lifetime.as_deref());
    Ok(body)
}

fn new_part(part: &DelegateArgs) -> Result<Value, Problem> {
    let mut body = json!({"agent": part.agent, "workflow": part.workflow, "grants": grants(&part.grants)?});
    lasting(&mut body, part.lifetime.as_deref());
    Ok(body)
}

fn grants(texts: &[String]) -> Result<Vec<Value>, Problem> {
    let read = |text: &String| {
        serde_json::from_str(text).map_err(|e| {
            Problem::new(format!("is not JSON: {e}")).key("--grant").help("write it as {\"intents\": [\"github.issues.get\"]}")
        })
    };
    texts.iter().map(read).collect()
}

fn lasting(body: &mut Value, lifetime: Option<&str>) {
    if let (Some(lifetime), Some(object)) = (lifetime, body.as_object_mut()) {
        object.insert("lifetime".into(), json!(lifetime));
    }
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
        TaskCommand::Start(_) | TaskCommand::Delegate(_) => write!(out, "{}", fields(body, &["id", "expires", "proxy", "handle"])),
        TaskCommand::List { .. } => write!(out, "{}", list(body)),
        TaskCommand::Show { .. } => {
            let names = ["id", "parent", "agent", "workflow", "purpose", "state", "mode", "started", "expires", "labels"];
            write!(out, "{}for        {}\n{}", fields(body, &names), principal(body), delegation(body))
        }
        TaskCommand::Extend { .. } => write!(out, "{}", fields(body, &["id", "expires"])),
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
