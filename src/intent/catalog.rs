use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use http::Method;
use smallvec::{SmallVec, smallvec};

use crate::{
    call::{Effect, Head, Host, Intent, Operation, Param, Params, Provider, UNKNOWN_HOST},
    config::CatalogSource,
    problem::{Problem, Problems},
    refusal::{Reason, Refusal},
};

use super::{
    aws::{Form, MOST_WILD},
    build, builtin,
    found::{Found, Reading},
    json::Plan,
    pack::Shelf,
    readers::{Mount, Mounted},
    request::refuse_override,
    spec::Class,
    trie::{Hit, READER, Trie},
};

/// The intent of a tunnelled call to a host in no catalog; of a known one, `PROVIDER.tunnel`.
pub const TUNNEL: &str = "tunnel";

/// The parameter of the intents of tunnels and of unknown operations: the host's name, which is all
/// that is known of them.
pub const UNLISTED_HOST: &str = "host";

/// How many groups that ship compressed are compiled to check one intent of a grant.
const FEW_GROUPS: usize = 4;

/// Every API that is known, compiled for matching. Never changes: a reload makes a new one.
#[derive(Debug)]
pub struct Catalog {
    pub(super) providers: Vec<Entry>,
    pub(super) hosts: HashMap<Box<str>, Place, ahash::RandomState>,
    /// Hosts with parameters, by what stands after the last parameter.
    pub(super) patterns: HashMap<Box<str>, Vec<HostPattern>, ahash::RandomState>,
    /// Hosts that have several forms, by the one that catalogs write.
    pub(super) forms: HashMap<Box<str>, Formed, ahash::RandomState>,
    /// Id → provider and operation.
    pub(super) ids: HashMap<Arc<str>, (u32, u32), ahash::RandomState>,
    pub(super) was: HashMap<Box<str>, Arc<str>, ahash::RandomState>,
    pub(super) unknown: Fallback,
    /// What is compiled when it is first asked for.
    pub(super) shelf: Shelf,
}

/// One provider, compiled.
#[derive(Debug)]
pub(super) struct Entry {
    pub provider: Arc<Provider>,
    pub operations: Vec<Compiled>,
    /// One for each set of operations that some hosts serve.
    pub tries: Vec<Trie>,
    pub mounts: Vec<Mount>,
    pub fallback: Fallback,
}

/// Which operations a host serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub provider: u32,
    pub trie: u32,
}

/// A host that has several forms, and its parameters.
#[derive(Debug)]
pub(super) struct Formed {
    pub place: Place,
    pub names: Box<[Arc<str>]>,
}

/// `{site}.atlassian.net`: labels from the left, None for a parameter.
#[derive(Debug)]
pub(super) struct HostPattern {
    pub labels: Box<[Option<Box<str>>]>,
    pub names: Box<[Arc<str>]>,
    pub place: Place,
}

/// The operations of calls that no catalog lists, by effect, and of tunnels.
#[derive(Debug)]
pub(super) struct Fallback {
    pub read: Arc<Operation>,
    pub write: Arc<Operation>,
    pub delete: Arc<Operation>,
    pub tunnel: Arc<Operation>,
}

/// One operation, compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    pub operation: Arc<Operation>,
    pub matches: Box<[Box<str>]>,
    /// Hosts that serve it, as the catalog writes them.
    pub hosts: Box<[Arc<str>]>,
    /// In the catalog's order: path, host, query, body.
    pub declared: Box<[Declared]>,
    pub body: BodyPlan,
    /// Media types taken beside JSON.
    pub content: Box<[Box<str>]>,
    /// Whether the vendor reads JSON whatever the `Content-Type`.
    pub any_type: bool,
    pub limit: Class,
    pub uncertain: bool,
}

/// What is read of an operation's body.
#[derive(Debug)]
pub(super) enum BodyPlan {
    Stream,
    Undeclared,
    Json(Plan),
    /// A call to a model; the place of the first of its parameters.
    Llm(u16),
}

