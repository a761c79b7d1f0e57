//! What the audit saw an agent be, as the registry writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::{
    call::Sum,
    cli::{records, shown},
    config::{Attested, Sums},
    problem::Problem,
};

/// Everything that an agent showed since it was last attested: a person is to look at it.
pub(super) fn learn(dir: &Path, agent: &str) -> Result<Attested, Problem> {
    if !dir.is_dir() {
        return Err(Problem::new("no directory of an audit").at(dir, None));
    }
    let mut seen = Seen::default();
    let mut called = false;
    for body in records::bodies(dir, "") {
        let data = &body["data"];
        match (body["event"].as_str(), body["kind"].as_str()) {
            (Some("observed"), _) if data["agent"] == agent => seen.take(&data["seen"]),
            (Some("attested"), _) if data["agent"] == agent => seen = Seen::default(),
            (_, Some("decision")) if body["agent"] == agent => called = true,
            _ => {}
        }
    }
    if let Some(why) = seen.unread {
        let problem = Problem::new(format!("a request of `{agent}` to a model could not be read: {why}")).at(dir, None);
        return Err(problem.help("mend what it sends, since what was not seen cannot be attested"));
    }
    if seen.models.is_empty() && seen.sources.is_empty() {
        let why = if called {
            "is not observed: write `attested: {}` below it in the registry, and let it run"
        } else {
            "made no call that is on record there"
        };
        return Err(Problem::new(format!("agent `{}` {why}", shown(agent))).at(dir, None));
    }
    Ok(Attested {
        models: Some(seen.models.into_iter().collect()),
        system_prompts: Some(seen.prompts.into_iter().collect()),
        tools: Some(seen.tools.into_iter().map(|(name, sums)| (name, of(sums))).collect()),
        data_sources: Some(seen.sources.into_iter().collect()),
    })
}

fn of(sums: BTreeSet<Sum>) -> Sums {
    let mut all: Vec<Sum> = sums.into_iter().collect();
    match (all.len(), all.pop()) {
        (1, Some(one)) => Sums::One(one),
        (_, last) => Sums::Many(all.into_iter().chain(last).collect()),
    }
}

#[derive(Default)]
struct Seen {
    models: BTreeSet<Box<str>>,
    prompts: BTreeSet<Sum>,
    tools: BTreeMap<Box<str>, BTreeSet<Sum>>,
    sources: BTreeSet<Box<str>>,
    unread: Option<String>,
}

impl Seen {
    fn take(&mut self, seen: &Value) {
        let texts = |name: &str| seen[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        self.models.extend(texts("models").map(Box::from));
        self.prompts.extend(texts("system_prompts").filter_map(|t| t.parse::<Sum>().ok()));
        self.sources.extend(texts("data_sources").map(Box::from));
        for (name, sum) in seen["tools"].as_object().into_iter().flatten() {
            let sum = sum.as_str().and_then(|s| s.parse::<Sum>().ok());
            self.tools.entry(name.as_str().into()).or_default().extend(sum);
        }
        if let Some(why) = seen["unread"].as_str() {
            self.unread = Some(why.to_owned());
        }
    }
}

/// As it stands below the agent in a registry file.
pub(super) fn yaml(agent: &str, learnt: &Attested) -> String {
    let mut out = format!("# what agent {} was seen to be: look at it, then paste it below the agent\nattested:\n", shown(agent));
    let list = |out: &mut String, name: &str, all: Vec<String>| {
        if all.is_empty() {
            out.push_str(&format!("  {name}: []\n"));
        } else {
            out.push_str(&format!("  {name}:\n"));
            all.iter().for_each(|one| out.push_str(&format!("    - {one}\n")));
        }
    };
    let quoted = |text: &str| Value::from(text).to_string();
    let texts = |all: &Option<Vec<Box<str>>>| all.iter().flatten().map(|t| quoted(t)).collect();
    list(&mut out, "models", texts(&learnt.models));
    list(&mut out, "system_prompts", learnt.system_prompts.iter().flatten().map(|s| quoted(&s.to_string())).collect());
    match learnt.tools.as_ref().filter(|tools| !tools.is_empty()) {
        None => out.push_str("  tools: {}\n"),
        Some(tools) => {
            out.push_str("  tools:\n");
            for (name, sums) in tools {
                let sums = match sums {
                    Sums::One(one) => quoted(&one.to_string()),
                    Sums::Many(all) => format!("[{}]", all.iter().map(|s| quoted(&s.to_string())).collect::<Vec<_>>().join(", ")),
                };
                out.push_str(&format!("    {}: {sums}\n", quoted(name)));
            }
        }
    }
    list(&mut out, "data_sources", texts(&learnt.data_sources));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_printed_is_what_the_registry_reads() {
        let sums = |texts: &[&str]| -> BTreeSet<Sum> { texts.iter().map(|t| Sum::of(t.as_bytes())).collect() };
        let learnt = Attested {
            models: Some(vec!["claude: \"5\"".into(), "gpt-5".into()]),
            system_prompts: Some(sums(&["a", "b"]).into_iter().collect()),
            tools: Some(BTreeMap::from([("no: yes".into(), of(sums(&["a"]))), ("x\u{202e}".into(), of(sums(&["a", "b"])))])),
            data_sources: Some(vec![]),
        };
        for learnt in [
            learnt,
            Attested {
                models: Some(vec![]),
                system_prompts: Some(vec![]),
                tools: Some(BTreeMap::new()),
                data_sources: Some(vec!["github:acme/web".into()]),
            },
        ] {
            let below: String = yaml("bot", &learnt).lines().map(|l| format!("    {l}\n")).collect();
            let text = format!("version: 1\nagents:\n  - id: bot\n    owner: a@acme.example\n{below}");
            let config = Config::parse(&text, Path::new(""), Path::new("remit.yaml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(config.registry.agents[0].attested.as_ref(), Some(&learnt), "{text}");
        }
    }
}
