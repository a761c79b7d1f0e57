//! Finding the files that a config names.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::config::{node::MAX_FILE, read::Value};

/// Folders below a policy folder that are looked into.
const MAX_DEPTH: usize = 8;

/// Reads a text file of bounded size.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|e| plain(&e))?;
    if size.is_dir() {
        return Err("it is a folder".to_string());
    }
    if size.len() > MAX_FILE as u64 {
        return Err(format!("it is larger than {} MiB", MAX_FILE >> 20));
    }
    let bytes = fs::read(path).map_err(|e| plain(&e))?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_string(),
        io::ErrorKind::PermissionDenied => "it may not be read".to_string(),
        _ => error.to_string(),
    }
}

/// The files that a path or a pattern names, in the order of their names. Notes a problem when there is none.
/// A pattern's folder is added to `watched`, since a new file in it counts.
pub(super) fn named(value: &Value<'_>, watched: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let Some(path) = value.path() else { return Vec::new() };
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if !name.contains(['*', '?']) {
        if path.is_file() {
            return vec![path];
        }
        value.wrong(format!("no file {}", path.display()), "paths are relative to the file they stand in");
        return Vec::new();
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if folder.to_string_lossy().contains('*') {
        value.wrong("a `*` stands before the last part of the path", "use it in the file's name only, as in registry/*.yaml");
        return Vec::new();
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        let path = path.with_file_name(file);
        if !file.starts_with('.') && matches(name.as_bytes(), file.as_bytes()) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        value.wrong(format!("no file matches {}", path.display()), "paths are relative to the file they stand in");
    }
    watched.push(folder.to_path_buf());
    found
}

/// Whether a name fits a pattern of `*` (any text) and `?` (any byte). Linear memory, no backtracking tree.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(want) if *want == b'?' || want == byte => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    p = after;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}

/// A policy file, or a folder with everything below it that is policy or its data.
pub(super) fn policy_files(path: &Path, watched: &mut Vec<PathBuf>) {
    watched.push(path.to_path_buf());
    if path.is_dir() {
        below(path, MAX_DEPTH, watched);
    }
}

fn below(folder: &Path, depth: usize, watched: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if depth > 0 {
                watched.push(path.clone());
                below(&path, depth - 1, watched);
            }
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| CONFIG_KINDS.contains(&e)) {
            watched.push(path);
        }
    }
}

/// Endings of the files in a folder that matter.
pub(super) const CONFIG_KINDS: [&str; 4] = ["rego", "yaml", "yml", "json"];

/// A file that must be there.
pub(super) fn existing(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<PathBuf> {
    let path = value.path()?;
    if !path.is_file() {
        value.wrong(format!("no file {}", path.display()), "paths are relative to the file they stand in");
        return None;
    }
    files.push(path.clone());
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, want) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("*.yaml", ".yaml", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("?.yaml", "ab.yaml", false),
            ("*", "", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }
}
