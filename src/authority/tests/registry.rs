use std::time::Duration;

use crate::{
    authority::{
        EffectiveMode, Lack, Registry,
        fixture::{House, agent, intent, spec},
    },
    call::{Effect, Label, Mode},
    clock::Moment,
    config::{ModeSpec, RegistrySpec, Status},
    refusal::Reason,
};

#[test]
fn an_agents_status_is_why_it_may_do_nothing() {
    let now = Moment::now();
    let mut all = spec();
    all.agents.extend(
        [("s", Status::Suspended), ("r", Status::Retired)].map(|(id, status)| crate::config::AgentSpec { status, ..agent(id, &[]) }),
    );
    all.agents.push(crate::config::AgentSpec { expires: Some(now.utc), ..agent("e", &[]) });
    all.agents.push(crate::config::AgentSpec { expires: Some(now.utc + Duration::from_secs(1)), ..agent("soon", &[]) });
    let registry = Registry::new(&all, Mode::Enforce);
    for (id, want) in [
        ("triage-bot", None),
        ("nobody", Some(Reason::UnknownAgent)),
        ("s", Some(Reason::AgentSuspended)),
        ("r", Some(Reason::AgentRetired)),
        ("e", Some(Reason::AgentExpired)),
        ("soon", None),
    ] {
        assert_eq!(registry.status(id, now.utc), want, "{id}");
        let refusal = registry.refusal(id, now.utc);
        assert_eq!(refusal.as_ref().map(|r| r.reason), want);
        assert!(refusal.is_none_or(|r| r.detail.contains(&format!("`{id}`"))));
    }
}

#[test]
fn an_agent_is_bound_to_its_registered_workflows_only() {
    let House { registry, .. } = House::new();
    assert!(registry.bound("triage-bot", "triage-issues"));
    assert!(!registry.bound("idle-bot", "triage-issues"));
    assert!(!registry.bound("triage-bot", "missing"));
    assert!(!registry.bound("nobody", "triage-issues"));
    assert_eq!(registry.agents().iter().map(|a| &*a.spec.id).collect::<Vec<_>>(), ["idle-bot", "triage-bot"]);
}

fn with_modes(of_agent: Option<ModeSpec>, of_workflow: Option<ModeSpec>, mode: Mode) -> Registry {
    let mut all: RegistrySpec = spec();
    all.agents[0].mode = of_agent;
    all.workflows[0].mode = of_workflow;
    Registry::new(&all, mode)
}

#[test]
fn the_stricter_mode_holds_and_observe_ends_on_its_date() {
    let now = Moment::now().utc;
    let (soon, later) = (now + Duration::from_secs(60), now + Duration::from_secs(600));
    let observe = |until| Some(ModeSpec { mode: Mode::Observe, until });
    let enforce = Some(ModeSpec { mode: Mode::Enforce, until: None });
    let mode = |a, w, global| with_modes(a, w, global).mode("triage-bot", "triage-issues", now);
    let want = |mode, until| EffectiveMode { mode, until };
    assert_eq!(mode(None, None, Mode::Enforce), want(Mode::Enforce, None));
    assert_eq!(mode(None, None, Mode::Observe), want(Mode::Observe, None));
    assert_eq!(mode(enforce, None, Mode::Observe), want(Mode::Enforce, None));
    assert_eq!(mode(None, observe(Some(later)), Mode::Enforce), want(Mode::Observe, Some(later)));
    assert_eq!(mode(observe(Some(soon)), observe(Some(later)), Mode::Enforce), want(Mode::Observe, Some(soon)));
    assert_eq!(mode(enforce, observe(Some(later)), Mode::Enforce), want(Mode::Enforce, Some(later)));
    assert_eq!(mode(None, observe(Some(now)), Mode::Enforce), want(Mode::Enforce, None), "its date has come");
}

#[test]
fn the_nearest_grant_is_named_with_its_line_and_what_it_lacked() {
    let House { registry, .. } = House::new();
    let explain = |id, effect, labels: &[Label], params: &[(&str, &str)]| {
        registry.explain("triage-issues", &intent(id, effect, labels, params)).unwrap().to_string()
    };
    let web = [("owner", "acme"), ("repo", "web")];
    assert_eq!(explain("github.issues.get", Effect::Read, &[], &web), "registry.yaml:10: this grant covers the call");
    assert_eq!(
        explain("github.issues.get", Effect::Read, &[], &[("owner", "acme"), ("repo", "secret")]),
        "registry.yaml:10: repo: `web` or `docs` wanted, `secret` given"
    );
    assert_eq!(
        explain("github.issues.get", Effect::Read, &[], &[("owner", "acme")]),
        "registry.yaml:10: repo: `web` or `docs` wanted, none given"
    );
    assert_eq!(
        explain("github.issues.add-labels", Effect::Write, &[], &[("owner", "acme"), ("repo", "docs")]),
        "registry.yaml:13: repo: `web` wanted, `docs` given"
    );
    assert_eq!(explain("github.issues.delete", Effect::Delete, &[], &web), "registry.yaml:10: effect: read granted, delete asked");
    assert_eq!(
        explain("github.apps.create-token", Effect::Read, &[Label::MintsCredential], &web),
        "registry.yaml:10: a grant that ends in `*` does not cover mints-credential: name `github.apps.create-token`"
    );
    assert_eq!(
        explain("slack.files.upload", Effect::Write, &[], &[("channel", "team-a")]),
        "registry.yaml:16: intent: `slack.chat.*` granted, `slack.files.upload` asked"
    );
    assert_eq!(explain("slack.chat.post", Effect::Write, &[], &[("channel", "team-a")]), "registry.yaml:16: this grant covers the call");
    assert!(explain("github.unknown", Effect::Read, &[], &web).contains("what is in no catalog must be granted by that name"));
}

#[test]
fn there_is_no_nearest_grant_where_none_is() {
    let House { registry, .. } = House::new();
    let asked = intent("github.issues.get", Effect::Read, &[], &[]);
    assert_eq!(registry.explain("other", &asked), None);
    assert_eq!(registry.explain("missing", &asked), None);
}

#[test]
fn what_came_from_the_network_is_shown_escaped_and_cut() {
    let lack = |given: &str| Lack::Param { name: "repo".into(), given: Some(given.into()), wanted: vec!["web".into()] }.to_string();
    assert_eq!(lack("a\u{1b}[2Jb\u{202e}"), "repo: `web` wanted, `a\\u{1b}[2Jb\\u{202e}` given");
    assert!(lack(&"x".repeat(500)).len() < 150);
}
