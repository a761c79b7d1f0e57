use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    authority::{
        Delegate, End, Registry, Start,
        fixture::{House, agent, grant, spec, triage, workflow},
    },
    call::{Label, LimitRule, LinkKind, Mode, Task, Window},
    clock::Moment,
    config::{ModeSpec, RegistrySpec, Status, TaskSpec},
    refusal::{Reason, Refusal},
};

/// `triage-bot` may hand over to `helper`, which may to `deep`, and so on.
fn chained() -> RegistrySpec {
    let mut all = spec();
    let names = ["triage-bot", "helper", "deep", "deeper", "deepest"];
    for pair in names.windows(2) {
        let [from, to] = pair else { continue };
        let flow = format!("{to}-work");
        all.workflows.push(workflow(&flow, vec![grant(30, &["github.issues.*", "slack.*"], &[], &[])]));
        all.agents.push(agent(to, &[&flow]));
        all.agents.iter_mut().find(|a| *a.id == **from).unwrap().delegates_to.push((*to).into());
    }
    all
}

fn house() -> House {
    House { registry: Registry::new(&chained(), Mode::Enforce), ..House::new() }
}

fn to(agent: &str) -> Delegate {
    Delegate { agent: agent.into(), workflow: format!("{agent}-work").into(), lifetime: None, grants: vec![] }
}

impl House {
    fn hand(&self, from: &Task, what: Delegate) -> Result<Arc<Task>, Refusal> {
        self.tasks.delegate(&self.registry, &from.id, what, self.now()).map(|(task, _)| task)
    }
}

#[test]
fn a_part_of_a_task_is_for_the_same_principal_and_says_through_whom() {
    let house = house();
    let (parent, _) = house.start();
    let (child, handle) = house.tasks.delegate(&house.registry, &parent.id, to("helper"), house.now()).unwrap();
    assert!(Arc::ptr_eq(&house.tasks.by_handle(handle.expose().as_bytes(), house.now().instant).unwrap().task, &child));
    assert_eq!(child.principal, parent.principal);
    let links: Vec<_> = child.chain.iter().map(|l| (l.kind, &*l.id)).collect();
    assert_eq!(links, [(LinkKind::Principal, "alice@acme.example"), (LinkKind::Agent, "triage-bot"), (LinkKind::Agent, "helper")]);
    assert!(Arc::ptr_eq(child.parent.as_ref().unwrap(), &parent) && child.upwards().count() == 2);
}

#[test]
fn only_who_is_listed_is_handed_to_and_only_so_deep() {
    let house = house();
    let (parent, _) = house.start();
    for (agent, reason, part) in [
        ("deep", Reason::DelegationInvalid, "`delegates_to` at registry.yaml:1 does not list it"),
        ("triage-bot", Reason::DelegationInvalid, "does not list it"),
        ("nobody", Reason::DelegationInvalid, "does not list it"),
    ] {
        let refusal = house.hand(&parent, to(agent)).unwrap_err();
        assert!(refusal.reason == reason && refusal.detail.contains(part), "{agent}: {refusal:?}");
    }
    let wrong = Delegate { workflow: "triage-issues".into(), ..to("helper") };
    assert_eq!(house.hand(&parent, wrong).unwrap_err().reason, Reason::NotGranted);
    let helper = house.hand(&parent, to("helper")).unwrap();
    let deep = house.hand(&helper, to("deep")).unwrap();
    let deeper = house.hand(&deep, to("deeper")).unwrap();
    let refusal = house.hand(&deeper, to("deepest")).unwrap_err();
    assert!(refusal.reason == Reason::DelegationInvalid && refusal.detail.contains("`tasks.depth` allows (3)"), "{refusal:?}");
    house.tasks.bound_by(&TaskSpec { depth: 0, ..TaskSpec::default() });
    assert_eq!(house.hand(&parent, to("helper")).unwrap_err().reason, Reason::DelegationInvalid);
}

#[test]
fn what_lies_outside_what_there_is_to_hand_over_is_refused() {
    let house = house();
    let (parent, _) = house.start();
    let ask =
        |grant: Value| house.hand(&parent, Delegate { grants: vec![grant], ..to("helper") }).map(drop).map_err(|r| r.detail.to_string());
    assert_eq!(ask(json!({"intents": ["github.issues.get"]})), Ok(()));
    assert_eq!(ask(json!({"intents": ["slack.chat.post"], "where": {"channel": "team-a"}})), Ok(()));
    for (outside, part) in [
        // the parent's workflow reads only, but for one operation
        (json!({"intents": ["github.issues.*"], "effects": ["delete"]}), None),
        (json!({"intents": ["slack.admin.*"]}), Some("grants[0] lies outside what agent `triage-bot` has to hand over")),
        (json!({"intents": ["slack.chat.post"], "where": {"channel": "board"}}), Some("grants[0] lies outside")),
        (json!({"intents": ["github.issues.get"], "where": {"repo": "secret"}}), Some("grants[0] lies outside")),
        (json!({"intents": ["openai.*"]}), Some("not within what the workflow grants")),
    ] {
        let got = ask(outside.clone());
        match part {
            Some(part) => assert!(got.as_ref().is_err_and(|d| d.contains(part)), "{outside}: {got:?}"),
            // `github.issues.add-labels` may be a delete for all that is known here; each call is judged.
            None => assert_eq!(got, Ok(()), "{outside}"),
        }
    }
    // A grant that the parent was narrowed to bounds what is below it, too.
    let start = Start { grants: vec![json!({"intents": ["slack.chat.*"]})], ..triage() };
    let (narrow, _) = house.tasks.start(&house.registry, start, house.now()).unwrap();
    let refused = house.hand(&narrow, Delegate { grants: vec![json!({"intents": ["github.issues.get"]})], ..to("helper") });
    assert_eq!(refused.unwrap_err().reason, Reason::DelegationInvalid);
}

