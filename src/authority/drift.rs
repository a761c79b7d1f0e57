//! What of an agent differs from what was attested, as its own calls show it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    call::{Observed, Sum},
    config::Attested,
};

/// What policies see of an agent that has handed nothing to a model yet. It is no difference.
pub const UNOBSERVED: &str = "unobserved";

/// Differences that policies are shown; of more there is one that says so.
const MOST_SHOWN: usize = 16;

/// What is kept of one kind: no agent can fill the memory.
const MOST_KEPT: usize = 1024;

/// In what an agent can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DriftKind {
    Model,
    SystemPrompt,
    Tool,
    DataSource,
    /// A request to a model that cannot be read as its vendor reads it.
    Request,
}

impl DriftKind {
    pub const ALL: [Self; 5] = [Self::Model, Self::SystemPrompt, Self::Tool, Self::DataSource, Self::Request];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::SystemPrompt => "system_prompt",
            Self::Tool => "tool",
            Self::DataSource => "data_source",
            Self::Request => "request",
        }
    }
}

/// What a call showed that was not known before.
#[derive(Debug, Default, PartialEq)]
pub struct News {
    /// What was seen for the first time, for the record; null when nothing was.
    pub seen: Value,
    /// The new differences.
    pub differences: Vec<(DriftKind, String)>,
}

/// What one agent showed, and what of it differs. Outlasts reloads.
#[derive(Debug)]
pub(super) struct Drift {
    seen: Mutex<Seen>,
    /// What policies are shown; only ever replaced under the lock of `seen`.
    shown: ArcSwap<Shown>,
}

type Shown = Arc<[Box<str>]>;

/// Everything an agent showed since a person last attested it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    /// It has handed something to a model.
    observed: bool,
    models: BTreeSet<Box<str>>,
    prompts: BTreeSet<Sum>,
    tools: BTreeMap<Box<str>, BTreeSet<Sum>>,
    sources: BTreeSet<Box<str>>,
    /// Why requests could not be read.
    unread: BTreeSet<Box<str>>,
    /// Those that were recorded, in the words that policies are shown.
    #[serde(skip)]
    differences: BTreeSet<String>,
}

impl Default for Drift {
    fn default() -> Self {
        Self { seen: Mutex::default(), shown: ArcSwap::from_pointee(Arc::from([UNOBSERVED.into()])) }
    }
}

impl Drift {
    /// What policies are shown.
    pub(super) fn shown(&self) -> Arc<[Box<str>]> {
        Arc::clone(&self.shown.load())
    }

    /// Takes what a call shows; it is judged by that itself.
    pub(super) fn observe(&self, attested: &Attested, call: &Observed) -> News {
        let mut seen = self.seen.lock();
        let new = seen.take(call);
        let first = call.model.is_some() && !seen.observed;
        if first {
            seen.observed = true;
        }
        if new.is_empty() && !first {
            return News::default();
        }
        let differences = seen.differ(attested);
        self.show(&seen, &differences);
        let fresh = differences.into_iter().filter(|d| seen.differences.insert(worded(d))).collect();
        News { seen: if new.is_empty() { Value::Null } else { new.into() }, differences: fresh }
    }

    /// Judges again all that was shown: after a reload. Answers the new differences.
    pub(super) fn judge(&self, attested: &Attested) -> Vec<(DriftKind, String)> {
        let mut seen = self.seen.lock();
        let differences = seen.differ(attested);
        self.show(&seen, &differences);
        let still: BTreeSet<String> = differences.iter().map(worded).collect();
        seen.differences.retain(|d| still.contains(d));
        differences.into_iter().filter(|d| seen.differences.insert(worded(d))).collect()
    }

    /// A person has attested the agent: what it showed before counts no more.
    pub(super) fn attested(&self) {
        let mut seen = self.seen.lock();
        *seen = Seen { observed: seen.observed, ..Seen::default() };
        self.show(&seen, &[]);
    }

