//! Names of parameters: each once in an operation, whatever the letter case.

use crate::intent::pattern::is_name;

/// The names that an operation has given so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken(Vec<String>);

impl Taken {
    /// The parameters of hosts have names already.
    pub(super) fn from_hosts(hosts: &[String]) -> Self {
        let inner = |label: &str| label.strip_prefix('{').and_then(|l| l.strip_suffix('}')).map(str::to_owned);
        Self(hosts.iter().flat_map(|h| h.split('.')).filter_map(inner).collect())
    }

    /// A name that the catalog can use and that no other parameter has: where `name` is taken,
    /// `PLACE_name`.
    pub(super) fn clean(&mut self, name: &str, place: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        let mut clean: String = name.chars().take(100).map(|c| if fits(c) { c } else { '_' }).collect();
        if !is_name(&clean) {
            clean = "_".into();
        }
        if self.has(&clean) {
            clean = format!("{place}_{clean}");
        }
        while self.has(&clean) {
            clean.push('_');
        }
        self.0.push(clean.clone());
        clean
    }

    /// A query parameter as `query:` lists it.
    pub(super) fn query(&mut self, wire: &str, list: bool) -> String {
        let clean = self.clean(wire, "query");
        let renamed = if clean == wire { String::new() } else { format!("{clean}=") };
        format!("{renamed}{wire}{}", if list { "[]" } else { "" })
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|t| t.eq_ignore_ascii_case(name))
    }
}