#[test]
fn a_part_does_not_outlive_the_whole() {
    let house = house();
    let secs = Duration::from_secs;
    let start = Start { lifetime: Some(secs(100)), ..triage() };
    let (parent, _) = house.tasks.start(&house.registry, start, house.now()).unwrap();
    house.clock.advance(secs(40));
    let left = |lifetime| {
        let child = house.hand(&parent, Delegate { lifetime, ..to("helper") }).unwrap();
        child.deadline() - house.now().instant
    };
    assert_eq!([left(None), left(Some(secs(500))), left(Some(secs(10)))], [secs(60), secs(60), secs(10)]);
    house.clock.advance(secs(61));
    assert_eq!(house.hand(&parent, to("helper")).unwrap_err().reason, Reason::TaskExpired);
}

/// Ends the parent in some way, and says how that and its parts ended.
fn endings(end: impl Fn(&House, &Task)) -> Vec<String> {
    let house = house();
    let start = Start { lifetime: Some(Duration::from_secs(100)), ..triage() };
    let (parent, _) = house.tasks.start(&house.registry, start, house.now()).unwrap();
    let child = house.hand(&parent, to("helper")).unwrap();
    let grandchild = house.hand(&child, to("deep")).unwrap();
    let (other, _) = house.start();
    house.events.told.lock().clear();
    end(&house, &parent);
    assert!(child.ended.is_cancelled() && grandchild.ended.is_cancelled() && !other.ended.is_cancelled());
    assert_eq!(house.tasks.active(), 1);
    std::mem::take(&mut *house.events.told.lock())
}

#[test]
fn the_end_of_a_task_is_the_end_of_all_below_it() {
    let both = ["ended 2 parent", "ended 3 parent"];
    let with = |first: &str| [first, both[0], both[1]].map(String::from).to_vec();
    assert_eq!(endings(|house, parent| assert!(house.tasks.end(&parent.id))), with("ended 1 asked"));
    assert_eq!(endings(|house, parent| assert!(house.tasks.end_because(&parent.id, End::Drift))), with("ended 1 drift"));
    assert_eq!(endings(|house, parent| assert!(house.tasks.sweep(parent.deadline()).is_some())), with("ended 1 expired"));
}

#[test]
fn a_registry_that_takes_the_delegation_back_ends_the_part() {
    let house = house();
    let (parent, _) = house.start();
    let child = house.hand(&parent, to("helper")).unwrap();
    let mut all = chained();
    all.agents.iter_mut().find(|a| &*a.id == "triage-bot").unwrap().delegates_to.clear();
    assert_eq!(house.tasks.review(&Registry::new(&all, Mode::Enforce), house.now()), 1);
    assert!(child.ended.is_cancelled() && !parent.ended.is_cancelled());
    let child = house.hand(&parent, to("helper")).unwrap();
    all = chained();
    all.agents.iter_mut().find(|a| &*a.id == "triage-bot").unwrap().status = Status::Suspended;
    house.tasks.review(&Registry::new(&all, Mode::Enforce), house.now());
    assert!(child.ended.is_cancelled() && parent.ended.is_cancelled());
}

#[test]
fn what_a_part_touches_the_whole_has_touched_and_the_other_way_round() {
    let house = house();
    let (parent, _) = house.start();
    let child = house.hand(&parent, to("helper")).unwrap();
    let other = house.hand(&parent, to("helper")).unwrap();
    child.labels.add(&[Label::UntrustedContent]);
    assert_eq!(parent.labels.list(), [Label::UntrustedContent]);
    assert_eq!(other.labels.list(), [Label::UntrustedContent]);
    parent.labels.add(&[Label::PrivateData]);
    assert_eq!(child.labels.list(), [Label::PrivateData, Label::UntrustedContent]);
    let (apart, _) = house.start();
    assert_eq!(apart.labels.list(), [Label::PrivateData, Label::UntrustedContent], "labels stick to the agent");
}

