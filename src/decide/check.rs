//! What loading refuses, before either engine sees it: what would abort the process, and what
//! would let a guardrail fail in silence.

use std::collections::BTreeSet;

use crate::problem::{self, Problem};

use super::{
    contract, engine,
    graph::{Graph, Node},
    syntax::{Expr, Literal, Module, RuleKind, Stmt, Term},
    walk::{Event, Key},
};

/// Rules that may read each other in a row. Bounds the stack that an evaluation takes.
pub(super) const MAX_CALLS: usize = 48;

/// What a package of guardrails is read for.
pub(super) const HOOKS: [&str; 4] = ["deny", "ask", "label", "limit"];

/// Builtins of Rego that reach out of the process.
const OUTSIDE: [&str; 4] = ["http.send", "net.lookup_ip_addr", "opa.runtime", "rego.parse_module"];

/// Everything wrong with the policies together, and what is only odd.
pub(super) fn check(
    graph: &Graph<'_>,
    modules: &[Module],
    entry: &[&str],
    params: &BTreeSet<String>,
) -> Result<Vec<Problem>, Vec<Problem>> {
    let mut problems = Vec::new();
    for module in modules {
        package(module, modules.iter().any(|m| m.builtin), &mut problems);
    }
    for node in &graph.nodes {
        default_function(node, &mut problems);
        guardrail(node, &mut problems);
        calls(graph, node, &mut problems);
        inputs(node, params, &mut problems);
    }
    recursion(graph, &mut problems);
    let Some(entry_at) = graph.find(entry) else {
        let message = format!("no policy defines `data.{}`", entry.join("."));
        let file = modules.first().map(|m| m.file.to_string()).unwrap_or_default();
        problems.push(Problem::new(message).at(file, None).help("set `policies.builtin: true`, or define it"));
        return Err(problems);
    };
    let warnings = unread(graph, modules, entry_at, &mut problems);
    if problems.is_empty() { Ok(warnings) } else { Err(problems) }
}

/// How deep the deepest expression of a module is nested, and its line.
pub(super) fn deepest(module: &Module) -> (usize, usize) {
    let rules = module.rules.iter().map(|rule| {
        let heads = rule.key.iter().chain(&rule.value).chain(&rule.args).chain([&rule.head]).map(depth);
        let bodies = rule.bodies.iter().map(|b| query_depth(&b.query).max(b.value.as_ref().map_or(0, depth)));
        (heads.chain(bodies).max().unwrap_or(0).max(rule.bodies.len()), rule.line)
    });
    rules.max().unwrap_or((0, 1))
}

fn query_depth(query: &[Stmt]) -> usize {
    let stmt = |s: &Stmt| {
        let with = s.with.iter().flat_map(|(a, b)| [a, b]).map(depth).max().unwrap_or(0);
        let own = match &s.what {
            Literal::Expr(e) | Literal::Not(e) => depth(e),
            Literal::Some(_) => 1,
            Literal::SomeIn { key, value, collection } => key.iter().chain([value, collection]).map(depth).max().unwrap_or(0),
            Literal::Every { domain, query, .. } => depth(domain).max(query_depth(query) + 1),
        };
        own.max(with)
    };
    query.iter().map(stmt).max().unwrap_or(0)
}

fn depth(e: &Expr) -> usize {
    let deep = |items: &[Expr]| items.iter().map(depth).max().unwrap_or(0);
    1 + match &e.what {
        Term::Text(_) | Term::Scalar(_) | Term::Var(_) => 0,
        Term::Array(items) | Term::Set(items) | Term::Operator(items) => deep(items),
        Term::Object(fields) => fields.iter().flat_map(|(k, v)| [k, v]).map(depth).max().unwrap_or(0),
        Term::Comprehension { terms, query, .. } => deep(terms).max(query_depth(query)),
        Term::Call { function, args } => depth(function).max(deep(args)),
        Term::Index { base, key } => depth(base).max(depth(key)),
        Term::Assign { left, right, .. } => depth(left).max(depth(right)),
    }
}

