use std::sync::Arc;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    audit::{Audit, TaskRecord},
    authority::{End, TaskEvents},
    call::Task,
    refusal::{Reason, Refusal},
};

/// Puts every task's beginning and end in the audit.
pub(super) struct OnRecord(Arc<Audit>);

impl OnRecord {
    pub(super) fn new(audit: Arc<Audit>) -> Self {
        Self(audit)
    }
}

impl TaskEvents for OnRecord {
    fn started(&self, task: &Task, after: Option<&Task>) -> Result<(), Refusal> {
        if !self.0.writable() {
            return Err(Refusal::new(Reason::AuditUnavailable, "the task cannot be recorded, so it does not begin"));
        }
        self.0.task(&TaskRecord::Started(task));
        if let Some(before) = after {
            self.0.event("succession", &serde_json::json!({"task": task.id.as_str(), "after": before.id.as_str()}));
        }
        Ok(())
    }

    fn changed(&self, task: &Task, expires: OffsetDateTime) -> Result<(), Refusal> {
        if !self.0.writable() {
            return Err(Refusal::new(Reason::AuditUnavailable, "the change cannot be recorded, so it is not made"));
        }
        let expires = expires.format(&Rfc3339).unwrap_or_default();
        self.0.event("lifetime", &serde_json::json!({"task": task.id.as_str(), "expires": expires}));
        Ok(())
    }

    fn ended(&self, task: &Task, end: End) {
        self.0.task(&TaskRecord::Ended { task: &task.id, why: end.as_str() });
    }
}
