//! The log as it is written: law 4, many at once, rotation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is test code")]

mod audit_support;

use std::{sync::Arc, time::Duration};

use audit_support::{Dir, Sample, bodies, call, config, files, law_4, new_id, open, outcome, runtime, task, verified};
use remit::{
    audit::{Audit, Durability, TaskRecord, Verify},
    call::Recorder,
    refusal::Reason,
};

#[test]
fn a_decision_stands_before_its_outcome_and_each_once() {
    let dir = Dir::new("pairs");
    let head = runtime(2).block_on(async {
        let audit = open(&dir.0);
        let sample = Sample::default();
        audit.task(&TaskRecord::Started(&task()));
        for durability in [Durability::Buffered, Durability::Synced] {
            call(&audit, &sample, durability).await.unwrap();
        }
        audit.close()
    });
    assert_eq!(law_4(&dir.log()), 2);
    let report = verified(&dir.0);
    let chain = &report.chains[0];
    assert!(chain.closed && chain.tail == 0 && !chain.live, "{chain:?}");
    assert_eq!((chain.sealed, chain.head.clone().unwrap()), (head.seq, head.to_string()));
    let kinds: Vec<String> = bodies(&dir.log()).iter().map(|b| b["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["open", "task", "decision", "outcome", "decision", "outcome", "close"]);
}

#[test]
fn what_decision_returned_for_is_in_the_file() {
    let dir = Dir::new("before");
    runtime(2).block_on(async {
        let audit = open(&dir.0);
        let sample = Sample::default();
        for n in 1..=20 {
            let durability = if n % 2 == 0 { Durability::Synced } else { Durability::Buffered };
            let id = new_id();
            audit.decision(&sample.record(id), durability).await.unwrap();
            let text = std::fs::read_to_string(&files(&dir.log())[0]).unwrap();
            assert!(text.contains(&id.to_string()), "decision {n} is not in the file when it returns");
            audit.outcome(&outcome(id));
        }
    });
    assert_eq!(law_4(&dir.log()), 20);
}

#[test]
fn an_outcome_is_written_soon_without_anybody_waiting() {
    let dir = Dir::new("idle");
    runtime(1).block_on(async {
        let audit = open(&dir.0);
        let sample = Sample::default();
        for _ in 0..5 {
            let id = call(&audit, &sample, Durability::Buffered).await.unwrap();
            tokio::time::sleep(Duration::from_millis(150)).await;
            let text = std::fs::read_to_string(&files(&dir.log())[0]).unwrap();
            assert_eq!(text.matches(&id.to_string()).count(), 2);
            assert_eq!(audit.backlog(), 0);
        }
    });
}

#[test]
fn a_busy_log_is_signed_every_second_and_says_how_far() {
    let dir = Dir::new("seal");
    runtime(2).block_on(async {
        let audit = open(&dir.0);
        let sample = Sample::default();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(2500) {
            call(&audit, &sample, Durability::Buffered).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let report = verified(&dir.0);
        let chain = &report.chains[0];
        assert!(chain.live && !chain.closed && chain.sealed > 50, "{chain:?}");
        let seals = bodies(&dir.log()).iter().filter(|b| b["kind"] == "checkpoint").count();
        assert!((2..=3).contains(&seals), "{seals} checkpoints in 2.5 s");
    });
}

#[test]
fn a_hundred_thousand_records_from_many_tasks_make_one_whole_chain() {
    let dir = Dir::new("many");
    let runtime = runtime(2);
    runtime.block_on(async {
        let audit = open(&dir.0);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..100u32 {
            let audit = audit.clone();
            tasks.spawn(async move {
                let sample = Sample::default();
                for _ in 0..500 {
                    call(&audit, &sample, if n % 10 == 0 { Durability::Synced } else { Durability::Buffered }).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        audit.close();
    });
    let report = verified(&dir.0);
    let chain = &report.chains[0];
    assert_eq!((chain.decisions, chain.outcomes, chain.open, chain.orphans), (50_000, 50_000, 0, 0));
    assert_eq!(law_4(&dir.log()), 50_000);
}

#[test]
fn a_log_rotates_signed_and_goes_on() {
    let dir = Dir::new("rotate");
    runtime(2).block_on(async {
        let mut config = config(&dir.0);
        config.rotate_size = 64 << 10;
        let audit = Audit::open(&config).unwrap();
        let sample = Arc::new(Sample::default());
        while files(&dir.log()).len() < 4 {
            call(&audit, &sample, Durability::Buffered).await.unwrap();
        }
    });
    let all = files(&dir.log());
    for file in &all[..all.len() - 1] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.lines().last().unwrap().contains(r#""kind":"rotate""#), "{} does not end signed", file.display());
    }
    law_4(&dir.log());
    let report = verified(&dir.0);
    assert_eq!((report.chains.len(), report.chains[0].first, report.chains[0].closed), (1, 1, true));

    // Without its first file it says so, and is still verified; without one between it is not.
    std::fs::remove_file(&all[0]).unwrap();
    assert!(verified(&dir.0).chains[0].first > 1);
    std::fs::remove_file(&all[2]).unwrap();
    let report = Verify { paths: vec![dir.log()], ..Default::default() }.run().unwrap();
    assert!(report.fault().unwrap().message.contains("there is no file 3"), "{report:?}");
}

#[test]
fn a_closed_log_takes_no_decision_and_loses_no_outcome() {
    let dir = Dir::new("closed");
    runtime(1).block_on(async {
        let audit = open(&dir.0);
        let sample = Sample::default();
        let late = new_id();
        audit.decision(&sample.record(late), Durability::Buffered).await.unwrap();
        audit.close();
        assert_eq!(call(&audit, &sample, Durability::Buffered).await.unwrap_err().reason, Reason::AuditUnavailable);
        audit.outcome(&outcome(late));
    });
    assert_eq!(law_4(&dir.log()), 1);
    let report = verified(&dir.0);
    assert_eq!((report.chains[0].closed, report.chains[0].tail), (false, 1));
}

#[test]
fn closing_leaves_nobody_waiting() {
    for round in 0..20u64 {
        let dir = Dir::new("close");
        let counts = runtime(2).block_on(async {
            let audit = open(&dir.0);
            let mut tasks = tokio::task::JoinSet::new();
            for n in 0..16 {
                let audit = audit.clone();
                tasks.spawn(async move {
                    let sample = Sample::default();
                    let durability = if n % 2 == 0 { Durability::Synced } else { Durability::Buffered };
                    let mut done = 0;
                    while call(&audit, &sample, durability).await.is_ok() {
                        done += 1;
                    }
                    done
                });
            }
            tokio::time::sleep(Duration::from_millis(3 + round)).await;
            let closing = audit.clone();
            tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
            let all =
                tokio::time::timeout(Duration::from_secs(5), tasks.join_all()).await.expect("a call still waits after the log was closed");
            all.into_iter().sum::<usize>()
        });
        assert!(law_4(&dir.log()) >= counts);
        verified(&dir.0);
    }
}
