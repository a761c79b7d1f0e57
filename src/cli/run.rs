mod child;
mod environment;
mod summary;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use crate::{
    app::{self, App},
    authority::{Handle, Start},
    call::{Mode, Principal, Task},
    cli::{COULD_NOT, NO, fail, who::Who},
    clock::Moment,
    config::{Config, Sink},
    problem::{Problem, Problems},
    telemetry,
};

/// Run a command as an agent whose every call goes through Remit.
///
/// Starts a proxy on a free port of loopback with a CA made for this run, starts a task, gives the
/// command the variables its HTTP clients read, placeholders where credentials would be, and no
/// secret. Ends the task when the command ends, and says what was called. Exits with its code.
///
/// Examples:
///   remit run --observe -- python agent.py      watch only: nothing is refused or injected
///   remit run --config remit.yaml -- python agent.py
///   remit run --config remit.yaml --workflow triage-issues --for alice@acme.example -- npm start
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The config file; not needed with --observe.
    #[arg(long, value_name = "FILE", required_unless_present = "observe")]
    config: Option<PathBuf>,
    /// The agent the command is; can be left out when one is registered.
    #[arg(long)]
    agent: Option<String>,
    /// The workflow of this run; can be left out when the agent has one.
    #[arg(long)]
    workflow: Option<String>,
    /// The human or service it runs for. Recorded as not verified.
    #[arg(long = "for", value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Refuse and inject nothing; record each call as it would have been decided.
    #[arg(long)]
    observe: bool,
    /// Where the audit goes, in place of what the config says.
    #[arg(long, value_name = "DIR")]
    audit: Option<PathBuf>,
    /// Keep this variable of the environment although it looks like a credential.
    #[arg(long = "env", value_name = "NAME")]
    keep: Vec<String>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub fn run(args: Args) -> ExitCode {
    // The terminal is the command's; only what is asked for is logged to it.
    telemetry::start("off");
    let (config, who) = match configure(&args) {
        Ok(configured) => configured,
        Err(problems) => return fail(NO, &problems),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(COULD_NOT, &error),
    };
    let code = runtime.block_on(async {
        match tokio::spawn(run_in(args, config, who)).await {
            Ok(code) => code,
            Err(error) => fail(COULD_NOT, &error),
        }
    });
    runtime.shutdown_background();
    code
}

async fn run_in(args: Args, config: Config, who: Who) -> ExitCode {
    let (rules, warnings) = match app::load(&config) {
        Ok(loaded) => loaded,
        Err(problems) => return fail(NO, &problems),
    };
    let (rules, placeholders) = match environment::with_placeholders(rules) {
        Ok(both) => both,
        Err(problem) => return fail(COULD_NOT, &problem),
    };
    for warning in &warnings {
        eprintln!("remit: {warning}");
    }
    let app = match App::with_rules(config, rules, &warnings) {
        Ok(app) => app,
        Err(problems) => return fail(NO, &problems),
    };
    let (Some(address), house) = (app.address(), app.house().clone()) else { return fail(COULD_NOT, &"there is no listener") };
    let (task, handle) = match start(&app, &args, who) {
        Ok(started) => started,
        Err(problem) => return fail(NO, &problem),
    };
    let proxy = format!("http://task:{}@{address}", handle.expose());
    let environment = match environment::Environment::new(&house, &placeholders, &proxy, &args.keep) {
        Ok(environment) => environment,
        Err(error) => return fail(COULD_NOT, &error),
    };
    eprintln!("remit: advisory: not isolated: a program that ignores proxy variables goes around Remit");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(app.run(async move {
        let _ = stopped.await;
    }));
    let ended = child::run(&args.command, &environment, &task).await;
    house.tasks().end(&task.id);
    let _ = stop.send(());
    let _ = serving.await;
    summary::print(&house, &task);
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(COULD_NOT, &format!("{}: {error}", args.command.first().map(|c| c.to_string_lossy()).unwrap_or_default())),
    }
}

/// The config of a run: the file's, with a listener, a CA and an audit of its own.
fn configure(args: &Args) -> Result<(Config, Who), Problems> {
    let mut config = match &args.config {
        Some(path) => Config::load(path)?,
        None => environment::observed(),
    };
    let who = Who::pick(&config, args.agent.as_deref(), args.workflow.as_deref())?;
    if args.observe {
        config.mode = Mode::Observe;
    }
    config.listen.forward = Some(([127, 0, 0, 1], 0).into());
    config.listen.admin = None;
    config.listen.control = None;
    config.tls.ca = crate::config::Ca::Ephemeral;
    config.tls.publish = None;
    // The task of the run is the only one: what presents no handle is not the command.
    config.ambient = None;
    if let Some(dir) = &args.audit {
        config.audit.sinks = vec![Sink::Dir(dir.clone())];
        config.audit.signing_key = None;
    } else if config.audit.sinks.is_empty() {
        config.audit.sinks = vec![Sink::Dir(environment::state_dir().join("audit"))];
    }
    Ok((config, who))
}

fn start(app: &App, args: &Args, who: Who) -> Result<(Arc<Task>, Handle), Problem> {
    let id = args.principal.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "local".into());
    let principal = Principal { id: Arc::from(id), verified: false, claims: serde_json::Value::Object(serde_json::Map::new()) };
    let start = Start::new(who.agent, who.workflow, principal);
    let house = app.house();
    house
        .tasks()
        .start(&house.rules().registry, start, Moment::now())
        .map_err(|refusal| Problem::new(format!("{}: {}", refusal.reason, refusal.detail)))
}
