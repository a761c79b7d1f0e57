//! Raw YAML → checked types. What comes out of here can be built.

mod types;

pub use types::{
    AgentSpec, Ambient, Audit, Ca, CatalogSource, Cidr, Config, CredentialKind, CredentialSpec, Durability, GrantSpec, HostPattern,
    InjectSpec, LimitSpec, Limits, Listen, ModeSpec, OnDrift, Place, Policies, RegistrySpec, Roots, SecretSource, Sink, Status, Timeouts,
    Tls, Upstream, UpstreamProxy, WorkflowSpec,
};
