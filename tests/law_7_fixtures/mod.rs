//! Registries, tasks and intents for the tests of room 5.
#![allow(dead_code, unreachable_pub)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use remit::{
    call::{
        AgentRef, Effect, Ends, ErrorForm, How, Intent, Label, Link, LinkKind, Listener, Mode, Operation, Param, Params, Principal,
        Provider, Task, TaskId, Unit, Window,
    },
    clock::Moment,
    config::{AgentSpec, GrantSpec, LimitSpec, OnDrift, Place, RegistrySpec, Status, WideLimitSpec, WorkflowSpec},
    decide::{self, Decider, Facts, Request, Sources},
};
use serde_json::{Value, json};

pub fn agent(id: &str, workflows: &[&str], on_drift: OnDrift) -> AgentSpec {
    AgentSpec {
        id: id.into(),
        owner: "owner@acme.example".into(),
        spiffe_id: None,
        identities: Vec::new(),
        status: Status::Active,
        expires: None,
        workflows: workflows.iter().map(|w| Arc::from(*w)).collect(),
        delegates_to: Vec::new(),
        attested: None,
        on_drift,
        review: Default::default(),
        mode: None,
        limits: vec![],
        place: Place::default(),
    }
}

pub fn grant(intents: &[&str], effects: &[Effect], wheres: &[(&str, Value)]) -> GrantSpec {
    let constraint = |(name, value): &(&str, Value)| {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        (Box::from(*name), values)
    };
    GrantSpec {
        intents: intents.iter().map(|i| Box::from(*i)).collect(),
        effects: effects.to_vec(),
        constraints: wheres.iter().map(constraint).collect(),
        limit: None,
        labels: vec![],
        approval: None,
        credential: None,
        returns: Default::default(),
        place: Place::default(),
    }
}

pub fn workflow(id: &str, grants: Vec<GrantSpec>) -> WorkflowSpec {
    WorkflowSpec {
        id: id.into(),
        purpose: "a test".into(),
        max_lifetime: Duration::from_secs(600),
        grants,
        credential: None,
        mode: None,
        quiet: false,
        limits: vec![],
        place: Place::default(),
    }
}

/// A registry of two agents, and some more agents to delegate to.
pub fn registry() -> RegistrySpec {
    let mut label = grant(&["github.issues.add-labels"], &[], &[("owner", json!("acme")), ("repo", json!("web"))]);
    label.limit = Some(LimitSpec { max: 20, unit: Unit::Calls, per: Window::Task });
    label.returns.cookies = true;
    let mut comment = grant(&["github.issues.create-comment"], &[], &[("owner", json!("acme")), ("repo", json!("web"))]);
    comment.approval = Some(json!({"by": ["group:support-leads"], "within": 600}));
    let mut numbered =
        grant(&["github.issues.update"], &[Effect::Write], &[("number", json!([7, true])), ("repo", json!(["we*", "docs"]))]);
    numbered.limit = Some(LimitSpec { max: 3, unit: Unit::Calls, per: Window::Seconds(60) });
    numbered.credential = Some("narrow".into());
    let read = grant(&["github.*"], &[Effect::Read], &[("owner", json!("acme")), ("repo", json!(["web", "docs"]))]);
    RegistrySpec {
        agents: vec![
            agent("triage-bot", &["triage-issues", "by-effect"], OnDrift::Record),
            agent("careful-bot", &["triage-issues"], OnDrift::ReadOnly),
            agent("strict-bot", &["triage-issues", "everything"], OnDrift::Deny),
        ],
        workflows: vec![
            workflow("triage-issues", vec![read, label, comment, numbered]),
            workflow("everything", vec![grant(&["*"], &[], &[])]),
            workflow(
                "by-effect",
                vec![grant(&[], &[Effect::Read, Effect::Admin], &[]), grant(&["github.repos.delete", "unknown"], &[], &[])],
            ),
        ],
    }
}

/// The same with what is limited over all grants, and a grant that labels.
pub fn limited() -> RegistrySpec {
    let rate = |max, per| LimitSpec { max, unit: Unit::Calls, per };
    let writes = WideLimitSpec { intents: vec![], effects: vec![Effect::Write], limit: rate(50, Window::Seconds(3600)) };
    let issues = WideLimitSpec { intents: vec!["github.issues.*".into()], effects: vec![], limit: rate(9, Window::Agent) };
    let mut all = registry();
    all.agents[0].limits.push(issues);
    all.workflows[0].limits.push(writes);
    all.workflows[0].grants[1].labels.push(Label::PrivateData);
    all
}

