//! The reference of the configuration names every key, and its defaults are the program's.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::path::Path;

use remit::config::Config;

const DOCS: &str = include_str!("../docs/configuration.md");

fn problems(text: &str) -> String {
    Config::parse(text, Path::new(""), Path::new("f")).map_or_else(|p| p.to_string(), |_| String::new())
}

/// The keys that a mapping takes, from the message about one that it does not.
fn known(text: &str) -> Vec<String> {
    let found = problems(text);
    let (_, list) = found.split_once("known here: ").unwrap_or_else(|| panic!("{found}"));
    list.lines().next().unwrap().split(", ").map(|k| k.trim_matches('`').to_string()).collect()
}

#[test]
fn every_key_stands_in_the_reference() {
    let later = ["transparent"];
    let sections = [
        ("", "version: 1\nzzzzzzzzzzzz: 1"),
        ("listen", "version: 1\nlisten: {zzzzzzzzzzzz: 1}"),
        ("tls", "version: 1\ntls: {zzzzzzzzzzzz: 1}"),
        ("policies", "version: 1\npolicies: {zzzzzzzzzzzz: 1}"),
        ("upstream", "version: 1\nupstream: {zzzzzzzzzzzz: 1}"),
        ("audit", "version: 1\naudit: {zzzzzzzzzzzz: 1}"),
        ("limits", "version: 1\nlimits: {zzzzzzzzzzzz: 1}"),
    ];
    for (section, text) in sections {
        for key in known(text) {
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            let documented = DOCS.contains(&format!("`{path}`")) || (section.is_empty() && DOCS.contains(&format!("`{path}.")));
            assert!(documented || later.contains(&key.as_str()), "{path}");
        }
    }
    for text in [
        "version: 1\nagents: [{id: a, owner: o, zzzzzzzzzzzz: 1}]",
        "version: 1\nworkflows: [{id: a, zzzzzzzzzzzz: 1}]",
        "version: 1\nworkflows: [{id: a, grants: [{effects: [read], zzzzzzzzzzzz: 1}]}]",
        "version: 1\ncredentials: {a: {kind: static, hosts: [a.example], secret: {env: A}, zzzzzzzzzzzz: 1}}",
    ] {
        for key in known(text) {
            assert!(DOCS.contains(&format!("`{key}`")), "{key}");
        }
    }
}

#[test]
fn writing_the_documented_defaults_changes_nothing() {
    let written = "version: 1
listen: {forward: 127.0.0.1:8080}
tls: {ca: ephemeral, upstream_roots: [system], tunnel: []}
catalog: [builtin]
policies: {builtin: true, paths: []}
mode: enforce
upstream: {allow_addresses: [], resolve: {}}
state: memory
audit: {sinks: [{dir: audit}], rotate: {size: 256MiB, keep: 30d}}
limits: {connections: 4096, header_bytes: 64KiB, headers: 128, body: {default: 1MiB, llm: 32MiB, total: 256MiB}, decision: 10ms, cache: 16MiB}
timeouts: {header: 10s, connect: 5s, credential: 10s, first_byte: 120s, idle: 300s, drain: 30s}
";
    let parse = |text| format!("{:?}", Config::parse(text, Path::new(""), Path::new("f")).unwrap());
    assert_eq!(parse(written), parse("version: 1\n"));
    for line in written.lines().filter(|l| l.starts_with("timeouts") || l.starts_with("limits: {")) {
        let body = line.split_once(": ").unwrap().1;
        let documented = DOCS.contains(body) || body.contains("{default: 1MiB, llm: 32MiB, total: 256MiB}");
        assert!(documented, "{line}");
    }
}