fn at(node: &Node<'_>, line: Option<usize>, problem: Problem) -> Problem {
    match node.rules.first() {
        Some((module, rule)) => problem.at(&*module.file, Some(line.unwrap_or(rule.line))),
        None => problem,
    }
}

/// A user's package may not add to what ships.
fn package(module: &Module, shipped: bool, problems: &mut Vec<Problem>) {
    let ours = module.package.iter().map(|p| &**p).take(2).eq(["remit", "authz"]);
    if ours && shipped && !module.builtin {
        let problem = Problem::new("package `remit.authz` is the policy that ships").at(&*module.file, Some(1));
        problems.push(problem.help("write guardrails in package `remit.guardrails`, or set `policies.builtin: false`"));
    }
}

fn default_function(node: &Node<'_>, problems: &mut Vec<Problem>) {
    let default = node.rules.iter().find(|(_, r)| r.kind == RuleKind::Default && !r.args.is_empty());
    if let Some((_, rule)) = default {
        let message = format!("function `{}` has a `default`, which the engines read in two ways", rule.title());
        problems.push(at(node, Some(rule.line), Problem::new(message)).help("give the function an `else` instead"));
    }
}

/// `deny := true` would be read as a set without elements.
fn guardrail(node: &Node<'_>, problems: &mut Vec<Problem>) {
    let path: Vec<&str> = node.path.iter().map(|p| &**p).collect();
    let ["remit", "guardrails", .., name] = path.as_slice() else { return };
    let wrong = node.rules.iter().find(|(_, r)| r.kind != RuleKind::Set || r.dynamic || r.value.is_some());
    if let Some((_, rule)) = wrong
        && HOOKS.contains(name)
    {
        let message = format!("`{name}` of a guardrail is not a set");
        problems.push(at(node, Some(rule.line), Problem::new(message)).help(format!("write `{name} contains … if …`")));
    }
}

fn calls(graph: &Graph<'_>, node: &Node<'_>, problems: &mut Vec<Problem>) {
    let package = node.rules.first().map(|(m, _)| m.package.clone()).unwrap_or_default();
    for event in &node.events {
        let Event::Call { name, line } = event else { continue };
        let spelt = name.join(".");
        let is_rule = |path: &[Box<str>]| graph.nodes.iter().any(|n| n.path.starts_with(path));
        let known = match name.split_first() {
            Some((root, rest)) if matches!(&**root, "data" | "input") => &**root == "input" || is_rule(rest) || rest.is_empty(),
            _ => {
                let own: Vec<Box<str>> = package.iter().chain(name).cloned().collect();
                is_rule(&own) || engine::builtin_exists(&spelt) || spelt == "print"
            }
        };
        if OUTSIDE.contains(&&*spelt) {
            let message = format!("`{spelt}` reaches out of the process: a decision depends on its input alone");
            problems.push(at(node, Some(*line), Problem::new(message)).help("put what it would fetch into a data file"));
        } else if !known && !is_with_target(node) {
            let problem = Problem::new(format!("there is no function `{spelt}`"));
            let near = problem::nearest(&spelt, engine::builtin_names()).map(|n| format!("did you mean `{n}`?"));
            let problem = at(node, Some(*line), problem);
            problems.push(if let Some(near) = near { problem.help(near) } else { problem });
        }
    }
}

/// Calls are also reported for the two sides of `with`, which may name data.
fn is_with_target(node: &Node<'_>) -> bool {
    node.events.iter().any(|e| matches!(e, Event::With))
}

