use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Proof, Task};

/// The door a call came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listener {
    Forward,
    Transparent,
    Inbound,
}

impl Listener {
    pub const ALL: [Self; 3] = [Self::Forward, Self::Transparent, Self::Inbound];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Transparent => "transparent",
            Self::Inbound => "inbound",
        }
    }
}

/// How a caller showed which task it acts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// It presented the task's handle.
    Handle,
    /// The operator's word that only this agent reaches the listener.
    Ambient,
    /// A signed token proved the agent, and its ambient workflow serves it.
    Token,
    /// An X.509-SVID or JWT-SVID proved the agent, and its ambient workflow serves it.
    Svid,
    /// A Kubernetes service account proved the agent, and its ambient workflow serves it.
    ServiceAccount,
    /// `traceparent` named one of the tasks of a caller that proved its agent.
    Trace,
    /// It is the request that the agent was asked.
    Inbound,
}

impl How {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handle => "handle",
            Self::Ambient => "ambient",
            Self::Token => "token",
            Self::Svid => "svid",
            Self::ServiceAccount => "service_account",
            Self::Trace => "trace",
            Self::Inbound => "inbound",
        }
    }
}

/// Who calls, and for whom.
#[derive(Debug, Clone)]
pub struct Caller {
    pub how: How,
    pub listener: Listener,
    pub task: Arc<Task>,
    /// What it proved of who it is, where it did.
    pub proof: Option<Arc<Proof>>,
    /// What of the agent differs from what was registered.
    pub drift: Arc<[Box<str>]>,
}
