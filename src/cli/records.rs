use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde_json::Value;

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
