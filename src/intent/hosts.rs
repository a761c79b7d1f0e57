//! Hosts as catalogs write them: a name, or one with parameters of one label each.

use std::{collections::HashMap, sync::Arc};

use crate::{call::Host, problem::Problem};

use super::{catalog::HostPattern, pattern::is_name, spec::Source};

/// A host of a catalog, checked.
#[derive(Debug, Clone)]
pub(super) struct HostSpec {
    pub text: String,
    pub labels: Box<[Option<Box<str>>]>,
    pub names: Box<[Arc<str>]>,
    /// What stands after the last parameter.
    pub ending: Box<str>,
}

/// Second labels under which the public registers names, where a country's domain is last.
pub(super) const REGISTRIES: [&str; 12] = ["ac", "co", "com", "edu", "gob", "gov", "gv", "mil", "ne", "net", "or", "org"];

impl HostSpec {
    /// Hosts that take the same requests have one key.
    pub(super) fn key(&self) -> String {
        let labels: Vec<&str> = self.labels.iter().map(|l| l.as_deref().unwrap_or("{}")).collect();
        labels.join(".")
    }
}

/// Parses the hosts of a file, or of one operation in it.
pub(super) fn parse(source: &Source<'_>, hosts: &[String], id: Option<&str>, problems: &mut Vec<Problem>) -> Vec<HostSpec> {
    let mut all = Vec::new();
    for text in hosts {
        match parse_one(text) {
            Ok(host) => all.push(host),
            Err(message) => problems.push(match id {
                Some(id) => source.problem(id, message),
                None => {
                    let line = source.text.lines().position(|l| l.contains(text.as_str())).map(|i| i + 1);
                    Problem::new(message).at(&source.file, line).key("hosts")
                }
            }),
        }
    }
    all
}

pub(super) fn parse_one(text: &str) -> Result<HostSpec, String> {
    let mut labels = Vec::new();
    let mut names: Vec<Arc<str>> = Vec::new();
    for label in text.split('.') {
        let name = label.strip_prefix('{').and_then(|l| l.strip_suffix('}'));
        match name {
            Some(name) if is_name(name) && !names.iter().any(|n| **n == *name) => names.push(Arc::from(name)),
            Some(name) => return Err(format!("`{name}` in `{text}` is no name for a parameter, or stands twice")),
            None if label.contains(['{', '}', '*']) => {
                return Err(format!("`{text}`: a parameter is one whole label of a host, such as `{{site}}.example.com`"));
            }
            None => {}
        }
        labels.push(if name.is_some() { None } else { Some(Box::from(label)) });
    }
    let plain = labels.iter().map(|l| l.as_deref().unwrap_or("x")).collect::<Vec<_>>().join(".");
    match Host::parse(&plain) {
        Ok(host) if host.as_str() == plain => {}
        Ok(_) => return Err(format!("`{text}`: write the host in lower case, without a port or a trailing dot")),
        Err(e) => return Err(format!("`{text}` is not a host: {e}")),
    }
    let tail: Vec<&str> = labels.iter().rev().map_while(|l| l.as_deref()).collect();
    if !names.is_empty() {
        let registry = matches!(tail.as_slice(), [country, second] if country.len() == 2 && REGISTRIES.contains(second));
        if tail.len() < 2 || registry {
            return Err(format!("`{text}` could be anybody's host: after its last parameter stands a registered domain"));
        }
    }
    let ending = tail.into_iter().rev().collect::<Vec<_>>().join(".");
    Ok(HostSpec { text: text.to_owned(), labels: labels.into(), names: names.into(), ending: ending.into() })
}

/// Whether some host fits two keys of which both have parameters: neither would come first.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (with, count) = (|k: &str| k.contains("{}"), |k: &str| k.split('.').count());
    with(a) && with(b) && count(a) == count(b) && a.split('.').zip(b.split('.')).all(|(x, y)| x == y || x == "{}" || y == "{}")
}

/// Puts patterns in the order in which they are tried: the one with most literal labels first.
pub(super) fn sort(patterns: &mut HashMap<Box<str>, Vec<HostPattern>, ahash::RandomState>) {
    for all in patterns.values_mut() {
        all.sort_by_cached_key(|p| (p.names.len(), p.labels.iter().map(|l| (l.is_none(), l.clone())).collect::<Vec<_>>()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_one_label_before_a_registered_domain() {
        let host = parse_one("{site}.api.example.com").unwrap();
        assert_eq!((&*host.ending, host.key().as_str()), ("api.example.com", "{}.api.example.com"));
        for text in [
            "{x}",
            "{x}.com",
            "{x}.co.uk",
            "a{x}.example.com",
            "*.example.com",
            "Example.com",
            "{a}.{a}.example.com",
            "a..b",
            "example.com:443",
            "example.com.",
        ] {
            assert!(parse_one(text).is_err(), "{text}");
        }
    }

    #[test]
    fn overlapping_patterns_are_seen() {
        assert!(overlap("{}.b.example.com", "a.{}.example.com"));
        assert!(!overlap("{}.b.example.com", "{}.c.example.com"));
        assert!(!overlap("a.b.example.com", "{}.b.example.com"));
    }
}
