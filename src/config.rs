//! Raw YAML → checked types. What comes out of here can be built.
//!
//! [`Config::load`] reads `remit.yaml` and every file it names, and gives either a checked
//! [`Config`] or everything that is wrong, each with its file, line, key and fix. Files are read as
//! trees that know their lines (`node`), through readers that note a mistake and go on (`read`).

mod against;
mod attested;
mod credentials;
mod cross;
mod endpoint;
mod files;
mod guardrails;
mod identities;
mod inbound;
mod inline;
mod issuers;
mod limits;
mod load;
mod locate;
mod node;
mod read;
mod registry;
mod sections;
mod spiffe;
mod tasks;
mod types;
mod units;
mod unproved;
mod watch;

pub use against::OperationFacts;
pub use attested::{Attested, Finding, Review, Sums};
pub use credentials::{
    ActorSpec, AssertionSpec, AwsKeys, AwsRole, AwsSpec, CertificateFrom, CertificateSpec, ClientProof, ClientSpec, GithubApp, Google,
    GoogleFederation, GoogleImpersonation, GoogleSource, GoogleSubject, KeepSpec, KeySpec, OauthGrant, OauthSpec, ScopeSpec, SignedSpec,
    SubjectSpec, TokenType, VaultLogin, VaultSecret, VaultSpec,
};
pub use endpoint::Endpoint;
pub use identities::{IdentityRule, IdentitySpec};
pub use inbound::{AgentProtocol, Delegation, DelegationKey, DelegationTrust, Inbound, InboundRule, PeerSpec, Requires, Whose};
pub use issuers::{IssuerSpec, IssuerTimes, KeysFrom, PrincipalSpec, ProvenBy};
pub use spiffe::{BundleSpec, ListenCertificate, ListenTls, SpiffeSpec, WorkloadApi};
pub use types::{
    AgentSpec, Ambient, Audit, Ca, CatalogSource, Cidr, Config, ControlTcp, CredentialKind, CredentialSpec, Durability, Exfiltration,
    GrantSpec, HostPattern, InjectSpec, LimitSpec, Limits, Listen, ModeSpec, OnDrift, OwnProvider, Place, Policies, RegistrySpec, Roots,
    SecretSource, Sink, StateSpec, Status, TaskSpec, Timeouts, Tls, Upstream, UpstreamProxy, WideLimitSpec, WorkflowSpec,
};
pub use watch::{Watcher, watch};