pub fn sources(registry: &RegistrySpec) -> Sources {
    Sources {
        builtin: true,
        guardrails: Vec::new(),
        paths: Vec::new(),
        registry: decide::registry_data(registry),
        parameters: BTreeSet::new(),
        // Debug builds on a busy machine are slow, and what is tested here is not the clock.
        timeout: Duration::from_secs(5),
        cache_bytes: 16 << 20,
    }
}

/// A decider over the shipped policy and the texts of some guardrails.
pub fn decider(registry: &RegistrySpec, policies: &[(&str, &str)]) -> Decider {
    load(registry, policies).unwrap().0
}

pub fn load(
    registry: &RegistrySpec,
    policies: &[(&str, &str)],
) -> Result<(Decider, Vec<remit::problem::Problem>), remit::problem::Problems> {
    let folder = Folder::new();
    for (name, text) in policies {
        folder.write(name, text);
    }
    Decider::load(Sources { paths: vec![folder.0.clone()], ..sources(registry) })
}

/// A folder that is removed when it is dropped.
pub struct Folder(pub std::path::PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("remit-decide-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn link(id: &str, workflow: &str, grants: Vec<Value>) -> Link {
    Link { kind: LinkKind::Agent, id: id.into(), workflow: Some(workflow.into()), grants: Some(grants) }
}

pub fn task(agent: &str, workflow: &str) -> Task {
    task_of(vec![link(agent, workflow, Vec::new())])
}

/// A task of the last link's agent, for alice.
pub fn task_of(links: Vec<Link>) -> Task {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let last = links.last().unwrap().clone();
    let alice = Link { kind: LinkKind::Principal, id: "alice@acme.example".into(), workflow: None, grants: None };
    let now = time::OffsetDateTime::now_utc();
    Task {
        id: TaskId::new(1),
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        agent: Arc::new(AgentRef { id: last.id.clone(), owner: "owner@acme.example".into(), spiffe_id: None }),
        workflow: last.workflow.unwrap(),
        purpose: "a test".into(),
        principal: Principal { id: "alice@acme.example".into(), verified: true, claims: json!({"team": "support"}) },
        proof: Default::default(),
        chain: std::iter::once(alice).chain(links).collect(),
        parent: None,
        trace: None,
        mode: Mode::Enforce,
        started: now,
        ends: Ends::after(Moment::now(), Duration::from_secs(600)),
        ended: Default::default(),
        over_since: Default::default(),
        labels: Default::default(),
        succeeded: Default::default(),
        redirects: Default::default(),
        origin: Default::default(),
    }
}

pub fn operation(id: &str, effect: Effect, labels: &[Label]) -> Arc<Operation> {
    let mut parts = id.splitn(3, '.');
    let provider = parts.next().unwrap();
    let group = parts.next().unwrap_or("unknown");
    Arc::new(Operation {
        id: id.into(),
        group: group.into(),
        name: parts.next().unwrap_or("unknown").into(),
        provider: Arc::new(Provider { id: provider.into(), credential: None, errors: ErrorForm::Problem, basic: None }),
        effect,
        labels: labels.into(),
        upgrades: Box::default(),
        takes_credential: true,
        follows: Box::default(),
    })
}

pub fn intent(id: &str, effect: Effect, params: &[(&str, Param)]) -> Intent {
    let mut all = Params::default();
    for (name, value) in params {
        all.push(Arc::from(*name), value.clone());
    }
    Intent { operation: operation(id, effect, &[]), params: all }
}

pub fn text(value: &str) -> Param {
    Param::Text(value.into())
}

pub fn request() -> Request<'static> {
    Request {
        method: "POST",
        scheme: "https",
        host: "api.github.com",
        port: 443,
        path: "/repos/acme/web/issues",
        protocol: "h2",
        upgrade: None,
        body_bytes: Some(812),
    }
}

pub fn facts(task: &Task) -> Facts<'_> {
    Facts { task, how: How::Handle, listener: Listener::Forward, drift: &[], request: request() }
}
