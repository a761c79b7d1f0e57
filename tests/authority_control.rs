//! The commands `remit task` and `remit agents` against a control socket.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use clap::{Args, Command, FromArgMatches};
use remit::{
    admin::control::{Control, ControlSocket, serve},
    authority::{NoEvents, Registry, Tasks},
    call::{Effect, Mode},
    cli::{
        agents::{self, AgentsArgs},
        task::{self, TaskArgs},
    },
    clock::SystemClock,
    config::{AgentSpec, GrantSpec, OnDrift, Place, RegistrySpec, Status, WorkflowSpec},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

fn registry() -> Registry {
    let place = || Place { file: "registry.yaml".into(), line: 3 };
    let agent = AgentSpec {
        id: "triage-bot".into(),
        owner: "support@acme.example".into(),
        spiffe_id: None,
        identities: vec![],
        status: Status::Active,
        expires: None,
        workflows: vec!["triage-issues".into()],
        delegates_to: vec!["writer".into()],
        attested: None,
        on_drift: OnDrift::Record,
        review: Default::default(),
        mode: None,
        limits: vec![],
        place: place(),
    };
    let grant = GrantSpec {
        intents: vec!["github.*".into()],
        effects: vec![Effect::Read],
        constraints: vec![("repo".into(), vec!["web".into(), "docs".into()])],
        limit: None,
        labels: vec![],
        approval: None,
        credential: None,
        returns: Default::default(),
        place: place(),
    };
    let workflow = WorkflowSpec {
        id: "triage-issues".into(),
        purpose: "Label and answer new issues".into(),
        max_lifetime: Duration::from_secs(1800),
        grants: vec![grant],
        credential: None,
        mode: None,
        quiet: false,
        limits: vec![],
        place: place(),
    };
    let helper = AgentSpec { id: "writer".into(), delegates_to: vec![], ..agent.clone() };
    Registry::new(&RegistrySpec { agents: vec![agent, helper], workflows: vec![workflow] }, Mode::Enforce)
}

/// A control socket beside a configuration that names it.
fn started(name: &str) -> (PathBuf, Arc<Tasks>) {
    let dir = std::env::temp_dir().join(format!("remit-control-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let config = dir.join("remit.yaml");
    std::fs::write(&config, "version: 1\nlisten: {control: 'unix:remit.sock'}\n").unwrap();
    let tasks = Arc::new(Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::from_secs(30)));
    let control = Control {
        leases: Default::default(),
        tasks: tasks.clone(),
        registry: Arc::new(ArcSwap::from_pointee(registry())),
        clock: Arc::new(SystemClock),
        proxy: Some("127.0.0.1:8080".parse().unwrap()),
        in_tls: None,
        not_below: None,
        ledger: Default::default(),
        token: None,
        verify: None,
    };
    let socket = ControlSocket::bind(&dir.join("remit.sock")).unwrap();
    tokio::spawn(serve(socket, control, CancellationToken::new()));
    (config, tasks)
}

/// Exit code, standard output and standard error of `remit task|agents ARGS --config CONFIG`.
async fn remit(config: &Path, args: &[&str]) -> (u8, String, String) {
    let (command, rest) = args.split_first().unwrap();
    let line = rest.iter().copied().chain(["--config", config.to_str().unwrap()]);
    let (mut out, mut err) = (vec![], vec![]);
    let code = if *command == "task" {
        task::run(&parse::<TaskArgs>(line), &mut out, &mut err).await
    } else {
        agents::run(&parse::<AgentsArgs>(line), &mut out, &mut err).await
    };
    (code.unwrap(), String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn parse<'a, A: Args + FromArgMatches>(line: impl Iterator<Item = &'a str>) -> A {
    let matches = A::augment_args(Command::new("remit")).try_get_matches_from(["remit"].into_iter().chain(line)).unwrap();
    A::from_arg_matches(&matches).unwrap()
}

const START: [&str; 8] = ["task", "start", "--agent", "triage-bot", "--workflow", "triage-issues", "--for", "alice@acme.example"];

fn start_with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    START.iter().copied().chain(more.iter().copied()).collect()
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|l| l.strip_prefix(name)).map_or("", str::trim)
}

#[tokio::test]
async fn a_task_is_started_listed_shown_and_ended() {
    let (config, tasks) = started("life");
    let (code, out, _) = remit(&config, &start_with(&["--lifetime", "5m", "--grant", r#"{"where": {"repo": "web"}}"#])).await;
    assert_eq!(code, 0, "{out}");
    let (id, handle) = (field(&out, "id"), field(&out, "handle"));
    assert_eq!(field(&out, "proxy"), format!("http://task:{handle}@127.0.0.1:8080"));
    assert!(tasks.by_handle(handle.as_bytes(), std::time::Instant::now()).is_some());

    let (code, list, _) = remit(&config, &["task", "list"]).await;
    assert_eq!((code, list.lines().count()), (0, 2), "{list}");
    assert!(list.contains(id) && list.contains("alice@acme.example (not verified)") && !list.contains(handle));

    let (_, shown, _) = remit(&config, &["task", "show", id]).await;
    assert_eq!((field(&shown, "state"), field(&shown, "agent")), ("active", "triage-bot"));
    assert_eq!(field(&shown, "narrowed"), r#"{"effects":["read"],"intents":["github.*"],"where":{"repo":["web"]}}"#);

    assert_eq!(remit(&config, &["task", "end", id]).await, (0, format!("ended {id}\n"), String::new()));
    let (code, out, err) = remit(&config, &["task", "end", id]).await;
    assert_eq!((code, out, err), (1, String::new(), format!("task {id} has ended already\n")));
    assert_eq!(field(&remit(&config, &["task", "show", id]).await.1, "state"), "ended");
}

#[tokio::test]
async fn output_json_is_what_the_api_said() {
    let (config, tasks) = started("json");
    let (_, out, _) = remit(&config, &start_with(&["--output", "json"])).await;
    let started: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(started["id"], tasks.list()[0].id.as_str());
    let (_, out, _) = remit(&config, &["task", "list", "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["tasks"][0]["id"], started["id"]);
    let (code, out, err) = remit(&config, &["task", "show", "t-none", "--output", "json"]).await;
    let problem: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, problem["status"].as_u64(), err.as_str()), (1, Some(404), ""));
}

#[tokio::test]
async fn a_no_names_its_reason_and_exits_with_one() {
    let (config, tasks) = started("no");
    let (code, out, err) = remit(&config, &start_with(&["--lifetime", "9h"])).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("longer than the 1800 s that workflow `triage-issues` allows"), "{err}");
    let (code, _, err) = remit(&config, &start_with(&["--grant", r#"{"intents": ["slack.*"]}"#])).await;
    assert!(code == 1 && err.contains("slack.*"), "{err}");
    assert!(tasks.list().is_empty());
    // an id is one segment of a path, whatever it holds
    let (code, _, err) = remit(&config, &["task", "show", "../agents?x"]).await;
    assert!(code == 1 && err.contains("../agents?x"), "{err}");
}

#[tokio::test]
async fn agents_are_listed_and_shown() {
    let (config, _) = started("agents");
    let (code, list, _) = remit(&config, &["agents", "list"]).await;
    assert_eq!(code, 0);
    assert_eq!(
        list.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>(),
        ["triage-bot", "active", "support@acme.example", "0", "-", "triage-issues"]
    );
    let (_, one, _) = remit(&config, &["agents", "show", "triage-bot"]).await;
    assert_eq!((field(&one, "registered"), field(&one, "workflow")), ("registry.yaml:3", "triage-issues (enforce)"));
    let (code, _, err) = remit(&config, &["agents", "show", "nobody"]).await;
    assert_eq!((code, err.as_str()), (1, "no agent `nobody` is registered\n"));
}

#[tokio::test]
async fn a_task_is_handed_on_and_lasts_longer_or_less_long() {
    let (config, tasks) = started("delegate");
    let (_, out, _) = remit(&config, &start_with(&["--lifetime", "5m"])).await;
    let id = field(&out, "id").to_owned();
    let part = ["task", "delegate", &id, "--agent", "writer", "--workflow", "triage-issues", "--lifetime", "2m"];
    let grants = [r#"{"where": {"repo": "web"}}"#];
    let (code, out, err) = remit(&config, &part.iter().copied().chain(["--grant", grants[0]]).collect::<Vec<_>>()).await;
    assert_eq!(code, 0, "{err}");
    let child = tasks.by_handle(field(&out, "handle").as_bytes(), std::time::Instant::now()).unwrap().task;
    assert_eq!(child.parent.as_ref().unwrap().id.as_str(), id);
    assert_eq!(field(&out, "proxy"), format!("http://task:{}@127.0.0.1:8080", field(&out, "handle")));
    let (_, shown, _) = remit(&config, &["task", "show", child.id.as_str()]).await;
    assert!(field(&shown, "parent") == id && shown.contains("narrowed"), "{shown}");
    let (code, out, _) = remit(&config, &["task", "extend", &id, "--lifetime", "29m"]).await;
    assert!(code == 0 && field(&out, "id") == id && !field(&out, "expires").is_empty(), "{out}");
    let (code, _, err) = remit(&config, &["task", "extend", &id, "--lifetime", "31m"]).await;
    assert!(code == 1 && err.contains("no longer"), "{err}");
    let (code, out, _) = remit(&config, &["task", "extend", &id, "--lifetime", "1m", "--output", "json"]).await;
    assert!(code == 0 && out.contains("\"expires\""), "{out}");
    assert!(child.deadline() <= tasks.by_id(&child.parent.as_ref().unwrap().id, std::time::Instant::now()).unwrap().task.deadline());
    let wider = ["task", "delegate", child.id.as_str(), "--agent", "triage-bot", "--workflow", "triage-issues"];
    let (code, _, err) = remit(&config, &wider).await;
    assert!(code == 1 && err.contains("may not delegate"), "{err}");
    remit(&config, &["task", "end", &id]).await;
    assert!(child.ended.is_cancelled());
}
