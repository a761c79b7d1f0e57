use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    authority::{
        Change, Delegate, End, Kept, Registry, Since, Tasks,
        fixture::{DRAIN, House, agent, grant, spec, workflow},
    },
    call::{Label, LimitRule, Mode, Observed, Offered, Principal, Task, TaskId, Window},
    clock::{Moment, SettableClock},
    config::{Attested, Status},
    refusal::Reason,
};

fn registry() -> Registry {
    let mut all = spec();
    all.workflows.push(workflow("helper-work", vec![grant(30, &["github.issues.*"], &[], &[])]));
    all.agents.push(agent("helper", &["helper-work"]));
    all.agents[0].delegates_to.push("helper".into());
    all.agents[0].attested = Some(Attested { models: Some(vec!["a".into()]), ..Attested::default() });
    Registry::new(&all, Mode::Enforce)
}

/// The same tasks in another process, which starts `later`.
fn again(house: &House, since: &[Value], later: Duration) -> House {
    let kept: Kept = serde_json::from_value(serde_json::to_value(house.tasks.kept()).unwrap()).unwrap();
    restored(kept, house.now(), since, later, house.now().utc).unwrap()
}

fn restored(kept: Kept, then: Moment, since: &[Value], later: Duration, last: OffsetDateTime) -> Result<House, String> {
    // A process of its own has a monotonic clock of its own.
    let moment = Moment { instant: std::time::Instant::now() + Duration::from_secs(77), utc: then.utc + later };
    let next = House { clock: Arc::new(SettableClock::at(moment)), ..House::new() };
    let tasks = Arc::new(Tasks::new(next.clock.clone(), next.events.clone(), DRAIN));
    let since: Vec<Since> = since.iter().map(|body| Since { body: body.clone(), before: false }).collect();
    tasks.restore(&registry(), kept, &since, last)?;
    let registry = registry().adopting(tasks.known()).0;
    Ok(House { tasks, registry, ..next })
}

fn house() -> House {
    let house = House::new();
    let registry = registry().adopting(house.tasks.known()).0;
    House { registry, ..house }
}

/// How many more calls pass.
fn left(house: &House, task: &Arc<Task>, key: &str, max: u64, window: Window) -> usize {
    let rule = [LimitRule::calls(key, max, window)];
    (0..max).filter(|_| house.tasks.reserve(task, &rule, None, house.now().instant).map(|r| r.commit()).is_ok()).count()
}

fn find(house: &House, id: &TaskId) -> Option<Arc<Task>> {
    house.tasks.by_id(id, house.now().instant).filter(|f| f.over.is_none()).map(|f| f.task)
}

#[test]
fn tasks_handles_children_labels_and_limits_are_as_before() {
    let house = house();
    let (task, handle) = house.start();
    let to = Delegate { agent: "helper".into(), workflow: "helper-work".into(), lifetime: None, grants: vec![] };
    let (child, childs) = house.tasks.delegate(&house.registry, &task.id, to, house.now()).unwrap();
    child.labels.add(&[Label::PrivateData]);
    child.succeeded.add(&"github.issues.get".into());
    for (key, window, n) in [("t", Window::Task, 3), ("a", Window::Agent, 4), ("s", Window::Seconds(100), 5)] {
        let rule = [LimitRule { link: Some(0), ..LimitRule::calls(key, 10, window) }];
        (0..n).for_each(|_| house.tasks.reserve(&task, &rule, None, house.now().instant).unwrap().commit());
    }
    let given_back = house.tasks.reserve(&task, &[LimitRule::calls("t", 10, Window::Task)], None, house.now().instant).unwrap();
    house.clock.advance(Duration::from_secs(60));
    given_back.cancel();

    let next = again(&house, &[], Duration::from_secs(20));
    let (now, was) = (find(&next, &task.id).unwrap(), &task);
    assert_eq!((&now.chain, &now.principal, now.expires(), now.started), (&was.chain, &was.principal, was.expires(), was.started));
    let lasts = now.deadline().duration_since(next.now().instant);
    assert!(lasts.abs_diff(Duration::from_secs(1800 - 80)) < Duration::from_millis(5), "{lasts:?}");
    for (handle, id) in [(handle, &task.id), (childs.expose().to_string(), &child.id)] {
        assert_eq!(next.tasks.by_handle(handle.as_bytes(), next.now().instant).unwrap().task.id, *id);
    }
    let part = find(&next, &child.id).unwrap();
    assert_eq!(part.parent.as_ref().unwrap().id, task.id);
    assert_eq!(now.labels.list(), [Label::PrivateData]);
    assert_eq!(now.succeeded.list(), ["github.issues.get".into()]);
    part.labels.add(&[Label::UntrustedContent]);
    assert_eq!(now.labels.list().len(), 2, "what the part touches, the whole has touched");
    assert_eq!((left(&next, &now, "t", 10, Window::Task), left(&next, &now, "a", 10, Window::Agent)), (7, 6));
    assert_eq!(left(&next, &now, "s", 10, Window::Seconds(100)), 5);
    next.clock.advance(Duration::from_secs(21));
    assert_eq!(left(&next, &now, "s", 10, Window::Seconds(100)), 10, "the window began before the restart and is over");
    assert!(next.tasks.end(&task.id));
    assert!(part.ended.is_cancelled(), "what ends above ends here");
}

