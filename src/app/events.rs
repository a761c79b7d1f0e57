use std::sync::Arc;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    audit::{Audit, TaskRecord},
    authority::{End, TaskEvents},
    call::Task,
    refusal::{Reason, Refusal},
};

/// Puts every task's beginning and end in the audit.
pub(super) struct OnRecord {
    audit: Arc<Audit>,
    /// There is a state file: what is needed to go on after a crash is recorded too, and written at once.
    lasting: bool,
}

impl OnRecord {
    pub(super) fn new(audit: Arc<Audit>, lasting: bool) -> Self {
        Self { audit, lasting }
    }
}

impl TaskEvents for OnRecord {
    fn started(&self, task: &Task, after: Option<&Task>) -> Result<(), Refusal> {
        if !self.audit.writable() {
            return Err(Refusal::new(Reason::AuditUnavailable, "the task cannot be recorded, so it does not begin"));
        }
        self.audit.task(&TaskRecord::Started(task));
        if let Some(before) = after {
            self.audit.event("succession", &serde_json::json!({"task": task.id.as_str(), "after": before.id.as_str()}));
        }
        Ok(())
    }

    fn changed(&self, task: &Task, expires: OffsetDateTime) -> Result<(), Refusal> {
        if !self.audit.writable() {
            return Err(Refusal::new(Reason::AuditUnavailable, "the change cannot be recorded, so it is not made"));
        }
        let expires = expires.format(&Rfc3339).unwrap_or_default();
        self.audit.event("lifetime", &serde_json::json!({"task": task.id.as_str(), "expires": expires}));
        Ok(())
    }

    fn handle(&self, task: &Task, sha256: &dyn Fn() -> String) {
        if self.lasting {
            self.audit.event("handle", &serde_json::json!({"task": task.id.as_str(), "sha256": sha256()}));
            self.audit.written();
        }
    }

    fn ended(&self, task: &Task, end: End) {
        self.audit.task(&TaskRecord::Ended { task: &task.id, why: end.as_str() });
        // A deadline ends it again; anything else must not be forgotten with the process.
        if self.lasting && end != End::Expired {
            self.audit.written();
        }
    }
}
