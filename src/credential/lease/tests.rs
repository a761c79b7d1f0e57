use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use http::{HeaderMap, Method, Version};
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::{
    call::{Destination, Host, Param, Params, Path, Scheme},
    config::ScopeSpec,
    credential::{
        fixture::{self, operation, task},
        issue::{Ask, IssueCredential, Issued, Pending, Revoked},
    },
    secret::Secret,
};

/// An issuer that knows what it gave and what it took back.
#[derive(Debug, Default)]
struct Counting {
    asked: Mutex<Vec<String>>,
    live: Mutex<BTreeSet<String>>,
    slow: Option<Duration>,
    slow_to_revoke: Option<Duration>,
    lives: Option<Duration>,
    wider: bool,
    irrevocable: bool,
    down: AtomicBool,
    refusals: AtomicUsize,
}

impl IssueCredential for Counting {
    fn kind(&self) -> &'static str {
        "counting"
    }

    fn level(&self, word: &str) -> Option<u8> {
        ["read", "write"].iter().position(|w| *w == word).map(|p| p as u8)
    }

    fn value<'v>(&self, value: &'v str) -> Option<std::borrow::Cow<'v, str>> {
        (!value.contains('*')).then_some(value.into())
    }

    fn issue<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Issued> {
        Box::pin(async {
            if let Some(slow) = self.slow {
                tokio::time::sleep(slow).await;
            }
            if self.down.load(Ordering::SeqCst) {
                self.refusals.fetch_add(1, Ordering::SeqCst);
                return Err(Fault::Unavailable("it is down".to_owned()));
            }
            let token = {
                let mut asked = self.asked.lock();
                asked.push(ask.scope.to_string());
                format!("token-number-{:08}", asked.len())
            };
            self.live.lock().insert(token.clone());
            let handle = (!self.irrevocable).then(|| Secret::new(token.as_bytes().to_vec()));
            let wider = self.wider.then(|| "permissions: admin".to_owned());
            Ok(Issued { lives: self.lives, handle, wider, ..Issued::bearer(&token)? })
        })
    }

    fn revoke<'a>(&'a self, handle: &'a [u8]) -> Pending<'a, Revoked> {
        Box::pin(async {
            if let Some(slow) = self.slow_to_revoke {
                tokio::time::sleep(slow).await;
            }
            if self.down.load(Ordering::SeqCst) {
                self.refusals.fetch_add(1, Ordering::SeqCst);
                return Err(Fault::Unavailable("it is down".to_owned()));
            }
            self.live.lock().remove(std::str::from_utf8(handle).unwrap());
            Ok(Revoked::Done)
        })
    }
}

fn scope() -> Vec<ScopeSpec> {
    let ask = json!({"repositories": ["{repo}"], "permissions": {"issues": "write"}});
    let Value::Object(ask) = ask else { unreachable!() };
    vec![ScopeSpec { intents: vec!["github.issues.*".into()], effects: Vec::new(), ask, place: Default::default() }]
}

fn credential(issuer: Counting) -> (Arc<Credential>, Arc<Counting>) {
    let issuer = Arc::new(issuer);
    (Credential::of("app", issuer.clone(), &scope()), issuer)
}

fn end(task: &Arc<Task>) {
    let _ = task.over_since.set(Instant::now());
    task.ended.cancel();
}

fn intent(id: &str, repo: &str) -> Intent {
    let mut params = Params::default();
    params.push("repo".into(), Param::Text(repo.into()));
    Intent { operation: Arc::new(operation(id, true)), params }
}

fn head() -> Head {
    let to = Destination { scheme: Scheme::Https, host: Host::parse("api.github.com").unwrap(), port: 443 };
    let path = Path::parse("/p".parse().unwrap()).unwrap();
    Head { method: Method::GET, to, path, headers: HeaderMap::new(), version: Version::HTTP_11, upgrade: None }
}

const PATIENT: Duration = Duration::from_secs(5);

async fn want(leases: &Leases, credential: &Arc<Credential>, task: &Arc<Task>, repo: &str) -> Result<Lease, Refusal> {
    want_within(leases, credential, task, repo, PATIENT).await
}

