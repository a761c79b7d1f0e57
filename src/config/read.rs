//! Reading the tree: every mistake is noted with its place, and reading goes on.

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        Place, locate,
        node::{Entry, Kind, Node},
    },
    problem::{Problem, nearest},
};

/// Problems that are noted before the rest is only counted.
pub(super) const MAX_PROBLEMS: usize = 100;

/// Values whose line is looked for by reading the file again.
const MAX_SEARCHES: u8 = 20;

/// One file being read, and what is wrong in it so far.
#[derive(Debug)]
pub(super) struct Source<'t> {
    pub(super) file: Arc<Path>,
    /// What relative paths in it are relative to.
    pub(super) folder: PathBuf,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    /// Lines that may still be looked for.
    searches: Cell<u8>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str, file: &Path, folder: &Path) -> Self {
        let problems = RefCell::new(Vec::new());
        Self { file: file.into(), folder: folder.to_path_buf(), text, problems, searches: Cell::new(MAX_SEARCHES) }
    }

    pub(super) fn note(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The problems in the order of their lines.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|p| p.line);
        problems
    }

    /// A path as it was written, made relative to this file's folder.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }
}

/// Where something stands, kept for checks that come after reading.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) file: Arc<Path>,
    pub(super) line: usize,
    pub(super) key: String,
}

impl Spot {
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(message).at(&*self.file, Some(self.line)).key(&*self.key)
    }

    pub(super) fn place(&self) -> Place {
        Place { file: self.file.to_path_buf(), line: self.line }
    }
}

/// A name that must be defined somewhere, and where it is referred to.
#[derive(Debug, Clone)]
pub(super) struct Ref {
    pub(super) name: Arc<str>,
    pub(super) spot: Spot,
}

/// One value of the tree with the way that led to it.
#[derive(Debug, Clone)]
pub(super) struct Value<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) node: &'a Node,
    root: &'a Node,
    /// The line of the key, which is where a reader looks; None in a list, where the value's own counts.
    key_line: Option<usize>,
    key: String,
}

impl<'a> Value<'a> {
    pub(super) fn root(source: &'a Source<'a>, node: &'a Node) -> Self {
        Self { source, node, root: node, key_line: Some(node.line), key: String::new() }
    }

    fn line(&self) -> usize {
        let left = self.source.searches.get();
        match self.key_line {
            Some(line) => line,
            None if self.node.exact || left == 0 => self.node.line,
            None => {
                self.source.searches.set(left - 1);
                locate::line(self.source.text, self.root, self.node).unwrap_or(self.node.line)
            }
        }
    }

    pub(super) fn spot(&self) -> Spot {
        Spot { file: Arc::clone(&self.source.file), line: self.line(), key: self.key.clone() }
    }

    /// Notes a problem with this value.
    pub(super) fn wrong(&self, message: impl Into<String>, help: impl Into<String>) {
        self.source.note(self.problem(message).help(help));
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        let problem = Problem::new(message).at(&*self.source.file, Some(self.line()));
        if self.key.is_empty() { problem } else { problem.key(&*self.key) }
    }

    /// Notes that the value is of another kind than the one wanted.
    pub(super) fn mismatch(&self, wanted: &str) {
        self.source.note(self.problem(format!("{} where {wanted} is wanted", self.node.name())));
    }

    /// Notes what this version does not have.
    pub(super) fn not_yet(&self, what: &str) {
        self.source.note(self.problem(format!("{what}: not in this version")).help("remove it"));
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Text(text) if text.is_empty() => {
                self.wrong("the text is empty", "give it a value");
                None
            }
            Kind::Text(text) => Some(text),
            _ => {
                self.mismatch("a text");
                None
            }
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.node.kind {
            Kind::Bool(b) => Some(b),
            _ => {
                self.mismatch("true or false");
                None
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn number(&self, least: u64, most: u64) -> Option<u64> {
        let wanted = format!("a whole number from {least} to {most}");
        let Kind::Number(number) = &self.node.kind else {
            self.mismatch(&wanted);
            return None;
        };
        match number.as_u64() {
            Some(n) if (least..=most).contains(&n) => Some(n),
            _ => {
                self.wrong(format!("{number} is out of range"), format!("write {wanted}"));
                None
            }
        }
    }

    /// A text that `parse` understands; its error is `(message, help)`.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, (String, String)>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err((message, help)) => {
                self.wrong(message, help);
                None
            }
        }
    }

