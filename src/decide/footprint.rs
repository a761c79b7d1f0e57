//! What the loaded policies can read of the input: what a cache key has to hold, and no more.
//!
//! Sound without knowing what a policy computes: an evaluation sees the input only where the
//! policy's text says `input`, and each such place depends on the value at its static keys alone.
//! So the footprint is the union of those places over every rule that the entry point may reach;
//! an alias, a computed key, `walk` or a function argument only makes the place coarser.

use std::{collections::BTreeSet, path::PathBuf};

use serde::Serialize;

use super::{
    contract::{Leaf, PATHS},
    engine,
    graph::{Graph, Node},
    walk::{self, Event},
};

/// What a key holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    /// Sorted, without `Params`.
    pub(super) leaves: BTreeSet<Leaf>,
    pub(super) params: Params,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Params {
    All,
    Named(BTreeSet<Box<str>>),
}

/// What `remit policy footprint` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Input paths that can be read, each with all that is below it.
    pub reads: Vec<String>,
    /// False when some rule forbids caching.
    pub cacheable: bool,
    pub uncacheable: Vec<Uncacheable>,
}

/// A rule whose decisions cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Uncacheable {
    pub rule: String,
    pub file: PathBuf,
    pub line: usize,
    pub why: String,
}

impl Default for Params {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

/// The footprint of `entry`. `wheres`: the parameters that the registry's `where` constraints name.
pub(super) fn of(graph: &Graph<'_>, entry: usize, wheres: &BTreeSet<Box<str>>) -> (Footprint, Report) {
    let reachable = graph.reachable(entry);
    let nodes: Vec<&Node<'_>> = reachable.iter().filter_map(|at| graph.nodes.get(*at)).collect();
    let trusted = !nodes.iter().any(|n| !n.is_builtin() && reads_authz(graph, n));
    let mut footprint = Footprint::default();
    let mut reads = BTreeSet::new();
    let mut uncacheable = BTreeSet::new();
    for node in &nodes {
        let narrow = if trusted { bound_of(node) } else { Bound::No };
        for event in &node.events {
            match event {
                Event::Input { keys, .. } => footprint.read(&walk::prefix(keys), keys.len(), narrow, wheres, &mut reads),
                Event::WithInput => footprint.read(&[], 0, Bound::No, wheres, &mut reads),
                Event::Call { name, line } if engine::builtin_is_volatile(&name.join(".")) => {
                    uncacheable.extend(node.rules.first().map(|(m, _)| Uncacheable {
                        rule: node.title(),
                        file: PathBuf::from(&*m.file),
                        line: *line,
                        why: format!("calls {}, whose answer changes", name.join(".")),
                    }));
                }
                _ => {}
            }
        }
    }
    let report =
        Report { reads: reads.into_iter().collect(), cacheable: uncacheable.is_empty(), uncacheable: uncacheable.into_iter().collect() };
    (footprint, report)
}

/// Where the policy that ships reads `input.intent.params` with a computed key, and what bounds
/// that key. Each of these rules says so in its comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    No,
    /// A name that the registry's `where` constraints hold.
    Registry,
    /// A name that the task's delegated grants hold.
    Delegated,
}

fn bound_of(node: &Node<'_>) -> Bound {
    if !node.is_builtin() {
        return Bound::No;
    }
    match &*node.path.join(".") {
        "remit.authz.met" | "remit.authz.given" => Bound::Registry,
        "remit.authz.delegated_param" => Bound::Delegated,
        _ => Bound::No,
    }
}

/// Whether a user's rule reads the rules that ship, which could then be asked for any name.
fn reads_authz(graph: &Graph<'_>, node: &Node<'_>) -> bool {
    node.reads.iter().filter_map(|at| graph.nodes.get(*at)).any(Node::is_builtin)
}

impl Footprint {
    fn read(&mut self, prefix: &[Box<str>], keys: usize, narrow: Bound, wheres: &BTreeSet<Box<str>>, reads: &mut BTreeSet<String>) {
        let path: Vec<&str> = prefix.iter().map(|k| &**k).collect();
        if let ["intent", "params", rest @ ..] = path.as_slice() {
            match (rest.first(), narrow) {
                (Some(name), _) => self.name([*name], reads),
                (None, Bound::Registry) if keys > path.len() => self.name(wheres.iter().map(|w| &**w), reads),
                (None, Bound::Delegated) if keys > path.len() => {
                    self.leaves.extend([Leaf::Delegated, Leaf::Task]);
                    reads.insert("input.intent.params (those that the task's delegated grants name)".to_owned());
                }
                (None, _) => {
                    self.params = Params::All;
                    reads.insert("input.intent.params".to_owned());
                }
            }
            return;
        }
        reads.insert(["input"].iter().chain(&path).copied().collect::<Vec<_>>().join("."));
        for (at, leaf) in PATHS {
            if at.starts_with(&path) || path.starts_with(at) {
                if leaf == Leaf::Params {
                    self.params = Params::All;
                } else {
                    self.leaves.insert(leaf);
                }
            }
        }
    }

    fn name<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, reads: &mut BTreeSet<String>) {
        for name in names {
            reads.insert(format!("input.intent.params.{name}"));
            if let Params::Named(known) = &mut self.params {
                known.insert(name.into());
            }
        }
    }
}
