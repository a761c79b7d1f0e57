//! `remit policy test|footprint`

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use crate::{
    decide::{Decider, Kind, Sources, TestOutcome, TestResult, run_tests},
    problem::{Problem, Problems},
};

/// Test policies, and see what they read.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the `test_` rules of `_test.rego` files, with the policy that ships loaded
    #[command(after_help = "Example:\n  remit policy test policies/")]
    Test {
        /// Files or folders of policies, tests and data
        #[arg(value_name = "PATH", default_value = "policies")]
        paths: Vec<PathBuf>,
        /// Show the tests that pass as well
        #[arg(short, long)]
        verbose: bool,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show which input the policies read, and which rules keep decisions out of the cache
    #[command(after_help = "Examples:\n  remit policy footprint --config remit.yaml\n  remit policy footprint policies/ --output json")]
    Footprint {
        /// The configuration whose policies and registry are meant
        #[arg(long, value_name = "FILE", conflicts_with = "paths")]
        config: Option<PathBuf>,
        /// Files or folders of policies and data, beside the policy that ships
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// Makes the sources of a `Decider` from a configuration file.
pub type FromConfig = fn(&Path) -> Result<Sources, Problems>;

/// 0: every test passed, or the footprint was printed; 1: a test failed; 3: it could not be done.
pub fn run(args: &Args, from_config: FromConfig) -> ExitCode {
    let mut out = io::stdout().lock();
    let done = match &args.command {
        Command::Test { paths, verbose, output } => test(paths, *verbose, *output, &mut out),
        Command::Footprint { config, paths, output } => {
            let sources = config.as_deref().map_or_else(|| Ok(from_paths(paths)), from_config);
            sources.and_then(|sources| footprint(sources, *output, &mut out))
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(3)
        }
    }
}

/// Policies without a configuration: the policy that ships, with an empty registry.
fn from_paths(paths: &[PathBuf]) -> Sources {
    Sources {
        builtin: true,
        guardrails: Vec::new(),
        paths: paths.to_vec(),
        registry: json!({"agents": {}, "workflows": {}}),
        parameters: Default::default(),
        timeout: Duration::from_millis(10),
        cache_bytes: 0,
    }
}

fn test(paths: &[PathBuf], verbose: bool, output: Output, out: &mut impl Write) -> Result<bool, Problems> {
    let results = run_tests(paths)?;
    if results.is_empty() {
        let problem = Problem::new("there are no tests here").help("name rules `test_…` in files that end in `_test.rego`");
        return Err(match paths.first() {
            Some(path) => problem.at(path, None).into(),
            None => problem.into(),
        });
    }
    let passed = results.iter().all(|r| matches!(r.outcome, TestOutcome::Pass | TestOutcome::Skip));
    let written = match output {
        Output::Text => tests_as_text(&results, verbose, out),
        Output::Json => tests_as_json(&results, out),
    };
    written.map_err(unwritten)?;
    Ok(passed)
}

/// As `opa test` words it.
fn tests_as_text(results: &[TestResult], verbose: bool, out: &mut impl Write) -> io::Result<()> {
    let mut file = None;
    for result in results {
        if result.outcome == TestOutcome::Pass && !verbose {
            continue;
        }
        if file != Some(&result.file) {
            writeln!(out, "{}:", result.file.display())?;
            file = Some(&result.file);
        }
        let took = result.took.as_secs_f64() * 1000.0;
        writeln!(out, "{}.{}: {} ({took:.3}ms)", result.package, result.name, word(&result.outcome))?;
        if let TestOutcome::Error(why) = &result.outcome {
            writeln!(out, "  {}:{}: {why}", result.file.display(), result.line)?;
        }
    }
    let count = |word_: &str| results.iter().filter(|r| word(&r.outcome) == word_).count();
    if count("PASS") < results.len() || verbose {
        writeln!(out, "{}", "-".repeat(80))?;
    }
    for outcome in ["PASS", "FAIL", "ERROR", "SKIPPED"] {
        if outcome == "PASS" || count(outcome) > 0 {
            writeln!(out, "{outcome}: {}/{}", count(outcome), results.len())?;
        }
    }
    Ok(())
}

fn tests_as_json(results: &[TestResult], out: &mut impl Write) -> io::Result<()> {
    let one = |result: &TestResult| {
        let error = match &result.outcome {
            TestOutcome::Error(why) => Some(why),
            _ => None,
        };
        json!({
            "package": result.package, "name": result.name, "file": result.file, "line": result.line,
            "result": word(&result.outcome).to_lowercase(), "error": error, "milliseconds": result.took.as_secs_f64() * 1000.0,
        })
    };
    let all: Vec<_> = results.iter().map(one).collect();
    writeln!(out, "{}", json!(all))
}

fn word(outcome: &TestOutcome) -> &'static str {
    match outcome {
        TestOutcome::Pass => "PASS",
        TestOutcome::Fail => "FAIL",
        TestOutcome::Error(_) => "ERROR",
        TestOutcome::Skip => "SKIPPED",
    }
}

fn footprint(sources: Sources, output: Output, out: &mut impl Write) -> Result<bool, Problems> {
    let (decider, warnings) = Decider::load(sources)?;
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    let report = decider.footprint();
    let engine = match decider.engine() {
        Kind::Register => "register",
        Kind::Tree => "interpreter",
    };
    let written = match output {
        Output::Json => {
            let document = json!({
                "reads": report.reads, "cacheable": report.cacheable, "uncacheable": report.uncacheable,
                "engine": engine, "revision": decider.revision(),
            });
            writeln!(out, "{document}")
        }
        Output::Text => footprint_as_text(&decider, engine, out),
    };
    written.map_err(unwritten)?;
    Ok(true)
}

fn footprint_as_text(decider: &Decider, engine: &str, out: &mut impl Write) -> io::Result<()> {
    let report = decider.footprint();
    writeln!(out, "The policies read:")?;
    for path in &report.reads {
        writeln!(out, "  {path}")?;
    }
    writeln!(out, "They run on the {engine} engine, revision {}.", decider.revision().get(..12).unwrap_or_default())?;
    if report.cacheable {
        return writeln!(out, "Decisions are cached.");
    }
    writeln!(out, "Decisions are not cached:")?;
    for rule in &report.uncacheable {
        writeln!(out, "  {}:{}: {} {}", rule.file.display(), rule.line, rule.rule, rule.why)?;
    }
    Ok(())
}

fn unwritten(e: io::Error) -> Problems {
    Problem::new(format!("the output cannot be written: {e}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(run: impl FnOnce(&mut Vec<u8>) -> Result<bool, Problems>) -> (bool, String) {
        let mut out = Vec::new();
        let ok = run(&mut out).unwrap();
        (ok, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_tests_of_the_policy_that_ships_pass() {
        let (passed, text) = printed(|out| test(&["policies".into()], false, Output::Text, out));
        assert!(passed, "{text}");
        assert!(text.starts_with("PASS: "), "{text}");
    }

    #[test]
    fn the_footprint_of_the_policy_that_ships_names_no_request() {
        let (_, text) = printed(|out| footprint(from_paths(&[]), Output::Json, out));
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["cacheable"], true);
        assert_eq!(document["engine"], "register");
        assert!(document["reads"].as_array().unwrap().contains(&json!("input.intent.id")));
        assert!(!text.contains("input.request"));
    }

    #[test]
    fn a_folder_without_tests_is_not_a_pass() {
        let mut out = Vec::new();
        let problems = test(&["src/decide/engine".into()], false, Output::Text, &mut out).unwrap_err();
        assert!(problems.to_string().contains("no tests"), "{problems}");
    }
}
