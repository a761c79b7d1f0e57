use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;
use time::OffsetDateTime;

use super::{Attested, AwsSpec, CertificateSpec, GithubApp, Google, Review, ScopeSpec, VaultSpec};
use crate::{
    call::{Effect, Host, Label, Mode, Returns, Unit, Window},
    secret::Secret,
};

use super::{Delegation, Inbound, PeerSpec};
use super::{IdentityRule, IssuerSpec, ListenTls, OauthSpec, SpiffeSpec};

/// A checked configuration: what is here can be built, or says at build time which file is at fault.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; None for a built-in one (`run --observe`, `demo`).
    pub file: Option<PathBuf>,
    pub listen: Listen,
    pub tls: Tls,
    pub registry: RegistrySpec,
    pub catalog: Vec<CatalogSource>,
    pub policies: Policies,
    pub credentials: Vec<CredentialSpec>,
    pub ambient: Option<Ambient>,
    /// Whose tokens prove who calls.
    pub issuers: Vec<IssuerSpec>,
    /// Whose SVIDs prove who calls.
    pub spiffe: Option<SpiffeSpec>,
    pub tasks: TaskSpec,
    pub mode: Mode,
    pub upstream: Upstream,
    /// None: in memory.
    pub state: Option<StateSpec>,
    /// Where registered agents are called by others.
    pub peers: Vec<PeerSpec>,
    /// Signs and verifies what one agent hands another.
    pub delegation: Delegation,
    pub audit: Audit,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// Every file that was read, for the watcher and for `run`'s check that the agent cannot write them.
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Default)]
pub struct Listen {
    pub forward: Option<SocketAddr>,
    /// In front of the agent.
    pub inbound: Option<Inbound>,
    /// Makes it an HTTPS proxy.
    pub forward_tls: Option<ListenTls>,
    pub admin: Option<SocketAddr>,
    /// The control socket's path.
    pub control: Option<PathBuf>,
    pub control_tcp: Option<ControlTcp>,
}

/// The control API on a loopback port.
#[derive(Debug, Clone)]
pub struct ControlTcp {
    pub address: SocketAddr,
    /// What stands for the operator.
    pub token: SecretSource,
}

#[derive(Debug, Clone)]
pub struct Tls {
    pub ca: Ca,
    /// Where the CA certificate is written for clients to trust.
    pub publish: Option<PathBuf>,
    pub upstream_roots: Vec<Roots>,
    /// Hosts not intercepted: exact, or `*.suffix`.
    pub tunnel: Vec<HostPattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ca {
    /// Made at start, in memory only.
    Ephemeral,
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    System,
    Mozilla,
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    Exact(Host),
    /// `*.example.com`: any host that ends in `.example.com`. Holds `.example.com`.
    Suffix(Box<str>),
}

impl HostPattern {
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Exact(h) => h == host,
            Self::Suffix(s) => host.as_str().len() > s.len() && host.as_str().ends_with(&**s),
        }
    }
}

/// Agents and workflows as they were written, checked one by one and against each other.
#[derive(Debug, Clone, Default)]
pub struct RegistrySpec {
    pub agents: Vec<AgentSpec>,
    pub workflows: Vec<WorkflowSpec>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Active,
    Suspended,
    Retired,
}

#[derive(Debug, Clone)]
pub struct AgentSpec {
    pub id: Arc<str>,
    pub owner: Arc<str>,
    pub spiffe_id: Option<Arc<str>>,
    pub identities: Vec<IdentityRule>,
    pub status: Status,
    pub expires: Option<OffsetDateTime>,
    pub workflows: Vec<Arc<str>>,
    pub delegates_to: Vec<Arc<str>>,
    pub attested: Option<Attested>,
    pub on_drift: OnDrift,
    pub review: Review,
    pub mode: Option<ModeSpec>,
    pub limits: Vec<WideLimitSpec>,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDrift {
    #[default]
    Record,
    ReadOnly,
    Deny,
}

/// `mode: observe` on an agent or workflow, with the date at which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModeSpec {
    pub mode: Mode,
    pub until: Option<OffsetDateTime>,
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub file: PathBuf,
    /// From 1; 0 when it is not known.
    pub line: usize,
}

#[derive(Debug, Clone)]
pub struct WorkflowSpec {
    pub id: Arc<str>,
    pub purpose: Arc<str>,
    pub max_lifetime: Duration,
    pub grants: Vec<GrantSpec>,
    pub credential: Option<Arc<str>>,
    pub mode: Option<ModeSpec>,
    /// `check` keeps quiet about grants that no call used.
    pub quiet: bool,
    pub limits: Vec<WideLimitSpec>,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub struct GrantSpec {
    /// Exact ids, or prefixes ending in `*`. Empty together with `effects` is refused.
    pub intents: Vec<Box<str>>,
    pub effects: Vec<Effect>,
    /// Parameter → the values it may have; a text value ending in `*` is a prefix.
    pub constraints: Vec<(Box<str>, Vec<serde_json::Value>)>,
    pub limit: Option<LimitSpec>,
    /// What a call that it allows touches: the task is labelled so.
    pub labels: Vec<Label>,
    /// `{by: [...], within: seconds}` as written.
    pub approval: Option<serde_json::Value>,
    pub credential: Option<Arc<str>>,
    /// What of an answer reaches the agent that otherwise does not.
    pub returns: Returns,
    pub place: Place,
}

/// How much of something a task or an agent may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSpec {
    pub max: u64,
    pub unit: Unit,
    pub per: Window,
}

