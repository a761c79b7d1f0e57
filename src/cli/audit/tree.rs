use std::{
    collections::HashMap,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;

use super::{
    COULD_NOT, Load, NO, Output,
    words::{ending, parameters, word},
};
use crate::{
    audit::{Call, Item, Tree, shown, tree},
    problem::Problem,
};

/// Every call says whom it was for, which grant allowed it and what came back. A grant is named by its
/// workflow and its number there; with --config also by file and line, where the policies and the registry
/// are still those that decided.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  remit audit tree t-06F0Z5T4QW0000000004G1R8SN --config remit.yaml
  remit audit tree t-06F0Z5T4QW0000000004G1R8SN audit other-sidecar/audit --output json

Exit codes: 0 shown, 1 no record names the task, 2 usage, 3 could not be read.")]
pub struct TreeArgs {
    /// The task's id.
    pub task: String,
    /// The directories of the logs; those of several processes are one tree.
    #[arg(value_name = "DIR", required_unless_present = "config")]
    pub dirs: Vec<PathBuf>,
    /// The configuration: whose log is read when no directory is given, and where the grants stand.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub(super) fn run(args: &TreeArgs, load: Load) -> ExitCode {
    let dirs = match super::asked(&args.dirs, args.config.as_deref(), load) {
        Ok(dirs) => dirs,
        Err(code) => return code,
    };
    let places = match args.config.as_deref().map(|file| Places::of(file, load)).transpose() {
        Ok(places) => places.unwrap_or_default(),
        Err(code) => return code,
    };
    let found = match tree(&dirs, &args.task) {
        Ok(Some(found)) => found,
        Ok(None) => {
            eprintln!("remit: no record names task {}", shown(&args.task));
            return ExitCode::from(NO);
        }
        Err(e) => return super::fail(&Problem::new(format!("the log cannot be read: {e}"))),
    };
    let mut out = io::stdout().lock();
    let written = match args.output {
        Output::Json => json(&mut out, found, &places),
        Output::Text => text(&mut out, &found, &places),
    };
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(COULD_NOT),
        _ => ExitCode::SUCCESS,
    }
}

/// Where the grants of today's registry are written.
#[derive(Debug, Default)]
struct Places {
    /// The revision of policies and registry for which this is true.
    revision: String,
    /// `workflow/number` → `FILE:LINE`
    grants: HashMap<String, String>,
}

impl Places {
    fn of(file: &Path, load: Load) -> Result<Self, ExitCode> {
        let rules = load(file).and_then(|config| crate::app::load(&config)).map_err(|problems| super::fail_all(&problems))?.0;
        let workflows = rules.config.registry.workflows.iter();
        let grants = workflows.flat_map(|w| {
            let place = |g: &crate::config::GrantSpec| format!("{}:{}", g.place.file.display(), g.place.line);
            w.grants.iter().enumerate().map(move |(n, g)| (format!("{}/{}", w.id, n + 1), place(g)))
        });
        Ok(Self { grants: grants.collect(), revision: rules.decider.revision().to_owned() })
    }

    /// Where a grant that a decision names is written, when it was made by what is written today.
    fn place(&self, decision: &Value, grant: &str) -> Option<&str> {
        if decision["policy"] == *self.revision { self.grants.get(grant).map(String::as_str) } else { None }
    }
}

fn json(out: &mut impl Write, mut tree: Tree, places: &Places) -> io::Result<()> {
    let mut left = vec![&mut tree];
    while let Some(tree) = left.pop() {
        for item in &mut tree.items {
            match item {
                Item::Child(child) => left.push(child),
                Item::Event(_) => {}
                Item::Call(call) => {
                    let at: serde_json::Map<String, Value> =
                        grants(&call.decision).filter_map(|g| Some((g.to_owned(), places.place(&call.decision, g)?.into()))).collect();
                    if let (false, Some(decision)) = (at.is_empty(), call.decision.as_object_mut()) {
                        decision.insert("grants_at".into(), at.into());
                    }
                }
            }
        }
    }
    writeln!(out, "{}", serde_json::to_string(&tree)?)
}

