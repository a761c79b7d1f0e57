//! Leases from first use to revocation, as their issuer and upstream see them: one question for all who wait, exactly the
//! scope that the call needs, nothing left behind by an end, a drain, or `kill -9`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use support::{Do, HOST, Lab, Received, Remit, Settings, Upstream, agent};
use tokio::task::JoinSet;

/// An authorization server that knows which of its tokens are good, and what was asked for each.
#[derive(Default)]
struct Issuer {
    live: Mutex<BTreeMap<String, String>>,
    /// When each was revoked.
    revoked: Mutex<BTreeMap<String, Instant>>,
    issued: AtomicUsize,
    refuses: AtomicBool,
}

impl Issuer {
    fn answer(&self, request: &Received) -> Do {
        let form: BTreeMap<String, String> = String::from_utf8(request.body.clone())
            .unwrap()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.to_owned(), percent_encoding::percent_decode_str(v).decode_utf8().unwrap().into_owned()))
            .collect();
        if self.refuses.load(Ordering::SeqCst) {
            return Do::Say(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec());
        }
        if request.target() == "/revoke" {
            let token = &form["token"];
            if self.live.lock().remove(token).is_some() {
                self.revoked.lock().insert(token.clone(), Instant::now());
            }
            return Do::ok("");
        }
        let number = self.issued.fetch_add(1, Ordering::SeqCst);
        let mut salt = [0; 8];
        SystemRandom::new().fill(&mut salt).unwrap();
        let token = format!("issued-{number:06}-{:016x}", u64::from_be_bytes(salt));
        self.live.lock().insert(token.clone(), form["scope"].clone());
        let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": form["scope"]}).to_string();
        Do::Say(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }

    async fn all_revoked(&self, within: Duration) {
        let began = Instant::now();
        while !self.live.lock().is_empty() {
            assert!(began.elapsed() < within, "still good: {:?}", self.live.lock());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

struct House {
    lab: Lab,
    issuer: Arc<Issuer>,
    /// Tokens that upstream saw.
    used: Arc<Mutex<BTreeSet<String>>>,
    _servers: (Upstream, Upstream),
}

async fn house(name: &str) -> House {
    let lab = Lab::new(name);
    let used: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let seen = used.clone();
    let api = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), move |r| {
        let token = r.field("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
        seen.lock().insert(token);
        Do::ok("done")
    })
    .await;
    let issuer = Arc::new(Issuer::default());
    let answers = issuer.clone();
    let server = Upstream::plain(move |r| answers.answer(r)).await;
    let at = server.address;
    let oauth = format!(
        "{{kind: oauth, hosts: [{HOST}], grant: client_credentials, token_endpoint: \"http://{at}/token\", \
         revocation_endpoint: \"http://{at}/revoke\", client: {{id: remit, secret: {{file: secret.txt}}}}, \
         scope: [{{intents: [example.items.get], scope: [\"items/{{id}}\"]}}, {{intents: [example.items.create], scope: [items.write]}}]}}"
    );
    fs::write(lab.dir.join("remit.yaml"), Settings::to(api.address).yaml_with(&oauth)).unwrap();
    House { lab, issuer, used, _servers: (api, server) }
}

async fn get(remit: &Remit, handle: &str, id: usize) -> (u16, String) {
    let answer = agent::tls_as(remit, handle).await.ask(agent::get(&format!("/items/{id}"))).await;
    (answer.status, answer.text())
}

fn listed(remit: &Remit) -> Vec<Value> {
    let (code, text) = remit.command(&["leases", "list", "--output", "json"]);
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["leases"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_gets_what_it_needs_once_for_all_who_wait() {
    let house = house("leases-scope").await;
    let remit = Arc::new(Remit::start(&house.lab.dir));
    let (id, handle) = remit.task(&[]);
    let mut calls = JoinSet::new();
    for n in 0..60 {
        let (remit, handle) = (remit.clone(), handle.clone());
        calls.spawn(async move { get(&remit, &handle, n % 3).await.0 });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(house.issuer.issued.load(Ordering::SeqCst), 3);
    let scopes: BTreeSet<String> = house.issuer.live.lock().values().cloned().collect();
    assert_eq!(scopes, ["items/0", "items/1", "items/2"].map(String::from).into());
    let leases = listed(&remit);
    assert_eq!(leases.len(), 3);
    assert!(leases.iter().all(|l| l["revocable"] == true && l["task"] == *id && l["kind"] == "oauth"), "{leases:?}");
    // An intent that no scope is for gets nothing, and says so.
    let answer = agent::tls_as(&remit, &handle).await.ask(agent::get("/items")).await;
    assert_eq!((answer.status, answer.reason()), (502, Some("credential_unavailable")));
    assert!(answer.text().contains("no `scope` of it is for example.items.list"), "{}", answer.text());
    assert_eq!(house.issuer.issued.load(Ordering::SeqCst), 3, "nobody was asked");
    // The record says what was asked, and never what was given.
    let decided = remit.log().of_kind("decision").into_iter().find(|d| d["lease"].is_object()).unwrap();
    assert!(decided["lease"]["kind"] == "oauth" && decided.to_string().contains("items/"), "{decided}");
    remit.end_task(&id);
    assert!(house.issuer.live.lock().is_empty(), "the end is answered when all is revoked");
    assert!(listed(&remit).is_empty());
    let ends = || remit.log().of_kind("event").iter().filter(|e| e["event"] == "lease_end").count();
    let began = Instant::now();
    while ends() < 3 && began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ends(), 3);
    let all = format!("{:?}{}", remit.log().records(), remit.printed());
    assert!(house.used.lock().iter().all(|token| !all.contains(token)), "no token is on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_leases_are_revoked_within_a_second_of_the_end() {
    let house = house("leases-hundred").await;
    let remit = Remit::start(&house.lab.dir);
    let (id, handle) = remit.task(&[]);
    for n in 0..100 {
        assert_eq!(get(&remit, &handle, n).await.0, 200);
    }
    let ended = Instant::now();
    remit.end_task(&id);
    house.issuer.all_revoked(Duration::from_secs(10)).await;
    let mut took: Vec<Duration> = house.issuer.revoked.lock().values().map(|at| at.duration_since(ended)).collect();
    took.sort();
    println!("100 leases revoked at the issuer: p50 {:?}, p99 {:?}, last {:?}", took[49], took[98], took[99]);
    assert!(took[98] < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_and_a_suspended_agent_leave_nothing() {
    let house = house("leases-drain").await;
    let mut remit = Remit::start(&house.lab.dir);
    let (_, handle) = remit.task(&[]);
    assert_eq!(get(&remit, &handle, 1).await.0, 200);
    let (code, said) = remit.command(&["agents", "suspend", "tester", "--until-restart"]);
    assert_eq!(code, Some(0), "{said}");
    house.issuer.all_revoked(Duration::from_secs(5)).await;
    let (code, said) = remit.command(&["agents", "resume", "tester", "--until-restart"]);
    assert_eq!(code, Some(0), "{said}");
    let (_, handle) = remit.task(&[]);
    assert_eq!(get(&remit, &handle, 2).await.0, 200);
    assert_eq!(house.issuer.live.lock().len(), 1);
    remit.signal("TERM");
    assert!(remit.ended(Duration::from_secs(20)).await.success());
    assert!(house.issuer.live.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_fails_is_seen_and_done_when_the_issuer_is_back() {
    let house = house("leases-retry").await;
    let remit = Remit::start(&house.lab.dir);
    let (id, handle) = remit.task(&[]);
    assert_eq!(get(&remit, &handle, 1).await.0, 200);
    house.issuer.refuses.store(true, Ordering::SeqCst);
    remit.end_task(&id);
    let leases = listed(&remit);
    assert!(leases.len() == 1 && leases[0]["unrevoked"] == true, "{leases:?}");
    house.issuer.refuses.store(false, Ordering::SeqCst);
    house.issuer.all_revoked(Duration::from_secs(20)).await;
}

/// Kills it at random moments while calls go on; every token that upstream saw is good no more once the next start had its turn.
async fn killed(name: &str, times: usize) {
    let house = house(name).await;
    let mut salt = [0];
    for round in 0..times {
        let remit = Arc::new(Remit::start(&house.lab.dir));
        let (_, handle) = remit.task(&[]);
        let mut calls = JoinSet::new();
        for n in 0..8 {
            let (remit, handle) = (remit.clone(), handle.clone());
            calls.spawn(async move {
                for k in 0.. {
                    get(&remit, &handle, round * 1000 + n * 100 + k % 100).await;
                }
            });
        }
        SystemRandom::new().fill(&mut salt).unwrap();
        tokio::time::sleep(Duration::from_millis(u64::from(salt[0]))).await;
        remit.signal("KILL");
        calls.abort_all();
        while calls.join_next().await.is_some() {}
        Arc::try_unwrap(remit).ok().unwrap().kill();
    }
    let used = house.used.lock().clone();
    let remit = Remit::start(&house.lab.dir);
    let began = Instant::now();
    loop {
        let left: Vec<String> = house.issuer.live.lock().keys().filter(|token| used.contains(*token)).cloned().collect();
        if left.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "used, and still good: {left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let unused = house.issuer.live.lock().len();
    println!("{times} kills: {} tokens used, all revoked; {unused} never used were lost on the way", used.len());
    assert!(used.len() > times, "too little was going on");
    drop(remit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_is_revoked_after_a_kill() {
    killed("leases-kill", 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: --long"]
async fn what_was_used_is_revoked_after_two_hundred_kills() {
    killed("leases-kills", 200).await;
}
