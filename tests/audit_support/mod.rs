//! A call to record, and a log to record it in.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use remit::{
    audit::{Audit, DecisionRecord, Durability, Report, verify_dir},
    call::{
        AgentRef, Caller, DecisionId, Destination, Effect, Ends, Host, How, Intent, Lease, Listener, Mode, Operation, Outcome, Param,
        Params, Path as CallPath, Principal, Provider, Recorder, Scheme, Task, TaskId, Verdict,
    },
    clock::Moment,
    config,
};
use time::OffsetDateTime;

/// A folder of its own for one test, removed with it.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("remit-{name}-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("audit")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A log in `dir/audit` whose key is `dir/audit.key`, as when nothing is configured.
pub fn config(dir: &Path) -> config::Audit {
    config::Audit {
        sinks: vec![config::Sink::Dir(dir.join("audit"))],
        signing_key: None,
        durability: vec![(Effect::Read, Durability::Buffered)],
        rotate_size: 256 << 20,
        keep: Duration::from_secs(30 * 86400),
    }
}

pub fn open(dir: &Path) -> Arc<Audit> {
    Audit::open(&config(dir)).unwrap()
}

/// One typical call: who, what, where.
pub struct Sample {
    pub caller: Caller,
    pub method: http::Method,
    pub to: Destination,
    pub path: CallPath,
    pub intents: Vec<Intent>,
    pub lease: Lease,
}

impl Default for Sample {
    fn default() -> Self {
        let provider =
            Arc::new(Provider { id: "github".into(), credential: Some("github".into()), errors: Default::default(), basic: None });
        let operation = Operation {
            id: "github.issues.create".into(),
            group: "issues".into(),
            name: "create".into(),
            provider,
            effect: Effect::Write,
            labels: Box::default(),
            upgrades: Box::default(),
            takes_credential: true,
            follows: Box::default(),
        };
        let mut params = Params::default();
        for (name, value) in [("owner", "acme"), ("repo", "web"), ("title", "The door does not open")] {
            params.push(name.into(), Param::Text(value.into()));
        }
        Self {
            caller: Caller { how: How::Handle, listener: Listener::Forward, task: Arc::new(task()), proof: None, drift: Arc::from([]) },
            method: http::Method::POST,
            to: Destination { scheme: Scheme::Https, host: Host::parse("api.github.com").unwrap(), port: 443 },
            path: CallPath::parse("/repos/acme/web/issues".parse().unwrap()).unwrap(),
            intents: vec![Intent { operation: Arc::new(operation), params }],
            lease: Lease {
                name: "github".into(),
                kind: "static",
                fingerprint: "0123456789abcdef".into(),
                scope: None,
                revocable: false,
                expires: None,
                inject: remit::call::Inject::Own,
                scrubber: None,
            },
        }
    }
}

impl Sample {
    pub fn record(&self, id: DecisionId) -> DecisionRecord<'_> {
        DecisionRecord {
            id,
            time: OffsetDateTime::now_utc(),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            mode: Mode::Enforce,
            listener: Listener::Forward,
            caller: Some(&self.caller),
            method: Some(&self.method),
            to: Some(&self.to),
            path: Some(&self.path),
            intents: &self.intents,
            verdict: Verdict::Allow,
            code: None,
            reasons: &[],
            approval: None,
            revision: "5d1e7c0a9b3f",
            cached: true,
            lease: Some(&self.lease),
            scope: None,
            returns: Default::default(),
            grants: &[],
            limits: &[],
            tokens: None,
            own_login: false,
            passed: None,
        }
    }
}

pub fn task() -> Task {
    let now = OffsetDateTime::now_utc();
    Task {
        id: TaskId::new(1),
        number: 1,
        agent: Arc::new(AgentRef { id: "triage-bot".into(), owner: "support@acme.example".into(), spiffe_id: None }),
        workflow: "triage-issues".into(),
        purpose: "Label and answer new issues".into(),
        principal: Principal { id: "alice@acme.example".into(), verified: true, claims: serde_json::json!({}) },
        proof: Default::default(),
        chain: Vec::new(),
        parent: None,
        trace: None,
        mode: Mode::Enforce,
        started: now,
        ends: Ends::after(Moment::now(), Duration::from_secs(60)),
        ended: Default::default(),
        over_since: Default::default(),
        labels: Default::default(),
        succeeded: Default::default(),
        redirects: Default::default(),
        origin: Default::default(),
    }
}

pub fn new_id() -> DecisionId {
    DecisionId::new(OffsetDateTime::now_utc().unix_timestamp().unsigned_abs() * 1000)
}

pub fn outcome(id: DecisionId) -> Outcome {
    Outcome {
        id,
        began: Instant::now(),
        status: Some(201),
        upstream: Some(201),
        reason: None,
        bytes_up: 812,
        bytes_down: 2310,
        body_sha256: None,
        scrubbed: 0,
        withheld: Default::default(),
        complete: true,
        cut_since: None,
    }
}

/// One whole call on the record; whether its decision could be recorded.
pub async fn call(audit: &Audit, sample: &Sample, durability: Durability) -> Result<DecisionId, remit::refusal::Refusal> {
    let id = new_id();
    let mut end = outcome(id);
    let recorded = audit.decision(&sample.record(id), durability).await;
    if let Err(refusal) = &recorded {
        (end.reason, end.status, end.upstream, end.complete) = (Some(refusal.reason), Some(503), None, false);
    }
    audit.outcome(&end);
    recorded.map(|()| id)
}

pub fn runtime(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap()
}

pub fn verified(dir: &Path) -> Report {
    let report = verify_dir(&dir.join("audit"), None).unwrap();
    assert!(report.verified(), "{report:#?}");
    report
}

/// The log's files, in order.
pub fn files(log: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(log).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
    files.sort();
    files
}

/// The bodies of all whole records, in order; every line must be strict JSON.
pub fn bodies(log: &Path) -> Vec<serde_json::Value> {
    let mut bodies = Vec::new();
    for file in files(log) {
        let text = fs::read(file).unwrap();
        for line in text.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n")) {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            bodies.extend(value.get("body").cloned());
        }
    }
    bodies
}

/// Asserts law 4 on what is in the log: each call's decision once, its outcome once, in that order.
pub fn law_4(log: &Path) -> usize {
    let mut open = std::collections::HashSet::new();
    let mut seen = std::collections::HashSet::new();
    for body in bodies(log) {
        let id = body["id"].as_str().unwrap_or_default().to_owned();
        match body["kind"].as_str().unwrap() {
            "decision" => assert!(seen.insert(id.clone()) && open.insert(id), "two decisions: {body}"),
            "outcome" => assert!(open.remove(&id), "an outcome without decision, or a second one: {body}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "without outcome: {open:?}");
    seen.len()
}
