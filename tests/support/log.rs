//! The audit log as it stands on the disk.

use std::{collections::HashMap, fs, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;

pub struct Log(pub PathBuf);

/// A decision, and its outcome.
#[derive(Debug, Clone)]
pub struct Pair {
    pub decision: Value,
    pub outcome: Value,
}

impl Log {
    /// The bodies of all records, chain by chain, in order.
    pub fn records(&self) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(&self.0) else { return vec![] };
        let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
        files.sort();
        let texts: Vec<String> = files.iter().map(|f| fs::read_to_string(f).unwrap()).collect();
        // A line that is being written just now is not there yet.
        let lines = texts.iter().flat_map(|t| t.split_inclusive('\n').filter(|l| l.ends_with('\n')));
        lines.map(|l| serde_json::from_str::<Value>(l).unwrap()["body"].clone()).collect()
    }

    pub fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.records().into_iter().filter(|r| r["kind"] == kind).collect()
    }

    /// Waits until `calls` decisions have their outcome, and checks that each has one, after it.
    pub async fn pairs(&self, calls: usize) -> Vec<Pair> {
        let mut found = Err(String::new());
        for _ in 0..200 {
            found = paired(&self.records());
            if found.as_ref().is_ok_and(|pairs| pairs.len() >= calls) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let pairs = found.unwrap();
        assert_eq!(pairs.len(), calls, "{pairs:#?}");
        pairs
    }

    /// The one call there was.
    pub async fn only(&self) -> Pair {
        self.pairs(1).await.remove(0)
    }

    /// What `remit audit verify` says; its exit code is checked.
    pub fn verify(&self) -> String {
        let done = Command::new(env!("CARGO_BIN_EXE_remit")).args(["audit", "verify"]).arg(&self.0).output().unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert_eq!(done.status.code(), Some(0), "{said}");
        said
    }
}

/// Each decision with its one outcome; what is wrong with them otherwise.
fn paired(records: &[Value]) -> Result<Vec<Pair>, String> {
    let mut pairs: Vec<Pair> = vec![];
    let mut place: HashMap<String, usize> = HashMap::new();
    for record in records {
        let id = record["id"].as_str().unwrap_or_default().to_owned();
        if record["kind"] == "decision" {
            if place.insert(id, pairs.len()).is_some() {
                return Err(format!("a decision stands twice: {record}"));
            }
            pairs.push(Pair { decision: record.clone(), outcome: Value::Null });
        } else if record["kind"] == "outcome" {
            let Some(at) = place.get(&id) else { return Err(format!("an outcome without a decision before it: {record}")) };
            if !pairs[*at].outcome.is_null() {
                return Err(format!("a call has two outcomes: {record}"));
            }
            pairs[*at].outcome = record.clone();
        }
    }
    match pairs.iter().find(|p| p.outcome.is_null()) {
        Some(open) => Err(format!("a call has no outcome: {}", open.decision)),
        None => Ok(pairs),
    }
}
