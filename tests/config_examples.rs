//! Every config that ships loads, and so does every form the documentation shows.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use remit::{
    call::{Effect, Mode, Window},
    config::{
        Ca, CatalogSource, Config, CredentialKind, Durability, HostPattern, IdentitySpec, InjectSpec, OnDrift, Roots, SecretSource, Sink,
        Status,
    },
};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

#[test]
fn the_full_example_loads_with_its_registry_and_credentials() {
    let config = Config::load(&examples().join("remit.yaml")).unwrap();
    assert_eq!(config.registry.agents.len(), 2);
    assert_eq!(config.registry.workflows.len(), 3);
    assert_eq!(config.credentials.len(), 5);
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.audit.sinks, [Sink::Dir(examples().join("audit"))]);
    assert_eq!(config.audit.durability, [(Effect::Read, Durability::Buffered)]);
    for file in ["remit.yaml", "credentials.yaml", "registry/agents.yaml", "registry/workflows.yaml", "registry"] {
        assert!(config.files.contains(&examples().join(file)), "{file}");
    }
}

#[test]
fn every_yaml_file_in_the_examples_folder_is_loaded_by_one_of_these_tests() {
    let mut names: Vec<String> = fs::read_dir(examples())
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().is_file())
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["credentials.yaml", "remit.yaml", "small.yaml"]);
}

