//! What the tests of this room begin with.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{
    call::{AgentRef, Effect, Ends, ErrorForm, Mode, Operation, Principal, Provider, Task, TaskId},
    clock::Moment,
};

/// A task of `bot` for `alice`.
pub(super) fn task(number: u64, lifetime: Duration) -> Arc<Task> {
    Arc::new(Task {
        id: TaskId::new(number),
        number,
        agent: Arc::new(AgentRef { id: "bot".into(), owner: "o".into(), spiffe_id: None }),
        workflow: "w".into(),
        purpose: "p".into(),
        principal: Principal { id: "alice".into(), verified: false, claims: Value::Null },
        proof: Default::default(),
        chain: Vec::new(),
        parent: None,
        trace: None,
        mode: Mode::Enforce,
        started: OffsetDateTime::UNIX_EPOCH,
        ends: Ends::after(Moment::now(), lifetime),
        ended: CancellationToken::new(),
        over_since: Default::default(),
        labels: Default::default(),
        succeeded: Default::default(),
        redirects: Default::default(),
        origin: Default::default(),
    })
}

/// An operation of GitHub's that writes.
pub(super) fn operation(id: &str, takes_credential: bool) -> Operation {
    let provider = Arc::new(Provider { id: "github".into(), credential: Some("github".into()), errors: ErrorForm::Github, basic: None });
    Operation {
        id: id.into(),
        group: "issues".into(),
        name: "create".into(),
        provider,
        effect: Effect::Write,
        labels: Box::new([]),
        upgrades: Box::new([]),
        takes_credential,
        follows: Box::new([]),
    }
}