#[test]
fn labels_stick_to_agents_for_a_time() {
    let house = house();
    house.tasks.bound_by(&TaskSpec { sticky: Duration::from_secs(3600), ..TaskSpec::default() });
    let (parent, _) = house.start();
    let child = house.hand(&parent, to("helper")).unwrap();
    child.labels.add(&[Label::PrivateData]);
    house.tasks.end(&parent.id);
    let held = |agent: &str, flow: &str| {
        let start = Start { agent: agent.into(), workflow: flow.into(), ..triage() };
        house.tasks.start(&house.registry, start, house.now()).unwrap().0.labels.list()
    };
    for (agent, flow) in [("triage-bot", "triage-issues"), ("triage-bot", "other"), ("helper", "helper-work")] {
        assert_eq!(held(agent, flow), [Label::PrivateData], "{agent}");
    }
    assert!(held("deep", "deep-work").is_empty(), "it was never part of that task");
    // Who brings a label along labels the task that it is made part of.
    let (clean, _) =
        house.tasks.start(&house.registry, Start { agent: "deep".into(), workflow: "deep-work".into(), ..triage() }, house.now()).unwrap();
    assert!(clean.labels.list().is_empty());
    house.clock.advance(Duration::from_secs(1800 + 3600));
    assert!(held("triage-bot", "triage-issues").is_empty() && held("helper", "helper-work").is_empty());
    house.tasks.bound_by(&TaskSpec { sticky: Duration::ZERO, ..TaskSpec::default() });
    let (task, _) = house.start();
    task.labels.add(&[Label::PrivateData]);
    assert!(held("triage-bot", "other").is_empty(), "stickiness is switched off");
}

#[test]
fn a_part_takes_from_the_limits_of_the_whole() {
    let house = house();
    let now = house.now().instant;
    let (parent, _) = house.start();
    let (one, two) = (house.hand(&parent, to("helper")).unwrap(), house.hand(&parent, to("helper")).unwrap());
    let of = |link, key: &str, max, window| LimitRule { link, ..LimitRule::calls(key, max, window) };
    let take = |task: &Arc<Task>, rules: &[LimitRule]| {
        house.tasks.reserve(task, rules, None, now).map(crate::authority::Reservation::commit).is_ok()
    };
    // The parent's own limit, met by its parts and by itself.
    let own = [of(Some(0), "triage-bot/triage-issues/2", 3, Window::Task)];
    assert_eq!(
        [take(&one, &own), take(&two, &own), take(&parent, &own), take(&one, &own), take(&parent, &own)],
        [true, true, true, false, false]
    );
    // A part's own limit is each part's.
    let part = [of(Some(1), "helper/helper-work/1", 1, Window::Task)];
    assert_eq!([take(&one, &part), take(&two, &part), take(&one, &part)], [true, true, false]);
    // A guardrail's holds for each, so that handing over multiplies nothing.
    let rail = [of(None, "comments", 2, Window::Task)];
    assert_eq!([take(&one, &rail), take(&two, &rail), take(&one, &rail), take(&parent, &rail)], [true, true, false, false]);
    // What counts over an agent's tasks counts over those of its parts.
    let (apart, _) = house.start();
    let agent = [of(Some(0), "triage-bot/limits/1", 2, Window::Agent)];
    assert_eq!([take(&one, &agent), take(&apart, &agent), take(&two, &agent)], [true, true, false]);
    // All or none, over the whole chain: what failed above took nothing below.
    let both = [of(Some(1), "below", 1, Window::Task), own[0].clone()];
    assert!(!take(&one, &both));
    assert!(take(&one, &both[..1]));
}

#[test]
fn nothing_that_is_enforced_above_is_only_observed_below() {
    let mut all = chained();
    let until = Some(Moment::now().utc + Duration::from_secs(3600));
    let observe = Some(ModeSpec { mode: Mode::Observe, until });
    all.agents.iter_mut().filter(|a| &*a.id == "helper").for_each(|a| a.mode = observe);
    let house = House { registry: Registry::new(&all, Mode::Enforce), ..House::new() };
    let (parent, _) = house.start();
    assert_eq!(house.hand(&parent, to("helper")).unwrap().mode, Mode::Enforce);
    all.agents.iter_mut().filter(|a| &*a.id == "triage-bot").for_each(|a| a.mode = observe);
    let house = House { registry: Registry::new(&all, Mode::Enforce), ..House::new() };
    let (parent, _) = house.start();
    assert_eq!((parent.mode, house.hand(&parent, to("helper")).unwrap().mode), (Mode::Observe, Mode::Observe));
}

#[test]
fn the_parts_of_a_task_that_live_at_a_time_are_bounded() {
    let house = house();
    let (parent, _) = house.start();
    let first = house.hand(&parent, to("helper")).unwrap();
    for _ in 1..1000 {
        house.hand(&parent, to("helper")).unwrap();
    }
    assert_eq!(house.hand(&parent, to("helper")).unwrap_err().reason, Reason::LimitExceeded);
    house.tasks.end(&first.id);
    house.hand(&parent, to("helper")).unwrap();
}
