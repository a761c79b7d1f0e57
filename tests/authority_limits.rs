//! Limits hold under concurrency: of any number of calls at once, exactly as many pass as may.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use remit::{
    authority::{NoEvents, Registry, Start, Tasks},
    call::{LimitRule, Mode, Principal, Task, Window},
    clock::{Moment, SystemClock},
    config::{AgentSpec, GrantSpec, OnDrift, Place, RegistrySpec, Status, WorkflowSpec},
};

const THREADS: usize = 16;
const CALLS: usize = 100_000;

fn registry() -> Registry {
    let agent = AgentSpec {
        id: "bot".into(),
        owner: "o@acme.example".into(),
        spiffe_id: None,
        identities: vec![],
        status: Status::Active,
        expires: None,
        workflows: vec!["w".into()],
        delegates_to: vec![],
        attested: None,
        on_drift: OnDrift::Record,
        review: Default::default(),
        mode: None,
        limits: vec![],
        place: Place::default(),
    };
    let workflow = WorkflowSpec {
        id: "w".into(),
        purpose: "p".into(),
        max_lifetime: Duration::from_secs(3600),
        grants: Vec::<GrantSpec>::new(),
        credential: None,
        mode: None,
        quiet: false,
        limits: vec![],
        place: Place::default(),
    };
    Registry::new(&RegistrySpec { agents: vec![agent], workflows: vec![workflow] }, Mode::Enforce)
}

fn tasks() -> Tasks {
    Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::from_secs(30))
}

fn start(tasks: &Tasks, registry: &Registry) -> Arc<Task> {
    let principal = Principal { id: "alice".into(), verified: false, claims: serde_json::json!({}) };
    let start = Start::new("bot", "w", principal);
    tasks.start(registry, start, Moment::now()).unwrap().0
}

fn rule(key: &str, max: u64, window: Window) -> LimitRule {
    LimitRule::calls(key, max, window)
}

/// Runs `call(thread, i)` from all threads at once, `CALLS` times in all; counts how many said yes.
fn storm(call: impl Fn(usize, usize) -> bool + Sync) -> u64 {
    let (barrier, passed) = (Barrier::new(THREADS), AtomicU64::new(0));
    std::thread::scope(|s| {
        for thread in 0..THREADS {
            let (barrier, passed, call) = (&barrier, &passed, &call);
            s.spawn(move || {
                barrier.wait();
                let yes = (0..CALLS / THREADS).filter(|i| call(thread, *i)).count();
                passed.fetch_add(yes as u64, Ordering::Relaxed);
            });
        }
    });
    passed.into_inner()
}

#[test]
fn of_a_hundred_thousand_concurrent_calls_exactly_n_pass() {
    let (tasks, registry) = (tasks(), registry());
    let now = Instant::now();
    for n in [0, 1, 7, 5_000, 99_999, 200_000] {
        let task = start(&tasks, &registry);
        let rules = [rule("n", n, Window::Task)];
        let passed = storm(|_, _| tasks.reserve(&task, &rules, None, now).map(remit::authority::Reservation::commit).is_ok());
        assert_eq!(passed, n.min(CALLS as u64));
    }
}

#[test]
fn a_window_lets_exactly_n_through_over_all_of_an_agents_tasks() {
    let (tasks, registry) = (tasks(), registry());
    let all: Vec<_> = (0..THREADS).map(|_| start(&tasks, &registry)).collect();
    let rules = [rule("n", 1_234, Window::Seconds(3600))];
    let now = Instant::now();
    let passed = storm(|thread, _| tasks.reserve(&all[thread], &rules, None, now).map(remit::authority::Reservation::commit).is_ok());
    assert_eq!(passed, 1_234);
}

#[test]
fn calls_that_give_back_and_calls_under_other_rules_take_nothing_away() {
    let (tasks, registry) = (tasks(), registry());
    let task = start(&tasks, &registry);
    let now = Instant::now();
    let (narrow, wide, rate) =
        (rule("narrow", 300, Window::Task), rule("wide", 1_000, Window::Task), rule("rate", 1_000_000, Window::Seconds(3600)));
    let both = [wide.clone(), rate, narrow];
    let passed = storm(|thread, i| match tasks.reserve(&task, &both, None, now) {
        Ok(reservation) if (thread + i) % 2 == 0 => {
            drop(reservation);
            false
        }
        Ok(reservation) => {
            reservation.commit();
            true
        }
        Err(_) => false,
    });
    assert_eq!(passed, 300);
    // every refused and every given-back call left the wide rule and the rate as they were
    let rest =
        storm(|_, _| tasks.reserve(&task, std::slice::from_ref(&wide), None, now).map(remit::authority::Reservation::commit).is_ok());
    assert_eq!(rest, 700);
    let left = [rule("rate", 301, Window::Seconds(3600))];
    assert!(tasks.reserve(&task, &left, None, now).is_ok_and(|r| {
        r.commit();
        true
    }));
    assert!(tasks.reserve(&task, &left, None, now).is_err());
}

#[test]
fn a_call_that_comes_as_its_task_ends_passes_before_or_not_at_all() {
    let (tasks, registry) = (tasks(), registry());
    let rules = [rule("n", u64::MAX, Window::Task)];
    for _ in 0..50 {
        let task = start(&tasks, &registry);
        std::thread::scope(|s| {
            let call = s.spawn(|| {
                // refused from some call on, and then for good
                let answers: Vec<bool> = (0..2_000).map(|_| tasks.reserve(&task, &rules, None, Instant::now()).map(drop).is_ok()).collect();
                let first = answers.iter().position(|a| !a).unwrap_or(answers.len());
                assert!(answers[first..].iter().all(|a| !a));
            });
            assert!(tasks.end(&task.id));
            assert!(tasks.reserve(&task, &rules, None, Instant::now()).is_err());
            call.join().unwrap();
        });
    }
}
