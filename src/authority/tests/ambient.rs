use std::{sync::Arc, time::Duration};

use crate::{
    authority::{
        End, Registry,
        fixture::{DRAIN, House, LIFETIME, spec},
    },
    call::{Label, LimitRule, Mode, Task, Window},
    config::Status,
    refusal::{Reason, Refusal},
};

fn current(house: &House) -> Result<Arc<Task>, Refusal> {
    house.tasks.ambient(&house.registry, "triage-bot", "triage-issues", house.now())
}

#[test]
fn one_ambient_task_serves_until_its_time_is_up() {
    let house = House::new();
    let first = current(&house).unwrap();
    house.clock.advance(LIFETIME - Duration::from_secs(1));
    assert!(Arc::ptr_eq(&first, &current(&house).unwrap()));
    assert_eq!((&*first.principal.id, first.principal.verified), ("support@acme.example", false));
    house.clock.advance(Duration::from_secs(1));
    let second = current(&house).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(*house.events.told.lock(), ["started 1", "started 2 after 1"]);
}

#[test]
fn a_successor_inherits_labels_and_spent_limits() {
    let house = House::new();
    let rules = [LimitRule::calls("labels", 2, Window::Task)];
    let first = current(&house).unwrap();
    first.labels.add(&[Label::PrivateData]);
    house.tasks.reserve(&first, &rules, None, house.now().instant).unwrap().commit();
    house.clock.advance(LIFETIME);
    let second = current(&house).unwrap();
    assert_eq!(second.labels.list(), [Label::PrivateData]);
    house.tasks.reserve(&second, &rules, None, house.now().instant).unwrap().commit();
    house.clock.advance(LIFETIME);
    let third = current(&house).unwrap();
    assert!(house.tasks.reserve(&third, &rules, None, house.now().instant).is_err());
}

#[test]
fn what_draining_streams_touch_labels_the_successor() {
    let house = House::new();
    let first = current(&house).unwrap();
    house.clock.advance(LIFETIME);
    let second = current(&house).unwrap();
    first.labels.add(&[Label::UntrustedContent]);
    assert_eq!(current(&house).unwrap().labels.list(), [Label::UntrustedContent]);
    let version = second.labels.version();
    current(&house).unwrap();
    assert_eq!(second.labels.version(), version, "labelled once");
}

#[test]
fn an_ambient_tasks_streams_drain_before_they_are_cut() {
    let house = House::new();
    let first = current(&house).unwrap();
    house.clock.advance(LIFETIME);
    let second = current(&house).unwrap();
    house.tasks.sweep(house.now().instant);
    assert!(!first.ended.is_cancelled() && first.over(house.now().instant).is_some());
    house.clock.advance(DRAIN);
    house.tasks.sweep(house.now().instant);
    assert!(first.ended.is_cancelled() && !second.ended.is_cancelled());
}

#[test]
fn what_an_operator_ended_does_not_begin_again() {
    let house = House::new();
    let first = current(&house).unwrap();
    house.tasks.end(&first.id);
    for _ in 0..2 {
        assert_eq!(current(&house).unwrap_err().reason, Reason::TaskEnded);
        house.clock.advance(LIFETIME * 2);
        house.tasks.sweep(house.now().instant);
    }
}

#[test]
fn an_agent_that_is_active_again_is_served_again_with_what_it_has_touched() {
    let mut house = House::new();
    let first = current(&house).unwrap();
    first.labels.add(&[Label::PrivateData]);
    let mut all = spec();
    all.agents[0].status = Status::Suspended;
    house.registry = Registry::new(&all, Mode::Enforce);
    house.tasks.review(&house.registry, house.now());
    assert!(first.ended.is_cancelled());
    assert_eq!(current(&house).unwrap_err().reason, Reason::AgentSuspended);
    house.registry = Registry::new(&spec(), Mode::Enforce);
    assert_eq!(current(&house).unwrap().labels.list(), [Label::PrivateData]);
}

#[test]
fn another_ambient_workflow_ends_the_task_of_the_one_before() {
    let house = House::new();
    let first = current(&house).unwrap();
    first.labels.add(&[Label::PrivateData]);
    let other = house.tasks.ambient(&house.registry, "triage-bot", "other", house.now()).unwrap();
    assert!(first.ended.is_cancelled());
    assert_eq!(other.labels.list(), [Label::PrivateData], "the agent is the same");
    assert!(house.events.told.lock().contains(&format!("ended 1 {}", End::Replaced.as_str())));
    assert_eq!(house.tasks.ambient(&house.registry, "idle-bot", "other", house.now()).unwrap_err().reason, Reason::NotGranted);
}

#[test]
fn threads_that_come_together_get_one_successor() {
    let house = House::new();
    let first = current(&house).unwrap();
    house.clock.advance(LIFETIME);
    let barrier = std::sync::Barrier::new(8);
    let numbers: Vec<u64> = std::thread::scope(|s| {
        let come = || {
            barrier.wait();
            current(&house).unwrap().number
        };
        let threads: Vec<_> = (0..8).map(|_| s.spawn(come)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(numbers.iter().all(|n| *n == first.number + 1), "{numbers:?}");
}

#[test]
fn an_ambient_task_that_cannot_be_put_on_record_does_not_begin() {
    let house = House::new();
    *house.events.full.lock() = true;
    assert_eq!(current(&house).unwrap_err().reason, Reason::AuditUnavailable);
    *house.events.full.lock() = false;
    assert!(current(&house).is_ok());
}
