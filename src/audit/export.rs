//! The calls of a log that are over, each with its task, for other systems.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Call, files,
    line::{CallId, Kind},
};

/// What [`export`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    pub calls: u64,
    /// Calls in the span that are still open, or whose outcome is not here: not given out.
    pub open: u64,
}

/// Gives out every call that is over and was decided from `since` on and before `until`, in the order
/// in which they ended, with the record of its task's beginning.
///
/// # Errors
/// When a directory cannot be read; what `give` answers.
pub fn export(
    dirs: &[PathBuf],
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
    mut give: impl FnMut(&Call, Option<&Value>) -> io::Result<()>,
) -> io::Result<Exported> {
    let mut done = Exported::default();
    for dir in dirs {
        let one = of_dir(dir, since, until, &mut give)?;
        done.calls += one.calls;
        done.open += one.open;
    }
    Ok(done)
}

fn of_dir(
    dir: &Path,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
    give: &mut impl FnMut(&Call, Option<&Value>) -> io::Result<()>,
) -> io::Result<Exported> {
    let mut tasks: HashMap<String, Arc<Value>> = HashMap::new();
    let mut open: HashMap<CallId, (Call, Option<Arc<Value>>)> = HashMap::new();
    let mut calls = 0;
    let mut failed = None;
    files::each(dir, |chain, record| {
        let parse = || serde_json::from_slice::<Value>(record.body).ok();
        match (record.kind(), record.call_id()) {
            _ if failed.is_some() => {}
            (Kind::Task, _) => {
                if let Some(body) = parse().filter(|b| b["event"] == "started")
                    && let Some(id) = body["id"].as_str()
                {
                    tasks.insert(id.to_owned(), Arc::new(body));
                }
            }
            (Kind::Decision, Some(id)) if within(record.text("time"), since, until) => {
                let Some(decision) = parse() else { return };
                let task = decision["task"].as_str().and_then(|t| tasks.get(t)).cloned();
                open.insert(id, (Call { chain: chain.id.clone(), seq: record.seq, decision, outcome: None }, task));
            }
            (Kind::Outcome, Some(id)) => {
                let Some((mut call, task)) = open.remove(&id) else { return };
                call.outcome = parse();
                calls += 1;
                failed = give(&call, task.as_deref()).err();
            }
            _ => {}
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(Exported { calls, open: open.len() as u64 }),
    }
}

/// A time that cannot be read is in no span, and in the one without bounds.
fn within(time: Option<&str>, since: Option<OffsetDateTime>, until: Option<OffsetDateTime>) -> bool {
    if since.is_none() && until.is_none() {
        return true;
    }
    let Some(time) = time.and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok()) else { return false };
    since.is_none_or(|s| time >= s) && until.is_none_or(|u| time < u)
}
