//! Which policies the register VM runs as Rego means them.
//!
//! The VM makes a conflict of two values `undefined`, or takes the last, in silence; a condition
//! that fails in a comprehension ends the loop around it; it has no `with` and no `walk`. A policy is plain when its text shows that none of this can matter.
//! Everything in doubt is not plain, and runs on the interpreter.

use std::collections::BTreeSet;

use super::{
    graph::{Graph, Node},
    syntax::{Body, Expr, Literal, Module, Rule, RuleKind, Stmt, Term},
    walk::Event,
};

/// Whether everything reachable from `entry` is plain.
pub(super) fn is_plain(graph: &Graph<'_>, entry: usize) -> bool {
    graph.reachable(entry).iter().filter_map(|at| graph.nodes.get(*at)).all(|node| plain_node(graph, node))
}

pub(super) fn plain_node(graph: &Graph<'_>, node: &Node<'_>) -> bool {
    node.rules.iter().all(|(_, rule)| plain_rule(rule))
        && !node.events.iter().any(|event| matches!(event, Event::With) || walks(event) || reads_package(graph, event))
        && consistent(graph, node)
}

fn plain_rule(rule: &Rule) -> bool {
    let head =
        !rule.dynamic && rule.name.len() == 1 && rule.kind != RuleKind::Object && !(rule.kind == RuleKind::Set && rule.value.is_some());
    let args = rule.args.iter().all(|a| matches!(a.what, Term::Var(_)));
    let exprs = rule.key.iter().chain(&rule.value).all(plain_expr);
    let bodies = rule.bodies.iter().all(|b| b.value.iter().all(plain_expr) && plain_query(&b.query));
    head && args && exprs && bodies && flat(rule)
}

/// No comprehension inside a loop or another comprehension.
fn flat(rule: &Rule) -> bool {
    let heads: Vec<&Expr> = rule.key.iter().chain(&rule.value).collect();
    if rule.bodies.is_empty() {
        return heads.iter().all(|e| !comprehends(e) || flat_expr(e));
    }
    rule.bodies.iter().all(|body| {
        let exprs = heads.iter().copied().chain(&body.value).chain(exprs_of(&body.query));
        if loops(&body.query) { exprs.into_iter().all(|e| !comprehends(e)) } else { exprs.into_iter().all(flat_expr) }
    })
}

fn flat_expr(e: &Expr) -> bool {
    match &e.what {
        Term::Comprehension { terms, query, .. } => terms.iter().chain(exprs_of(query)).all(|e| !comprehends(e)),
        _ => children(e).into_iter().all(flat_expr),
    }
}

fn comprehends(e: &Expr) -> bool {
    matches!(e.what, Term::Comprehension { .. }) || children(e).into_iter().any(comprehends)
}

fn children(e: &Expr) -> Vec<&Expr> {
    match &e.what {
        Term::Text(_) | Term::Scalar(_) | Term::Var(_) | Term::Comprehension { .. } => Vec::new(),
        Term::Array(items) | Term::Set(items) | Term::Operator(items) => items.iter().collect(),
        Term::Object(fields) => fields.iter().flat_map(|(k, v)| [k, v]).collect(),
        Term::Call { args, .. } => args.iter().collect(),
        Term::Index { base, key } => vec![base, key],
        Term::Assign { left, right, .. } => vec![left, right],
    }
}

/// The expressions of a query, those of its `every` included.
fn exprs_of(query: &[Stmt]) -> Vec<&Expr> {
    query
        .iter()
        .flat_map(|stmt| match &stmt.what {
            Literal::Expr(e) | Literal::Not(e) => vec![e],
            Literal::Some(_) => Vec::new(),
            Literal::SomeIn { key, value, collection } => key.iter().chain([value, collection]).collect(),
            Literal::Every { domain, query, .. } => [vec![domain], exprs_of(query)].concat(),
        })
        .collect()
}

/// Whether a query loops, or may.
fn loops(query: &[Stmt]) -> bool {
    let every_or_some = |s: &Stmt| matches!(s.what, Literal::Some(_) | Literal::SomeIn { .. } | Literal::Every { .. });
    query.iter().any(every_or_some) || exprs_of(query).into_iter().any(may_iterate)
}

/// A key that is a variable may stand for every key.
fn may_iterate(e: &Expr) -> bool {
    let by_variable =
        matches!(&e.what, Term::Index { key, .. } if !matches!(key.what, Term::Text(_) | Term::Scalar(_) | Term::Index { .. }));
    by_variable || children(e).into_iter().any(may_iterate)
}

fn walks(event: &Event) -> bool {
    matches!(event, Event::Call { name, .. } if matches!(name.as_slice(), [only] if &**only == "walk"))
}

/// A package read as a document, rules and all.
fn reads_package(graph: &Graph<'_>, event: &Event) -> bool {
    let Event::Data { keys, .. } = event else { return false };
    graph.nodes.iter().any(|n| n.path.len() > keys.len() && n.path.starts_with(keys))
}

