//! What a decision costs in process: kept with 1,000 resident, and fresh with 10 to 10,000 agents.
//! `cargo bench --bench decide`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

#[path = "../tests/law_7_fixtures/mod.rs"]
mod fixtures;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use fixtures::{agent, facts, grant, intent, registry, sources, task, text, workflow};
use remit::{
    call::{Effect, Intent, Verdict},
    config::{OnDrift, RegistrySpec},
    decide::Decider,
};
use serde_json::json;

fn main() {
    kept();
    for agents in [10, 1_000, 10_000] {
        fresh(agents);
    }
    guarded();
}

fn kept() {
    let decider = Decider::load(sources(&registry())).expect("the shipped policy loads").0;
    let task = task("triage-bot", "triage-issues");
    let facts = facts(&task);
    // Only every other one is granted: denies are kept as well.
    let intents: Vec<Intent> = (0..1000)
        .map(|i| {
            let repo = if i % 2 == 0 { "web".to_owned() } else { format!("other-{i}") };
            let path = format!("file-{i}");
            let id = format!("github.repos.get-{i}");
            intent(&id, Effect::Read, &[("owner", text("acme")), ("repo", text(&repo)), ("path", text(&path))])
        })
        .collect();
    for intent in &intents {
        decider.judge_parts(&facts, std::slice::from_ref(intent));
    }
    let mut at = 0;
    let took = measure(200_000, || {
        at = (at + 617) % intents.len();
        let (decision, cached) = decider.judge_parts(&facts, std::slice::from_ref(&intents[at]));
        assert!(cached);
        black_box(decision);
    });
    print("kept, 1,000 resident", &took);
}

fn fresh(agents: usize) {
    let mut spec = RegistrySpec::default();
    for i in 0..agents {
        let name = format!("workflow-{i}");
        let mut own = registry().workflows.swap_remove(0);
        own.id = name.as_str().into();
        for n in 0..8 {
            own.grants.push(grant(&[&format!("jira.issues.op-{n}")], &[], &[("project", json!(["a", "b*"]))]));
        }
        spec.workflows.push(workflow(&name, own.grants));
        spec.agents.push(agent(&format!("agent-{i}"), &[&name], OnDrift::Record));
    }
    let began = Instant::now();
    let decider = Decider::load(sources(&spec)).expect("the shipped policy loads").0;
    let load = began.elapsed();
    let task = task(&format!("agent-{}", agents / 2), &format!("workflow-{}", agents / 2));
    run(&decider, &task, &format!("fresh, {agents} agents (loaded in {} ms)", load.as_millis()));
}

fn guarded() {
    let rules = "package remit.guardrails\n\ndeny contains \"no deletes\" if input.intent.effect == \"delete\"\n\ndeny contains \"not this host\" if endswith(input.request.host, \".evil.example\")\n";
    let decider = fixtures::decider(&registry(), &[("guard.rego", rules)]);
    run(&decider, &task("triage-bot", "triage-issues"), "fresh, with two guardrails");
    let rules = format!("{rules}\nm := {{k: v | some k, v in input.intent.params}}\n\ndeny contains \"m\" if m.owner == \"evil\"\n");
    let decider = fixtures::decider(&registry(), &[("guard.rego", &rules)]);
    run(&decider, &task("triage-bot", "triage-issues"), "fresh, on the interpreter");
}

fn run(decider: &Decider, task: &remit::call::Task, name: &str) {
    let facts = facts(task);
    let read = intent("github.repos.get-content", Effect::Read, &[("owner", text("acme")), ("repo", text("docs")), ("path", text("x"))]);
    let deny = intent("github.issues.update", Effect::Write, &[("owner", text("acme")), ("repo", text("secret"))]);
    for (what, intent, verdict) in [("allow", &read, Verdict::Allow), ("deny", &deny, Verdict::Deny)] {
        let took = measure(4_000, || {
            let decision = decider.judge_fresh(&facts, intent);
            assert_eq!(decision.verdict, verdict);
            black_box(decision);
        });
        print(&format!("{name}, {what}"), &took);
    }
}

fn measure(times: usize, mut run: impl FnMut()) -> Vec<Duration> {
    for _ in 0..times / 10 {
        run();
    }
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed()
        })
        .collect();
    took.sort();
    took
}

fn print(name: &str, took: &[Duration]) {
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_nanos();
    println!("{name:<60} p50 {:>8} ns   p90 {:>8} ns   p99 {:>8} ns", at(0.5), at(0.9), at(0.99));
}
