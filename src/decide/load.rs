//! Files → sources and data.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::problem::Problem;

use super::{check::HOOKS, engine::Source, syntax::Module};

/// Folders in folders that are followed.
const MAX_FOLDERS: usize = 16;
/// Bytes of one data file.
const MAX_DATA: u64 = 64 << 20;

/// What was read from `policies.paths`.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) policies: Vec<Source>,
    /// The `_test.rego` files.
    pub(super) tests: Vec<Source>,
    pub(super) data: Map<String, Value>,
    pub(super) problems: Vec<Problem>,
}

/// The policy that ships.
pub(super) fn shipped() -> Vec<Source> {
    let source = |file: &str, text: &str| Source { file: file.to_owned(), text: text.to_owned(), builtin: true };
    vec![
        source("remit/authz.rego", include_str!("../../policies/remit/authz.rego")),
        source("remit/delegated.rego", include_str!("../../policies/remit/delegated.rego")),
        source("remit/guardrails.rego", include_str!("../../policies/remit/guardrails.rego")),
    ]
}

/// Reads the rules of every package below `remit.guardrails` into the policy that ships.
pub(super) fn glue(modules: &[Module]) -> Option<Source> {
    let mut rules = BTreeSet::new();
    for module in modules.iter().filter(|m| m.package.len() > 2) {
        let below = module.package.iter().map(|p| &**p).take(2).eq(["remit", "guardrails"]);
        for hook in module.rules.iter().filter(|_| below).filter_map(|r| r.name.first()).filter(|n| HOOKS.contains(&&***n)) {
            let path: String = module.package.iter().map(|p| format!("[{}]", Value::from(&**p))).collect();
            rules.insert(format!("guard_{hook} contains one if some one in data{path}.{hook}\n"));
        }
    }
    (!rules.is_empty()).then(|| Source {
        file: "remit/guardrails-below.rego".to_owned(),
        text: format!("package remit.authz\n\n{}", rules.into_iter().collect::<Vec<_>>().join("\n")),
        builtin: true,
    })
}

/// Reads policies, tests and data from files and folders.
pub(super) fn read(paths: &[PathBuf]) -> Files {
    let mut files = Files::default();
    for path in paths {
        files.path(path, path.parent().filter(|_| path.is_file()).unwrap_or(path), 0);
    }
    files
}

impl Files {
    fn path(&mut self, path: &Path, root: &Path, depth: usize) {
        if path.is_dir() {
            return self.folder(path, root, depth);
        }
        match path.extension().and_then(|e| e.to_str()) {
            Some("rego") => self.policy(path),
            Some("json" | "yaml" | "yml") => self.document(path, root),
            _ if depth == 0 => {
                let problem = Problem::new("this is neither a policy nor data").at(path, None);
                self.problems.push(problem.help("name a folder, or a file that ends in .rego, .json or .yaml"));
            }
            _ => {}
        }
    }

    fn folder(&mut self, folder: &Path, root: &Path, depth: usize) {
        if depth > MAX_FOLDERS {
            return self.problems.push(Problem::new("the folders are nested too deeply").at(folder, None).help("move the policies up"));
        }
        let entries = fs::read_dir(folder).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>());
        match entries {
            Ok(mut entries) => {
                entries.sort();
                let hidden = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
                entries.iter().filter(|p| !hidden(p)).for_each(|p| self.path(p, root, depth + 1));
            }
            Err(e) => self.unreadable(folder, &e),
        }
    }

    fn policy(&mut self, path: &Path) {
        match fs::read_to_string(path) {
            Ok(text) => {
                let source = Source { file: path.display().to_string(), text, builtin: false };
                let is_test = source.file.ends_with("_test.rego");
                if is_test { self.tests.push(source) } else { self.policies.push(source) }
            }
            Err(e) => self.unreadable(path, &e),
        }
    }

    /// A data file stands at the path of its folder, as OPA loads it.
    fn document(&mut self, path: &Path, root: &Path) {
        let text = match fs::metadata(path).and_then(|m| if m.len() > MAX_DATA { Err(too_large()) } else { fs::read_to_string(path) }) {
            Ok(text) => text,
            Err(e) => return self.unreadable(path, &e),
        };
        let parsed = if path.extension().is_some_and(|e| e == "json") {
            serde_json::from_str::<Value>(&text).map_err(|e| (e.to_string(), Some(e.line())))
        } else {
            serde_yaml::from_str::<Value>(&text).map_err(|e| (e.to_string(), e.location().map(|l| l.line())))
        };
        let value = match parsed {
            Ok(value) => value,
            Err((message, line)) => return self.problems.push(Problem::new(message).at(path, line).help("correct the data file")),
        };
        let folders = path.strip_prefix(root).ok().and_then(Path::parent);
        let keys: Vec<String> = folders.into_iter().flat_map(Path::iter).map(|k| k.to_string_lossy().into_owned()).collect();
        let nested = keys.iter().rev().fold(value, |inner, key| Value::Object(Map::from_iter([(key.clone(), inner)])));
        let Value::Object(nested) = nested else {
            return self
                .problems
                .push(Problem::new("the data is not an object").at(path, Some(1)).help("give it a key, or put it in a folder"));
        };
        if nested.contains_key("remit") {
            let problem = Problem::new("data under `remit` is Remit's own").at(path, None).key("remit");
            return self.problems.push(problem.help("agents and workflows belong in `registry`; give other data another name"));
        }
        if let Err(key) = merge(&mut self.data, nested) {
            self.problems.push(Problem::new("this data is in another file as well").at(path, None).key(key).help("keep one of them"));
        }
    }

    fn unreadable(&mut self, path: &Path, e: &std::io::Error) {
        self.problems.push(Problem::new(format!("cannot be read: {e}")).at(path, None).help("correct `policies.paths`"));
    }
}

fn too_large() -> std::io::Error {
    std::io::Error::other(format!("it is larger than {} MiB", MAX_DATA >> 20))
}

/// Merges objects; the error is the first key that both give another value.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) -> Result<(), String> {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (None, value) => {
                into.insert(key, value);
            }
            (Some(Value::Object(a)), Value::Object(b)) => merge(a, b).map_err(|below| format!("{key}.{below}"))?,
            (Some(a), b) if *a == b => {}
            _ => return Err(key),
        }
    }
    Ok(())
}
