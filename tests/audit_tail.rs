//! Reading a log: the newest calls, filters, following; other sinks than one directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is test code")]

mod audit_support;

use std::{fs, process::Command, sync::Arc, time::Duration};

use audit_support::{Dir, Sample, call, config, files, law_4, new_id, open, outcome, runtime, task};
use remit::{
    audit::{Audit, Durability, Filter, Follow, News, Verify, last_calls, verify_dir},
    call::{AgentRef, Recorder, Task},
    config::Sink,
};

fn of_agent(id: &str) -> Sample {
    let mut sample = Sample::default();
    let agent = Arc::new(AgentRef { id: id.into(), owner: "o@acme.example".into(), spiffe_id: None });
    sample.caller.task = Arc::new(Task { agent, ..task() });
    sample
}

#[test]
fn the_newest_calls_come_joined_from_all_chains() {
    let dir = Dir::new("tail");
    let (ids, open_call) = runtime(1).block_on(async {
        let (one, two) = (open(&dir.0), open(&dir.0));
        let (a, b) = (of_agent("a"), of_agent("b"));
        let mut ids = Vec::new();
        for n in 0..40 {
            let (audit, sample) = if n % 2 == 0 { (&one, &a) } else { (&two, &b) };
            ids.push(call(audit, sample, Durability::Buffered).await.unwrap().to_string());
            tokio::time::sleep(Duration::from_micros(10)).await;
        }
        let open_call = new_id();
        one.decision(&a.record(open_call), Durability::Buffered).await.unwrap();
        one.close();
        two.close();
        (ids, open_call.to_string())
    });
    let shown = |n, filter: Filter| last_calls(&dir.log(), n, &filter).unwrap();
    let calls = shown(11, Filter::default());
    let got: Vec<&str> = calls.iter().map(|c| c.decision["id"].as_str().unwrap()).collect();
    let mut want: Vec<&str> = ids[30..].iter().map(String::as_str).collect();
    want.push(&open_call);
    assert_eq!(got, want);
    assert!(calls.last().unwrap().outcome.is_none());
    assert!(calls[..10].iter().all(|c| c.outcome.as_ref().unwrap()["id"] == c.decision["id"]));

    assert_eq!(shown(1000, Filter::default()).len(), 41);
    assert_eq!(shown(1000, Filter { agent: Some("b".into()), ..Filter::default() }).len(), 20);
    assert_eq!(shown(3, Filter { intent: Some("github.issues.*".into()), ..Filter::default() }).len(), 3);
    assert!(shown(3, Filter { intent: Some("github.issues".into()), ..Filter::default() }).is_empty());
    assert!(shown(3, Filter { decision: Some("deny".into()), ..Filter::default() }).is_empty());
    assert!(shown(3, Filter { task: Some("t-none".into()), ..Filter::default() }).is_empty());
}

#[test]
fn what_is_followed_comes_once_and_in_order() {
    let dir = Dir::new("follow");
    runtime(1).block_on(async {
        let audit = open(&dir.0);
        let sample = Sample::default();
        call(&audit, &sample, Durability::Buffered).await.unwrap();
        tokio::time::sleep(Duration::from_millis(80)).await;
        let mut follow = Follow::new(&dir.log(), Filter::default()).unwrap();
        assert!(follow.news().unwrap().is_empty());

        let (early, late) = (new_id(), new_id());
        audit.decision(&sample.record(early), Durability::Buffered).await.unwrap();
        audit.outcome(&outcome(early));
        audit.decision(&sample.record(late), Durability::Buffered).await.unwrap();
        let news = follow.news().unwrap();
        let calls: Vec<_> = news
            .iter()
            .map(|n| if let News::Call(c) = n { (c.decision["id"].clone(), c.outcome.is_some()) } else { panic!("{n:?}") })
            .collect();
        assert_eq!(calls, [(early.to_string().into(), true), (late.to_string().into(), false)]);

        audit.outcome(&outcome(late));
        // A process that starts meanwhile is followed too.
        let other = open(&dir.0);
        let third = call(&other, &sample, Durability::Synced).await.unwrap();
        other.close();
        tokio::time::sleep(Duration::from_millis(80)).await;
        let news = follow.news().unwrap();
        assert!(matches!(&news[0], News::Outcome { outcome } if outcome["id"] == late.to_string()), "{news:?}");
        assert!(matches!(&news[1], News::Call(c) if c.decision["id"] == third.to_string() && c.outcome.is_some()), "{news:?}");
        assert_eq!(news.len(), 2);
    });
}

#[test]
fn a_second_directory_is_a_mirror() {
    let dir = Dir::new("mirror");
    let head = runtime(1).block_on(async {
        let mut config = config(&dir.0);
        config.sinks.push(Sink::Dir(dir.0.join("mirror")));
        let audit = Audit::open(&config).unwrap();
        let sample = Sample::default();
        for durability in [Durability::Buffered, Durability::Synced] {
            call(&audit, &sample, durability).await.unwrap();
        }
        audit.close()
    });
    let read = |log| fs::read(files(log).remove(0)).unwrap();
    assert_eq!(read(&dir.log()), read(&dir.0.join("mirror")));
    let mirror = Verify { paths: vec![dir.0.join("mirror")], key: None, expect: Some(head) };
    assert!(mirror.run().unwrap().verified());
}

#[test]
fn stdout_carries_a_log_that_verifies() {
    let dir = Dir::new("stdout");
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_writes_to_stdout", "--ignored", "--nocapture"])
        .env("REMIT_AUDIT_DIR", &dir.0)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    // The test harness says something of its own around it.
    let collected = dir.0.join("collected.jsonl");
    let lines: String = String::from_utf8(ran.stdout).unwrap().lines().filter(|l| l.starts_with('{')).map(|l| format!("{l}\n")).collect();
    fs::write(&collected, lines).unwrap();
    let report = Verify { paths: vec![collected], key: Some(dir.0.join("audit.pub")), expect: None }.run().unwrap();
    assert!(report.verified() && report.chains[0].closed && report.chains[0].decisions == 40, "{report:?}");
}

#[test]
#[ignore = "the process that the test above starts"]
fn the_process_that_writes_to_stdout() {
    let Some(dir) = std::env::var_os("REMIT_AUDIT_DIR") else { return };
    let mut config = config(std::path::Path::new(&dir));
    (config.sinks, config.signing_key) = (vec![Sink::Stdout], Some(std::path::Path::new(&dir).join("audit.key")));
    // The harness's own line has no end yet.
    println!();
    runtime(2).block_on(async {
        let audit = Audit::open(&config).unwrap();
        let sample = Sample::default();
        for n in 0..40 {
            call(&audit, &sample, if n % 2 == 0 { Durability::Buffered } else { Durability::Synced }).await.unwrap();
        }
        audit.close();
    });
}

#[test]
fn a_log_without_key_or_directory_says_what_to_give() {
    let dir = Dir::new("nokey");
    open(&dir.0).close();
    assert_eq!(law_4(&dir.log()), 0);
    fs::remove_file(dir.0.join("audit.pub")).unwrap();
    assert!(verify_dir(&dir.log(), None).unwrap_err().to_string().contains("--key"));
    assert!(verify_dir(&dir.0.join("none"), None).unwrap_err().to_string().contains("none"));
}
