use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::Entrance;

use crate::{
    audit::Audit,
    authority::{
        Registry, Tasks,
        token::{Delegations, Used},
    },
    call::{Account, DecisionId, Outcome, Recorder},
    clock::{self, Moment},
    config::Config,
    credential::{Broker, Leases, Withheld},
    decide::Decider,
    forward::Forward,
    identify::Callers,
    intent::Catalog,
    listen::Drain,
    metrics::Metrics,
    tls::Terminator,
};

use super::open::{Again, OpenCalls};

/// What the files say: replaced whole when they change. A call keeps the rules it began with.
#[derive(Debug)]
pub struct Rules {
    pub config: Config,
    pub registry: Arc<Registry>,
    /// None: nothing is configured by which a caller could prove who it is.
    pub callers: Option<Arc<Callers>>,
    pub catalog: Catalog,
    pub decider: Decider,
    pub broker: Arc<Broker>,
    pub forward: Forward,
    /// The way to the agent, where one stands behind Remit.
    pub entrance: Option<Entrance>,
    /// What is handed to peers; None where nothing is.
    pub delegations: Option<Arc<Delegations>>,
}

impl Rules {
    /// Begins what keeps them fresh: secrets that rotate, keys that are fetched. Needs a Tokio runtime.
    pub fn begin(&self) {
        self.broker.watch(|problem| tracing::error!("{problem}"));
        if let Some(callers) = &self.callers {
            callers.begin();
        }
        if let Some(delegations) = &self.delegations {
            delegations.publish();
        }
    }
}

/// What lives as long as the process.
#[derive(Debug)]
pub struct Parts {
    pub rules: Rules,
    pub tasks: Arc<Tasks>,
    /// What is issued for tasks.
    pub leases: Leases,
    pub audit: Arc<Audit>,
    pub metrics: Arc<Metrics>,
    pub terminator: Terminator,
    pub drain: Drain,
}

/// All rooms together. Cheap to clone.
#[derive(Clone)]
pub struct House(Arc<Inner>);

struct Inner {
    rules: ArcSwap<Rules>,
    /// The registry of the rules in force, for who asks for nothing else.
    registry: Arc<ArcSwap<Registry>>,
    tasks: Arc<Tasks>,
    leases: Leases,
    audit: Arc<Audit>,
    recorder: Arc<dyn Recorder>,
    metrics: Arc<Metrics>,
    terminator: Terminator,
    drain: Drain,
    /// KiB of bodies that may be read whole at one time, over all calls.
    bodies: Arc<Semaphore>,
    /// Delegation tokens that were used.
    used: Used,
    open: Arc<OpenCalls>,
}

/// Writes outcomes, and how long what was open lasted after it was to end.
struct Outcomes {
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
}

impl Recorder for Outcomes {
    fn outcome(&self, outcome: &Outcome) {
        if let Some(since) = outcome.cut_since {
            self.metrics.revocation.observe(since.elapsed().as_secs_f64());
        }
        if outcome.scrubbed > 0 {
            self.metrics.scrubbed.inc_by(u64::from(outcome.scrubbed));
        }
        if outcome.withheld != Withheld::default() {
            self.metrics.withheld(outcome.withheld.cookies > 0, outcome.withheld.tokens);
        }
        self.audit.outcome(outcome);
    }
}

impl House {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { mut rules, tasks, leases, audit, metrics, terminator, drain } = parts;
        rules.registry = Arc::new(rules.registry.adopting(tasks.known()).0);
        let kib = usize::try_from(rules.config.limits.body_total >> 10).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let recorder = Arc::new(Outcomes { audit: audit.clone(), metrics: metrics.clone() });
        let house = Self(Arc::new(Inner {
            recorder,
            registry: Arc::new(ArcSwap::new(rules.registry.clone())),
            rules: ArcSwap::from_pointee(rules),
            tasks,
            leases,
            audit,
            metrics,
            terminator,
            drain,
            bodies: Arc::new(Semaphore::new(kib)),
            used: Used::default(),
            open: Arc::default(),
        }));
        let inner = Arc::downgrade(&house.0);
        house.tasks().on_labels(Box::new(move |labels| {
            if let Some(inner) = inner.upgrade() {
                Self(inner).labelled(labels, Again::Labels);
            }
        }));
        house
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.0.rules.load_full()
    }

    /// Puts new rules in force: for calls that begin from now on, and for those whose request side is
    /// still open.
    pub fn replace(&self, mut rules: Rules) {
        let (registry, differences) = rules.registry.adopting(self.tasks().known());
        rules.registry = Arc::new(registry);
        for (agent, kind, what) in &differences {
            self.drifted(agent, *kind, what, None);
        }
        self.0.registry.store(rules.registry.clone());
        self.0.rules.store(Arc::new(rules));
        self.rules_changed();
    }

    /// The registry in force; follows reloads.
    #[must_use]
    pub fn registry(&self) -> &Arc<ArcSwap<Registry>> {
        &self.0.registry
    }

    #[must_use]
    pub fn tasks(&self) -> &Arc<Tasks> {
        &self.0.tasks
    }

    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.0.leases
    }

    #[must_use]
    pub fn audit(&self) -> &Arc<Audit> {
        &self.0.audit
    }

    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    #[must_use]
    pub fn terminator(&self) -> &Terminator {
        &self.0.terminator
    }

    pub(super) fn drain(&self) -> &Drain {
        &self.0.drain
    }

    fn recorder(&self) -> Arc<dyn Recorder> {
        self.0.recorder.clone()
    }

    /// The account of a call that begins now.
    pub(super) fn account(&self, now: Moment) -> Account {
        self.account_of(DecisionId::new(clock::unix_ms_of(now)), now)
    }

    /// The account of a decision that has its id already.
    pub(super) fn account_of(&self, id: DecisionId, now: Moment) -> Account {
        Account::open(id, now.instant, self.recorder())
    }

    pub(super) fn used_tokens(&self) -> &Used {
        &self.0.used
    }

    pub(super) fn open_calls(&self) -> &Arc<OpenCalls> {
        &self.0.open
    }

    pub(super) fn bodies(&self) -> &Arc<Semaphore> {
        &self.0.bodies
    }
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("House")
    }
}
