//! `listen.inbound`, `delegation`, and the addresses at which agents are called.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use crate::{
    call::Host,
    config::{
        ListenTls, Place,
        files::existing,
        node::Kind,
        read::{Fields, Ref, Value, shown},
        spiffe, units,
    },
};

/// The listener in front of the agent: each request that reaches it is a task.
#[derive(Debug, Clone)]
pub struct Inbound {
    pub address: SocketAddr,
    /// Where the agent itself listens; always loopback.
    pub to: SocketAddr,
    pub agent: Arc<str>,
    /// The workflow of a request that no rule chooses another for.
    pub workflow: Arc<str>,
    pub rules: Vec<InboundRule>,
    pub requires: Requires,
    /// Whether a request without a delegation token is refused.
    pub delegation_required: bool,
    /// Whether the token that proved the principal goes on to the agent.
    pub keep_token: bool,
    /// What the agent speaks.
    pub protocol: AgentProtocol,
    /// Only sockets of these owners join a request's task by its trace; empty: any from loopback.
    pub uid: Vec<u32>,
    /// Callers then come by TLS, and may prove an SVID in it.
    pub tls: Option<ListenTls>,
    pub place: Place,
}

/// Chooses a workflow by the path of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundRule {
    /// Exact, or a prefix that ends in `/*`.
    pub path: Box<str>,
    pub workflow: Arc<str>,
}

/// How who calls the agent is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Requires {
    /// By a verified token in `Authorization`.
    #[default]
    Token,
    /// By the X.509-SVID of the connection.
    Mtls,
    /// Elsewhere: the operator's word that only who was authenticated reaches the address.
    Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentProtocol {
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    H2c,
}

/// What signs delegation tokens, and whose are believed.
#[derive(Debug, Clone, Default)]
pub struct Delegation {
    pub key: Option<DelegationKey>,
    pub trust: Vec<DelegationTrust>,
}

#[derive(Debug, Clone)]
pub struct DelegationKey {
    /// A P-256, an Ed25519 or an RSA key in PEM.
    pub key: PathBuf,
    /// The SVID whose key that is, leaf first: tokens then carry it (`x5c`).
    pub chain: Option<PathBuf>,
    /// Where its public part is written as a JWK set, for others to trust.
    pub publish: Option<PathBuf>,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub struct DelegationTrust {
    pub whose: Whose,
    pub file: PathBuf,
    pub place: Place,
}

/// Whose tokens a file verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// One agent's, by a JWK set.
    Agent(Arc<str>),
    /// Those of a trust domain, by a bundle of its roots in PEM: an SVID must carry the issuer's name.
    Domain(Box<str>),
}

/// Where a registered agent is called by others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    pub agent: Arc<str>,
    pub spiffe_id: Arc<str>,
    pub host: Host,
    /// None: whichever port.
    pub port: Option<u16>,
}

/// `listen.inbound` with its names to be looked up.
#[derive(Debug)]
pub(super) struct RawInbound {
    pub(super) agent: Ref,
    pub(super) workflows: Vec<Ref>,
    pub(super) spec: Inbound,
}

const INBOUND: [&str; 11] = ["address", "to", "agent", "workflow", "rules", "requires", "delegation", "token", "protocol", "uid", "tls"];

