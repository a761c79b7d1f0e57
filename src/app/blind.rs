use crate::{
    config::{Config, HostPattern},
    intent::Catalog,
    problem::Problem,
};

/// An agent that has attested what it hands to models must not reach one unseen.
pub(super) fn check(config: &Config, catalog: &Catalog) -> Vec<Problem> {
    let watched: Vec<_> = config.registry.agents.iter().filter(|a| a.attested.is_some()).collect();
    let (Some(agent), false) = (watched.first(), config.tls.tunnel.is_empty()) else { return Vec::new() };
    let models = catalog.model_hosts();
    let through = |pattern: &HostPattern| models.iter().find(|host| lets_through(pattern, host)).cloned();
    let problem = |host: &str| {
        let place = &agent.place;
        Problem::new(format!(
            "`{host}` is not intercepted, so what agent `{}` ({}:{}) hands to a model there could not be compared with what it has `attested`",
            agent.id,
            place.file.display(),
            place.line
        ))
        .key("tls.tunnel")
        .help("remove the host from `tunnel`, or `attested` from the agent")
    };
    let at = |p: Problem| if let Some(file) = &config.file { p.at(file, None) } else { p };
    config.tls.tunnel.iter().filter_map(through).map(|host| at(problem(&host))).collect()
}

/// Whether a pattern may mean a host as a catalog writes it, with parameters in it perhaps.
fn lets_through(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => like(host, exact.as_str()),
        HostPattern::Suffix(suffix) => {
            host.ends_with(&**suffix) || like(host.split_once('.').map_or(host, |(_, rest)| rest), suffix.trim_start_matches('.'))
        }
    }
}

/// `{name}` in a label stands for any text.
fn like(host: &str, name: &str) -> bool {
    let (catalog, named): (Vec<&str>, Vec<&str>) = (host.split('.').collect(), name.split('.').collect());
    let one = |(label, text): (&&str, &&str)| match label.split_once('{') {
        None => label == text,
        Some((before, rest)) => {
            let after = rest.rsplit_once('}').map_or("", |(_, after)| after);
            text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
        }
    };
    catalog.len() == named.len() && catalog.iter().zip(&named).all(one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Host;

    #[test]
    fn a_pattern_lets_through_what_it_may_mean() {
        let exact = |name: &str| HostPattern::Exact(Host::parse(name).unwrap());
        let suffix = |name: &str| HostPattern::Suffix(name.into());
        for (pattern, host, through) in [
            (exact("api.openai.com"), "api.openai.com", true),
            (exact("api.openai.com"), "api.anthropic.com", false),
            (exact("eu.models.example"), "{region}.models.example", true),
            (exact("eu.x.models.example"), "{region}.models.example", false),
            (suffix(".openai.com"), "api.openai.com", true),
            (suffix(".openai.com"), "openai.com", false),
            (suffix(".models.example"), "{region}.models.example", true),
            (suffix(".example.com"), "api.openai.com", false),
        ] {
            assert_eq!(lets_through(&pattern, host), through, "{pattern:?} {host}");
        }
    }
}