    pub(super) fn kept(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Takes what the record says that a call showed; what of it differs is judged later.
    pub(super) fn saw(&self, new: &Value) {
        let mut seen = self.seen.lock();
        let texts = |name: &str| new[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        seen.observed |= ["models", "system_prompts", "tools", "unread"].iter().any(|name| !new[*name].is_null());
        for model in texts("models") {
            add(&mut seen.models, &model.into());
        }
        for source in texts("data_sources") {
            add(&mut seen.sources, &source.into());
        }
        for sum in texts("system_prompts").filter_map(|t| t.parse().ok()) {
            add(&mut seen.prompts, &sum);
        }
        for (name, sum) in new["tools"].as_object().into_iter().flatten() {
            if let Some(sum) = sum.as_str().and_then(|s| s.parse().ok()) {
                seen.tool(name, &sum);
            }
        }
        if let Some(why) = new["unread"].as_str() {
            add(&mut seen.unread, &why.into());
        }
    }

    /// Goes on from what was kept.
    pub(super) fn restore(&self, kept: Seen) {
        *self.seen.lock() = kept;
    }

    fn show(&self, seen: &Seen, differences: &[(DriftKind, String)]) {
        let mut shown: Vec<Box<str>> = differences.iter().take(MOST_SHOWN).map(|d| worded(d).into()).collect();
        if differences.len() > MOST_SHOWN {
            shown.push("more".into());
        }
        if !seen.observed {
            shown.push(UNOBSERVED.into());
        }
        if ***self.shown.load() != *shown {
            self.shown.store(Arc::new(shown.into()));
        }
    }
}

/// `tool: create_issue changed`
fn worded((kind, what): &(DriftKind, String)) -> String {
    format!("{}: {what}", kind.as_str())
}

impl Seen {
    /// Remembers what a call shows; answers what is new.
    fn take(&mut self, call: &Observed) -> Map<String, Value> {
        let mut new = Map::new();
        if let Some(model) = &call.model {
            if let Some(name) = &model.name
                && add(&mut self.models, name)
            {
                new.insert("models".into(), json!([name]));
            }
            let prompts: Vec<&Sum> = model.prompts.iter().filter(|p| add(&mut self.prompts, p)).collect();
            if !prompts.is_empty() {
                new.insert("system_prompts".into(), json!(prompts));
            }
            let tools: Map<String, Value> =
                model.tools.iter().filter(|(name, sum)| self.tool(name, sum)).map(|(n, s)| (n.to_string(), json!(s))).collect();
            if !tools.is_empty() {
                new.insert("tools".into(), tools.into());
            }
            if let Some(why) = &model.unread
                && add(&mut self.unread, why)
            {
                new.insert("unread".into(), json!(why));
            }
        }
        if let Some(source) = &call.source
            && add(&mut self.sources, source)
        {
            new.insert("data_sources".into(), json!([source]));
        }
        new
    }

    fn tool(&mut self, name: &str, sum: &Sum) -> bool {
        if self.tools.len() >= MOST_KEPT && !self.tools.contains_key(name) {
            return false;
        }
        add(self.tools.entry(name.into()).or_default(), sum)
    }

    fn differ(&self, attested: &Attested) -> Vec<(DriftKind, String)> {
        let mut out = Vec::new();
        if let Some(models) = &attested.models {
            let other = self.models.iter().filter(|m| !models.iter().any(|a| super::nearest::means(a, m)));
            out.extend(other.map(|m| (DriftKind::Model, m.to_string())));
        }
        if let Some(tools) = &attested.tools {
            for (name, sums) in &self.tools {
                match tools.get(name) {
                    None => out.push((DriftKind::Tool, format!("{name} added"))),
                    Some(known) if sums.iter().any(|s| !known.has(s)) => out.push((DriftKind::Tool, format!("{name} changed"))),
                    Some(_) => {}
                }
            }
        }
        if let Some(prompts) = &attested.system_prompts {
            let other = self.prompts.iter().filter(|p| !prompts.contains(p));
            out.extend(other.map(|p| (DriftKind::SystemPrompt, p.to_string())));
        }
        if let Some(sources) = &attested.data_sources {
            let other = self.sources.iter().filter(|s| !sources.iter().any(|a| holds(a, s)));
            out.extend(other.map(|s| (DriftKind::DataSource, s.to_string())));
        }
        if attested.system_prompts.is_some() || attested.tools.is_some() {
            out.extend(self.unread.iter().map(|why| (DriftKind::Request, why.to_string())));
        }
        // What is too much to keep is too much to have been attested.
        let full = [self.models.len(), self.prompts.len(), self.tools.len(), self.sources.len()].into_iter().any(|n| n >= MOST_KEPT);
        if full {
            out.push((DriftKind::Request, format!("more than {MOST_KEPT} of a kind")));
        }
        out
    }
}

/// Adds where there is room; whether it was not there.
fn add<T: Ord + Clone>(set: &mut BTreeSet<T>, value: &T) -> bool {
    set.len() < MOST_KEPT && !set.contains(value) && set.insert(value.clone())
}

/// Whether a source is the attested one, or lies below it: `github:acme` holds `github:acme/web`.
fn holds(attested: &str, source: &str) -> bool {
    super::nearest::means(attested, source)
        || source.strip_prefix(attested).is_some_and(|rest| rest.starts_with('/') || (!attested.contains(':') && rest.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{call::Offered, config::Sums};

    fn sum(text: &str) -> Sum {
        Sum::of(text.as_bytes())
    }

    fn asks(model: &str, prompts: &[&str], tools: &[(&str, &str)]) -> Observed {
        let model = Offered {
            name: Some(model.into()),
            prompts: prompts.iter().map(|p| sum(p)).collect(),
            tools: tools.iter().map(|(n, s)| ((*n).into(), sum(s))).collect(),
            unread: None,
        };
        Observed { model: Some(model), source: None }
    }

    fn reads(source: &str) -> Observed {
        Observed { model: None, source: Some(source.into()) }
    }

    fn attested() -> Attested {
        Attested {
            models: Some(vec!["claude-*".into()]),
            system_prompts: Some(vec![sum("be kind")]),
            tools: Some(BTreeMap::from([("search".into(), Sums::One(sum("search 1")))])),
            data_sources: Some(vec!["github:acme/web".into(), "aws".into()]),
        }
    }

    fn shown(drift: &Drift) -> Vec<String> {
        drift.shown().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn it_is_unobserved_until_it_asks_a_model_and_what_is_attested_is_no_drift() {
        let drift = Drift::default();
        assert_eq!(shown(&drift), ["unobserved"]);
        let news = drift.observe(&attested(), &reads("github:acme/web"));
        assert_eq!((news.seen, news.differences.len()), (json!({"data_sources": ["github:acme/web"]}), 0));
        assert_eq!(shown(&drift), ["unobserved"]);
        let news = drift.observe(&attested(), &asks("claude-5", &["be kind"], &[("search", "search 1")]));
        assert_eq!(news.differences, []);
        assert!(shown(&drift).is_empty());
        assert_eq!(drift.observe(&attested(), &asks("claude-5", &["be kind"], &[])), News::default(), "fewer is no difference");
    }

    #[test]
    fn each_difference_is_news_once_and_stays_until_a_person_attests() {
        let drift = Drift::default();
        let other = asks("gpt-5", &["be kind", "obey"], &[("search", "search 2"), ("delete_all", "x")]);
        let news = drift.observe(&attested(), &other);
        let kinds: Vec<&str> = news.differences.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(kinds, ["model", "tool", "tool", "system_prompt"]);
        let want = [
            "model: gpt-5".to_owned(),
            "tool: delete_all added".into(),
            "tool: search changed".into(),
            format!("system_prompt: {}", sum("obey")),
        ];
        assert_eq!(shown(&drift), want);
        assert_eq!(drift.observe(&attested(), &other), News::default());
        drift.observe(&attested(), &asks("claude-5", &["be kind"], &[("search", "search 1")]));
        assert_eq!(shown(&drift), want, "going back mends nothing");
        assert_eq!(drift.observe(&attested(), &reads("github:acme/secret")).differences.len(), 1);
        drift.attested();
        assert!(shown(&drift).is_empty());
        assert_eq!(drift.observe(&attested(), &other).differences.len(), 4, "and is news again");
    }

    #[test]
    fn a_reload_judges_again_what_was_seen() {
        let drift = Drift::default();
        drift.observe(&Attested::default(), &asks("gpt-5", &["obey"], &[]));
        assert!(shown(&drift).is_empty(), "what is not listed is not compared");
        assert_eq!(drift.judge(&attested()).len(), 2);
        assert_eq!(drift.judge(&attested()), [], "told once");
        let wider = Attested { models: Some(vec!["gpt-5".into()]), system_prompts: None, ..attested() };
        assert_eq!(drift.judge(&wider), []);
        assert!(shown(&drift).is_empty());
        assert_eq!(drift.judge(&attested()).len(), 2);
    }

    #[test]
    fn sources_hold_what_is_below_them() {
        for (attested, source, held) in [
            ("github:acme/web", "github:acme/web", true),
            ("github:acme", "github:acme/web", true),
            ("github", "github:acme/web", true),
            ("github:acme/w*", "github:acme/web", true),
            ("github:acme/web", "github:acme/website", false),
            ("github:acme", "github:acme2/web", false),
            ("github:acme/web", "github", false),
            ("git", "github:acme/web", false),
        ] {
            assert_eq!(holds(attested, source), held, "{attested} {source}");
        }
    }

    #[test]
    fn an_agent_that_shows_ever_more_fills_no_memory_and_is_drift() {
        let drift = Drift::default();
        for n in 0..MOST_KEPT + 50 {
            drift.observe(&Attested::default(), &reads(&format!("lab:{n}")));
        }
        assert_eq!(drift.kept().sources.len(), MOST_KEPT);
        assert_eq!(shown(&drift), [format!("request: more than {MOST_KEPT} of a kind"), "unobserved".into()]);
        let strict = Attested { data_sources: Some(vec![]), ..Attested::default() };
        drift.judge(&strict);
        assert_eq!(drift.shown().len(), MOST_SHOWN + 2);
    }
}
