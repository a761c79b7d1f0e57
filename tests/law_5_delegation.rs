//! Law 5 for what is handed on: over random trees of delegation, judged by the policy that ships, no
//! part of a task is ever permitted what a task above it is not; and no number of parts, calls and
//! threads takes more than a limit holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is not as expected ends a test")]

#[path = "law_7_fixtures/mod.rs"]
mod fixtures;
#[path = "law_7_fixtures/random.rs"]
mod random;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fixtures::{agent, decider, facts, grant, workflow};
use random::Random;
use remit::{
    authority::{Delegate, NoEvents, Registry, Reservation, Start, Tasks},
    call::{Effect, Intent, Label, LimitRule, Mode, Principal, Task, Verdict, Window},
    clock::{Moment, SettableClock, SystemClock},
    config::{GrantSpec, OnDrift, RegistrySpec, TaskSpec},
    decide::Decider,
};
use serde_json::{Value, json};

const TREES: usize = 10_000;
const AGENTS: usize = 6;

/// Six agents, each of which may hand on to those after it, with random workflows.
fn registry(random: &mut Random) -> RegistrySpec {
    let mut all = RegistrySpec::default();
    for i in 0..AGENTS {
        let flows: Vec<String> = (0..2).map(|n| format!("flow-{i}-{n}")).collect();
        for flow in &flows {
            let grants = (0..1 + random.below(3)).map(|_| a_grant(random)).collect();
            all.workflows.push(workflow(flow, grants));
        }
        let mut one = agent(&format!("agent-{i}"), &flows.iter().map(String::as_str).collect::<Vec<_>>(), OnDrift::Record);
        one.delegates_to = (i + 1..AGENTS).map(|to| format!("agent-{to}").into()).collect();
        all.agents.push(one);
    }
    all
}

fn a_grant(random: &mut Random) -> GrantSpec {
    let intents: &[&str] = match random.below(5) {
        0 | 1 => &["github.*"],
        2 => &["*"],
        3 => &["github.issues.*", "github.repos.delete"],
        _ => &["github.issues.update", "unknown"],
    };
    let effects: &[Effect] = match random.below(4) {
        0 => &[Effect::Read],
        1 => &[Effect::Write, Effect::Delete, Effect::Admin],
        _ => &[],
    };
    let wheres: &[(&str, Value)] = match random.below(4) {
        0 => &[("owner", json!("acme"))],
        1 => &[("repo", json!(["web*", "docs"]))],
        _ => &[],
    };
    grant(intents, effects, wheres)
}

/// What is asked for beside the workflow: most of it lies within, some does not.
fn asked(random: &mut Random) -> Vec<Value> {
    (0..random.below(3))
        .map(|_| {
            let mut grant = json!({});
            if random.chance(70) {
                grant["intents"] = json!([*random.one(&["github.*", "github.issues.*", "github.issues.update", "*", "unknown"])]);
            }
            if random.chance(40) {
                grant["effects"] = json!([random.effect().as_str()]);
            }
            if random.chance(40) {
                grant["where"] = json!({"repo": *random.one(&["web", "web*", "docs", "secret"])});
            }
            grant
        })
        .collect()
}

/// Tasks of one tree, each after the one that it is part of.
fn tree(tasks: &Tasks, registry: &Registry, random: &mut Random) -> Vec<Arc<Task>> {
    let now = Moment::now();
    let principal = Principal { id: "alice".into(), verified: false, claims: json!({}) };
    let start = |random: &mut Random| {
        let i = random.below(3);
        let flow = format!("flow-{i}-{}", random.below(2));
        let grants = asked(random);
        Start { grants, ..Start::new(format!("agent-{i}"), flow, principal.clone()) }
    };
    let Some(root) = (0..20).find_map(|_| tasks.start(registry, start(random), now).ok()) else { return Vec::new() };
    let mut all = vec![root.0];
    for _ in 0..2 + random.below(8) {
        let from = random.one(&all).clone();
        let to = random.below(AGENTS);
        let (agent, workflow) = (format!("agent-{to}").into(), format!("flow-{to}-{}", random.below(2)).into());
        let what = Delegate { agent, workflow, lifetime: None, grants: asked(random) };
        all.extend(tasks.delegate(registry, &from.id, what, now).map(|(task, _)| task));
    }
    all
}

