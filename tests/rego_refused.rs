//! What loading refuses, with the file, the line and the fix; and what is only a warning.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

#[path = "law_7_fixtures/mod.rs"]
mod fixtures;

use std::collections::BTreeSet;

use fixtures::{Folder, registry};
use remit::{
    decide::{Decider, Sources},
    problem::Problem,
};

fn problems(rules: &str) -> Vec<Problem> {
    let text = format!("package remit.guardrails\n\n{rules}\n");
    fixtures::load(&registry(), &[("guard.rego", &text)]).map(|_| ()).unwrap_err().0
}

/// The only problem, at a line of `guard.rego`, with words in its message and help.
fn refused(rules: &str, line: usize, message: &str, help: &str) {
    let all = problems(rules);
    assert_eq!(all.len(), 1, "{rules}: {all:?}");
    let problem = &all[0];
    assert!(problem.file.as_ref().is_some_and(|f| f.ends_with("guard.rego")), "{problem:?}");
    assert_eq!(problem.line, Some(line), "{problem:?}");
    assert!(problem.message.contains(message), "{problem:?}");
    assert!(problem.help.as_ref().is_some_and(|h| h.contains(help)), "{problem:?}");
}

#[test]
fn what_does_not_parse_is_named_with_its_line() {
    let all = problems("deny contains \"x\" if {\n\tinput.intent.effect ==\n}");
    assert_eq!(all.len(), 1);
    assert!(matches!(all[0].line, Some(4 | 5)), "{all:?}");
    assert!(!problems("deny contains x if y := ").is_empty());
    assert!(!problems("deny contains \"x\" if unknown_name == 1").is_empty());
}

#[test]
fn what_the_lexer_would_not_read_on_after_is_refused() {
    refused("deny contains \"x\" if false\n\u{0}\ndeny contains \"y\" if true", 4, "control character", "remove it");
}

#[test]
fn a_path_outside_the_contract_is_refused_with_the_nearest() {
    let is = "is not in the input";
    refused("deny contains \"x\" if input.intent.param.repo == \"a\"", 3, is, "`input.intent.params`");
    refused("deny contains \"x\" if {\n\ti := input.intent\n\ti.efect == \"a\"\n}", 5, is, "`input.intent.effect`");
    refused("import input.request as r\n\ndeny contains \"x\" if r.hostt == \"a\"", 5, is, "`input.request.host`");
    refused("deny contains \"x\" if input[\"intents\"].id == \"a\"", 3, is, "`input.intent`");
    refused("deny contains \"x\" if { some l in input.delegation; input.delegation[_].knd == \"a\" }", 3, is, "kind");
    refused("deny contains \"x\" if object.get(input.intent, \"parms\", {}) == {}", 3, is, "`input.intent.params`");
    refused("deny contains \"x\" if input.zebra", 3, is, "docs/policy-contract.md");
}

#[test]
fn a_parameter_that_no_operation_has_is_refused() {
    let folder = Folder::new();
    folder.write("guard.rego", "package remit.guardrails\n\ndeny contains \"x\" if input.intent.params.repos == \"a\"\n");
    let parameters = BTreeSet::from(["repo".to_owned(), "owner".to_owned()]);
    let sources = Sources { paths: vec![folder.0.clone()], parameters, ..fixtures::sources(&registry()) };
    let problems = Decider::load(sources).map(|_| ()).unwrap_err().0;
    assert_eq!(problems[0].message, "no operation has a parameter `repos`");
    assert_eq!(problems[0].help.as_deref(), Some("did you mean `repo`?"));
    assert_eq!(problems[0].line, Some(3));
}

#[test]
fn recursion_is_refused_with_the_cycle() {
    let mutual = problems("a if b\n\nb if c\n\nc if a\n\ndeny contains \"x\" if a");
    assert_eq!(mutual.len(), 1, "{mutual:?}");
    assert!(
        mutual[0].message.contains("data.remit.guardrails.a → data.remit.guardrails.b → data.remit.guardrails.c → data.remit.guardrails.a")
    );
    refused(
        "f(x) := y if { x > 0; y := f(x - 1) }\n\ndeny contains \"x\" if f(3) == 1",
        3,
        "guardrails.f → data.remit.guardrails.f",
        "no recursion",
    );
    refused("deny contains \"x\" if count(data.remit.guardrails) > 0", 3, "deny → data.remit.guardrails.deny", "no recursion");
    refused("deny contains \"x\" if data.remit.authz.decision.decision == \"allow\"", 3, "remit.authz.decision", "no recursion");
    refused("deny contains \"x\" if data[input.intent.effect]", 3, "call themselves", "no recursion");
    // A local name that hides a rule is no recursion.
    fixtures::decider(
        &registry(),
        &[(
            "guard.rego",
            "package remit.guardrails\n\nrepo := input.intent.params.repo\n\nf(repo) if repo == \"a\"\n\ndeny contains \"x\" if f(repo)\n",
        )],
    );
}

