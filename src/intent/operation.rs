//! One line of a catalog to one compiled operation.

use std::{collections::HashSet, sync::Arc};

use crate::{
    call::{Host, Operation, Provider},
    problem::{Problem, nearest},
};

use super::{
    catalog::{BodyPlan, Compiled, Declared, Origin, Shape},
    hosts::{self, HostSpec},
    json::Plan,
    llm,
    pattern::{Pattern, is_name},
    query,
    readers::{self, Kind as ReaderKind, MountSpec},
    spec::{BodySpec, BodyType, Class, OperationSpec, Source},
};

/// Texts that many operations share, each held once.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>, ahash::RandomState>);

impl Names {
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// A pattern, the parameters it captures, and whether the body is never read.
pub(super) type MadePattern = (Pattern, Box<[u16]>, bool);

/// A compiled operation, its patterns with the parameters they capture, and its hosts.
#[derive(Debug)]
pub(super) struct Made {
    pub compiled: Compiled,
    pub patterns: Vec<MadePattern>,
    /// Matches that begin with a reader's word, and the reader.
    pub keys: Vec<(ReaderKind, Box<str>)>,
    pub hosts: Vec<HostSpec>,
}

/// What the operations of one file have in common.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub source: &'a Source<'a>,
    pub provider: &'a Arc<Provider>,
    /// Parameters whose letter case does not count.
    pub folds: &'a [&'a str],
    /// The file's hosts.
    pub hosts: &'a [HostSpec],
    /// The file's readers.
    pub mounts: &'a [MountSpec],
}

/// Compiles one operation; None when it is so wrong that nothing can be made of it.
pub(super) fn make(shared: &Shared<'_>, spec: &OperationSpec, names: &mut Names, problems: &mut Vec<Problem>) -> Option<Made> {
    let before = problems.len();
    let source = shared.source;
    let own = hosts::parse(source, &spec.hosts, Some(&spec.id), problems);
    let hosts = if spec.hosts.is_empty() { shared.hosts.to_vec() } else { own };
    let mut maker =
        Maker { source, spec, folds: shared.folds, mounts: shared.mounts, names, keys: Vec::new(), declared: Vec::new(), problems };
    let parsed = maker.patterns();
    let operation = maker.operation(shared.provider);
    for pattern in &parsed {
        maker.hosts(pattern.0.host.as_slice());
    }
    maker.hosts(&hosts);
    maker.query();
    let body = maker.body();
    let mut served: Vec<Arc<str>> = Vec::new();
    for host in hosts.iter().chain(parsed.iter().filter_map(|(p, _)| p.host.as_ref())) {
        if !served.iter().any(|s| **s == *host.text) {
            served.push(maker.names.share(&host.text));
        }
    }
    maker.check_lists(parsed.is_empty());
    let keys = maker.keys;
    let declared = maker.declared.into_boxed_slice();
    if problems.len() > before {
        return None;
    }
    let at = |name: &str| declared.iter().position(|d| d.from == Origin::Path && *d.name == *name).unwrap_or(0) as u16;
    let params = |p: &Pattern| p.names.iter().map(|n| at(n)).collect();
    let patterns = parsed.into_iter().map(|(p, stream)| (params(&p), p, stream)).map(|(a, p, stream)| (p, a, stream)).collect();
    let compiled = Compiled {
        operation: Arc::new(operation?),
        matches: spec.matches.0.iter().chain(&spec.streams.0).map(|m| m.as_str().into()).collect(),
        hosts: served.into(),
        declared,
        body,
        content: spec.content.iter().map(|c| c.to_ascii_lowercase().into()).collect(),
        any_type: source.spec.body_type == BodyType::Any,
        limit: if spec.body == BodySpec::Llm { Class::Llm } else { spec.limit },
        uncertain: spec.uncertain,
    };
    Some(Made { compiled, patterns, keys, hosts })
}

struct Maker<'a, 's> {
    source: &'a Source<'s>,
    spec: &'a OperationSpec,
    folds: &'a [&'a str],
    mounts: &'a [MountSpec],
    names: &'a mut Names,
    keys: Vec<(ReaderKind, Box<str>)>,
    declared: Vec<Declared>,
    problems: &'a mut Vec<Problem>,
}

