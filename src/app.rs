//! Builds the house: config → rooms → listeners. The only place that constructs rooms.

mod blind;
mod events;
mod expiry;
mod front;
mod guardrails;
mod leases;
mod orchestrators;
mod reload;
mod scopes;
mod state;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{
        self, Admin, BlockReady, Readiness,
        control::{Control, ControlSocket, Ledger},
    },
    audit::Audit,
    authority::{Registry, Tasks, token::Delegations},
    call::{Effect, Listener},
    clock::{Moment, SystemClock},
    config::{Ca, Config, ControlTcp, Inbound, OperationFacts, RegistrySpec, SecretSource},
    credential::Broker,
    decide::{self, Decider},
    enforce::{Entrance, House, Parts, Rules},
    fetch::Fetch,
    forward::{Forward, Inward},
    identify::Callers,
    intent::Catalog,
    listen::{Drain, Limits, Server},
    metrics::Metrics,
    problem::{Problem, Problems},
    secret::Secret,
    tls::{Authority, OwnSvids, Terminator, UpstreamTls, load_roots},
};

pub use reload::Reloader;
use state::State;

/// A built house, bound to its addresses and not yet serving.
#[derive(Debug)]
pub struct App {
    house: House,
    forward: Option<Server>,
    inbound: Option<Server>,
    admin: Option<TcpListener>,
    control: Option<ControlSocket>,
    control_tcp: Option<(TcpListener, Arc<Secret<String>>)>,
    readiness: Readiness,
    starting: BlockReady,
    drain: Drain,
    state: Option<Arc<State>>,
    deadline: Duration,
}

/// Loads what a config names: catalogs, policies, credentials, roots. Nothing is bound or sent.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn load(config: &Config) -> Result<(Rules, Vec<Problem>), Problems> {
    load_after(config, None)
}

/// As [`load`], going on with what the rules before have learnt: keys that were fetched.
///
/// # Errors
/// As [`load`].
pub fn load_after(config: &Config, before: Option<&Rules>) -> Result<(Rules, Vec<Problem>), Problems> {
    let roots = std::thread::scope(|scope| {
        // Reading the system's roots is the slowest part of a start; the rest goes on beside it.
        let roots = scope.spawn(|| load_roots(&config.tls.upstream_roots));
        let rest = load_rest(config);
        (roots.join().unwrap_or_else(|_| Err(Problem::new("the root certificates could not be read"))), rest)
    });
    let (roots, rest) = roots;
    let mut problems = Vec::new();
    let roots = roots.map_err(|p| problems.push(p)).ok();
    let rest = rest.map_err(|p| problems.extend(p.0)).ok();
    let (Some(roots), Some((catalog, registry, decider, mut warnings))) = (roots, rest) else { return Err(Problems(problems)) };
    warnings.extend(config.unproved());
    let callers = match config.issuers.is_empty() && config.spiffe.is_none() {
        true => None,
        false => Some(Arc::new(Callers::new(config, &roots, before.and_then(|b| b.callers.as_deref()))?)),
    };
    let tls = UpstreamTls::new(roots).map_err(|e| Problem::new(format!("TLS to upstream: {e}")))?;
    let svids = callers.as_ref().and_then(|c| c.spiffe()).map(|s| s.clone() as Arc<dyn OwnSvids>);
    let broker = Broker::new(&config.credentials, &Fetch::new(tls.clone(), &config.upstream.resolve), svids.as_ref())?;
    warnings.extend(broker.warnings().iter().cloned());
    scopes::check(&broker, &catalog)?;
    leases::check(config, &broker)?;
    let forward = Forward::new(&config.upstream, &config.timeouts, tls);
    let delegations = Arc::new(Delegations::load(config)?);
    let entrance = config.listen.inbound.as_ref().map(|inbound| entrance(inbound, config, &delegations)).transpose()?;
    let delegations = delegations.issues().then_some(delegations);
    let (registry, broker) = (Arc::new(registry), Arc::new(broker));
    Ok((Rules { config: config.clone(), registry, callers, catalog, decider, broker, forward, entrance, delegations }, warnings))
}

fn entrance(inbound: &Inbound, config: &Config, delegations: &Arc<Delegations>) -> Result<Entrance, Problem> {
    let inward = Inward::new(inbound.to, inbound.protocol, &config.timeouts);
    let inward = inward.map_err(|e| Problem::new(e.detail.to_string()).at(&inbound.place.file, Some(inbound.place.line)))?;
    Ok(Entrance { config: inbound.clone(), inward, delegations: delegations.clone() })
}

type Rest = (Catalog, Registry, Decider, Vec<Problem>);

