//! What a config says and nothing will ever use: identities that nobody can prove.

use crate::{
    config::{Config, IdentitySpec},
    problem::Problem,
};

impl Config {
    /// Identities that call without a task, and that nothing configured verifies. Others may stand there to
    /// name the agent.
    #[must_use]
    pub fn unproved(&self) -> Vec<Problem> {
        let rules = self.registry.agents.iter().flat_map(|agent| &agent.identities);
        let clusters = self.issuers.iter().any(|i| i.kubernetes);
        rules
            .filter(|rule| rule.workflow.is_some())
            .filter_map(|rule| {
                let (what, help) = match rule.what {
                    IdentitySpec::Spiffe(_) if self.spiffe.is_none() => ("no SVID is verified here", "add `spiffe:`"),
                    IdentitySpec::ServiceAccount { .. } if !clusters => {
                        ("no cluster's token is verified here", "add an issuer with `kubernetes:`")
                    }
                    _ => return None,
                };
                let message = format!("nobody can prove this identity: {what}");
                Some(Problem::new(message).at(&rule.place.file, Some(rule.place.line)).key("identities").help(help))
            })
            .collect()
    }
}