impl Maker<'_, '_> {
    fn problem(&mut self, message: impl Into<String>) {
        let problem = self.source.problem(&self.spec.id, message);
        self.problems.push(problem);
    }

    fn operation(&mut self, provider: &Arc<Provider>) -> Option<Operation> {
        let id = &self.spec.id;
        let parts = id.strip_prefix(&*provider.id).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.split_once('.'));
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '*' | '`' | '"' | '\'' | '{' | '}' | ',');
        let Some((group, name)) = parts.filter(|(g, n)| !g.is_empty() && !n.is_empty() && id.chars().all(fits)) else {
            self.problem(format!("an id is `{}.GROUP.NAME`, without spaces, quotes or `*`", provider.id));
            return None;
        };
        if group == "unknown" || group == "tunnel" {
            self.problem(format!("the group `{group}` is kept for what no catalog lists"));
            return None;
        }
        let follows = self.spec.follows.iter().filter_map(|h| Host::parse(h).ok()).map(|h| h.as_str().into()).collect::<Box<[Box<str>]>>();
        if follows.len() != self.spec.follows.len() {
            self.problem("`follows` lists hosts, without scheme, port or path");
        }
        if self.spec.upgrade.iter().any(|u| u.is_empty() || u.chars().any(|c| !c.is_ascii_graphic() || c.is_ascii_uppercase())) {
            self.problem("`upgrade` lists protocols in lower case, such as `websocket`");
        }
        Some(Operation {
            id: Arc::from(id.as_str()),
            group: self.names.share(group),
            name: self.names.share(name),
            provider: Arc::clone(provider),
            effect: self.spec.effect,
            labels: self.spec.labels.clone().into(),
            upgrades: self.spec.upgrade.iter().map(|u| u.as_str().into()).collect(),
            takes_credential: self.spec.credential.is_none(),
            follows,
        })
    }

    /// The matches, and of each whether its body is never read.
    fn patterns(&mut self) -> Vec<(Pattern, bool)> {
        let mut all = Vec::new();
        let spec = self.spec;
        if spec.matches.0.is_empty() && spec.streams.0.is_empty() {
            self.problem("`match` is empty");
        }
        let streams = spec.streams.0.iter().map(|m| (m, true));
        for (text, stream) in spec.matches.0.iter().map(|m| (m, false)).chain(streams) {
            if text.starts_with(|c: char| c.is_ascii_lowercase()) {
                self.key(text);
                continue;
            }
            match Pattern::parse(text) {
                Ok(pattern) => {
                    for name in &pattern.names {
                        if !self.declared.iter().any(|d| *d.name == **name) {
                            self.declare(name, name, Origin::Path, Shape::One);
                        }
                    }
                    all.push((pattern, stream));
                }
                Err(message) => self.problem(message),
            }
        }
        all
    }

    /// A match by which a reader finds the operation; it may have the parameters of the reader's path.
    fn key(&mut self, text: &str) {
        let kind = match readers::kind_of_key(text) {
            Ok(kind) => kind,
            Err(message) => return self.problem(message),
        };
        let mounts = self.mounts;
        for name in mounts.iter().filter(|m| m.kind == kind).flat_map(|m| &m.path.names) {
            if !self.declared.iter().any(|d| *d.name == **name) {
                self.declare(name, name, Origin::Path, Shape::One);
            }
        }
        self.keys.push((kind, text.into()));
    }

    fn hosts(&mut self, hosts: &[HostSpec]) {
        for name in hosts.iter().flat_map(|h| h.names.iter()) {
            // A bucket that stands in the path of one match may stand in the host of another.
            if !self.declared.iter().any(|d| matches!(d.from, Origin::Host | Origin::Path) && d.name == *name) {
                self.declare(name, name, Origin::Host, Shape::One);
            }
        }
    }

    fn query(&mut self) {
        let spec = self.spec;
        for (entry, either) in spec.query.iter().map(|e| (e, false)).chain(spec.either.iter().map(|e| (e, true))) {
            let (name, wire) = entry.split_once('=').unwrap_or((entry, entry));
            let (name, first) = shape(name);
            let (wire, second) = shape(wire);
            let made = self.declare(name, wire, Origin::Query, if second == Shape::One { first } else { second });
            if let Some(declared) = self.declared.last_mut().filter(|_| made) {
                declared.either = either;
            }
        }
    }

    fn body(&mut self) -> BodyPlan {
        let pairs = match &self.spec.body {
            BodySpec::Undeclared => return BodyPlan::Undeclared,
            BodySpec::Stream => return BodyPlan::Stream,
            BodySpec::Llm => return self.llm(),
            BodySpec::Json(pairs) => pairs,
        };
        let mut plan = Plan::default();
        for (name, pointer) in &pairs.0 {
            let top = pointer.strip_prefix('/').filter(|t| !t.contains(['/', '~']));
            let slot = self.declared.len() as u16;
            if self.declare(name, top.unwrap_or(name), Origin::Body, Shape::One)
                && let Err(message) = plan.add(pointer, slot)
            {
                self.problem(message);
            }
        }
        let mut tops: Vec<_> = plan.tops().map(|t| query::fold(t).into_owned()).collect();
        tops.sort_unstable();
        if tops.windows(2).any(|w| w[0] == w[1]) {
            self.problem("two pointers of `body` begin with keys that differ only in case");
        }
        BodyPlan::Json(plan)
    }

    fn llm(&mut self) -> BodyPlan {
        let first = self.declared.len() as u16;
        for name in llm::PARAMETERS {
            self.declare(name, name, Origin::Body, Shape::One);
        }
        BodyPlan::Llm(first)
    }

    fn declare(&mut self, name: &str, wire: &str, from: Origin, shape: Shape) -> bool {
        if !is_name(name) || wire.is_empty() {
            self.problem(format!("`{name}` is not a parameter name: letters, digits, `_`, `-`, `.` or `$`"));
            return false;
        }
        if let Some(other) = self.declared.iter().find(|d| d.name.eq_ignore_ascii_case(name)) {
            let (here, there) = (from.as_str(), other.from.as_str());
            self.problem(format!("the parameter `{name}` of the {here} is declared already, in the {there}: call it `{here}_{name}`"));
            return false;
        }
        if self.declared.len() >= usize::from(u16::MAX) {
            self.problem("an operation has at most 65,535 parameters");
            return false;
        }
        let folded = query::fold(wire).into_owned();
        self.declared.push(Declared {
            name: self.names.share(name),
            folded: self.names.share(&folded),
            wire: self.names.share(wire),
            from,
            shape,
            either: false,
            fold: self.folds.contains(&name),
            reserved: from == Origin::Path && self.spec.reserved.iter().any(|r| r == name),
        });
        true
    }

    fn check_lists(&mut self, only_keys: bool) {
        if only_keys && !self.spec.query.is_empty() {
            self.problem("a reader finds this operation in a body, so it has no `query` parameters: name them in `body`");
        }
        if only_keys && matches!(self.spec.body, BodySpec::Stream | BodySpec::Llm) {
            self.problem("a reader finds this operation in a body, which cannot be `stream` or `llm`");
        }
        for name in &self.spec.reserved {
            if !self.declared.iter().any(|d| d.reserved && *d.name == *name.as_str()) {
                let near = nearest(name, self.declared.iter().filter(|d| d.from == Origin::Path).map(|d| &*d.name));
                let help = near.map(|n| format!("did you mean `{n}`?")).unwrap_or_default();
                let mut problem = self.source.problem(&self.spec.id, format!("`reserved`: the path has no parameter `{name}`"));
                problem.help = Some(help).filter(|h| !h.is_empty());
                self.problems.push(problem);
            }
        }
        if self.spec.content.iter().any(|c| !c.contains('/')) {
            self.problem("`content` lists media types, such as `text/plain` or `image/*`");
        }
    }
}

/// `tag[]` is a list, `filter{}` an object.
fn shape(name: &str) -> (&str, Shape) {
    match (name.strip_suffix("[]"), name.strip_suffix("{}")) {
        (Some(name), _) => (name, Shape::List),
        (_, Some(name)) => (name, Shape::Object),
        _ => (name, Shape::One),
    }
}
