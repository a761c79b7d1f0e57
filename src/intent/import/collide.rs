//! Operations of one description that would have one id, or that no request tells apart.

use std::collections::HashMap;

use crate::{call::Effect, intent::pattern::Pattern};

use super::{DraftOperation, LeftOut, derive::kebab};

/// Gives operations that share an id one of their own each, from method and path. Which ids those
/// are depends on nothing but the operations themselves.
pub(super) fn ids(operations: &mut [DraftOperation], provider: &str) {
    let mut count: HashMap<String, usize> = HashMap::new();
    for operation in operations.iter() {
        *count.entry(operation.id.clone()).or_default() += 1;
    }
    let mut taken: std::collections::HashSet<String> = count.iter().filter(|(_, n)| **n == 1).map(|(id, _)| id.clone()).collect();
    for operation in operations.iter_mut().filter(|o| count.get(&o.id).is_some_and(|n| *n > 1)) {
        let first = operation.matches.first().map_or("", String::as_str);
        let own = format!("{}-{}", operation.id, kebab(first));
        let mut id = own.clone();
        let mut number = 2;
        while !taken.insert(id.clone()) {
            id = format!("{own}-{number}");
            number += 1;
        }
        debug_assert!(id.starts_with(provider));
        operation.id = id;
        operation.uncertain = true;
    }
}

/// Leaves out operations that match the same requests as one before them, which takes on the
/// stricter effect and both their labels.
pub(super) fn shapes(operations: &mut Vec<DraftOperation>, left_out: &mut Vec<LeftOut>) {
    let mut owners: HashMap<String, usize> = HashMap::new();
    let mut gone = vec![false; operations.len()];
    for at in 0..operations.len() {
        let Some(operation) = operations.get(at) else { continue };
        // The same path on other hosts is another operation.
        let hosts = operation.hosts.join(" ");
        let shapes: Vec<String> =
            operation.matches.iter().filter_map(|m| Pattern::parse(m).ok()).map(|p| format!("{hosts} {}", p.shape())).collect();
        let Some(owner) = shapes.iter().find_map(|s| owners.get(s).copied()) else {
            owners.extend(shapes.into_iter().map(|s| (s, at)));
            continue;
        };
        let (labels, effect, id) = (operation.labels.clone(), operation.effect, operation.id.clone());
        let pointer = operation.matches.first().cloned().unwrap_or_default();
        if let Some(owner) = operations.get_mut(owner) {
            let why = format!("`{id}` matches the same requests as `{}`", owner.id);
            left_out.push(LeftOut { pointer, why });
            owner.uncertain = true;
            owner.effect = stricter(owner.effect, effect);
            owner.labels.extend(labels);
            owner.labels.sort_unstable();
            owner.labels.dedup();
        }
        if let Some(gone) = gone.get_mut(at) {
            *gone = true;
        }
    }
    let mut at = 0;
    operations.retain(|_| {
        at += 1;
        !gone.get(at - 1).copied().unwrap_or(false)
    });
}

fn stricter(a: Effect, b: Effect) -> Effect {
    let rank = |e: Effect| match e {
        Effect::Read => 0,
        Effect::Write => 1,
        Effect::Delete => 2,
        Effect::Execute => 3,
        Effect::Admin => 4,
    };
    if rank(a) >= rank(b) { a } else { b }
}
