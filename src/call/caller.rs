use std::sync::Arc;

use super::Task;

/// The door a call came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

impl How {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handle => "handle",
            Self::Ambient => "ambient",
        }
    }
}

/// Who calls, and for whom.
#[derive(Debug, Clone)]
pub struct Caller {
    pub how: How,
    pub listener: Listener,
    pub task: Arc<Task>,
    /// What of the agent differs from what was registered.
    pub drift: Arc<[Box<str>]>,
}
