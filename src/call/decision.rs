use std::sync::Arc;

use crate::refusal::Reason;

use super::Label;

/// The three answers a policy can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Allow,
    Deny,
    /// A human must approve.
    Ask,
}

impl Verdict {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
}

/// A count that the call must fit in, reserved before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LimitRule {
    pub key: Box<str>,
    pub max: u64,
    pub window: Window,
    pub unit: Unit,
    /// Whose limit it is: the place among the chain's agents, from 0. None: everyone's in the chain.
    pub link: Option<usize>,
}

impl LimitRule {
    /// A limit on calls, for everyone in the chain.
    #[must_use]
    pub fn calls(key: impl Into<Box<str>>, max: u64, window: Window) -> Self {
        Self { key: key.into(), max, window, unit: Unit::Calls, link: None }
    }
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// One for each intent.
    Calls,
    /// What a model may say: the most output tokens, as the call states them.
    Tokens,
}

/// Over what a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// The task, an ambient one with those it succeeds.
    Task,
    /// All of the agent's tasks, for as long as Remit keeps its state.
    Agent,
    /// All of the agent's tasks. Seconds; the count restarts when they have passed since its first call.
    Seconds(u64),
}

/// What of an answer reaches the agent only where that was granted: it is as good as a credential.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Returns {
    /// `Set-Cookie`.
    pub cookies: bool,
    /// What an operation mints: tokens, keys, links that log in.
    pub tokens: bool,
}

impl Returns {
    /// Each by the name it has in a grant.
    pub const NAMES: [(&'static str, Self); 2] =
        [("cookies", Self { cookies: true, tokens: false }), ("tokens", Self { cookies: false, tokens: true })];

    /// What is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { cookies: self.cookies || other.cookies, tokens: self.tokens || other.tokens }
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { cookies: self.cookies && other.cookies, tokens: self.tokens && other.tokens }
    }

    /// The names of what is in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, one)| self.and(*one) == *one).map(|(name, _)| name)
    }
}

/// What the policies said of one call, all its intents together.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub verdict: Verdict,
    /// Why, when the verdict is not `allow`: the reason code of the refusal.
    pub code: Option<Reason>,
    /// In words, for the agent, its model and its author.
    pub reasons: Vec<Box<str>>,
    /// Labels the task gets before the first byte of the answer.
    pub labels: Vec<Label>,
    pub limits: Vec<LimitRule>,
    /// The credential that the matching grant names.
    pub credential: Option<Arc<str>>,
    pub approval: Option<serde_json::Value>,
    pub scope: Option<serde_json::Value>,
    /// What its answer may hold: what every link of the chain was granted, for every intent.
    pub returns: Returns,
    /// The grants that allow it, one for each link of the chain: `workflow/number`, from 1. Empty
    /// where a policy of the user's decides and does not say.
    pub grants: Vec<Box<str>>,
}
