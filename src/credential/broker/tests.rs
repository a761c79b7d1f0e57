use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, Method, Version};

use super::*;
use crate::{
    call::{Inject, Lease, Path},
    config::{InjectSpec, Place, SecretSource},
    credential::{
        Leases, Request,
        fixture::{self, task},
    },
    refusal::Reason,
    tls::UpstreamTls,
};

const SECRET: &str = "a-secret-of-more-than-sixteen-bytes";

fn spec(name: &str, hosts: &[&str], kind: CredentialKind) -> CredentialSpec {
    let hosts = hosts.iter().map(|h| Host::parse(h).unwrap()).collect();
    CredentialSpec { name: name.into(), hosts, kind, scope: Vec::new(), place: Place { file: "credentials.yaml".into(), line: 7 } }
}

fn fixed(secret: SecretSource, inject: InjectSpec) -> CredentialKind {
    CredentialKind::Static { secret, inject }
}

fn variable(inject: InjectSpec) -> CredentialKind {
    fixed(SecretSource::Env("TOKEN".into()), inject)
}

fn env(name: &str) -> Option<OsString> {
    match name {
        "TOKEN" => Some(SECRET.into()),
        "SHORT" => Some("hunter2".into()),
        _ => None,
    }
}

fn fetch() -> Fetch {
    Fetch::new(UpstreamTls::new(rustls::RootCertStore::empty()).unwrap(), &[])
}

fn broker(specs: &[CredentialSpec]) -> Broker {
    Broker::with_environment(specs, &fetch(), &env).unwrap()
}

fn to(url: &str) -> Destination {
    let (scheme, host) = url.split_once("://").unwrap();
    let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
    Destination { scheme, host: Host::parse(host).unwrap(), port: scheme.default_port() }
}

fn operation(takes_credential: bool) -> Operation {
    fixture::operation("github.issues.create", takes_credential)
}

