use std::sync::Arc;

use crate::{
    audit::{Audit, TaskRecord},
    authority::{End, TaskEvents},
    call::Task,
    refusal::Refusal,
};

/// Puts every task's beginning and end in the audit.
pub(super) struct OnRecord(Arc<Audit>);

impl OnRecord {
    pub(super) fn new(audit: Arc<Audit>) -> Self {
        Self(audit)
    }
}

impl TaskEvents for OnRecord {
    fn started(&self, task: &Task, _after: Option<&Task>) -> Result<(), Refusal> {
        self.0.task(&TaskRecord::Started(task));
        Ok(())
    }

    fn ended(&self, task: &Task, end: End) {
        self.0.task(&TaskRecord::Ended { task: &task.id, why: end.as_str() });
    }
}
