//! What the desk of leases needs of the house: a place for its journal, and who hears of what happens.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    audit::Audit,
    authority::Tasks,
    config::{Config, Sink},
    credential::{Broker, Journal, JournalPlace, LeaseEvents, Leases, Listed},
    metrics::Metrics,
    problem::Problem,
};

/// Puts leases on record, and counts them.
pub(super) struct OnRecord {
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
}

impl OnRecord {
    pub(super) fn new(audit: Arc<Audit>, metrics: Arc<Metrics>) -> Self {
        Self { audit, metrics }
    }
}

impl LeaseEvents for OnRecord {
    fn asked(&self, kind: &'static str, took: Duration, fault: Option<String>) {
        self.metrics.lease_issued(kind, took);
        if let Some(why) = fault {
            self.metrics.lease_refused(kind);
            tracing::warn!(kind, why, "no lease was issued");
        }
    }

    fn issued(&self, lease: Listed) {
        self.audit.event("lease", &json!(lease));
    }

    fn revoked(&self, lease: Listed, done: bool, after: Duration) {
        if done {
            self.metrics.lease_revocation.observe(after.as_secs_f64());
        }
        let data = json!({
            "credential": lease.credential, "kind": lease.kind, "task": lease.task, "fingerprint": lease.fingerprint,
            "revoked": done, "after_ms": u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        });
        self.audit.event("lease_end", &data);
    }

    fn not_revoked(&self, lease: Listed, why: &str) {
        self.metrics.lease_not_revoked(&lease.kind);
        tracing::warn!(credential = &*lease.credential, task = &*lease.task, why, "a lease could not be revoked; it is tried again");
    }
}

/// The desk, which goes on with what processes before this one left.
///
/// # Errors
/// What is wrong with a journal that was left.
pub(super) fn desk(config: &Config, broker: &Broker, tasks: &Tasks, events: OnRecord) -> Result<Leases, Problem> {
    let journal = place(config).map_or_else(Journal::none, Journal::new);
    let leases = Leases::new(journal, Arc::new(events));
    tasks.revoke_by(Arc::new(leases.clone()));
    leases.know(broker);
    let left = leases.recover()?;
    if left > 0 {
        tracing::warn!(left, "leases of a process that was killed are being revoked");
    }
    Ok(leases)
}

/// Beside the state where there is one, else in the first directory of the audit.
pub(super) fn place(config: &Config) -> Option<JournalPlace> {
    if let Some(state) = &config.state {
        let mut dir = state.file.clone().into_os_string();
        dir.push(".leases");
        return Some(JournalPlace { dir: dir.into(), key: state.key.clone() });
    }
    config.audit.sinks.iter().find_map(|sink| match sink {
        Sink::Dir(dir) => Some(JournalPlace { dir: dir.join("leases"), key: dir.join("leases/key") }),
        Sink::Stdout => None,
    })
}

/// What is issued must be written down somewhere before it is used.
pub(super) fn check(config: &Config, broker: &Broker) -> Result<(), Problem> {
    if !broker.issues() || place(config).is_some() {
        return Ok(());
    }
    let message = "there is no place to write down what is issued, so that it is revoked also after a crash";
    let problem = Problem::new(message).key("state").help("add `state: {file: remit.state, key: remit.key}`, or a `dir` to `audit.sinks`");
    Err(match &config.file {
        Some(file) => problem.at(file.clone(), None),
        None => problem,
    })
}