fn inputs(node: &Node<'_>, params: &BTreeSet<String>, problems: &mut Vec<Problem>) {
    for event in &node.events {
        let (Event::Input { keys, line } | Event::Alias { keys, line }) = event else { continue };
        if let Some(outside) = contract::outside(keys) {
            let problem = at(node, Some(*line), Problem::new(format!("`{}` is not in the input", outside.path)));
            let help =
                outside.nearest.map_or_else(|| "docs/policy-contract.md lists the input".to_owned(), |n| format!("did you mean `{n}`?"));
            problems.push(problem.help(help));
        } else if let Some(name) = unknown_param(keys, params) {
            let problem = at(node, Some(*line), Problem::new(format!("no operation has a parameter `{name}`")));
            let near = problem::nearest(name, params.iter().map(String::as_str));
            let help = near.map_or_else(|| "`remit intents list` shows the parameters".to_owned(), |n| format!("did you mean `{n}`?"));
            problems.push(problem.help(help));
        }
    }
    problems.dedup();
}

/// An empty list of parameters means that there is no catalog to check against.
fn unknown_param<'a>(keys: &'a [Key], params: &BTreeSet<String>) -> Option<&'a str> {
    let [Some(intent), Some(all), Some(name), ..] = keys else { return None };
    let unknown = &**intent == "intent" && &**all == "params" && !params.is_empty() && !params.contains(&**name);
    unknown.then_some(&**name)
}

pub(super) fn recursion(graph: &Graph<'_>, problems: &mut Vec<Problem>) {
    if let Some(cycle) = graph.cycle() {
        let names: Vec<String> = cycle.iter().filter_map(|i| graph.nodes.get(*i)).map(Node::title).collect();
        let what = if cycle.iter().filter_map(|i| graph.nodes.get(*i)).any(Node::is_function) { "functions" } else { "rules" };
        let problem = Problem::new(format!("{what} that call themselves: {}", names.join(" → ")));
        let place = cycle.iter().filter_map(|i| graph.nodes.get(*i)).find(|n| !n.is_builtin());
        let problem = match place {
            Some(node) => at(node, None, problem),
            None => problem,
        };
        problems.push(problem.help("break the cycle: Rego has no recursion"));
    } else if graph.depth() > MAX_CALLS {
        let message = format!("more than {MAX_CALLS} rules read each other in a row");
        problems.push(Problem::new(message).help("merge some of them"));
    }
}

/// Packages and guardrails that the entry point does not reach.
fn unread(graph: &Graph<'_>, modules: &[Module], entry: usize, problems: &mut Vec<Problem>) -> Vec<Problem> {
    let reachable = graph.reachable(entry);
    let read = |package: &[Box<str>]| {
        let mut rules = reachable.iter().filter_map(|i| graph.nodes.get(*i)).flat_map(|n| &n.rules);
        rules.any(|(m, _)| m.package == package)
    };
    let mut warnings = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let path: Vec<&str> = node.path.iter().map(|p| &**p).collect();
        let ["remit", "guardrails", .., name] = path.as_slice() else { continue };
        if reachable.contains(&i) {
            continue;
        }
        let problem = at(node, None, Problem::new(format!("nothing reads rule `{name}`")));
        match problem::nearest(name, HOOKS) {
            Some(near) => problems.push(problem.help(format!("did you mean `{near}`?"))),
            None => warnings.push(problem.help("guardrails are read for `deny`, `ask`, `label` and `limit`")),
        }
    }
    for module in modules.iter().filter(|m| !m.builtin && !m.rules.is_empty() && !read(&m.package)) {
        let name = module.package.join(".");
        // A misspelt rule says it better.
        let below = name == "remit.guardrails" || name.starts_with("remit.guardrails.");
        if below && problems.iter().any(|p| p.file.as_deref() == Some(std::path::Path::new(&*module.file))) {
            continue;
        }
        let problem = Problem::new(format!("nothing reads package `{name}`")).at(&*module.file, Some(1));
        if &*name == "remit" || name.starts_with("remit.") {
            problems.push(problem.help("guardrails are in package `remit.guardrails`, or below it"));
        } else {
            warnings.push(problem.help("a guardrail may import it"));
        }
    }
    warnings
}