pub(super) fn inbound(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<RawInbound> {
    let fields = value.fields(&INBOUND)?;
    let address = fields.required("address", "say where calls to the agent arrive, such as 0.0.0.0:15006");
    let address = address.and_then(|v| v.parse(units::socket));
    let to = fields.required("to", "say where the agent listens, such as 127.0.0.1:8000").and_then(|v| v.parse(loopback));
    let agent = name(&fields, "agent");
    let workflow = name(&fields, "workflow");
    let rules: Vec<(InboundRule, Ref)> =
        fields.optional("rules").and_then(Value::list).unwrap_or_default().iter().filter_map(rule).collect();
    let requires = [("token", Requires::Token), ("mtls", Requires::Mtls), ("network", Requires::Network)];
    let requires = fields.optional("requires").map_or_else(|| Some(Requires::default()), |v| v.one_of(&requires));
    let delegation = fields.optional("delegation").map_or(Some(false), |v| v.one_of(&[("optional", false), ("required", true)]));
    let keep_token = fields.optional("token").map_or(Some(false), |v| v.one_of(&[("drop", false), ("keep", true)]));
    let protocols = [("http/1.1", AgentProtocol::Http1), ("h2c", AgentProtocol::H2c)];
    let protocol = fields.optional("protocol").map_or_else(|| Some(AgentProtocol::default()), |v| v.one_of(&protocols));
    let uid = fields.optional("uid").map_or_else(Vec::new, uids);
    let tls = match fields.optional("tls") {
        None => None,
        Some(v) => Some(spiffe::tls(v, files)?),
    };
    if requires == Some(Requires::Mtls)
        && tls.is_none()
        && let Some(value) = fields.optional("requires")
    {
        value
            .wrong("an SVID is proven in a TLS handshake, and the listener has no `tls`", "add `tls: {svid: true}`, or `cert:` and `key:`");
    }
    let (agent, workflow) = (agent?, workflow?);
    let spec = Inbound {
        address: address?,
        to: to?,
        agent: agent.name.clone(),
        workflow: workflow.name.clone(),
        rules: rules.iter().map(|(rule, _)| rule.clone()).collect(),
        requires: requires?,
        delegation_required: delegation?,
        keep_token: keep_token?,
        protocol: protocol?,
        uid,
        tls,
        place: value.spot().place(),
    };
    let workflows = std::iter::once(workflow).chain(rules.into_iter().map(|(_, workflow)| workflow)).collect();
    Some(RawInbound { agent, workflows, spec })
}

fn name(fields: &Fields<'_>, key: &str) -> Option<Ref> {
    let value = fields.required(key, "calls to the agent are tasks of an agent in a workflow")?;
    Some(Ref { name: value.text()?.into(), spot: value.spot() })
}

/// The agent is next to Remit: whoever else could reach it would go around.
fn loopback(text: &str) -> Result<SocketAddr, (String, String)> {
    let address = units::socket(text)?;
    if address.ip().to_canonical().is_loopback() {
        return Ok(address);
    }
    Err((format!("`{}` is not on loopback", shown(text)), "let the agent listen on 127.0.0.1, where only this pod reaches it".to_string()))
}

fn rule(value: &Value<'_>) -> Option<(InboundRule, Ref)> {
    let fields = value.fields(&["path", "workflow"])?;
    let path = fields.required("path", "write a path such as /triage/*").and_then(|v| {
        let text = v.text()?;
        if !text.starts_with('/') || text.trim_end_matches("/*").contains('*') {
            v.wrong(format!("`{}` is neither a path nor a prefix ending in `/*`", shown(text)), "write it as /triage or /triage/*");
            return None;
        }
        Some(Box::<str>::from(text))
    });
    let workflow = name(&fields, "workflow")?;
    Some((InboundRule { path: path?, workflow: workflow.name.clone() }, workflow))
}

/// Owners of sockets; at least one.
pub(super) fn uids(value: &Value<'_>) -> Vec<u32> {
    let list = value.list().unwrap_or_default();
    if list.is_empty() {
        value.wrong("no uid is listed, so no socket would fit", "list at least one uid, or remove the key");
    }
    list.iter().filter_map(|v| u32::try_from(v.number(0, u64::from(u32::MAX))?).ok()).collect()
}

/// The files are added to `files`.
pub(super) fn delegation(value: Option<&Value<'_>>, files: &mut Vec<PathBuf>) -> Delegation {
    let Some(fields) = value.and_then(|v| v.fields(&["key", "trust"])) else { return Delegation::default() };
    let key = fields.optional("key").and_then(|v| key(v, files));
    let trust = fields.optional("trust").and_then(Value::list).unwrap_or_default();
    Delegation { key, trust: trust.iter().filter_map(|v| whose(v, files)).collect() }
}

fn key(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<DelegationKey> {
    let fields = value.fields(&["file", "chain", "publish"])?;
    let file = fields.required("file", "name the PEM file of the key").and_then(|v| existing(v, files));
    let chain = match fields.optional("chain") {
        None => None,
        Some(v) => Some(existing(v, files)?),
    };
    let publish = match fields.optional("publish") {
        None => None,
        Some(v) => Some(v.path()?),
    };
    Some(DelegationKey { key: file?, chain, publish, place: value.spot().place() })
}

fn whose(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<DelegationTrust> {
    const HELP: &str = "write {spiffe: ID, jwks: FILE}, or {trust_domain: NAME, bundle: FILE}";
    let fields = value.fields(&["spiffe", "jwks", "trust_domain", "bundle"])?;
    let place = value.spot().place();
    let (whose, file) = match (fields.optional("spiffe"), fields.optional("trust_domain")) {
        (Some(spiffe), None) => {
            spiffe.parse(units::spiffe_id)?;
            (Whose::Agent(spiffe.text()?.into()), fields.required("jwks", HELP))
        }
        (None, Some(domain)) => {
            let name = domain.text()?;
            units::spiffe_id(&format!("spiffe://{name}/x")).map_err(|(message, _)| domain.wrong(message, HELP)).ok()?;
            (Whose::Domain(name.into()), fields.required("bundle", HELP))
        }
        _ => {
            value.wrong("whose tokens are trusted is one agent or one trust domain", HELP);
            return None;
        }
    };
    Some(DelegationTrust { whose, file: existing(file?, files)?, place })
}

/// `address` of an agent: `HOST[:PORT]`, one or a list.
pub(super) fn addresses(value: &Value<'_>) -> Vec<(Host, Option<u16>)> {
    let list = if matches!(value.node.kind, Kind::Text(_)) { vec![value.clone()] } else { value.list().unwrap_or_default() };
    list.iter().filter_map(|v| v.parse(units::host_and_port)).collect()
}
