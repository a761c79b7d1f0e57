use std::borrow::Cow;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::{
    Scope,
    narrow::{narrow, union},
};
use crate::{
    call::{Intent, Param, Task},
    config::ScopeSpec,
    credential::issue::IssueCredential,
    problem::Problem,
};

/// What is asked for which intents: the first that matches.
#[derive(Debug)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    spec: ScopeSpec,
    ask: Template,
    /// The parameters that it fills in.
    uses: Vec<Box<str>>,
}

/// What of a call decides what is asked: its rule, and the values that this fills in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uses {
    rule: usize,
    values: SmallVec<[Box<str>; 2]>,
}

/// What is asked, with places for values.
#[derive(Debug)]
enum Template {
    Text(Vec<Part>),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
    /// A number, or true or false.
    Fixed(Value),
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Param(Box<str>),
    Fact(Fact),
}

#[derive(Debug, Clone, Copy)]
enum Fact {
    Task,
    Principal,
    Agent,
}

const FACTS: [(&str, Fact); 3] = [("task.id", Fact::Task), ("principal.id", Fact::Principal), ("agent.id", Fact::Agent)];

impl Rules {
    /// # Errors
    /// A place for a value that is not closed, or names none.
    pub(crate) fn new(specs: &[ScopeSpec]) -> Result<Self, Problem> {
        let rule = |spec: &ScopeSpec| {
            let mut uses = Vec::new();
            let ask = Template::map(&spec.ask, &mut uses)
                .map_err(|why| Problem::new(why).at(spec.place.file.clone(), Some(spec.place.line)).key("scope"))?;
            Ok(Rule { spec: spec.clone(), ask, uses })
        };
        specs.iter().map(rule).collect::<Result<_, _>>().map(Self)
    }

    /// The rules with the parameters that each fills in: for the check against the catalog.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (&ScopeSpec, &[Box<str>])> {
        self.0.iter().map(|rule| (&rule.spec, &*rule.uses))
    }

    /// Whether `uses` is what `intent` decides; without an allocation.
    pub(crate) fn same(&self, uses: &Uses, intent: &Intent) -> bool {
        let found = self.0.iter().position(|rule| rule.spec.matches(intent));
        let Some(rule) = found.filter(|rule| *rule == uses.rule).and_then(|rule| self.0.get(rule)) else { return false };
        rule.uses
            .iter()
            .zip(&uses.values)
            .all(|(name, value)| matches!(intent.params.lookup(name), Some(Param::Text(text)) if text == value))
    }

    /// What `intent` decides; None where a value is no text, or no rule matches.
    pub(crate) fn uses_of(&self, intent: &Intent) -> Option<Uses> {
        let rule = self.0.iter().position(|rule| rule.spec.matches(intent))?;
        let values = self.0.get(rule)?.uses.iter().map(|name| match intent.params.lookup(name) {
            Some(Param::Text(text)) => Some(text.clone()),
            _ => None,
        });
        Some(Uses { rule, values: values.collect::<Option<_>>()? })
    }

    /// What is asked for a call of these intents, all of it, narrowed by what the policy said.
    ///
    /// # Errors
    /// Why nothing can be asked, in words.
    pub(crate) fn ask(&self, issuer: &dyn IssueCredential, task: &Task, intents: &[Intent], by: Option<&Value>) -> Result<Scope, String> {
        let level = |word: &str| issuer.level(word);
        let mut asked: Option<Map<String, Value>> = None;
        for intent in intents {
            let Some(rule) = self.0.iter().find(|rule| rule.spec.matches(intent)) else {
                return Err(format!("no `scope` of it is for {}: it says what is asked for which intents", intent.id()));
            };
            let fill = Fill { issuer, task, intent };
            let Value::Object(map) = fill.template(&rule.ask)? else { continue };
            asked = Some(match asked {
                None => map,
                Some(before) => union(before, map, &level)?,
            });
        }
        let asked = asked.ok_or_else(|| "the call asks for nothing".to_owned())?;
        match by {
            None => Ok(Scope::new(asked)),
            Some(Value::Object(by)) => {
                narrow(&asked, by, &level).map(Scope::new).map_err(|why| format!("the policy's `scope` is no part of what is asked: {why}"))
            }
            Some(_) => Err("the policy's `scope` is no object".to_owned()),
        }
    }
}

