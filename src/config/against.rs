//! Grants against the catalog: what no call could ever match is a mistake, not a grant.

use crate::{
    call::{Effect, Label, UNKNOWN_HOST},
    config::{
        GrantSpec, RegistrySpec, WorkflowSpec,
        read::{bounded, near, shown},
    },
    problem::{Problem, Problems},
};

/// The id of the intent for a tunnel to a host that no catalog knows; else `PROVIDER.tunnel`.
const TUNNEL: &str = "tunnel";

/// What a check of grants needs of one operation of the catalog.
#[derive(Debug, Clone)]
pub struct OperationFacts<'c> {
    pub id: &'c str,
    pub effect: Effect,
    pub labels: &'c [Label],
    /// Names of its parameters.
    pub params: Vec<&'c str>,
}

impl OperationFacts<'_> {
    /// Whether only a grant that names it exactly covers it.
    fn named_only(&self) -> bool {
        let beyond = [Label::MintsCredential, Label::SharesAccess, Label::SendsElsewhere];
        self.effect == Effect::Admin || self.labels.iter().any(|l| beyond.contains(l))
    }
}

impl RegistrySpec {
    /// Checks every grant against the catalog's operations.
    ///
    /// # Errors
    /// An intent that matches no operation, with the nearest; a pattern whose operations a pattern
    /// cannot cover, or none of which has an effect of the grant; a `where` on a parameter that
    /// no operation of the grant has.
    pub fn check_against(&self, operations: &[OperationFacts<'_>]) -> Result<(), Problems> {
        let mut sorted: Vec<&OperationFacts<'_>> = operations.iter().collect();
        sorted.sort_unstable_by_key(|o| o.id);
        let mut problems = Vec::new();
        for workflow in &self.workflows {
            for (index, grant) in workflow.grants.iter().enumerate() {
                let place = GrantPlace { workflow, index, grant };
                problems.extend(check(&place, &sorted));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Problems(bounded(problems))) }
    }
}

/// One grant and how to name it.
struct GrantPlace<'a> {
    workflow: &'a WorkflowSpec,
    index: usize,
    grant: &'a GrantSpec,
}

impl GrantPlace<'_> {
    fn problem(&self, key: &str, message: String, help: String) -> Problem {
        let place = &self.grant.place;
        let line = (place.line > 0).then_some(place.line);
        Problem::new(message).at(&*place.file, line).key(format!("{}.grants[{}].{key}", self.workflow.id, self.index)).help(help)
    }
}

fn check(place: &GrantPlace<'_>, sorted: &[&OperationFacts<'_>]) -> Vec<Problem> {
    let grant = place.grant;
    let mut problems = Vec::new();
    let mut covered: Vec<&OperationFacts<'_>> = Vec::new();
    let mut unlisted = false;
    if grant.intents.is_empty() {
        covered.extend(sorted.iter().filter(|o| covers(grant, o, true)));
    }
    for intent in &grant.intents {
        let matching = matching(intent, sorted);
        let pattern = intent.ends_with('*');
        let before = covered.len();
        covered.extend(matching.iter().filter(|o| covers(grant, o, pattern)));
        if is_unlisted(intent, sorted) {
            unlisted = true;
        } else if matching.is_empty() {
            problems.push(place.problem("intents", format!("no operation is `{}`", shown(intent)), nearest_intent(intent, sorted)));
        } else if covered.len() == before {
            problems.push(empty(place, intent, matching));
        }
    }
    if problems.is_empty() && !unlisted {
        problems.extend(unmatched(place, &covered));
    }
    problems
}

/// Whether a grant covers an operation that its intents match.
fn covers(grant: &GrantSpec, operation: &OperationFacts<'_>, pattern: bool) -> bool {
    (grant.effects.is_empty() || grant.effects.contains(&operation.effect)) && !(pattern && operation.named_only())
}

