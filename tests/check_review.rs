//! What `remit check` says of a configuration that is right, and that a person should look at.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is test code")]

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

fn days(n: i64) -> String {
    (OffsetDateTime::now_utc() + Duration::days(n)).format(&Rfc3339).unwrap()
}

fn registry(quiet: &str) -> String {
    format!(
        "version: 1
agents:
  - {{id: good, owner: a@acme.example, workflows: [used], expires: {later}, reviewed: {lately}, review_every: 90d}}
  - {{id: orphan, owner: TODO, workflows: [used]{owner}}}
  - {{id: soon, owner: a@acme.example, workflows: [used], expires: {soon}{expires}}}
  - {{id: gone, owner: a@acme.example, workflows: [used], expires: {past}{expires}}}
  - {{id: stale, owner: a@acme.example, workflows: [used], reviewed: {old}, review_every: 90d{review}}}
  - {{id: never, owner: a@acme.example, workflows: [used], review_every: 90d{review}}}
  - {{id: idle, owner: a@acme.example, workflows: [used, dusty]{unused}}}
  - {{id: off, owner: a@acme.example, status: retired, workflows: [used]}}
workflows:
  - id: used
    purpose: x
    max_lifetime: 5m{unused_w}
    grants:
      - {{intents: [github.issues.get], where: {{repo: web}}}}
      - {{intents: [github.issues.create]}}
      - {{intents: [github.repos.get]}}
  - {{id: dusty, purpose: x, max_lifetime: 5m, grants: [{{effects: [read]}}]{unused}}}
  - {{id: unbound, purpose: x, max_lifetime: 5m, grants: [{{effects: [read]}}]}}
",
        later = days(365),
        lately = days(-10),
        soon = days(10),
        past = days(-1),
        old = days(-100),
        owner = if quiet.contains('o') { ", quiet: [owner]" } else { "" },
        expires = if quiet.contains('e') { ", quiet: [expires]" } else { "" },
        review = if quiet.contains('r') { ", quiet: [review]" } else { "" },
        unused = if quiet.contains('u') { ", quiet: [unused]" } else { "" },
        unused_w = if quiet.contains('u') { "\n    quiet: [unused]" } else { "" },
    )
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, records: &[Value], quiet: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("remit-check-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("audit")).unwrap();
        fs::write(dir.join("remit.yaml"), registry(quiet)).unwrap();
        let lines: String = records.iter().enumerate().map(|(n, body)| format!("{}\n", json!({"seq": n, "body": body}))).collect();
        fs::write(dir.join("audit").join("20260101T000000Z-1-ab.000001.jsonl"), lines).unwrap();
        Self(dir)
    }

    fn check(&self, more: &[&str]) -> (bool, Vec<(u64, String)>) {
        let line = ["check", "--config", "remit.yaml", "--output", "json"];
        let done = Command::new(env!("CARGO_BIN_EXE_remit")).args(line).args(more).current_dir(&self.0).output().unwrap();
        let said: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(said["valid"], true, "{said}");
        let warnings = said["warnings"].as_array().unwrap().iter();
        let told = warnings.map(|w| {
            assert!(w["help"].as_str().is_some_and(|h| h.contains("quiet:")), "how to silence it: {w}");
            (w["line"].as_u64().unwrap(), w["message"].as_str().unwrap().to_owned())
        });
        (done.status.success(), told.collect())
    }
}

fn task(workflow: &str) -> Value {
    json!({"kind": "task", "event": "started", "id": format!("t-{workflow}"), "workflow": workflow, "time": days(-40)})
}

fn call(agent: &str, when: i64, decision: &str, intent: Value) -> Value {
    json!({"kind": "decision", "id": "d-1", "time": days(when), "agent": agent, "task": "t-used", "decision": decision, "policy": "another", "intents": [intent]})
}

fn used() -> Vec<Value> {
    let get = |repo: &str| json!({"id": "github.issues.get", "params": {"owner": "acme", "repo": repo, "issue_number": "1"}});
    let agents = ["orphan", "soon", "gone", "stale", "never"];
    let mut all = vec![task("used"), call("idle", -35, "allow", get("web"))];
    all.extend(agents.iter().map(|a| call(a, -3, "deny", get("none"))));
    all.push(call("good", -3, "allow", get("web")));
    all.push(call("good", -3, "deny", json!({"id": "github.issues.create", "params": {}})));
    all.push(call("good", -31, "allow", json!({"id": "github.repos.get", "params": {}})));
    all
}

#[test]
fn each_thing_to_look_at_is_named_with_its_line() {
    let folder = Folder::new("all", &used(), "");
    let (right, told) = folder.check(&[]);
    assert!(right, "a warning makes no configuration wrong");
    let want = [
        (4, "`orphan` is owned by nobody"),
        (5, "`soon` expires in 9 days"),
        (6, "`gone` has expired"),
        (7, "`stale` was last reviewed on"),
        (8, "`never` is to be reviewed and never was"),
        (9, "`idle` has made no call for 30 days"),
        (17, "grant 2 of workflow `used` was not used for 30 days"),
        (18, "grant 3 of workflow `used`"),
        (19, "no grant of workflow `dusty` was used"),
    ];
    assert_eq!(told.len(), want.len(), "{told:#?}");
    for (line, about) in want {
        assert!(told.iter().any(|(at, message)| *at == line && message.contains(about)), "{line} {about}: {told:#?}");
    }
}

#[test]
fn each_can_be_silenced_and_without_a_log_that_reaches_back_nothing_is_said_of_use() {
    assert_eq!(Folder::new("quiet", &used(), "oeru").check(&[]).1, []);
    let all = used();
    let folder = Folder::new("young", &all[3..all.len() - 1], "oer");
    assert_eq!(folder.check(&[]).1, [], "a log of three days says nothing of thirty");
    let folder = Folder::new("given", &used(), "oer");
    assert_eq!(folder.check(&["--no-audit"]).1, []);
    assert_eq!(folder.check(&["--audit", "audit"]).1.len(), 4);
}
