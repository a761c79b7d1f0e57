mod why;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    app,
    authority::{NoEvents, Start, Tasks},
    call::{Body, Decision, Head, How, Intent, Listener, Principal, Task, Verdict},
    cli::{
        COULD_NOT, NO, Output, fail,
        request::{self, RequestError},
        shown,
        who::Who,
    },
    clock::{Moment, SystemClock},
    config::Config,
    credential::{Scope, would_ask},
    decide,
    enforce::Rules,
    problem::{Problem, Problems},
    refusal::Refusal,
};

/// Say what a request means, whether it would be allowed, and why. Sends nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  remit explain --config remit.yaml --agent triage-bot --workflow triage-issues \\
    GET https://api.github.com/repos/acme/web/issues
  remit explain --config remit.yaml d-01JABCDEFGHJKMNPQRSTVWXYZ0
  remit explain --config remit.yaml POST https://api.github.com/repos/acme/web/issues -d '{\"title\": \"Broken\"}'

Exit code 0: allowed. 1: refused.")]
pub struct Args {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The agent that would call; can be left out when one is registered
    #[arg(long)]
    agent: Option<String>,
    /// The workflow it would run; can be left out when the agent has one
    #[arg(long)]
    workflow: Option<String>,
    /// GET, POST, …; or the id of a decision, to be told why it was made
    #[arg(value_name = "METHOD|DECISION")]
    method: String,
    /// https://HOST/PATH
    #[arg(default_value = "", hide_default_value = true)]
    url: String,
    /// Where the decision was recorded, when that is not where the config says
    #[arg(long, value_name = "DIR")]
    audit: Option<PathBuf>,
    /// A field of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "K: V")]
    headers: Vec<String>,
    /// The body
    #[arg(short = 'd', long = "data", value_name = "BODY")]
    body: Option<String>,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What there is to say of a request.
struct Explained {
    intents: Vec<Intent>,
    decision: Arc<Decision>,
    credential: Option<(String, &'static str)>,
    /// What would be asked of the credential's issuer.
    scope: Option<Scope>,
    refusal: Option<Refusal>,
    /// What the nearest grant lacked, for each intent that was not allowed.
    nearest: Vec<String>,
}

pub fn run(args: Args) -> ExitCode {
    if args.method.starts_with("d-") && args.url.is_empty() {
        return why::run(&args);
    }
    let head = match head(&args) {
        Ok(head) => head,
        Err(RequestError::Usage(message)) => return fail(2, &message),
        Err(RequestError::Refused(refusal)) => return answer(&args, Err(refusal)),
    };
    let (rules, who) = match load(&args) {
        Ok(loaded) => loaded,
        Err(problems) => return fail(COULD_NOT, &problems),
    };
    let explained = match task(&rules, who) {
        Ok(task) => explain(&rules, &task, &head, args.body.as_deref()),
        Err(refusal) => Err(refusal),
    };
    answer(&args, explained)
}

fn head(args: &Args) -> Result<Head, RequestError> {
    let headers = args.headers.iter().map(|h| request::header(h)).collect::<Result<Vec<_>, _>>()?;
    request::head(&args.method, &args.url, headers)
}

fn load(args: &Args) -> Result<(Rules, Who), Problems> {
    let config = Config::load(&args.config)?;
    let who = Who::pick(&config, args.agent.as_deref(), args.workflow.as_deref())?;
    let (rules, _) = app::load(&config)?;
    Ok((rules, who))
}

/// A task that lives for the length of this command.
fn task(rules: &Rules, who: Who) -> Result<Arc<Task>, Refusal> {
    let tasks = Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::ZERO);
    let principal = Principal { id: Arc::from("explain"), verified: false, claims: json!({}) };
    let start = Start::new(who.agent, who.workflow, principal);
    tasks.start(&rules.registry, start, Moment::now()).map(|(task, _)| task)
}

fn explain(rules: &Rules, task: &Task, head: &Head, body: Option<&str>) -> Result<Explained, Refusal> {
    let bytes = body.map(|b| Bytes::copy_from_slice(b.as_bytes())).unwrap_or_default();
    let reading = rules.catalog.find(head)?.read(head, Some(&bytes))?;
    let facts = decide::Facts {
        task,
        how: How::Handle,
        listener: Listener::Forward,
        drift: &[],
        request: decide::Request {
            method: head.method.as_str(),
            scheme: head.to.scheme.as_str(),
            host: head.to.host.as_str(),
            port: head.to.port,
            path: head.path.raw(),
            protocol: head.protocol(),
            upgrade: head.upgrade.as_deref(),
            body_bytes: Some(bytes.len() as u64),
        },
    };
    let (decision, _) = rules.decider.judge_parts(&facts, &reading.intents);
    let body = Body::whole(bytes, None);
    let (mut credential, mut scope, mut refusal) = (None, None, None);
    if let (Verdict::Allow, Some(intent)) = (decision.verdict, reading.intents.first()) {
        let workflow = rules.registry.workflow(&task.workflow).and_then(|w| w.credential.as_deref());
        let provider = intent.operation.provider.credential.as_deref();
        let choice = rules.broker.choose(decision.credential.as_deref(), workflow, provider, &head.to, &intent.operation);
        match choice.and_then(|choice| rules.broker.foreign(head, &body, choice.as_ref()).map(|()| choice)) {
            Ok(choice) => {
                credential = choice.as_ref().map(|c| (c.name().to_owned(), c.kind()));
                let asked = choice.map(|c| would_ask(&c, task, &reading.intents, decision.scope.as_ref())).transpose();
                match asked {
                    Ok(asked) => scope = asked.flatten(),
                    Err(refused) => refusal = Some(refused),
                }
            }
            Err(refused) => refusal = Some(refused),
        }
    }
    let nearest = if decision.verdict == Verdict::Allow { Vec::new() } else { nearest(rules, task, &reading.intents) };
    Ok(Explained { intents: reading.intents.into_vec(), decision, credential, scope, refusal, nearest })
}

fn nearest(rules: &Rules, task: &Task, intents: &[Intent]) -> Vec<String> {
    let say = |intent: &Intent| {
        let near = rules.registry.explain(&task.workflow, intent)?;
        let lacked: Vec<String> = near.lacked.iter().map(ToString::to_string).collect();
        (!lacked.is_empty()).then(|| format!("{}:{}: {}", near.place.file.display(), near.place.line, lacked.join("; ")))
    };
    intents.iter().filter_map(say).collect()
}

fn answer(args: &Args, explained: Result<Explained, Refusal>) -> ExitCode {
    let allowed = explained.as_ref().is_ok_and(|e| e.decision.verdict == Verdict::Allow && e.refusal.is_none());
    let text = match (args.output, &explained) {
        (Output::Json, explained) => format!("{}\n", as_json(explained)),
        (Output::Text, Ok(explained)) => as_text(explained),
        (Output::Text, Err(refusal)) => format!("refused   {}: {}\n", refusal.reason, shown(&refusal.detail)),
    };
    // A closed pipe does not change the answer.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::from(if allowed { 0 } else { NO })
}

fn as_text(explained: &Explained) -> String {
    let mut out = String::new();
    for intent in &explained.intents {
        out.push_str(&format!("intent    {} ({})\n", intent.id(), intent.operation.effect));
        for (name, value) in intent.params.iter() {
            let value = serde_json::to_string(value).unwrap_or_default();
            out.push_str(&format!("          {name} = {}\n", shown(&value)));
        }
    }
    let decision = &explained.decision;
    let code = decision.code.map(|c| format!(" ({c})")).unwrap_or_default();
    out.push_str(&format!("decision  {}{code}\n", decision.verdict.as_str()));
    for reason in &decision.reasons {
        out.push_str(&format!("because   {}\n", shown(reason)));
    }
    for near in &explained.nearest {
        out.push_str(&format!("nearest   {}\n", shown(near)));
    }
    for limit in &decision.limits {
        out.push_str(&format!("limit     {} at most {}\n", shown(&limit.key), limit.max));
    }
    match (&explained.refusal, &explained.credential) {
        (Some(refusal), _) => out.push_str(&format!("refused   {}: {}\n", refusal.reason, shown(&refusal.detail))),
        (None, Some((name, kind))) => {
            out.push_str(&format!("credential {name} ({kind})\n"));
            if let Some(scope) = &explained.scope {
                out.push_str(&format!("asks      {}\n", shown(&scope.to_string())));
            }
        }
        (None, None) if decision.verdict == Verdict::Allow => out.push_str("credential none\n"),
        (None, None) => {}
    }
    out
}

fn as_json(explained: &Result<Explained, Refusal>) -> Value {
    let refused = |r: &Refusal| json!({"reason": r.reason, "detail": r.detail});
    match explained {
        Err(refusal) => json!({"intents": [], "decision": "deny", "refused": refused(refusal)}),
        Ok(e) => json!({
            "intents": e.intents.iter().map(|i| json!({"id": i.id(), "effect": i.operation.effect, "params": i.params})).collect::<Vec<_>>(),
            "decision": e.decision.verdict.as_str(),
            "code": e.decision.code,
            "reasons": e.decision.reasons,
            "nearest": e.nearest,
            "scope": e.scope.as_ref().map(Scope::as_json),
            "credential": e.credential.as_ref().map(|(name, kind)| json!({"name": name, "kind": kind})),
            "refused": e.refusal.as_ref().map(refused),
        }),
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        Self::new(error.to_string())
    }
}
