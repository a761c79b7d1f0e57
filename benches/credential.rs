//! What choosing a credential, judging a request and scrubbing an answer cost: `cargo bench --bench credential`.
//!
//! Scrubbing may cost 15 % of the throughput of 1 MiB bodies. Times are CPU time of this thread.

#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::{fs, hint::black_box, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use remit::{
    call::{Body, Destination, Effect, ErrorForm, Head, Host, Operation, Path, Provider, Scheme},
    config::{CredentialKind, CredentialSpec, InjectSpec, Place, SecretSource},
    credential::{Broker, Scanner, Scrubber},
    fetch::Fetch,
    tls::UpstreamTls,
};

const ROUNDS: usize = 9;
const SECRET: &str = "ghp_R4nd0mLook1ngT0kenOf36Charactersab12";
const BASIC: &str = "Ym90QGFjbWUuZXhhbXBsZTpnaHBfUjRuZDBtTG9vazFuZ1QwaGVuT2YzNkNoYXJhY3RlcnNhYjEy";
const MIB: usize = 1 << 20;

fn main() {
    scrubbing();
    let broker = broker();
    let (to, operation) = (to(), operation());
    report("choose", 1_000_000, 0, || {
        black_box(broker.choose(None, None, Some("github"), &to, &operation).unwrap());
    });
    let choice = broker.choose(None, None, Some("github"), &to, &operation).unwrap();
    let head = head();
    let small = Bytes::from_static(b"{\"title\":\"An issue with a title\",\"body\":\"and some text in it that goes on for a while\"}");
    for (name, body, calls) in [
        ("foreign, 9 fields", Body::Empty, 300_000),
        ("foreign, 9 fields and a small body", Body::whole(small, None), 300_000),
        ("foreign, 1 MiB of JSON", Body::whole(json(), None), 200),
    ] {
        let bytes = body.bytes().map_or(0, Bytes::len);
        report(name, calls, bytes, || broker.foreign(&head, &body, choice.as_ref()).unwrap());
    }
}

fn scrubbing() {
    let event = Bytes::from_static(b"data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"delta\":{\"content\":\" hello\"}}]}\n\n");
    for (name, values) in [("bearer", &[SECRET.as_bytes()][..]), ("basic", &[SECRET.as_bytes(), BASIC.as_bytes()])] {
        let scrubber = Arc::new(Scrubber::new(values.iter().copied()).unwrap());
        for (kind, body) in [("JSON", json()), ("random", random())] {
            report(&format!("scrub {name}, 1 MiB of {kind} in 16 KiB pieces"), 500, MIB, || {
                let mut scanner = Scanner::new(scrubber.clone());
                for at in (0..body.len()).step_by(16 << 10) {
                    black_box(scanner.push(body.slice(at..(at + (16 << 10)).min(body.len()))));
                }
                black_box(scanner.finish());
            });
        }
        let mut scanner = Scanner::new(scrubber.clone());
        report(&format!("scrub {name}, one event"), 300_000, 0, || {
            black_box(scanner.push(event.clone()));
        });
    }
}

fn report(name: &str, calls: u32, bytes: usize, mut call: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let began = cpu();
        (0..calls).for_each(|_| call());
        best = best.min((cpu() - began) as f64 / f64::from(calls));
    }
    let rate = if bytes >= MIB { format!(", {:.1} GB/s", bytes as f64 / best) } else { String::new() };
    println!("{name:<48} {best:>9.0} ns{rate}");
}

/// Nanoseconds that this thread was on a CPU.
fn cpu() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn json() -> Bytes {
    let item =
        |i: usize| format!("{{\"id\":{i},\"node_id\":\"MDEwOlJlcG9zaXRvcnk{i}\",\"full_name\":\"acme/web-{i}\",\"private\":false}},\n");
    Bytes::from((0..).map(item).scan(0, |n, t| (*n < MIB).then(|| (*n += t.len(), t).1)).collect::<String>())
}

fn random() -> Bytes {
    let mut x = 88_172_645_463_325_252u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..MIB).map(|_| next()).collect()
}

fn to() -> Destination {
    Destination { scheme: Scheme::Https, host: Host::parse("api.github.com").unwrap(), port: 443 }
}

fn broker() -> Broker {
    let kind = CredentialKind::Static { secret: SecretSource::Env("TOKEN".into()), inject: InjectSpec::Bearer };
    let spec = CredentialSpec { name: "github".into(), hosts: vec![to().host], kind, scope: Vec::new(), place: Place::default() };
    let fetch = Fetch::new(UpstreamTls::new(rustls::RootCertStore::empty()).unwrap(), &[]);
    Broker::with_environment(&[spec], &fetch, &|_| Some(SECRET.into())).unwrap()
}

fn operation() -> Operation {
    let provider = Arc::new(Provider { id: "github".into(), credential: Some("github".into()), errors: ErrorForm::Github, basic: None });
    Operation {
        id: "github.issues.create".into(),
        group: "issues".into(),
        name: "create".into(),
        provider,
        effect: Effect::Write,
        labels: Box::new([]),
        upgrades: Box::new([]),
        takes_credential: true,
        follows: Box::new([]),
    }
}

fn head() -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "api.github.com"),
        ("user-agent", "PyGithub/Python"),
        ("accept", "application/vnd.github+json"),
        ("authorization", "Bearer a-placeholder-that-is-dropped-on-the-way"),
        ("content-type", "application/json"),
        ("x-github-api-version", "2022-11-28"),
        ("accept-encoding", "gzip, deflate"),
        ("connection", "keep-alive"),
        ("content-length", "90"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let path = Path::parse("/repos/acme/web/issues?per_page=100&page=2".parse().unwrap()).unwrap();
    Head { method: Method::POST, to: to(), path, headers, version: Version::HTTP_11, upgrade: None }
}
