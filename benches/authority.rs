//! What attribution and limits cost a call, in nanoseconds: `cargo bench --bench authority`.
//!
//! The promise is at most 300 ns together, flat in the number of tasks and agents.

#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Version, uri::PathAndQuery};
use remit::{
    authority::{Delegate, End, NoEvents, Registry, Start, Tasks},
    call::{Destination, Head, Host, LimitRule, Listener, Mode, Path, Principal, Scheme, Window},
    clock::{Moment, SystemClock},
    config::{AgentSpec, Ambient, GrantSpec, OnDrift, Place, RegistrySpec, Status, WorkflowSpec},
    identify::{Arrival, Seen, identify},
    metrics::Metrics,
};

const ROUNDS: usize = 9;
const CALLS: u32 = 1_000_000;

fn main() {
    for (agents, live) in [(10, 1), (10_000, 100_000)] {
        let before = resident();
        let world = World::new(agents, live);
        let grown = resident().saturating_sub(before);
        println!("{agents} agents, {live} live tasks ({} KiB, {} bytes a task)", grown >> 10, grown / live);
        // `-- memory`: nothing else, for a build that is not made for speed.
        if !std::env::args().any(|a| a == "memory") {
            world.measure();
        }
    }
    if std::env::args().any(|a| a == "memory") {
        return;
    }
    metrics();
    revocation();
}

struct World {
    tasks: Tasks,
    registry: Registry,
    head: Head,
    basic: HeaderValue,
    handle: HeaderValue,
}

impl World {
    fn new(agents: usize, live: usize) -> Self {
        let tasks = Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::from_secs(30));
        let agent = |i| AgentSpec {
            id: format!("agent-{i}").into(),
            owner: "o@acme.example".into(),
            spiffe_id: None,
            identities: vec![],
            status: Status::Active,
            expires: Some(time::OffsetDateTime::now_utc() + Duration::from_secs(1 << 20)),
            workflows: vec!["w".into()],
            delegates_to: (0..3).map(|to| format!("part-{to}").into()).collect(),
            attested: None,
            on_drift: OnDrift::Record,
            review: Default::default(),
            mode: None,
            limits: vec![],
            place: Place::default(),
        };
        let grant = GrantSpec {
            intents: vec!["github.*".into()],
            effects: vec![],
            constraints: vec![],
            limit: None,
            labels: vec![],
            approval: None,
            credential: None,
            returns: Default::default(),
            place: Place::default(),
        };
        let workflow = WorkflowSpec {
            id: "w".into(),
            purpose: "p".into(),
            max_lifetime: Duration::from_secs(86_400),
            grants: vec![grant],
            credential: None,
            mode: None,
            quiet: false,
            limits: vec![],
            place: Place::default(),
        };
        // Three more, each of which hands on to the next.
        let parts =
            (0..3).map(|i| AgentSpec { id: format!("part-{i}").into(), delegates_to: vec![format!("part-{}", i + 1).into()], ..agent(0) });
        let spec = RegistrySpec { agents: (0..agents).map(agent).chain(parts).collect(), workflows: vec![workflow] };
        let registry = Registry::new(&spec, Mode::Enforce);
        let mut last = None;
        for i in 0..live {
            let principal = Principal { id: "alice".into(), verified: false, claims: serde_json::Value::Null };
            let start = Start::new(format!("agent-{}", i % agents), "w", principal);
            last = tasks.start(&registry, start, Moment::now()).ok();
        }
        let (_, handle) = last.unwrap();
        let head = Head {
            method: Method::GET,
            to: Destination { scheme: Scheme::Https, host: Host::parse("api.github.com").unwrap(), port: 443 },
            path: Path::parse(PathAndQuery::from_static("/repos/acme/web")).unwrap(),
            headers: HeaderMap::new(),
            version: Version::HTTP_11,
            upgrade: None,
        };
        let basic = format!("Basic {}", STANDARD.encode(format!("task:{}", handle.expose())));
        Self { tasks, registry, head, basic: basic.parse().unwrap(), handle: handle.expose().parse().unwrap() }
    }

    fn measure(&self) {
        let Self { tasks, registry, head, .. } = self;
        let now = Moment::now();
        let arrival = |value| Arrival {
            listener: Listener::Forward,
            peer: "127.0.0.1:5000".parse().unwrap(),
            proxy_authorization: value,
            proven: None,
            peer_uid: None,
            seen: None,
            behind: None,
        };
        let with_basic = arrival(Some(&self.basic));
        let attribute = || identify(&with_basic, head, tasks, registry, None, now).unwrap();
        let mut inside = head.clone();
        inside.headers.insert("remit-task", self.handle.clone());
        let without = arrival(None);
        let ambient = Ambient { agent: "agent-0".into(), workflow: "w".into(), uid: vec![] };
        let seen = Seen::default();
        let again = Arrival { seen: Some(&seen), ..with_basic };
        let attribute_again = || identify(&again, head, tasks, registry, None, now).unwrap();
        let task = attribute().task;
        let rules = [LimitRule::calls("triage-issues/1", u64::MAX, Window::Task), LimitRule::calls("rate", u64::MAX, Window::Seconds(60))];
        let [one, ..] = &rules;
        report("attribute, later on a connection", || drop(black_box(attribute_again())));
        report("attribute, first on a connection", || drop(black_box(attribute())));
        report("attribute by Remit-Task", || drop(black_box(identify(&without, &inside, tasks, registry, None, now).unwrap())));
        report("attribute to the ambient task", || {
            drop(black_box(identify(&without, head, tasks, registry, Some(&ambient), now).unwrap()));
        });
        report("reserve no limit", || tasks.reserve(&task, &[], None, now.instant).unwrap().commit());
        report("reserve one limit", || tasks.reserve(&task, std::slice::from_ref(one), None, now.instant).unwrap().commit());
        report("reserve two limits", || tasks.reserve(&task, &rules, None, now.instant).unwrap().commit());
        report("whether the task is over", || {
            black_box(task.over(now.instant));
        });
        let mut part = task;
        for to in 0..3 {
            let (agent, workflow) = (format!("part-{to}").into(), "w".into());
            let part_of = Delegate { agent, workflow, lifetime: None, grants: vec![] };
            part = tasks.delegate(registry, &part.id, part_of, Moment::now()).unwrap().0;
        }
        let own = [LimitRule { link: Some(0), ..rules[0].clone() }];
        report("reserve what the first of four limits", || tasks.reserve(&part, &own, None, now.instant).unwrap().commit());
        report("reserve one limit of each of four", || {
            tasks.reserve(&part, std::slice::from_ref(one), None, now.instant).unwrap().commit();
        });
        report("attribute later, reserve one limit", || {
            let caller = attribute_again();
            tasks.reserve(&caller.task, std::slice::from_ref(one), None, now.instant).unwrap().commit();
        });
    }
}

