//! Surviving: everything that is to outlast the process is kept in a sealed file from time to time,
//! and what has happened since is read from the audit. So no call waits for a second durable write.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Audit, Head, since},
    authority::{Kept, Registry, Restored, Since, Tasks},
    clock,
    config::StateSpec,
    problem::Problem,
    vault::Vault,
};

/// How often it is kept while there is something new. What lies between is read from the audit.
const EVERY: Duration = Duration::from_secs(10);

/// The state file of this process.
#[derive(Debug)]
pub(super) struct State {
    vault: Vault,
    /// Record at which it was last kept.
    last: Mutex<u64>,
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    /// Where the audit stood: everything up to this record is in here.
    chain: String,
    seq: u64,
    hash: String,
    /// Beginnings of tasks may be missing from here on: they were just happening.
    from: u64,
    kept: Kept,
}

impl State {
    pub(super) fn open(spec: &StateSpec) -> Result<(Self, Option<Document>), Problem> {
        let vault = Vault::open(&spec.file, &spec.key)?;
        let document = match vault.read()? {
            None => {
                tracing::warn!(file = %spec.file.display(), "there is no state yet: it begins empty");
                None
            }
            Some(bytes) => {
                let read = serde_json::from_slice(&bytes);
                Some(read.map_err(|e| vault.fault(format!("the state is not as this version of Remit writes it: {e}")))?)
            }
        };
        Ok((Self { vault, last: Mutex::new(0) }, document))
    }

    /// Goes on from what was kept and what the audit has since; then keeps all of it anew, in the log of this process.
    pub(super) fn restore(&self, document: Option<Document>, registry: &Registry, tasks: &Tasks, audit: &Audit) -> Result<(), Problem> {
        let Some(document) = document else {
            audit.event("state", &serde_json::json!({"began": "empty"}));
            return self.keep(tasks, audit).map_err(|e| self.unwritten(&e));
        };
        let wrong = |what: &str| self.vault.fault(format!("the state contradicts itself: {what}"));
        let head: Head = format!("{}:{}", document.seq, document.hash).parse().map_err(wrong)?;
        let Some(dir) = audit.dirs().first() else { return Err(wrong("no directory holds the log it stands in")) };
        let records = since(dir, &document.chain, document.from, head)?;
        let records: Vec<Since> = records.into_iter().map(|(seq, body)| Since { body, before: seq <= document.seq }).collect();
        let last = records.iter().rev().find_map(|r| time_of(&r.body)).map_or(document.time, |t| t.max(document.time));
        let Restored { tasks: count, records } = tasks.restore(registry, document.kept, &records, last).map_err(|e| wrong(&e))?;
        audit.event("state", &serde_json::json!({"chain": document.chain, "record": document.seq, "tasks": count, "since": records}));
        tracing::info!(tasks = count, records, "went on from the state file and the audit");
        self.keep(tasks, audit).map_err(|e| self.unwritten(&e))
    }

    /// Keeps everything as it is now.
    pub(super) fn keep(&self, tasks: &Tasks, audit: &Audit) -> std::io::Result<()> {
        let mut last = self.last.lock();
        // First where the log stands, then what stands there: what is recorded is in what is kept.
        let head = audit.head();
        let kept = tasks.kept();
        let hash = head.to_string().split_once(':').map(|(_, hash)| hash.to_owned()).unwrap_or_default();
        let from = if *last == 0 { head.seq } else { *last };
        let document = Document { time: clock::utc(), chain: audit.chain().to_owned(), seq: head.seq, hash, from, kept };
        let bytes = serde_json::to_vec(&document)?;
        // The state must never stand at a record that a crash could take from the log.
        if !audit.durable() {
            return Err(std::io::Error::other("the audit cannot be written"));
        }
        self.vault.write(bytes)?;
        *last = head.seq;
        Ok(())
    }

    /// Keeps it while there is something new, until `over`.
    pub(super) async fn keep_until(self: Arc<Self>, tasks: Arc<Tasks>, audit: Arc<Audit>, over: CancellationToken) {
        let mut failing = false;
        while over.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if *self.last.lock() == audit.head().seq {
                continue;
            }
            let (state, tasks, audit) = (self.clone(), tasks.clone(), audit.clone());
            let kept = tokio::task::spawn_blocking(move || state.keep(&tasks, &audit)).await;
            match kept {
                Ok(Ok(())) => failing = false,
                // Nothing is lost as long as the log can be written: it is read from further back.
                Ok(Err(error)) if !failing => {
                    failing = true;
                    tracing::error!(%error, file = %self.vault.path().display(), "the state cannot be kept; the audit still has it");
                }
                _ => {}
            }
        }
    }

    fn unwritten(&self, error: &std::io::Error) -> Problem {
        self.vault.fault(format!("the state cannot be written: {error}")).help("give a path in a folder that Remit may write")
    }
}

fn time_of(body: &serde_json::Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(body["time"].as_str()?, &time::format_description::well_known::Rfc3339).ok()
}
