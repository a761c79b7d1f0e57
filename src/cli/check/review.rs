//! What a person should look at: agents that nobody owns, that expire or were not reviewed, and what
//! nobody used for a while, as the audit says.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use serde_json::Value;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    cli::records,
    config::{AgentSpec, Finding, Place, Status},
    enforce::Rules,
    problem::Problem,
};

/// Who expires within it is told; what nobody used for it is unused.
const A_WHILE: Duration = Duration::days(30);

/// Owners that are none.
const NOBODY: [&str; 10] = ["nobody", "none", "unknown", "todo", "tbd", "fixme", "n/a", "na", "-", "?"];

/// Everything that is to be said about a configuration that is right. `audit`: where it records, if anywhere.
pub(super) fn findings(rules: &Rules, audit: Option<&Path>, now: OffsetDateTime) -> Vec<Problem> {
    let mut out: Vec<Problem> = Vec::new();
    for agent in &rules.config.registry.agents {
        out.extend([owner(agent), expires(agent, now), review(agent, now)].into_iter().flatten());
    }
    if let Some(used) = audit.and_then(|dir| Used::read(dir, rules, now)) {
        let active = rules.config.registry.agents.iter().filter(|a| a.status == Status::Active);
        out.extend(active.filter_map(|agent| unused(agent, &used)));
        out.extend(unused_grants(rules, &used));
    }
    out
}

fn at(place: &Place, message: String, help: &str) -> Problem {
    Problem::new(message).at(&place.file, Some(place.line).filter(|l| *l > 0)).help(help)
}

fn loud(agent: &AgentSpec, finding: Finding) -> bool {
    !agent.review.quiet.contains(&finding)
}

fn owner(agent: &AgentSpec) -> Option<Problem> {
    let nobody = agent.owner.trim().is_empty() || NOBODY.contains(&agent.owner.trim().to_ascii_lowercase().as_str());
    (nobody && loud(agent, Finding::Owner)).then(|| {
        let message = format!("agent `{}` is owned by nobody (`owner: {}`)", agent.id, agent.owner);
        at(&agent.place, message, "name who answers for it, such as team@example.org; or write `quiet: [owner]`")
    })
}

fn expires(agent: &AgentSpec, now: OffsetDateTime) -> Option<Problem> {
    let end = agent.expires.filter(|end| *end < now + A_WHILE && loud(agent, Finding::Expires) && agent.status == Status::Active)?;
    let message = if end <= now {
        format!("the registration of agent `{}` has expired, on {}", agent.id, end.date())
    } else {
        format!("the registration of agent `{}` expires in {} days, on {}", agent.id, (end - now).whole_days(), end.date())
    };
    Some(at(&agent.place, message, "move `expires`, retire it with `status: retired`, or write `quiet: [expires]`"))
}

fn review(agent: &AgentSpec, now: OffsetDateTime) -> Option<Problem> {
    let every = Duration::try_from(agent.review.every?).ok()?;
    if !loud(agent, Finding::Review) || agent.status == Status::Retired {
        return None;
    }
    let help = "look at what it may do, then write the day in `reviewed:`; or write `quiet: [review]`";
    match agent.review.last {
        None => Some(at(&agent.place, format!("agent `{}` is to be reviewed and never was", agent.id), help)),
        Some(last) if last + every < now => {
            let message =
                format!("agent `{}` was last reviewed on {}, and is to be every {} days", agent.id, last.date(), every.whole_days());
            Some(at(&agent.place, message, help))
        }
        Some(_) => None,
    }
}

fn unused(agent: &AgentSpec, used: &Used) -> Option<Problem> {
    if used.agents.contains(&*agent.id) || !loud(agent, Finding::Unused) {
        return None;
    }
    let message = format!("agent `{}` has made no call for {} days", agent.id, A_WHILE.whole_days());
    Some(at(&agent.place, message, "retire it with `status: retired`, or write `quiet: [unused]`"))
}

/// Grants of workflows that somebody used: of the others it is enough to say that nobody did.
fn unused_grants(rules: &Rules, used: &Used) -> Vec<Problem> {
    let bound: HashSet<&str> = rules.config.registry.agents.iter().flat_map(|a| &a.workflows).map(|w| &**w).collect();
    let mut out = Vec::new();
    for workflow in rules.config.registry.workflows.iter().filter(|w| !w.quiet && bound.contains(&*w.id)) {
        let days = A_WHILE.whole_days();
        if !used.grants.contains_key(&*workflow.id) {
            let message = format!("no grant of workflow `{}` was used for {days} days", workflow.id);
            out.push(at(&workflow.place, message, "remove the workflow, or write `quiet: [unused]` in it"));
            continue;
        }
        for (n, grant) in workflow.grants.iter().enumerate() {
            if used.grants.get(&*workflow.id).is_none_or(|all| !all.contains(&n)) {
                let message = format!("grant {} of workflow `{}` was not used for {days} days", n + 1, workflow.id);
                out.push(at(&grant.place, message, "remove the grant, or write `quiet: [unused]` in the workflow"));
            }
        }
    }
    out
}

/// What the audit saw in the last while.
#[derive(Default)]
struct Used {
    agents: HashSet<String>,
    /// By workflow; numbers from 0.
    grants: HashMap<String, HashSet<usize>>,
}

impl Used {
    /// None when the log does not reach back that far: then nothing can be said.
    fn read(dir: &Path, rules: &Rules, now: OffsetDateTime) -> Option<Self> {
        let since = now - A_WHILE;
        let mut used = Self::default();
        let mut workflows: HashMap<String, String> = HashMap::new();
        let mut seen: HashMap<(String, String), Option<usize>> = HashMap::new();
        let mut reaches = false;
        for body in records::bodies(dir, "") {
            let time = body["time"].as_str().and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
            let recent = time.is_some_and(|t| t >= since);
            reaches |= time.is_some_and(|t| t < since);
            match body["kind"].as_str() {
                Some("task") if body["event"] == "started" => {
                    if let (Some(id), Some(workflow)) = (body["id"].as_str(), body["workflow"].as_str()) {
                        workflows.insert(id.to_owned(), workflow.to_owned());
                    }
                }
                Some("decision") if recent => {
                    let workflow = body["task"].as_str().and_then(|t| workflows.get(t)).map(String::as_str);
                    used.decided(&body, workflow, rules, &mut seen);
                }
                _ => {}
            }
        }
        reaches.then_some(used)
    }

    /// A record made by what is written today names its grants; of another the grant that covers it today counts.
    fn decided(&mut self, body: &Value, workflow: Option<&str>, rules: &Rules, seen: &mut HashMap<(String, String), Option<usize>>) {
        self.agents.extend(body["agent"].as_str().map(str::to_owned));
        if body["decision"] != "allow" {
            return;
        }
        if body["policy"] == rules.decider.revision() {
            let named = body["grants"].as_array().into_iter().flatten().filter_map(|g| g.as_str()?.rsplit_once('/'));
            for (workflow, number) in named {
                if let Some(n) = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1)) {
                    self.grants.entry(workflow.to_owned()).or_default().insert(n);
                }
            }
            return;
        }
        let Some(workflow) = workflow else { return };
        for intent in body["intents"].as_array().into_iter().flatten() {
            let key = (workflow.to_owned(), intent.to_string());
            let covers = seen.entry(key).or_insert_with(|| {
                let near = rules.registry.explain(workflow, &records::intent(rules, intent)?)?;
                near.lacked.is_empty().then_some(near.index)
            });
            if let Some(n) = covers {
                self.grants.entry(workflow.to_owned()).or_default().insert(*n);
            }
        }
    }
}