/// A parameter of an operation.
#[derive(Debug)]
pub(super) struct Declared {
    pub name: Arc<str>,
    /// What it is called where it is sent, case folded.
    pub folded: Arc<str>,
    /// What it is called where it is sent.
    pub wire: Arc<str>,
    pub from: Origin,
    pub shape: Shape,
    /// A query parameter that may stand in the body instead.
    pub either: bool,
    /// The vendor compares its values without regard to case.
    pub fold: bool,
    /// `%2F` may stand in it.
    pub reserved: bool,
}

/// How often a query parameter stands in a query, and what that makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Shape {
    /// Once: a text.
    #[default]
    One,
    /// `a=1&a=2`, `a[]=1`: a list of texts.
    List,
    /// `a[b]=1&a[c][d]=2`: an object of texts.
    Object,
}

/// Where a parameter comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Path,
    Host,
    Query,
    Body,
}

impl Origin {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Host => "host",
            Self::Query => "query",
            Self::Body => "body",
        }
    }
}

/// A host as the catalog knows it, with the values of its parameters.
pub(super) type HostParams = SmallVec<[(Arc<str>, Box<str>); 1]>;

/// What a catalog says of one operation, for people and linters.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'c> {
    compiled: &'c Compiled,
}

impl Catalog {
    /// Reads and compiles catalogs; `Builtin` stands for all that ship.
    ///
    /// # Errors
    /// Everything that is wrong in the files, each with its place.
    pub fn load(sources: &[CatalogSource]) -> Result<Self, Problems> {
        let mut texts = Vec::new();
        let mut problems = Vec::new();
        let mut shelf = Shelf::default();
        for source in sources {
            match source {
                CatalogSource::Builtin => {
                    texts.extend(builtin::texts());
                    for (file, pack) in builtin::PACKS {
                        if shelf.add(pack).is_none() {
                            problems.push(Problem::new("this pack of catalogs is broken").at(file, None));
                        }
                    }
                }
                CatalogSource::Inline { file, text } => texts.push(builtin::Text { file: file.clone(), text: text.clone().into() }),
                CatalogSource::File(path) => match builtin::read_file(path) {
                    Ok(text) => texts.push(text),
                    Err(problem) => problems.push(problem),
                },
            }
        }
        let catalog = Self { shelf, ..build::catalog(&texts, &mut problems) };
        if problems.is_empty() { Ok(catalog) } else { Err(Problems(problems)) }
    }

