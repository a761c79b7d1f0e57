//! A process that dies leaves a log that verifies, and its calls get their outcome once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is test code")]

mod audit_support;

use std::{
    collections::HashSet,
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use audit_support::{Dir, Sample, bodies, call, config, files, law_4, new_id, open, outcome, runtime, verified};
use proptest::prelude::*;
use remit::{
    audit::{Audit, Durability},
    call::Recorder,
};

#[test]
fn unfinished_calls_get_the_outcome_unknown_once() {
    let dir = Dir::new("crash");
    let (dead, lost) = leave_unfinished(&dir, 3);
    for restart in 0..3 {
        open(&dir.0).close();
        assert_eq!(law_4(&dir.log()), 5, "restart {restart}");
        let unknown: HashSet<String> =
            bodies(&dir.log()).iter().filter(|b| b["outcome"] == "unknown").map(|b| b["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(unknown, lost.iter().cloned().collect());
        assert_eq!(fs::read(&files(&dir.log())[0]).unwrap(), dead, "the dead process's file is left as it is");
    }
    let report = verified(&dir.0);
    assert_eq!(report.chains.iter().map(|c| c.open).sum::<u64>(), 0);
}

#[test]
fn a_recovery_that_is_cut_off_is_taken_up_without_writing_twice() {
    let dir = Dir::new("recut");
    let (_, lost) = leave_unfinished(&dir, 6);
    open(&dir.0).close();
    let second = files(&dir.log()).remove(1);
    let text = fs::read_to_string(&second).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // As if it had died after 0, 1, … of what it wrote, in the middle of the next line.
    for kept in 2..lines.len() {
        for file in files(&dir.log()).split_off(1) {
            fs::remove_file(file).unwrap();
        }
        fs::write(&second, lines[..kept].join("\n") + "\n" + &lines[kept][..20]).unwrap();
        open(&dir.0).close();
        let unknown: Vec<String> =
            bodies(&dir.log()).into_iter().filter(|b| b["outcome"] == "unknown").map(|b| b["id"].to_string()).collect();
        assert_eq!(unknown.len(), lost.len(), "after {kept} lines");
        assert_eq!(unknown.iter().collect::<HashSet<_>>().len(), lost.len(), "after {kept} lines");
        verified(&dir.0);
    }
}

#[test]
fn a_living_process_is_left_alone() {
    let dir = Dir::new("alive");
    runtime(1).block_on(async {
        let first = open(&dir.0);
        let id = new_id();
        first.decision(&Sample::default().record(id), Durability::Buffered).await.unwrap();
        open(&dir.0).close();
        assert!(!bodies(&dir.log()).iter().any(|b| b["outcome"] == "unknown"));
        first.outcome(&outcome(id));
    });
    assert_eq!(law_4(&dir.log()), 1);
}

#[test]
fn calls_open_across_rotations_are_found() {
    let dir = Dir::new("across");
    let lost = runtime(1).block_on(async {
        let mut config = config(&dir.0);
        config.rotate_size = 16 << 10;
        let audit = Audit::open(&config).unwrap();
        let sample = Sample::default();
        let lost = new_id();
        audit.decision(&sample.record(lost), Durability::Buffered).await.unwrap();
        while files(&dir.log()).len() < 4 {
            call(&audit, &sample, Durability::Buffered).await.unwrap();
        }
        audit.close();
        lost
    });
    // Take the end off, as a crash would.
    let last = files(&dir.log()).pop().unwrap();
    let text = fs::read_to_string(&last).unwrap();
    fs::write(&last, &text[..text.trim_end().rfind('\n').unwrap() + 1]).unwrap();
    open(&dir.0).close();
    let unknown: Vec<_> =
        bodies(&dir.log()).into_iter().filter(|b| b["outcome"] == "unknown").map(|b| b["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(unknown, [lost.to_string()]);
    verified(&dir.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn wherever_it_is_cut_it_verifies_and_is_settled_once(at in 0.0f64..1.0) {
        let dir = Dir::new("cut");
        leave_unfinished(&dir, 4);
        let file = files(&dir.log()).remove(0);
        let whole = fs::read(&file).unwrap();
        // The first, signed record is durable before any call is taken.
        let first = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0 + 1;
        let cut = first + ((whole.len() - first) as f64 * at) as usize;
        fs::write(&file, &whole[..cut]).unwrap();
        let report = verified(&dir.0);
        prop_assert!(!report.chains[0].closed && report.chains[0].sealed >= 1);
        open(&dir.0).close();
        open(&dir.0).close();
        law_4(&dir.log());
        verified(&dir.0);
    }
}

/// Kills a process that writes with many tasks, and looks at what it left.
#[test]
fn a_process_killed_while_it_writes_loses_no_call_that_it_let_go() {
    for round in 0..5u64 {
        let dir = Dir::new("kill");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_to_kill", "--ignored", "--nocapture"])
            .env("REMIT_AUDIT_DIR", &dir.0)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !fs::metadata(dir.0.join("sent")).is_ok_and(|m| m.len() > 0) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(40 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let report = verified(&dir.0);
        assert!(!report.chains[0].live && !report.chains[0].closed);
        open(&dir.0).close();
        let records = bodies(&dir.log());
        let decided: HashSet<&str> = records.iter().filter(|b| b["kind"] == "decision").map(|b| b["id"].as_str().unwrap()).collect();
        let sent = fs::read_to_string(dir.0.join("sent")).unwrap();
        let sent: Vec<&str> = sent.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')).collect();
        assert!(sent.len() > 50, "the process did not write long enough: {}", sent.len());
        for id in sent {
            assert!(decided.contains(id), "{id} went out and is not on the record");
        }
        let ended: Vec<&str> = records.iter().filter(|b| b["kind"] == "outcome").map(|b| b["id"].as_str().unwrap()).collect();
        assert_eq!(ended.len(), decided.len());
        assert_eq!(ended.into_iter().collect::<HashSet<_>>(), decided);
    }
}

#[test]
#[ignore = "the process that the test above kills"]
fn the_process_to_kill() {
    use std::io::Write;
    let Some(dir) = std::env::var_os("REMIT_AUDIT_DIR") else { return };
    let dir = std::path::PathBuf::from(dir);
    let sent = std::sync::Arc::new(fs::File::options().append(true).create(true).open(dir.join("sent")).unwrap());
    runtime(2).block_on(async {
        let audit = open(&dir);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..16 {
            let (audit, sent) = (audit.clone(), sent.clone());
            tasks.spawn(async move {
                let sample = Sample::default();
                loop {
                    let id = new_id();
                    let durability = if n % 4 == 0 { Durability::Synced } else { Durability::Buffered };
                    audit.decision(&sample.record(id), durability).await.unwrap();
                    (&*sent).write_all(format!("{id}\n").as_bytes()).unwrap();
                    tokio::task::yield_now().await;
                    audit.outcome(&outcome(id));
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    });
}

/// A log of two whole calls and `open` without outcome, cut where a crash could have cut it:
/// its bytes, and the ids of the unfinished.
fn leave_unfinished(dir: &Dir, open: usize) -> (Vec<u8>, Vec<String>) {
    let lost = runtime(1).block_on(async {
        let audit = audit_support::open(&dir.0);
        let sample = Sample::default();
        let mut lost = Vec::new();
        for n in 0..open {
            let id = new_id();
            audit.decision(&sample.record(id), Durability::Buffered).await.unwrap();
            lost.push(id.to_string());
            if n < 2 {
                call(&audit, &sample, Durability::Buffered).await.unwrap();
            }
        }
        audit.close();
        lost
    });
    let file = files(&dir.log()).remove(0);
    let text = fs::read_to_string(&file).unwrap();
    let crashed = text[..text.trim_end().rfind('\n').unwrap() + 1].to_owned() + "{\"seq\":99,\"ha";
    fs::write(&file, &crashed).unwrap();
    (crashed.into_bytes(), lost)
}