/// A limit on what a workflow or an agent does, over all of its grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WideLimitSpec {
    /// Exact ids, or prefixes ending in `*`; empty: all.
    pub intents: Vec<Box<str>>,
    /// Empty: all.
    pub effects: Vec<Effect>,
    pub limit: LimitSpec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogSource {
    Builtin,
    File(PathBuf),
    /// In `file` itself; the lines of `text` are the file's.
    Inline {
        file: PathBuf,
        text: String,
    },
}

#[derive(Debug, Clone)]
pub struct Policies {
    /// The policy that ships.
    pub builtin: bool,
    /// Files or folders of `.rego` and `.json`/`.yaml` data.
    pub paths: Vec<PathBuf>,
    /// The guardrail against it that ships, where it is switched on.
    pub exfiltration: Option<Exfiltration>,
}

/// What is one's own organisation's: outside it nothing is written by who touched private data and
/// untrusted content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exfiltration {
    pub hosts: Vec<HostPattern>,
    pub providers: Vec<OwnProvider>,
}

/// What of a provider is one's own: all of it, or where every parameter has one of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnProvider {
    pub id: Box<str>,
    /// A value that ends in `*` is a prefix.
    pub params: Vec<(Box<str>, Vec<Box<str>>)>,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub struct CredentialSpec {
    pub name: Arc<str>,
    /// Exact hosts it may go to.
    pub hosts: Vec<Host>,
    pub kind: CredentialKind,
    /// What is asked of its issuer for which intents; empty for a kind that has none.
    pub scope: Vec<ScopeSpec>,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub enum CredentialKind {
    Static { secret: SecretSource, inject: InjectSpec },
    Own,
    Aws(Box<AwsSpec>),
    Oauth(Box<OauthSpec>),
    GithubApp(GithubApp),
    Google(Google),
    Certificate(CertificateSpec),
    Vault(Box<VaultSpec>),
}

/// Where a secret's value is; never the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    Env(String),
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InjectSpec {
    Bearer,
    Basic { user: String },
    Header(http::HeaderName),
    Query(String),
}

/// What bounds every task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// How often a task may be handed on: 1 lets a task have parts, and these none.
    pub depth: usize,
    /// How long what an agent's task has touched labels its later ones; zero: not at all.
    pub sticky: Duration,
}

impl Default for TaskSpec {
    fn default() -> Self {
        Self { depth: 3, sticky: Duration::from_secs(86_400) }
    }
}

/// The agent and workflow that unclaimed calls from loopback are attributed to.
#[derive(Debug, Clone)]
pub struct Ambient {
    pub agent: Arc<str>,
    pub workflow: Arc<str>,
    /// Only sockets of these owners; empty: any.
    pub uid: Vec<u32>,
}

#[derive(Debug, Clone)]
pub struct Upstream {
    /// CIDR ranges that are otherwise refused.
    pub allow_addresses: Vec<Cidr>,
    /// Host (and port, when given) → address to dial.
    pub resolve: Vec<(Host, Option<u16>, SocketAddr)>,
    pub proxy: UpstreamProxy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub base: std::net::IpAddr,
    pub prefix: u8,
}

#[derive(Debug, Clone, Default)]
pub enum UpstreamProxy {
    #[default]
    None,
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` of Remit's own environment.
    Env,
    Url {
        host: Host,
        port: u16,
        authorization: Option<Secret<String>>,
    },
}

/// Where state is kept, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    pub file: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Audit {
    pub sinks: Vec<Sink>,
    /// Made on first use. None: a key beside the first directory sink, `audit.key`.
    pub signing_key: Option<PathBuf>,
    /// By effect; what is not listed is synced.
    pub durability: Vec<(Effect, Durability)>,
    pub rotate_size: u64,
    pub keep: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    Dir(PathBuf),
    Stdout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `write(2)` returned.
    Buffered,
    /// `fdatasync` returned.
    Synced,
}

#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: usize,
    pub header_bytes: usize,
    pub headers: usize,
    pub body_default: u64,
    pub body_llm: u64,
    /// All bodies that are being read whole, together.
    pub body_total: u64,
    pub decision: Duration,
    pub cache: u64,
}

#[derive(Debug, Clone)]
pub struct Timeouts {
    pub header: Duration,
    pub connect: Duration,
    /// How long a call waits for the issuer of its credential.
    pub credential: Duration,
    pub first_byte: Duration,
    pub idle: Duration,
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header_bytes: 64 << 10,
            headers: 128,
            body_default: 1 << 20,
            body_llm: 32 << 20,
            body_total: 256 << 20,
            decision: Duration::from_millis(10),
            cache: 16 << 20,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            credential: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(300),
            drain: Duration::from_secs(30),
        }
    }
}
