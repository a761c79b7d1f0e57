use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use remit::{app::App, authority::Start, call::Principal, clock::Moment, config::Config};

use super::{
    HOST, Target,
    upstream::{CREDENTIAL, Upstream},
};

/// Remit as `serve` runs it: the shipped catalogs and policy, a credential, an audit on disk.
pub(crate) async fn start(upstream: Upstream) -> Target {
    let dir = std::env::temp_dir().join(format!("remit-bench-relay-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    write("upstream.pem", &upstream.ca);
    write("token", CREDENTIAL.trim_start_matches("Bearer "));
    write(
        "catalog.yaml",
        &format!(
            "provider: example\nhosts: [{HOST}]\ncredential: example\noperations:\n  - {{id: example.issues.list, match: \"GET /repos/{{owner}}/{{repo}}/issues\", effect: read}}\n"
        ),
    );
    let text = format!(
        "version: 1
listen: {{forward: 127.0.0.1:0}}
tls: {{upstream_roots: [upstream.pem]}}
catalog: [builtin, catalog.yaml]
credentials: {{example: {{kind: static, hosts: [{HOST}], secret: {{file: token}}, inject: bearer}}}}
upstream: {{allow_addresses: [127.0.0.0/8], resolve: {{{HOST}: \"{}\"}}}}
audit: {{sinks: [{{dir: audit}}], durability: {{read: buffered}}}}
agents: [{{id: bench, owner: bench@example.test, expires: 2036-01-01T00:00:00Z, workflows: [bench]}}]
workflows: [{{id: bench, purpose: bench, max_lifetime: 24h, grants: [{{intents: [example.issues.list], where: {{owner: acme, repo: web}}}}]}}]
",
        upstream.address
    );
    write("remit.yaml", &text);
    let app = App::build(Config::load(&dir.join("remit.yaml")).unwrap()).unwrap();
    let (address, house) = (app.address().unwrap(), app.house().clone());
    let principal = Principal { id: Arc::from("bench"), verified: false, claims: serde_json::json!({}) };
    let start = Start::new("bench", "bench", principal);
    let (_, handle) = house.tasks().start(&house.rules().registry, start, Moment::now()).unwrap();
    tokio::spawn(app.run(std::future::pending()));
    let authorization = format!("Basic {}", STANDARD.encode(format!("task:{}", handle.expose())));
    Target { address, ca: house.terminator().authority().pem().to_owned(), authorization: Some(authorization) }
}
