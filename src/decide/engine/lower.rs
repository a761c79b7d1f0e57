//! The parser's tree → ours.

use std::sync::Arc;

use regorus::unstable as rego;

use super::super::syntax::{Body, Expr, Literal, Module, Rule, RuleKind, Stmt, Term};

pub(super) fn module(module: &rego::Module, builtin: bool) -> Module {
    let file: Arc<str> = Arc::from(module.package.span.source.get_path().as_str());
    let package = expr(&module.package.refr).dotted().unwrap_or_default();
    let imports = module.imports.iter().filter_map(import).collect();
    let rules = module.policy.iter().map(|r| rule(r)).collect();
    Module { file, builtin, package, imports, rules }
}

fn import(import: &rego::Import) -> Option<(Box<str>, Vec<Box<str>>)> {
    let path = expr(&import.refr).dotted()?;
    let alias = match &import.r#as {
        Some(span) => Box::from(span.text()),
        None => path.last()?.clone(),
    };
    matches!(path.first().map(|root| &**root), Some("data" | "input")).then_some((alias, path))
}

fn rule(rule: &rego::Rule) -> Rule {
    match rule {
        rego::Rule::Default { span, refr, args, value, .. } => {
            let (head, name, dynamic) = head(refr);
            let args = args.iter().map(|a| expr(a)).collect();
            let (line, value) = (span.line as usize, Some(expr(value)));
            Rule { name, dynamic, head, kind: RuleKind::Default, args, key: None, value, bodies: Vec::new(), line }
        }
        rego::Rule::Spec { span, head: rule_head, bodies } => {
            let line = span.line as usize;
            let bodies = bodies.iter().map(body).collect();
            match rule_head {
                rego::RuleHead::Compr { refr, assign, .. } => {
                    let (head, name, dynamic) = head(refr);
                    let value = assign.as_ref().map(|a| expr(&a.value));
                    let key = last_key(refr);
                    let kind = if key.is_some() { RuleKind::Object } else { RuleKind::Complete };
                    Rule { name, dynamic, head, kind, args: Vec::new(), key, value, bodies, line }
                }
                rego::RuleHead::Set { refr, key, .. } => {
                    let (head, name, dynamic) = head(refr);
                    let value = last_key(refr);
                    Rule { name, dynamic, head, kind: RuleKind::Set, args: Vec::new(), key: key.as_deref().map(expr), value, bodies, line }
                }
                rego::RuleHead::Func { refr, args, assign, .. } => {
                    let (head, name, dynamic) = head(refr);
                    let args = args.iter().map(|a| expr(a)).collect();
                    let value = assign.as_ref().map(|a| expr(&a.value));
                    Rule { name, dynamic, head, kind: RuleKind::Function, args, key: None, value, bodies, line }
                }
            }
        }
    }
}

/// A head, its static start, and whether more follows.
fn head(refr: &rego::Expr) -> (Expr, Vec<Box<str>>, bool) {
    let whole = expr(refr);
    let (root, keys) = whole.reference();
    let mut name = root.dotted().unwrap_or_default();
    let count = keys.len();
    let fixed = keys.into_iter().map_while(|key| match &key.what {
        Term::Text(text) => Some(text.clone()),
        _ => None,
    });
    name.extend(fixed);
    let dynamic = name.len() <= count;
    (whole, name, dynamic)
}

/// The key in brackets that a head ends with.
fn last_key(refr: &rego::Expr) -> Option<Expr> {
    match refr {
        rego::Expr::RefBrack { index, .. } => Some(expr(index)),
        _ => None,
    }
}

fn body(body: &rego::RuleBody) -> Body {
    Body { value: body.assign.as_ref().map(|a| expr(&a.value)), query: query(&body.query) }
}

fn query(query: &rego::Query) -> Vec<Stmt> {
    query.stmts.iter().map(stmt).collect()
}

fn stmt(stmt: &rego::LiteralStmt) -> Stmt {
    let what = match &stmt.literal {
        rego::Literal::SomeVars { vars, .. } => Literal::Some(vars.iter().map(|v| v.text().into()).collect()),
        rego::Literal::SomeIn { key, value, collection, .. } => {
            Literal::SomeIn { key: key.as_deref().map(expr), value: expr(value), collection: expr(collection) }
        }
        rego::Literal::Expr { expr: e, .. } => Literal::Expr(expr(e)),
        rego::Literal::NotExpr { expr: e, .. } => Literal::Not(expr(e)),
        rego::Literal::Every { key, value, domain, query: q, .. } => {
            let vars = key.iter().chain([value]).map(|v| v.text().into()).collect();
            Literal::Every { vars, domain: expr(domain), query: query(q) }
        }
    };
    Stmt { what, with: stmt.with_mods.iter().map(|w| (expr(&w.refr), expr(&w.r#as))).collect() }
}

fn list(items: &[rego::Ref<rego::Expr>]) -> Vec<Expr> {
    items.iter().map(|e| expr(e)).collect()
}

fn boxed(e: &rego::Expr) -> Box<Expr> {
    Box::new(expr(e))
}

fn expr(e: &rego::Expr) -> Expr {
    use rego::Expr as E;
    let what = match e {
        E::String { value, span, .. } | E::RawString { value, span, .. } => match value.as_string() {
            Ok(text) => Term::Text(text.as_ref().into()),
            Err(_) => Term::Text(span.text().into()),
        },
        E::Number { span, .. } | E::Bool { span, .. } | E::Null { span, .. } => Term::Scalar(span.text().into()),
        E::Var { span, .. } => Term::Var(span.text().into()),
        E::Array { items, .. } => Term::Array(list(items)),
        E::Set { items, .. } => Term::Set(list(items)),
        E::Object { fields, .. } => Term::Object(fields.iter().map(|(_, k, v)| (expr(k), expr(v))).collect()),
        E::ArrayCompr { term, query: q, .. } | E::SetCompr { term, query: q, .. } => {
            Term::Comprehension { object: false, terms: vec![expr(term)], query: query(q) }
        }
        E::ObjectCompr { key, value, query: q, .. } => {
            Term::Comprehension { object: true, terms: vec![expr(key), expr(value)], query: query(q) }
        }
        E::Call { fcn, params, .. } => Term::Call { function: boxed(fcn), args: list(params) },
        E::UnaryExpr { expr: inner, .. } => Term::Operator(vec![expr(inner)]),
        E::RefDot { refr, field, .. } => {
            let name = field.1.as_string().map_or_else(|_| field.0.text().into(), |t| t.as_ref().into());
            let key = Expr { line: field.0.line as usize, what: Term::Text(name) };
            Term::Index { base: boxed(refr), key: Box::new(key) }
        }
        E::RefBrack { refr, index, .. } => Term::Index { base: boxed(refr), key: boxed(index) },
        E::BinExpr { lhs, rhs, .. } | E::BoolExpr { lhs, rhs, .. } | E::ArithExpr { lhs, rhs, .. } => {
            Term::Operator(vec![expr(lhs), expr(rhs)])
        }
        E::AssignExpr { op, lhs, rhs, .. } => {
            let declares = matches!(op, rego::AssignOp::ColEq);
            Term::Assign { declares, left: boxed(lhs), right: boxed(rhs) }
        }
        E::Membership { key, value, collection, .. } => {
            let mut parts: Vec<Expr> = key.iter().map(|k| expr(k)).collect();
            parts.extend([expr(value), expr(collection)]);
            Term::Operator(parts)
        }
    };
    Expr { line: e.span().line as usize, what }
}
