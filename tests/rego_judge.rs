//! A call's judgement: permits, refusals and their words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

#[path = "law_7_fixtures/mod.rs"]
mod fixtures;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fixtures::{decider, intent, registry, text};
use remit::{
    call::{
        Accepted, Account, Body, Caller, DecisionId, Destination, Effect, Head, Host, How, Intent, Label, Listener, Mode, Outcome, Path,
        Recorder, Scheme, Task, Understood, Verdict,
    },
    refusal::Reason,
};

struct Nowhere;

impl Recorder for Nowhere {
    fn outcome(&self, _: &Outcome) {}
}

fn call(task: Task, intents: Vec<Intent>) -> Understood {
    let head = Head {
        method: http::Method::POST,
        to: Destination { scheme: Scheme::Https, host: Host::parse("api.github.com").unwrap(), port: 443 },
        path: Path::parse("/repos/acme/web/issues?x=1".parse().unwrap()).unwrap(),
        headers: http::HeaderMap::new(),
        version: http::Version::HTTP_2,
        upgrade: None,
    };
    let account = Account::open(DecisionId::new(1), Instant::now(), Arc::new(Nowhere));
    let caller = Caller { how: How::Handle, listener: Listener::Forward, task: Arc::new(task), proof: None, drift: Arc::from([]) };
    Accepted::new(head, account).identified(caller).understood(intents.into_iter().collect(), None, Body::Empty)
}

fn bot() -> Task {
    fixtures::task("triage-bot", "triage-issues")
}

fn of(id: &str, effect: Effect, repo: &str) -> Intent {
    intent(id, effect, &[("owner", text("acme")), ("repo", text(repo))])
}

#[test]
fn an_allow_gives_a_permit_that_labels_and_the_end_void() {
    let decider = decider(&registry(), &[]);
    let call = call(bot(), vec![of("github.issues.add-labels", Effect::Write, "web")]);
    let judged = decider.judge(&call, Instant::now());
    let permit = judged.pass.unwrap();
    assert_eq!((permit.mode(), permit.passes_own_login()), (Mode::Enforce, false));
    assert_eq!(permit.void(Instant::now()), None);
    permit.task().labels.add(&[Label::UntrustedContent]);
    assert_eq!(permit.void(Instant::now()), Some(Reason::NotGranted));
    assert!(decider.judge(&call, Instant::now()).cached, "the shipped policy reads no labels of the task");
}

#[test]
fn a_refusal_says_what_on_what_for_whom() {
    let decider = decider(&registry(), &[]);
    let detail = |intent: Intent| {
        let judged = decider.judge(&call(bot(), vec![intent]), Instant::now());
        let refusal = judged.pass.unwrap_err();
        (refusal.reason, refusal.detail.into_owned(), refusal.reasons.concat())
    };
    assert_eq!(
        detail(of("github.issues.delete", Effect::Delete, "web")),
        (
            Reason::NotGranted,
            "github.issues.delete on acme/web is granted by no workflow of triage-bot".into(),
            "no grant of workflow triage-issues matches".into()
        )
    );
    let (reason, words, _) = detail(intent("unknown", Effect::Execute, &[]));
    assert_eq!((reason, &*words), (Reason::UnknownHost, "api.github.com is in no catalog, and no workflow of triage-bot names it"));
    let (reason, words, _) = detail(intent("github.unknown", Effect::Execute, &[]));
    assert_eq!(reason, Reason::UnknownOperation);
    assert!(words.starts_with("POST /repos/acme/web/issues on api.github.com is in no catalog"), "{words}");
    let (reason, words, _) = detail(of("github.issues.create-comment", Effect::Write, "web"));
    assert_eq!((reason, &*words), (Reason::ApprovalRequired, "github.issues.create-comment on acme/web needs the approval of a human"));
}

#[test]
fn every_intent_must_be_allowed_and_each_counts() {
    let decider = decider(&registry(), &[]);
    let label = || of("github.issues.add-labels", Effect::Write, "web");
    let both = decider.judge(&call(bot(), vec![label(), label()]), Instant::now());
    assert_eq!(both.decision.verdict, Verdict::Allow);
    assert_eq!(both.decision.limits.len(), 2);
    let mixed = decider.judge(
        &call(bot(), vec![label(), of("github.issues.create-comment", Effect::Write, "web"), of("github.repos.get", Effect::Read, "x")]),
        Instant::now(),
    );
    assert_eq!((mixed.decision.verdict, mixed.decision.code), (Verdict::Deny, Some(Reason::NotGranted)));
    assert!(mixed.pass.unwrap_err().detail.contains("(with 2 more intents)"));
    let none = decider.judge(&call(bot(), vec![]), Instant::now());
    assert_eq!(none.pass.unwrap_err().reason, Reason::PolicyFailed);
    // One request carries one credential.
    let narrow = intent("github.issues.update", Effect::Write, &[("number", text("7")), ("repo", text("web"))]);
    let mut spec = registry();
    spec.workflows[0].grants[1].credential = Some("other".into());
    let other = fixtures::decider(&spec, &[]);
    let split = other.judge(&call(bot(), vec![narrow, label()]), Instant::now());
    assert_eq!(split.decision.verdict, Verdict::Deny);
}

#[test]
fn observe_permits_what_policy_refuses_and_records_what_it_said() {
    let decider = decider(&registry(), &[]);
    let task = Task { mode: Mode::Observe, ..bot() };
    let judged = decider.judge(&call(task, vec![of("github.issues.delete", Effect::Delete, "web")]), Instant::now());
    assert_eq!(judged.decision.verdict, Verdict::Deny);
    let permit = judged.pass.unwrap();
    assert_eq!((permit.mode(), permit.passes_own_login()), (Mode::Observe, true));
}

#[test]
fn a_task_that_is_over_gives_no_permit_in_any_mode() {
    let decider = decider(&registry(), &[]);
    for mode in [Mode::Enforce, Mode::Observe] {
        let ended = Task { mode, ..bot() };
        ended.ended.cancel();
        let read = || vec![of("github.repos.get", Effect::Read, "web")];
        assert_eq!(decider.judge(&call(ended, read()), Instant::now()).pass.unwrap_err().reason, Reason::TaskEnded);
        let late = Instant::now() + Duration::from_secs(3600);
        let expired = Task { mode, ..bot() };
        assert_eq!(decider.judge(&call(expired, read()), late).pass.unwrap_err().reason, Reason::TaskExpired);
    }
}
