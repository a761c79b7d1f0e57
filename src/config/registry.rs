//! Agents, workflows and grants as they stand in a file, each checked by itself.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    call::{Effect, Host, Label, Mode, Returns},
    config::{
        AgentSpec, GrantSpec, IdentitySpec, ModeSpec, OnDrift, PeerSpec, Status, WideLimitSpec, WorkflowSpec, attested,
        identities::{RawIdentity, identities},
        inbound, limits,
        node::Kind,
        read::{Fields, Ref, Value, shown},
        units,
    },
};

/// What a file says of one agent; `spec` is None when something in it is wrong.
#[derive(Debug)]
pub(super) struct RawAgent {
    pub(super) id: Ref,
    pub(super) identities: Vec<RawIdentity>,
    pub(super) workflows: Vec<Ref>,
    pub(super) delegates_to: Vec<Ref>,
    /// Where others call it.
    pub(super) addresses: Vec<(Host, Option<u16>)>,
    pub(super) spec: Option<AgentSpec>,
}

/// What a file says of one workflow; `spec` is None when something in it is wrong.
#[derive(Debug)]
pub(super) struct RawWorkflow {
    pub(super) id: Ref,
    pub(super) credentials: Vec<Ref>,
    pub(super) spec: Option<WorkflowSpec>,
}

/// The agents and workflows of all files.
#[derive(Debug, Default)]
pub(super) struct RawRegistry {
    pub(super) agents: Vec<RawAgent>,
    pub(super) workflows: Vec<RawWorkflow>,
}

impl RawRegistry {
    /// Adds what stands under `agents:` and `workflows:` of one file.
    pub(super) fn add(&mut self, file: &Fields<'_>) {
        let list = |key| file.optional(key).and_then(Value::list).unwrap_or_default();
        self.agents.extend(list("agents").iter().filter_map(agent));
        self.workflows.extend(list("workflows").iter().filter_map(workflow));
    }
}

impl RawAgent {
    /// Its addresses, where it has a SPIFFE ID: who has none is handed nothing.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerSpec> + '_ {
        let spec = self.spec.as_ref().and_then(|s| Some((s.id.clone(), s.spiffe_id.clone()?)));
        spec.into_iter().flat_map(|(agent, spiffe_id)| {
            self.addresses.iter().map(move |(host, port)| PeerSpec {
                agent: agent.clone(),
                spiffe_id: spiffe_id.clone(),
                host: host.clone(),
                port: *port,
            })
        })
    }
}

const AGENT: [&str; 16] = [
    "id",
    "address",
    "identities",
    "owner",
    "status",
    "expires",
    "attested",
    "on_drift",
    "workflows",
    "delegates_to",
    "limits",
    "mode",
    "until",
    "reviewed",
    "review_every",
    "quiet",
];

/// None when it has no id: then nothing can refer to it.
fn agent(value: &Value<'_>) -> Option<RawAgent> {
    let fields = value.fields(&AGENT)?;
    let id = id(&fields)?;
    let owner = fields.required("owner", "say who answers for the agent, such as team@example.org").and_then(Value::text);
    let identities = fields.optional("identities").map(identities).unwrap_or_default();
    let workflows = fields.optional("workflows").and_then(Value::texts).unwrap_or_default();
    let delegates_to = fields.optional("delegates_to").and_then(Value::texts).unwrap_or_default();
    let addresses = fields.optional("address").map(inbound::addresses).unwrap_or_default();
    if let Some(address) = fields.optional("address")
        && !identities.iter().any(|i| matches!(i.rule.what, IdentitySpec::Spiffe(_)))
    {
        address.wrong(
            "an agent that others call needs a SPIFFE ID: what is handed to it is for that name",
            "add `identities: [{spiffe: …}]`, or remove the key",
        );
    }
    let status = fields.optional("status").map(|v| v.one_of(&STATUS));
    let expires = fields.optional("expires").map(|v| v.parse(units::instant));
    let on_drift = fields.optional("on_drift").map(|v| on_drift(v, &fields));
    let review = attested::review(&fields);
    let attested = fields.optional("attested").map(attested::attested);
    let limits = limits_of(&fields);
    let mode = mode(&fields);
    let spec = || {
        Some(AgentSpec {
            id: Arc::clone(&id.name),
            owner: owner?.into(),
            spiffe_id: identities.iter().find_map(|i| match &i.rule.what {
                IdentitySpec::Spiffe(id) => Some(id.clone()),
                _ => None,
            }),
            identities: identities.iter().map(|i| i.rule.clone()).collect(),
            status: settled(status)?.unwrap_or_default(),
            expires: settled(expires)?,
            workflows: workflows.iter().map(|r| Arc::clone(&r.name)).collect(),
            delegates_to: delegates_to.iter().map(|r| Arc::clone(&r.name)).collect(),
            attested: settled(attested)?,
            on_drift: settled(on_drift)?.unwrap_or_default(),
            review: review?,
            mode: mode?,
            limits: limits?,
            place: value.spot().place(),
        })
    };
    let spec = spec();
    Some(RawAgent { spec, id, identities, workflows, delegates_to, addresses })
}

