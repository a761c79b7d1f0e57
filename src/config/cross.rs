//! Checks of names across files: everything that is referred to exists, once.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    call::Host,
    config::{
        Config, IdentitySpec, IssuerSpec, ListenCertificate,
        credentials::RawCredential,
        identities::RawIdentity,
        inbound::RawInbound,
        read::{MAX_PROBLEMS, Ref, shown, suggestion},
        registry::{RawAgent, RawRegistry},
        tasks::RawAmbient,
    },
    problem::Problem,
};

/// Names that are defined twice, with both places.
pub(super) fn twice(what: &str, names: impl Iterator<Item = Ref>) -> Vec<Problem> {
    let mut first: HashMap<Arc<str>, Ref> = HashMap::new();
    let mut problems = Vec::new();
    for name in names {
        if let Some(other) = first.get(&name.name) {
            let message = format!("{what} `{}` is also defined at {}:{}", shown(&name.name), other.spot.file.display(), other.spot.line);
            problems.push(name.spot.problem(message).help("keep one"));
        } else {
            first.insert(Arc::clone(&name.name), name);
        }
    }
    problems
}

/// All checks that need every file to have been read.
pub(super) fn check(registry: &RawRegistry, credentials: &[RawCredential], ambient: Option<&RawAmbient>) -> Vec<Problem> {
    let agents = Names::new("agent", registry.agents.iter().map(|a| &a.id));
    let workflows = Names::new("workflow", registry.workflows.iter().map(|w| &w.id));
    let credentials = Names::new("credential", credentials.iter().map(|c| &c.name));
    let mut problems = Vec::new();
    for agent in &registry.agents {
        problems.extend(agent.workflows.iter().filter_map(|r| workflows.look_up(r)));
        problems.extend(agent.delegates_to.iter().filter_map(|r| agents.look_up(r)));
    }
    for workflow in &registry.workflows {
        problems.extend(workflow.credentials.iter().filter_map(|r| credentials.look_up(r)));
    }
    problems.extend(cycles(&registry.agents));
    if let Some(ambient) = ambient {
        let unknown: Vec<Problem> = agents.look_up(&ambient.agent).into_iter().chain(workflows.look_up(&ambient.workflow)).collect();
        if unknown.is_empty() {
            problems.extend(unbound(&registry.agents, ambient));
        }
        problems.extend(unknown);
    }
    problems
}

/// The ambient agent must be bound to the ambient workflow.
fn unbound(agents: &[RawAgent], ambient: &RawAmbient) -> Option<Problem> {
    not_bound(agents, &ambient.agent, &ambient.workflow)
}

fn not_bound(agents: &[RawAgent], agent: &Ref, workflow: &Ref) -> Option<Problem> {
    let found = agents.iter().find(|a| a.id.name == agent.name)?;
    if found.workflows.iter().any(|w| w.name == workflow.name) {
        return None;
    }
    let message = format!("agent `{}` is not bound to workflow `{}`", agent.name, workflow.name);
    let help = format!("add it to the agent's `workflows` at {}:{}", found.id.spot.file.display(), found.id.spot.line);
    Some(workflow.spot.problem(message).help(help))
}

/// The inbound listener's agent and workflows, and that the loopback is one agent's: its calls out are
/// told apart by their trace alone.
pub(super) fn inbound(registry: &RawRegistry, inbound: Option<&RawInbound>, ambient: Option<&RawAmbient>) -> Vec<Problem> {
    let Some(inbound) = inbound else { return Vec::new() };
    let agents = Names::new("agent", registry.agents.iter().map(|a| &a.id));
    let workflows = Names::new("workflow", registry.workflows.iter().map(|w| &w.id));
    let mut problems: Vec<Problem> = agents.look_up(&inbound.agent).into_iter().collect();
    for workflow in &inbound.workflows {
        match workflows.look_up(workflow) {
            Some(unknown) => problems.push(unknown),
            None if problems.is_empty() => problems.extend(not_bound(&registry.agents, &inbound.agent, workflow)),
            None => {}
        }
    }
    let nameless = |a: &&RawAgent| !a.identities.iter().any(|i| matches!(i.rule.what, IdentitySpec::Spiffe(_)));
    if inbound.spec.delegation_required
        && let Some(agent) = registry.agents.iter().find(|a| a.id.name == inbound.agent.name).filter(nameless)
    {
        let problem = inbound.agent.spot.problem("a delegation token is for a SPIFFE ID, and the agent has none");
        let place = &agent.id.spot;
        problems.push(problem.help(format!("add `identities: [{{spiffe: …}}]` at {}:{}", place.file.display(), place.line)));
    }
    if let Some(ambient) = ambient
        && ambient.agent.name != inbound.agent.name
    {
        let message =
            format!("the ambient agent is `{}` and the one behind `listen.inbound` is `{}`", ambient.agent.name, inbound.agent.name);
        problems.push(ambient.agent.spot.problem(message).help("one Remit serves one agent's loopback: name the same"));
    }
    problems
}

