use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::{COULD_NOT, Load, Output};
use crate::{
    audit::{Call, Filter, Follow, News, last_calls, shown},
    problem::Problem,
};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  remit audit tail audit -n 50 --decision deny
  remit audit tail --config remit.yaml -f --intent 'github.issues.*'")]
pub struct TailArgs {
    /// The log's directory.
    #[arg(value_name = "DIR", required_unless_present = "config")]
    pub dir: Option<PathBuf>,
    /// How many calls.
    #[arg(short = 'n', long = "lines", default_value_t = 20)]
    pub n: usize,
    /// Go on showing calls as they come.
    #[arg(short, long)]
    pub follow: bool,
    #[arg(long)]
    pub agent: Option<String>,
    #[arg(long)]
    pub task: Option<String>,
    /// An intent, or a prefix ending in `*`.
    #[arg(long)]
    pub intent: Option<String>,
    /// allow, deny or ask.
    #[arg(long, value_parser = ["allow", "deny", "ask"])]
    pub decision: Option<String>,
    /// Show the log that this configuration writes.
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub config: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub(super) fn run(args: &TailArgs, load: Load) -> ExitCode {
    let dir = match (&args.dir, &args.config) {
        (Some(dir), _) => dir.clone(),
        (None, Some(file)) => match load(file) {
            Ok(config) => match super::dirs(&config.audit).into_iter().next() {
                Some(dir) => dir,
                None => return super::usage("the configuration writes its log to no directory"),
            },
            Err(problems) => return super::fail_all(&problems),
        },
        (None, None) => return super::usage("give a directory, or --config FILE"),
    };
    match show(args, &dir) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has seen enough (`| head`).
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            let _ = super::fail(&Problem::new(format!("the log cannot be shown: {e}")).at(dir, None));
            ExitCode::from(COULD_NOT)
        }
    }
}

fn show(args: &TailArgs, dir: &Path) -> io::Result<()> {
    let filter =
        Filter { agent: args.agent.clone(), task: args.task.clone(), intent: args.intent.clone(), decision: args.decision.clone() };
    let mut out = io::stdout().lock();
    // Begun first: a call between the two is shown twice rather than not at all.
    let follow = args.follow.then(|| Follow::new(dir, filter.clone())).transpose()?;
    for call in last_calls(dir, args.n, &filter)? {
        print(&mut out, &News::Call(call), args.output)?;
    }
    out.flush()?;
    let Some(mut follow) = follow else { return Ok(()) };
    loop {
        for news in follow.news()? {
            print(&mut out, &news, args.output)?;
        }
        out.flush()?;
        thread::sleep(LOOK);
    }
}

fn print(out: &mut impl Write, news: &News, output: Output) -> io::Result<()> {
    match (output, news) {
        (Output::Json, news) => writeln!(out, "{}", serde_json::to_string(news)?),
        (Output::Text, News::Call(call)) => writeln!(out, "{}", shown(&line(call))),
        (Output::Text, News::Outcome { outcome }) => {
            writeln!(out, "{}", shown(&format!("  {} {}", word(&outcome["id"]), ending(Some(outcome)))))
        }
    }
}

/// `TIME DECISION AGENT INTENT(PARAMETERS) METHOD HOST/PATH → STATUS MS; REASONS; ID`
fn line(call: &Call) -> String {
    let d = &call.decision;
    let time = word(&d["time"]).split_once('T').map_or("", |(_, t)| t.get(..12).unwrap_or(t));
    let mut text = format!(
        "{} {time} {:5} {}",
        word(&d["time"]).get(..10).unwrap_or(""),
        word(&d["decision"]),
        d["agent"].as_str().unwrap_or("(nobody)")
    );
    for intent in d["intents"].as_array().map(Vec::as_slice).unwrap_or_default() {
        text += &format!(" {}{}", word(&intent["id"]), parameters(&intent["params"]));
    }
    text += &format!(" {} {}{}", word(&d["method"]), word(&d["host"]), word(&d["path"]));
    if d["mode"] == "observe" {
        text += " (observed)";
    }
    text += &format!(" → {}", ending(call.outcome.as_ref()));
    if let Some(code) = d["code"].as_str() {
        text += &format!("; {code}");
    }
    for reason in d["reasons"].as_array().map(Vec::as_slice).unwrap_or_default() {
        text += &format!("; {}", word(reason));
    }
    text + "; " + word(&d["id"])
}

fn parameters(params: &Value) -> String {
    let shown: Vec<String> =
        params.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().map_or_else(|| v.to_string(), short))).collect();
    if shown.is_empty() { String::new() } else { format!("({})", shown.join(" ")) }
}

/// One parameter must not fill the screen.
fn short(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() { start + "…" } else { start }
}

fn ending(outcome: Option<&Value>) -> String {
    let Some(o) = outcome else { return "open".into() };
    let status = o["status"].as_u64().map_or_else(|| word(&o["outcome"]).to_owned(), |s| s.to_string());
    let mut text = status;
    if let Some(ms) = o["ms"].as_f64() {
        text += &format!(" {ms:.0}ms");
    }
    if o["outcome"] == "incomplete" && o["status"].is_u64() {
        text += " cut off";
    }
    if let Some(reason) = o["reason"].as_str() {
        text += &format!(" {reason}");
    }
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