    /// Compiles one catalog from its text; `name` stands in problems.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let texts = [builtin::Text { file: name.into(), text: text.to_owned().into() }];
        let catalog = build::catalog(&texts, &mut problems);
        if problems.is_empty() { Ok(catalog) } else { Err(Problems(problems)) }
    }

    /// Finds the operation that a call is for, from its host, method, path and query.
    ///
    /// # Errors
    /// `ambiguous_request`, when what is there could be read in two ways.
    pub fn find(&self, head: &Head) -> Result<Found<'_>, Refusal> {
        refuse_override(&head.headers)?;
        let Some((place, hosts)) = self.place(&head.to.host) else {
            if let Some(catalog) = self.shelf.catalog(&head.to.host) {
                return catalog.find(head);
            }
            refuse_slash(head)?;
            return Ok(Found::unlisted(None, self.unknown.operation(&head.method)));
        };
        let Some(entry) = self.providers.get(place.provider as usize) else {
            return Ok(Found::unlisted(None, self.unknown.operation(&head.method)));
        };
        if let Some(trie) = entry.tries.get(place.trie as usize)
            && let Some(hit) = trie.find(&head.method, &head.path, &head.headers).map_err(|e| ambiguous(e.to_string()))?
        {
            if let Some(mount) = entry.mount(&hit) {
                refuse_slash(head)?;
                if let Some(key) = mount.kind.key_of_head(head).map_err(ambiguous)? {
                    let compiled = trie.key(&key).and_then(|at| entry.operations.get(at as usize));
                    return compiled.map_or_else(
                        || Ok(Found::unlisted(Some(&entry.provider), entry.fallback.operation(&head.method))),
                        |compiled| Found::listed(entry, compiled, hit, hosts, head),
                    );
                }
                return Found::mounted(Mounted { entry, trie, mount, captures: hit.captures, hosts }, head);
            }
            if let Some(compiled) = entry.operations.get(hit.leaf.operation as usize) {
                return Found::listed(entry, compiled, hit, hosts, head);
            }
        }
        refuse_slash(head)?;
        Ok(Found::unlisted(Some(&entry.provider), entry.fallback.operation(&head.method)))
    }

    /// What a tunnel to a host asks for: `PROVIDER.tunnel`, or `tunnel` for a host in no catalog,
    /// of effect `execute` since nothing inside is seen, with the parameter `host`.
    #[must_use]
    pub fn tunnel(&self, host: &Host) -> Reading {
        let entry = self.place(host).and_then(|(place, _)| self.providers.get(place.provider as usize));
        if entry.is_none()
            && let Some(catalog) = self.shelf.catalog(host)
        {
            return catalog.tunnel(host);
        }
        let operation = Arc::clone(&entry.map_or(&self.unknown, |e| &e.fallback).tunnel);
        let mut params = Params::default();
        params.push(Arc::from(UNLISTED_HOST), Param::Text(host.as_str().into()));
        Reading { intents: smallvec![Intent { operation, params }], provider: entry.map(|e| Arc::clone(&e.provider)) }
    }

    /// Every operation that is listed, by provider, in the catalog's order. Compiles all that ships.
    pub fn operations(&self) -> impl Iterator<Item = Facts<'_>> {
        self.own_operations().chain(self.shelf.all().flat_map(Self::own_operations))
    }

    /// The operations of one provider; compiles no other's.
    pub fn operations_of<'c>(&'c self, provider: &'c str) -> impl Iterator<Item = Facts<'c>> {
        let own = self.own_operations().filter(move |f| *f.operation().provider.id == *provider);
        own.chain(self.shelf.of_provider(provider).flat_map(Self::own_operations))
    }

    /// The operations that some intents of grants may name (ids, and prefixes that end in `*`):
    /// those that are compiled anyhow, and those of groups that an intent names.
    pub fn operations_for<'c>(&'c self, intents: &[&str]) -> impl Iterator<Item = Facts<'c>> {
        let mut groups: BTreeSet<&str> = BTreeSet::new();
        for intent in intents {
            let named: Vec<&str> = self.shelf.groups(intent.trim_end_matches('*')).collect();
            if named.len() <= FEW_GROUPS {
                groups.extend(named.into_iter().filter_map(|g| self.shelf.group(g)));
            }
        }
        // Groups may share a catalog.
        let mut catalogs: Vec<&Self> = groups.into_iter().filter_map(|g| self.shelf.with_group(g)).collect();
        catalogs.dedup_by(|a, b| std::ptr::eq(*a, *b));
        self.own_operations().chain(catalogs.into_iter().flat_map(Self::own_operations))
    }

    /// For an intent that is a prefix of more groups than are compiled to check a grant, such as
    /// `aws.*`: an id that it covers.
    #[must_use]
    pub fn stand_in(&self, intent: &str) -> Option<String> {
        let prefix = intent.strip_suffix('*')?;
        self.shelf.groups(prefix).nth(FEW_GROUPS)?;
        self.shelf.groups(prefix).next().map(|group| format!("{group}.~"))
    }

    fn own_operations(&self) -> impl Iterator<Item = Facts<'_>> {
        self.providers.iter().flat_map(|entry| entry.operations.iter().map(|compiled| Facts { compiled }))
    }

    /// An operation by its id, or by one that it had before.
    #[must_use]
    pub fn operation(&self, id: &str) -> Option<Facts<'_>> {
        let Some((provider, operation)) = self.ids.get(self.current_id(id)).copied() else {
            return self.shelf.with_id(id)?.operation(id);
        };
        let entry = self.providers.get(provider as usize)?;
        Some(Facts { compiled: entry.operations.get(operation as usize)? })
    }

    /// The present id of an operation that was renamed; any other id as it is.
    #[must_use]
    pub fn current_id<'a>(&'a self, id: &'a str) -> &'a str {
        match self.was.get(id) {
            Some(new) => new,
            None if self.shelf.is_empty() || self.ids.contains_key(id) => id,
            None => self.shelf.with_id(id).map_or(id, |catalog| catalog.current_id(id)),
        }
    }

    /// Every provider, by id.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter().map(|e| &e.provider).chain(self.shelf.providers())
    }

    /// The hosts, as catalogs write them, of operations whose bodies are read as what is handed to a
    /// model. None of those that are compiled when they are called is one.
    #[must_use]
    pub fn model_hosts(&self) -> BTreeSet<Arc<str>> {
        let operations = self.providers.iter().flat_map(|entry| &entry.operations);
        operations.filter(|o| matches!(o.body, BodyPlan::Llm(_))).flat_map(|o| o.hosts.iter().cloned()).collect()
    }

    /// The provider that a host belongs to.
    #[must_use]
    pub fn provider_for_host(&self, host: &Host) -> Option<&Arc<Provider>> {
        match self.place(host) {
            Some((place, _)) => self.providers.get(place.provider as usize).map(|e| &e.provider),
            None => self.shelf.provider(host),
        }
    }

    /// The provider that a call is for, in the form in which its clients show errors: a reader on
    /// its path may have one of its own.
    #[must_use]
    pub fn provider_for(&self, head: &Head) -> Option<&Arc<Provider>> {
        let Some((place, _)) = self.place(&head.to.host) else { return self.shelf.provider(&head.to.host) };
        let entry = self.providers.get(place.provider as usize)?;
        let hit = entry.tries.get(place.trie as usize).and_then(|t| t.find(&head.method, &head.path, &head.headers).ok().flatten());
        let mount = hit.and_then(|hit| entry.mount(&hit));
        Some(mount.map_or(&entry.provider, |m| &m.provider))
    }

    /// The path at which a reader is mounted on a host, as the catalog writes it.
    #[must_use]
    pub fn reader_path(&self, host: &Host, word: &str) -> Option<&str> {
        let Some((place, _)) = self.place(host) else { return self.shelf.catalog(host)?.reader_path(host, word) };
        let entry = self.providers.get(place.provider as usize)?;
        entry.mounts.iter().find(|m| m.kind.word() == word).map(|m| &*m.text)
    }

    /// Every name that a parameter can have, so that a policy which asks for another is refused.
    #[must_use]
    pub fn parameter_names(&self) -> BTreeSet<String> {
        let declared = self.own_operations().flat_map(|f| f.compiled.declared.iter().map(|d| &*d.name));
        let mut names: BTreeSet<String> = declared.chain([UNLISTED_HOST]).map(str::to_owned).collect();
        self.shelf.parameter_names(&mut names);
        names
    }

    /// Whether some provider compares a parameter without regard to case: its values arrive in
    /// lower case, so a constraint on it must be written so.
    #[must_use]
    pub fn is_folded(&self, parameter: &str) -> bool {
        // No pack that ships folds.
        self.own_operations().any(|f| f.compiled.declared.iter().any(|d| d.fold && &*d.name == parameter))
    }

    fn place(&self, host: &Host) -> Option<(Place, HostParams)> {
        if let Some(place) = self.hosts.get(host.as_str()) {
            return Some((*place, HostParams::new()));
        }
        if let Some(found) = self.formed(host) {
            return Some(found);
        }
        if self.patterns.is_empty() {
            return None;
        }
        // Longest literal ending first: `a.b.c.d` is looked up as `b.c.d`, then `c.d`.
        let mut rest = host.as_str();
        while let Some((_, tail)) = rest.split_once('.') {
            rest = tail;
            let Some(patterns) = self.patterns.get(tail) else { continue };
            if let Some(found) = patterns.iter().find_map(|p| p.capture(host.as_str()).map(|params| (p.place, params))) {
                return Some(found);
            }
        }
        None
    }
}

