use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::{Strategy, any, prop};

use crate::{
    authority::{
        Reservation,
        fixture::{House, triage},
        limits::{Counters, Draw, reserve},
    },
    call::{LimitRule, Window},
    refusal::Reason,
};

fn rule(key: &str, max: u64, window: Window) -> LimitRule {
    LimitRule::calls(key, max, window)
}

#[test]
fn a_limit_per_task_is_spent_once_and_not_restored() {
    let house = House::new();
    let (task, _) = house.start();
    let rules = [rule("labels", 2, Window::Task)];
    let reserve = || house.tasks.reserve(&task, &rules, None, house.now().instant);
    reserve().unwrap().commit();
    reserve().unwrap().commit();
    let refusal = reserve().unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::LimitExceeded, None));
    assert_eq!(refusal.detail, "the limit `labels` of 2 per task is spent");
    // another task of the same agent has its own
    let (other, _) = house.start();
    house.tasks.reserve(&other, &rules, None, house.now().instant).unwrap().commit();
}

#[test]
fn a_window_counts_over_all_of_an_agents_tasks_and_time_restores_it() {
    let house = House::new();
    let (a, _) = house.start();
    let (b, _) = house.start();
    let rules = [rule("rate", 2, Window::Seconds(60))];
    house.tasks.reserve(&a, &rules, None, house.now().instant).unwrap().commit();
    house.clock.advance(Duration::from_secs(20));
    house.tasks.reserve(&b, &rules, None, house.now().instant).unwrap().commit();
    let refusal = house.tasks.reserve(&a, &rules, None, house.now().instant).unwrap_err();
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(40)));
    house.clock.advance(Duration::from_secs(40));
    house.tasks.reserve(&a, &rules, None, house.now().instant).unwrap().commit();
}

#[test]
fn only_what_was_not_sent_is_given_back() {
    let house = House::new();
    let (task, _) = house.start();
    let rules = [rule("one", 1, Window::Task)];
    let reserve = || house.tasks.reserve(&task, &rules, None, house.now().instant);
    drop(reserve().unwrap());
    reserve().unwrap().cancel();
    let sent = reserve().unwrap();
    sent.sent();
    sent.cancel();
    assert_eq!(reserve().unwrap_err().reason, Reason::LimitExceeded);
}

#[test]
fn what_is_given_back_late_is_not_taken_from_a_new_window() {
    let house = House::new();
    let (task, _) = house.start();
    let rules = [rule("rate", 1, Window::Seconds(10))];
    let old = house.tasks.reserve(&task, &rules, None, house.now().instant).unwrap();
    house.clock.advance(Duration::from_secs(10));
    house.tasks.reserve(&task, &rules, None, house.now().instant).unwrap().commit();
    old.cancel();
    assert!(house.tasks.reserve(&task, &rules, None, house.now().instant).is_err());
}

#[test]
fn all_rules_or_none() {
    let house = House::new();
    let (task, _) = house.start();
    let now = house.now().instant;
    let (wide, tight, rate) = (rule("wide", 2, Window::Task), rule("tight", 1, Window::Task), rule("rate", 9, Window::Seconds(60)));
    house.tasks.reserve(&task, std::slice::from_ref(&tight), None, now).unwrap().commit();
    for _ in 0..5 {
        assert!(house.tasks.reserve(&task, &[wide.clone(), rate.clone(), tight.clone()], None, now).is_err());
    }
    // none of the five took from the wide one or the rate
    for _ in 0..2 {
        house.tasks.reserve(&task, &[wide.clone(), rate.clone()], None, now).unwrap().commit();
    }
    for _ in 0..7 {
        house.tasks.reserve(&task, std::slice::from_ref(&rate), None, now).unwrap().commit();
    }
    assert!(house.tasks.reserve(&task, std::slice::from_ref(&rate), None, now).is_err());
}

#[test]
fn a_call_of_several_intents_takes_one_for_each() {
    let house = House::new();
    let (task, _) = house.start();
    let now = house.now().instant;
    let rate = rule("rate", 2, Window::Seconds(60));
    let refusal = house.tasks.reserve(&task, &[rate.clone(), rate.clone(), rate.clone()], None, now).unwrap_err();
    assert_eq!(refusal.retry_after, None, "no window would let three through at once");
    house.tasks.reserve(&task, &[rate.clone(), rate.clone()], None, now).unwrap().commit();
    assert!(house.tasks.reserve(&task, &[rate], None, now).unwrap_err().retry_after.is_some());
}

#[test]
fn a_limit_of_zero_lets_nothing_through() {
    let house = House::new();
    let (task, _) = house.start();
    for window in [Window::Task, Window::Seconds(1)] {
        assert_eq!(house.tasks.reserve(&task, &[rule("no", 0, window)], None, house.now().instant).unwrap_err().retry_after, None);
    }
}

