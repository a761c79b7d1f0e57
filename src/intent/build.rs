//! Catalog files to a compiled catalog: everything that can be wrong in one is found here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    call::Provider,
    problem::{Problem, nearest},
};

use super::{
    builtin::Text,
    catalog::{Catalog, Entry, Fallback, HostPattern, Place},
    hosts::{self, HostSpec},
    operation::{Made, Names, Shared, make},
    pattern::Pattern,
    readers::{self, Kind, Mount, MountSpec},
    spec::Source,
    trie::{READER, Trie},
};

/// Compiles the files of a catalog; what is wrong in them goes to `problems`.
pub(super) fn catalog(texts: &[Text], problems: &mut Vec<Problem>) -> Catalog {
    let mut sources = Vec::new();
    for text in texts {
        match Source::parse(&text.file, &text.text) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    let mut catalog = Catalog {
        providers: Vec::new(),
        hosts: HashMap::default(),
        patterns: HashMap::default(),
        ids: HashMap::default(),
        was: HashMap::default(),
        unknown: Fallback::new(None),
    };
    let mut by_provider: BTreeMap<&str, Vec<&Source<'_>>> = BTreeMap::new();
    for source in &sources {
        by_provider.entry(&source.spec.provider).or_default().push(source);
    }
    let mut names = Names::default();
    let mut claims = Claims::default();
    for (id, sources) in &by_provider {
        provider(id, sources, &mut names, &mut claims, &mut catalog, problems);
    }
    for source in &sources {
        renames(source, &mut catalog, problems);
    }
    hosts::sort(&mut catalog.patterns);
    catalog
}

/// Which file claimed a host.
#[derive(Debug, Default)]
struct Claims(BTreeMap<String, (String, String)>);

/// Compiles one provider from all files that describe it.
fn provider(id: &str, sources: &[&Source<'_>], names: &mut Names, claims: &mut Claims, catalog: &mut Catalog, problems: &mut Vec<Problem>) {
    let Some(provider) = head(id, sources, problems) else { return };
    let number = catalog.providers.len() as u32;
    let mut entry =
        Entry { fallback: Fallback::new(Some(&provider)), provider, operations: Vec::new(), tries: Vec::new(), mounts: Vec::new() };
    let folds: Vec<&str> = sources.iter().flat_map(|s| s.spec.fold.iter().map(String::as_str)).collect();
    let mut served: BTreeMap<String, Served<'_>> = BTreeMap::new();
    let bound = bound(sources, problems);
    for source in sources {
        let own = hosts::parse(source, &source.spec.hosts, None, problems);
        // A catalog of an API that everyone serves from hosts of their own lists none.
        let defaults = if source.spec.hosts.is_empty() { bound.clone() } else { own };
        let owner = Arc::clone(&entry.provider);
        let mounts = readers::mounts(source, problems);
        let shared = Shared { source, provider: &owner, folds: &folds, hosts: &defaults, mounts: &mounts };
        for spec in &source.spec.operations {
            let at = entry.operations.len() as u32;
            let Some(made) = make(&shared, spec, names, problems) else { continue };
            if catalog.ids.contains_key(&made.compiled.operation.id) {
                problems.push(source.problem(&spec.id, "this id is taken: two operations would be one to every grant"));
                continue;
            }
            catalog.ids.insert(Arc::clone(&made.compiled.operation.id), (number, at));
            for host in &made.hosts {
                served.entry(host.key()).or_insert_with(|| Served::new(host.clone())).add(at, &spec.id, source, &made, problems);
            }
            entry.operations.push(made.compiled);
        }
        mount(&mounts, &defaults, source, &mut served, &mut entry, problems);
        check_folds(source, &entry, problems);
        // Hosts of a file without operations belong to the provider as well.
        for host in defaults {
            served.entry(host.key()).or_insert_with(|| Served::new(host));
        }
    }
    check_keys(&served, problems);
    place_hosts(served, number, &mut entry, claims, sources, catalog, problems);
    entry.operations.shrink_to_fit();
    catalog.providers.push(entry);
}

/// The hosts of files that name nothing else: where a provider's catalog that lists no hosts is served.
fn bound(sources: &[&Source<'_>], problems: &mut Vec<Problem>) -> Vec<HostSpec> {
    let only_hosts = |s: &&&Source<'_>| s.spec.operations.is_empty() && s.spec.readers.is_empty();
    sources.iter().filter(only_hosts).flat_map(|s| hosts::parse(s, &s.spec.hosts, None, problems)).collect()
}

/// What one host serves: operation, its pattern's place, and a trie to be.
struct Served<'s> {
    host: HostSpec,
    operations: Vec<u32>,
    trie: Trie,
    /// Shape → id and file of the operation that has it.
    shapes: HashMap<String, (&'s str, &'s Source<'s>)>,
    /// Readers that are mounted, and those that operations need: kind, id and file.
    mounted: Vec<Kind>,
    needed: Vec<(Kind, &'s str, &'s Source<'s>)>,
}

impl<'s> Served<'s> {
    fn new(host: HostSpec) -> Self {
        let (mounted, needed) = (Vec::new(), Vec::new());
        Self { host, operations: Vec::new(), trie: Trie::new(), shapes: HashMap::new(), mounted, needed }
    }

    fn add(&mut self, at: u32, id: &'s str, source: &'s Source<'s>, made: &Made, problems: &mut Vec<Problem>) {
        self.operations.push(at);
        for (pattern, params) in &made.patterns {
            if let Some((other, file)) = self.shapes.insert(pattern.shape(), (id, source)) {
                let message = format!("`{}` matches the same requests as {other} ({})", pattern.shape(), file.place(other));
                problems.push(source.problem(id, message).help("two operations that no request tells apart cannot both be listed"));
                continue;
            }
            self.trie.insert(pattern, at, params.clone());
        }
        for (kind, key) in &made.keys {
            if let Some((other, file)) = self.shapes.insert(key.to_string(), (id, source)) {
                problems.push(source.problem(id, format!("`{key}` is also what {other} matches ({})", file.place(other))));
                continue;
            }
            self.trie.insert_key(key, at);
            self.needed.push((*kind, id, source));
        }
    }

    /// Mounts a reader at its path.
    fn mount(&mut self, at: u32, mount: &MountSpec, source: &'s Source<'s>, problems: &mut Vec<Problem>) {
        self.operations.push(READER | at);
        self.mounted.push(mount.kind);
        let params: Box<[u16]> = (0..mount.path.names.len()).map(|i| i as u16).collect();
        for method in mount.kind.methods() {
            let pattern = Pattern { method: method.clone(), ..mount.path.clone() };
            if let Some((other, file)) = self.shapes.insert(pattern.shape(), ("readers", source)) {
                let message = format!("the reader's `{}` is also matched by {other} ({})", pattern.shape(), file.file.display());
                problems.push(Problem::new(message).at(&source.file, line(source, "readers:")).key("readers"));
                continue;
            }
            self.trie.insert(&pattern, READER | at, params.clone());
        }
    }
}

/// Mounts the readers of a file on its hosts.
fn mount<'s>(
    mounts: &[MountSpec],
    hosts: &[HostSpec],
    source: &'s Source<'s>,
    served: &mut BTreeMap<String, Served<'s>>,
    entry: &mut Entry,
    problems: &mut Vec<Problem>,
) {
    for mount in mounts {
        let at = entry.mounts.len() as u32;
        entry.mounts.push(Mount::new(mount, &entry.provider));
        for host in hosts {
            served.entry(host.key()).or_insert_with(|| Served::new(host.clone())).mount(at, mount, source, problems);
        }
    }
}

/// An operation that only a reader finds needs one on each of its hosts.
fn check_keys(served: &BTreeMap<String, Served<'_>>, problems: &mut Vec<Problem>) {
    for host in served.values() {
        let mut missing: Vec<Kind> = Vec::new();
        for (kind, id, source) in host.needed.iter().filter(|(kind, ..)| !host.mounted.contains(kind)) {
            if !missing.contains(kind) {
                missing.push(*kind);
                let message = format!("nothing finds this operation on `{}`: no reader `{}` is mounted there", host.host.text, kind.word());
                problems.push(source.problem(id, message).help(format!("write `readers: [{{{}: /path}}]`", kind.word())));
            }
        }
    }
}

/// Gives every host its trie; hosts that serve the same operations share one.
fn place_hosts(
    served: BTreeMap<String, Served<'_>>,
    number: u32,
    entry: &mut Entry,
    claims: &mut Claims,
    sources: &[&Source<'_>],
    catalog: &mut Catalog,
    problems: &mut Vec<Problem>,
) {
    let mut tries: HashMap<Vec<u32>, u32> = HashMap::new();
    for (key, Served { host, operations, mut trie, .. }) in served {
        let file = sources.first().map_or_else(String::new, |s| s.file.display().to_string());
        let claim = (entry.provider.id.to_string(), file);
        let other = claims.0.iter().find(|(k, (p, _))| (**k == key || hosts::overlap(k, &key)) && *p != claim.0);
        if let Some((_, (provider, file))) = other {
            let place = sources.first().map(|s| s.file.clone()).unwrap_or_default();
            let message = format!("the host `{}` belongs to the provider `{provider}` already ({file})", host.text);
            problems.push(Problem::new(message).at(place, None).key("hosts"));
            continue;
        }
        claims.0.insert(key, claim);
        let trie = *tries.entry(operations).or_insert_with(|| {
            trie.finish();
            entry.tries.push(trie);
            entry.tries.len() as u32 - 1
        });
        let place = Place { provider: number, trie };
        if host.names.is_empty() {
            catalog.hosts.insert(host.text.into(), place);
        } else {
            let pattern = HostPattern { labels: host.labels, names: host.names, place };
            catalog.patterns.entry(host.ending).or_default().push(pattern);
        }
    }
}

/// What the files of one provider say of it; they may not contradict each other.
fn head(id: &str, sources: &[&Source<'_>], problems: &mut Vec<Problem>) -> Option<Arc<Provider>> {
    let first = sources.first()?;
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if id.is_empty() || !id.bytes().all(fits) || id == "unknown" || id == "tunnel" {
        let message = format!("`{id}` cannot name a provider");
        problems.push(Problem::new(message).at(&first.file, None).key("provider").help("use lower-case letters, digits and `-`"));
        return None;
    }
    let credential = agreed(sources, "credential", |s| s.spec.credential.as_deref(), problems);
    let errors = agreed(sources, "errors", |s| s.spec.errors, problems).unwrap_or_default();
    let basic = agreed(sources, "basic", |s| s.spec.basic.as_deref(), problems);
    if basic.is_some_and(|user| user.is_empty() || user.contains(':') || user.chars().any(|c| !c.is_ascii_graphic())) {
        let message = "`basic` is the user of HTTP's basic authentication: visible ASCII without `:`";
        problems.push(Problem::new(message).at(&first.file, line(first, "basic:")).key("basic"));
    }
    Some(Arc::new(Provider { id: Arc::from(id), credential: credential.map(Arc::from), errors, basic: basic.map(Arc::from) }))
}

/// The one value that the files of a provider give for a key.
fn agreed<'s, T: PartialEq + Copy>(
    sources: &[&'s Source<'_>],
    key: &str,
    value: impl Fn(&'s Source<'_>) -> Option<T>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let mut all = sources.iter().filter_map(|s| value(s).map(|v| (v, *s)));
    let (first, from) = all.next()?;
    if let Some((_, other)) = all.find(|(v, _)| *v != first) {
        let message = format!("`{key}` differs from what {} says of the same provider", from.file.display());
        problems.push(Problem::new(message).at(&other.file, line(other, &format!("{key}:"))).key(key));
    }
    Some(first)
}

fn check_folds(source: &Source<'_>, entry: &Entry, problems: &mut Vec<Problem>) {
    let has = |name: &str| entry.operations.iter().any(|o| o.declared.iter().any(|d| *d.name == *name));
    for fold in source.spec.fold.iter().filter(|f| !has(f)) {
        let problem = Problem::new(format!("no operation has a parameter `{fold}`")).at(&source.file, line(source, "fold:")).key("fold");
        let names = entry.operations.iter().flat_map(|o| o.declared.iter().map(|d| &*d.name));
        problems.push(match nearest(fold, names) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
}

fn renames(source: &Source<'_>, catalog: &mut Catalog, problems: &mut Vec<Problem>) {
    for (old, new) in &source.spec.was.0 {
        let key = format!("{old}:");
        let at = source.text.lines().position(|l| l.contains(&key)).map(|i| i + 1);
        let problem = |message: String| Problem::new(message).at(&source.file, at).key(format!("was.{old}"));
        let Some((id, _)) = catalog.ids.get_key_value(new.as_str()) else {
            let near = nearest(new, catalog.ids.keys().map(|k| &**k)).map(str::to_owned);
            let problem = problem(format!("no operation has the id `{new}`"));
            problems.push(match near {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem,
            });
            continue;
        };
        if catalog.ids.contains_key(old.as_str()) {
            problems.push(problem(format!("`{old}` is the id of an operation, so it cannot be an old one")));
            continue;
        }
        let id = Arc::clone(id);
        if catalog.was.insert(old.as_str().into(), Arc::clone(&id)).is_some_and(|before| before != id) {
            problems.push(problem(format!("`{old}` became two operations")));
        }
    }
}

pub(super) fn line(source: &Source<'_>, start: &str) -> Option<usize> {
    source.text.lines().position(|l| l.trim_start().starts_with(start)).map(|i| i + 1)
}
