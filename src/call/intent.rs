use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What an operation does. A grant may be given by effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Read,
    Write,
    Delete,
    Admin,
    Execute,
}

impl Effect {
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Delete, Self::Admin, Self::Execute];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Admin => "admin",
            Self::Execute => "execute",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a task has touched, or what an operation does beyond its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    PrivateData,
    UntrustedContent,
    MintsCredential,
    SharesAccess,
    SendsElsewhere,
}

impl Label {
    /// Whether it says what a task has touched; the others say what an operation does.
    #[must_use]
    pub fn is_touched(self) -> bool {
        matches!(self, Self::PrivateData | Self::UntrustedContent)
    }

    pub const ALL: [Self; 5] = [Self::PrivateData, Self::UntrustedContent, Self::MintsCredential, Self::SharesAccess, Self::SendsElsewhere];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrivateData => "private-data",
            Self::UntrustedContent => "untrusted-content",
            Self::MintsCredential => "mints-credential",
            Self::SharesAccess => "shares-access",
            Self::SendsElsewhere => "sends-elsewhere",
        }
    }
}

/// How a provider's clients expect an error to be worded, so that they show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorForm {
    /// RFC 9457 problem details: for a provider that has no form of its own.
    #[default]
    Problem,
    Github,
    Openai,
    Anthropic,
    Aws,
    Google,
    Slack,
    Npm,
    Jsonrpc,
    Graphql,
    Grpc,
    Git,
    Plain,
}

/// One API as the catalog knows it. Shared by its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    pub id: Arc<str>,
    /// The credential its operations take unless a grant or workflow names another.
    pub credential: Option<Arc<str>>,
    pub errors: ErrorForm,
    /// Where it takes a token by HTTP's basic authentication alone (git over HTTPS): the user beside
    /// whom a bearer credential is its password.
    pub basic: Option<Arc<str>>,
}

/// What a catalog lists: one thing that an API can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// `provider.group.name`.
    pub id: Arc<str>,
    pub group: Arc<str>,
    pub name: Arc<str>,
    pub provider: Arc<Provider>,
    pub effect: Effect,
    pub labels: Box<[Label]>,
    /// Protocols that an `Upgrade` to this operation may ask for (`websocket`); empty refuses all.
    pub upgrades: Box<[Box<str>]>,
    /// False for an operation that takes no credential (a public download): none is injected.
    pub takes_credential: bool,
    /// Hosts to which a `Location` in an allowed answer may be followed once, uncredentialed.
    pub follows: Box<[Box<str>]>,
}

/// The value of a parameter. Path and query give text; a JSON body gives any JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    Text(Box<str>),
    Json(serde_json::Value),
}

/// The parameters of one call, in the catalog's order, each name once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params(SmallVec<[(Arc<str>, Param); 4]>);

impl Params {
    pub fn push(&mut self, name: Arc<str>, value: Param) {
        self.0.push((name, value));
    }

    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<&Param> {
        self.0.iter().find(|(n, _)| &**n == name).map(|(_, v)| v)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Param)> {
        self.0.iter().map(|(n, v)| (n, v))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Param {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => s.serialize_str(text),
            Self::Json(value) => value.serialize(s),
        }
    }
}

impl Serialize for Params {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(n, v)| (&**n, v)))
    }
}

/// The id of the intent for a host that no catalog knows. Unknown operations are `PROVIDER.unknown`.
pub const UNKNOWN_HOST: &str = "unknown";

/// What this call asks for: an operation with this call's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    pub operation: Arc<Operation>,
    pub params: Params,
}

impl Intent {
    #[must_use]
    pub fn id(&self) -> &str {
        &self.operation.id
    }

    /// Whether the host is in no catalog.
    #[must_use]
    pub fn is_unknown_host(&self) -> bool {
        &*self.operation.id == UNKNOWN_HOST
    }

    /// Whether the host is known and the operation is not.
    #[must_use]
    pub fn is_unknown_operation(&self) -> bool {
        !self.is_unknown_host() && &*self.operation.group == "unknown"
    }
}