fn load_rest(config: &Config) -> Result<Rest, Problems> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let catalog = match Catalog::load(&config.catalog) {
        Ok(catalog) => catalog,
        Err(found) => {
            problems.extend(found.0);
            return Err(Problems(problems));
        }
    };
    let registry = folded(&config.registry, &catalog);
    if let Err(found) = check_grants(config, &catalog) {
        problems.extend(found.0);
    }
    problems.extend(blind::check(config, &catalog));
    problems.extend(guardrails::check(&config.policies, &catalog));
    let decider = match Decider::load(sources(config, &registry, &catalog)) {
        Ok((decider, more)) => {
            warnings.extend(more);
            Some(decider)
        }
        Err(found) => {
            problems.extend(found.0);
            None
        }
    };
    match decider {
        Some(decider) if problems.is_empty() => Ok((catalog, Registry::new(&registry, config.mode), decider, warnings)),
        _ => Err(Problems(problems)),
    }
}

/// What the policies of a config are loaded from: for `remit policy`.
///
/// # Errors
/// What is wrong with the config or its catalogs.
pub fn policy_sources(path: &std::path::Path) -> Result<decide::Sources, Problems> {
    let config = Config::load(path)?;
    let catalog = Catalog::load(&config.catalog)?;
    Ok(sources(&config, &folded(&config.registry, &catalog), &catalog))
}

fn sources(config: &Config, registry: &RegistrySpec, catalog: &Catalog) -> decide::Sources {
    decide::Sources {
        builtin: config.policies.builtin,
        guardrails: guardrails::sources(&config.policies, catalog),
        paths: config.policies.paths.clone(),
        registry: decide::registry_data(registry),
        parameters: catalog.parameter_names().into_iter().collect(),
        timeout: config.limits.decision,
        cache_bytes: config.limits.cache,
    }
}

/// The registry with `where` values in the letter case that policies see: parameters that a vendor
/// compares without regard to case arrive in lower case.
fn folded(registry: &RegistrySpec, catalog: &Catalog) -> RegistrySpec {
    let mut registry = registry.clone();
    let constraints = registry.workflows.iter_mut().flat_map(|w| &mut w.grants).flat_map(|g| &mut g.constraints);
    for (_, values) in constraints.filter(|(name, _)| catalog.is_folded(name)) {
        for value in values {
            if let serde_json::Value::String(text) = value {
                *text = text.to_lowercase();
            }
        }
    }
    registry
}

/// Grants must name operations and parameters that a catalog knows.
fn check_grants(config: &Config, catalog: &Catalog) -> Result<(), Problems> {
    let named: Vec<&str> = config.registry.workflows.iter().flat_map(|w| &w.grants).flat_map(|g| &g.intents).map(|i| &**i).collect();
    // A grant as wide as `aws.*` covers something of every effect but `admin`: compiling all of it to say so would cost more.
    let wide: Vec<String> = named.iter().filter_map(|i| catalog.stand_in(i)).collect();
    let names = if wide.is_empty() { Default::default() } else { catalog.parameter_names() };
    let stand_ins = wide.iter().flat_map(|id| {
        let effects = Effect::ALL.into_iter().filter(|e| *e != Effect::Admin);
        effects.map(|effect| OperationFacts { id, effect, labels: &[], params: names.iter().map(String::as_str).collect() })
    });
    let facts: Vec<_> = catalog
        .operations_for(&named)
        .map(|facts| OperationFacts {
            id: &facts.operation().id,
            effect: facts.operation().effect,
            labels: &facts.operation().labels,
            params: facts.parameters().map(|(name, _)| name).collect(),
        })
        .chain(stand_ins)
        .collect();
    config.registry.check_against(&facts)
}

