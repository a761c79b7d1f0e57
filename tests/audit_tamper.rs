//! Whatever is done to a log that was closed, verification says so and names the record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is test code")]

mod audit_support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use audit_support::{Dir, Sample, call, files, open, runtime, verified};
use remit::audit::{Durability, Fault, Head, Report, Verify, What, verify_dir};

/// A closed log of `calls` calls: its folder, file, lines, and last head.
struct Log {
    dir: Dir,
    file: PathBuf,
    lines: Vec<String>,
    head: Head,
}

impl Log {
    fn new(calls: usize) -> Self {
        let dir = Dir::new("tamper");
        let head = runtime(1).block_on(async {
            let audit = open(&dir.0);
            let sample = Sample::default();
            for _ in 0..calls {
                call(&audit, &sample, Durability::Buffered).await.unwrap();
            }
            audit.close()
        });
        verified(&dir.0);
        let file = files(&dir.log()).remove(0);
        let lines = fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
        Self { dir, file, lines, head }
    }

    fn with(&self, lines: &[&str]) -> Report {
        fs::write(&self.file, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
        verify_dir(&self.dir.log(), None).unwrap()
    }

    fn refs(&self) -> Vec<&str> {
        self.lines.iter().map(String::as_str).collect()
    }

    fn expecting(&self, head: Head) -> Report {
        Verify { paths: vec![self.dir.log()], key: None, expect: Some(head) }.run().unwrap()
    }
}

fn fault(report: &Report) -> &Fault {
    assert!(!report.verified());
    report.fault().unwrap()
}

/// The number in a line.
fn seq(line: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap()
}

#[test]
fn every_flip_of_every_byte_is_seen() {
    let log = Log::new(1);
    let whole = fs::read(&log.file).unwrap();
    for at in 0..whole.len() {
        // One bit, the case of a letter, and a byte that is special in a line.
        for flip in [0x01, 0x20, whole[at] ^ b'\n', whole[at] ^ b'"'] {
            if flip == 0 {
                continue;
            }
            let mut changed = whole.clone();
            changed[at] ^= flip;
            fs::write(&log.file, &changed).unwrap();
            let report = verify_dir(&log.dir.log(), None).unwrap();
            assert!(!report.verified(), "byte {at} ^ {flip:#x} passed: {report:?}");
            let line = 1 + whole[..at].iter().filter(|b| **b == b'\n').count();
            let named = report.fault().unwrap().line;
            assert!(named == line || named == line + 1, "byte {at} is on line {line}, and line {named} was named: {report:?}");
        }
    }
}

#[test]
fn every_record_that_is_removed_is_named() {
    let log = Log::new(5);
    for at in 1..log.lines.len() - 1 {
        let mut lines = log.refs();
        let gone = seq(lines.remove(at));
        let report = log.with(&lines);
        assert_eq!((fault(&report).what, fault(&report).seq), (What::Removed, gone), "{report:?}");
    }
}

#[test]
fn every_pair_that_is_swapped_is_named() {
    let log = Log::new(4);
    for at in 1..log.lines.len() {
        for other in at + 1..log.lines.len() {
            let mut lines = log.refs();
            lines.swap(at, other);
            let report = log.with(&lines);
            assert_eq!((fault(&report).what, fault(&report).seq), (What::Reordered, seq(&log.lines[at])), "{at} ↔ {other}: {report:?}");
        }
    }
}

#[test]
fn every_record_that_is_doubled_is_named() {
    let log = Log::new(4);
    for at in 1..log.lines.len() {
        for to in at + 1..=log.lines.len() {
            let mut lines = log.refs();
            lines.insert(to, &log.lines[at]);
            let report = log.with(&lines);
            assert_eq!(
                (fault(&report).what, fault(&report).seq, fault(&report).line),
                (What::Inserted, seq(&log.lines[at]), to + 1),
                "{report:?}"
            );
        }
    }
}

#[test]
fn a_cut_is_seen_against_a_head_and_only_against_one() {
    let log = Log::new(4);
    for keep in 2..log.lines.len() {
        let report = log.with(&log.refs()[..keep]);
        assert!(report.verified() && !report.chains[0].closed, "{report:?}");
        let report = log.expecting(log.head);
        assert!(!report.verified() && !report.expected.unwrap().found);
    }
    log.with(&log.refs());
    assert!(log.expecting(log.head).verified());
    let other = Head { hash: [0; 32], ..log.head };
    assert!(!log.expecting(other).verified());
}

/// Rewrites a log's hashes from its bodies, as one who can write the file and lacks the key would.
fn rehash(lines: &[&str]) -> Vec<String> {
    use ring::digest::{SHA256, digest};
    let mut prev = [0u8; 32];
    let mut out = vec![lines[0].to_owned()];
    for (n, line) in lines[1..].iter().enumerate() {
        let body = &line[line.find(r#","body":"#).unwrap() + 8..line.len() - 1];
        let seal = line.find(r#","sig":"#).map_or("", |at| &line[at..at + 136 + 1]);
        let seq = n as u64 + 1;
        let input = [prev.as_slice(), &seq.to_be_bytes(), digest(&SHA256, body.as_bytes()).as_ref()].concat();
        prev.copy_from_slice(digest(&SHA256, &input).as_ref());
        let hex: String = prev.iter().map(|b| format!("{b:02x}")).collect();
        out.push(format!(r#"{{"seq":{seq},"hash":"{hex}"{seal},"body":{body}}}"#));
    }
    out
}

#[test]
fn who_rewrites_all_hashes_lacks_the_signature() {
    let log = Log::new(3);
    assert_eq!(rehash(&log.refs()), log.lines, "rewriting what is unchanged changes nothing");
    let edited: Vec<String> = log.lines.iter().map(|l| l.replace("acme", "evil")).collect();
    let edited = rehash(&edited.iter().map(String::as_str).collect::<Vec<_>>());
    let report = log.with(&edited.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((fault(&report).what, fault(&report).seq), (What::Signature, log.head.seq), "{report:?}");
    // Without the signatures there is nothing that vouches for it.
    let bare: Vec<String> =
        edited.iter().map(|l| if let Some(at) = l.find(r#","sig":"#) { l[..at].to_owned() + &l[at + 137..] } else { l.clone() }).collect();
    let report = log.with(&bare.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(fault(&report).what, What::Signature, "{report:?}");
}

#[test]
fn a_log_signed_with_another_key_is_not_verified() {
    let (ours, theirs) = (Log::new(2), Log::new(2));
    let key: &Path = &theirs.dir.0.join("audit.pub");
    let report = verify_dir(&ours.dir.log(), Some(key)).unwrap();
    assert_eq!((fault(&report).what, fault(&report).seq), (What::Signature, 1));
    // Another chain's file in the place of ours: its name says one thing and its first line another.
    fs::write(&ours.file, fs::read(&theirs.file).unwrap()).unwrap();
    assert!(!verify_dir(&ours.dir.log(), Some(key)).unwrap().verified());
}

#[test]
fn chains_of_one_directory_are_verified_each() {
    let dir = Dir::new("chains");
    runtime(1).block_on(async {
        let (one, two) = (open(&dir.0), open(&dir.0));
        let sample = Sample::default();
        for _ in 0..3 {
            call(&one, &sample, Durability::Buffered).await.unwrap();
            call(&two, &sample, Durability::Synced).await.unwrap();
        }
    });
    assert_eq!(verified(&dir.0).chains.len(), 2);
    let file = &files(&dir.log())[1];
    let text = fs::read_to_string(file).unwrap().replacen("acme", "evil", 1);
    fs::write(file, text).unwrap();
    let report = verify_dir(&dir.log(), None).unwrap();
    assert!(report.chains[0].fault.is_none() && report.chains[1].fault.is_some());
    let fault = report.fault().unwrap();
    assert!(fault.id.as_ref().unwrap().starts_with("d-") && fault.time.is_some(), "{fault}");
}

#[test]
fn a_renamed_file_is_verified_by_what_it_says() {
    let log = Log::new(2);
    let copy = log.dir.0.join("evidence.txt");
    fs::copy(&log.file, &copy).unwrap();
    assert!(Verify { paths: vec![copy], key: None, expect: Some(log.head) }.run().unwrap().verified());
}