fn allows(decider: &Decider, task: &Task, intent: &Intent) -> bool {
    decider.judge_parts(&facts(task), std::slice::from_ref(intent)).0.verdict == Verdict::Allow
}

/// A guardrail by label holds for the whole tree, so a part cannot do what the whole may not any more.
const RAIL: &str = "package remit.guardrails\n\ndeny contains \"no\" if {\n\t\"private-data\" in input.task.labels\n\tinput.intent.effect == \"write\"\n}\n\ndeny contains \"order\" if {\n\tinput.intent.effect == \"delete\"\n\tnot \"github.issues.update\" in input.task.succeeded\n}\n";

#[test]
fn no_part_of_a_task_is_permitted_what_one_above_it_is_not() {
    let mut random = Random::new(5);
    let (mut trees, mut parts, mut allowed, mut refused, mut judged) = (0, 0, 0usize, 0usize, 0usize);
    while trees < TREES {
        let spec = registry(&mut random);
        let decider = decider(&spec, &[("rail.rego", RAIL)]);
        let registry = Registry::new(&spec, Mode::Enforce);
        let tasks = Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::ZERO);
        tasks.bound_by(&TaskSpec { depth: AGENTS, sticky: Duration::ZERO });
        for _ in 0..100 {
            let all = tree(&tasks, &registry, &mut random);
            if all.len() < 2 {
                continue;
            }
            if random.chance(30) {
                random.one(&all).labels.add(&[Label::PrivateData]);
            }
            if random.chance(50) {
                random.one(&all).succeeded.add(&"github.issues.update".into());
            }
            let intents: Vec<Intent> = (0..3).map(|_| random.intent()).collect();
            for task in all.iter().filter(|t| t.parent.is_some()) {
                parts += 1;
                for intent in &intents {
                    judged += 1;
                    if allows(&decider, task, intent) {
                        allowed += 1;
                        for above in task.upwards().skip(1) {
                            assert!(allows(&decider, above, intent), "{task} may {intent:?}, and {above} may not: {:?}", task.chain);
                        }
                    } else {
                        refused += 1;
                    }
                }
                for above in task.upwards().skip(1) {
                    assert!(task.deadline() <= above.deadline());
                }
            }
            trees += 1;
            tasks.end(&all[0].id);
            assert!(all.iter().all(|task| task.ended.is_cancelled()), "the end reaches all below");
            if trees == TREES {
                break;
            }
        }
    }
    println!("{trees} trees, {parts} parts, {judged} judged: {allowed} allowed, {refused} refused");
    assert!(allowed > 1_000 && refused > 1_000, "the trees tell answers apart: {allowed} of {judged}");
}

