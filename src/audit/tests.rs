//! What needs a look inside: files that fail in ways a test cannot have from a real disk, and the text of records.

use std::{fs::OpenOptions, time::Duration};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;
use crate::call::{
    DecisionId, Destination, Host, Intent, Listener, Mode, Operation, Param, Params, Path as CallPath, Provider, Scheme, Verdict,
};

fn open(dir: &Path) -> Arc<Audit> {
    Audit::open(&config::Audit {
        sinks: vec![config::Sink::Dir(dir.join("audit"))],
        signing_key: None,
        durability: vec![(Effect::Read, Durability::Buffered)],
        rotate_size: 1 << 20,
        keep: Duration::ZERO,
    })
    .unwrap()
}

fn record(id: DecisionId) -> DecisionRecord<'static> {
    DecisionRecord {
        id,
        time: OffsetDateTime::now_utc(),
        traceparent: None,
        mode: Mode::Enforce,
        listener: Listener::Forward,
        caller: None,
        method: None,
        to: None,
        path: None,
        intents: &[],
        verdict: Verdict::Deny,
        code: Some(Reason::NoTask),
        reasons: &[],
        approval: None,
        revision: "r",
        cached: false,
        lease: None,
        scope: None,
        grants: &[],
        limits: &[],
        tokens: None,
        own_login: false,
        passed: None,
        returns: Default::default(),
    }
}

async fn decide(audit: &Audit, durability: Durability) -> Result<DecisionId, Refusal> {
    let id = DecisionId::new(1);
    audit.decision(&record(id), durability).await.map(|()| id)
}

fn body(record: &DecisionRecord<'_>) -> Value {
    let mut out = Vec::new();
    record::decision(&mut out, record);
    serde_json::from_slice(&out).unwrap()
}

fn intent(params: Params) -> Intent {
    let provider = Arc::new(Provider { id: "p".into(), credential: None, errors: Default::default(), basic: None });
    let operation = Operation {
        id: "p.g.n".into(),
        group: "g".into(),
        name: "n".into(),
        provider,
        effect: Effect::Read,
        labels: Box::default(),
        upgrades: Box::default(),
        takes_credential: true,
        follows: Box::default(),
    };
    Intent { operation: Arc::new(operation), params }
}

