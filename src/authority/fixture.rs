//! A small registry, a settable clock and a listener that remembers, for tests.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    call::{Effect, Intent, Label, Mode, Operation, Param, Params, Principal, Provider, Task, Unit, Window},
    clock::{Clock, Moment, SettableClock},
    config::{AgentSpec, GrantSpec, LimitSpec, OnDrift, Place, RegistrySpec, Status, WorkflowSpec},
    refusal::{Reason, Refusal},
};

use super::{End, Registry, Start, TaskEvents, Tasks};

pub(crate) const DRAIN: Duration = Duration::from_secs(30);
pub(crate) const LIFETIME: Duration = Duration::from_secs(1800);

/// Everything a test of tasks needs.
pub(crate) struct House {
    pub(crate) clock: Arc<SettableClock>,
    pub(crate) events: Arc<Remembers>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) registry: Registry,
}

impl House {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(SettableClock::at(Moment::now()));
        let events = Arc::new(Remembers::default());
        let tasks = Arc::new(Tasks::new(clock.clone(), events.clone(), DRAIN));
        Self { clock, events, tasks, registry: Registry::new(&spec(), Mode::Enforce) }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn start(&self) -> (Arc<Task>, String) {
        let (task, handle) = self.tasks.start(&self.registry, triage(), self.now()).unwrap();
        (task, handle.expose().to_string())
    }
}

/// What the tasks told, in order.
#[derive(Default)]
pub(crate) struct Remembers {
    pub(crate) told: Mutex<Vec<String>>,
    /// Refuse what is about to start.
    pub(crate) full: Mutex<bool>,
}

impl TaskEvents for Remembers {
    fn started(&self, task: &Task, after: Option<&Task>) -> Result<(), Refusal> {
        if *self.full.lock() {
            return Err(Refusal::new(Reason::AuditUnavailable, "the disk is full"));
        }
        let after = after.map(|t| format!(" after {}", t.number)).unwrap_or_default();
        self.told.lock().push(format!("started {}{after}", task.number));
        Ok(())
    }

    fn ended(&self, task: &Task, end: End) {
        assert!(task.ended.is_cancelled(), "told after the token is cancelled");
        self.told.lock().push(format!("ended {} {}", task.number, end.as_str()));
    }
}

pub(crate) fn triage() -> Start {
    Start::new("triage-bot", "triage-issues", Principal { id: "alice@acme.example".into(), verified: false, claims: json!({}) })
}

pub(crate) fn spec() -> RegistrySpec {
    let grants = vec![
        grant(10, &["github.*"], &[Effect::Read], &[("owner", json!(["acme"])), ("repo", json!(["web", "docs"]))]),
        GrantSpec {
            limit: Some(LimitSpec { max: 20, unit: Unit::Calls, per: Window::Task }),
            ..grant(13, &["github.issues.add-labels"], &[], &[("owner", json!(["acme"])), ("repo", json!(["web"]))])
        },
        grant(16, &["slack.chat.*"], &[], &[("channel", json!(["team-*"]))]),
    ];
    RegistrySpec {
        agents: vec![agent("triage-bot", &["triage-issues", "other"]), agent("idle-bot", &[])],
        workflows: vec![workflow("triage-issues", grants), workflow("other", vec![])],
    }
}

pub(crate) fn agent(id: &str, workflows: &[&str]) -> AgentSpec {
    AgentSpec {
        id: id.into(),
        owner: "support@acme.example".into(),
        spiffe_id: None,
        identities: vec![],
        status: Status::Active,
        expires: None,
        workflows: workflows.iter().map(|w| (*w).into()).collect(),
        delegates_to: vec![],
        attested: None,
        on_drift: OnDrift::Record,
        review: Default::default(),
        mode: None,
        limits: vec![],
        place: place(1),
    }
}

pub(crate) fn workflow(id: &str, grants: Vec<GrantSpec>) -> WorkflowSpec {
    WorkflowSpec {
        id: id.into(),
        purpose: "Label and answer new issues".into(),
        max_lifetime: LIFETIME,
        grants,
        credential: None,
        mode: None,
        quiet: false,
        limits: vec![],
        place: place(5),
    }
}

pub(crate) fn grant(line: usize, intents: &[&str], effects: &[Effect], constraints: &[(&str, Value)]) -> GrantSpec {
    GrantSpec {
        intents: intents.iter().map(|i| (*i).into()).collect(),
        effects: effects.to_vec(),
        constraints: constraints.iter().map(|(k, v)| ((*k).into(), v.as_array().unwrap().clone())).collect(),
        limit: None,
        labels: vec![],
        approval: None,
        credential: None,
        returns: Default::default(),
        place: place(line),
    }
}

pub(crate) fn intent(id: &str, effect: Effect, labels: &[Label], params: &[(&str, &str)]) -> Intent {
    let mut words = id.splitn(3, '.');
    let mut word = || words.next().unwrap_or_default();
    let provider = Arc::new(Provider { id: word().into(), credential: None, errors: Default::default(), basic: None });
    let operation = Operation {
        id: id.into(),
        group: word().into(),
        name: word().into(),
        provider,
        effect,
        labels: labels.into(),
        upgrades: [].into(),
        takes_credential: true,
        follows: [].into(),
    };
    let mut all = Params::default();
    for (name, value) in params {
        all.push((*name).into(), Param::Text((*value).into()));
    }
    Intent { operation: Arc::new(operation), params: all }
}

fn place(line: usize) -> Place {
    Place { file: "registry.yaml".into(), line }
}
