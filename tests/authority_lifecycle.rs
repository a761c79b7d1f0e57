//! `remit agents suspend|resume|retire|attest`, and what the registry file says meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is test code")]

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use clap::{Args, Command, FromArgMatches};
use remit::{
    admin::control::{Control, ControlSocket, Ledger, serve},
    authority::{NoEvents, Registry, Start, Tasks},
    call::{Mode, Principal},
    cli::agents::{self, AgentsArgs},
    clock::{Moment, SystemClock},
    config::{Config, Status},
    refusal::Reason,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const FILE: &str = "version: 1
listen: {control: 'unix:remit.sock'}
agents:
  - {id: bot, owner: a@acme.example, workflows: [w], attested: {models: [claude-5]}}
  - {id: other, owner: a@acme.example, workflows: [w]}
  - {id: filed, owner: a@acme.example, workflows: [w], status: suspended}
workflows:
  - {id: w, purpose: test, max_lifetime: 5m, grants: [{effects: [read]}]}
";

struct Live {
    config: PathBuf,
    tasks: Arc<Tasks>,
    registry: Arc<ArcSwap<Registry>>,
    noted: Arc<Mutex<Vec<(String, Value)>>>,
    /// Whether records can be written.
    writable: Arc<std::sync::atomic::AtomicBool>,
}

impl Live {
    fn start(name: &str, lasts: bool) -> Self {
        let dir = std::env::temp_dir().join(format!("remit-lifecycle-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = dir.join("remit.yaml");
        std::fs::write(&config, FILE).unwrap();
        let spec = Config::load(&config).unwrap().registry;
        let tasks = Arc::new(Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), Duration::from_secs(30)));
        let registry = Arc::new(ArcSwap::from_pointee(Registry::new(&spec, Mode::Enforce).adopting(tasks.known()).0));
        let noted = Arc::new(Mutex::new(Vec::new()));
        let writable = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (notes, can) = (noted.clone(), writable.clone());
        let note = move |kind: &str, data: &Value| {
            let can = can.load(std::sync::atomic::Ordering::SeqCst);
            if can {
                notes.lock().unwrap().push((kind.to_owned(), data.clone()));
            }
            can
        };
        let ledger = Ledger { note: Arc::new(note), lasts };
        let control = Control {
            leases: Default::default(),
            tasks: tasks.clone(),
            registry: registry.clone(),
            clock: Arc::new(SystemClock),
            proxy: None,
            not_below: None,
            ledger,
            token: None,
            in_tls: None,
            verify: None,
        };
        tokio::spawn(serve(ControlSocket::bind(&dir.join("remit.sock")).unwrap(), control, CancellationToken::new()));
        Self { config, tasks, registry, noted, writable }
    }

    fn task(&self, agent: &str) -> Result<Arc<remit::call::Task>, Reason> {
        let principal = Principal { id: "alice@acme.example".into(), verified: false, claims: json!({}) };
        self.tasks.start(&self.registry.load(), Start::new(agent, "w", principal), Moment::now()).map(|(t, _)| t).map_err(|r| r.reason)
    }

    async fn remit(&self, args: &[&str]) -> (u8, String) {
        let line = ["remit"].iter().chain(args).copied().chain(["--config", self.config.to_str().unwrap()]);
        let matches = AgentsArgs::augment_args(Command::new("remit")).try_get_matches_from(line).unwrap();
        let (mut out, mut err) = (vec![], vec![]);
        let code = agents::run(&AgentsArgs::from_arg_matches(&matches).unwrap(), &mut out, &mut err).await.unwrap();
        out.extend(err);
        (code, String::from_utf8(out).unwrap())
    }

    fn status(&self, agent: &str) -> Option<Reason> {
        self.registry.load().status(agent, Moment::now().utc)
    }
}

#[tokio::test]
async fn suspending_ends_all_tasks_at_once_and_says_who_did_it() {
    let live = Live::start("suspend", false);
    let (one, two, other) = (live.task("bot").unwrap(), live.task("bot").unwrap(), live.task("other").unwrap());
    let (code, said) = live.remit(&["suspend", "bot"]).await;
    assert_eq!(code, 1);
    assert!(said.contains("--until-restart") && said.contains("state:"), "{said}");
    assert_eq!((live.status("bot"), one.over(Instant::now())), (None, None), "and nothing happened");

    let (code, said) = live.remit(&["suspend", "bot", "--until-restart", "--reason", "odd calls"]).await;
    assert_eq!((code, said.as_str()), (0, "suspended bot; tasks ended: 2\n"));
    assert!(one.ended.is_cancelled() && two.ended.is_cancelled() && !other.ended.is_cancelled());
    assert_eq!(live.task("bot").unwrap_err(), Reason::AgentSuspended);
    let (kind, data) = live.noted.lock().unwrap().pop().unwrap();
    assert_eq!(
        (kind.as_str(), &data["status"], &data["tasks_ended"], &data["reason"]),
        ("agent", &json!("suspended"), &json!(2), &json!("odd calls"))
    );
    assert!(data["by"].as_str().unwrap().contains(&format!("pid {}", std::process::id())), "{data}");
    let (_, said) = live.remit(&["show", "bot"]).await;
    assert!(said.contains("status        suspended") && said.contains("odd calls"), "{said}");

    assert_eq!(live.remit(&["resume", "bot", "--until-restart"]).await, (0, "resumed bot\n".to_owned()));
    assert!(live.task("bot").is_ok());
    assert!(one.ended.is_cancelled(), "what ended stays ended");
}

#[tokio::test]
async fn the_strictest_of_file_and_state_counts_also_over_a_reload() {
    let live = Live::start("strictest", true);
    let (code, said) = live.remit(&["resume", "filed"]).await;
    assert_eq!(code, 1);
    assert!(said.contains("remit.yaml:6"), "{said}");
    assert_eq!(live.remit(&["suspend", "bot", "--until-restart"]).await.0, 1, "with a state file it lasts");
    assert_eq!(live.remit(&["retire", "bot"]).await.0, 0);
    let spec = Config::load(&live.config).unwrap().registry;
    assert_eq!(spec.agents[0].status, Status::Active);
    let (reloaded, _) = Registry::new(&spec, Mode::Enforce).adopting(live.tasks.known());
    live.registry.store(Arc::new(reloaded));
    assert_eq!(live.status("bot"), Some(Reason::AgentRetired));
    let (code, said) = live.remit(&["resume", "bot"]).await;
    assert!(code == 1 && said.contains("for good"), "{said}");
    assert_eq!(live.remit(&["suspend", "nobody"]).await.0, 1);
}

#[tokio::test]
async fn what_widens_waits_for_the_record_and_what_narrows_does_not() {
    let live = Live::start("record", true);
    assert_eq!(live.remit(&["suspend", "other"]).await.0, 0);
    live.writable.store(false, std::sync::atomic::Ordering::SeqCst);
    let task = live.task("bot").unwrap();
    let (code, said) = live.remit(&["suspend", "bot"]).await;
    assert_eq!(code, 3);
    assert!(said.contains("1 of its tasks have ended") && said.contains("audit"), "{said}");
    assert!(task.ended.is_cancelled());
    assert_eq!(live.remit(&["resume", "other"]).await.0, 3);
    assert_eq!(live.status("other"), Some(Reason::AgentSuspended));
}

#[tokio::test]
async fn a_handle_changes_no_agent() {
    let live = Live::start("handle", true);
    let principal = Principal { id: "a".into(), verified: false, claims: json!({}) };
    let (_, handle) = live.tasks.start(&live.registry.load(), Start::new("bot", "w", principal), Moment::now()).unwrap();
    let client = remit::cli::control::Client::new(
        live.config.with_file_name("remit.sock"),
        Some(remit::secret::Secret::new(handle.expose().to_owned())),
    );
    for body in [json!({"status": "active"}), json!({"attested": {}}), json!({"status": "suspended"})] {
        let reply = client.send(http::Method::PATCH, "/v1/agents/bot", Some(&body)).await.unwrap();
        assert_eq!(reply.status, 403, "{body}");
    }
    assert_eq!(live.status("bot"), None);
}

#[tokio::test]
async fn a_change_that_is_not_understood_is_refused() {
    let live = Live::start("wrong", true);
    let client = remit::cli::control::Client::new(live.config.with_file_name("remit.sock"), None);
    for (body, status) in [
        (json!({}), 422),
        (json!({"status": "active", "attested": {}}), 422),
        (json!({"status": "gone"}), 422),
        (json!({"attested": {"tools": {"x": "sha256:zz"}}}), 422),
        (json!({"status": "suspended", "reason": "a\nb"}), 422),
        (json!({"status": "suspended", "more": 1}), 422),
    ] {
        let reply = client.send(http::Method::PATCH, "/v1/agents/bot", Some(&body)).await.unwrap();
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
    }
}