impl Entry {
    /// The reader that a path led to.
    fn mount(&self, hit: &Hit<'_>) -> Option<&Mount> {
        if hit.leaf.operation & READER == 0 { None } else { self.mounts.get((hit.leaf.operation & !READER) as usize) }
    }
}

impl Catalog {
    fn formed(&self, host: &Host) -> Option<(Place, HostParams)> {
        if self.forms.is_empty() {
            return None;
        }
        let form = Form::of(host.as_str())?;
        let mut key = SmallVec::new();
        // A name before one that stands for any.
        (0..=MOST_WILD).find_map(|wild| {
            if !form.key(wild, &mut key) {
                return None;
            }
            let formed = self.forms.get(std::str::from_utf8(&key).ok()?)?;
            let values = form.captured(wild).map(Box::from);
            Some((formed.place, formed.names.iter().cloned().zip(values).collect()))
        })
    }
}

impl HostPattern {
    /// The values of the parameters, when the host fits.
    fn capture(&self, host: &str) -> Option<HostParams> {
        if host.split('.').count() != self.labels.len() {
            return None;
        }
        let mut values = HostParams::new();
        let mut names = self.names.iter();
        for (want, label) in self.labels.iter().zip(host.split('.')) {
            match want {
                Some(literal) if **literal != *label => return None,
                Some(_) => {}
                None => values.push((Arc::clone(names.next()?), label.into())),
            }
        }
        Some(values)
    }
}