    /// One word of a closed list.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(format!("`{}` is no value for this", shown(text)), suggestion(text, &names));
        }
        found
    }

    /// A text as a path, relative to the file it stands in.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.text().map(|text| self.source.path(text))
    }

    pub(super) fn list(&self) -> Option<Vec<Value<'a>>> {
        let Kind::List(nodes) = &self.node.kind else {
            self.mismatch("a list");
            return None;
        };
        Some(nodes.iter().enumerate().map(|(i, node)| self.element(i, node)).collect())
    }

    fn element(&self, index: usize, node: &'a Node) -> Value<'a> {
        Value { node, key_line: None, key: format!("{}[{index}]", self.key), ..*self }
    }

    /// The texts of a list.
    pub(super) fn texts(&self) -> Option<Vec<Ref>> {
        let list = self.list()?;
        Some(list.iter().filter_map(|v| v.text().map(|text| Ref { name: text.into(), spot: v.spot() })).collect())
    }

    /// Every key with its value, whatever the keys are.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Value<'a>)>> {
        let Kind::Map(entries) = &self.node.kind else {
            self.mismatch("a mapping");
            return None;
        };
        Some(entries.iter().map(|e| (e.key.as_str(), self.member(e))).collect())
    }

    fn member(&self, entry: &'a Entry) -> Value<'a> {
        let name = shown(&entry.key);
        let key = if self.key.is_empty() { name } else { format!("{}.{name}", self.key) };
        Value { node: &entry.value, key_line: Some(entry.line), key, ..*self }
    }

    /// The mapping's values by key; notes keys that are not `known`, and those without a value.
    pub(super) fn fields(&self, known: &[&str]) -> Option<Fields<'a>> {
        let entries = self.entries()?;
        for (key, value) in &entries {
            if !known.contains(key) {
                value.wrong("unknown key", suggestion(key, known));
            } else if value.node.kind == Kind::Null {
                value.wrong("the key has no value", "give it one, or remove the key");
            }
        }
        Some(Fields { whole: self.clone(), entries })
    }
}

/// A mapping whose keys are known.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) whole: Value<'a>,
    entries: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Fields<'a> {
    /// The value of a key. A key that stands there without one is a problem noted already.
    pub(super) fn optional(&self, key: &str) -> Option<&Value<'a>> {
        self.entries.iter().find(|(k, v)| *k == key && v.node.kind != Kind::Null).map(|(_, v)| v)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, _)| *k == key)
    }

    pub(super) fn required(&self, key: &str, help: &str) -> Option<&Value<'a>> {
        if !self.has(key) {
            self.whole.wrong(format!("`{key}` is missing"), help);
        }
        self.optional(key)
    }
}

/// `did you mean …`, or the whole list when nothing is near.
pub(super) fn suggestion(wrong: &str, known: &[&str]) -> String {
    match near(wrong, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let names: Vec<String> = known.iter().map(|k| format!("`{k}`")).collect();
            format!("known here: {}", names.join(", "))
        }
    }
}

/// The name that was meant, if one is near. Only names of about its length are compared, and no endless text.
pub(super) fn near<'c>(wrong: &str, names: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if wrong.len() > 128 {
        return None;
    }
    let reach = (wrong.len() / 3).max(2);
    nearest(wrong, names.into_iter().filter(|n| n.len().abs_diff(wrong.len()) <= reach))
}

/// A text of the file in a message: one line, no control or bidirectional characters, not endless.
pub(super) fn shown(text: &str) -> String {
    let bidi = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out: String = text
        .chars()
        .take(80)
        .flat_map(|c| {
            if bidi(c) {
                c.escape_unicode().collect::<Vec<_>>()
            } else if c == '\'' || c == '"' {
                vec![c]
            } else {
                c.escape_debug().collect()
            }
        })
        .collect();
    if text.chars().count() > 80 {
        out.push('…');
    }
    out
}

/// Keeps the first problems and says how many there are more.
pub(super) fn bounded(mut problems: Vec<Problem>) -> Vec<Problem> {
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    if more > 0 {
        problems.truncate(MAX_PROBLEMS);
        problems.push(Problem::new(format!("and {more} more problems")));
    }
    problems
}