#[test]
fn a_task_that_is_over_has_no_limits_left() {
    let house = House::new();
    let (task, _) = house.start();
    let (other, _) = house.start();
    house.tasks.end(&task.id);
    for rules in [&[][..], &[rule("x", 9, Window::Task)]] {
        assert_eq!(house.tasks.reserve(&task, rules, None, house.now().instant).unwrap_err().reason, Reason::TaskEnded);
    }
    assert!(house.tasks.reserve(&other, &[], None, house.now().instant).is_ok());
    house.clock.advance(Duration::from_secs(3600));
    assert_eq!(house.tasks.reserve(&other, &[], None, house.now().instant).unwrap_err().reason, Reason::TaskExpired);
}

#[test]
fn keys_are_bounded_and_windows_that_are_over_make_room() {
    let house = House::new();
    let (task, _) = house.tasks.start(&house.registry, triage(), house.now()).unwrap();
    let take = |i: usize, window| {
        house.tasks.reserve(&task, &[rule(&format!("k{i}"), 1, window)], None, house.now().instant).map(Reservation::commit)
    };
    for i in 0..4096 {
        take(i, Window::Seconds(60)).unwrap();
    }
    assert!(take(4096, Window::Seconds(60)).unwrap_err().detail.contains("cannot be counted"));
    assert!(take(0, Window::Seconds(60)).is_err(), "what was spent stays spent");
    house.clock.advance(Duration::from_secs(61));
    for i in 5000..9000 {
        take(i, Window::Seconds(60)).unwrap();
    }
}

/// What a limit means, written the plain way: a list of the calls that count.
#[derive(Default)]
struct Plain(HashMap<(Box<str>, Window), (Instant, Vec<u64>)>);

impl Plain {
    fn reserve(&mut self, rules: &[LimitRule], call: u64, now: Instant) -> bool {
        for r in rules {
            let entry = self.0.entry((r.key.clone(), r.window)).or_insert((now, vec![]));
            let over = matches!(r.window, Window::Seconds(s) if now >= entry.0 + Duration::from_secs(s));
            if over || entry.1.is_empty() {
                *entry = (now, vec![]);
            }
        }
        let fits = rules.iter().all(|r| {
            let asked = rules.iter().filter(|o| o.key == r.key && o.window == r.window).count();
            (self.0[&(r.key.clone(), r.window)].1.len() + asked) as u64 <= r.max
        });
        if fits {
            for r in rules {
                self.0.get_mut(&(r.key.clone(), r.window)).unwrap().1.push(call);
            }
        }
        fits
    }

    fn cancel(&mut self, call: u64) {
        self.0.values_mut().for_each(|(_, calls)| calls.retain(|c| *c != call));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(Vec<usize>),
    Cancel(usize),
    Send(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = proptest::prop_oneof![
        4 => prop::collection::vec(0usize..5, 1..4).prop_map(Step::Reserve),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Send),
        1 => (0u64..8).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1000))]

    #[test]
    fn counts_are_those_of_the_plain_way(steps in steps()) {
        let rules = [
            rule("a", 3, Window::Task),
            rule("b", 1, Window::Task),
            rule("a", 2, Window::Seconds(5)),
            rule("c", 4, Window::Seconds(3)),
            rule("a", 2, Window::Task),
        ];
        let (task, agent) = (Arc::<Counters>::default(), Arc::<Counters>::default());
        let mut plain = Plain::default();
        let mut now = Instant::now();
        let mut open: Vec<(u64, Reservation)> = vec![];
        for (call, step) in (0u64..).zip(steps) {
            match step {
                Step::Reserve(picked) => {
                    let rules: Vec<LimitRule> = picked.iter().map(|i| rules[*i].clone()).collect();
                    let got = {
                        let from = |r: &LimitRule| if r.window == Window::Task { &task } else { &agent };
                        let draws: Vec<Draw<'_>> = rules.iter().map(|rule| Draw { rule, from: from(rule) }).collect();
                        reserve(&draws, None, now)
                    };
                    proptest::prop_assert_eq!(got.is_ok(), plain.reserve(&rules, call, now));
                    open.extend(got.ok().map(|r| (call, r)));
                }
                Step::Cancel(i) if !open.is_empty() => {
                    let (call, reservation) = open.swap_remove(i % open.len());
                    reservation.cancel();
                    plain.cancel(call);
                }
                Step::Send(i) if !open.is_empty() => open.swap_remove(i % open.len()).1.commit(),
                Step::Wait(s) => now += Duration::from_secs(s),
                Step::Cancel(_) | Step::Send(_) => {}
            }
        }
    }
}