/// Absent stays absent; present and wrong ends the spec.
pub(super) fn settled<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

const STATUS: [(&str, Status); 3] = [("active", Status::Active), ("suspended", Status::Suspended), ("retired", Status::Retired)];

fn id(fields: &Fields<'_>) -> Option<Ref> {
    let value = fields.required("id", "give it a name")?;
    value.parse(units::id)?;
    Some(Ref { name: value.text()?.into(), spot: value.spot() })
}

fn on_drift(value: &Value<'_>, agent: &Fields<'_>) -> Option<OnDrift> {
    let found = value.one_of(&[("record", OnDrift::Record), ("read_only", OnDrift::ReadOnly), ("deny", OnDrift::Deny)])?;
    if found != OnDrift::Record && !agent.has("attested") {
        value.wrong("there is nothing that the agent could differ from", "add `attested:`; `attested: {}` only observes");
        return None;
    }
    Some(found)
}

/// `mode:` with its `until:`; observing ends by itself. None when it is wrong.
fn mode(fields: &Fields<'_>) -> Option<Option<ModeSpec>> {
    let Some(value) = fields.optional("mode") else {
        if let Some(until) = fields.optional("until") {
            until.wrong("`until` without `mode`", "add `mode: observe`, or remove it");
        }
        return (!fields.has("mode")).then_some(None);
    };
    let mode = value.one_of(&MODE)?;
    let until = settled(fields.optional("until").map(|v| v.parse(units::instant)))?;
    if mode == Mode::Observe && !fields.has("until") {
        value.wrong("`mode: observe` has no end", "add `until:` with the date, such as 2027-03-31T00:00:00Z");
        return None;
    }
    Some(Some(ModeSpec { mode, until }))
}

pub(super) const MODE: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];

fn workflow(value: &Value<'_>) -> Option<RawWorkflow> {
    let fields = value.fields(&["id", "purpose", "max_lifetime", "grants", "limits", "credential", "mode", "until", "quiet"])?;
    let id = id(&fields)?;
    let mut credentials = Vec::new();
    let purpose = fields.required("purpose", "say in a few words what it is for").and_then(Value::text);
    let lifetime = fields.required("max_lifetime", "say how long a task may last, such as 30m").and_then(|v| v.parse(units::duration));
    let grants = fields.required("grants", "list what it may do").and_then(|v| grants(v, &mut credentials));
    let credential = fields.optional("credential").map(|v| reference(v, &mut credentials));
    let limits = limits_of(&fields);
    let mode = mode(&fields);
    let quiet = attested::quiet_workflow(&fields);
    let spec = || {
        Some(WorkflowSpec {
            id: Arc::clone(&id.name),
            purpose: purpose?.into(),
            max_lifetime: lifetime?,
            grants: grants?,
            credential: settled(credential)?,
            mode: mode?,
            quiet: quiet?,
            limits: limits?,
            place: value.spot().place(),
        })
    };
    Some(RawWorkflow { spec: spec(), id, credentials })
}

/// `limits:`; a key without a value must not lift them.
fn limits_of(fields: &Fields<'_>) -> Option<Vec<WideLimitSpec>> {
    match fields.optional("limits") {
        Some(value) => limits::limits(value),
        None => (!fields.has("limits")).then(Vec::new),
    }
}

/// The name of a credential, remembered to be looked up when all files are read.
fn reference(value: &Value<'_>, seen: &mut Vec<Ref>) -> Option<Arc<str>> {
    let name: Arc<str> = value.text()?.into();
    seen.push(Ref { name: Arc::clone(&name), spot: value.spot() });
    Some(name)
}

fn grants(value: &Value<'_>, credentials: &mut Vec<Ref>) -> Option<Vec<GrantSpec>> {
    let list = value.list()?;
    if list.is_empty() {
        value.wrong("the workflow grants nothing", "list at least one grant");
        return None;
    }
    // every grant is read before any failure counts, so that all problems show
    let read: Vec<Option<GrantSpec>> = list.iter().map(|v| grant(v, credentials)).collect();
    read.into_iter().collect()
}

fn grant(value: &Value<'_>, credentials: &mut Vec<Ref>) -> Option<GrantSpec> {
    let fields = value.fields(&["intents", "effects", "where", "limit", "labels", "approval", "credential", "returns"])?;
    if !fields.has("intents") && !fields.has("effects") {
        value.wrong("the grant names neither `intents` nor `effects`", "name the intents it covers, such as [github.issues.*]");
    }
    let intents = fields.optional("intents").map(intents);
    let effects = fields.optional("effects").map(effects);
    let constraints = fields.optional("where").map(constraints);
    let limit = fields.optional("limit").map(limits::limit);
    let labels = fields.optional("labels").map(labels);
    let approval = fields.optional("approval").map(approval);
    let credential = fields.optional("credential").map(|v| reference(v, credentials));
    let returns = fields.optional("returns").map(returns);
    // a key without a value is a problem already noted; the grant must not become wider by it
    let whole =
        ["intents", "effects", "where", "limit", "labels", "approval"].iter().all(|k| !fields.has(k) || fields.optional(k).is_some());
    let spec = GrantSpec {
        intents: settled(intents)?.unwrap_or_default(),
        effects: settled(effects)?.unwrap_or_default(),
        constraints: settled(constraints)?.unwrap_or_default(),
        limit: settled(limit)?,
        labels: settled(labels)?.unwrap_or_default(),
        approval: settled(approval)?,
        credential: settled(credential)?,
        returns: settled(returns)?.unwrap_or_default(),
        place: value.spot().place(),
    };
    whole.then_some(spec)
}

