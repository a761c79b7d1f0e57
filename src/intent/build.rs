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
    aws,
    builtin::Text,
    catalog::{Catalog, Entry, Fallback, Formed, HostPattern, Place},
    hosts::{self, HostSpec},
    operation::{MadePattern, Names, Shared, make},
    pack::Shelf,
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
        forms: HashMap::default(),
        ids: HashMap::default(),
        was: HashMap::default(),
        unknown: Fallback::new(None),
        shelf: Shelf::default(),
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
    let mut filing = Filing::default();
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
            filing.add(at, &spec.id, source, made.patterns, made.keys, &made.hosts);
            entry.operations.push(made.compiled);
        }
        filing.mount(&mounts, &defaults, source, &mut entry);
        check_folds(source, &entry, problems);
        // Hosts of a file without operations belong to the provider as well.
        for host in &defaults {
            filing.host(host);
        }
    }
    place_hosts(filing, number, &mut entry, claims, sources, catalog, problems);
    entry.operations.shrink_to_fit();
    catalog.providers.push(entry);
}

/// The hosts of files that name nothing else: where a provider's catalog that lists no hosts is served.
fn bound(sources: &[&Source<'_>], problems: &mut Vec<Problem>) -> Vec<HostSpec> {
    let only_hosts = |s: &&&Source<'_>| s.spec.operations.is_empty() && s.spec.readers.is_empty();
    sources.iter().filter(only_hosts).flat_map(|s| hosts::parse(s, &s.spec.hosts, None, problems)).collect()
}

/// Something that a request is matched against, and what it stands for.
struct Filed<'s> {
    what: What,
    /// Its operation's place, or with [`READER`] its reader's.
    at: u32,
    id: &'s str,
    source: &'s Source<'s>,
}

enum What {
    Path(MadePattern),
    Key(Kind, Box<str>),
}

/// Everything that a provider's hosts serve.
#[derive(Default)]
struct Filing<'s> {
    all: Vec<Filed<'s>>,
    /// By the hosts' keys.
    served: BTreeMap<String, Served>,
}

/// What one host serves, by its place in the filing.
struct Served {
    host: HostSpec,
    filed: Vec<u32>,
    mounted: Vec<Kind>,
}

impl<'s> Filing<'s> {
    fn host(&mut self, host: &HostSpec) -> &mut Served {
        self.served.entry(host.key()).or_insert_with(|| Served { host: host.clone(), filed: Vec::new(), mounted: Vec::new() })
    }

    fn file(&mut self, hosts: &[HostSpec], filed: Filed<'s>) {
        let at = self.all.len() as u32;
        let own = if let What::Path((pattern, ..)) = &filed.what { pattern.host.clone() } else { None };
        for host in own.as_slice().iter().chain(hosts.iter().filter(|_| own.is_none())) {
            self.host(host).filed.push(at);
        }
        self.all.push(filed);
    }

    fn add(
        &mut self,
        at: u32,
        id: &'s str,
        source: &'s Source<'s>,
        patterns: Vec<MadePattern>,
        keys: Vec<(Kind, Box<str>)>,
        hosts: &[HostSpec],
    ) {
        for pattern in patterns {
            self.file(hosts, Filed { what: What::Path(pattern), at, id, source });
        }
        for (kind, key) in keys {
            self.file(hosts, Filed { what: What::Key(kind, key), at, id, source });
        }
    }

    /// Mounts the readers of a file on its hosts, and where its operations need them.
    fn mount(&mut self, mounts: &[MountSpec], hosts: &[HostSpec], source: &'s Source<'s>, entry: &mut Entry) {
        for mount in mounts {
            let at = READER | entry.mounts.len() as u32;
            entry.mounts.push(Mount::new(mount, &entry.provider));
            let needs =
                |served: &&Served| served.filed.iter().any(|f| self.all.get(*f as usize).is_some_and(|f| f.needs(mount.kind, source)));
            let mut all: Vec<HostSpec> = self.served.values().filter(needs).map(|s| s.host.clone()).collect();
            all.extend(hosts.iter().filter(|h| !all.iter().any(|a| a.key() == h.key())).cloned().collect::<Vec<_>>());
            let params: Box<[u16]> = (0..mount.path.names.len()).map(|i| i as u16).collect();
            for method in mount.kind.methods() {
                let pattern = Pattern { method: method.clone(), ..mount.path.clone() };
                self.file(&all, Filed { what: What::Path((pattern, params.clone(), false)), at, id: "readers", source });
            }
            for host in &all {
                self.host(host).mounted.push(mount.kind);
            }
        }
    }
}

