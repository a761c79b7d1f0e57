//! A task with everything it did and handed down, as a tree.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
};

use serde::Serialize;
use serde_json::Value;

use super::{
    Call, files,
    line::{CallId, Kind},
};

/// One task of a delegation, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tree {
    /// The record of its beginning; null when that file is not here any more.
    pub task: Value,
    /// The record of its end.
    pub ended: Option<Value>,
    /// Its calls, what else happened to it, and the tasks that were started below it, by time.
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    Call(Call),
    /// The body of an `event` record that names the task: drift, a succession.
    Event(Value),
    Child(Tree),
}

/// The task `id` and all below it, out of the logs in `dirs`; None when no record names it.
///
/// # Errors
/// When a directory cannot be read.
pub fn tree(dirs: &[PathBuf], id: &str) -> io::Result<Option<Tree>> {
    let mut links = Links::default();
    for dir in dirs {
        files::each(dir, |_, record| links.see(record.kind(), record.body))?;
    }
    let parents = links.parents();
    let mut found = Found { wanted: below(&parents, id), ..Found::default() };
    for dir in dirs {
        files::each(dir, |chain, record| found.see(&chain.id, record.seq, record.kind(), record.call_id(), record.body))?;
    }
    Ok(found.into_tree(&parents, id))
}

/// What ties tasks together.
#[derive(Debug, Default)]
struct Links {
    /// Task → the task that it is part of.
    parents: HashMap<String, String>,
    /// Delegation token → the task that handed it on, and the one that it began: they are of two processes.
    handed: HashMap<String, String>,
    began: HashMap<String, String>,
}

