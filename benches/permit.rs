//! From a parsed request to a permit: identify, understand, judge, reserve. The decision is cached.
//!
//! `cargo bench --bench permit`. GitHub's catalog (over 1,000 operations), the policy that ships.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a bench")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, Version};
use remit::{
    app,
    authority::{NoEvents, Start, Tasks},
    call::{Accepted, Account, Body, DecisionId, Destination, Head, Host, Listener, Outcome, Path, Principal, Recorder, Scheme},
    clock::{Moment, SystemClock},
    config::Config,
    enforce::Rules,
    identify::{self, Arrival, Seen},
};

const CONFIG: &str = "version: 1
catalog: [builtin]
agents: [{id: bench, owner: bench@example.test, expires: 2036-01-01T00:00:00Z, workflows: [bench]}]
workflows:
  - id: bench
    purpose: bench
    max_lifetime: 24h
    grants: [{effects: [read], intents: [github.*], where: {owner: acme, repo: [web, docs]}, limit: {calls: 1000000000, per: task}}]
tls: {upstream_roots: [mozilla]}
";
const CALLS: usize = 200_000;

struct Nowhere;

impl Recorder for Nowhere {
    fn outcome(&self, _: &Outcome) {}
}

fn main() {
    let config = Config::parse(CONFIG, std::path::Path::new(""), std::path::Path::new("bench.yaml")).unwrap();
    let (rules, _) = app::load(&config).unwrap();
    let tasks = Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::ZERO);
    let principal = Principal { id: Arc::from("bench"), verified: false, claims: serde_json::json!({}) };
    let start = Start::new("bench", "bench", principal);
    let (_task, handle) = tasks.start(&rules.registry, start, Moment::now()).unwrap();
    let claim = HeaderValue::from_str(&format!("Bearer {}", handle.expose())).unwrap();
    let (seen, recorder): (Seen, Arc<dyn Recorder>) = (Seen::default(), Arc::new(Nowhere));

    let mut took = Vec::with_capacity(CALLS);
    for i in 0..CALLS {
        // A thousand issues: what the policy does not read of them must not fill the cache.
        let head = head(&format!("/repos/acme/web/issues/{}", i % 1000));
        let account = Account::open(DecisionId::new(0), Instant::now(), recorder.clone());
        let began = Instant::now();
        let cached = permit(&rules, &tasks, &claim, &seen, head, account);
        took.push(began.elapsed());
        assert!(i < 2_000 || cached, "call {i} was not decided from the cache");
    }
    took.sort_unstable();
    let at = |share: f64| took[(CALLS as f64 * share) as usize].as_nanos() as f64 / 1000.0;
    println!("parsed request to permit, decision cached: p50 {:.2} µs, p90 {:.2} µs, p99 {:.2} µs", at(0.5), at(0.9), at(0.99));
}

/// The rooms between a parsed request and its permit; whether the decision was cached.
fn permit(rules: &Rules, tasks: &Tasks, claim: &HeaderValue, seen: &Seen, head: Head, account: Account) -> bool {
    let now = Moment::now();
    let accepted = Accepted::new(head, account);
    let peer = ([127, 0, 0, 1], 40000).into();
    let arrival = Arrival {
        listener: Listener::Forward,
        peer,
        proxy_authorization: Some(claim),
        peer_uid: None,
        proven: None,
        seen: Some(seen),
        behind: None,
    };
    let caller = identify::identify(&arrival, accepted.head(), tasks, &rules.registry, None, now).unwrap();
    let reading = rules.catalog.find(accepted.head()).unwrap().read(accepted.head(), None).unwrap();
    let understood = accepted.identified(caller).understood(reading.intents, reading.provider, Body::Empty);
    let judged = rules.decider.judge(&understood, now.instant);
    let permit = judged.pass.unwrap();
    tasks.reserve(permit.task(), &judged.decision.limits, None, now.instant).unwrap().commit();
    judged.cached
}

fn head(path: &str) -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "api.github.com"), ("user-agent", "bench"), ("accept", "application/vnd.github+json")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let to = Destination { scheme: Scheme::Https, host: Host::parse("api.github.com").unwrap(), port: 443 };
    Head { method: Method::GET, to, path: Path::parse(path.parse().unwrap()).unwrap(), headers, version: Version::HTTP_11, upgrade: None }
}
