use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    authority::{
        End, NoEvents, Registry, Start, Tasks,
        fixture::{DRAIN, House, LIFETIME, spec, triage},
    },
    call::{LinkKind, Mode, TaskId},
    clock::SystemClock,
    config::{ModeSpec, Status},
    refusal::Reason,
};

#[test]
fn a_task_is_found_by_its_handle_and_its_id() {
    let house = House::new();
    let (task, handle) = house.start();
    let now = house.now().instant;
    assert!(Arc::ptr_eq(&house.tasks.by_handle(handle.as_bytes(), now).unwrap().task, &task));
    assert!(Arc::ptr_eq(&house.tasks.by_id(&task.id, now).unwrap().task, &task));
    let (other, _) = house.start();
    assert!(!Arc::ptr_eq(&task, &other) && task.number != other.number && task.id != other.id);
    assert!(house.tasks.by_handle(task.id.as_str().as_bytes(), now).is_none(), "the id is no handle");
    assert!(house.tasks.by_handle(&[b'A'; 43], now).is_none());
    assert!(house.tasks.by_id(&TaskId::from_text("t-none"), now).is_none());
    assert_eq!(house.tasks.list().iter().map(|t| t.number).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_task_says_who_it_is_for_and_through_whom() {
    let house = House::new();
    let start = Start { grants: vec![json!({"where": {"repo": "web"}})], ..triage() };
    let (task, _) = house.tasks.start(&house.registry, start, house.now()).unwrap();
    assert_eq!(&*task.purpose, "Label and answer new issues");
    let [principal, agent] = &task.chain[..] else { panic!("{:?}", task.chain) };
    assert_eq!((principal.kind, &*principal.id, &principal.workflow), (LinkKind::Principal, "alice@acme.example", &None));
    assert_eq!((agent.kind, &*agent.id, agent.workflow.as_deref()), (LinkKind::Agent, "triage-bot", Some("triage-issues")));
    assert_eq!(agent.grants.as_ref().map(Vec::len), Some(3));
    assert_eq!(task.expires() - task.started, time::Duration::try_from(LIFETIME).unwrap());
}

#[test]
fn a_task_lives_no_longer_than_workflow_agent_and_mode_allow() {
    let house = House::new();
    let now = house.now();
    let secs = Duration::from_secs;
    let life = |registry: &Registry, lifetime| {
        house.tasks.start(registry, Start { lifetime, ..triage() }, now).map(|(task, _)| (task.deadline() - now.instant, task.mode))
    };
    assert_eq!(life(&house.registry, Some(secs(60))), Ok((secs(60), Mode::Enforce)));
    assert_eq!(life(&house.registry, None), Ok((LIFETIME, Mode::Enforce)));
    for bad in [Duration::ZERO, LIFETIME + Duration::from_millis(1)] {
        assert_eq!(life(&house.registry, Some(bad)).unwrap_err().reason, Reason::NotGranted);
    }
    let mut all = spec();
    all.agents[0].expires = Some(now.utc + secs(100));
    assert_eq!(life(&Registry::new(&all, Mode::Enforce), None), Ok((secs(100), Mode::Enforce)));
    all.workflows[0].mode = Some(ModeSpec { mode: Mode::Observe, until: Some(now.utc + secs(50)) });
    assert_eq!(life(&Registry::new(&all, Mode::Enforce), None), Ok((secs(50), Mode::Observe)));
}

#[test]
fn only_an_active_agent_starts_tasks_and_only_of_its_workflows() {
    let house = House::new();
    let mut all = spec();
    let try_start = |all: &_, agent: &str, workflow: &str| {
        let start = Start { agent: agent.into(), workflow: workflow.into(), ..triage() };
        house.tasks.start(&Registry::new(all, Mode::Enforce), start, house.now()).map(drop).map_err(|r| r.reason)
    };
    assert_eq!(try_start(&all, "triage-bot", "other"), Ok(()));
    assert_eq!(try_start(&all, "nobody", "triage-issues"), Err(Reason::UnknownAgent));
    assert_eq!(try_start(&all, "idle-bot", "triage-issues"), Err(Reason::NotGranted));
    assert_eq!(try_start(&all, "triage-bot", "missing"), Err(Reason::NotGranted));
    all.agents[0].status = Status::Suspended;
    assert_eq!(try_start(&all, "triage-bot", "other"), Err(Reason::AgentSuspended));
    all.agents[0].status = Status::Retired;
    assert_eq!(try_start(&all, "triage-bot", "other"), Err(Reason::AgentRetired));
}

#[test]
fn wider_grants_start_nothing() {
    let house = House::new();
    let start = Start { grants: vec![json!({"intents": ["openai.*"]})], ..triage() };
    assert_eq!(house.tasks.start(&house.registry, start, house.now()).unwrap_err().reason, Reason::DelegationInvalid);
    assert!(house.tasks.list().is_empty() && house.events.told.lock().is_empty());
}

#[test]
fn ending_cancels_once_and_is_told_and_remembered() {
    let house = House::new();
    let (task, handle) = house.start();
    let open = task.ended.clone();
    assert!(house.tasks.end(&task.id));
    assert!(open.is_cancelled());
    assert!(!house.tasks.end(&task.id), "a task ends once");
    assert!(!house.tasks.end(&TaskId::from_text("t-none")));
    let found = house.tasks.by_handle(handle.as_bytes(), house.now().instant).unwrap();
    assert_eq!(found.over, Some(Reason::TaskEnded));
    assert!(house.tasks.list().is_empty());
    assert_eq!(house.tasks.active(), 0);
    assert_eq!(*house.events.told.lock(), ["started 1", "ended 1 asked"]);
}

#[test]
fn time_ends_tasks_and_the_sweep_says_when_to_come_again() {
    let house = House::new();
    let start = |secs| {
        let start = Start { lifetime: Some(Duration::from_secs(secs)), ..triage() };
        let (task, handle) = house.tasks.start(&house.registry, start, house.now()).unwrap();
        (task, handle.expose().to_string())
    };
    let (long, _) = start(20);
    let (short, handle) = start(10);
    assert_eq!(house.tasks.sweep(house.now().instant), Some(short.deadline()));
    house.clock.advance(Duration::from_secs(10));
    // refused from its deadline on, swept or not
    let over = || house.tasks.by_handle(handle.as_bytes(), house.now().instant).unwrap().over;
    assert_eq!(over(), Some(Reason::TaskExpired));
    assert!(!short.ended.is_cancelled());
    assert_eq!(house.tasks.sweep(house.now().instant), Some(long.deadline()));
    assert!(short.ended.is_cancelled() && !long.ended.is_cancelled());
    assert_eq!((over(), short.over(house.now().instant)), (Some(Reason::TaskExpired), Some(Reason::TaskExpired)));
    house.tasks.end(&long.id);
    assert_eq!(house.tasks.sweep(house.now().instant), None);
    assert_eq!(*house.events.told.lock(), ["started 1", "started 2", "ended 2 expired", "ended 1 asked"]);
}

#[test]
fn a_task_that_cannot_be_put_on_record_does_not_begin() {
    let house = House::new();
    *house.events.full.lock() = true;
    let refusal = house.tasks.start(&house.registry, triage(), house.now()).unwrap_err();
    assert_eq!(refusal.reason, Reason::AuditUnavailable);
    assert!(house.tasks.list().is_empty());
    assert_eq!(house.tasks.sweep(house.now().instant), None);
}

#[test]
fn a_reload_that_takes_agent_or_workflow_away_ends_their_tasks() {
    let house = House::new();
    let (kept, _) = house.tasks.start(&house.registry, Start { workflow: "other".into(), ..triage() }, house.now()).unwrap();
    let (lost, _) = house.start();
    assert_eq!(house.tasks.review(&house.registry, house.now()), 0);
    let mut all = spec();
    all.agents[0].workflows.remove(0);
    assert_eq!(house.tasks.review(&Registry::new(&all, Mode::Enforce), house.now()), 1);
    assert!(lost.ended.is_cancelled() && !kept.ended.is_cancelled());
    all.agents[0].status = Status::Suspended;
    assert_eq!(house.tasks.review(&Registry::new(&all, Mode::Enforce), house.now()), 1);
    assert!(kept.ended.is_cancelled());
    assert!(house.events.told.lock().contains(&"ended 1 withdrawn".to_string()));
}

#[test]
fn a_reload_that_ends_observing_ends_the_tasks_that_observe() {
    let house = House::new();
    let observing = Registry::new(&spec(), Mode::Observe);
    let (observer, _) = house.tasks.start(&observing, triage(), house.now()).unwrap();
    let (enforced, _) = house.start();
    assert_eq!(house.tasks.review(&observing, house.now()), 0, "one that enforces may go on where observing is allowed");
    assert_eq!(house.tasks.review(&house.registry, house.now()), 1);
    assert!(observer.ended.is_cancelled() && !enforced.ended.is_cancelled());
}

#[test]
fn a_reload_that_shortens_a_life_cuts_it_then_and_one_that_lengthens_it_changes_nothing() {
    let house = House::new();
    let secs = Duration::from_secs;
    let ((a, handle), now) = (house.start(), house.now());
    let mut all = spec();
    all.workflows[0].max_lifetime = secs(600);
    house.clock.advance(secs(100));
    assert_eq!(house.tasks.review(&Registry::new(&all, Mode::Enforce), house.now()), 0);
    assert_eq!(house.tasks.sweep(house.now().instant), Some(now.instant + secs(600)));
    all.agents[0].expires = Some(now.utc + secs(300));
    house.tasks.review(&Registry::new(&all, Mode::Enforce), house.now());
    house.tasks.review(&house.registry, house.now());
    assert_eq!(house.tasks.sweep(house.now().instant), Some(now.instant + secs(300)));
    house.clock.advance(secs(200));
    assert_eq!(house.tasks.sweep(house.now().instant), None);
    assert!(a.ended.is_cancelled());
    assert_eq!(house.tasks.by_handle(handle.as_bytes(), house.now().instant).unwrap().over, Some(Reason::TaskExpired));
    // a life that would be over already ends at once
    let (b, _) = house.start();
    house.clock.advance(secs(100));
    all.agents[0].expires = None;
    all.workflows[0].max_lifetime = secs(60);
    assert_eq!(house.tasks.review(&Registry::new(&all, Mode::Enforce), house.now()), 1);
    assert!(b.ended.is_cancelled());
}

#[test]
fn an_agents_tasks_end_together() {
    let house = House::new();
    let tasks: Vec<_> = (0..5).map(|_| house.start().0).collect();
    assert_eq!(house.tasks.end_agent("idle-bot", End::Withdrawn), 0);
    assert_eq!(house.tasks.end_agent("triage-bot", End::Withdrawn), 5);
    assert!(tasks.iter().all(|t| t.ended.is_cancelled()));
}

#[test]
fn old_tasks_are_forgotten_in_the_order_they_ended() {
    let house = House::new();
    let tasks: Vec<_> = (0..10_005).map(|_| house.start()).collect();
    tasks.iter().for_each(|(t, _)| assert!(house.tasks.end(&t.id)));
    let known = |i: usize| house.tasks.by_handle(tasks[i].1.as_bytes(), house.now().instant).is_some();
    assert!(!known(0) && !known(4) && known(5) && known(10_004));
    assert!(house.tasks.by_id(&tasks[0].0.id, house.now().instant).is_none());
}

#[tokio::test]
async fn the_sweeper_ends_tasks_at_their_deadline_also_ones_started_later() {
    let tasks = Arc::new(Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), DRAIN));
    let registry = Registry::new(&spec(), Mode::Enforce);
    let shutdown = CancellationToken::new();
    let sweeper = tokio::spawn({
        let (tasks, shutdown) = (tasks.clone(), shutdown.clone());
        async move { tasks.sweep_until(shutdown).await }
    });
    tokio::task::yield_now().await;
    let start = |ms| Start { lifetime: Some(Duration::from_millis(ms)), ..triage() };
    let now = crate::clock::Moment::now();
    let (long, _) = tasks.start(&registry, start(60_000), now).unwrap();
    tokio::task::yield_now().await;
    let (short, _) = tasks.start(&registry, start(30), now).unwrap();
    tokio::time::timeout(Duration::from_secs(10), short.ended.cancelled()).await.unwrap();
    assert!(std::time::Instant::now() >= short.deadline() && !long.ended.is_cancelled());
    shutdown.cancel();
    sweeper.await.unwrap();
}