impl Template {
    fn map(map: &Map<String, Value>, uses: &mut Vec<Box<str>>) -> Result<Self, String> {
        let one = |(name, value): (&String, &Value)| Ok((name.clone(), Self::of(value, uses)?));
        map.iter().map(one).collect::<Result<_, String>>().map(Self::Map)
    }

    fn of(value: &Value, uses: &mut Vec<Box<str>>) -> Result<Self, String> {
        match value {
            Value::String(text) => parts(text, uses).map(Self::Text),
            Value::Array(all) => all.iter().map(|v| Self::of(v, uses)).collect::<Result<_, _>>().map(Self::List),
            Value::Object(map) => Self::map(map, uses),
            other => Ok(Self::Fixed(other.clone())),
        }
    }
}

/// `{{` and `}}` stand for themselves.
fn parts(text: &str, uses: &mut Vec<Box<str>>) -> Result<Vec<Part>, String> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            plain.push_str(from.get(..1).unwrap_or_default());
            rest = after;
            continue;
        }
        let named = from.strip_prefix('{').and_then(|f| f.split_once('}'));
        let Some((name, after)) = named.filter(|(name, _)| !name.is_empty() && !name.contains('{')) else {
            return Err(format!("{text:?} has a brace that names no parameter; a brace as such is written twice"));
        };
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain).into()));
        }
        parts.push(match FACTS.iter().find(|(fact, _)| *fact == name) {
            Some((_, fact)) => Part::Fact(*fact),
            None => {
                if !uses.iter().any(|u| **u == *name) {
                    uses.push(name.into());
                }
                Part::Param(name.into())
            }
        });
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts)
}

/// Fills in the values of one intent.
struct Fill<'a> {
    issuer: &'a dyn IssueCredential,
    task: &'a Task,
    intent: &'a Intent,
}

impl Fill<'_> {
    fn template(&self, template: &Template) -> Result<Value, String> {
        match template {
            Template::Fixed(value) => Ok(value.clone()),
            Template::Text(parts) => self.text(parts).map(Value::String),
            Template::Map(all) => {
                let one = |(name, template): &(String, Template)| Ok((name.clone(), self.template(template)?));
                all.iter().map(one).collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            Template::List(all) => {
                let mut list = Vec::with_capacity(all.len());
                for template in all {
                    match self.spliced(template) {
                        Some(values) => list.extend(values?),
                        None => list.push(self.template(template)?),
                    }
                }
                Ok(Value::Array(list))
            }
        }
    }

    /// A parameter that is a list itself, standing alone in a list: its members.
    fn spliced(&self, template: &Template) -> Option<Result<Vec<Value>, String>> {
        let Template::Text(parts) = template else { return None };
        let [Part::Param(name)] = parts.as_slice() else { return None };
        let Some(Param::Json(Value::Array(all))) = self.intent.params.lookup(name) else { return None };
        let one = |value: &Value| {
            let text = value.as_str().ok_or_else(|| format!("the parameter `{name}` holds something other than texts"))?;
            self.fit(name, text).map(|text| Value::String(text.into_owned()))
        };
        Some(all.iter().map(one).collect())
    }

    fn text(&self, parts: &[Part]) -> Result<String, String> {
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Param(name) => out.push_str(&self.param(name)?),
                Part::Fact(Fact::Task) => out.push_str(&self.fit("task.id", self.task.id.as_str())?),
                Part::Fact(Fact::Principal) => out.push_str(&self.fit("principal.id", &self.task.principal.id)?),
                Part::Fact(Fact::Agent) => out.push_str(&self.fit("agent.id", &self.task.agent.id)?),
            }
        }
        Ok(out)
    }

    fn param(&self, name: &str) -> Result<Cow<'_, str>, String> {
        match self.intent.params.lookup(name) {
            Some(Param::Text(text)) => self.fit(name, text),
            Some(Param::Json(Value::String(text))) => self.fit(name, text),
            Some(Param::Json(Value::Number(number))) => Ok(Cow::Owned(number.to_string())),
            Some(Param::Json(_)) => Err(format!("the parameter `{name}` of {} is no text that could be filled in", self.intent.id())),
            None => Err(format!("this call of {} has no parameter `{name}` to fill into what is asked", self.intent.id())),
        }
    }

    fn fit<'v>(&self, name: &str, value: &'v str) -> Result<Cow<'v, str>, String> {
        if value.is_empty() {
            return Err(format!("the parameter `{name}` is empty: what is asked would not be narrowed by it"));
        }
        self.issuer.value(value).ok_or_else(|| format!("the value of `{name}` would ask for more than itself"))
    }
}
