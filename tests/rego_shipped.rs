//! The policy that ships, through the engine that is used.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

#[path = "law_7_fixtures/mod.rs"]
mod fixtures;

use fixtures::{decider, facts, intent, link, registry, task, task_of, text};
use remit::{
    call::{Effect, Param, Verdict, Window},
    decide::Kind,
    refusal::Reason,
};
use serde_json::json;

fn acme(repo: &str) -> Vec<(&'static str, Param)> {
    vec![("owner", text("acme")), ("repo", text(repo))]
}

#[test]
fn the_registry_of_the_design_decides_as_it_reads() {
    let decider = decider(&registry(), &[]);
    assert_eq!(decider.engine(), Kind::Register);
    let task = task("triage-bot", "triage-issues");
    let judge = |id: &str, effect, params: &[(&str, Param)]| decider.judge_parts(&facts(&task), &[intent(id, effect, params)]).0;

    let read = judge("github.repos.get-content", Effect::Read, &acme("docs"));
    println!("{read:?}");
    assert_eq!((read.verdict, read.code), (Verdict::Allow, None));
    let other = judge("github.repos.get-content", Effect::Read, &acme("secret"));
    assert_eq!((other.verdict, other.code), (Verdict::Deny, Some(Reason::NotGranted)));
    assert_eq!(
        &*other.reasons,
        ["no grant of workflow triage-issues matches".into(), "grant 1: repo: web or docs wanted, secret given".into()]
    );
    let label = judge("github.issues.add-labels", Effect::Write, &acme("web"));
    assert_eq!(label.verdict, Verdict::Allow);
    assert_eq!((&*label.limits[0].key, label.limits[0].max, label.limits[0].window), ("triage-bot/triage-issues/2", 20, Window::Task));
    let comment = judge("github.issues.create-comment", Effect::Write, &acme("web"));
    assert_eq!((comment.verdict, comment.code), (Verdict::Ask, Some(Reason::ApprovalRequired)));
    assert_eq!(comment.approval, Some(json!({"by": ["group:support-leads"], "within": 600})));
    let update = judge("github.issues.update", Effect::Write, &[("number", text("7")), ("repo", text("website"))]);
    assert_eq!((update.verdict, update.limits[0].window), (Verdict::Allow, Window::Seconds(60)));
    assert_eq!(update.credential.as_deref(), Some("narrow"));
    let absent = judge("github.issues.update", Effect::Write, &[("repo", text("website"))]);
    assert_eq!(absent.verdict, Verdict::Deny);
    assert_eq!(judge("unknown", Effect::Execute, &[]).code, Some(Reason::UnknownHost));
    assert_eq!(judge("github.unknown", Effect::Execute, &[]).code, Some(Reason::UnknownOperation));
}

#[test]
fn a_chain_grants_what_every_link_grants() {
    let decider = decider(&registry(), &[]);
    let judge = |links, id: &str, effect, params: &[(&str, Param)]| {
        let task = task_of(links);
        decider.judge_parts(&facts(&task), &[intent(id, effect, params)]).0
    };
    let wide = || link("strict-bot", "everything", Vec::new());
    let narrow = || link("triage-bot", "triage-issues", Vec::new());
    assert_eq!(judge(vec![wide(), narrow()], "github.issues.add-labels", Effect::Write, &acme("web")).verdict, Verdict::Allow);
    assert_eq!(judge(vec![narrow(), wide()], "github.repos.update", Effect::Write, &acme("web")).verdict, Verdict::Deny);
    let only = link("triage-bot", "triage-issues", vec![json!({"intents": ["github.issues.*"], "where": {"repo": "web"}})]);
    assert_eq!(judge(vec![only.clone()], "github.issues.add-labels", Effect::Write, &acme("web")).verdict, Verdict::Allow);
    assert_eq!(judge(vec![only], "github.repos.get-content", Effect::Read, &acme("web")).verdict, Verdict::Deny);
}

#[test]
fn guardrails_of_every_package_below_are_heard() {
    let text_of = |package: &str| format!("package {package}\n\ndeny contains \"not {package}\" if input.intent.effect == \"write\"\n");
    for package in ["remit.guardrails", "remit.guardrails.team", "remit.guardrails.team.sub"] {
        let decider = decider(&registry(), &[("guard.rego", &text_of(package))]);
        assert_eq!(decider.engine(), Kind::Register);
        let task = task("triage-bot", "triage-issues");
        let write = decider.judge_parts(&facts(&task), &[intent("github.issues.add-labels", Effect::Write, &acme("web"))]).0;
        assert_eq!((write.verdict, write.code), (Verdict::Deny, Some(Reason::Guardrail)), "{package}");
        let read = decider.judge_parts(&facts(&task), &[intent("github.repos.get", Effect::Read, &acme("web"))]).0;
        assert_eq!(read.verdict, Verdict::Allow);
    }
}
