//! A full disk: calls are refused, nothing half-written stays, and it recovers by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is test code")]

mod audit_support;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use audit_support::{Dir, Sample, bodies, call, config, files, law_4, new_id, outcome, runtime, verified};
use remit::{
    audit::{Audit, Durability},
    call::Recorder,
    refusal::Reason,
};

/// A small file system of its own. Without the right to mount one, the test runs itself again in
/// a user namespace that has it.
struct Small(Dir);

impl Small {
    fn new(test: &str) -> Option<Self> {
        let dir = Dir::new("full");
        fs::create_dir(dir.log()).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(dir.log()).output();
        if mounted.is_ok_and(|o| o.status.success()) {
            return Some(Self(dir));
        }
        assert!(std::env::var_os("REMIT_IN_NAMESPACE").is_none(), "no file system can be mounted in a user namespace");
        let again = Command::new("unshare")
            .args(["-Urm"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env("REMIT_IN_NAMESPACE", "1")
            .status();
        assert!(again.unwrap().success(), "the test failed in its namespace, or there are no user namespaces here");
        None
    }

    /// Fills the file system to its last byte, and frees it again.
    fn fill(&self) {
        let full = fs::write(self.0.log().join("ballast"), vec![b'x'; 600 << 10]);
        assert!(full.is_err());
    }

    fn free(&self) {
        fs::remove_file(self.0.log().join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.log()).status();
    }
}

fn only_whole_lines(log: &Path) {
    for file in files(log) {
        let text = fs::read(&file).unwrap();
        assert!(text.is_empty() || text.ends_with(b"\n"), "{} ends in half a record", file.display());
    }
}

fn full_and_free(test: &str, durability: Durability) {
    let Some(small) = Small::new(test) else { return };
    let dir = &small.0;
    runtime(2).block_on(async {
        let audit = Audit::open(&config(&dir.0)).unwrap();
        let sample = Sample::default();
        let early = new_id();
        audit.decision(&sample.record(early), durability).await.unwrap();
        for round in 0..3 {
            call(&audit, &sample, durability).await.unwrap();
            small.fill();
            // A page may be left; it is soon full too.
            let mut refused = 0;
            for _ in 0..60 {
                match call(&audit, &sample, durability).await {
                    Ok(_) => assert_eq!(refused, 0, "a call passed on a full disk"),
                    Err(refusal) => {
                        assert_eq!(refusal.reason, Reason::AuditUnavailable);
                        refused += 1;
                    }
                }
                only_whole_lines(&dir.log());
            }
            assert!(refused > 30 && !audit.writable() && audit.backlog() > 0, "{refused} refused in round {round}");
            if round == 0 {
                // Its place was reserved: this must come out, however long the disk is full.
                audit.outcome(&outcome(early));
            }
            small.free();
            let freed = Instant::now();
            while call(&audit, &sample, durability).await.is_err() {
                assert!(freed.elapsed() < Duration::from_secs(1), "no recovery");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert!(audit.writable());
        }
        audit.close();
    });
    let calls = law_4(&dir.log());
    assert!(calls > 100, "{calls}");
    let all = bodies(&dir.log());
    assert!(all.iter().any(|b| b["kind"] == "outcome" && b["reason"] == "audit_unavailable"));
    assert!(all.iter().any(|b| b["event"] == "audit_recovered"));
    assert!(verified(&dir.0).chains[0].closed);
}

#[test]
fn buffered_calls_are_refused_while_the_disk_is_full() {
    full_and_free("buffered_calls_are_refused_while_the_disk_is_full", Durability::Buffered);
}

#[test]
fn synced_calls_are_refused_while_the_disk_is_full() {
    full_and_free("synced_calls_are_refused_while_the_disk_is_full", Durability::Synced);
}

/// It recovers without a call that tries: readiness must come back by itself.
#[test]
fn a_full_log_becomes_writable_again_without_a_call() {
    let Some(small) = Small::new("a_full_log_becomes_writable_again_without_a_call") else { return };
    runtime(1).block_on(async {
        let audit = Audit::open(&config(&small.0.0)).unwrap();
        let sample = Sample::default();
        small.fill();
        while call(&audit, &sample, Durability::Buffered).await.is_ok() {}
        assert!(!audit.writable());
        small.free();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(audit.writable());
        assert_eq!(audit.backlog(), 0);
    });
    law_4(&small.0.log());
    verified(&small.0.0);
}

/// A long failure does not grow without bound: beyond what is held, refused calls leave nothing.
#[test]
fn what_is_held_in_memory_is_bounded() {
    let Some(small) = Small::new("what_is_held_in_memory_is_bounded") else { return };
    runtime(1).block_on(async {
        let audit = Audit::open(&config(&small.0.0)).unwrap();
        let sample = Sample::default();
        small.fill();
        while call(&audit, &sample, Durability::Buffered).await.is_ok() {}
        let mut last = 0;
        for _ in 0..40_000 {
            assert!(call(&audit, &sample, Durability::Buffered).await.is_err());
            last = audit.backlog();
        }
        assert!((1000..30_000).contains(&last), "{last} records are held");
        // More room than that needs is not here: it stays refused, and says so at the end.
        assert!(!audit.writable());
    });
    only_whole_lines(&small.0.log());
}

#[test]
fn a_directory_that_cannot_be_written_is_named_at_start() {
    let dir = Dir::new("nowrite");
    fs::write(dir.log(), "a file where the directory should be").unwrap();
    let problems = Audit::open(&config(&dir.0)).unwrap_err().to_string();
    assert!(problems.contains("audit.sinks") && problems.contains(&*dir.log().to_string_lossy()), "{problems}");
}
