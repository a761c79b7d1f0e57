//! Many descriptions to few catalogs: what shares a host must be matched together.
//!
//! Versions of one API give one operation the same id with several matches, so that a grant outlives
//! a version; where they contradict each other, the older keeps its version in the group
//! (`google.drive-v2.files.get`). Operations that no request tells apart become one, which also answers
//! to the other's id and has the graver effect of both.

use std::collections::{BTreeMap, HashMap};

use crate::call::Effect;

use super::{Draft, DraftBody, DraftOperation, derive::shape};

/// What was found that no request tells apart: the id that gave way, and the one that stands for both.
pub(super) type Twins = Vec<(String, String)>;

/// Puts drafts that share a host together. The order within a group is that of `drafts`.
pub(super) fn group(drafts: Vec<Draft>) -> Vec<Vec<Draft>> {
    let mut owner: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Vec<Draft>> = Vec::new();
    for draft in drafts {
        let hosts = draft.hosts.iter().chain(draft.operations.iter().flat_map(|o| &o.hosts));
        let own = draft.operations.iter().flat_map(DraftOperation::all_matches).filter_map(|m| own_host(m));
        let hosts: Vec<String> = hosts.map(String::as_str).chain(own).map(shape).collect();
        let mut into: Vec<usize> = hosts.iter().filter_map(|h| owner.get(h).copied()).collect();
        into.sort_unstable();
        into.dedup();
        let target = into.first().copied().unwrap_or_else(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        for other in into.into_iter().skip(1) {
            let moved = groups.get_mut(other).map(std::mem::take).unwrap_or_default();
            owner.values_mut().filter(|at| **at == other).for_each(|at| *at = target);
            if let Some(group) = groups.get_mut(target) {
                group.extend(moved);
            }
        }
        for host in hosts {
            owner.insert(host, target);
        }
        if let Some(group) = groups.get_mut(target) {
            group.push(draft);
        }
    }
    groups.retain(|g| !g.is_empty());
    groups
}

/// Makes one draft of a group; the first draft's operations keep their ids.
pub(super) fn merge(mut group: Vec<Draft>) -> (Draft, Twins) {
    group.sort_by_key(|draft| !draft.owns_hosts);
    let mut drafts = group.into_iter();
    let Some(mut whole) = drafts.next() else { return (Draft::default(), Twins::new()) };
    let mut ids: HashMap<String, usize> = whole.operations.iter().enumerate().map(|(i, o)| (o.id.clone(), i)).collect();
    for draft in drafts {
        for reader in draft.readers {
            if !whole.readers.contains(&reader) {
                whole.readers.push(reader);
            }
        }
        whole.body_type = whole.body_type.or(draft.body_type);
        whole.was.extend(draft.was);
        let same = draft.hosts == whole.hosts;
        for mut operation in draft.operations {
            if operation.hosts.is_empty() && !same {
                operation.hosts.clone_from(&draft.hosts);
            }
            if let Some(known) = ids.get(&operation.id).and_then(|i| whole.operations.get_mut(*i)) {
                if known.hosts == operation.hosts && join(known, &operation) {
                    continue;
                }
                operation.id = versioned(&operation.id, &draft.version);
                while ids.contains_key(&operation.id) {
                    operation.id.push_str("-2");
                }
            }
            ids.insert(operation.id.clone(), whole.operations.len());
            whole.operations.push(operation);
        }
    }
    let twins = settle(&mut whole);
    whole.operations.sort_by(|a, b| a.id.cmp(&b.id));
    (whole, twins)
}

/// `google.drive.files.get` of v2 → `google.drive-v2.files.get`.
fn versioned(id: &str, version: &str) -> String {
    let mut parts = id.splitn(3, '.');
    let (Some(provider), Some(group), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return format!("{id}-{version}") };
    format!("{provider}.{group}-{}.{name}", super::derive::kebab(version))
}

/// Adds another version's matches and parameters, when both can be one operation.
fn join(known: &mut DraftOperation, other: &DraftOperation) -> bool {
    let lower = |n: &str| n.to_ascii_lowercase();
    let path = |o: &DraftOperation| -> Vec<String> { o.all_matches().flat_map(|m| names(m)).map(|n| lower(&n)).collect() };
    let query = |o: &DraftOperation| -> Vec<String> { o.query.iter().map(|q| lower(q.split(['=', '[']).next().unwrap_or(q))).collect() };
    let body = |o: &DraftOperation| -> Vec<String> {
        if let DraftBody::Json(pairs) = &o.body { pairs.iter().map(|(n, _)| lower(n)).collect() } else { Vec::new() }
    };
    let places = |o: &DraftOperation| [path(o), query(o), body(o)];
    let (own, new) = (places(known), places(other));
    // No name may stand in two places, nor be spelt in two ways.
    for (i, mine) in own.iter().enumerate() {
        if new.iter().enumerate().any(|(j, theirs)| i != j && mine.iter().any(|n| theirs.contains(n))) {
            return false;
        }
    }
    let spelt = |o: &DraftOperation| -> Vec<String> {
        let body = if let DraftBody::Json(pairs) = &o.body { pairs.iter().map(|(n, p)| format!("{n} {p}")).collect() } else { Vec::new() };
        o.all_matches().flat_map(|m| names(m)).chain(o.query.iter().cloned()).chain(body).collect()
    };
    let (mine, theirs) = (spelt(known), spelt(other));
    let clash = theirs.iter().any(|t| !mine.contains(t) && mine.iter().any(|m| lower(first(m)) == lower(first(t))));
    let kinds = std::mem::discriminant(&known.body) == std::mem::discriminant(&other.body);
    if clash || !kinds || known.effect != other.effect {
        return false;
    }
    add(&mut known.matches, &other.matches);
    add(&mut known.streams, &other.streams);
    add(&mut known.query, &other.query);
    add(&mut known.reserved, &other.reserved);
    add(&mut known.content, &other.content);
    add(&mut known.labels, &other.labels);
    if let (DraftBody::Json(own), DraftBody::Json(new)) = (&mut known.body, &other.body) {
        add(own, new);
    }
    known.uncertain |= other.uncertain;
    known.llm |= other.llm;
    true
}

fn first(text: &str) -> &str {
    text.split([' ', '=', '[']).next().unwrap_or(text)
}

fn add<T: PartialEq + Clone>(own: &mut Vec<T>, new: &[T]) {
    for one in new {
        if !own.contains(one) {
            own.push(one.clone());
        }
    }
}

/// The names of a match's parameters.
fn names(text: &str) -> Vec<String> {
    text.split('{').skip(1).filter_map(|p| p.split('}').next()).map(|n| n.trim_start_matches('+').to_owned()).collect()
}

/// Lets one operation stand for all that the same requests mean.
fn settle(whole: &mut Draft) -> Twins {
    let mut twins = Twins::new();
    let mut taken: BTreeMap<(String, String), usize> = BTreeMap::new();
    let common = whole.hosts.clone();
    let mut gone: Vec<(usize, usize)> = Vec::new();
    for i in 0..whole.operations.len() {
        let Some(operation) = whole.operations.get(i) else { continue };
        let hosts = if operation.hosts.is_empty() { &common } else { &operation.hosts };
        let keys = |text: &str| -> Vec<(String, String)> {
            let key = shape(text);
            match own_host(text) {
                Some(own) => vec![(shape(own), key)],
                None => hosts.iter().map(|h| (shape(h), key.clone())).collect(),
            }
        };
        let all: Vec<String> = operation.all_matches().cloned().collect();
        let mut lost = Vec::new();
        for text in &all {
            let keys = keys(text);
            match keys.iter().find_map(|k| taken.get(k)).copied() {
                Some(other) if other == i => lost.push((text.clone(), None)),
                Some(other) => lost.push((text.clone(), Some(other))),
                None => taken.extend(keys.into_iter().map(|k| (k, i))),
            }
        }
        let Some(operation) = whole.operations.get_mut(i) else { continue };
        for (text, _) in &lost {
            // The first of two equal lines stays.
            for list in [&mut operation.matches, &mut operation.streams] {
                if let Some(at) = list.iter().rposition(|m| m == text) {
                    list.remove(at);
                    break;
                }
            }
        }
        let other = lost.iter().find_map(|(_, other)| *other);
        if let Some(other) = other {
            twins.push((operation.id.clone(), whole.operations.get(other).map(|o| o.id.clone()).unwrap_or_default()));
            gone.push((i, other));
        }
    }
    for (i, other) in gone {
        let Some((effect, labels, empty, id)) =
            whole.operations.get(i).map(|o| (o.effect, o.labels.clone(), o.all_matches().next().is_none(), o.id.clone()))
        else {
            continue;
        };
        let Some(kept) = whole.operations.get_mut(other) else { continue };
        if grave(effect) > grave(kept.effect) {
            kept.effect = effect;
            kept.uncertain = true;
        }
        add(&mut kept.labels, &labels);
        if empty {
            let kept = kept.id.clone();
            whole.was.push((id, kept));
        }
    }
    whole.operations.retain(|o| o.all_matches().next().is_some());
    twins
}

/// The host that a match names itself.
fn own_host(text: &str) -> Option<&str> {
    let (method, target) = text.split_once(' ')?;
    let host = target.split_once('/')?.0;
    (!host.is_empty() && method.starts_with(|c: char| c.is_ascii_uppercase())).then_some(host)
}

/// How much an effect can do.
fn grave(effect: Effect) -> u8 {
    match effect {
        Effect::Read => 0,
        Effect::Write => 1,
        Effect::Execute => 2,
        Effect::Delete => 3,
        Effect::Admin => 4,
    }
}
