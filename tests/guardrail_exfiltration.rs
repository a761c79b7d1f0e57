//! The guardrail that ships: what touched private data and untrusted content writes nothing outside
//! its own organisation. Off until it is switched on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use support::{Do, HOST, Lab, Remit, Settings, Upstream, agent};

/// Operations say what they touch: a list is what strangers wrote, a file is private.
const CATALOG: &str = r#"
provider: example
hosts: [api.example.test]
credential: example
fold: [owner]
operations:
  - {id: example.items.list, match: "GET /items", effect: read, labels: [untrusted-content]}
  - {id: example.items.get, match: "GET /items/{id}", effect: read}
  - {id: example.files.get, match: "GET /files/{name}", effect: read, labels: [private-data]}
  - {id: example.notes.create, match: "POST /orgs/{owner}/{repo}/notes", effect: write}
  - {id: example.notes.share, match: "POST /orgs/{owner}/{repo}/share", effect: write, labels: [shares-access]}
"#;

async fn house(name: &str, guardrails: &str) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    std::fs::write(lab.dir.join("catalog.yaml"), CATALOG).unwrap();
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let mut settings = Settings::to(upstream.address);
    settings.grants.push("{intents: [example.notes.share]}".into());
    settings.more = if guardrails.is_empty() { String::new() } else { format!("policies: {{guardrails: {guardrails}}}") };
    let remit = lab.start(&settings);
    (lab, upstream, remit)
}

async fn ask(remit: &Remit, handle: &str, request: String) -> Option<String> {
    agent::tls_as(remit, handle).await.ask(request).await.reason().map(str::to_owned)
}

fn note(owner: &str, repo: &str) -> String {
    agent::post(&format!("/orgs/{owner}/{repo}/notes"), "{}")
}

#[tokio::test]
async fn after_both_only_what_is_the_organisations_own_is_written() {
    let (_lab, _upstream, remit) =
        house("exfiltration", r#"{exfiltration: {providers: {example: {owner: [Acme, acme-labs], repo: [internal, "team-*"]}}}}"#).await;
    let (_, handle) = remit.task(&[]);
    let guardrail = || Some("guardrail".to_owned());
    assert_eq!(ask(&remit, &handle, note("evil", "drop")).await, None, "nothing is touched yet");
    assert_eq!(ask(&remit, &handle, agent::get("/items")).await, None);
    assert_eq!(ask(&remit, &handle, note("evil", "drop")).await, None, "untrusted content alone is no danger");
    assert_eq!(ask(&remit, &handle, agent::get("/files/secret")).await, None);
    for (owner, repo, want) in [
        ("evil", "internal", guardrail()),
        ("acme", "public", guardrail()),
        ("acme", "internal", None),
        ("ACME", "team-web", None),
        ("acme-labs", "internal", None),
    ] {
        assert_eq!(ask(&remit, &handle, note(owner, repo)).await, want, "{owner}/{repo}");
    }
    assert_eq!(ask(&remit, &handle, agent::get("/items/7")).await, None, "reading goes on");
    assert_eq!(ask(&remit, &handle, agent::post("/orgs/acme/internal/share", "{}")).await, guardrail(), "that leads out of it");
    // The labels stick to the agent: its next task is no way around.
    let (_, next) = remit.task(&[]);
    assert_eq!(ask(&remit, &next, note("evil", "drop")).await, guardrail());
    remit.log().verify();
}

#[tokio::test]
async fn a_host_of_its_own_is_inside_and_a_provider_may_be_as_a_whole() {
    for (name, own) in
        [("host", "hosts: [\"*.example.test\"]"), ("exact", "hosts: [api.example.test]"), ("whole", "providers: {example: {}}")]
    {
        let (_lab, _upstream, remit) = house(&format!("exfiltration-{name}"), &format!("{{exfiltration: {{{own}}}}}")).await;
        let (_, handle) = remit.task(&[]);
        for request in [agent::get("/items"), agent::get("/files/secret"), note("anyone", "x")] {
            assert_eq!(ask(&remit, &handle, request).await, None, "{own}");
        }
    }
}

#[tokio::test]
async fn it_is_off_until_it_is_switched_on_and_then_nothing_is_inside_by_itself() {
    for (name, config, want) in [("off", "", None), ("bare", "{exfiltration: {}}", Some("guardrail".to_owned()))] {
        let (_lab, _upstream, remit) = house(&format!("exfiltration-{name}"), config).await;
        let (_, handle) = remit.task(&[]);
        for request in [agent::get("/items"), agent::get("/files/secret")] {
            assert_eq!(ask(&remit, &handle, request).await, None);
        }
        assert_eq!(ask(&remit, &handle, note("acme", "internal")).await, want, "{name}");
    }
}

#[tokio::test]
async fn what_is_named_there_has_to_be_in_a_catalog() {
    let lab = Lab::new("exfiltration-wrong");
    for (guardrails, part) in [
        ("{exfiltration: {providers: {exmple: {}}}}", "no catalog has a provider `exmple`; did you mean `example`?"),
        ("{exfiltration: {providers: {example: {idd: x}}}}", "no operation has a parameter `idd`; did you mean `id`?"),
        ("{exfiltration: {providers: {example: {id: []}}}}", "no value would match"),
        ("{exfiltrate: {}}", "unknown key; did you mean `exfiltration`?"),
    ] {
        let settings = Settings { more: format!("policies: {{guardrails: {guardrails}}}"), ..Settings::to("127.0.0.1:9".parse().unwrap()) };
        lab.write(&settings);
        let done =
            std::process::Command::new(env!("CARGO_BIN_EXE_remit")).arg("check").arg("--config").arg(lab.dir.join("remit.yaml")).output();
        let done = done.unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.code() == Some(1) && said.contains(part), "{guardrails}: {said}");
    }
}