#[test]
fn time_goes_on_while_remit_is_down_and_a_clock_set_back_lengthens_nothing() {
    let house = house();
    let (task, _) = house.start();
    let late = again(&house, &[], Duration::from_secs(1801));
    assert!(find(&late, &task.id).is_none());
    late.tasks.sweep(late.now().instant);
    assert_eq!(late.events.told.lock().pop(), Some("ended 1 expired".into()));

    let kept: Kept = serde_json::from_value(serde_json::to_value(house.tasks.kept()).unwrap()).unwrap();
    let back = Moment { utc: house.now().utc - Duration::from_secs(86_400), ..house.now() };
    let next = restored(kept, back, &[], Duration::ZERO, house.now().utc).unwrap();
    let lasts = find(&next, &task.id).unwrap().deadline().duration_since(next.now().instant);
    assert!(lasts <= Duration::from_secs(1801), "{lasts:?}");
}

#[test]
fn what_has_happened_since_is_read_from_the_record() {
    let house = house();
    let ((kept, _), (ended, _)) = (house.start(), house.start());
    let time = |seconds: i64| {
        (house.now().utc + Duration::from_secs(seconds as u64)).format(&time::format_description::well_known::Rfc3339).unwrap()
    };
    let decided = |task: &str, decision: &str, limit: Value| json!({"kind": "decision", "id": "d", "task": task, "time": time(1), "decision": decision, "limits": [limit]});
    let limit = json!({"key": "t", "window": "task"});
    let started = |id: &str, more: Value| {
        let mut body = json!({"kind": "task", "event": "started", "id": id, "time": time(1), "mode": "enforce", "agent": "triage-bot",
            "workflow": "triage-issues", "purpose": "p", "principal": {"id": "bob", "verified": true, "claims": {"a": 1}},
            "delegation": [{"kind": "principal", "id": "bob"}, {"kind": "agent", "id": "triage-bot", "workflow": "triage-issues", "grants": [{"effects": ["read"]}]}],
            "expires": time(600)});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let digest = "ab".repeat(32);
    let owner = json!({"id": "o@acme.example", "verified": false, "claims": {}});
    let records = [
        decided(kept.id.as_str(), "allow", limit.clone()),
        decided(kept.id.as_str(), "deny", limit.clone()),
        decided(kept.id.as_str(), "allow", json!({"key": "tokens", "window": "agent", "tokens": 70, "link": 0})),
        json!({"kind": "task", "event": "ended", "id": ended.id.as_str(), "time": time(1), "why": "asked"}),
        decided(ended.id.as_str(), "allow", limit),
        started("t-NEW", json!({})),
        json!({"kind": "event", "event": "handle", "data": {"task": "t-NEW", "sha256": digest}}),
        json!({"kind": "event", "event": "labels", "data": {"task": "t-NEW", "labels": ["private-data"]}}),
        json!({"kind": "event", "event": "succeeded", "data": {"task": "t-NEW", "operations": ["a.b", "c.d"]}}),
        started("t-PART", json!({"parent": "t-NEW", "agent": "helper", "workflow": "helper-work"})),
        started("t-INBOUND", json!({"trace": "4bf92f3577b34da6a3ce929d0e0e4736"})),
        started("t-ORPHAN", json!({"parent": ended.id.as_str()})),
        json!({"kind": "event", "event": "lifetime", "data": {"task": "t-NEW", "expires": time(300)}}),
        started("t-AMBIENT", json!({"principal": owner})),
        started("t-NEXT", json!({"principal": owner})),
        started("t-PROVEN", json!({})),
        json!({"kind": "event", "event": "succession", "data": {"task": "t-NEXT", "after": "t-AMBIENT"}}),
        json!({"kind": "event", "event": "observed", "data": {"agent": "triage-bot", "seen": {"models": ["b"]}}}),
        json!({"kind": "event", "event": "agent", "time": time(2), "data": {"agent": "idle-bot", "status": "suspended", "by": "uid 0", "reason": null}}),
        json!({"kind": "event", "event": "reload", "data": {}}),
        json!({"nonsense": [1, 2]}),
    ];
    let next = again(&house, &records, Duration::from_secs(10));
    assert_eq!(left(&next, &find(&next, &kept.id).unwrap(), "t", 10, Window::Task), 9, "what was refused took nothing");
    assert!(find(&next, &ended.id).is_none());
    let id = |text: &str| TaskId::from_text(text);
    let new = find(&next, &id("t-NEW")).unwrap();
    assert_eq!((&*new.principal.id, new.principal.verified, new.labels.list()), ("bob", true, vec![Label::PrivateData]));
    assert_eq!(new.chain[1].grants.as_ref().unwrap()[0], json!({"effects": ["read"]}));
    let lasts = new.deadline().duration_since(next.now().instant);
    assert!(lasts <= Duration::from_secs(290) && lasts > Duration::from_secs(285), "{lasts:?}");
    let part = find(&next, &id("t-PART")).unwrap();
    assert_eq!((part.labels.list(), part.succeeded.list().len()), (vec![Label::PrivateData], 2));
    assert!(find(&next, &id("t-INBOUND")).is_none() && find(&next, &id("t-ORPHAN")).is_none());
    let ambient = next.tasks.ambient(&next.registry, "triage-bot", "triage-issues", next.now()).unwrap();
    assert_eq!(ambient.id, id("t-NEXT"), "no other ambient task begins");
    let bob = Principal { id: "bob".into(), verified: true, claims: json!({"a": 1}) };
    let (agent, workflow) = ("triage-bot".into(), "triage-issues".into());
    let proven = next.tasks.of_proven(&next.registry, &agent, &workflow, Some((&bob, None)), next.now()).unwrap();
    assert_eq!(proven.id, id("t-PROVEN"), "nor another of one who proved for whom it acts");
    assert_eq!(&*next.registry.agent("triage-bot").unwrap().known.drift(), ["model: b".into()]);
    assert_eq!(next.registry.status("idle-bot", next.now().utc), Some(Reason::AgentSuspended));
    assert!(next.events.told.lock().is_empty(), "nobody is told again of what was told");
    let rule = [LimitRule { unit: crate::call::Unit::Tokens, link: Some(0), ..LimitRule::calls("tokens", 100, Window::Agent) }];
    let tokens = |n| next.tasks.reserve(&find(&next, &kept.id).unwrap(), &rule, Some(n), next.now().instant).map(|r| r.commit()).is_ok();
    assert!(!tokens(31) && tokens(30));
}

#[test]
fn what_a_person_set_outlasts_the_process() {
    let house = house();
    let change = |why: &str| Change { by: "uid 0".into(), reason: Some(why.into()), at: house.now().utc };
    let bot = house.registry.agent("triage-bot").unwrap();
    let asks = |model: &str| Observed { model: Some(Offered { name: Some(model.into()), ..Offered::default() }), source: None };
    assert_eq!(bot.known.observe(&asks("c")).differences.len(), 1);
    house.registry.agent("idle-bot").unwrap().known.set_status(Status::Retired, change("old"));
    let next = again(&house, &[], Duration::ZERO);
    assert_eq!(&*next.registry.agent("triage-bot").unwrap().known.drift(), ["model: c".into()]);
    assert_eq!(next.registry.status("idle-bot", next.now().utc), Some(Reason::AgentRetired));
    assert_eq!(next.registry.agent("idle-bot").unwrap().known.change(), Some(change("old")));
    house.registry.attest("triage-bot", Attested { models: Some(vec!["c".into()]), ..Attested::default() }, change("looked at it"));
    let next = again(&house, &[], Duration::ZERO);
    let bot = next.registry.agent("triage-bot").unwrap();
    assert!(bot.known.drift().is_empty() && bot.known.observe(&asks("c")).differences.is_empty());
    assert_eq!(bot.known.observe(&asks("d")).differences.len(), 1);
}

#[test]
fn what_an_agent_may_no_more_is_ended_after_the_restart() {
    let house = house();
    let (task, _) = house.start();
    let next = again(&house, &[], Duration::ZERO);
    assert_eq!(next.tasks.review(&Registry::default(), next.now()), 1);
    assert_eq!(next.events.told.lock().pop(), Some(format!("ended 1 {}", End::Withdrawn.as_str())));
    assert!(find(&next, &task.id).is_none());
}

#[test]
fn what_contradicts_itself_is_refused() {
    let house = house();
    house.start();
    let whole = serde_json::to_value(house.tasks.kept()).unwrap();
    for (pointer, value) in
        [("/tasks/0/past", json!(7)), ("/tasks/0/spent", json!(7)), ("/tasks/0/parent", json!("t-GONE")), ("/tasks/0/handle", json!("zz"))]
    {
        let mut broken = whole.clone();
        if let Some(place) = broken.pointer_mut(pointer) {
            *place = value;
        } else {
            broken["tasks"][0].as_object_mut().unwrap().insert("parent".into(), value);
        }
        let kept = serde_json::from_value(broken).unwrap();
        assert!(restored(kept, house.now(), &[], Duration::ZERO, house.now().utc).is_err(), "{pointer}");
    }
}
