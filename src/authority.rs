//! The state that rooms 3, 5 and 6 ask: registry, tasks, limits.
//!
//! [`Registry`] is what the files say and is replaced whole on reload; [`Tasks`] is what lives and
//! outlasts reloads. Nothing here reads a clock on its own but the sweeper: callers say when it is.

mod ambient;
mod arrivals;
mod delegate;
mod drift;
mod ending;
mod handle;
mod kept;
mod known;
mod lasting;
mod limits;
mod narrow;
mod nearest;
mod overlap;
mod proven;
mod registry;
mod restore;
mod shards;
mod start;
mod tasks;
pub mod token;

pub use arrivals::Entered;
pub use delegate::Delegate;
pub use drift::{DriftKind, News, UNOBSERVED};
pub use handle::Handle;
pub use kept::{Kept, Since};
pub use known::{Change, Known, KnownAgents};
pub use limits::Reservation;
pub use nearest::{Lack, Nearest};
pub use registry::{Agent, EffectiveMode, Registry};
pub use restore::Restored;
pub use start::Start;
pub use tasks::{Found, Labelled, RevokeLeases, Revoking, Tasks};

use time::OffsetDateTime;

use crate::{call::Task, refusal::Refusal};

/// Why a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Someone who may asked for it.
    Asked,
    /// Its time was up.
    Expired,
    /// Its agent was suspended, retired, expired or unregistered, or no longer has the workflow.
    Withdrawn,
    /// The configuration names another ambient agent or workflow now.
    Replaced,
    /// The task that it was part of has ended.
    Parent,
    /// The response to the request that it was started for is over.
    Closed,
    /// Its agent differs from what was registered.
    Drift,
}

impl End {
    pub const ALL: [Self; 7] = [Self::Asked, Self::Expired, Self::Withdrawn, Self::Replaced, Self::Parent, Self::Closed, Self::Drift];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Replaced => "replaced",
            Self::Parent => "parent",
            Self::Closed => "closed",
            Self::Drift => "drift",
        }
    }
}

/// Is told of every task's beginning and end, in the thread that began or ended it.
pub trait TaskEvents: Send + Sync {
    /// A task is about to begin; `after` is the ambient task it succeeds. Called before anyone
    /// can use it.
    ///
    /// # Errors
    /// When it cannot be put on record; the task then does not begin.
    fn started(&self, task: &Task, after: Option<&Task>) -> Result<(), Refusal>;

    /// A task is about to end at another time than it was to.
    ///
    /// # Errors
    /// When that cannot be put on record; the task then keeps its end.
    fn changed(&self, _task: &Task, _expires: OffsetDateTime) -> Result<(), Refusal> {
        Ok(())
    }

    /// The handle of a task that has just started, by its SHA-256: for those who keep it.
    fn handle(&self, _task: &Task, _sha256: &dyn Fn() -> String) {}

    /// A task has ended; its token is cancelled already.
    fn ended(&self, task: &Task, end: End);
}

/// Listens to nothing: for `explain` and for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl TaskEvents for NoEvents {
    fn started(&self, _: &Task, _: Option<&Task>) -> Result<(), Refusal> {
        Ok(())
    }

    fn ended(&self, _: &Task, _: End) {}
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
