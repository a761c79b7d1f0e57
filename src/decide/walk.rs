//! What a rule reads: every reference to `input` and `data` and every call, with names resolved
//! as Rego scopes them.

use std::collections::HashMap;

use super::syntax::{Body, Expr, Literal, Module, Rule, Stmt, Term};

/// One key of a reference: None where it is computed.
pub(super) type Key = Option<Box<str>>;

#[derive(Debug, Clone)]
pub(super) enum Event {
    /// `input`, with the keys that follow.
    Input { keys: Vec<Key>, line: usize },
    /// The same through a local name (`x := input.intent; x.params`): already read, so only its
    /// spelling is of interest.
    Alias { keys: Vec<Key>, line: usize },
    /// `data`, with the static keys that follow; names of the same package included.
    /// `sure`: no local name could be meant instead.
    Data { keys: Vec<Box<str>>, sure: bool },
    /// A call of something that may be a builtin or a rule.
    Call { name: Vec<Box<str>>, line: usize },
    /// `with input… as`: what is read below depends on all of `input`.
    WithInput,
    /// Any `with`.
    With,
}

/// Every event of a rule, in no particular order.
pub(super) fn events(module: &Module, rule: &Rule) -> Vec<Event> {
    let mut walker = Walker { module, scopes: vec![HashMap::new()], events: Vec::new() };
    walker.rule(rule);
    walker.events
}

/// The longest run of static keys at the start.
pub(super) fn prefix(keys: &[Key]) -> Vec<Box<str>> {
    keys.iter().map_while(Clone::clone).collect()
}

struct Walker<'a> {
    module: &'a Module,
    /// Declared names; with the `input` keys that one stands for, where it is an alias.
    scopes: Vec<HashMap<Box<str>, Option<Vec<Key>>>>,
    events: Vec<Event>,
}

