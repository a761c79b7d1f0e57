use std::{collections::HashSet, io, path::Path};

use serde_json::Value;

use super::{files, line::Kind};

/// Which calls to show; what is None or empty shows all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub agent: Option<String>,
    pub task: Option<String>,
    /// Whom the task is for: the id, or a prefix ending in `*`.
    pub principal: Option<String>,
    /// An intent's id, or a prefix ending in `*`.
    pub intent: Option<String>,
    /// Parameters and their values, or prefixes of these ending in `*`; one intent must have all.
    pub resource: Vec<(String, String)>,
    /// `allow`, `deny`, `ask`.
    pub decision: Option<String>,
}

/// A filter that has met the tasks that are for its principal: a decision names its task only.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    filter: Filter,
    /// The tasks of the principal, where one is asked for.
    tasks: HashSet<String>,
}

impl Filter {
    fn shows_intents(&self, decision: &Value) -> bool {
        if self.intent.is_none() && self.resource.is_empty() {
            return true;
        }
        let intents = decision["intents"].as_array().map(Vec::as_slice).unwrap_or_default();
        intents.iter().any(|i| {
            let named = self.intent.as_deref().is_none_or(|want| i["id"].as_str().is_some_and(|id| means(want, id)));
            named && self.resource.iter().all(|(name, want)| is(&i["params"][name.as_str()], want))
        })
    }
}

impl Sieve {
    pub(super) fn new(filter: Filter) -> Self {
        Self { filter, tasks: HashSet::new() }
    }

    /// Reads the starts of tasks in a log, where the filter asks whom they are for.
    pub(super) fn learn(&mut self, dir: &Path) -> io::Result<()> {
        if self.filter.principal.is_none() {
            return Ok(());
        }
        files::each(dir, |_, record| {
            if record.kind() == Kind::Task
                && let Ok(body) = serde_json::from_slice(record.body)
            {
                self.meet(&body);
            }
        })
    }

    /// Remembers a task when it is for the principal.
    pub(super) fn meet(&mut self, task: &Value) {
        if let Some(want) = &self.filter.principal
            && task["principal"]["id"].as_str().is_some_and(|id| means(want, id))
            && let Some(id) = task["id"].as_str()
        {
            self.tasks.insert(id.to_owned());
        }
    }

    pub(super) fn shows(&self, decision: &Value) -> bool {
        let filter = &self.filter;
        let is = |want: &Option<String>, key: &str| want.as_deref().is_none_or(|w| decision[key] == w);
        let for_principal = || filter.principal.is_none() || decision["task"].as_str().is_some_and(|t| self.tasks.contains(t));
        is(&filter.agent, "agent")
            && is(&filter.task, "task")
            && is(&filter.decision, "decision")
            && for_principal()
            && filter.shows_intents(decision)
    }
}

/// Whether `pattern` (a text, or a prefix and `*`) means `text`.
fn means(pattern: &str, text: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == text, |prefix| text.starts_with(prefix))
}

/// Whether a parameter is what was asked for; one that is no text, by its JSON.
fn is(value: &Value, want: &str) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => means(want, text),
        Value::Array(all) => all.iter().any(|v| is(v, want)),
        other => means(want, &other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decision() -> Value {
        json!({"agent": "a", "task": "t-1", "decision": "allow", "intents": [
            {"id": "github.issues.get", "params": {"owner": "acme", "repo": "web", "number": 7}},
            {"id": "github.issues.create", "params": {"owner": "acme", "repo": "docs", "labels": ["bug", "ui"]}}]})
    }

    fn shows(filter: Filter) -> bool {
        Sieve::new(filter).shows(&decision())
    }

    #[test]
    fn one_intent_must_be_and_have_all_that_is_asked_for() {
        let filter = |intent: &str, resource: &[(&str, &str)]| Filter {
            intent: (!intent.is_empty()).then(|| intent.to_owned()),
            resource: resource.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            ..Filter::default()
        };
        for (intent, resource, shown) in [
            ("github.issues.*", &[("repo", "web")][..], true),
            ("github.issues.get", &[("repo", "docs")], false),
            ("", &[("repo", "web"), ("number", "7")], true),
            ("", &[("repo", "web"), ("number", "70")], false),
            ("", &[("repo", "docs"), ("labels", "ui")], true),
            ("", &[("repo", "do*")], true),
            ("", &[("branch", "*")], false),
        ] {
            assert_eq!(shows(filter(intent, resource)), shown, "{intent} {resource:?}");
        }
    }

    #[test]
    fn a_principal_is_found_by_the_tasks_that_are_for_it() {
        let of = |principal: &str| Filter { principal: Some(principal.into()), ..Filter::default() };
        let started = json!({"kind": "task", "id": "t-1", "principal": {"id": "alice@acme.example"}});
        for (principal, shown) in [("alice@acme.example", true), ("alice@*", true), ("bob@acme.example", false)] {
            let mut sieve = Sieve::new(of(principal));
            assert!(!sieve.shows(&decision()), "not before its task was met");
            sieve.meet(&started);
            assert_eq!(sieve.shows(&decision()), shown, "{principal}");
        }
    }
}