pub(super) fn intents(value: &Value<'_>) -> Option<Vec<Box<str>>> {
    let list = non_empty(value, "names no intent", "name at least one, or remove the key")?;
    let read: Vec<Option<Box<str>>> = list.iter().map(|v| v.parse(pattern)).collect();
    read.into_iter().collect()
}

/// An intent's id, or a prefix that ends in `*`.
fn pattern(text: &str) -> Result<Box<str>, (String, String)> {
    let body = text.strip_suffix('*').unwrap_or(text);
    if body.contains('*') {
        let help = "a `*` may only end it, as in github.issues.*".to_string();
        return Err((format!("`{}` has a `*` before its end", shown(text)), help));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err((format!("`{}` is no intent", shown(text)), "write it as provider.group.name".to_string()));
    }
    Ok(text.into())
}

pub(super) fn effects(value: &Value<'_>) -> Option<Vec<Effect>> {
    let words = Effect::ALL.map(|e| (e.as_str(), e));
    let list = non_empty(value, "names no effect", "name at least one, or remove the key")?;
    let read: Vec<Option<Effect>> = list.iter().map(|v| v.one_of(&words)).collect();
    read.into_iter().collect()
}

/// What a call touches.
fn labels(value: &Value<'_>) -> Option<Vec<Label>> {
    let words: Vec<(&str, Label)> = Label::ALL.into_iter().filter(|l| l.is_touched()).map(|l| (l.as_str(), l)).collect();
    let list = non_empty(value, "names no label", "name at least one, or remove the key")?;
    let read: Vec<Option<Label>> = list.iter().map(|v| v.one_of(&words)).collect();
    read.into_iter().collect()
}

/// What of an answer reaches the agent.
fn returns(value: &Value<'_>) -> Option<Returns> {
    let list = non_empty(value, "names nothing", "write `cookies`, `tokens` or both, or remove the key")?;
    let read: Vec<Option<Returns>> = list.iter().map(|v| v.one_of(&Returns::NAMES)).collect();
    read.into_iter().try_fold(Returns::default(), |all, one| Some(all.or(one?)))
}

fn non_empty<'a>(value: &Value<'a>, message: &str, help: &str) -> Option<Vec<Value<'a>>> {
    let list = value.list()?;
    if list.is_empty() {
        value.wrong(message, help);
        return None;
    }
    Some(list)
}

/// `where`: parameter → a value, or a list of them.
fn constraints(value: &Value<'_>) -> Option<Vec<(Box<str>, Vec<serde_json::Value>)>> {
    let entries = value.entries()?;
    if entries.is_empty() {
        value.wrong("`where` constrains nothing", "name a parameter, or remove the key");
        return None;
    }
    let read: Vec<Option<_>> = entries.iter().map(|(name, v)| allowed(v).map(|values| (Box::from(*name), values))).collect();
    read.into_iter().collect()
}

/// The values one parameter may have.
fn allowed(value: &Value<'_>) -> Option<Vec<serde_json::Value>> {
    let list = match value.node.kind {
        Kind::List(_) => non_empty(value, "no value would match", "list at least one value")?,
        _ => vec![value.clone()],
    };
    let read: Vec<Option<_>> = list.iter().map(allowed_value).collect();
    read.into_iter().collect()
}

fn allowed_value(value: &Value<'_>) -> Option<serde_json::Value> {
    match &value.node.kind {
        Kind::Text(text) if text.strip_suffix('*').unwrap_or(text).contains('*') => {
            value.wrong(format!("`{}` has a `*` before its end", shown(text)), "a `*` may only end it, as in release-*");
            None
        }
        Kind::Text(text) => Some(json!(text)),
        Kind::Number(number) => Some(json!(number)),
        Kind::Bool(b) => Some(json!(b)),
        Kind::Null | Kind::List(_) | Kind::Map(_) => {
            value.mismatch("a text, a number, true or false");
            None
        }
    }
}

fn approval(value: &Value<'_>) -> Option<serde_json::Value> {
    let fields = value.fields(&["by", "within"])?;
    let by = fields.required("by", "say who approves, such as [group:support-leads]")?;
    non_empty(by, "nobody may approve", "name at least one approver")?;
    let by: Vec<Arc<str>> = by.texts()?.into_iter().map(|r| r.name).collect();
    let within = fields.optional("within").map(|v| v.parse(units::duration));
    let within = settled(within)?.unwrap_or(Duration::from_secs(600));
    (!fields.has("within") || fields.optional("within").is_some()).then(|| json!({"by": by, "within": within.as_secs()}))
}