impl App {
    /// Builds all rooms and binds the listeners.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub fn build(config: Config) -> Result<Self, Problems> {
        let (rules, warnings) = load(&config)?;
        Self::with_rules(config, rules, &warnings)
    }

    /// Builds the rest of the house around loaded rules.
    ///
    /// # Errors
    /// When the CA, the audit or a listener cannot be had.
    pub fn with_rules(config: Config, rules: Rules, warnings: &[Problem]) -> Result<Self, Problems> {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let metrics = Metrics::new().map_err(|e| Problem::new(format!("metrics: {e}")))?;
        let metrics = Arc::new(metrics);
        let readiness = Readiness::new();
        let starting = readiness.block("listening");
        let kept = config.state.as_ref().map(State::open).transpose()?;
        let audit = Audit::open(&config.audit)?;
        let terminator = terminator(&config)?;
        let events = Arc::new(events::OnRecord::new(audit.clone(), kept.is_some()));
        let tasks = Arc::new(Tasks::new(Arc::new(SystemClock), events, config.timeouts.drain));
        tasks.bound_by(&config.tasks);
        let revision = rules.decider.revision().to_owned();
        let drain = Drain::default();
        let state = match kept {
            Some((state, document)) => {
                state.restore(document, &rules.registry, &tasks, &audit)?;
                Some(Arc::new(state))
            }
            None => None,
        };
        let leases = leases::desk(&config, &rules.broker, &tasks, leases::OnRecord::new(audit.clone(), metrics.clone()))?;
        let house = House::new(Parts { rules, tasks, leases, audit, metrics, terminator, drain: drain.clone() });
        house.tasks().review(&house.rules().registry, Moment::now());
        house.metrics().policy(&revision);
        let limits = Limits {
            connections: config.limits.connections,
            header_bytes: config.limits.header_bytes,
            headers: config.limits.headers,
            header: config.timeouts.header,
            idle: config.timeouts.idle,
        };
        let forward = config
            .listen
            .forward
            .map(|a| Server::bind(Listener::Forward, a, limits.clone()).map_err(|e| cannot_bind("listen.forward", &a.to_string(), &e)))
            .transpose()?
            .map(|server| Ok::<_, Problems>(server.in_tls(front::front(config.listen.forward_tls.as_ref(), &house, &[b"http/1.1"])?)))
            .transpose()?;
        let inbound = config.listen.inbound.as_ref().map(|inbound| {
            let (address, tls) = (inbound.address, inbound.tls.as_ref());
            let bound = Server::bind(Listener::Inbound, address, limits);
            let bound = bound.map_err(|e| cannot_bind("listen.inbound", &address.to_string(), &e))?;
            Ok::<_, Problems>(bound.in_tls(front::front(tls, &house, &[b"h2", b"http/1.1"])?))
        });
        let inbound = inbound.transpose()?;
        let admin = config.listen.admin.map(|a| bind(a).map_err(|e| cannot_bind("listen.admin", &a.to_string(), &e))).transpose()?;
        let control = config
            .listen
            .control
            .as_ref()
            .map(|p| ControlSocket::bind(p).map_err(|e| cannot_bind("listen.control", &p.display().to_string(), &e)));
        let control = control.transpose()?;
        let control_tcp = config.listen.control_tcp.as_ref().map(control_tcp).transpose()?;
        Ok(Self {
            house,
            forward,
            inbound,
            admin,
            control,
            control_tcp,
            readiness,
            starting,
            drain,
            state,
            deadline: config.timeouts.drain,
        })
    }

    #[must_use]
    pub fn house(&self) -> &House {
        &self.house
    }

    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// The forward listener's address, when it has one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.forward.as_ref().and_then(|s| s.address().ok())
    }

    /// The inbound listener's address, when it has one.
    #[must_use]
    pub fn inbound_address(&self) -> Option<SocketAddr> {
        self.inbound.as_ref().and_then(|s| s.address().ok())
    }

    /// The admin listener's address, when it has one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|l| l.local_addr().ok())
    }

    /// Where the control API answers over TCP, when it does.
    #[must_use]
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control_tcp.as_ref().and_then(|(l, _)| l.local_addr().ok())
    }

    /// Serves until `stop` resolves, then drains up to its deadline and closes the audit.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { house, forward, inbound, admin, control, control_tcp, readiness, starting, drain, state, deadline } = self;
        let proxy = forward.as_ref().and_then(|s| s.address().ok());
        let over = CancellationToken::new();
        let (tasks, ends) = (house.tasks().clone(), over.clone());
        tokio::spawn(async move { tasks.sweep_until(ends).await });
        house.rules().begin();
        if let Some(listener) = admin {
            let admin = Admin { metrics: house.metrics().clone(), readiness: readiness.clone(), refresh: refresh(&house) };
            tokio::spawn(admin::serve(listener, admin, over.clone()));
        }
        let api = Control {
            tasks: house.tasks().clone(),
            registry: house.registry().clone(),
            leases: house.leases().clone(),
            clock: Arc::new(SystemClock),
            proxy,
            in_tls: front::name(&house.rules().config),
            not_below: None,
            ledger: ledger(&house),
            token: None,
            verify: Some(Arc::new(orchestrators::Orchestrators(house.clone()))),
        };
        if let Some(socket) = control {
            tokio::spawn(admin::control::serve(socket, api.clone(), over.clone()));
        }
        if let Some((listener, token)) = control_tcp {
            tokio::spawn(admin::control::serve_tcp(listener, Control { token: Some(token), ..api }, over.clone()));
        }
        for server in [forward, inbound].into_iter().flatten() {
            tokio::spawn(server.run(house.clone(), drain.clone()));
        }
        if let Some(state) = &state {
            tokio::spawn(state.clone().keep_until(house.tasks().clone(), house.audit().clone(), over.clone()));
        }
        tokio::spawn(expiry::watch(house.clone(), over.clone()));
        tokio::spawn(watch_audit(house.audit().clone(), readiness.clone(), over.clone()));
        starting.done();
        stop.await;
        let _draining = readiness.block("draining");
        let dropped = drain.run(deadline).await;
        if dropped > 0 {
            tracing::warn!(dropped, "connections were still open at the end of the drain");
        }
        // Also of tasks that go on when Remit starts again: they are issued anew.
        if tokio::time::timeout(REVOKING, house.leases().drain()).await.is_err() {
            let left = house.leases().unrevoked();
            tracing::warn!(left, "leases could not be revoked in time; they are when Remit starts again");
        }
        over.cancel();
        match state {
            // They go on when Remit starts again.
            Some(state) => {
                if let Err(error) = state.keep(house.tasks(), house.audit()) {
                    tracing::error!(%error, "the state could not be kept; the audit has what is missing in it");
                }
            }
            None => {
                for task in house.tasks().list() {
                    house.tasks().end(&task.id);
                }
            }
        }
        house.audit().close();
    }
}