fn metrics() {
    println!("metrics");
    let metrics = Metrics::new().unwrap();
    let provider: Arc<str> = "github".into();
    report("count a call", || metrics.call(Some(&provider), Some(remit::call::Effect::Read), remit::call::Verdict::Allow, None));
    report("observe the overhead", || metrics.overhead.observe(black_box(0.000_02)));
}

/// From the end of an agent's tasks until what they have open knows.
fn revocation() {
    const OPEN: usize = 1_000;
    let world = World::new(1, OPEN);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let mut waits: Vec<Duration> = runtime.block_on(async {
        let streams: Vec<_> = world
            .tasks
            .list()
            .into_iter()
            .map(|task| {
                tokio::spawn(async move {
                    task.ended.cancelled().await;
                    Instant::now()
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        world.tasks.end_agent("agent-0", End::Asked);
        let mut waits = Vec::with_capacity(OPEN);
        for stream in streams {
            waits.push(stream.await.unwrap() - began);
        }
        waits
    });
    waits.sort_unstable();
    println!("revocation of {OPEN} tasks at once: p50 {:?}, p99 {:?}", waits[OPEN / 2], waits[OPEN * 99 / 100]);
}

/// CPU time a call, so that a busy machine changes little: the median of the rounds, after one
/// that warms up.
fn report(what: &str, mut call: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..=ROUNDS)
        .map(|_| {
            let began = on_cpu();
            (0..CALLS).for_each(|_| call());
            (on_cpu() - began) as f64 / f64::from(CALLS)
        })
        .skip(1)
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("  {what:<38} {:>8.1} ns", rounds.get(ROUNDS / 2).copied().unwrap_or_default());
}

/// Nanoseconds that this thread has run.
fn on_cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Resident memory in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|t| t.split(' ').nth(1)?.parse::<usize>().ok()).map_or(0, |pages| pages * 4096)
}
