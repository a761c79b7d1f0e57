use std::{collections::BTreeMap, io::Write as _, sync::Arc};

use serde_json::Value;

use crate::{
    call::Task,
    cli::{records, shown},
    enforce::House,
};

/// Lines of one table; more are counted.
const LINES: usize = 40;

/// Says what the run called, from the audit it leaves: equal calls are one line.
pub(super) fn print(house: &House, task: &Arc<Task>) {
    let mut counts: BTreeMap<(String, String), (u64, String)> = BTreeMap::new();
    let dir = house.audit().dirs().first().cloned();
    let bodies = dir.iter().flat_map(|dir| records::bodies(dir, house.audit().chain()));
    for body in bodies {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        if text("kind") != "decision" || body.get("task").and_then(Value::as_str).is_some_and(|t| t != task.id.as_str()) {
            continue;
        }
        let intents = body.get("intents").and_then(Value::as_array);
        let what = intents.and_then(|i| i.first()).and_then(|i| i.get("id")).and_then(Value::as_str).unwrap_or("-").to_owned();
        let place = format!("{} {}", text("method"), text("host"));
        let mut verdict = text("decision");
        if verdict != "allow" {
            verdict = format!("{verdict} {}", text("code"));
        }
        if task.mode == crate::call::Mode::Observe && verdict != "allow" {
            verdict = format!("would {verdict}");
        }
        let entry = counts.entry((what, verdict)).or_insert((0, place));
        entry.0 += 1;
    }
    let mut out = String::new();
    let head = house.audit().head();
    let total: u64 = counts.values().map(|(n, _)| n).sum();
    out.push_str(&format!("remit: {total} calls by {} in {}\n", task.agent.id, task.workflow));
    for ((what, verdict), (count, place)) in counts.iter().take(LINES) {
        out.push_str(&format!("  {count:>5}  {:<44} {:<28} {}\n", shown(what), shown(verdict), shown(place)));
    }
    if counts.len() > LINES {
        out.push_str(&format!("  …and {} more kinds of call\n", counts.len() - LINES));
    }
    let dirs: Vec<String> = house.audit().dirs().iter().map(|d| d.display().to_string()).collect();
    out.push_str(&format!("remit: audit {} head {head}\n", dirs.join(", ")));
    // The command's output may have gone where this cannot follow.
    let _ = std::io::stderr().write_all(out.as_bytes());
}