/// Puts what an operator changes on record, durably.
fn ledger(house: &House) -> Ledger {
    let audit = house.audit().clone();
    Ledger { note: Arc::new(move |kind, data| audit.event_durable(kind, data)), lasts: house.rules().config.state.is_some() }
}

/// Brings the gauges that others keep up to date before a scrape.
fn refresh(house: &House) -> Arc<dyn Fn(&Metrics) + Send + Sync> {
    let house = house.clone();
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Arc::new(move |metrics| {
        metrics.audit_backlog.set(count(house.audit().backlog()));
        metrics.audit_head.set(count(house.audit().head().seq));
        metrics.tasks_active.set(count(house.tasks().active() as u64));
        metrics.leases_active.set(count(house.leases().active() as u64));
        metrics.leases_unrevoked.set(count(house.leases().unrevoked() as u64));
        metrics.cache_entries.set(count(house.rules().decider.cached()));
    })
}

/// Not ready while records cannot be written.
async fn watch_audit(audit: Arc<Audit>, readiness: Readiness, over: CancellationToken) {
    let mut blocked = None;
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    while over.run_until_cancelled(tick.tick()).await.is_some() {
        match (audit.writable(), blocked.is_some()) {
            (false, false) => blocked = Some(readiness.block("audit writable")),
            (true, true) => blocked = None,
            _ => {}
        }
    }
}

fn terminator(config: &Config) -> Result<Terminator, Problems> {
    let authority = match &config.tls.ca {
        Ca::Ephemeral => Authority::ephemeral(crate::clock::utc()),
        Ca::Files { cert, key } => Authority::load(cert, key),
    };
    let authority = authority.map_err(|e| Problem::new(e.to_string()).key("tls.ca"))?;
    if let Some(path) = &config.tls.publish {
        std::fs::write(path, authority.pem())
            .map_err(|e| Problem::new(format!("cannot write the CA certificate: {e}")).at(path, None).key("tls.publish"))?;
    }
    Terminator::new(authority).map_err(|e| Problem::new(format!("TLS to agents: {e}")).into())
}

/// How long the end waits for issuers to take back what they gave.
const REVOKING: Duration = Duration::from_secs(10);
/// The least that a token may have: what is shorter can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// The control API's port, with what stands for the operator there.
fn control_tcp(spec: &ControlTcp) -> Result<(TcpListener, Arc<Secret<String>>), Problem> {
    let listener = bind(spec.address).map_err(|e| cannot_bind("listen.control.tcp", &spec.address.to_string(), &e))?;
    let key = |problem: Problem| problem.key("listen.control.token");
    let read = match &spec.token {
        SecretSource::Env(name) => std::env::var(name).map_err(|_| key(Problem::new(format!("the variable {name} is not set")))),
        SecretSource::File(path) => {
            std::fs::read_to_string(path).map_err(|e| key(Problem::new(format!("cannot be read: {e}"))).at(path, None))
        }
    };
    let whole = Secret::new(read?);
    let token = Secret::new(whole.expose().trim().to_owned());
    if token.expose().len() < SHORTEST_TOKEN {
        let problem = key(Problem::new(format!("the token has fewer than {SHORTEST_TOKEN} characters")));
        return Err(problem.help("make one: openssl rand -base64 32 > control.token"));
    }
    Ok((listener, Arc::new(token)))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn cannot_bind(key: &str, address: &str, error: &std::io::Error) -> Problem {
    Problem::new(format!("cannot listen on {address}: {error}")).key(key).help("choose another address, or stop what holds it")
}