/// Two agents at one address: a token for one would go to the other.
pub(super) fn addresses(registry: &RawRegistry) -> Vec<Problem> {
    let all: Vec<_> = registry.agents.iter().flat_map(|a| a.addresses.iter().map(move |at| (a, at))).collect();
    let mut problems = Vec::new();
    for (i, (agent, (host, port))) in all.iter().enumerate() {
        let same = |other: &&(&RawAgent, &(Host, Option<u16>))| {
            let (at, other_port) = other.1;
            at == host && (port.is_none() || other_port.is_none() || port == other_port)
        };
        if let Some((other, _)) = all.iter().take(i).find(same)
            && problems.len() < MAX_PROBLEMS
        {
            let message = format!("agents `{}` and `{}` are called at the same address, {host}", other.id.name, agent.id.name);
            problems
                .push(agent.id.spot.problem(message).help("a token for one would go to the other: give each a name or a port of its own"));
        }
    }
    problems
}

/// What the identities of agents refer to, and those between which a caller could not be told apart.
pub(super) fn identities(registry: &RawRegistry, issuers: &[Ref], specs: &[IssuerSpec]) -> Vec<Problem> {
    let names = Names::new("issuer", issuers.iter());
    let clusters = specs.iter().filter(|s| s.kubernetes).count();
    let mut problems = Vec::new();
    let all: Vec<(&RawAgent, &RawIdentity)> = registry.agents.iter().flat_map(|a| a.identities.iter().map(move |i| (a, i))).collect();
    for (agent, identity) in &all {
        problems.extend(identity.issuer.as_ref().and_then(|r| names.look_up(r)));
        let account = matches!(identity.rule.what, IdentitySpec::ServiceAccount { issuer: None, .. });
        if account && clusters > 1 {
            let problem = identity.name.spot.problem(format!("{clusters} clusters are configured, and this account could be of any"));
            problems.push(problem.help("add `issuer:` beside it"));
        }
        if let Some(workflow) = &identity.workflow
            && !agent.workflows.iter().any(|w| w.name == workflow.name)
        {
            let problem = workflow.spot.problem(format!("agent `{}` is not bound to workflow `{}`", agent.id.name, shown(&workflow.name)));
            let help = format!("add it to the agent's `workflows` at {}:{}", agent.id.spot.file.display(), agent.id.spot.line);
            problems.push(problem.help(help));
        }
    }
    problems.extend(overlaps(&all));
    problems
}

/// An issuer, a claim, and the value it must have.
type Asked<'a> = (&'a str, &'a str, String);

/// Rules of two agents of which one asks for a part of what the other does: a token could be both.
fn overlaps(all: &[(&RawAgent, &RawIdentity)]) -> Vec<Problem> {
    // By the first claim each asks for, which a rule that asks for more has too.
    let mut by_first: HashMap<Asked<'_>, Vec<(&RawAgent, &RawIdentity)>> = HashMap::new();
    let claims = |identity: &RawIdentity| match &identity.rule.what {
        IdentitySpec::Jwt { issuer, claims } => Some((issuer.clone(), claims.clone())),
        IdentitySpec::Spiffe(_) | IdentitySpec::ServiceAccount { .. } => None,
    };
    for (agent, identity) in all {
        if let IdentitySpec::Jwt { issuer, claims } = &identity.rule.what
            && let Some((name, value)) = claims.first()
        {
            by_first.entry((issuer, name, value.to_string())).or_default().push((agent, identity));
        }
    }
    let mut problems = Vec::new();
    for (agent, many) in all {
        let Some((issuer, asked)) = claims(many) else { continue };
        let others = asked.iter().filter_map(|(name, value)| by_first.get(&(&*issuer, &**name, value.to_string()))).flatten();
        for (other, few) in others {
            if agent.id.name != other.id.name && few.rule.what.is_part_of(&many.rule.what) && problems.len() < MAX_PROBLEMS {
                let spot = &few.name.spot;
                let message = format!("a token with these claims is also `{}`, by {}:{}", other.id.name, spot.file.display(), spot.line);
                problems.push(many.name.spot.problem(message).help("name another claim in the shorter of the two"));
            }
        }
    }
    problems
}