async fn want_within(
    leases: &Leases,
    credential: &Arc<Credential>,
    task: &Arc<Task>,
    repo: &str,
    patience: Duration,
) -> Result<Lease, Refusal> {
    let (head, intents) = (head(), [intent("github.issues.create", repo)]);
    let request = Request { task, head: &head, intents: &intents, now: Instant::now() };
    leases.lease_for(credential, &request, None, patience).await
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about within five seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_calls_ask_once_for_each_scope() {
    let (credential, issuer) = credential(Counting { slow: Some(Duration::from_millis(50)), ..Counting::default() });
    let (leases, task) = (Leases::default(), task(1, PATIENT));
    let calls: Vec<_> = (0..1000)
        .map(|n| {
            let (leases, credential, task) = (leases.clone(), credential.clone(), task.clone());
            tokio::spawn(async move { want(&leases, &credential, &task, ["web", "docs", "ops"][n % 3]).await.unwrap().fingerprint })
        })
        .collect();
    let mut given = BTreeSet::new();
    for call in calls {
        given.insert(call.await.unwrap());
    }
    assert_eq!((given.len(), issuer.asked.lock().len()), (3, 3));
    assert_eq!(leases.active(), 3);
    for _ in 0..10 {
        want(&leases, &credential, &task, "web").await.unwrap();
    }
    assert_eq!(issuer.asked.lock().len(), 3, "what is at hand is given again");
    want(&leases, &credential, &fixture::task(2, PATIENT), "web").await.unwrap();
    assert_eq!(issuer.asked.lock().len(), 4, "another task has its own");
}

#[tokio::test]
async fn nothing_is_asked_for_what_no_scope_is_for_or_what_would_widen_it() {
    let (credential, issuer) = credential(Counting::default());
    let (leases, task, head) = (Leases::default(), task(1, PATIENT), head());
    for (id, repo, wants) in [
        ("github.repos.delete", "web", "no `scope` of it is for github.repos.delete"),
        ("github.issues.create", "*", "would ask for more than itself"),
        ("github.issues.create", "", "is empty"),
    ] {
        let intents = [intent(id, repo)];
        let request = Request { task: &task, head: &head, intents: &intents, now: Instant::now() };
        let refusal = leases.lease_for(&credential, &request, None, PATIENT).await.unwrap_err();
        assert!(refusal.reason == Reason::CredentialUnavailable && refusal.detail.contains(wants), "{refusal:?}");
    }
    assert!(issuer.asked.lock().is_empty());
}

#[tokio::test]
async fn a_policy_narrows_and_several_intents_are_asked_for_together() {
    let (credential, issuer) = credential(Counting::default());
    let (leases, task, head) = (Leases::default(), task(1, PATIENT), head());
    let both = [intent("github.issues.create", "web"), intent("github.issues.create", "docs")];
    let request = Request { task: &task, head: &head, intents: &both, now: Instant::now() };
    leases.lease_for(&credential, &request, None, PATIENT).await.unwrap();
    leases.lease_for(&credential, &request, Some(&json!({"permissions": {"issues": "read"}})), PATIENT).await.unwrap();
    let wider = leases.lease_for(&credential, &request, Some(&json!({"permissions": {"contents": "read"}})), PATIENT).await.unwrap_err();
    assert!(wider.detail.contains("`contents` is not among what is asked"), "{wider:?}");
    assert_eq!(
        *issuer.asked.lock(),
        [
            r#"{"permissions":{"issues":"write"},"repositories":["web","docs"]}"#,
            r#"{"permissions":{"issues":"read"},"repositories":["web","docs"]}"#,
        ]
    );
}

#[tokio::test]
async fn the_end_of_a_task_takes_back_what_it_has() {
    let (credential, issuer) = credential(Counting::default());
    let (leases, task) = (Leases::default(), task(1, PATIENT));
    for repo in 0..100 {
        want(&leases, &credential, &task, &format!("r{repo}")).await.unwrap();
    }
    assert_eq!((issuer.live.lock().len(), leases.list().len()), (100, 100));
    end(&task);
    leases.revoke(&task).unwrap().await;
    assert_eq!((issuer.live.lock().len(), leases.list().len()), (0, 0));
    let refusal = want(&leases, &credential, &task, "r1").await.unwrap_err();
    assert_eq!(refusal.reason, Reason::TaskEnded);
    assert_eq!(issuer.asked.lock().len(), 100, "nothing is asked for a task that is over");
    assert!(leases.revoke(&task).is_none());
}

#[tokio::test]
async fn what_arrives_after_the_end_goes_back_unused() {
    let (credential, issuer) = credential(Counting { slow: Some(Duration::from_millis(100)), ..Counting::default() });
    let (leases, task) = (Leases::default(), task(1, PATIENT));
    let calling = tokio::spawn({
        let (leases, credential, task) = (leases.clone(), credential.clone(), task.clone());
        async move { want(&leases, &credential, &task, "web").await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    end(&task);
    leases.revoke(&task).unwrap().await;
    assert_eq!(calling.await.unwrap().unwrap_err().reason, Reason::TaskEnded);
    assert_eq!((issuer.asked.lock().len(), issuer.live.lock().len()), (1, 0), "it was issued, and taken back before the end was done");
    assert!(leases.list().is_empty());
}

#[tokio::test]
async fn a_drain_waits_for_what_a_task_that_just_ended_had() {
    let (credential, issuer) = credential(Counting { slow_to_revoke: Some(Duration::from_millis(150)), ..Counting::default() });
    let (leases, task) = (Leases::default(), task(1, PATIENT));
    want(&leases, &credential, &task, "web").await.unwrap();
    end(&task);
    tokio::spawn(leases.revoke(&task).unwrap());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(issuer.live.lock().len(), 1);
    leases.drain().await;
    assert!(issuer.live.lock().is_empty());
}

#[tokio::test]
async fn more_than_was_asked_is_refused_and_taken_back() {
    let (credential, issuer) = credential(Counting { wider: true, ..Counting::default() });
    let leases = Leases::default();
    let refusal = want(&leases, &credential, &task(1, PATIENT), "web").await.unwrap_err();
    assert!(refusal.detail.contains("more than was asked (permissions: admin)"), "{refusal:?}");
    assert!(issuer.live.lock().is_empty() && leases.list().is_empty());
}

#[tokio::test]
async fn a_slow_issuer_holds_up_nobody_else_and_a_failure_is_not_asked_for_again_at_once() {
    let (slow, slow_issuer) = credential(Counting { slow: Some(Duration::from_millis(300)), ..Counting::default() });
    let (quick, issuer) = (Credential::of("quick", Arc::new(Counting::default()), &scope()), &slow_issuer);
    let (leases, task) = (Leases::default(), task(1, PATIENT));
    let began = Instant::now();
    let (late, given) =
        tokio::join!(want_within(&leases, &slow, &task, "web", Duration::from_millis(50)), want(&leases, &quick, &task, "web"),);
    assert!(late.unwrap_err().detail.contains("no answer within") && given.is_ok());
    assert!(began.elapsed() < Duration::from_millis(250));
    until(|| !issuer.asked.lock().is_empty()).await;
    want_within(&leases, &slow, &task, "web", Duration::from_millis(50)).await.unwrap();
    assert_eq!(issuer.asked.lock().len(), 1, "what came late is there for the next");

    let (down, issuer) = credential(Counting { down: true.into(), ..Counting::default() });
    for _ in 0..20 {
        let refusal = want(&leases, &down, &fixture::task(2, PATIENT), "web").await.unwrap_err();
        assert!(refusal.detail.contains("it is down"), "{refusal:?}");
    }
    assert_eq!(issuer.refusals.load(Ordering::SeqCst), 1);
    issuer.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

#[tokio::test]
async fn it_is_fetched_ahead_and_a_valid_one_goes_on_while_the_issuer_is_down() {
    let (credential, issuer) = credential(Counting { lives: Some(Duration::from_secs(3)), ..Counting::default() });
    let (leases, task) = (Leases::default(), task(1, Duration::from_secs(60)));
    let first = want(&leases, &credential, &task, "web").await.unwrap();
    assert!(first.expires.is_some() && first.revocable);
    issuer.down.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for _ in 0..5 {
        assert_eq!(want(&leases, &credential, &task, "web").await.unwrap().fingerprint, first.fingerprint);
    }
    until(|| issuer.refusals.load(Ordering::SeqCst) > 0).await;
    issuer.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let next = want(&leases, &credential, &task, "web").await.unwrap();
    assert_ne!(next.fingerprint, first.fingerprint);
}

#[tokio::test]
async fn a_revocation_that_fails_is_tried_again_and_seen_meanwhile() {
    let (credential, issuer) = credential(Counting::default());
    let (leases, task) = (Leases::default(), task(1, PATIENT));
    want(&leases, &credential, &task, "web").await.unwrap();
    issuer.down.store(true, Ordering::SeqCst);
    end(&task);
    leases.revoke(&task).unwrap().await;
    assert_eq!((leases.active(), leases.unrevoked()), (0, 1));
    assert!(leases.list()[0].unrevoked);
    issuer.down.store(false, Ordering::SeqCst);
    until(|| leases.unrevoked() == 0).await;
    assert!(issuer.live.lock().is_empty());
}

#[tokio::test]
async fn what_cannot_be_revoked_is_listed_as_such_until_it_expires() {
    let (credential, _) = credential(Counting { irrevocable: true, lives: Some(Duration::from_millis(1500)), ..Counting::default() });
    let (leases, task) = (Leases::default(), task(1, PATIENT));
    assert!(!want(&leases, &credential, &task, "web").await.unwrap().revocable);
    end(&task);
    leases.revoke(&task).unwrap().await;
    let list = leases.list();
    assert!(!list[0].revocable && list[0].unrevoked);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert!(leases.list().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_start_revokes_what_a_crash_left() {
    let dir = std::env::temp_dir().join(format!("remit-leases-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let place = || JournalPlace { dir: dir.clone(), key: dir.join("key") };
    let issuer = Arc::new(Counting::default());
    let credential = Credential::of("app", issuer.clone(), &scope());
    let broker = Broker::of(credential.clone());
    let before = Leases::new(Journal::new(place()), Arc::new(held::Untold));
    assert!(!dir.exists(), "nothing is made before there is something to keep");
    for repo in 0..20 {
        want(&before, &credential, &task(repo, PATIENT), &format!("r{repo}")).await.unwrap();
    }
    let gone = task(99, PATIENT);
    want(&before, &credential, &gone, "gone").await.unwrap();
    end(&gone);
    before.revoke(&gone).unwrap().await;
    before.0.journal.flush().await;
    assert_eq!(issuer.live.lock().len(), 20);
    let text = std::fs::read(journals(&dir).remove(0)).unwrap();
    assert!(!text.windows(12).any(|w| w == b"token-number"), "it is sealed");

    let beside = Leases::new(Journal::new(place()), Arc::new(held::Untold));
    assert_eq!(beside.recover().unwrap(), 0, "what a living process has is its own");
    // As after a crash: the file is there, and nobody has it locked. Half a record stands at its end.
    let copy = dir.join("leases-0000.sealed");
    std::fs::write(&copy, [&text[..], &[0, 0, 0, 90, 1, 2, 3]].concat()).unwrap();
    let after = Leases::new(Journal::new(place()), Arc::new(held::Untold));
    after.know(&broker);
    assert_eq!(after.recover().unwrap(), 20);
    until(|| issuer.live.lock().is_empty()).await;
    assert!(!copy.exists());

    for cut in [text.len() / 2, text.len() - 1] {
        let mut edited = text.clone();
        edited[cut] ^= 1;
        std::fs::write(&copy, edited).unwrap();
        let why = Leases::new(Journal::new(place()), Arc::new(held::Untold)).recover().unwrap_err().to_string();
        assert!(why.contains("was edited") && why.contains("leases-0000.sealed"), "{why}");
    }
}

fn journals(dir: &PathBuf) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    all.filter(|p| p.extension().is_some_and(|e| e == "sealed")).collect()
}

#[tokio::test]
async fn what_is_issued_is_revoked_with_the_secrets_that_are_good_now() {
    let (old, issuer) = credential(Counting::default());
    let (new, after) = credential(Counting::default());
    let (leases, task) = (Leases::default(), task(1, PATIENT));
    want(&leases, &old, &task, "web").await.unwrap();
    issuer.down.store(true, Ordering::SeqCst);
    leases.know(&Broker::of(new));
    after.live.lock().insert("token-number-00000001".to_owned());
    end(&task);
    leases.revoke(&task).unwrap().await;
    assert!(after.live.lock().is_empty() && issuer.refusals.load(Ordering::SeqCst) == 0);
}
