//! Runs the `test_` rules of `_test.rego` files.

use std::{path::PathBuf, time::Duration};

use crate::problem::Problems;

use super::{engine, load, syntax::Module};

/// What became of one `test_` rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// `data.team.guard_test`
    pub package: String,
    pub name: String,
    pub file: PathBuf,
    pub line: usize,
    pub outcome: TestOutcome,
    pub took: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestOutcome {
    Pass,
    /// False or undefined.
    Fail,
    Error(String),
    /// Named `todo_test_…`.
    Skip,
}

/// Runs the tests below `paths`, with the policy that ships loaded.
///
/// # Errors
/// What does not load, with its place.
pub fn run_tests(paths: &[PathBuf]) -> Result<Vec<TestResult>, Problems> {
    let files = load::read(paths);
    if !files.problems.is_empty() {
        return Err(Problems(files.problems));
    }
    // Someone who works on the policy that ships names its folder.
    let own = files.policies.iter().any(|s| s.text.lines().any(|l| l.trim() == "package remit.authz"));
    let mut sources = if own { Vec::new() } else { load::shipped() };
    sources.extend(files.policies);
    let parsed = engine::on_load_stack(|| {
        let modules = engine::parse(&sources)?;
        let tests = engine::parse(&files.tests)?;
        if let Some(cycle) = super::recursion(&modules, &tests) {
            return Err(vec![cycle]);
        }
        Ok((load::glue(&modules), tests.iter().flat_map(rules).collect::<Vec<_>>()))
    })?;
    let (glue, mut found) = parsed.map_err(Problems)?;
    sources.extend(glue.filter(|_| !own));
    sources.extend(files.tests);
    let data = super::input::json(&serde_json::Value::Object(files.data));
    let names: Vec<String> = found.iter().map(|t| format!("{}.{}", t.package, t.name)).collect();
    let results = engine::evaluate_once(&sources, &data, &names)?;
    for (test, (result, took)) in found.iter_mut().zip(results) {
        test.took = took;
        test.outcome = match result {
            _ if test.outcome == TestOutcome::Skip => TestOutcome::Skip,
            Ok(engine::Value::Bool(true)) => TestOutcome::Pass,
            Ok(_) => TestOutcome::Fail,
            Err(why) => TestOutcome::Error(why),
        };
    }
    Ok(found)
}

fn rules(module: &Module) -> Vec<TestResult> {
    let mut found: Vec<TestResult> = Vec::new();
    for rule in &module.rules {
        let name = rule.title();
        let outcome = if name.starts_with("todo_test_") { TestOutcome::Skip } else { TestOutcome::Fail };
        if (name.starts_with("test_") || name.starts_with("todo_test_")) && found.iter().all(|t| t.name != name) {
            let package = format!("data.{}", module.package.join("."));
            found.push(TestResult { package, name, file: PathBuf::from(&*module.file), line: rule.line, outcome, took: Duration::ZERO });
        }
    }
    found
}
