//! Which agent a proven identity is, by the registry's rules.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use serde_json::{Map, Value};

use crate::{
    call::{Identity, Proof},
    config::{IdentitySpec, RegistrySpec},
    refusal::{Reason, Refusal},
};

/// An agent that an identity stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    pub agent: Arc<str>,
    /// The workflow of calls that show no task.
    pub workflow: Option<Arc<str>>,
}

/// The rules of all agents; finding costs the same with ten of them and ten thousand.
#[derive(Debug, Default)]
pub struct Identities {
    spiffe: HashMap<Arc<str>, Mapped, RandomState>,
    /// By `namespace/name`, and by its issuer where the rule names one.
    accounts: HashMap<Account, Mapped, RandomState>,
    /// By issuer: for each list of claims that rules ask for, what each list of values means.
    tokens: HashMap<Arc<str>, Vec<Shape>, RandomState>,
}

/// `namespace/name`, and the issuer that a rule names.
type Account = (Arc<str>, Option<Arc<str>>);

/// The rules that ask for the same claims.
#[derive(Debug)]
struct Shape {
    claims: Vec<Box<str>>,
    values: HashMap<Vec<Value>, Vec<Mapped>, RandomState>,
}

impl Identities {
    #[must_use]
    pub fn new(registry: &RegistrySpec) -> Self {
        let mut all = Self::default();
        for agent in &registry.agents {
            for rule in &agent.identities {
                let mapped = Mapped { agent: agent.id.clone(), workflow: rule.workflow.clone() };
                match &rule.what {
                    IdentitySpec::Spiffe(id) => drop(all.spiffe.insert(id.clone(), mapped)),
                    IdentitySpec::ServiceAccount { name, issuer } => drop(all.accounts.insert((name.clone(), issuer.clone()), mapped)),
                    IdentitySpec::Jwt { issuer, claims } => all.add(issuer, claims, mapped),
                }
            }
        }
        all
    }

    fn add(&mut self, issuer: &Arc<str>, claims: &[(Box<str>, Value)], mapped: Mapped) {
        let (names, values): (Vec<_>, Vec<_>) = claims.iter().cloned().unzip();
        let shapes = self.tokens.entry(issuer.clone()).or_default();
        let shape = match shapes.iter().position(|s| s.claims == names) {
            Some(at) => shapes.get_mut(at),
            None => {
                shapes.push(Shape { claims: names, values: HashMap::default() });
                shapes.last_mut()
            }
        };
        if let Some(shape) = shape {
            shape.values.entry(values).or_default().push(mapped);
        }
    }

    /// The one agent that a proof stands for.
    ///
    /// # Errors
    /// `unknown_agent` for none, with how to register it, and for several.
    pub fn agent_of(&self, proof: &Proof) -> Result<&Mapped, Refusal> {
        match &proof.identity {
            Identity::Spiffe(id) => self.spiffe.get(id).ok_or_else(|| nobody(&proof.identity, &format!("{{spiffe: \"{id}\"}}"))),
            Identity::ServiceAccount { issuer, name } => {
                let of = |issuer: Option<&Arc<str>>| self.accounts.get(&(name.clone(), issuer.cloned()));
                of(Some(issuer)).or_else(|| of(None)).ok_or_else(|| nobody(&proof.identity, &format!("{{service_account: {name}}}")))
            }
            Identity::Token { issuer, subject } => self.by_claims(issuer, subject, proof),
        }
    }

    fn by_claims(&self, issuer: &Arc<str>, subject: &str, proof: &Proof) -> Result<&Mapped, Refusal> {
        let shapes = self.tokens.get(issuer).map_or(&[][..], |s| s);
        let mut fits = shapes.iter().filter_map(|shape| shape.values.get(&shape.values_in(&proof.claims)?)).flatten();
        let Some(first) = fits.next() else {
            return Err(nobody(&proof.identity, &format!("{{jwt: {{issuer: \"{issuer}\", claims: {}}}}}", asked(subject, &proof.claims))));
        };
        match fits.find(|other| *other != first) {
            None => Ok(first),
            Some(other) => Err(Refusal::new(
                Reason::UnknownAgent,
                format!(
                    "the token of {} is two agents, `{}` and `{}`: their `identities` overlap",
                    proof.identity, first.agent, other.agent
                ),
            )),
        }
    }
}

impl Shape {
    fn values_in(&self, claims: &Map<String, Value>) -> Option<Vec<Value>> {
        self.claims.iter().map(|name| claim(claims, name).cloned()).collect()
    }
}

/// A claim at the top, or of the outermost `act`. A claim whose own name begins with `act.` is none.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    match name.strip_prefix("act.") {
        Some(inner) => claims.get("act")?.as_object()?.get(inner),
        None => claims.get(name),
    }
}

