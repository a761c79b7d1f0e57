//! The guardrails that ship, as the configuration switches them on: their text, and beside it what
//! the configuration says, written as rules. Written, because a rule that names a parameter costs the
//! cache one parameter, and one that looks its name up costs it all of them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    config::{Exfiltration, HostPattern, OwnProvider, Policies},
    decide,
    intent::Catalog,
    problem::Problem,
};

/// What `policies.guardrails` switches on.
pub(super) fn sources(policies: &Policies, catalog: &Catalog) -> Vec<decide::Guardrail> {
    let Some(spec) = &policies.exfiltration else { return Vec::new() };
    let text = include_str!("../../policies/guardrails/exfiltration.rego");
    vec![
        decide::Guardrail { file: "remit/guardrails/exfiltration.rego".into(), text: text.into() },
        decide::Guardrail { file: "remit/guardrails/exfiltration-own.rego".into(), text: own(spec, catalog) },
    ]
}

/// What is named there must be in some catalog.
pub(super) fn check(policies: &Policies, catalog: &Catalog) -> Vec<Problem> {
    let Some(spec) = &policies.exfiltration else { return Vec::new() };
    let providers: BTreeSet<&str> = catalog.providers().map(|p| &*p.id).collect();
    let parameters = catalog.parameter_names();
    let mut problems = Vec::new();
    for provider in &spec.providers {
        let at = |message: String, help: String| {
            Problem::new(message).at(&*provider.place.file, Some(provider.place.line)).key("policies.guardrails.exfiltration").help(help)
        };
        if !providers.contains(&*provider.id) {
            let near = crate::problem::nearest(&provider.id, providers.iter().copied());
            let help = near.map_or_else(|| "name one that a catalog has".to_owned(), |n| format!("did you mean `{n}`?"));
            problems.push(at(format!("no catalog has a provider `{}`", provider.id), help));
        }
        for (name, _) in provider.params.iter().filter(|(name, _)| !parameters.contains(&**name)) {
            let near = crate::problem::nearest(name, parameters.iter().map(String::as_str));
            let help = near.map_or_else(|| "name one that its operations have".to_owned(), |n| format!("did you mean `{n}`?"));
            problems.push(at(format!("no operation has a parameter `{name}`"), help));
        }
    }
    problems
}

/// The rules `own`.
fn own(spec: &Exfiltration, catalog: &Catalog) -> String {
    let mut text = String::from("package remit.guardrails.exfiltration\n");
    for host in &spec.hosts {
        text.push_str(&match host {
            HostPattern::Exact(host) => format!("\nown if input.request.host == {}\n", Value::from(host.as_str())),
            HostPattern::Suffix(suffix) => format!("\nown if endswith(input.request.host, {})\n", Value::from(&**suffix)),
        });
    }
    for provider in &spec.providers {
        text.push_str(&of_provider(provider, catalog));
    }
    text
}

fn of_provider(provider: &OwnProvider, catalog: &Catalog) -> String {
    let mut lines = vec![format!("\tinput.intent.provider == {}", Value::from(&*provider.id))];
    let mut helpers = String::new();
    for (place, (name, values)) in provider.params.iter().enumerate() {
        // Each parameter in a rule of its own: any of its values will do.
        let rule = format!("own_{}_{place}", provider.id.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        for value in values {
            let value = if catalog.is_folded(name) { value.to_lowercase() } else { value.to_string() };
            let given = format!("input.intent.params[{}]", Value::from(&**name));
            helpers.push_str(&match value.strip_suffix('*') {
                Some(prefix) => {
                    format!("\n{rule} if {{\n\tis_string({given})\n\tstartswith({given}, {})\n}}\n", Value::from(prefix))
                }
                None => format!("\n{rule} if {given} == {}\n", Value::from(value)),
            });
        }
        lines.push(format!("\t{rule}"));
    }
    format!("\nown if {{\n{}\n}}\n{helpers}", lines.join("\n"))
}
