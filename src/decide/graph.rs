//! Which rule reads which: reachability, recursion, depth.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    syntax::{Module, Rule, RuleKind},
    walk::{self, Event},
};

/// Rules by their path (`remit.guardrails.deny`), with what each reads.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
}

/// Every definition of one path.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) path: Vec<Box<str>>,
    pub(super) rules: Vec<(&'a Module, &'a Rule)>,
    pub(super) events: Vec<Event>,
    /// Nodes that this one may read.
    pub(super) reads: BTreeSet<usize>,
    /// … and that it does read, whatever a local name hides: what recursion is judged by.
    pub(super) calls: BTreeSet<usize>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(modules: &'a [Module]) -> Self {
        let mut by_path: BTreeMap<Vec<Box<str>>, Vec<(&Module, &Rule)>> = BTreeMap::new();
        for module in modules {
            for rule in &module.rules {
                let path: Vec<Box<str>> = module.package.iter().chain(&rule.name).cloned().collect();
                by_path.entry(path).or_default().push((module, rule));
            }
        }
        let paths: Vec<Vec<Box<str>>> = by_path.keys().cloned().collect();
        let nodes = by_path.into_iter().map(|(path, rules)| {
            let events: Vec<Event> = rules.iter().flat_map(|(m, r)| walk::events(m, r)).collect();
            let package = rules.first().map(|(m, _)| m.package.clone()).unwrap_or_default();
            let (mut reads, mut calls) = (BTreeSet::new(), BTreeSet::new());
            for event in &events {
                for (target, sure) in targets(event, &paths, &package) {
                    reads.insert(target);
                    if sure {
                        calls.insert(target);
                    }
                }
            }
            Node { path, rules, events, reads, calls }
        });
        Self { nodes: nodes.collect() }
    }

    pub(super) fn find(&self, path: &[&str]) -> Option<usize> {
        self.nodes.iter().position(|n| n.path.iter().map(|p| &**p).eq(path.iter().copied()))
    }

    /// Everything that evaluating `from` may read, itself included.
    pub(super) fn reachable(&self, from: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(at) = todo.pop() {
            if seen.insert(at)
                && let Some(node) = self.nodes.get(at)
            {
                todo.extend(&node.reads);
            }
        }
        seen
    }

    /// A cycle, from a rule back to itself.
    pub(super) fn cycle(&self) -> Option<Vec<usize>> {
        let mut done = vec![false; self.nodes.len()];
        (0..self.nodes.len()).find_map(|start| self.cycle_from(start, &mut Vec::new(), &mut done))
    }

    /// The longest chain of rules that read each other. Call it when there is no cycle.
    pub(super) fn depth(&self) -> usize {
        let mut known = vec![0; self.nodes.len()];
        (0..self.nodes.len()).map(|at| self.depth_from(at, &mut known)).max().unwrap_or(0)
    }

    fn cycle_from(&self, at: usize, path: &mut Vec<usize>, done: &mut [bool]) -> Option<Vec<usize>> {
        if let Some(start) = path.iter().position(|p| *p == at) {
            return path.get(start..).map(|cycle| cycle.iter().copied().chain([at]).collect());
        }
        if std::mem::replace(done.get_mut(at)?, true) {
            return None;
        }
        path.push(at);
        let found = self.nodes.get(at)?.calls.iter().find_map(|next| self.cycle_from(*next, path, done));
        path.pop();
        found
    }

    fn depth_from(&self, at: usize, known: &mut [usize]) -> usize {
        if let Some(depth) = known.get(at).filter(|d| **d > 0) {
            return *depth;
        }
        let below = self.nodes.get(at).map(|n| n.calls.iter().map(|next| self.depth_from(*next, known)).max().unwrap_or(0));
        let depth = below.unwrap_or(0) + 1;
        if let Some(slot) = known.get_mut(at) {
            *slot = depth;
        }
        depth
    }
}

impl Node<'_> {
    pub(super) fn title(&self) -> String {
        format!("data.{}", self.path.join("."))
    }

    pub(super) fn is_function(&self) -> bool {
        self.rules.iter().any(|(_, r)| r.kind == RuleKind::Function)
    }

    /// Whether every definition came with Remit.
    pub(super) fn is_builtin(&self) -> bool {
        self.rules.iter().all(|(m, _)| m.builtin)
    }
}

/// The nodes that an event may read, and whether it surely does.
fn targets(event: &Event, paths: &[Vec<Box<str>>], package: &[Box<str>]) -> Vec<(usize, bool)> {
    let (keys, sure): (Vec<Box<str>>, bool) = match event {
        Event::Data { keys, sure, .. } => (keys.clone(), *sure),
        Event::Call { name, .. } => match name.split_first() {
            Some((root, rest)) if &**root == "data" => (rest.to_vec(), true),
            _ => (package.iter().chain(name).cloned().collect(), true),
        },
        _ => return Vec::new(),
    };
    let related = |path: &[Box<str>]| path.starts_with(&keys) || keys.starts_with(path);
    paths.iter().enumerate().filter(|(_, path)| related(path)).map(|(at, _)| (at, sure)).collect()
}
