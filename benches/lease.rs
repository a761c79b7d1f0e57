//! What a lease at hand costs a call, issued or configured; and a thousand first calls at once.
//!
//! `cargo bench --bench lease`. The issuer is a thread beside that answers at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a bench")]

use std::{
    hint::black_box,
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, Version};
use remit::{
    app,
    authority::{NoEvents, Start, Tasks},
    call::Understood,
    call::{Accepted, Account, Body, DecisionId, Destination, Head, Host, Listener, Outcome, Path, Permit, Principal, Recorder, Scheme},
    clock::{Moment, SystemClock},
    config::Config,
    credential::{Choice, Leases, Wanted},
    enforce::Rules,
    identify::{self, Arrival, Seen},
};

const CALLS: u32 = 500_000;

struct Nowhere;

impl Recorder for Nowhere {
    fn outcome(&self, _: &Outcome) {}
}

fn main() {
    let asked = Arc::new(AtomicUsize::new(0));
    let port = issuer(asked.clone());
    for (name, credential) in [
        ("static", "{kind: static, hosts: [api.github.com], secret: {file: SECRET}}".to_owned()),
        (
            "issued for its scope",
            format!(
                "{{kind: oauth, hosts: [api.github.com], grant: client_credentials, token_endpoint: \"http://127.0.0.1:{port}/token\", \
                 client: {{id: bench, secret: {{file: SECRET}}}}, scope: [{{intents: [github.pulls.*], scope: [pulls]}}, \
                 {{intents: [github.issues.get], scope: [\"{{owner}}/{{repo}}\"]}}]}}"
            ),
        ),
    ] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(measure(name, &credential));
    }
    println!("questions to the issuer in all: {}", asked.load(Ordering::SeqCst));
}

async fn measure(name: &str, credential: &str) {
    let secret = std::env::temp_dir().join("remit-lease-bench-secret");
    std::fs::write(&secret, "a-secret-for-a-bench-only").unwrap();
    let credential = credential.replace("SECRET", &secret.display().to_string());
    let config = format!(
        "version: 1
catalog: [builtin]
agents: [{{id: bench, owner: bench@example.test, expires: 2036-01-01T00:00:00Z, workflows: [bench]}}]
workflows:
  - {{id: bench, purpose: bench, max_lifetime: 24h, grants: [{{effects: [read], intents: [github.*]}}]}}
credentials: {{github: {credential}}}
audit: {{sinks: [{{dir: {}}}]}}
tls: {{upstream_roots: [mozilla]}}
",
        std::env::temp_dir().join("remit-lease-bench").display()
    );
    let config = Config::parse(&config, std::path::Path::new(""), std::path::Path::new("bench.yaml")).unwrap();
    let (rules, _) = app::load(&config).unwrap();
    let tasks = Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::ZERO);
    let (understood, permit) = permitted(&rules, &tasks);
    let operation = &understood.intents()[0].operation;
    let choice = rules.broker.choose(None, None, Some("github"), understood.to(), operation).unwrap().unwrap();
    let leases = Leases::default();
    together(&leases, &choice, &understood, &permit).await;
    let mut rounds: Vec<f64> = Vec::new();
    for _ in 0..9 {
        let now = Instant::now();
        let began = Instant::now();
        for _ in 0..CALLS {
            black_box(leases.lease(&choice, wanted(&understood, &permit, now)).await.unwrap());
        }
        rounds.push(began.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    rounds.sort_by(f64::total_cmp);
    println!("a lease at hand, {name}: {:.0} ns ({:.0} to {:.0})", rounds[4], rounds[0], rounds[8]);
}

/// A thousand calls that find none.
async fn together(leases: &Leases, choice: &Choice, understood: &Understood, permit: &Permit) {
    let now = Instant::now();
    let calls = (0..1000).map(|_| leases.lease(choice, wanted(understood, permit, now)));
    for given in futures_util::future::join_all(calls).await {
        assert!(given.unwrap().is_some());
    }
}

fn wanted<'a>(understood: &'a Understood, permit: &'a Permit, now: Instant) -> Wanted<'a> {
    Wanted { permit, head: understood.head(), intents: understood.intents(), by: None, now, patience: Duration::from_secs(10) }
}

fn permitted(rules: &Rules, tasks: &Tasks) -> (Understood, Permit) {
    let principal = Principal { id: Arc::from("bench"), verified: false, claims: serde_json::json!({}) };
    let (_task, handle) = tasks.start(&rules.registry, Start::new("bench", "bench", principal), Moment::now()).unwrap();
    let claim = HeaderValue::from_str(&format!("Bearer {}", handle.expose())).unwrap();
    let (seen, recorder): (Seen, Arc<dyn Recorder>) = (Seen::default(), Arc::new(Nowhere));
    let accepted = Accepted::new(head("/repos/acme/web/issues/1"), Account::open(DecisionId::new(0), Instant::now(), recorder));
    let arrival = Arrival {
        listener: Listener::Forward,
        peer: ([127, 0, 0, 1], 40000).into(),
        proxy_authorization: Some(&claim),
        peer_uid: None,
        proven: None,
        seen: Some(&seen),
        behind: None,
    };
    let now = Moment::now();
    let caller = identify::identify(&arrival, accepted.head(), tasks, &rules.registry, None, now).unwrap();
    let reading = rules.catalog.find(accepted.head()).unwrap().read(accepted.head(), None).unwrap();
    let understood = accepted.identified(caller).understood(reading.intents, reading.provider, Body::Empty);
    let permit = rules.decider.judge(&understood, now.instant).pass.unwrap();
    (understood, permit)
}

fn head(path: &str) -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "api.github.com"), ("user-agent", "bench"), ("accept", "application/vnd.github+json")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let to = Destination { scheme: Scheme::Https, host: Host::parse("api.github.com").unwrap(), port: 443 };
    Head { method: Method::GET, to, path: Path::parse(path.parse().unwrap()).unwrap(), headers, version: Version::HTTP_11, upgrade: None }
}

/// Gives whatever it is asked for.
fn issuer(asked: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut bytes) = (stream.unwrap(), [0; 4096]);
            let _ = stream.read(&mut bytes).unwrap();
            asked.fetch_add(1, Ordering::SeqCst);
            let body = r#"{"access_token":"a-token-for-the-bench-0123456789","token_type":"Bearer","expires_in":86000}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    port
}
