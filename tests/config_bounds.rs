//! No text, however odd, makes reading a config panic, hang, or grow without bound.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

use std::{
    path::Path,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use remit::config::Config;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/nonexistent"), Path::new("remit.yaml")).map_err(|p| p.to_string())
}

/// Reads it within bounds that an honest file is far below, also in a slow test build.
fn quickly(text: &str) -> String {
    let began = Instant::now();
    let result = parse(text).err().unwrap_or_default();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?} for {} bytes", began.elapsed(), text.len());
    assert!(result.len() < 64 << 10, "{} bytes of problems", result.len());
    result
}

#[test]
fn deep_nesting_is_refused() {
    for (text, want) in [
        (format!("version: 1\nagents: {}", "[".repeat(1_000_000)), "remit.yaml:2: the file nests too deep"),
        (format!("version: 1\nagents: {}{}", "[".repeat(400), "]".repeat(400)), "remit.yaml:2: the file nests too deep"),
        (format!("version: 1\nagents: {}{}", "{a: ".repeat(100_000), "}".repeat(100_000)), "remit.yaml:2: the file nests too deep"),
        (format!("version: 1\nagents: \n{}", "- ".repeat(50_000)), "remit.yaml:3: the file nests too deep"),
        ((0..2_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect(), "remit.yaml:129: the file nests too deep"),
    ] {
        assert_eq!(quickly(&text), want, "{}", &text[..40]);
    }
}

#[test]
fn aliases_cannot_multiply() {
    let mut bomb = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_string();
    for i in 1..12 {
        let each = format!("*a{}, ", i - 1).repeat(9);
        bomb += &format!("a{i}: &a{i} [{each}]\n");
    }
    assert!(quickly(&bomb).contains("aliases repeat too much"));
    let wide = format!("version: 1\na: &a [{}]\nb: [{}]\n", "x, ".repeat(3_000), "*a, ".repeat(3_000));
    assert!(quickly(&wide).contains("aliases repeat too much"));
    assert!(quickly("version: 1\na: &a [*a]\n").contains("nests too deep"));
    // a few are what they are for
    let text = "version: 1\nagents:\n  - {id: a, owner: &o o@example.org}\n  - {id: b, owner: *o}\n";
    assert_eq!(&*parse(text).unwrap().registry.agents[1].owner, "o@example.org");
}

#[test]
fn floods_of_problems_are_cut() {
    let keys: String = (0..100_000).map(|i| format!("key{i}: 1\n")).collect();
    let found = quickly(&format!("version: 1\n{keys}"));
    assert!(found.ends_with("and 99900 more problems"), "{}", &found[found.len() - 60..]);
    let numbers = "7, ".repeat(100_000);
    assert!(quickly(&format!("version: 1\ntls: {{tunnel: [{numbers}]}}")).ends_with("and 99900 more problems"));
    let agents: String = (0..5_000).map(|i| format!("  - {{id: a{i}, owner: o, workflows: [w{i}]}}\n")).collect();
    let workflows: String =
        (0..5_000).map(|i| format!("  - {{id: v{i}, purpose: p, max_lifetime: 1h, grants: [{{effects: [read]}}]}}\n")).collect();
    assert!(quickly(&format!("version: 1\nagents:\n{agents}workflows:\n{workflows}")).ends_with("more problems"));
    let long = "w".repeat(1 << 20);
    assert!(
        quickly(&format!("version: 1\nagents:\n  - {{id: a, owner: o, workflows: [{long}]}}\nworkflows:\n{workflows}"))
            .contains("no workflow")
    );
}

#[test]
fn long_chains_of_delegation_do_not_overflow() {
    let agents: String = (0..20_000).map(|i| format!("  - {{id: a{i}, owner: o, delegates_to: [a{}]}}\n", (i + 1) % 20_000)).collect();
    assert!(quickly(&format!("version: 1\nagents:\n{agents}")).contains("delegation goes in a circle"));
}

#[test]
fn a_registry_of_ten_thousand_agents_loads_in_a_moment() {
    let agents: String = (0..10_000).map(|i| format!("  - {{id: a{i}, owner: o@example.org, workflows: [w]}}\n")).collect();
    let text =
        format!("version: 1\nworkflows: [{{id: w, purpose: p, max_lifetime: 1h, grants: [{{effects: [read]}}]}}]\nagents:\n{agents}");
    assert_eq!(quickly(&text), "");
}

const SEED: &str = include_str!("../config/remit.yaml");
const SEEDS: [&str; 3] = [include_str!("../config/small.yaml"), include_str!("../config/registry/workflows.yaml"), SEED];

/// Pieces that mean something to YAML or to a config.
const PIECES: [&str; 24] = [
    "[", "]", "{", "}", ": ", "- ", "\n", "\n  ", "&a ", "*a", "!x ", "!!int ", "|\n", ">-\n ", "\"", "'", "#", "---\n", "? ", "*", "é",
    "\u{0}", "\t", "null",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = quickly(&text);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = quickly(&String::from_utf8_lossy(&bytes));
    }

    /// Cuts, doubles and sprinkles real configs.
    #[test]
    fn no_mutation_panics(
        seed in 0..SEEDS.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0..4_usize), 1..12),
    ) {
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
        for (at, piece, how) in edits {
            let at = at.index(text.len().max(1));
            match how {
                0 => { text.drain(at..(at + 7).min(text.len())); }
                1 => { let part: Vec<char> = text[at..(at + 40).min(text.len())].to_vec(); text.splice(at..at, part); }
                _ => { text.splice(at..at, PIECES[piece].chars()); }
            }
        }
        let _ = quickly(&text.into_iter().collect::<String>());
    }

    /// Every problem of a one-file config names the file, and a line of it.
    #[test]
    fn every_problem_has_a_place(at in any::<prop::sample::Index>(), piece in 0..PIECES.len()) {
        let mut text: Vec<char> = SEEDS[0].chars().collect();
        let at = at.index(text.len());
        text.splice(at..at, PIECES[piece].chars());
        let text: String = text.into_iter().collect();
        if let Err(problems) = Config::parse(&text, Path::new(""), Path::new("small.yaml")) {
            for problem in problems.0 {
                prop_assert_eq!(problem.file.as_deref(), Some(Path::new("small.yaml")));
                if !problem.message.contains("more than one YAML document") {
                    prop_assert!((1..=text.lines().count() + 1).contains(&problem.line.unwrap_or(0)), "{}", problem);
                }
            }
        }
    }
}