#[tokio::test]
async fn a_file_that_takes_nothing_and_cannot_be_cut_is_left_for_a_new_one() {
    let dir = testing::dir("devfull");
    let audit = open(&dir);
    decide(&audit, Durability::Buffered).await.unwrap();
    audit.log.replace_file(OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert_eq!(decide(&audit, Durability::Buffered).await.unwrap_err().reason, Reason::AuditUnavailable);
    assert!(!audit.writable());
    tokio::time::sleep(log::RETRY * 2).await;
    decide(&audit, Durability::Buffered).await.unwrap();
    let head = audit.close();
    let report = verify_dir(&dir.join("audit"), None).unwrap();
    assert!(report.verified(), "{report:#?}");
    assert_eq!((report.chains[0].files.len(), report.chains[0].decisions), (2, 3));
    assert_eq!(report.chains[0].head.as_deref(), Some(head.to_string().as_str()));
}

#[tokio::test]
async fn a_file_that_cannot_be_synced_is_left_and_what_it_lost_is_named() {
    let dir = testing::dir("devnull");
    let audit = open(&dir);
    decide(&audit, Durability::Synced).await.unwrap();
    audit.log.replace_file(OpenOptions::new().write(true).open("/dev/null").unwrap());
    assert_eq!(decide(&audit, Durability::Synced).await.unwrap_err().reason, Reason::AuditUnavailable);
    tokio::time::sleep(log::RETRY * 2).await;
    decide(&audit, Durability::Synced).await.unwrap();
    audit.close();
    let report = verify_dir(&dir.join("audit"), None).unwrap();
    let fault = report.fault().unwrap();
    assert_eq!((fault.what, fault.seq), (What::Removed, 3), "{fault}");
}

#[tokio::test]
async fn the_key_is_private_and_never_in_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let dir = testing::dir("key");
    open(&dir).close();
    let key = std::fs::read_to_string(dir.join("audit.key")).unwrap();
    assert_eq!(std::fs::metadata(dir.join("audit.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = key.lines().nth(1).unwrap();
    for file in std::fs::read_dir(dir.join("audit")).unwrap() {
        assert!(!std::fs::read_to_string(file.unwrap().path()).unwrap().contains(secret));
    }
    // The same key again, and the public one is written anew where it is gone.
    std::fs::remove_file(dir.join("audit.pub")).unwrap();
    open(&dir).close();
    assert!(verify_dir(&dir.join("audit"), None).unwrap().verified());
    std::fs::write(dir.join("audit.pub"), "not a key").unwrap();
    let config = config::Audit {
        sinks: vec![config::Sink::Dir(dir.join("audit"))],
        signing_key: None,
        durability: vec![],
        rotate_size: 1 << 20,
        keep: Duration::ZERO,
    };
    assert!(Audit::open(&config).unwrap_err().to_string().contains("audit.pub"));
    std::fs::write(dir.join("audit.key"), "not a key").unwrap();
    assert!(Audit::open(&config).unwrap_err().to_string().contains("Ed25519 private key"));
    let config = config::Audit { sinks: vec![config::Sink::Stdout], ..config };
    assert!(Audit::open(&config).unwrap_err().to_string().contains("audit.signing_key"));
}

#[test]
fn what_is_not_listed_is_synced() {
    let audit = open(&testing::dir("durability"));
    assert_eq!(audit.durability_for(Effect::Read), Durability::Buffered);
    for effect in [Effect::Write, Effect::Delete, Effect::Admin, Effect::Execute] {
        assert_eq!(audit.durability_for(effect), Durability::Synced);
    }
}

#[test]
fn a_long_parameter_is_cut_and_says_what_it_was() {
    let long = "ä".repeat(500);
    let list = json!(["x".repeat(300)]);
    let mut params = Params::default();
    params.push("short".into(), Param::Text("s".into()));
    params.push("long".into(), Param::Text(long.as_str().into()));
    params.push("list".into(), Param::Json(list.clone()));
    params.push("flag".into(), Param::Json(json!(true)));
    let intents = [intent(params)];
    let value = body(&DecisionRecord { intents: &intents, ..record(DecisionId::new(1)) });
    let i = &value["intents"][0];
    assert_eq!((&i["params"]["short"], &i["params"]["flag"]), (&json!("s"), &json!(true)));
    assert_eq!(i["params"]["long"].as_str().unwrap().len(), LONGEST_PARAMETER);
    assert_eq!(i["cut"]["long"]["bytes"], 1000);
    let mut sum = Vec::new();
    text::hex(&mut sum, &line::sha256(list.to_string().as_bytes()));
    assert_eq!(i["cut"]["list"]["sha256"], String::from_utf8(sum).unwrap());
    assert_eq!(i["cut"].as_object().unwrap().len(), 2);
}

#[test]
fn what_may_be_a_secret_is_not_on_record() {
    const KEY: &str = "sk-live-0123456789abcdef";
    let path = CallPath::parse(format!("/bot/{KEY}/x?page=2&token={KEY}&{KEY}&q=find").parse().unwrap()).unwrap();
    let to = Destination { scheme: Scheme::Https, host: Host::parse("api.example.com").unwrap(), port: 443 };
    let mut params = Params::default();
    params.push("page".into(), Param::Text("2".into()));
    let intents = [intent(params)];
    let known = DecisionRecord { path: Some(&path), to: Some(&to), intents: &intents, ..record(DecisionId::new(1)) };
    assert_eq!(body(&known)["query"], json!(["page", "token", "…", "q"]));
    assert_eq!(body(&known)["intents"][0]["params"], json!({"page": "2"}));
    let mut params = Params::default();
    params.push("token".into(), Param::Text(KEY.into()));
    params.push("deep".into(), Param::Json(json!({"a": [KEY]})));
    let intents = [intent(params)];
    let refused = DecisionRecord { intents: &intents, code: Some(Reason::ForeignCredential), ..known };
    let text = body(&refused).to_string();
    assert!(!text.contains(KEY) && text.contains("/bot/…/x"), "{text}");
}

#[test]
fn an_unidentified_caller_has_no_agent_and_a_bad_trace_is_left_out() {
    let value = body(&DecisionRecord { traceparent: Some("00-zz"), ..record(DecisionId::new(1)) });
    assert!(value["agent"].is_null() && value["task"].is_null() && value.get("trace").is_none());
    assert_eq!((&value["decision"], &value["code"]), (&json!("deny"), &json!("no_task")));
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(
        body(&DecisionRecord { traceparent: Some(good), ..record(DecisionId::new(1)) })["trace"],
        "4bf92f3577b34da6a3ce929d0e0e4736"
    );
    let none = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    assert!(body(&DecisionRecord { traceparent: Some(none), ..record(DecisionId::new(1)) }).get("trace").is_none());
}

#[test]
fn a_head_reads_back() {
    let head = Head { seq: 12, hash: [0xab; 32] };
    assert_eq!(head.to_string().parse::<Head>().unwrap(), head);
    for bad in ["12", "x:ab", "12:abcd", &head.to_string().to_uppercase()] {
        assert!(bad.parse::<Head>().is_err(), "{bad}");
    }
}