/// The claims that a rule for this token would most likely name.
fn asked(subject: &str, claims: &Map<String, Value>) -> String {
    match claim(claims, "act.sub").and_then(Value::as_str) {
        Some(actor) => format!("{{act: {{sub: {}}}}}", quoted(actor)),
        None => format!("{{sub: {}}}", quoted(subject)),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", crate::jose::quoted(text).replace('"', "\\\""))
}

fn nobody(identity: &Identity, rule: &str) -> Refusal {
    let identity = crate::jose::quoted(&identity.to_string());
    Refusal::new(
        Reason::UnknownAgent,
        format!("{identity} is no registered agent; to register it, add to the `identities` of an agent in a registry file: {rule}"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        authority::fixture::spec,
        clock::Moment,
        config::{IdentityRule, Place},
    };

    fn registry(rules: Vec<(&str, IdentitySpec)>) -> RegistrySpec {
        let mut registry = spec();
        let agent = registry.agents[0].clone();
        registry.agents = rules
            .into_iter()
            .map(|(id, what)| {
                let rule = IdentityRule { what, workflow: None, place: Place::default() };
                crate::config::AgentSpec { id: id.into(), identities: vec![rule], ..agent.clone() }
            })
            .collect();
        registry
    }

    fn jwt(claims: &[(&str, Value)]) -> IdentitySpec {
        let claims = claims.iter().map(|(name, value)| (Box::from(*name), value.clone())).collect();
        IdentitySpec::Jwt { issuer: "https://id".into(), claims }
    }

    fn proof(identity: Identity, claims: Value) -> Proof {
        let Value::Object(claims) = claims else { panic!() };
        let far = Moment::now().later(std::time::Duration::from_secs(60));
        Proof { identity, claims, certificate: None, principal: None, token: None, until: far, again: far }
    }

    fn token(claims: Value) -> Proof {
        let subject = claims["sub"].as_str().unwrap_or_default().into();
        proof(Identity::Token { issuer: "https://id".into(), subject }, claims)
    }

    #[test]
    fn claims_map_to_the_agent_whose_rule_they_satisfy() {
        let rules = vec![("by-sub", jwt(&[("sub", json!("a"))])), ("by-act", jwt(&[("act.sub", json!("bot")), ("tenant", json!(7))]))];
        let all = Identities::new(&registry(rules));
        let agent = |claims| all.agent_of(&token(claims)).map(|m| m.agent.to_string()).map_err(|r| r.reason);
        assert_eq!(agent(json!({"sub": "a"})).unwrap(), "by-sub");
        assert_eq!(agent(json!({"sub": "alice", "act": {"sub": "bot"}, "tenant": 7})).unwrap(), "by-act");
        for nobody in [
            json!({"sub": "b"}),
            json!({"sub": ["a"]}),
            json!({"act": {"sub": "bot"}}),
            json!({"act": {"sub": "bot"}, "tenant": "7"}),
            json!({"act.sub": "bot", "tenant": 7}),
            // Only the outermost `act` says who acts.
            json!({"sub": "x", "act": {"sub": "y", "act": {"sub": "bot"}}, "tenant": 7}),
        ] {
            assert_eq!(agent(nobody.clone()).unwrap_err(), Reason::UnknownAgent, "{nobody}");
        }
        assert_eq!(agent(json!({"sub": "a", "act": {"sub": "bot"}, "tenant": 7})).unwrap_err(), Reason::UnknownAgent, "two agents");
    }

    #[test]
    fn the_refusal_says_how_to_register() {
        let all = Identities::new(&registry(Vec::new()));
        let says = |proof: &Proof| all.agent_of(proof).unwrap_err().detail.into_owned();
        assert!(says(&token(json!({"sub": "a\"b"}))).ends_with(r#"{jwt: {issuer: "https://id", claims: {sub: "a\"b"}}}"#));
        assert!(says(&token(json!({"sub": "alice", "act": {"sub": "bot"}}))).contains(r#"claims: {act: {sub: "bot"}}"#));
        assert!(says(&proof(Identity::Spiffe("spiffe://a/b".into()), json!({}))).ends_with("{spiffe: \"spiffe://a/b\"}"));
        let account = Identity::ServiceAccount { issuer: "https://k8s".into(), name: "ns/bot".into() };
        assert!(says(&proof(account, json!({}))).ends_with("{service_account: ns/bot}"));
    }

    #[test]
    fn an_account_may_be_that_of_one_cluster() {
        let account = |issuer: Option<&str>| IdentitySpec::ServiceAccount { name: "ns/bot".into(), issuer: issuer.map(Into::into) };
        let all = Identities::new(&registry(vec![("one", account(Some("https://one"))), ("any", account(None))]));
        let agent = |issuer: &str| {
            let identity = Identity::ServiceAccount { issuer: issuer.into(), name: "ns/bot".into() };
            all.agent_of(&proof(identity, json!({}))).unwrap().agent.to_string()
        };
        assert_eq!((agent("https://one"), agent("https://two")), ("one".to_string(), "any".to_string()));
    }
}
