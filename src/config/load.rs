//! From files to a checked config: read every file, note every problem, then check the names.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    call::Mode,
    config::{
        Audit, Ca, CatalogSource, Config, Delegation, Limits, Listen, Policies, RegistrySpec, Roots, TaskSpec, Timeouts, Tls, Upstream,
        UpstreamProxy,
        credentials::{RawCredential, credentials},
        cross, files,
        inbound::{self, RawInbound},
        issuers,
        node::{Kind, Node},
        read::{Fields, Ref, Source, Value, bounded},
        registry::{MODE, RawAgent, RawRegistry},
        sections, spiffe,
        tasks::{self, RawAmbient},
    },
    problem::{Problem, Problems},
};

impl Config {
    /// Reads a config with all the files it names.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, with its place.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = files::read(path).map_err(|why| Problem::new(format!("cannot be read: {why}")).at(path, None))?;
        Self::parse(&text, path.parent().unwrap_or_else(|| Path::new("")), path)
    }

    /// Reads a config from its text. `base` is what its relative paths are relative to, `name` the file that problems name.
    ///
    /// # Errors
    /// Everything that is wrong in it or in the files it names, with its place.
    pub fn parse(text: &str, base: &Path, name: &Path) -> Result<Self, Problems> {
        let mut loader = Loader { files: vec![name.to_path_buf()], ..Loader::default() };
        let config = loader.main(text, base, name);
        let whole = loader.unread == 0;
        let mut problems = loader.problems;
        let agents = loader.registry.agents.iter().map(|a| a.id.clone());
        let workflows = loader.registry.workflows.iter().map(|w| w.id.clone());
        problems.extend(cross::twice("agent", agents));
        problems.extend(cross::twice("workflow", workflows));
        problems.extend(cross::twice("identity", loader.registry.agents.iter().flat_map(|a| a.identities.iter().map(|i| i.name.clone()))));
        problems.extend(cross::twice("issuer", loader.issuers.iter().cloned()));
        problems.extend(cross::twice("credential", loader.credentials.iter().map(|c| c.name.clone())));
        if whole {
            // a name may be defined in the file that could not be read
            problems.extend(cross::check(&loader.registry, &loader.credentials, loader.ambient.as_ref()));
            problems.extend(cross::addresses(&loader.registry));
            problems.extend(cross::inbound(&loader.registry, loader.inbound.as_ref(), loader.ambient.as_ref()));
            let issuers = config.as_ref().map_or(&[][..], |c| &c.issuers);
            problems.extend(cross::identities(&loader.registry, &loader.issuers, issuers));
            problems.extend(config.as_ref().and_then(cross::own_svid));
        }
        match config {
            Some(config) if problems.is_empty() => Ok(config.with(loader.registry, loader.credentials, loader.ambient, loader.files)),
            _ => Err(Problems(bounded(problems))),
        }
    }

    /// The config of `run --observe` and `demo`: no file, nothing refused. The caller adds an audit sink.
    #[must_use]
    pub fn observe() -> Self {
        Self {
            file: None,
            listen: Listen { forward: Some(([127, 0, 0, 1], 0).into()), ..Listen::default() },
            tls: Tls { ca: Ca::Ephemeral, publish: None, upstream_roots: vec![Roots::System], tunnel: Vec::new() },
            registry: RegistrySpec::default(),
            catalog: vec![CatalogSource::Builtin],
            policies: Policies { builtin: true, paths: Vec::new(), exfiltration: None },
            credentials: Vec::new(),
            ambient: None,
            issuers: Vec::new(),
            spiffe: None,
            tasks: TaskSpec::default(),
            mode: Mode::Observe,
            upstream: Upstream { allow_addresses: Vec::new(), resolve: Vec::new(), proxy: UpstreamProxy::None },
            state: None,
            peers: Vec::new(),
            delegation: Delegation::default(),
            audit: Audit { sinks: Vec::new(), ..sections::audit(None, PathBuf::new()) },
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            files: Vec::new(),
        }
    }

    fn with(mut self, registry: RawRegistry, credentials: Vec<RawCredential>, ambient: Option<RawAmbient>, files: Vec<PathBuf>) -> Self {
        self.peers = registry.agents.iter().flat_map(RawAgent::peers).collect();
        self.registry.agents = registry.agents.into_iter().filter_map(|a| a.spec).collect();
        self.registry.workflows = registry.workflows.into_iter().filter_map(|w| w.spec).collect();
        self.credentials = credentials.into_iter().filter_map(|c| c.spec).collect();
        self.ambient = ambient.map(|a| a.spec);
        self.files = files;
        self.files.extend(self.credentials.iter().flat_map(|c| c.kind.files()));
        let mut seen = std::collections::HashSet::new();
        self.files.retain(|f| seen.insert(f.clone()));
        self
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Loader {
    registry: RawRegistry,
    credentials: Vec<RawCredential>,
    ambient: Option<RawAmbient>,
    inbound: Option<RawInbound>,
    /// The names of the issuers.
    issuers: Vec<Ref>,
    files: Vec<PathBuf>,
    problems: Vec<Problem>,
    /// Files, or lists of them, that could not be read.
    unread: usize,
}

const MAIN: [&str; 20] = [
    "version",
    "listen",
    "tls",
    "registry",
    "agents",
    "workflows",
    "catalog",
    "policies",
    "credentials",
    "tasks",
    "delegation",
    "issuers",
    "spiffe",
    "labels",
    "mode",
    "upstream",
    "state",
    "audit",
    "limits",
    "timeouts",
];

impl Loader {
    /// Reads `remit.yaml` and what it names.
    fn main(&mut self, text: &str, base: &Path, name: &Path) -> Option<Config> {
        let source = Source::new(text, name, base);
        let node = self.tree(text, &source.file)?;
        let root = Value::root(&source, &node);
        let mut others: Vec<(PathBuf, Contents)> = Vec::new();
        let config = root.fields(&MAIN).map(|fields| {
            version(&fields);
            self.registry.add(&fields);
            others.extend(self.named(fields.optional("registry"), Contents::Registry));
            if let Some(value) = fields.optional("credentials") {
                match value.node.kind {
                    Kind::Map(_) => self.credentials.extend(credentials(value)),
                    _ => others.extend(self.named(Some(value), Contents::Credentials)),
                }
            }
            let (ambient, tasks) = tasks::tasks(fields.optional("tasks"), fields.optional("labels"));
            self.ambient = ambient;
            Config { tasks, ..self.sections(&fields, base, name) }
        });
        self.problems.extend(source.into_problems());
        for (path, contents) in others {
            self.other(&path, contents);
        }
        config
    }

    /// The sections that need no other file to be read; the registry and credentials are filled in at the end.
    fn sections(&mut self, fields: &Fields<'_>, base: &Path, name: &Path) -> Config {
        let files = &mut self.files;
        let audit = sections::audit(fields.optional("audit"), base.join("audit"));
        let (issuers, names) = issuers::issuers(fields.optional("issuers"), files);
        self.issuers = names;
        Config {
            file: Some(name.to_path_buf()),
            listen: sections::listen(fields.optional("listen"), &mut self.inbound, files),
            delegation: inbound::delegation(fields.optional("delegation"), files),
            issuers,
            spiffe: spiffe::spiffe(fields.optional("spiffe"), files),
            tls: sections::tls(fields.optional("tls"), files),
            catalog: sections::catalog(fields.optional("catalog"), files),
            policies: sections::policies(fields.optional("policies"), files),
            mode: fields.optional("mode").and_then(|v| v.one_of(&MODE)).unwrap_or_default(),
            upstream: sections::upstream(fields.optional("upstream"), files),
            state: sections::state(fields.optional("state"), &audit.sinks),
            audit,
            limits: sections::limits(fields.optional("limits")),
            timeouts: sections::timeouts(fields.optional("timeouts")),
            ..Config::observe()
        }
    }

    /// The files that a key names: one, or a list.
    fn named(&mut self, value: Option<&Value<'_>>, contents: Contents) -> Vec<(PathBuf, Contents)> {
        let Some(value) = value else { return Vec::new() };
        let list = if matches!(value.node.kind, Kind::Text(_)) { vec![value.clone()] } else { value.list().unwrap_or_default() };
        let mut paths = Vec::new();
        for item in &list {
            let found = files::named(item, &mut self.files);
            self.unread += usize::from(found.is_empty());
            paths.extend(found.into_iter().map(|path| (path, contents)));
        }
        paths
    }

    /// Reads a file of agents and workflows, or of credentials.
    fn other(&mut self, path: &Path, contents: Contents) {
        self.files.push(path.to_path_buf());
        let text = match files::read(path) {
            Ok(text) => text,
            Err(why) => {
                self.unread += 1;
                return self.problems.push(Problem::new(format!("cannot be read: {why}")).at(path, None));
            }
        };
        let source = Source::new(&text, path, path.parent().unwrap_or_else(|| Path::new("")));
        let Some(node) = self.tree(&text, &source.file) else { return };
        let root = Value::root(&source, &node);
        match contents {
            Contents::Registry => {
                if let Some(fields) = root.fields(&["agents", "workflows"]) {
                    self.registry.add(&fields);
                }
            }
            Contents::Credentials => {
                let fields = root.fields(&["credentials"]);
                let value = fields.as_ref().and_then(|f| f.required("credentials", "put the credentials under it, each by its name"));
                self.credentials.extend(value.map(credentials).unwrap_or_default());
            }
        }
        self.problems.extend(source.into_problems());
    }

    fn tree(&mut self, text: &str, file: &Arc<Path>) -> Option<Node> {
        match Node::parse(text) {
            Ok(node) => Some(node),
            Err(problems) => {
                self.unread += 1;
                self.problems.extend(problems.into_iter().map(|p| Problem { file: Some(file.to_path_buf()), ..p }));
                None
            }
        }
    }
}

/// What a file other than the main one holds.
#[derive(Debug, Clone, Copy)]
enum Contents {
    Registry,
    Credentials,
}

fn version(fields: &Fields<'_>) {
    let Some(value) = fields.required("version", "begin the file with `version: 1`") else { return };
    match &value.node.kind {
        Kind::Number(n) if n.as_u64() == Some(1) => {}
        Kind::Number(n) => value.wrong(format!("version {n} is not one this version of Remit reads"), "write `version: 1`"),
        _ => value.mismatch("the number 1"),
    }
}