/// A listener that shows an SVID needs someone who gives it one.
pub(super) fn own_svid(config: &Config) -> Option<Problem> {
    let tls = config.listen.forward_tls.as_ref()?;
    let file = config.file.clone().unwrap_or_default();
    let problem = |message: &str| Some(Problem::new(message).at(file.clone(), None).key("listen.forward.tls"));
    if tls.certificate == ListenCertificate::Svid && config.spiffe.as_ref().is_none_or(|s| s.workload_api.is_none()) {
        return problem("`svid: true` needs the Workload API").map(|p| p.help("add `spiffe: {workload_api: env}`"));
    }
    if config.spiffe.is_none() {
        return problem("no SPIFFE bundle verifies the certificates of clients").map(|p| p.help("add `spiffe: {…}`"));
    }
    None
}

/// What is defined of one kind.
struct Names<'a> {
    what: &'static str,
    set: HashSet<&'a str>,
    /// Suggestions that are still looked for: one compares with every name.
    searches: Cell<usize>,
}

impl<'a> Names<'a> {
    fn new(what: &'static str, names: impl Iterator<Item = &'a Ref>) -> Self {
        Self { what, set: names.map(|r| &*r.name).collect(), searches: Cell::new(MAX_PROBLEMS) }
    }

    /// The problem with a reference to what is not defined.
    fn look_up(&self, to: &Ref) -> Option<Problem> {
        if self.set.contains(&*to.name) {
            return None;
        }
        let problem = to.spot.problem(format!("no {} `{}` is defined", self.what, shown(&to.name)));
        let Some(left) = self.searches.get().checked_sub(1) else { return Some(problem) };
        self.searches.set(left);
        let mut known: Vec<&str> = self.set.iter().copied().collect();
        known.sort_unstable();
        let help = match known.len() {
            0 => format!("no {} is defined", self.what),
            _ => few(suggestion(&to.name, &known), self.what, known.len()),
        };
        Some(problem.help(help))
    }
}

/// A suggestion, but not a list of thousands.
fn few(help: String, what: &str, count: usize) -> String {
    if count > 12 && help.starts_with("known here") { format!("{count} {what}s are defined, none with a name like it") } else { help }
}

/// Each cycle of delegation once, named in full at the link that closes it.
fn cycles(agents: &[RawAgent]) -> Vec<Problem> {
    let index: HashMap<&str, usize> = agents.iter().enumerate().map(|(i, a)| (&*a.id.name, i)).collect();
    let mut state = vec![Visit::New; agents.len()];
    let mut problems = Vec::new();
    for start in 0..agents.len() {
        // depth first without recursion: (agent, next link to follow)
        let mut path: Vec<(usize, usize)> = Vec::new();
        if enter(&mut state, start) {
            path.push((start, 0));
        }
        while let Some((at, link)) = path.last_mut() {
            let Some(to) = agents.get(*at).and_then(|a| a.delegates_to.get(*link)) else {
                if let Some(s) = state.get_mut(*at) {
                    *s = Visit::Done;
                }
                path.pop();
                continue;
            };
            *link += 1;
            let Some(next) = index.get(&*to.name).copied() else { continue };
            if state.get(next) == Some(&Visit::Open) {
                problems.push(cycle(agents, &path, next, to));
            } else if enter(&mut state, next) {
                path.push((next, 0));
            }
        }
    }
    problems
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

/// Opens an agent that was not visited yet.
fn enter(state: &mut [Visit], agent: usize) -> bool {
    match state.get_mut(agent) {
        Some(visit @ Visit::New) => {
            *visit = Visit::Open;
            true
        }
        _ => false,
    }
}

fn cycle(agents: &[RawAgent], path: &[(usize, usize)], first: usize, closing: &Ref) -> Problem {
    let names = path.iter().skip_while(|(at, _)| *at != first).filter_map(|(at, _)| agents.get(*at)).map(|a| &*a.id.name);
    let mut way: Vec<&str> = names.collect();
    way.push(&closing.name);
    if way.len() > 12 {
        way.splice(6..way.len() - 5, ["…"]);
    }
    closing.spot.problem(format!("delegation goes in a circle: {}", way.join(" → "))).help("remove one link of it")
}