impl Filed<'_> {
    fn needs(&self, kind: Kind, source: &Source<'_>) -> bool {
        std::ptr::eq(self.source, source) && matches!(&self.what, What::Key(own, _) if *own == kind)
    }

    /// `FILE:LINE` of it, to name the other of two.
    fn place(&self) -> String {
        self.source.place(self.id)
    }
}

impl Served {
    /// Puts what the host serves into a trie; two things that no request tells apart are a problem.
    fn trie(&self, all: &[Filed<'_>], problems: &mut Vec<Problem>) -> Trie {
        let mut trie = Trie::new();
        let mut shapes: HashMap<String, &Filed<'_>> = HashMap::new();
        let mut missing: Vec<Kind> = Vec::new();
        for filed in self.filed.iter().filter_map(|f| all.get(*f as usize)) {
            let shape = match &filed.what {
                What::Path((pattern, ..)) => pattern.shape(),
                What::Key(_, key) => key.to_string(),
            };
            if let Some(other) = shapes.get(&shape) {
                problems.push(twice(filed, other, &shape));
                continue;
            }
            shapes.insert(shape, filed);
            match &filed.what {
                What::Path((pattern, params, stream)) => trie.insert(pattern, filed.at, params.clone(), *stream),
                What::Key(kind, key) => {
                    trie.insert_key(key, filed.at);
                    // An operation that only a reader finds needs one on each of its hosts.
                    if !self.mounted.contains(kind) && !missing.contains(kind) {
                        missing.push(*kind);
                        let word = kind.word();
                        let message = format!("nothing finds this operation on `{}`: no reader `{word}` is mounted there", self.host.text);
                        problems.push(filed.source.problem(filed.id, message).help(format!("write `readers: [{{{word}: /path}}]`")));
                    }
                }
            }
        }
        trie.finish();
        trie
    }
}

/// Two things of one shape.
fn twice(filed: &Filed<'_>, other: &Filed<'_>, shape: &str) -> Problem {
    let (source, id) = (filed.source, filed.id);
    if filed.at & READER != 0 || other.at & READER != 0 {
        let (id, file) = if filed.at & READER != 0 { (other.id, &other.source.file) } else { (filed.id, &filed.source.file) };
        let message = format!("the reader's `{shape}` is also matched by {id} ({})", file.display());
        return Problem::new(message).at(&source.file, line(source, "readers:")).key("readers");
    }
    match &filed.what {
        What::Key(_, key) => source.problem(id, format!("`{key}` is also what {} matches ({})", other.id, other.place())),
        What::Path(_) => {
            let message = format!("`{shape}` matches the same requests as {} ({})", other.id, other.place());
            source.problem(id, message).help("two operations that no request tells apart cannot both be listed")
        }
    }
}

/// Gives every host its trie; hosts that serve the same operations share one.
fn place_hosts(
    filing: Filing<'_>,
    number: u32,
    entry: &mut Entry,
    claims: &mut Claims,
    sources: &[&Source<'_>],
    catalog: &mut Catalog,
    problems: &mut Vec<Problem>,
) {
    let Filing { all, served } = filing;
    let mut tries: HashMap<Vec<u32>, u32> = HashMap::new();
    for (key, served) in served {
        let host = &served.host;
        let file = sources.first().map_or_else(String::new, |s| s.file.display().to_string());
        let claim = (entry.provider.id.to_string(), file);
        let other = claims.0.iter().find(|(k, (p, _))| *p != claim.0 && (**k == key || hosts::overlap(k, &key)));
        if let Some((_, (provider, file))) = other {
            let place = sources.first().map(|s| s.file.clone()).unwrap_or_default();
            let message = format!("the host `{}` belongs to the provider `{provider}` already ({file})", host.text);
            problems.push(Problem::new(message).at(&place, None).key("hosts"));
            continue;
        }
        claims.0.insert(key.clone(), claim);
        let trie = match tries.get(&served.filed) {
            Some(trie) => *trie,
            None => {
                entry.tries.push(served.trie(&all, problems));
                entry.tries.len() as u32 - 1
            }
        };
        let Served { host, filed, .. } = served;
        tries.insert(filed, trie);
        place_host(host, key, Place { provider: number, trie }, catalog);
    }
}

fn place_host(host: HostSpec, key: String, place: Place, catalog: &mut Catalog) {
    if aws::is_formed(&host.text) {
        catalog.forms.insert(key.into(), Formed { place, names: host.names.clone() });
        if host.names.is_empty() {
            catalog.hosts.insert(host.text.into(), place);
        }
    } else if host.names.is_empty() {
        catalog.hosts.insert(host.text.into(), place);
    } else {
        let pattern = HostPattern { labels: host.labels, names: host.names, place };
        catalog.patterns.entry(host.ending).or_default().push(pattern);
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
