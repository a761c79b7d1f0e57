//! The only file (with its cupboards) that knows regorus, whose interface changes every few weeks.
//!
//! Two engines, one meaning, and that is OPA's with strict builtin errors. The register VM is
//! four times faster, but makes conflicts and errors `undefined` in silence; it runs the policies
//! for which [`super::plain`] shows that this cannot happen, with builtins and arithmetic wrapped
//! so that an error ends the evaluation. Every other policy runs on the interpreter.

mod builtins;
mod harden;
mod lower;
mod register;

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use regorus::utils::limits::ExecutionTimerConfig;

use super::syntax::Module;
use crate::problem::Problem;

pub(super) use regorus::Value;

/// Bytes of one policy file; what bounds the depth of what is parsed.
const MAX_FILE: usize = 256 << 10;
/// Brackets within brackets: the parser takes exponential time over some of them.
const MAX_BRACKETS: usize = 24;
/// Nesting of one expression, operators in a row included.
const MAX_DEPTH: usize = 200;
/// Enough for the deepest tree that `MAX_FILE` bytes can spell: reserved, not used.
const LOAD_STACK: usize = 512 << 20;
/// Enough for the interpreter with `check::MAX_CALLS` nested rules of `MAX_DEPTH` each.
const TREE_STACK: usize = 64 << 20;
/// Instructions of one evaluation: about 4 ms. Machine-independent, so it comes before the timer.
const MAX_INSTRUCTIONS: usize = 250_000;

/// One policy file.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) builtin: bool,
}

/// A set of policies, compiled. Shared by all threads.
#[derive(Debug)]
pub(super) struct Engine {
    runs: Runs,
    timer: ExecutionTimerConfig,
}

#[derive(Debug)]
enum Runs {
    Register(register::Compiled),
    Tree { engine: Box<regorus::Engine>, entry: String },
}

/// Which engine runs a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// regorus's register VM.
    Register,
    /// regorus's interpreter.
    Tree,
}

/// Whether Rego's builtin `name` is there.
pub(super) fn builtin_exists(name: &str) -> bool {
    builtins::exists(name)
}

/// Whether the answer of builtin `name` depends on more than its arguments.
pub(super) fn builtin_is_volatile(name: &str) -> bool {
    builtins::is_volatile(name)
}

pub(super) fn builtin_names() -> impl Iterator<Item = &'static str> {
    builtins::names()
}

/// Runs `load` on a thread whose stack is known to suffice for any file that is read here.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn on_load_stack<T: Send>(load: impl FnOnce() -> T + Send) -> Result<T, Problem> {
    on_stack(LOAD_STACK, load).ok_or_else(|| Problem::new("there is no memory for loading policies"))
}

/// Parses files into trees. Call it on the load stack.
///
/// # Errors
/// What does not parse, with its file and line.
pub(super) fn parse(sources: &[Source]) -> Result<Vec<Module>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut modules = Vec::new();
    for source in sources {
        let mut engine = regorus::Engine::new();
        if source.text.len() > MAX_FILE {
            let message = format!("the policy is larger than {} KiB", MAX_FILE >> 10);
            problems.push(Problem::new(message).at(&source.file, None).help("split it, or move tables into a data file"));
        } else if let Some(line) = control(&source.text) {
            // The lexer takes NUL for the end of the file: what follows would not be heard.
            problems.push(Problem::new("the policy holds a control character").at(&source.file, Some(line)).help("remove it"));
        } else if let Some(line) = too_deep(&source.text) {
            let problem = Problem::new("brackets are nested too deeply").at(&source.file, Some(line));
            problems.push(problem.help("split the expression into rules"));
        } else if let Err(e) = engine.add_policy(source.file.clone(), source.text.clone()) {
            problems.push(located(&e.to_string(), &source.file));
        } else {
            for module in engine.get_modules().iter() {
                let module = lower::module(module, source.builtin);
                match super::check::deepest(&module) {
                    (depth, line) if depth > MAX_DEPTH => problems
                        .push(Problem::new("an expression is nested too deeply").at(&source.file, Some(line)).help("split it into rules")),
                    _ => modules.push(module),
                }
            }
        }
    }
    if problems.is_empty() { Ok(modules) } else { Err(problems) }
}

/// The line of a control character that is no white space.
fn control(text: &str) -> Option<usize> {
    let at = text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))?;
    text.get(..at).map(|before| before.matches('\n').count() + 1)
}

/// The line where brackets are nested deeper than any policy needs. Texts and comments are skipped.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut line, mut quote) = (0usize, 1, None);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (_, b'\n') => {
                line += 1;
                // Neither a comment nor a quoted text goes on; a raw one does.
                quote = quote.filter(|q| *q == b'`');
            }
            (Some(b'"'), b'\\') => {
                bytes.next();
            }
            (Some(q), b) if q == b && q != b'#' => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'`' | b'#') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Some(line);
        }
    }
    None
}

