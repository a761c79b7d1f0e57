//! `identities` of an agent: what a caller must prove to be it.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::config::{
    Place,
    node::Kind,
    read::{Ref, Value, shown},
    units,
};

/// One thing that proves the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityRule {
    pub what: IdentitySpec,
    /// The workflow of calls that show no task; None: they must show one.
    pub workflow: Option<Arc<str>>,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub enum IdentitySpec {
    /// By an X.509-SVID or a JWT-SVID.
    Spiffe(Arc<str>),
    /// `namespace/name`, of the one cluster that is configured or of this issuer.
    ServiceAccount { name: Arc<str>, issuer: Option<Arc<str>> },
    /// By a token of this issuer whose claims have these values, sorted by name. `act.NAME` is a claim
    /// of the outermost `act` (RFC 8693 §4.1).
    Jwt { issuer: Arc<str>, claims: Vec<(Box<str>, Json)> },
}

/// A rule with the names in it that must be looked up.
#[derive(Debug)]
pub(super) struct RawIdentity {
    /// In words that tell any two apart.
    pub(super) name: Ref,
    pub(super) issuer: Option<Ref>,
    pub(super) workflow: Option<Ref>,
    pub(super) rule: IdentityRule,
}

impl IdentitySpec {
    fn words(&self) -> String {
        match self {
            Self::Spiffe(id) => format!("spiffe {id}"),
            Self::ServiceAccount { name, issuer: None } => format!("service_account {name}"),
            Self::ServiceAccount { name, issuer: Some(issuer) } => format!("service_account {name} of {issuer}"),
            Self::Jwt { issuer, claims } => {
                let claims: Vec<String> = claims.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                format!("jwt of {issuer} with {}", claims.join(", "))
            }
        }
    }

    /// Whether a token could satisfy both, by this rule asking for a part of what `other` asks.
    pub(super) fn is_part_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Jwt { issuer: a, claims: few }, Self::Jwt { issuer: b, claims: many }) => {
                a == b && few.len() < many.len() && few.iter().all(|c| many.contains(c))
            }
            _ => false,
        }
    }
}

/// The rules of one agent. An agent has at most one SPIFFE ID.
pub(super) fn identities(value: &Value<'_>) -> Vec<RawIdentity> {
    let mut found: Vec<RawIdentity> = Vec::new();
    for item in value.list().unwrap_or_default() {
        let Some(identity) = identity(&item) else { continue };
        let spiffe = |i: &RawIdentity| matches!(i.rule.what, IdentitySpec::Spiffe(_));
        if spiffe(&identity) && found.iter().any(spiffe) {
            let problem = identity.name.spot.problem("the agent has more than one SPIFFE ID");
            item.source.note(problem.help("register a second agent for it"));
        }
        found.push(identity);
    }
    found
}

fn identity(item: &Value<'_>) -> Option<RawIdentity> {
    let fields = item.fields(&["spiffe", "service_account", "jwt", "issuer", "workflow"])?;
    let workflow = fields.optional("workflow").and_then(|v| Some(Ref { name: v.text()?.into(), spot: v.spot() }));
    let mut issuer = fields.optional("issuer").and_then(|v| Some(Ref { name: v.text()?.into(), spot: v.spot() }));
    if let Some(stray) = fields.optional("issuer")
        && !fields.has("service_account")
    {
        stray.wrong("`issuer` belongs to `service_account`", "for other tokens write {jwt: {issuer: …, claims: {…}}}");
    }
    let (value, what) = match (fields.optional("spiffe"), fields.optional("service_account"), fields.optional("jwt")) {
        (Some(v), None, None) => (v, v.parse(|text| units::spiffe_id(text).map(|()| IdentitySpec::Spiffe(text.into())))?),
        (None, Some(v), None) => {
            let issuer = issuer.as_ref().map(|r| r.name.clone());
            (v, v.parse(|text| service_account(text).map(|()| IdentitySpec::ServiceAccount { name: text.into(), issuer }))?)
        }
        (None, None, Some(v)) => {
            let (what, of) = jwt(v)?;
            issuer = Some(of);
            (v, what)
        }
        _ => {
            item.wrong("an identity is one of `spiffe`, `service_account` and `jwt`", "write each as an item of its own");
            return None;
        }
    };
    let rule = IdentityRule { what, workflow: workflow.as_ref().map(|r| r.name.clone()), place: item.spot().place() };
    Some(RawIdentity { name: Ref { name: rule.what.words().into(), spot: value.spot() }, issuer, workflow, rule })
}

/// `{issuer: …, claims: {sub: …}}`.
fn jwt(value: &Value<'_>) -> Option<(IdentitySpec, Ref)> {
    let fields = value.fields(&["issuer", "claims"])?;
    let issuer = fields.required("issuer", "name one of `issuers`").and_then(|v| Some(Ref { name: v.text()?.into(), spot: v.spot() }));
    let claims = fields.required("claims", "say which claims the agent's tokens have, such as {sub: triage-bot}").and_then(claims);
    let issuer = issuer?;
    Some((IdentitySpec::Jwt { issuer: issuer.name.clone(), claims: claims? }, issuer))
}

/// Claims at the top, and those of the outermost `act`, each with the value it must have.
fn claims(value: &Value<'_>) -> Option<Vec<(Box<str>, Json)>> {
    let mut found: Vec<(Box<str>, Json)> = Vec::new();
    let entries = value.entries()?;
    if entries.is_empty() {
        value.wrong("no claim is named, so every token of the issuer would be this agent", "name at least one, such as sub");
        return None;
    }
    for (name, wanted) in &entries {
        match (*name, &wanted.node.kind) {
            ("act", Kind::Map(_)) => {
                for (inner, wanted) in wanted.entries()? {
                    found.push((format!("act.{inner}").into(), scalar(inner, &wanted)?));
                }
            }
            _ => found.push(((*name).into(), scalar(name.strip_prefix("act.").unwrap_or(name), wanted)?)),
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for pair in found.windows(2) {
        if let [(a, _), (b, _)] = pair
            && a == b
        {
            value.wrong(format!("claim `{}` stands twice", shown(a)), "keep one");
            return None;
        }
    }
    Some(found)
}

fn scalar(name: &str, value: &Value<'_>) -> Option<Json> {
    if name == "act" || name.starts_with("act.") {
        value.wrong(
            "only the outermost `act` says who acts; those in it are history (RFC 8693 §4.1)",
            "name a claim of the first `act`, such as act.sub",
        );
        return None;
    }
    match &value.node.kind {
        Kind::Text(text) => Some(json!(text)),
        Kind::Number(number) => Some(json!(number)),
        Kind::Bool(b) => Some(json!(b)),
        Kind::Null | Kind::List(_) | Kind::Map(_) => {
            value.mismatch("a text, a number, true or false");
            None
        }
    }
}

/// `namespace/name`, each a DNS name (RFC 1123) as Kubernetes has it.
fn service_account(text: &str) -> Result<(), (String, String)> {
    let dns = |s: &str, dots: bool| {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || (dots && b == b'.');
        !s.is_empty() && s.bytes().all(good) && !s.starts_with(['-', '.']) && !s.ends_with(['-', '.'])
    };
    match text.split_once('/') {
        Some((namespace, name)) if dns(namespace, false) && dns(name, true) => Ok(()),
        _ => Err((format!("`{}` is no service account", shown(text)), "write it as namespace/name".to_string())),
    }
}
