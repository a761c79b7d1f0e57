//! Why a call was refused, in one closed list that the log, the metric and the answer share; and
//! the answer itself, in the form that the provider's clients show ([`render()`]).

mod aws;
mod form;
mod render;
mod text;

pub use render::{Context, render};

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// How a detail begins that tells a client of persisted GraphQL queries to send its document along;
/// the answer's code then says so as well.
pub const PERSISTED_QUERY_NOT_FOUND: &str = "PersistedQueryNotFound";

/// Every reason Remit can refuse a call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    UnknownAgent,
    AgentSuspended,
    AgentRetired,
    AgentExpired,
    Drift,
    NoTask,
    TaskEnded,
    TaskExpired,
    DelegationInvalid,
    UnknownHost,
    UnknownOperation,
    NotGranted,
    Guardrail,
    ApprovalRequired,
    ApprovalDenied,
    LimitExceeded,
    ForeignCredential,
    AmbiguousRequest,
    Misdirected,
    AddressForbidden,
    BodyTooLarge,
    CredentialUnavailable,
    UpstreamUnreachable,
    UpstreamTimeout,
    PolicyFailed,
    AuditUnavailable,
    StateUnavailable,
    Overloaded,
}

/// What is fixed for a reason.
struct Facts {
    code: &'static str,
    status: u16,
    title: &'static str,
    /// Whether the same call may succeed when it is made again.
    retry: bool,
    /// What to do about it, beside asking the owner; empty: ask the owner.
    next: &'static str,
}

impl Reason {
    pub const ALL: [Self; 28] = [
        Self::UnknownAgent,
        Self::AgentSuspended,
        Self::AgentRetired,
        Self::AgentExpired,
        Self::Drift,
        Self::NoTask,
        Self::TaskEnded,
        Self::TaskExpired,
        Self::DelegationInvalid,
        Self::UnknownHost,
        Self::UnknownOperation,
        Self::NotGranted,
        Self::Guardrail,
        Self::ApprovalRequired,
        Self::ApprovalDenied,
        Self::LimitExceeded,
        Self::ForeignCredential,
        Self::AmbiguousRequest,
        Self::Misdirected,
        Self::AddressForbidden,
        Self::BodyTooLarge,
        Self::CredentialUnavailable,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::PolicyFailed,
        Self::AuditUnavailable,
        Self::StateUnavailable,
        Self::Overloaded,
    ];

    /// The one place where a reason gets its code, status and wording.
    fn facts(self) -> Facts {
        let (code, status, title, retry, next) = match self {
            Self::UnknownAgent => ("unknown_agent", 403, "No such agent is registered", false, "register the agent"),
            Self::AgentSuspended => ("agent_suspended", 403, "The agent is suspended", false, ""),
            Self::AgentRetired => ("agent_retired", 403, "The agent is retired", false, ""),
            Self::AgentExpired => ("agent_expired", 403, "The agent's registration has expired", false, ""),
            Self::Drift => ("drift", 403, "The agent differs from what was registered", false, ""),
            Self::NoTask => {
                ("no_task", 403, "The call names no task", false, "call through the proxy URL that `remit run` or the control API gave")
            }
            Self::TaskEnded => ("task_ended", 403, "The task has ended", false, "start a new task"),
            Self::TaskExpired => ("task_expired", 403, "The task has expired", false, "start a new task"),
            Self::DelegationInvalid => ("delegation_invalid", 403, "The delegation is not valid", false, ""),
            Self::UnknownHost => ("unknown_host", 403, "The host is in no catalog", false, ""),
            Self::UnknownOperation => ("unknown_operation", 403, "The operation is in no catalog", false, ""),
            Self::NotGranted => ("not_granted", 403, "Not within this task's remit", false, ""),
            Self::Guardrail => ("guardrail", 403, "A guardrail forbids this call", false, ""),
            Self::ApprovalRequired => ("approval_required", 403, "A human must approve this call", false, ""),
            Self::ApprovalDenied => ("approval_denied", 403, "A human denied this call", false, ""),
            Self::LimitExceeded => ("limit_exceeded", 403, "The task's limit is spent", false, ""),
            Self::ForeignCredential => {
                ("foreign_credential", 403, "The call carries a credential of its own", false, "send the call again without the credential")
            }
            Self::AmbiguousRequest => {
                ("ambiguous_request", 400, "The request can be read in two ways", false, "send the call again in a form with one reading")
            }
            Self::Misdirected => (
                "misdirected",
                421,
                "The request is for another host than the connection",
                false,
                "open a connection for the host that is called",
            ),
            Self::AddressForbidden => ("address_forbidden", 403, "The host's address may not be reached", false, ""),
            Self::BodyTooLarge => ("body_too_large", 413, "The body is larger than what can be judged", false, "send a smaller body"),
            Self::CredentialUnavailable => ("credential_unavailable", 502, "No credential can be had for this call", true, ""),
            Self::UpstreamUnreachable => ("upstream_unreachable", 502, "Upstream cannot be reached", true, "try again later"),
            Self::UpstreamTimeout => ("upstream_timeout", 504, "Upstream did not answer in time", true, "try again later"),
            Self::PolicyFailed => ("policy_failed", 503, "The policy could not be evaluated", false, ""),
            Self::AuditUnavailable => ("audit_unavailable", 503, "The call cannot be recorded", true, "try again later"),
            Self::StateUnavailable => ("state_unavailable", 503, "The state cannot be read", true, "try again later"),
            Self::Overloaded => ("overloaded", 503, "Remit has more calls than it can take", true, "try again later"),
        };
        Facts { code, status, title, retry, next }
    }

    /// The code, as it stands in `Remit-Reason`, the audit and the metric.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.facts().code
    }

    /// The status of the refusal, unless the listener or the limit calls for another (407, 429).
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.facts().status).unwrap_or(StatusCode::FORBIDDEN)
    }

    #[must_use]
    pub fn title(self) -> &'static str {
        self.facts().title
    }

    /// Whether the same call may succeed when it is made again.
    #[must_use]
    pub fn may_retry(self) -> bool {
        self.facts().retry
    }

    /// What its reader can do about it; None: ask the agent's owner.
    #[must_use]
    pub fn next(self) -> Option<&'static str> {
        Some(self.facts().next).filter(|n| !n.is_empty())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One refusal: the reason, and what its agent can act on.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub reason: Reason,
    /// One sentence that names what was refused.
    pub detail: Cow<'static, str>,
    /// What the policy said.
    pub reasons: Vec<Box<str>>,
    /// When time restores it.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into(), reasons: Vec::new(), retry_after: None }
    }

    /// The status of the answer: the reason's, or 429 for a limit that time restores.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        if self.reason == Reason::LimitExceeded && self.retry_after.is_some() {
            return StatusCode::TOO_MANY_REQUESTS;
        }
        self.reason.status()
    }

    #[must_use]
    pub fn with_reasons(self, reasons: Vec<Box<str>>) -> Self {
        Self { reasons, ..self }
    }

    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_serialised_name() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
        }
    }
}