impl Walker<'_> {
    fn rule(&mut self, rule: &Rule) {
        for arg in &rule.args {
            self.pattern(arg);
        }
        if rule.bodies.is_empty() {
            self.heads(rule, None);
        }
        for body in &rule.bodies {
            self.scopes.push(HashMap::new());
            self.query(&body.query);
            self.heads(rule, Some(body));
            self.scopes.pop();
        }
    }

    fn heads(&mut self, rule: &Rule, body: Option<&Body>) {
        for key in rule.head.reference().1 {
            self.expr(key);
        }
        for expr in rule.key.iter().chain(&rule.value).chain(body.and_then(|b| b.value.as_ref())) {
            self.expr(expr);
        }
    }

    fn query(&mut self, query: &[Stmt]) {
        for stmt in query {
            for (target, value) in &stmt.with {
                self.with(target, value);
            }
            match &stmt.what {
                Literal::Expr(e) | Literal::Not(e) => self.expr(e),
                Literal::Some(vars) => vars.iter().for_each(|v| self.declare(v, None)),
                Literal::SomeIn { key, value, collection } => {
                    self.expr(collection);
                    key.iter().chain([value]).for_each(|p| self.pattern(p));
                }
                Literal::Every { vars, domain, query } => {
                    self.expr(domain);
                    self.scopes.push(HashMap::new());
                    vars.iter().for_each(|v| self.declare(v, None));
                    self.query(query);
                    self.scopes.pop();
                }
            }
        }
    }

    fn with(&mut self, target: &Expr, value: &Expr) {
        self.events.push(Event::With);
        self.expr(value);
        // A function may stand in for another.
        for (side, line) in [(target, target.line), (value, value.line)] {
            if let Some(name) = side.dotted() {
                self.events.push(Event::Call { name: self.imported(name), line });
            }
        }
        let is_input = target.dotted().is_none_or(|path| path.first().is_some_and(|root| &*self.root(root) == "input"));
        if is_input {
            self.events.push(Event::WithInput);
        }
    }

    fn expr(&mut self, e: &Expr) {
        match &e.what {
            Term::Text(_) | Term::Scalar(_) => {}
            Term::Var(_) | Term::Index { .. } => self.reference(e),
            Term::Array(items) | Term::Set(items) | Term::Operator(items) => items.iter().for_each(|i| self.expr(i)),
            Term::Object(fields) => fields.iter().for_each(|(k, v)| {
                self.expr(k);
                self.expr(v);
            }),
            Term::Comprehension { terms, query, .. } => {
                self.scopes.push(HashMap::new());
                self.query(query);
                terms.iter().for_each(|t| self.expr(t));
                self.scopes.pop();
            }
            Term::Call { function, args } => self.call(function, args, e.line),
            Term::Assign { declares, left, right } => {
                self.expr(right);
                if *declares {
                    let alias = self.input_keys(right);
                    match &left.what {
                        Term::Var(name) => self.declare(name, alias),
                        _ => self.pattern(left),
                    }
                } else {
                    self.expr(left);
                }
            }
        }
    }

    fn call(&mut self, function: &Expr, args: &[Expr], line: usize) {
        let Some(name) = function.dotted() else {
            self.expr(function);
            args.iter().for_each(|a| self.expr(a));
            return;
        };
        let name = self.imported(name);
        // `object.get(input.a, "b", …)` reads `input.a.b` alone.
        let got = match (&*name.join("."), args) {
            ("object.get", [of, path, _]) => self.input_keys(of).zip(static_path(path)),
            _ => None,
        };
        self.events.push(Event::Call { name, line });
        if let Some((mut keys, more)) = got
            && keys.iter().all(Option::is_some)
        {
            keys.extend(more.into_iter().map(Some));
            self.events.push(Event::Input { keys, line });
            args.iter().skip(1).for_each(|a| self.expr(a));
        } else {
            args.iter().for_each(|a| self.expr(a));
        }
    }

    fn reference(&mut self, e: &Expr) {
        let (root, keys) = e.reference();
        for key in &keys {
            self.expr(key);
        }
        let Term::Var(name) = &root.what else { return self.expr(root) };
        let tail = keys.iter().map(|k| static_key(k));
        let local = self.local(name).cloned();
        if let Some(Some(alias)) = &local {
            let keys = alias.iter().cloned().chain(tail.clone()).collect();
            self.events.push(Event::Alias { keys, line: e.line });
        }
        let sure = local.is_none();
        let path: Vec<Key> = self.resolve(name).into_iter().map(Some).chain(tail).collect();
        let (first, rest) = path.split_at(1);
        match first.first().and_then(|k| k.as_deref()) {
            Some("input") => self.events.push(Event::Input { keys: rest.to_vec(), line: e.line }),
            _ => {
                let keys = prefix(rest);
                self.events.push(Event::Data { keys, sure });
            }
        }
    }

    /// The keys after `input` of an expression that is such a reference.
    fn input_keys(&self, e: &Expr) -> Option<Vec<Key>> {
        let (root, keys) = e.reference();
        let Term::Var(name) = &root.what else { return None };
        let tail = keys.iter().map(|k| static_key(k));
        if let Some(local) = self.local(name) {
            return local.as_ref().map(|alias| alias.iter().cloned().chain(tail).collect());
        }
        let path = self.resolve(name);
        (path.first().map(|r| &**r) == Some("input")).then(|| path.into_iter().skip(1).map(Some).chain(tail).collect())
    }

    fn local(&self, name: &str) -> Option<&Option<Vec<Key>>> {
        // These two cannot be shadowed, whatever a policy declares.
        if matches!(name, "input" | "data") { None } else { self.scopes.iter().rev().find_map(|s| s.get(name)) }
    }

    /// A name that is not local: `input`, `data`, an import, or a rule of this package.
    fn resolve(&self, name: &str) -> Vec<Box<str>> {
        match name {
            "input" | "data" => vec![name.into()],
            _ => match self.module.imports.iter().find(|(alias, _)| &**alias == name) {
                Some((_, path)) => path.clone(),
                None => std::iter::once("data".into()).chain(self.module.package.iter().cloned()).chain([name.into()]).collect(),
            },
        }
    }

    fn root(&self, name: &str) -> Box<str> {
        self.module.imports.iter().find(|(alias, _)| &**alias == name).and_then(|(_, p)| p.first().cloned()).unwrap_or_else(|| name.into())
    }

    /// A called name with its import spelt out.
    fn imported(&self, name: Vec<Box<str>>) -> Vec<Box<str>> {
        let mut parts = name.iter();
        let import = parts.next().and_then(|first| self.module.imports.iter().find(|(alias, _)| alias == first));
        match import {
            Some((_, path)) => path.iter().chain(parts).cloned().collect(),
            None => name,
        }
    }

    /// Declares every name of a pattern, and visits what is not a name.
    fn pattern(&mut self, e: &Expr) {
        match &e.what {
            Term::Var(name) => self.declare(name, None),
            Term::Array(items) => items.iter().for_each(|i| self.pattern(i)),
            Term::Object(fields) => fields.iter().for_each(|(k, v)| {
                self.expr(k);
                self.pattern(v);
            }),
            _ => self.expr(e),
        }
    }

    fn declare(&mut self, name: &str, alias: Option<Vec<Key>>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.into(), alias);
        }
    }
}

fn static_key(e: &Expr) -> Key {
    match &e.what {
        Term::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn static_path(e: &Expr) -> Option<Vec<Box<str>>> {
    match &e.what {
        Term::Text(text) => Some(vec![text.clone()]),
        Term::Array(items) => items.iter().map(static_key).collect(),
        _ => None,
    }
}
