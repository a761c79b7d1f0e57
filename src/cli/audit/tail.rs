use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;

use super::{
    COULD_NOT, Load, Output,
    words::{ending, parameters, word},
};
use crate::{
    audit::{Call, Filter, Follow, News, last_calls, shown},
    problem::Problem,
};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  remit audit tail audit -n 50 --decision deny
  remit audit tail --config remit.yaml -f --intent 'github.issues.*'
  remit audit tail audit --principal alice@acme.example --resource repo=web")]
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
    /// Whom the task is for, or a prefix ending in `*`.
    #[arg(long)]
    pub principal: Option<String>,
    /// An intent, or a prefix ending in `*`.
    #[arg(long)]
    pub intent: Option<String>,
    /// A parameter and its value, such as repo=web, or a prefix ending in `*`; may be repeated.
    #[arg(long, value_name = "PARAM=VALUE", value_parser = pair)]
    pub resource: Vec<(String, String)>,
    /// allow, deny or ask.
    #[arg(long, value_parser = ["allow", "deny", "ask"])]
    pub decision: Option<String>,
    /// Show the log that this configuration writes.
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub config: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// `NAME=VALUE`
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as PARAM=VALUE, such as repo=web".into()),
    }
}

pub(super) fn run(args: &TailArgs, load: Load) -> ExitCode {
    let given: Vec<PathBuf> = args.dir.iter().cloned().collect();
    let dir = match super::asked(&given, args.config.as_deref(), load) {
        Ok(dirs) => dirs.into_iter().next().unwrap_or_default(),
        Err(code) => return code,
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
    let filter = Filter {
        agent: args.agent.clone(),
        task: args.task.clone(),
        principal: args.principal.clone(),
        intent: args.intent.clone(),
        resource: args.resource.clone(),
        decision: args.decision.clone(),
    };
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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::audit::AuditCommand;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: AuditCommand,
    }

    #[test]
    fn a_call_is_one_line_that_a_terminal_does_not_obey() {
        let decision = json!({"id": "d-1", "time": "2026-11-24T07:21:04.123456Z", "decision": "deny", "agent": "bot", "code": "not_granted",
            "intents": [{"id": "github.issues.delete", "params": {"title": "a\u{1b}]0;x\u{7}\n", "n": 3}}],
            "method": "POST", "host": "api.github.com", "path": "/x", "reasons": ["no grant\u{202e}"], "mode": "observe"});
        let outcome = json!({"outcome": "complete", "status": 403, "ms": 1.6});
        let call = Call { chain: "c".into(), seq: 1, decision, outcome: Some(outcome) };
        let mut out = Vec::new();
        print(&mut out, &News::Call(call.clone()), Output::Text).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "2026-11-24 07:21:04.123 deny  bot github.issues.delete(n=3 title=a\\u{1b}]0;x\\u{7}\\u{a}) POST api.github.com/x (observed) → 403 2ms; not_granted; no grant\\u{202e}; d-1\n"
        );
        let mut out = Vec::new();
        print(&mut out, &News::Call(Call { outcome: None, ..call }), Output::Json).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap()["outcome"], Value::Null);
    }

    #[test]
    fn the_arguments_are_as_the_help_says() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["audit"], args].concat());
        assert!(parse(&["tail", "d", "-n", "3", "-f", "--intent", "a.*", "--decision", "deny", "--output", "json"]).is_ok());
        assert!(parse(&["tail", "--config", "remit.yaml"]).is_ok());
        assert!(parse(&["tail"]).is_err() && parse(&["verify"]).is_err());
        assert!(parse(&["tail", "d", "--decision", "maybe"]).is_err());
        assert!(parse(&["tail", "d", "--principal", "a*", "--resource", "repo=web", "--resource", "path=a=b"]).is_ok());
        assert!(parse(&["tail", "d", "--resource", "web"]).is_err() && parse(&["tail", "d", "--resource", "=web"]).is_err());
        assert!(parse(&["tree", "t-1", "d", "e"]).is_ok() && parse(&["tree", "t-1", "--config", "c"]).is_ok() && parse(&["tree"]).is_err());
        assert!(parse(&["export", "d", "--since", "24h", "--until", "2026-11-24T00:00:00Z"]).is_ok());
        assert!(parse(&["export", "d", "--since", "yesterday"]).is_err());
        let head = format!("7:{}", "ab".repeat(32));
        assert!(parse(&["verify", "d", "e.jsonl", "--key", "k", "--expect", &head, "--sealed"]).is_ok());
        assert!(parse(&["verify", "d", "--expect", "7"]).is_err());
    }
}
