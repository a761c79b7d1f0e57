use std::{path::Path, process::ExitCode};

use serde_json::{Value, json};

use crate::{
    app,
    cli::{COULD_NOT, Output, fail, records, shown},
    config::{Config, Sink},
    enforce::Rules,
};

use super::Args;

/// Says why a recorded decision was made, and what the nearest grant of today's registry lacks.
pub(super) fn run(args: &Args) -> ExitCode {
    let loaded = Config::load(&args.config).and_then(|config| app::load(&config));
    let rules = match loaded {
        Ok((rules, _)) => rules,
        Err(problems) => return fail(COULD_NOT, &problems),
    };
    let dirs: Vec<&Path> = match &args.audit {
        Some(dir) => vec![dir],
        None => rules.config.audit.sinks.iter().filter_map(|s| if let Sink::Dir(dir) = s { Some(dir.as_path()) } else { None }).collect(),
    };
    let Some(found) = dirs.iter().find_map(|dir| find(dir, &args.method)) else {
        let places: Vec<String> = dirs.iter().map(|d| d.display().to_string()).collect();
        return fail(COULD_NOT, &format!("{} is not in {}; give the place with --audit DIR", shown(&args.method), places.join(", ")));
    };
    let nearest = nearest(&rules, &found);
    if args.output == Output::Json {
        println!("{}", json!({"decision": found.decision, "outcome": found.outcome, "nearest": nearest}));
    } else {
        print(&found, &nearest);
    }
    ExitCode::SUCCESS
}

/// A decision with what belongs to it.
struct Found {
    decision: Value,
    outcome: Option<Value>,
    /// The start of its task.
    task: Option<Value>,
}

fn find(dir: &Path, id: &str) -> Option<Found> {
    let is = |body: &Value, kind: &str| text(body, "kind") == kind;
    let mut found: Option<Found> = None;
    let mut tasks = Vec::new();
    for body in records::bodies(dir, "") {
        match &mut found {
            None if is(&body, "task") => tasks.push(body),
            None if is(&body, "decision") && text(&body, "id") == id => {
                let task = tasks.iter().rev().find(|t| text(t, "id") == text(&body, "task")).cloned();
                found = Some(Found { decision: body, outcome: None, task });
            }
            Some(found) if is(&body, "outcome") && text(&body, "id") == id => {
                found.outcome = Some(body);
                break;
            }
            _ => {}
        }
    }
    found
}

fn nearest(rules: &Rules, found: &Found) -> Vec<String> {
    if text(&found.decision, "decision") == "allow" {
        return Vec::new();
    }
    let Some(workflow) = found.task.as_ref().map(|t| text(t, "workflow")) else { return Vec::new() };
    let intents = found.decision.get("intents").and_then(Value::as_array).into_iter().flatten();
    let lacks = intents.filter_map(|recorded| {
        let intent = records::intent(rules, recorded)?;
        let near = rules.registry.explain(workflow, &intent)?;
        let lacked: Vec<String> = near.lacked.iter().map(ToString::to_string).collect();
        (!lacked.is_empty()).then(|| format!("{}:{}: {}", near.place.file.display(), near.place.line, lacked.join("; ")))
    });
    lacks.collect()
}

fn print(found: &Found, nearest: &[String]) {
    let decision = &found.decision;
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            println!("{name:<9} {}", shown(value));
        }
    };
    line("decision", &format!("{} {}", text(decision, "decision"), text(decision, "code")));
    line("time", text(decision, "time"));
    line("agent", text(decision, "agent"));
    line("task", text(decision, "task"));
    for intent in decision.get("intents").and_then(Value::as_array).into_iter().flatten() {
        let params = intent.get("params").map(Value::to_string).unwrap_or_default();
        line("intent", &format!("{} {params}", text(intent, "id")));
    }
    for reason in decision.get("reasons").and_then(Value::as_array).into_iter().flatten() {
        line("because", reason.as_str().unwrap_or(""));
    }
    for near in nearest {
        line("nearest", near);
    }
    if let Some(outcome) = &found.outcome {
        let number = |key: &str| outcome.get(key).filter(|v| !v.is_null()).map(Value::to_string).unwrap_or_default();
        line("outcome", &format!("status {} upstream {} {}", number("status"), number("upstream"), text(outcome, "reason")));
    }
}

fn text<'v>(body: &'v Value, key: &str) -> &'v str {
    body.get(key).and_then(Value::as_str).unwrap_or("")
}
