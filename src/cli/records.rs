use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    call::{Intent, Param, Params},
    enforce::Rules,
};

/// The bodies of the records in `dir`, in the order they were written, of the chains whose name
/// starts with `chain` (empty: all). What cannot be read is passed over: `audit verify` says so.
pub(super) fn bodies(dir: &Path, chain: &str) -> impl Iterator<Item = Value> {
    let named = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(chain) && n.ends_with(".jsonl"));
    let mut files: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().filter_map(|e| e.ok().map(|e| e.path())).filter(named).collect();
    files.sort();
    let lines = files.into_iter().filter_map(|path| fs::File::open(path).ok()).flat_map(|file| BufReader::new(file).lines());
    lines.map_while(Result::ok).filter_map(|line| {
        let mut record: Value = serde_json::from_str(&line).ok()?;
        record.get_mut("body").map(Value::take)
    })
}

/// An intent as it was recorded, of an operation that the catalog still knows.
pub(super) fn intent(rules: &Rules, recorded: &Value) -> Option<Intent> {
    let operation = rules.catalog.operation(recorded.get("id")?.as_str()?)?.operation().clone();
    let mut params = Params::default();
    for (name, value) in recorded.get("params").and_then(Value::as_object).into_iter().flatten() {
        let value = match value {
            Value::String(text) => Param::Text(text.as_str().into()),
            other => Param::Json(other.clone()),
        };
        params.push(Arc::from(name.as_str()), value);
    }
    Some(Intent { operation, params })
}