impl Links {
    fn see(&mut self, kind: Kind, body: &[u8]) {
        let mark: &[u8] = match kind {
            Kind::Task => b"\"parent\":",
            Kind::Decision => b"\"delegation\":{\"jti\":",
            _ => return,
        };
        if memchr::memmem::find(body, mark).is_none() {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let token = &body["delegation"];
        if let (Kind::Task, Some(child), Some(parent)) = (kind, body["id"].as_str(), body["parent"].as_str()) {
            self.parents.insert(child.to_owned(), parent.to_owned());
        } else if let (Some(task), Some(jti)) = (body["task"].as_str(), token["jti"].as_str()) {
            let side = if token["to"].is_null() { &mut self.began } else { &mut self.handed };
            side.entry(jti.to_owned()).or_insert_with(|| task.to_owned());
        }
    }

    fn parents(self) -> HashMap<String, String> {
        let Self { mut parents, handed, began } = self;
        for (jti, child) in began {
            if let Some(parent) = handed.get(&jti).filter(|parent| **parent != child) {
                parents.entry(child).or_insert_with(|| parent.clone());
            }
        }
        parents
    }
}

/// A task's id and those of all below it.
fn below(parents: &HashMap<String, String>, id: &str) -> HashSet<String> {
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    for (child, parent) in parents {
        children.entry(parent).or_default().push(child);
    }
    let mut wanted = HashSet::new();
    let mut next = vec![id];
    while let Some(id) = next.pop() {
        if wanted.insert(id.to_owned()) {
            next.extend(children.get(id).into_iter().flatten());
        }
    }
    wanted
}

/// What the records of the wanted tasks say.
#[derive(Default)]
struct Found {
    wanted: HashSet<String>,
    started: HashMap<String, Value>,
    ended: HashMap<String, Value>,
    items: HashMap<String, Vec<Item>>,
    /// Calls that have no outcome yet: whose, and the place among that task's items.
    open: HashMap<CallId, (String, usize)>,
}

impl Found {
    fn see(&mut self, chain: &str, seq: u64, kind: Kind, call: Option<CallId>, body: &[u8]) {
        if kind == Kind::Outcome {
            if let Some((task, at)) = call.and_then(|id| self.open.remove(&id))
                && let Some(Item::Call(call)) = self.items.get_mut(&task).and_then(|items| items.get_mut(at))
            {
                call.outcome = serde_json::from_slice(body).ok();
            }
            return;
        }
        if !matches!(kind, Kind::Task | Kind::Decision | Kind::Event) {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let named = match kind {
            Kind::Task => &body["id"],
            Kind::Decision => &body["task"],
            _ => &body["data"]["task"],
        };
        let Some(task) = named.as_str().filter(|id| self.wanted.contains(*id)).map(str::to_owned) else { return };
        match kind {
            Kind::Task if body["event"] == "started" => drop(self.started.insert(task, body)),
            Kind::Task => drop(self.ended.insert(task, body)),
            Kind::Decision => {
                let items = self.items.entry(task.clone()).or_default();
                if let Some(id) = call {
                    self.open.insert(id, (task, items.len()));
                }
                items.push(Item::Call(Call { chain: chain.to_owned(), seq, decision: body, outcome: None }));
            }
            _ => self.items.entry(task).or_default().push(Item::Event(body)),
        }
    }

    fn into_tree(mut self, parents: &HashMap<String, String>, id: &str) -> Option<Tree> {
        // Leaves first: a task is built when all below it are, without recursion on what a log says.
        let up = |at: &str| parents.get(at).filter(|_| at != id).map(String::as_str);
        let depth = |from: &str| std::iter::successors(Some(from), |at| up(at)).take(parents.len() + 1).count();
        let mut order: Vec<String> = self.wanted.iter().filter(|w| *w != id).cloned().collect();
        order.sort_by_cached_key(|id| (std::cmp::Reverse(depth(id)), id.clone()));
        for below in order {
            let Some(tree) = self.take(&below) else { continue };
            if let Some(parent) = parents.get(&below) {
                self.items.entry(parent.clone()).or_default().push(Item::Child(tree));
            }
        }
        self.take(id)
    }

    fn take(&mut self, id: &str) -> Option<Tree> {
        let (task, ended, items) = (self.started.remove(id), self.ended.remove(id), self.items.remove(id));
        if task.is_none() && ended.is_none() && items.is_none() {
            return None;
        }
        let mut items = items.unwrap_or_default();
        items.sort_by(|a, b| a.time().cmp(b.time()));
        Some(Tree { task: task.unwrap_or_default(), ended, items })
    }
}

impl Item {
    fn time(&self) -> &str {
        let body = match self {
            Self::Call(call) => &call.decision,
            Self::Event(body) => body,
            Self::Child(tree) => &tree.task,
        };
        body["time"].as_str().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn id(n: usize) -> String {
        format!("t-{n}")
    }

    fn count(tree: &Tree) -> usize {
        1 + tree.items.iter().map(|i| if let Item::Child(child) = i { count(child) } else { 0 }).sum::<usize>()
    }

    proptest! {
        /// Whatever a log says of parents, circles too, every task stands in the tree at most once.
        #[test]
        fn every_task_below_stands_in_the_tree_once(links in prop::collection::vec(0usize..12, 12), root in 0usize..12) {
            let parents: HashMap<String, String> = links.iter().enumerate().filter(|(n, p)| *n != **p).map(|(n, p)| (id(n), id(*p))).collect();
            let wanted = below(&parents, &id(root));
            let started = (0..12).map(|n| (id(n), json!({"id": id(n), "time": format!("{n:02}")}))).collect();
            let tree = Found { wanted: wanted.clone(), started, ..Found::default() }.into_tree(&parents, &id(root)).unwrap();
            prop_assert_eq!(&tree.task["id"], &json!(id(root)));
            prop_assert_eq!(count(&tree), wanted.len());
        }
    }

    #[test]
    fn a_token_ties_the_tasks_of_two_processes() {
        let mut links = Links::default();
        // As records are written: the token's id comes first.
        let token = |jti: &str, side: &str, task: &str| format!(r#"{{"task":"{task}","delegation":{{"jti":"{jti}","{side}":"agent"}}}}"#);
        let mut see = |kind, body: &str| links.see(kind, body.as_bytes());
        see(Kind::Decision, &token("j1", "from", "t-1"));
        see(Kind::Decision, &token("j1", "to", "t-0"));
        see(Kind::Decision, &token("j2", "from", "t-2"));
        see(Kind::Decision, &token("j3", "to", "t-0"));
        see(Kind::Task, r#"{"id":"t-3","parent":"t-1"}"#);
        let parents = links.parents();
        assert_eq!(parents, HashMap::from([(id(1), id(0)), (id(3), id(1))]));
        assert_eq!(below(&parents, &id(0)).len(), 3);
    }

    #[test]
    fn what_is_below_comes_by_time_among_the_calls() {
        let parents = HashMap::from([(id(1), id(0)), (id(2), id(1))]);
        let mut found = Found { wanted: below(&parents, &id(0)), ..Found::default() };
        let call: CallId = *b"d-01234567890123456789012345";
        let mut see = |kind, call, body: Value| found.see("c", 1, kind, call, body.to_string().as_bytes());
        see(Kind::Task, None, json!({"event": "started", "id": "t-1", "time": "2"}));
        see(Kind::Decision, Some(call), json!({"task": "t-0", "time": "1"}));
        see(Kind::Task, None, json!({"event": "started", "id": "t-0", "time": "0"}));
        see(Kind::Event, None, json!({"event": "drift", "time": "3", "data": {"task": "t-0"}}));
        see(Kind::Outcome, Some(call), json!({"status": 200}));
        see(Kind::Task, None, json!({"event": "ended", "id": "t-1", "why": "asked", "time": "4"}));
        see(Kind::Decision, None, json!({"task": "t-other", "time": "1"}));
        let tree = found.into_tree(&parents, &id(0)).unwrap();
        let [Item::Call(first), Item::Child(child), Item::Event(event)] = &tree.items[..] else { panic!("{tree:#?}") };
        assert_eq!((&first.outcome.as_ref().unwrap()["status"], &event["event"]), (&json!(200), &json!("drift")));
        assert_eq!((&child.task["id"], &child.ended.as_ref().unwrap()["why"]), (&json!("t-1"), &json!("asked")));
    }
}