#[test]
fn the_small_example_stays_small_and_has_what_is_needed() {
    let path = examples().join("small.yaml");
    assert!(fs::read_to_string(&path).unwrap().lines().count() <= 20);
    let config = Config::load(&path).unwrap();
    assert_eq!(config.listen.forward, Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.catalog, [CatalogSource::Builtin]);
    assert!(config.policies.builtin);
    assert_eq!(config.tls.ca, Ca::Ephemeral);
    assert_eq!(config.tls.upstream_roots, [Roots::System]);
    let [credential] = config.credentials.as_slice() else { panic!() };
    let CredentialKind::Static { secret, inject } = &credential.kind else { panic!() };
    assert_eq!((secret, inject), (&SecretSource::Env("GITHUB_TOKEN".into()), &InjectSpec::Bearer));
    let [agent] = config.registry.agents.as_slice() else { panic!() };
    assert_eq!((agent.status, agent.on_drift, agent.place.line), (Status::Active, OnDrift::Record, 5));
    let grant = &config.registry.workflows[0].grants[0];
    assert_eq!(grant.place.line, 13);
    assert_eq!(grant.constraints.len(), 2);
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("remit-config-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every key that this version has, in other forms than the example's.
const FULL: &str = r#"
version: 1
listen: {forward: "[::1]:8080", admin: 127.0.0.1:9901, control: "unix:run/remit.sock"}
tls:
  ca: {cert: ca.pem, key: ca.key}
  publish: out/ca.pem
  upstream_roots: [system, mozilla, ca.pem]
  tunnel: [pinned.example.com, "*.bank.example"]
registry: registry.yaml
catalog: [builtin, catalog/*.yaml]
policies: {builtin: true, paths: [policies/]}
credentials: [credentials.yaml]
tasks: {ambient: {agent: triage-bot, workflow: triage-issues, uid: [1000]}}
mode: observe
upstream:
  allow_addresses: [127.0.0.0/8, "fd00::/8", 10.1.2.3]
  resolve: {"api.github.com": "127.0.0.1:9443", "api.github.com:8443": "127.0.0.1:9444"}
  proxy: {url: "http://proxy.example:3128", user: bot, password: {file: proxy.password}}
state: memory
audit:
  sinks: [{dir: audit}, stdout]
  signing_key: {file: audit.key}
  durability: {read: buffered, write: synced}
  rotate: {size: 1GiB, keep: 24h}
limits: {connections: 10, header_bytes: 16KiB, headers: 50, body: {default: 512B, llm: 1MiB, total: 2MiB}, decision: 5ms, cache: 1MiB}
timeouts: {header: 1s, connect: 2s, first_byte: 3m, idle: 1h, drain: 10ms}
"#;

const REGISTRY: &str = r#"
agents:
  - id: triage-bot
    identities: [{spiffe: "spiffe://acme.example/agent/triage-bot"}, {service_account: support/triage-bot}]
    owner: support-platform@acme.example
    status: active
    expires: 2027-03-31T00:00:00Z
    attested:
      models: [claude-sonnet-5]
      system_prompts: ["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]
      tools: {create_issue: "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
      data_sources: [github:acme/web]
    on_drift: record
    workflows: [triage-issues]
    delegates_to: [summariser]
    mode: observe
    until: 2027-01-01T00:00:00+01:00
  - {id: summariser, owner: x@acme.example, status: suspended}
workflows:
  - id: triage-issues
    purpose: Label and answer new issues
    max_lifetime: 30m
    credential: github
    grants:
      - effects: [read]
        intents: [github.*]
        where: {owner: acme, repo: [web, docs], draft: false, number: 7}
      - intents: [github.issues.add-labels]
        limit: {calls: 20, per: task}
      - intents: [github.issues.create]
        limit: {calls: 5, per: 1h}
      - intents: [github.issues.create-comment]
        approval: {by: [group:support-leads], within: 10m}
"#;

#[test]
fn every_form_of_the_reference_loads() {
    let credentials = "credentials:\n  github: {kind: static, hosts: [API.github.com], secret: {file: token}, inject: bearer}\n";
    let files = [
        ("remit.yaml", FULL),
        ("registry.yaml", REGISTRY),
        ("credentials.yaml", credentials),
        ("ca.pem", ""),
        ("ca.key", ""),
        ("proxy.password", "hunter2\n"),
        ("catalog/a.yaml", ""),
        ("policies/deeper/extra.rego", ""),
    ];
    let folder = Folder::new("full", &files);
    let at = |name: &str| folder.0.join(name);
    let config = Config::load(&at("remit.yaml")).unwrap();
    assert_eq!(config.listen.control, Some(at("run/remit.sock")));
    assert_eq!(config.tls.ca, Ca::Files { cert: at("ca.pem"), key: at("ca.key") });
    assert_eq!(config.tls.upstream_roots.len(), 3);
    assert_eq!(config.tls.tunnel[1], HostPattern::Suffix(".bank.example".into()));
    assert_eq!(config.catalog, [CatalogSource::Builtin, CatalogSource::File(at("catalog/a.yaml"))]);
    assert_eq!(config.upstream.allow_addresses[2].prefix, 32);
    assert_eq!(config.upstream.resolve[1].1, Some(8443));
    let proxy = format!("{:?}", config.upstream.proxy);
    assert!(proxy.contains("proxy.example") && proxy.contains("[secret]") && !proxy.contains("hunter2"), "{proxy}");
    let remit::config::UpstreamProxy::Url { authorization: Some(secret), .. } = &config.upstream.proxy else { panic!() };
    assert_eq!(secret.expose(), "Basic Ym90Omh1bnRlcjI=");
    assert_eq!(config.timeouts.drain, Duration::from_millis(10));
    assert_eq!((config.limits.body_default, config.limits.headers), (512, 50));
    assert_eq!((config.audit.rotate_size, config.audit.keep), (1 << 30, Duration::from_secs(86400)));
    let agent = &config.registry.agents[0];
    assert_eq!(agent.spiffe_id.as_deref(), Some("spiffe://acme.example/agent/triage-bot"));
    let account = IdentitySpec::ServiceAccount { name: "support/triage-bot".into(), issuer: None };
    assert!(agent.identities.iter().any(|i| i.what == account));
    assert_eq!(agent.mode.unwrap().mode, Mode::Observe);
    let grants = &config.registry.workflows[0].grants;
    assert_eq!(grants[0].constraints[2].1, [serde_json::json!(false)]);
    assert_eq!(grants[1].limit.as_ref().unwrap().per, Window::Task);
    assert_eq!(grants[2].limit.as_ref().unwrap().per, Window::Seconds(3600));
    assert_eq!(grants[3].approval.as_ref().unwrap()["within"], 600);
    assert_eq!(config.credentials[0].hosts[0].as_str(), "api.github.com");
    for file in ["policies/", "policies/deeper", "policies/deeper/extra.rego", "token", "ca.key", "proxy.password", "catalog"] {
        assert!(config.files.contains(&at(file)), "{file}: {:?}", config.files);
    }
}

#[test]
fn the_performance_harness_config_loads() {
    let main = r#"version: 1
listen: {forward: 127.0.0.1:23110, admin: 127.0.0.1:23111, control: "unix:/run/remit.sock"}
tls: {ca: {cert: ca.pem, key: ca.key}, upstream_roots: [ca.pem]}
registry: [registry.yaml]
catalog: [builtin, catalog.yaml]
policies: {builtin: true}
credentials: credentials.yaml
tasks: {ambient: {agent: bench, workflow: bench}}
upstream: {allow_addresses: [127.0.0.0/8], resolve: {"api.example.test": "127.0.0.1:23443"}}
audit: {sinks: [{dir: audit}], durability: {read: buffered}}
"#;
    let registry = "agents:
  - {id: bench, owner: bench@example.test, status: active, expires: 2030-01-01T00:00:00Z, workflows: [bench]}
workflows:
  - {id: bench, purpose: bench, max_lifetime: 24h, grants: [{intents: [example.issues.list], where: {owner: acme, repo: web}}]}
";
    let credentials = "credentials:\n  example: {kind: static, hosts: [api.example.test], secret: {env: BENCH_SECRET}, inject: bearer}\n";
    let files = [
        ("remit.yaml", main),
        ("registry.yaml", registry),
        ("credentials.yaml", credentials),
        ("catalog.yaml", ""),
        ("ca.pem", ""),
        ("ca.key", ""),
    ];
    let folder = Folder::new("perf", &files);
    let config = Config::load(&folder.0.join("remit.yaml")).unwrap();
    assert_eq!(&*config.ambient.unwrap().agent, "bench");
    assert_eq!(config.listen.control, Some("/run/remit.sock".into()));
}

#[test]
fn observing_needs_no_file() {
    let config = Config::observe();
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.listen.forward, Some("127.0.0.1:0".parse().unwrap()));
    assert!(config.file.is_none() && config.audit.sinks.is_empty() && config.files.is_empty());
}
