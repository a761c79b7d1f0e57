//! The Rego that the documentation shows is loaded beside the policy that ships, and its tests pass.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use remit::{
    config::{CatalogSource, RegistrySpec},
    decide::{Decider, Sources, TestOutcome, registry_data, run_tests},
    intent::Catalog,
};

/// The fenced blocks of one language in a document, in order.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("remit-docs-{name}-{}", std::process::id()));
    for (file, text) in files {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn load(dir: &Path) {
    let catalog = Catalog::load(&[CatalogSource::Builtin]).unwrap();
    let sources = Sources {
        guardrails: Vec::new(),
        builtin: true,
        paths: vec![dir.to_path_buf()],
        registry: registry_data(&RegistrySpec::default()),
        parameters: catalog.parameter_names().into_iter().collect(),
        timeout: Duration::from_millis(10),
        cache_bytes: 1 << 20,
    };
    let (_, warnings) = Decider::load(sources).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_guardrails_of_write_a_policy_load_and_pass_their_tests() {
    let (rego, data) = (blocks("docs/write-a-policy.md", "rego"), blocks("docs/write-a-policy.md", "json"));
    let [policy, tests] = &rego[..] else { panic!("{} blocks of Rego", rego.len()) };
    let dir = folder("write", &[("acme.rego", policy), ("acme_test.rego", tests), ("acme/frozen/data.json", &data[0])]);
    load(&dir);
    let results = run_tests(std::slice::from_ref(&dir)).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!results.is_empty());
    for result in results {
        assert_eq!(result.outcome, TestOutcome::Pass, "{result:?}");
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_guardrails_of_the_policy_contract_load() {
    for (n, policy) in blocks("docs/policy-contract.md", "rego").iter().enumerate() {
        let dir = folder(&format!("contract-{n}"), &[("guard.rego", policy)]);
        load(&dir);
        fs::remove_dir_all(dir).unwrap();
    }
}
