//! Room 5: Caller + Intents → Decision. Pure: no I/O and no clock of its own.
//!
//! Policies are loaded once (`Decider::load`), checked, and compiled; a reload makes a new
//! `Decider`. [`Decider::judge`] builds a cache key from exactly what the policies can read,
//! and evaluates only when that key is not there.

mod answer;
mod cache;
mod check;
mod contract;
mod engine;
mod entry;
mod facts;
mod footprint;
mod graph;
mod input;
mod judge;
mod key;
mod load;
mod permit;
mod plain;
mod registry;
mod suite;
mod syntax;
mod walk;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use ring::digest;

pub use engine::Kind;
pub use entry::{Entry, admit};
pub use facts::{Facts, Request};
pub use footprint::{Report, Uncacheable};
pub use judge::Judged;
pub use permit::Permit;
pub use registry::registry_data;
pub use suite::{TestOutcome, TestResult, run_tests};

use crate::hex::hex;
use crate::problem::{Problem, Problems};

/// The rule that is asked.
const ENTRY: [&str; 3] = ["remit", "authz", "decision"];

/// What a `Decider` is made from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The policy that ships.
    pub builtin: bool,
    /// Guardrails that ship, where they are switched on.
    pub guardrails: Vec<Guardrail>,
    /// Files or folders of `.rego` (without `_test.rego`) and data.
    pub paths: Vec<PathBuf>,
    /// What stands at `data.remit`: [`registry_data`].
    pub registry: serde_json::Value,
    /// Every parameter of any operation. Empty: there is no catalog to check against.
    pub parameters: BTreeSet<String>,
    /// What one evaluation may take.
    pub timeout: Duration,
    /// Memory for decisions that are kept.
    pub cache_bytes: u64,
}

/// A guardrail's policy, that stands in no file of the user's.
#[derive(Debug, Clone)]
pub struct Guardrail {
    /// What problems and the footprint name.
    pub file: String,
    pub text: String,
}

/// The loaded policies. Shared by all threads.
#[derive(Debug)]
pub struct Decider {
    engine: engine::Engine,
    plan: key::Plan,
    cache: cache::Cache,
    tasks: input::Tasks,
    report: Report,
    revision: String,
}

impl Decider {
    /// Reads, checks and compiles policies. Blocks; it takes milliseconds, more with a large registry.
    ///
    /// # Errors
    /// Everything that is wrong, with file, line and fix. The warnings that come with a `Decider`
    /// are of the same form.
    pub fn load(sources: Sources) -> Result<(Self, Vec<Problem>), Problems> {
        let mut files = load::read(&sources.paths);
        if !files.problems.is_empty() {
            return Err(Problems(files.problems));
        }
        let mut policies = if sources.builtin { load::shipped() } else { Vec::new() };
        policies.extend(sources.guardrails.iter().map(|g| engine::Source { file: g.file.clone(), text: g.text.clone(), builtin: true }));
        policies.append(&mut files.policies);
        let loaded = engine::on_load_stack(move || build(policies, files.data, sources))?;
        loaded.map_err(Problems)
    }

    /// What the policies can read, and which rule forbids keeping their decisions.
    #[must_use]
    pub fn footprint(&self) -> &Report {
        &self.report
    }

    /// Hex SHA-256 of the policies and the registry: what a record names.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Which engine the policies run on.
    #[must_use]
    pub fn engine(&self) -> Kind {
        self.engine.kind()
    }

    /// Decisions kept now; roughly.
    #[must_use]
    pub fn cached(&self) -> u64 {
        self.cache.entries()
    }
}

fn build(
    mut policies: Vec<engine::Source>,
    mut data: serde_json::Map<String, serde_json::Value>,
    sources: Sources,
) -> Result<(Decider, Vec<Problem>), Vec<Problem>> {
    let mut modules = engine::parse(&policies)?;
    if sources.builtin
        && let Some(glue) = load::glue(&modules)
    {
        modules.append(&mut engine::parse(std::slice::from_ref(&glue))?);
        policies.push(glue);
    }
    let graph = graph::Graph::new(&modules);
    let warnings = check::check(&graph, &modules, &ENTRY, &sources.parameters)?;
    // Checked above: the entry point is there.
    let Some(entry) = graph.find(&ENTRY) else { return Err(Vec::new()) };
    let (footprint, report) = footprint::of(&graph, entry, &registry::wheres(&sources.registry));
    data.insert("remit".to_owned(), sources.registry);
    let data = serde_json::Value::Object(data);
    let revision = revision(&policies, &data);
    let data = input::json(&data);
    let entry_name = format!("data.{}", ENTRY.join("."));
    let engine = engine::Engine::build(&policies, data, &entry_name, plain::is_plain(&graph, entry), sources.timeout);
    let decider = Decider {
        engine: engine.map_err(|e| vec![e])?,
        plan: key::Plan::new(&footprint),
        cache: cache::Cache::new(sources.cache_bytes),
        tasks: input::Tasks::default(),
        report,
        revision,
    };
    Ok((decider, warnings))
}

/// A recursion among policies and their tests, which would abort the process.
fn recursion(modules: &[syntax::Module], tests: &[syntax::Module]) -> Option<Problem> {
    let all: Vec<syntax::Module> = modules.iter().chain(tests).cloned().collect();
    let mut problems = Vec::new();
    check::recursion(&graph::Graph::new(&all), &mut problems);
    problems.pop()
}

fn revision(policies: &[engine::Source], data: &serde_json::Value) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for source in policies {
        for part in [&source.file, &source.text] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.update(data.to_string().as_bytes());
    hex(hash.finish().as_ref())
}