fn grants(decision: &Value) -> impl Iterator<Item = &str> {
    decision["grants"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn text(out: &mut impl Write, root: &Tree, places: &Places) -> io::Result<()> {
    writeln!(out, "{}", shown(&head(&root.task, root.ended.as_ref())))?;
    for line in about(&root.task) {
        writeln!(out, "{}", shown(&line))?;
    }
    let mut levels: Vec<(&Tree, usize)> = vec![(root, 0)];
    while let Some((tree, at)) = levels.pop() {
        let Some(item) = tree.items.get(at) else { continue };
        let last = at + 1 == tree.items.len();
        let above: String = levels.iter().map(|(t, next)| if *next < t.items.len() { "│  " } else { "   " }).collect();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        levels.push((tree, at + 1));
        match item {
            Item::Call(call) => writeln!(out, "{above}{branch}{}", shown(&line(call, places)))?,
            Item::Event(body) => writeln!(out, "{above}{branch}{}", shown(&happened(body)))?,
            Item::Child(child) => {
                writeln!(out, "{above}{branch}{}", shown(&head(&child.task, child.ended.as_ref())))?;
                let bar = if child.items.is_empty() { "   " } else { "│  " };
                for line in about(&child.task) {
                    writeln!(out, "{above}{below}{bar}{}", shown(&line))?;
                }
                levels.push((child, 0));
            }
        }
    }
    Ok(())
}

/// `t-… triage-bot/triage-issues for alice@acme.example (not verified), ended: asked`
fn head(task: &Value, ended: Option<&Value>) -> String {
    if task.is_null() {
        return "a task whose beginning is not in these files".into();
    }
    let verified = if task["principal"]["verified"] == true { "" } else { " (not verified)" };
    let (id, agent, workflow) = (word(&task["id"]), word(&task["agent"]), word(&task["workflow"]));
    let mut text = format!("{id} {agent}/{workflow} for {}{verified}", word(&task["principal"]["id"]));
    if task["mode"] == "observe" {
        text += ", observed";
    }
    match ended {
        Some(body) => text + ", ended: " + word(&body["why"]),
        None => text,
    }
}

/// The lines below a task's own: what it is for, and what came before it in its chain.
fn about(task: &Value) -> Vec<String> {
    if task.is_null() {
        return Vec::new();
    }
    let mut lines = vec![format!("{}; {} to {}", word(&task["purpose"]), moment(&task["time"]), moment(&task["expires"]))];
    let links = task["delegation"].as_array().map(Vec::as_slice).unwrap_or_default();
    if links.len() > 2 {
        let named = links.iter().map(|l| match l["workflow"].as_str() {
            Some(workflow) => format!("{}/{workflow}", word(&l["id"])),
            None => word(&l["id"]).to_owned(),
        });
        lines.push(format!("chain: {}", named.collect::<Vec<_>>().join(" → ")));
    }
    let narrowed = links.last().and_then(|l| l["grants"].as_array()).into_iter().flatten();
    lines.extend(narrowed.map(|grant| format!("narrowed: {grant}")));
    lines
}

/// `2026-11-24 12:00:00`
fn moment(time: &Value) -> String {
    word(time).get(..19).unwrap_or_default().replace('T', " ")
}

/// `TIME DECISION INTENT(PARAMETERS) → STATUS MS; by GRANT (FILE:LINE); REASONS; ID`
fn line(call: &Call, places: &Places) -> String {
    let d = &call.decision;
    let mut text = format!("{} {}", word(&d["time"]).get(11..23).unwrap_or(""), word(&d["decision"]));
    for intent in d["intents"].as_array().map(Vec::as_slice).unwrap_or_default() {
        text += &format!(" {}{}", word(&intent["id"]), parameters(&intent["params"]));
    }
    if d["intents"].as_array().is_none_or(Vec::is_empty) {
        text += &format!(" {} {}{}", word(&d["method"]), word(&d["host"]), word(&d["path"]));
    }
    if d["mode"] == "observe" {
        text += " (observed)";
    }
    text += &format!(" → {}", ending(call.outcome.as_ref()));
    if let Some(bytes) = call.outcome.as_ref().and_then(|o| o["bytes_down"].as_u64()) {
        text += &format!(" {bytes} B");
    }
    let by: Vec<String> = grants(d).map(|g| places.place(d, g).map_or_else(|| g.to_owned(), |at| format!("{g} ({at})"))).collect();
    if !by.is_empty() {
        text += &format!("; by {}", by.join(", "));
    }
    if let Some(lease) = d["lease"]["name"].as_str() {
        text += &format!("; with {lease}");
    }
    for differs in d["drift"].as_array().into_iter().flatten() {
        text += &format!("; drift: {}", word(differs));
    }
    if let Some(code) = d["code"].as_str() {
        text += &format!("; {code}");
    }
    for reason in d["reasons"].as_array().into_iter().flatten() {
        text += &format!("; {}", word(reason));
    }
    text + "; " + word(&d["id"])
}

/// `TIME drift: WHAT`
fn happened(body: &Value) -> String {
    let time = word(&body["time"]).get(11..23).unwrap_or("");
    let members = body["data"].as_object().into_iter().flatten().filter(|(name, _)| *name != "task");
    let said: Vec<String> =
        members.map(|(name, value)| format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect();
    format!("{time} {}: {}", word(&body["event"]), said.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(id: &str, agent: &str, links: Value) -> Value {
        json!({"id": id, "agent": agent, "workflow": "w", "purpose": "Do\u{1b}[2J", "time": "2026-11-24T12:00:00.000000Z",
            "expires": "2026-11-24T12:05:00.000000Z", "principal": {"id": "alice@acme.example", "verified": false}, "delegation": links})
    }

    fn call(intent: &str, grants: Value, policy: &str) -> Item {
        let decision = json!({"id": "d-1", "time": "2026-11-24T12:00:01.123456Z", "decision": "allow", "reasons": [], "policy": policy,
            "intents": [{"id": intent, "params": {"repo": "web"}}], "grants": grants, "lease": {"name": "github"}});
        let outcome = json!({"outcome": "complete", "status": 200, "ms": 11.6, "bytes_down": 42});
        Item::Call(Call { chain: "c".into(), seq: 1, decision, outcome: Some(outcome) })
    }

    #[test]
    fn a_tree_shows_who_for_by_which_grant_and_what_came_back() {
        let chain = json!([{"id": "alice@acme.example"}, {"id": "a", "workflow": "w"}, {"id": "b", "workflow": "w", "grants": [{"effects": ["read"]}]}]);
        let child = Tree {
            task: task("t-2", "b", chain),
            ended: Some(json!({"why": "parent"})),
            items: vec![call("x.get", json!(["w/1"]), "old")],
        };
        let root = Tree {
            task: task("t-1", "a", json!([])),
            ended: None,
            items: vec![call("x.list", json!(["w/1"]), "now"), Item::Child(child), call("x.get", json!([]), "now")],
        };
        let places = Places { revision: "now".into(), grants: HashMap::from([("w/1".to_owned(), "r.yaml:7".to_owned())]) };
        let mut out = Vec::new();
        text(&mut out, &root, &places).unwrap();
        let want = "\
t-1 a/w for alice@acme.example (not verified)
Do\\u{1b}[2J; 2026-11-24 12:00:00 to 2026-11-24 12:05:00
├─ 12:00:01.123 allow x.list(repo=web) → 200 12ms 42 B; by w/1 (r.yaml:7); with github; d-1
├─ t-2 b/w for alice@acme.example (not verified), ended: parent
│  │  Do\\u{1b}[2J; 2026-11-24 12:00:00 to 2026-11-24 12:05:00
│  │  chain: alice@acme.example → a/w → b/w
│  │  narrowed: {\"effects\":[\"read\"]}
│  └─ 12:00:01.123 allow x.get(repo=web) → 200 12ms 42 B; by w/1; with github; d-1
└─ 12:00:01.123 allow x.get(repo=web) → 200 12ms 42 B; with github; d-1
";
        assert_eq!(String::from_utf8(out).unwrap(), want);
        let mut out = Vec::new();
        json(&mut out, root, &places).unwrap();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["items"][0]["call"]["decision"]["grants_at"], json!({"w/1": "r.yaml:7"}));
        assert_eq!(value["items"][1]["child"]["items"][0]["call"]["decision"].get("grants_at"), None);
    }
}
