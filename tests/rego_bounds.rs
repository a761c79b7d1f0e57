//! What a policy may cost, and that none can take the process down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

#[path = "law_7_fixtures/mod.rs"]
mod fixtures;

use std::time::{Duration, Instant};

use fixtures::{decider, facts, intent, link, registry, sources, task, task_of, text};
use remit::{
    call::{Effect, Param, Verdict},
    decide::{Decider, Kind, Sources},
    refusal::Reason,
};
use serde_json::json;

fn guard(rules: &str) -> String {
    format!("package remit.guardrails\n\n{rules}\n")
}

fn judge(decider: &Decider) -> (Verdict, Option<Reason>, String) {
    let task = task("strict-bot", "everything");
    let decision = decider.judge_parts(&facts(&task), &[intent("github.x.y", Effect::Read, &[("a", text("abc"))])]).0;
    (decision.verdict, decision.code, decision.reasons.concat())
}

#[test]
fn a_policy_that_loops_denies_in_bounded_time() {
    let long = "n := numbers.range(1, 3000)\n\ndeny contains \"x\" if { some a in n; some b in n; a + b == 0 }";
    let tree = format!("{long}\n\nm := {{k: v | some k, v in input.intent.params}}\n\ndeny contains \"y\" if m.a == 1");
    for (rules, kind) in [(long, Kind::Register), (&tree, Kind::Tree)] {
        let folder = fixtures::Folder::new();
        folder.write("guard.rego", &guard(rules));
        let timeout = Duration::from_millis(200);
        let decider = Decider::load(Sources { paths: vec![folder.0.clone()], timeout, ..sources(&registry()) }).unwrap().0;
        assert_eq!(decider.engine(), kind);
        let began = Instant::now();
        let (verdict, code, _) = judge(&decider);
        assert_eq!((verdict, code), (Verdict::Deny, Some(Reason::PolicyFailed)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[test]
fn instructions_are_the_first_bound() {
    let rules = "n := numbers.range(1, 3000)\n\ndeny contains \"x\" if { some a in n; some b in n; a == b + 9999 }";
    let decider = decider(&registry(), &[("guard.rego", &guard(rules))]);
    let (_, _, why) = judge(&decider);
    assert!(why.contains("instructions"), "{why}");
}

#[test]
fn memory_bombs_deny() {
    for rules in [
        "deny contains \"x\" if count(numbers.range(1, 1000000000000)) > 0",
        "deny contains \"x\" if bits.lsh(1, 1000000000) > 0",
        "deny contains \"x\" if count(sprintf(\"%999999999d\", [1])) > 0",
        "deny contains \"x\" if count(net.cidr_expand(\"::/0\")) > 0",
    ] {
        for extra in ["", "\n\nm := {k: v | some k, v in input.intent.params}\n\ndeny contains \"y\" if m.a == 1"] {
            let decider = decider(&registry(), &[("guard.rego", &guard(&format!("{rules}{extra}")))]);
            assert_eq!(judge(&decider).1, Some(Reason::PolicyFailed), "{rules}{extra}");
        }
    }
}

#[test]
fn errors_and_conflicts_fail_closed() {
    for rules in [
        "deny contains \"x\" if not to_number(input.intent.params.a) > 3",
        "deny contains \"x\" if input.intent.params.a + 1 > 3",
        "deny contains \"x\" if not input.intent.params.a + 1 > 3",
        "bad if to_number(input.intent.params.a) > 3\n\ndeny contains \"x\" if { not bad; false }",
        "c := 1 if input.intent.params.a\n\nc := 2 if input.intent.params.a\n\ndeny contains \"x\" if c == 3",
        "c := v if { some v in [1, 2] }\n\ndeny contains \"x\" if c == 3",
        "f(x) := 1 if x\n\nf(x) := 2 if x\n\ndeny contains \"x\" if f(input.intent.params.a) == 3",
        "m[k] := v if { some v in [1, 2]; k := \"k\" }\n\ndeny contains \"x\" if m.k == 3",
        "deny contains \"x\" if {\"k\": v | some v in [1, 2]}.k == 3",
        "limit contains {\"key\": \"k\"} if true",
        "limit contains {\"key\": \"k\", \"max\": -1, \"window\": \"task\"} if true",
        "limit contains {\"key\": \"k\", \"max\": 1, \"window\": 0} if true",
        "label contains \"nonsense\" if true",
    ] {
        let decider = decider(&registry(), &[("guard.rego", &guard(rules))]);
        let (verdict, code, why) = judge(&decider);
        assert_eq!((verdict, code), (Verdict::Deny, Some(Reason::PolicyFailed)), "{rules}: {why}");
    }
}

#[test]
fn a_decision_that_is_not_well_formed_is_a_deny() {
    for decision in [
        "true",
        "\"allow\"",
        "{}",
        "{\"decision\": \"permit\"}",
        "{\"decision\": \"allow\", \"reason\": []}",
        "{\"decision\": \"allow\", \"code\": \"guardrail\"}",
        "{\"decision\": \"allow\", \"reasons\": \"x\"}",
        "{\"decision\": \"allow\", \"limits\": {}}",
        "{\"decision\": \"allow\", \"cache\": 1}",
        "{\"decision\": \"deny\", \"code\": \"nonsense\"}",
        "{\"decision\": \"allow\", \"credential\": 1}",
        "{\"decision\": \"allow\", \"approval\": []}",
    ] {
        let folder = fixtures::Folder::new();
        folder.write("own.rego", &format!("package remit.authz\n\ndecision := {decision}\n"));
        let sources = Sources { builtin: false, paths: vec![folder.0.clone()], ..sources(&registry()) };
        let decider = Decider::load(sources).unwrap().0;
        assert_eq!(judge(&decider).1, Some(Reason::PolicyFailed), "{decision}");
    }
    let folder = fixtures::Folder::new();
    folder.write("own.rego", "package remit.authz\n\ndecision := {\"decision\": \"allow\"} if input.intent.effect == \"write\"\n");
    let decider = Decider::load(Sources { builtin: false, paths: vec![folder.0.clone()], ..sources(&registry()) }).unwrap().0;
    let (_, code, why) = judge(&decider);
    assert_eq!(code, Some(Reason::PolicyFailed));
    assert!(why.contains("undefined"), "{why}");
}

#[test]
fn parse_bombs_do_not_abort() {
    let bombs = [
        format!("deny contains {}1{}", "[".repeat(5000), "]".repeat(5000)),
        format!("deny contains \"x\" if {}true{}", "(\n".repeat(20_000), ")\n".repeat(20_000)),
        format!("x := 1{}", "\n + 1".repeat(2_000)),
        format!("x := a{}", "\n.b".repeat(2_000)),
        format!("x := 1 if false{}", "\nelse := 2 if false".repeat(500)),
        format!("x if {{ {}true{} }}", "not ".repeat(200), ""),
        format!("x := {}1{}", "{1: ".repeat(20_000), "}".repeat(20_000)),
        format!("x := {}1{}", "[1 | x := ".repeat(5_000), "]".repeat(5_000)),
        format!("x if {{ {}true{} }}", "every a in b { ".repeat(5_000), "}".repeat(5_000)),
        format!("x := \"{}\"", "a".repeat(300 << 10)),
        format!("x := -{}1", "-".repeat(900)),
        "\u{0}".repeat(1000),
    ];
    for bomb in bombs {
        let start: String = bomb.chars().take(40).collect();
        let began = Instant::now();
        assert!(fixtures::load(&registry(), &[("guard.rego", &guard(&bomb))]).is_err(), "{start}");
        println!("{:?} {start:?}", began.elapsed());
    }
}

#[test]
fn a_long_chain_of_rules_is_refused_and_the_longest_allowed_one_runs_on_a_small_stack() {
    let chain = |n: usize, extra: &str| {
        let rules: String = (1..n).map(|i| format!("r{i} if {{\n\tsome x in [1]\n\tx == 1\n\tr{}\n}}\n\n", i - 1)).collect();
        guard(&format!("r0 if input.intent.effect == \"read\"\n\n{rules}deny contains \"deep\" if r{}\n{extra}", n - 1))
    };
    assert!(fixtures::load(&registry(), &[("guard.rego", &chain(200, ""))]).is_err());
    let tree = "\nm := {k: v | some k, v in input.intent.params}\n\ndeny contains \"y\" if m.a == 1\n";
    for extra in ["", tree] {
        let decider = decider(&registry(), &[("guard.rego", &chain(44, extra))]);
        // tokio's workers have 2 MiB; the test takes half of it.
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || judge(&decider)).unwrap();
        assert_eq!(thread.join().unwrap().1, Some(Reason::Guardrail));
    }
}

#[test]
fn decisions_are_made_on_tokio_workers() {
    let decider = std::sync::Arc::new(decider(&registry(), &[]));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let decider = decider.clone();
            runtime.spawn(async move {
                let deep = (0..120).fold(json!("x"), |inner, _| json!([inner]));
                let chain =
                    (0..16).map(|_| link("triage-bot", "triage-issues", vec![json!({"intents": ["github.*"], "where": {"repo": "web"}})]));
                let task = task_of(chain.collect());
                let params =
                    [("owner", text("acme")), ("repo", text(if i % 2 == 0 { "web" } else { "docs" })), ("body", Param::Json(deep))];
                decider.judge_parts(&facts(&task), &[intent("github.repos.get", Effect::Read, &params)]).0.verdict
            })
        })
        .collect();
    for (i, task) in tasks.into_iter().enumerate() {
        let expected = if i % 2 == 0 { Verdict::Allow } else { Verdict::Deny };
        assert_eq!(runtime.block_on(task).unwrap(), expected);
    }
}