fn head(fields: &[(&'static str, &str)]) -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    let path = Path::parse("/p?q=1".parse().unwrap()).unwrap();
    Head { method: Method::GET, to: to("https://api.github.com"), path, headers, version: Version::HTTP_11, upgrade: None }
}

async fn lease_of(broker: &Broker, name: &str, url: &str) -> Lease {
    let choice = broker.choose(Some(name), None, None, &to(url), &operation(true)).unwrap().unwrap();
    let (task, head) = (task(1, Duration::from_secs(60)), head(&[]));
    Leases::default()
        .lease_for(&choice.0, &Request { task: &task, head: &head, intents: &[], now: Instant::now() }, None, Duration::from_secs(1))
        .await
        .unwrap()
}

#[test]
fn the_grants_is_chosen_else_the_workflows_else_the_providers() {
    let host = ["api.github.com"];
    let broker = broker(&[
        spec("a", &host, variable(InjectSpec::Bearer)),
        spec("b", &host, variable(InjectSpec::Bearer)),
        spec("c", &host, variable(InjectSpec::Bearer)),
    ]);
    let choose = |g, w, p| {
        let choice = broker.choose(g, w, p, &to("https://api.github.com"), &operation(true)).unwrap();
        choice.map(|c| c.name().to_owned())
    };
    assert_eq!(choose(Some("a"), Some("b"), Some("c")).as_deref(), Some("a"));
    assert_eq!(choose(None, Some("b"), Some("c")).as_deref(), Some("b"));
    assert_eq!(choose(None, None, Some("c")).as_deref(), Some("c"));
    assert_eq!(choose(None, None, Some("nobody-configured-it")), None);
    assert_eq!(choose(None, None, None), None);
    let none = broker.choose(Some("a"), None, Some("c"), &to("https://api.github.com"), &operation(false)).unwrap();
    assert!(none.is_none(), "an operation that takes none gets none");
}

#[test]
fn a_credential_goes_only_to_its_exact_hosts_and_not_in_the_clear() {
    let broker = broker(&[spec("github", &["api.github.com", "127.0.0.1", "localhost"], variable(InjectSpec::Bearer))]);
    let named = |url: &str| broker.choose(Some("github"), None, None, &to(url), &operation(true));
    let default = |url: &str| broker.choose(None, None, Some("github"), &to(url), &operation(true)).unwrap().is_some();
    for url in ["https://api.github.com", "http://127.0.0.1", "http://localhost"] {
        assert!(named(url).unwrap().is_some() && default(url), "{url}");
    }
    for (url, wants) in [
        ("https://evil.example", "goes only to api.github.com"),
        ("https://x.api.github.com", "goes only to"),
        ("https://github.com", "goes only to"),
        ("http://api.github.com", "plain http"),
    ] {
        let refusal = named(url).unwrap_err();
        assert_eq!(refusal.reason, Reason::CredentialUnavailable);
        assert!(refusal.detail.contains(wants), "{}", refusal.detail);
        assert!(!default(url), "{url}");
    }
    let refusal = broker.choose(None, Some("gihtub"), Some("github"), &to("https://api.github.com"), &operation(true)).unwrap_err();
    assert!(refusal.detail.contains("not configured; did the workflow mean `github`?"), "{}", refusal.detail);
}

#[tokio::test]
async fn each_way_to_inject_renders_its_value_and_scrubs_it() {
    let host = ["api.github.com"];
    let broker = broker(&[
        spec("bearer", &host, variable(InjectSpec::Bearer)),
        spec("basic", &host, variable(InjectSpec::Basic { user: "bot".into() })),
        spec("header", &host, variable(InjectSpec::Header(HeaderName::from_static("x-key")))),
        spec("query", &host, variable(InjectSpec::Query("key".into()))),
    ]);
    let rendered = "Ym90OmEtc2VjcmV0LW9mLW1vcmUtdGhhbi1zaXh0ZWVuLWJ5dGVz";
    for (name, field, want) in [
        ("bearer", "authorization", format!("Bearer {SECRET}")),
        ("basic", "authorization", format!("Basic {rendered}")),
        ("header", "x-key", SECRET.to_owned()),
    ] {
        let lease = lease_of(&broker, name, "https://api.github.com").await;
        let Inject::Header(got, value) = &lease.inject else { panic!("{name} is a header") };
        assert_eq!((got.as_str(), value.to_str().unwrap()), (field, want.as_str()));
        assert!(value.is_sensitive());
        assert!(lease.scrubber.as_ref().unwrap().finds(want.as_bytes()));
        assert_eq!((lease.kind, lease.fingerprint.len()), ("static", 16));
        assert!(!format!("{broker:?} {lease:?}").contains(SECRET));
    }
    let lease = lease_of(&broker, "query", "https://api.github.com").await;
    let path = lease.inject.apply(&mut HeaderMap::new(), &head(&[]).path).unwrap().unwrap();
    assert_eq!(path.whole().as_str(), format!("/p?q=1&key={SECRET}"));
    assert!(!format!("{lease:?}").contains(SECRET));
}

#[tokio::test]
async fn the_agents_own_login_passes_with_a_fingerprint() {
    let broker = broker(&[spec("claude", &["api.anthropic.com"], CredentialKind::Own)]);
    let choice = broker.choose(None, None, Some("claude"), &to("https://api.anthropic.com"), &operation(true)).unwrap().unwrap();
    assert!(choice.is_own());
    let (task, head) = (task(1, Duration::from_secs(60)), head(&[("authorization", "Bearer mine")]));
    let lease = Leases::default()
        .lease_for(&choice.0, &Request { task: &task, head: &head, intents: &[], now: Instant::now() }, None, Duration::from_secs(1))
        .await
        .unwrap();
    assert!(matches!(lease.inject, Inject::Own) && lease.scrubber.is_none());
    assert_eq!(&*lease.fingerprint, kind::fingerprint(b"Bearer mine"));
}

#[tokio::test]
async fn a_task_that_is_over_gets_no_lease() {
    let broker = broker(&[spec("github", &["api.github.com"], variable(InjectSpec::Bearer))]);
    let choice = broker.choose(None, None, Some("github"), &to("https://api.github.com"), &operation(true)).unwrap().unwrap();
    let (task, head) = (task(1, Duration::from_secs(60)), head(&[]));
    task.ended.cancel();
    let refusal = Leases::default()
        .lease_for(&choice.0, &Request { task: &task, head: &head, intents: &[], now: Instant::now() }, None, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::TaskEnded);
}

#[test]
fn what_is_missing_is_named_with_its_place_and_what_is_short_is_warned_about() {
    let specs = [
        spec("a", &["h.example"], fixed(SecretSource::Env("NOT_SET".into()), InjectSpec::Bearer)),
        spec("b", &["h.example"], fixed(SecretSource::File("/nowhere/token".into()), InjectSpec::Bearer)),
        spec("c", &[], CredentialKind::Own),
        spec("d", &["h.example"], variable(InjectSpec::Basic { user: "a:b".into() })),
    ];
    let text = Broker::with_environment(&specs, &fetch(), &env).unwrap_err().to_string();
    for wants in [
        "credentials.yaml:7: credentials.a.secret.env: the variable `NOT_SET` is not set; export NOT_SET",
        "credentials.b.secret.file: the secret file `/nowhere/token` does not exist",
        "credentials.c.hosts: a credential without hosts",
        "credentials.d.inject.basic.user: the user of a basic credential holds `:`",
    ] {
        assert!(text.contains(wants), "{text}");
    }
    let broker = broker(&[spec("s", &["h.example"], fixed(SecretSource::Env("SHORT".into()), InjectSpec::Bearer))]);
    let warning = broker.warnings()[0].to_string();
    assert!(warning.contains("credentials.s: the secret has 7 bytes") && !warning.contains("hunter2"), "{warning}");
}

#[test]
fn a_variable_that_holds_a_secret_in_any_form_is_known() {
    let broker = broker(&[spec("github", &["api.github.com"], variable(InjectSpec::Bearer))]);
    assert!(broker.holds_secret(format!("https://x:{SECRET}@h/").as_bytes()));
    assert!(broker.holds_secret(b"YS1zZWNyZXQtb2YtbW9yZS10aGFuLXNpeHRlZW4tYnl0ZXM="));
    assert!(!broker.holds_secret(b"/usr/bin:/bin"));
    assert!(broker.keeps_from_child("ANYTHING", SECRET.as_bytes()) && broker.keeps_from_child("GH_TOKEN", b"x"));
    assert!(!broker.keeps_from_child("PATH", b"/usr/bin:/bin"));
}

/// A file of its own for one test.
fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("remit-broker-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_broken_one_keeps_the_old_value() {
    let path = scratch("token");
    fs::write(&path, "first-secret-of-enough-length\n").unwrap();
    let broker = broker(&[spec("f", &["h.example"], fixed(SecretSource::File(path.clone()), InjectSpec::Bearer))]);
    let value = async || {
        let Inject::Header(_, value) = lease_of(&broker, "f", "https://h.example").await.inject else { panic!("a header") };
        value.to_str().unwrap().to_owned()
    };
    assert_eq!(value().await, "Bearer first-secret-of-enough-length");
    assert!(broker.refresh().is_empty());

    fs::write(&path, "second-secret-of-enough-length\n").unwrap();
    assert!(broker.refresh().is_empty());
    assert_eq!(value().await, "Bearer second-secret-of-enough-length");
    assert!(broker.holds_secret(b"second-secret-of-enough-length"));

    for broken in ["", "two\nlines"] {
        fs::write(&path, broken).unwrap();
        assert_eq!(broker.refresh().len(), 1, "reported");
        assert_eq!(broker.refresh().len(), 1, "and until it is mended");
        assert_eq!(value().await, "Bearer second-secret-of-enough-length");
    }
    fs::remove_file(&path).unwrap();
    let problem = broker.refresh()[0].to_string();
    assert!(problem.contains("credentials.f: the secret file"), "{problem}");

    // As Kubernetes rotates: another file under the same name.
    fs::write(scratch("next"), "third-secret-of-enough-length").unwrap();
    fs::rename(scratch("next"), &path).unwrap();
    assert!(broker.refresh().is_empty());
    assert_eq!(value().await, "Bearer third-secret-of-enough-length");
}

#[tokio::test]
async fn the_watcher_sees_a_change_within_two_seconds_and_ends_with_the_broker() {
    let path = scratch("watched");
    fs::write(&path, "first-secret-of-enough-length").unwrap();
    let broker = Arc::new(broker(&[spec("f", &["h.example"], fixed(SecretSource::File(path.clone()), InjectSpec::Bearer))]));
    broker.watch(|_| {});
    fs::write(&path, "second-secret-of-enough-length").unwrap();
    tokio::time::sleep(Duration::from_millis(2000)).await;
    assert!(broker.holds_secret(b"second-secret-of-enough-length"));
    let weak = Arc::downgrade(&broker);
    drop(broker);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(weak.upgrade().is_none());
}
