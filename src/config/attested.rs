//! What of an agent was reviewed, and what still is to be.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    call::Sum,
    config::{
        node::Kind,
        read::{Fields, Value, shown},
        units,
    },
};

/// What an agent was when a person looked at it. What is None is not compared; an empty list says that
/// there is to be nothing of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    /// Names, or prefixes ending in `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<Box<str>>>,
    /// By segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompts: Option<Vec<Sum>>,
    /// By name; one that changes with what it is offered for has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeMap<Box<str>, Sums>>,
    /// `provider:resource`, what is below it too; or a prefix ending in `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_sources: Option<Vec<Box<str>>>,
}

/// One digest, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sums {
    One(Sum),
    Many(Vec<Sum>),
}

impl Sums {
    #[must_use]
    pub fn has(&self, sum: &Sum) -> bool {
        match self {
            Self::One(one) => one == sum,
            Self::Many(all) => all.contains(sum),
        }
    }
}

/// When an agent was looked at, when it is to be again, and what `check` keeps quiet about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    pub last: Option<OffsetDateTime>,
    pub every: Option<Duration>,
    pub quiet: Vec<Finding>,
}

/// What `check` warns of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Owner,
    Expires,
    Review,
    Unused,
}

const FINDINGS: [(&str, Finding); 4] =
    [("owner", Finding::Owner), ("expires", Finding::Expires), ("review", Finding::Review), ("unused", Finding::Unused)];

/// `reviewed`, `review_every` and `quiet` of an agent; None when something is wrong.
pub(super) fn review(agent: &Fields<'_>) -> Option<Review> {
    let last = agent.optional("reviewed").map(|v| v.parse(units::instant));
    let every = agent.optional("review_every").map(|v| v.parse(units::duration));
    let quiet = agent.optional("quiet").map(|v| quiet(v, &FINDINGS));
    Some(Review { last: settled(last)?, every: settled(every)?, quiet: settled(quiet)?.unwrap_or_default() })
}

/// `quiet: [unused]` of a workflow.
pub(super) fn quiet_workflow(workflow: &Fields<'_>) -> Option<bool> {
    let read = workflow.optional("quiet").map(|v| quiet(v, &[("unused", Finding::Unused)]));
    Some(settled(read)?.is_some_and(|all| !all.is_empty()))
}

fn quiet(value: &Value<'_>, words: &[(&str, Finding)]) -> Option<Vec<Finding>> {
    let read: Vec<Option<Finding>> = value.list()?.iter().map(|v| v.one_of(words)).collect();
    read.into_iter().collect()
}

/// Absent stays absent; present and wrong ends it.
fn settled<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    value.map_or(Some(None), |read| read.map(Some))
}

pub(super) fn attested(value: &Value<'_>) -> Option<Attested> {
    let fields = value.fields(&["models", "system_prompts", "tools", "data_sources"])?;
    let models = fields.optional("models").map(names);
    let prompts = fields.optional("system_prompts").map(|v| all(v.list()?.iter().map(sum)));
    let tools = fields.optional("tools").map(|v| all(v.entries()?.iter().map(|(name, v)| Some((Box::from(*name), sums(v)?)))));
    let sources = fields.optional("data_sources").map(|v| {
        let names = names(v)?;
        all(v.list()?.iter().zip(names).map(|(v, name)| source(v, name)))
    });
    Some(Attested { models: settled(models)?, system_prompts: settled(prompts)?, tools: settled(tools)?, data_sources: settled(sources)? })
}

/// Everything is read before any failure counts, so that all problems show.
fn all<T, C: FromIterator<T>>(read: impl Iterator<Item = Option<T>>) -> Option<C> {
    let read: Vec<Option<T>> = read.collect();
    read.into_iter().collect()
}

fn names(value: &Value<'_>) -> Option<Vec<Box<str>>> {
    all(value.list()?.iter().map(|v| {
        let text = v.text()?;
        if text.strip_suffix('*').unwrap_or(text).contains('*') {
            v.wrong(format!("`{}` has a `*` before its end", shown(text)), "a `*` may only end it");
            return None;
        }
        Some(text.into())
    }))
}

fn source(value: &Value<'_>, name: Box<str>) -> Option<Box<str>> {
    if name.split(':').next().is_none_or(|provider| provider.is_empty() || provider.contains('/')) {
        value.wrong(format!("`{}` names no provider", shown(&name)), "write it as github:acme/web");
        return None;
    }
    Some(name)
}

fn sums(value: &Value<'_>) -> Option<Sums> {
    match value.node.kind {
        Kind::List(_) => all(value.list()?.iter().map(sum)).map(Sums::Many),
        _ => sum(value).map(Sums::One),
    }
}

fn sum(value: &Value<'_>) -> Option<Sum> {
    value.parse(|text| {
        let help = "write sha256: and 64 lower-case hex digits; `remit agents attest ID --from AUDIT` prints what was seen";
        text.parse().map_err(|_| (format!("`{}` is no digest", shown(text)), help.to_owned()))
    })
}