#[test]
fn a_hundred_thousand_calls_of_a_tree_take_exactly_what_each_limit_holds() {
    const CALLS: usize = 100_000;
    const THREADS: usize = 8;
    let mut spec = RegistrySpec::default();
    for i in 0..3 {
        spec.workflows.push(workflow(&format!("w{i}"), vec![grant(&["*"], &[], &[])]));
        let mut one = agent(&format!("a{i}"), &[&format!("w{i}")], OnDrift::Record);
        one.delegates_to = (i + 1..3).map(|to| format!("a{to}").into()).collect();
        spec.agents.push(one);
    }
    let registry = Registry::new(&spec, Mode::Enforce);
    let tasks = Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::ZERO);
    let principal = || Principal { id: "alice".into(), verified: false, claims: json!({}) };
    let (root, _) = tasks.start(&registry, Start::new("a0", "w0", principal()), Moment::now()).unwrap();
    let hand = |from: &Task, to: usize| {
        let (agent, workflow) = (format!("a{to}").into(), format!("w{to}").into());
        tasks.delegate(&registry, &from.id, Delegate { agent, workflow, lifetime: None, grants: vec![] }, Moment::now()).unwrap().0
    };
    let (one, two) = (hand(&root, 1), hand(&root, 1));
    let (deep, other) = (hand(&one, 2), hand(&two, 2));
    let all = [root, one, two, deep, other];
    // The root's own limit, each first part's own, and one for everyone; tokens beside calls.
    let of = |link, key: &str, max| LimitRule { link, ..LimitRule::calls(key, max, Window::Task) };
    let tokens = LimitRule { unit: remit::call::Unit::Tokens, ..of(Some(0), "tokens", 70_000) };
    let rules = [of(Some(0), "root", 10_000), of(None, "everyone", 9_001), tokens];
    let below = [of(Some(0), "root", 10_000), of(None, "everyone", 9_001), of(Some(1), "part", 2_000), rules[2].clone()];
    let passed: Vec<AtomicUsize> = all.iter().map(|_| AtomicUsize::new(0)).collect();
    let now = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (tasks, all, passed, rules, below) = (&tasks, &all, &passed, &rules, &below);
            scope.spawn(move || {
                for i in 0..CALLS / THREADS {
                    let at = (i + thread) % all.len();
                    let rules: &[LimitRule] = if at == 0 { rules } else { below };
                    match tasks.reserve(&all[at], rules, Some(7), now) {
                        // Some are given back: nothing of them left.
                        Ok(reservation) if i % 17 == 0 => reservation.cancel(),
                        Ok(reservation) => {
                            Reservation::commit(reservation);
                            passed[at].fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {}
                    }
                }
            });
        }
    });
    // What was given back while others were refused may be left over: take it.
    for (at, task) in all.iter().enumerate() {
        let rules: &[LimitRule] = if at == 0 { &rules } else { &below };
        while let Ok(reservation) = tasks.reserve(task, rules, Some(7), now) {
            reservation.commit();
            passed[at].fetch_add(1, Ordering::Relaxed);
        }
    }
    let passed: Vec<usize> = passed.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    let parts = [passed[1] + passed[3], passed[2] + passed[4]];
    assert!(parts.iter().all(|n| *n <= 2_000), "{passed:?}");
    assert_eq!(passed.iter().sum::<usize>(), 9_001, "{passed:?}");
}

#[test]
fn clocks_that_jump_lengthen_nothing() {
    let spec = fixtures::registry();
    let registry = Registry::new(&spec, Mode::Enforce);
    let clock = Arc::new(SettableClock::at(Moment::now()));
    let tasks = Tasks::new(clock, Arc::new(NoEvents), Duration::ZERO);
    let now = Moment::now();
    let principal = Principal { id: "alice".into(), verified: false, claims: json!({}) };
    let life = Duration::from_secs(600);
    let (task, _) = tasks.start(&registry, Start::new("triage-bot", "triage-issues", principal), now).unwrap();
    for jump in [-86_400, 86_400, -1, 1] {
        let jumped = Moment { instant: now.instant + Duration::from_secs(60), utc: now.utc + time::Duration::seconds(jump) };
        assert_eq!(tasks.review(&registry, jumped), 0, "a clock that jumps by {jump} s ends no task early");
        assert_eq!(task.over(jumped.instant), None);
        // Nor does it let one last longer.
        let left = Duration::from_secs(540);
        assert!(tasks.lasts(&registry, &task.id, left + Duration::from_secs(1), jumped).is_err(), "{jump}");
        assert!(tasks.lasts(&registry, &task.id, left, jumped).is_ok(), "{jump}");
        assert!(task.deadline() <= now.instant + life);
        let over = Moment { instant: now.instant + life, utc: jumped.utc };
        assert!(task.over(over.instant).is_some());
        let rule = [LimitRule::calls("rate", 1, Window::Seconds(3600))];
        let _ = tasks.reserve(&task, &rule, None, jumped.instant).map(Reservation::commit);
        assert!(tasks.reserve(&task, &rule, None, jumped.instant).is_err(), "a window is of the clock that does not jump");
    }
}