#[test]
fn what_the_engines_read_in_two_ways_is_refused() {
    refused("default f(x) := false\n\nf(x) if x == 1\n\ndeny contains \"x\" if f(2)", 3, "has a `default`", "else");
}

#[test]
fn what_reaches_out_is_refused() {
    for call in ["http.send({\"method\": \"get\", \"url\": \"http://x\"})", "opa.runtime()", "net.lookup_ip_addr(\"x\")"] {
        refused(&format!("deny contains \"x\" if {call}"), 3, "reaches out of the process", "data file");
    }
    refused("deny contains \"x\" if startwith(input.intent.id, \"a\")", 3, "there is no function `startwith`", "`startswith`");
}

#[test]
fn guardrails_that_nobody_would_hear_are_refused() {
    refused("deny := true if input.intent.effect == \"delete\"", 3, "is not a set", "deny contains");
    refused("deny if input.intent.effect == \"delete\"", 3, "is not a set", "deny contains");
    refused("denny contains \"x\" if input.intent.effect == \"delete\"", 3, "nothing reads rule `denny`", "`deny`");
    for package in ["remit.guardrail", "remit", "remit.policies"] {
        let text = format!("package {package}\n\ndeny contains \"x\" if input.intent.effect == \"delete\"\n");
        let problems = fixtures::load(&registry(), &[("guard.rego", &text)]).map(|_| ()).unwrap_err().0;
        assert_eq!(problems[0].message, format!("nothing reads package `{package}`"));
    }
    let ours = fixtures::load(&registry(), &[("own.rego", "package remit.authz\n\ngranted := true\n")]).map(|_| ()).unwrap_err().0;
    assert!(ours[0].message.contains("the policy that ships"), "{ours:?}");
}

#[test]
fn an_entry_point_that_is_not_there_is_refused() {
    let folder = Folder::new();
    folder.write("own.rego", "package remit.authz\n\nallow if true\n");
    let sources = Sources { builtin: false, paths: vec![folder.0.clone()], ..fixtures::sources(&registry()) };
    let problems = Decider::load(sources).map(|_| ()).unwrap_err().0;
    assert_eq!(problems[0].message, "no policy defines `data.remit.authz.decision`");
}

#[test]
fn odd_things_are_warnings() {
    let helper = "package remit.guardrails\n\nhelper := 1\n\ndeny contains \"x\" if input.intent.effect == \"delete\"\n";
    let (_, warnings) = fixtures::load(&registry(), &[("guard.rego", helper), ("lib.rego", "package lib\n\nx := 1\n")]).unwrap();
    let texts: Vec<String> = warnings.iter().map(|w| w.message.clone()).collect();
    assert_eq!(texts, ["nothing reads rule `helper`", "nothing reads package `lib`"]);
}

#[test]
fn data_loads_under_its_folder_and_is_checked() {
    let guard = "package remit.guardrails\n\ndeny contains \"blocked\" if input.intent.params.owner in data.teams.blocked\n";
    for (name, text) in [
        ("teams/list.json", "{\"blocked\": [\"acme\"]}"),
        ("teams/list.yaml", "blocked: [acme]\n"),
        ("all.json", "{\"teams\": {\"blocked\": [\"acme\"]}}"),
    ] {
        let decider = fixtures::decider(&registry(), &[("guard.rego", guard), (name, text)]);
        let task = fixtures::task("triage-bot", "triage-issues");
        let params = [("owner", fixtures::text("acme")), ("repo", fixtures::text("web"))];
        let read = fixtures::intent("github.repos.get", remit::call::Effect::Read, &params);
        let decision = decider.judge_parts(&fixtures::facts(&task), &[read]).0;
        assert_eq!(&*decision.reasons, ["blocked".into()], "{name}");
    }
    let bad = |files: &[(&str, &str)]| fixtures::load(&registry(), files).map(|_| ()).unwrap_err().to_string();
    assert!(bad(&[("x.json", "{\"remit\": {\"agents\": {}}}")]).contains("Remit's own"));
    assert!(bad(&[("x.json", "{\"a\": 1")]).contains("x.json:1"));
    assert!(bad(&[("x.json", "[1]")]).contains("not an object"));
    assert!(bad(&[("x.json", "{\"a\": 1}"), ("y.yaml", "a: 2\n")]).contains("in another file"));
}