/// Whether a complete rule or function can have one value only.
fn consistent(graph: &Graph<'_>, node: &Node<'_>) -> bool {
    let definitions: Vec<&(&Module, &Rule)> = node.rules.iter().filter(|(_, r)| r.kind != RuleKind::Default).collect();
    if definitions.iter().any(|(_, r)| r.kind == RuleKind::Set) {
        return definitions.iter().all(|(_, r)| r.kind == RuleKind::Set);
    }
    let values: BTreeSet<Option<String>> = definitions.iter().flat_map(|(_, r)| constants(r)).collect();
    if values.len() <= 1 && !values.contains(&None) {
        return true;
    }
    match definitions.as_slice() {
        [(module, rule)] => single(graph, module, rule),
        _ => false,
    }
}

/// The value of each body, where it is a constant.
fn constants(rule: &Rule) -> Vec<Option<String>> {
    let truth = || Some("true".to_owned());
    if rule.bodies.is_empty() {
        return vec![rule.value.as_ref().map_or_else(truth, constant)];
    }
    let value = |(i, body): (usize, &Body)| match (&body.value, &rule.value) {
        (Some(own), _) => constant(own),
        (None, Some(head)) if i == 0 => constant(head),
        (None, _) => truth(),
    };
    rule.bodies.iter().enumerate().map(value).collect()
}

fn constant(e: &Expr) -> Option<String> {
    match &e.what {
        Term::Text(text) => Some(format!("{text:?}")),
        Term::Scalar(text) => Some(text.to_string()),
        _ => None,
    }
}

/// A rule with one definition has one value when nothing in its bodies can hold in two ways.
fn single(graph: &Graph<'_>, module: &Module, rule: &Rule) -> bool {
    let own = graph.nodes.iter().filter(|n| n.path.starts_with(&module.package));
    let mut bound: BTreeSet<Box<str>> = own.filter_map(|n| n.path.get(module.package.len()).cloned()).collect();
    bound.extend(module.imports.iter().map(|(alias, _)| alias.clone()));
    bound.extend(["input", "data"].map(Box::from));
    for arg in &rule.args {
        if let Term::Var(name) = &arg.what {
            bound.insert(name.clone());
        }
    }
    let fixed = |value: &Expr, bound: &BTreeSet<Box<str>>| constant(value).is_some() || ground(value, bound);
    if rule.bodies.is_empty() {
        return rule.value.iter().all(|v| fixed(v, &bound));
    }
    rule.bodies.iter().enumerate().all(|(i, body)| {
        let value = body.value.as_ref().or(if i == 0 { rule.value.as_ref() } else { None });
        if value.is_none_or(|v| constant(v).is_some()) {
            return true;
        }
        let mut bound = bound.clone();
        body.query.iter().all(|stmt| holds_once(stmt, &mut bound)) && value.is_some_and(|v| fixed(v, &bound))
    })
}

/// Whether a statement can hold in one way only; adds what it declares.
fn holds_once(stmt: &Stmt, bound: &mut BTreeSet<Box<str>>) -> bool {
    match &stmt.what {
        Literal::Expr(Expr { what: Term::Assign { declares: true, left, right }, .. }) => {
            let once = ground(right, bound);
            if let Term::Var(name) = &left.what {
                bound.insert(name.clone());
            }
            once
        }
        Literal::Expr(e) => ground(e, bound),
        Literal::Not(_) | Literal::Every { .. } => true,
        Literal::Some(_) | Literal::SomeIn { .. } => false,
    }
}

/// Whether an expression has one value at most: it iterates over nothing.
fn ground(e: &Expr, bound: &BTreeSet<Box<str>>) -> bool {
    match &e.what {
        Term::Text(_) | Term::Scalar(_) | Term::Comprehension { .. } => true,
        Term::Var(name) => bound.contains(name),
        Term::Array(items) | Term::Set(items) | Term::Operator(items) => items.iter().all(|i| ground(i, bound)),
        Term::Object(fields) => fields.iter().all(|(k, v)| ground(k, bound) && ground(v, bound)),
        Term::Call { args, .. } => args.iter().all(|a| ground(a, bound)),
        Term::Index { base, key } => ground(base, bound) && ground(key, bound),
        Term::Assign { .. } => false,
    }
}

fn plain_query(query: &[Stmt]) -> bool {
    query.iter().all(|stmt| match &stmt.what {
        Literal::Expr(e) | Literal::Not(e) => plain_expr(e),
        Literal::Some(_) => true,
        Literal::SomeIn { key, value, collection } => {
            let names = |e: &Expr| matches!(e.what, Term::Var(_));
            key.iter().all(names) && names(value) && plain_expr(collection)
        }
        Literal::Every { domain, query, .. } => plain_expr(domain) && plain_query(query),
    })
}

/// No object comprehension (two values for one key go unseen), no unification, no destructuring.
fn plain_expr(e: &Expr) -> bool {
    match &e.what {
        Term::Text(_) | Term::Scalar(_) | Term::Var(_) => true,
        Term::Array(items) | Term::Set(items) | Term::Operator(items) => items.iter().all(plain_expr),
        Term::Object(fields) => fields.iter().all(|(k, v)| plain_expr(k) && plain_expr(v)),
        Term::Comprehension { object, terms, query } => !object && terms.iter().all(plain_expr) && plain_query(query),
        Term::Call { function, args } => function.dotted().is_some() && args.iter().all(plain_expr),
        Term::Index { base, key } => plain_expr(base) && plain_expr(key),
        Term::Assign { declares, left, right } => *declares && matches!(left.what, Term::Var(_)) && plain_expr(right),
    }
}
