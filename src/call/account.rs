use std::{any::Any, fmt, sync::Arc, time::Instant};

use crate::{credential::Withheld, refusal::Reason};

use super::DecisionId;

/// What became of a call, written when it is over.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub id: DecisionId,
    pub began: Instant,
    /// The status the agent got; None when it went away before one.
    pub status: Option<u16>,
    /// The status upstream gave; None when the call did not get there.
    pub upstream: Option<u16>,
    /// Why the call was refused or cut, when it was.
    pub reason: Option<Reason>,
    /// Body bytes sent to upstream and to the agent.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// SHA-256 of the request body that was sent, when there was one and it was sent whole.
    pub body_sha256: Option<[u8; 32]>,
    /// Times the injected credential was taken out of the answer.
    pub scrubbed: u32,
    /// What of the answer did not reach the agent, because no grant returns it.
    pub withheld: Withheld,
    /// The answer reached its end.
    pub complete: bool,
    /// When its task ended, where that cut it.
    pub cut_since: Option<Instant>,
}

/// Takes outcomes; never blocks and never fails (its place was reserved with the decision).
pub trait Recorder: Send + Sync {
    fn outcome(&self, outcome: &Outcome);
}

/// Writes a call's outcome when it is dropped: a panic, a disconnect and a refusal all leave a
/// record (law 4).
pub struct Account {
    pub outcome: Outcome,
    recorder: Option<Arc<dyn Recorder>>,
    /// Dropped after the outcome was written.
    held: Option<Box<dyn Any + Send + Sync>>,
}

impl Account {
    pub fn open(id: DecisionId, began: Instant, recorder: Arc<dyn Recorder>) -> Self {
        let outcome = Outcome {
            id,
            began,
            status: None,
            upstream: None,
            reason: None,
            bytes_up: 0,
            bytes_down: 0,
            body_sha256: None,
            scrubbed: 0,
            withheld: Withheld::default(),
            complete: false,
            cut_since: None,
        };
        Self { outcome, recorder: Some(recorder), held: None }
    }

    /// Keeps what is over with the call.
    pub fn hold(&mut self, held: Box<dyn Any + Send + Sync>) {
        self.held = Some(held);
    }

    /// Closes the account without a record, for what turned out to be no call of its own.
    pub fn discard(mut self) {
        self.recorder = None;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(recorder) = &self.recorder {
            recorder.outcome(&self.outcome);
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcome.fmt(f)
    }
}