/// The operations that an intent or a prefix matches.
fn matching<'s, 'c>(intent: &str, sorted: &'s [&'c OperationFacts<'c>]) -> &'s [&'c OperationFacts<'c>] {
    let (start, fits): (&str, fn(&str, &str) -> bool) = match intent.strip_suffix('*') {
        Some(prefix) => (prefix, |id, prefix| id.starts_with(prefix)),
        None => (intent, |id, intent| id == intent),
    };
    let from = sorted.partition_point(|o| o.id < start);
    let rest = sorted.get(from..).unwrap_or_default();
    rest.get(..rest.partition_point(|o| fits(o.id, start))).unwrap_or_default()
}

/// `unknown` and `tunnel`, and these of a provider that has operations: no catalog lists them, and they may be granted.
fn is_unlisted(intent: &str, sorted: &[&OperationFacts<'_>]) -> bool {
    match intent.rsplit_once('.') {
        Some((provider, UNKNOWN_HOST | TUNNEL)) => !matching(&format!("{provider}.*"), sorted).is_empty(),
        Some(_) => false,
        None => matches!(intent, UNKNOWN_HOST | TUNNEL),
    }
}

fn nearest_intent(intent: &str, sorted: &[&OperationFacts<'_>]) -> String {
    let ids = sorted.iter().map(|o| o.id);
    let found = match intent.strip_suffix('*') {
        None => near(intent, ids).map(str::to_string),
        Some(prefix) => {
            // the groups and providers a prefix could have meant
            let wanted = prefix.strip_suffix('.').unwrap_or(prefix);
            let depth = wanted.matches('.').count() + 1;
            let stems = ids.filter_map(|id| id.match_indices('.').nth(depth - 1).and_then(|(at, _)| id.get(..at)));
            near(wanted, stems).map(|stem| format!("{stem}.*"))
        }
    };
    match found {
        Some(id) => format!("did you mean `{id}`?"),
        None => "see `remit intents search`".to_string(),
    }
}

/// Why an intent that matches operations covers none of them.
fn empty(place: &GrantPlace<'_>, intent: &str, matching: &[&OperationFacts<'_>]) -> Problem {
    let by_effect = matching.iter().filter(|o| covers(place.grant, o, false));
    if let Some(operation) = by_effect.clone().next() {
        let message =
            format!("`{}` covers nothing: a `*` covers no operation that administers, shares access or mints credentials", shown(intent));
        return place.problem("intents", message, format!("name each, such as `{}`", operation.id));
    }
    let mut effects: Vec<&str> = matching.iter().map(|o| o.effect.as_str()).collect();
    effects.sort_unstable();
    effects.dedup();
    let message = format!("no operation of `{}` has an effect of this grant", shown(intent));
    place.problem("effects", message, format!("their effects: {}", effects.join(", ")))
}

/// `where` parameters that no covered operation has.
fn unmatched(place: &GrantPlace<'_>, covered: &[&OperationFacts<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if covered.is_empty() {
        problems.push(place.problem(
            "effects",
            "no operation of the catalog has an effect of this grant".to_string(),
            "name its intents".to_string(),
        ));
        return problems;
    }
    for (name, _) in &place.grant.constraints {
        if covered.iter().any(|o| o.params.contains(&&**name)) {
            continue;
        }
        let mut known: Vec<&str> = covered.iter().flat_map(|o| o.params.iter().copied()).collect();
        known.sort_unstable();
        known.dedup();
        let help = match near(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "they have no parameters; remove it".to_string(),
            None => format!("they have {}", known.iter().take(12).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
        };
        problems.push(place.problem("where", format!("no operation of the grant has a parameter `{}`", shown(name)), help));
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn operations() -> Vec<OperationFacts<'static>> {
        let op = |id, effect, labels, params: &[&'static str]| OperationFacts { id, effect, labels, params: params.to_vec() };
        vec![
            op("github.issues.list", Effect::Read, &[], &["owner", "repo"]),
            op("github.issues.create", Effect::Write, &[], &["owner", "repo", "title"]),
            op("github.repos.delete", Effect::Admin, &[], &["owner", "repo"]),
            op("github.apps.create-token", Effect::Write, &[Label::MintsCredential], &["id"]),
            op("openai.models.list", Effect::Read, &[], &[]),
        ]
    }

    fn problems(grant: &str) -> String {
        let text = format!("version: 1\nworkflows:\n  - id: w\n    purpose: p\n    max_lifetime: 1m\n    grants:\n      - {grant}\n");
        let config = Config::parse(&text, Path::new(""), Path::new("remit.yaml")).unwrap();
        config.registry.check_against(&operations()).map_or_else(|p| p.to_string(), |()| String::new())
    }

    #[test]
    fn grants_that_some_call_can_match_pass() {
        for grant in [
            "{intents: [github.issues.list], where: {owner: acme}}",
            "{intents: [github.*], where: {title: x}}",
            "{intents: [github.repos.delete, github.apps.create-token]}",
            "{effects: [read], where: {owner: acme}}",
            "{intents: [\"*\"]}",
            "{intents: [unknown, github.unknown]}",
            "{intents: [tunnel, github.tunnel], where: {host: github.com}}",
        ] {
            assert_eq!(problems(grant), "", "{grant}");
        }
    }

    #[test]
    fn grants_that_no_call_can_match_are_named_with_the_nearest() {
        for (grant, want) in [
            (
                "{intents: [github.issues.lst]}",
                "remit.yaml:7: w.grants[0].intents: no operation is `github.issues.lst`; did you mean `github.issues.list`?",
            ),
            ("{intents: [githib.*]}", "remit.yaml:7: w.grants[0].intents: no operation is `githib.*`; did you mean `github.*`?"),
            (
                "{intents: [github.isues.*]}",
                "remit.yaml:7: w.grants[0].intents: no operation is `github.isues.*`; did you mean `github.issues.*`?",
            ),
            ("{intents: [zzz]}", "remit.yaml:7: w.grants[0].intents: no operation is `zzz`; see `remit intents search`"),
            ("{intents: [zzz.unknown]}", "remit.yaml:7: w.grants[0].intents: no operation is `zzz.unknown`; see `remit intents search`"),
            (
                "{intents: [github.repos.*]}",
                "remit.yaml:7: w.grants[0].intents: `github.repos.*` covers nothing: a `*` covers no operation that administers, \
                 shares access or mints credentials; name each, such as `github.repos.delete`",
            ),
            (
                "{intents: [openai.*], effects: [write]}",
                "remit.yaml:7: w.grants[0].effects: no operation of `openai.*` has an effect of this grant; their effects: read",
            ),
            (
                "{intents: [github.issues.*], where: {ower: acme}}",
                "remit.yaml:7: w.grants[0].where: no operation of the grant has a parameter `ower`; did you mean `owner`?",
            ),
            (
                "{intents: [openai.models.list], where: {model: x}}",
                "remit.yaml:7: w.grants[0].where: no operation of the grant has a parameter `model`; they have no parameters; remove it",
            ),
            (
                "{effects: [execute]}",
                "remit.yaml:7: w.grants[0].effects: no operation of the catalog has an effect of this grant; name its intents",
            ),
        ] {
            assert_eq!(problems(grant), want, "{grant}");
        }
    }
}