impl Engine {
    /// Compiles policies for one entry point. Call it on the load stack, with checked sources.
    ///
    /// # Errors
    /// What does not compile, with its file and line where the compiler says so.
    pub(super) fn build(sources: &[Source], data: Value, entry: &str, fast: bool, limit: Duration) -> Result<Self, Problem> {
        let timer = ExecutionTimerConfig { limit, check_interval: NonZeroU32::MIN.saturating_add(63) };
        let fallback = sources.last().map(|s| s.file.clone()).unwrap_or_default();
        let failed = |e: String| located(&e, &fallback);
        let mut engine = interpreter(sources, data.clone()).map_err(failed)?;
        let compiled = engine.compile_with_entrypoint(&Arc::from(entry)).map_err(|e| located(&e.to_string(), &fallback))?;
        if fast && let Ok(compiled) = register::Compiled::new(&compiled, data, entry) {
            return Ok(Self { runs: Runs::Register(compiled), timer });
        }
        engine.set_execution_timer_config(timer);
        Ok(Self { runs: Runs::Tree { engine: Box::new(engine), entry: entry.to_owned() }, timer })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.runs {
            Runs::Register(_) => Kind::Register,
            Runs::Tree { .. } => Kind::Tree,
        }
    }

    /// The entry point's value for `input`.
    ///
    /// # Errors
    /// Why there is none: undefined, an error, or over a bound.
    pub(super) fn evaluate(&self, input: Value) -> Result<Value, String> {
        let value = match &self.runs {
            Runs::Register(compiled) => match compiled.evaluate(input.clone(), self.timer, MAX_INSTRUCTIONS) {
                // The clock also runs while the thread does not: one more try tells which it was.
                Err(register::Failed::Time) => compiled.evaluate(input, self.timer, MAX_INSTRUCTIONS),
                other => other,
            }
            .map_err(|failed| failed.to_string())?,
            Runs::Tree { engine, entry } => on_stack(TREE_STACK, || walk(engine, entry, input))
                .unwrap_or_else(|| Err("there is no memory for a thread to evaluate on".to_owned()))?,
        };
        if value == Value::Undefined { Err("the policy's decision is undefined".to_owned()) } else { Ok(value) }
    }
}

/// A value, or why there is none, and how long it took.
pub(super) type Timed = (Result<Value, String>, Duration);

/// Evaluates rules one by one on the interpreter, for `remit policy test`.
///
/// # Errors
/// What does not load.
pub(super) fn evaluate_once(sources: &[Source], data: &Value, rules: &[String]) -> Result<Vec<Timed>, Problem> {
    on_load_stack(|| {
        let fallback = sources.last().map(|s| s.file.clone()).unwrap_or_default();
        let mut engine = interpreter(sources, data.clone()).map_err(|e| located(&e, &fallback))?;
        let results = rules.iter().map(|rule| {
            let began = Instant::now();
            let result = engine.eval_rule(rule.clone()).map_err(|e| last_line(&e.to_string()));
            (result, began.elapsed())
        });
        Ok(results.collect())
    })?
}

fn walk(engine: &regorus::Engine, entry: &str, input: Value) -> Result<Value, String> {
    let mut engine = engine.clone();
    engine.set_input(input);
    engine.eval_rule(entry.to_owned()).map_err(|e| builtins::take_failure().unwrap_or_else(|| last_line(&e.to_string())))
}

fn interpreter(sources: &[Source], data: Value) -> Result<regorus::Engine, String> {
    let mut engine = regorus::Engine::new();
    engine.set_strict_builtin_errors(true);
    for (name, arity) in builtins::COSTLY {
        let extension = move |args: Vec<Value>| builtins::call(name, &args).map_err(Into::into);
        engine.add_extension(name.to_owned(), arity, Box::new(extension)).map_err(|e| e.to_string())?;
    }
    for source in sources {
        engine.add_policy(source.file.clone(), source.text.clone()).map_err(|e| e.to_string())?;
    }
    engine.add_data(data).map_err(|e| e.to_string())?;
    Ok(engine)
}

fn on_stack<T: Send>(bytes: usize, run: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("policy".to_owned()).stack_size(bytes);
        thread.spawn_scoped(scope, run).ok()?.join().ok()
    })
}

/// The parser's message, which says `--> FILE:LINE:COLUMN` and on its last line what is wrong.
fn located(message: &str, fallback: &str) -> Problem {
    let place = message.lines().find_map(|line| line.trim().strip_prefix("--> "));
    let mut parts = place.unwrap_or_default().rsplitn(3, ':');
    let (_column, line, file) = (parts.next(), parts.next(), parts.next());
    let line = line.and_then(|l| l.parse().ok());
    let what = last_line(message);
    let help = what.contains("unexpected keyword").then_some("see `opa check` for the grammar");
    let problem = Problem::new(what).at(file.unwrap_or(fallback), line);
    if let Some(help) = help { problem.help(help) } else { problem }
}

fn last_line(message: &str) -> String {
    let line = message.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("the policy engine failed");
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