impl Fallback {
    /// The fallbacks of a provider; None: of hosts in no catalog.
    pub(super) fn new(provider: Option<&Arc<Provider>>) -> Self {
        let owner = provider.cloned().unwrap_or_else(|| {
            Arc::new(Provider { id: Arc::from(UNKNOWN_HOST), credential: None, errors: Default::default(), basic: None })
        });
        let make = |group: &str, effect| {
            let id = provider.map_or_else(|| Arc::from(group), |p| Arc::from(format!("{}.{group}", p.id)));
            Arc::new(Operation {
                id,
                group: Arc::from(group),
                name: Arc::from(group),
                provider: Arc::clone(&owner),
                effect,
                labels: Box::default(),
                upgrades: Box::default(),
                takes_credential: provider.is_some(),
                follows: Box::default(),
            })
        };
        Self {
            read: make("unknown", Effect::Read),
            write: make("unknown", Effect::Write),
            delete: make("unknown", Effect::Delete),
            tunnel: make(TUNNEL, Effect::Execute),
        }
    }

    /// What is not listed has the effect that its method promises (RFC 9110 §9.2.1).
    pub(super) fn operation(&self, method: &Method) -> &Arc<Operation> {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => &self.read,
            Method::DELETE => &self.delete,
            _ => &self.write,
        }
    }
}

impl<'c> Facts<'c> {
    #[must_use]
    pub fn operation(self) -> &'c Arc<Operation> {
        &self.compiled.operation
    }

    /// `METHOD PATH`, as the catalog writes it.
    pub fn matches(self) -> impl Iterator<Item = &'c str> {
        self.compiled.matches.iter().map(|m| &**m)
    }

    /// Name and place (`path`, `host`, `query`, `body`) of each parameter, in the catalog's order.
    pub fn parameters(self) -> impl Iterator<Item = (&'c str, &'static str)> {
        self.compiled.declared.iter().map(|d| (&*d.name, d.from.as_str()))
    }

    /// What its query parameters are called where they are sent.
    pub fn query(self) -> impl Iterator<Item = &'c str> {
        self.compiled.declared.iter().filter(|d| d.from == Origin::Query).map(|d| &*d.wire)
    }

    /// The hosts that serve it, as the catalog writes them.
    pub fn hosts(self) -> impl Iterator<Item = &'c str> {
        self.compiled.hosts.iter().map(|h| &**h)
    }

    /// How large a body may be that is read whole.
    #[must_use]
    pub fn limit(self) -> Class {
        self.compiled.limit
    }

    /// Whether the importer guessed its effect or a label.
    #[must_use]
    pub fn is_uncertain(self) -> bool {
        self.compiled.uncertain
    }
}

/// `%2F` passes only inside a reserved parameter, so not where no operation says which are.
fn refuse_slash(head: &Head) -> Result<(), Refusal> {
    if head.path.has_encoded_slash() {
        return Err(ambiguous("the path holds `%2F`, which servers read in different ways, and no operation allows it there".into()));
    }
    Ok(())
}

pub(super) fn ambiguous(detail: String) -> Refusal {
    Refusal::new(Reason::AmbiguousRequest, detail)
}
