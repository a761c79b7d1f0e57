//! What is wrong with something a user wrote, where, and how to mend it.

use std::{fmt, path::PathBuf};

/// One thing wrong in a file: where it is, what it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: Option<PathBuf>,
    /// From 1.
    pub line: Option<usize>,
    /// The key or path inside the file: `listen.forward`, `agents[2].owner`.
    pub key: Option<String>,
    pub message: String,
    /// The fix, as an instruction.
    pub help: Option<String>,
}

/// Everything wrong that was found; never empty as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    pub fn new(message: impl Into<String>) -> Self {
        Self { file: None, line: None, key: None, message: message.into(), help: None }
    }

    #[must_use]
    pub fn at(self, file: impl Into<PathBuf>, line: Option<usize>) -> Self {
        Self { file: Some(file.into()), line, ..self }
    }

    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl fmt::Display for Problem {
    /// `FILE:LINE: KEY: MESSAGE; HELP`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// The candidate nearest to `wrong` by edit distance, when one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let reach = (wrong.len() / 3).max(2);
    candidates.into_iter().map(|c| (distance(wrong, c), c)).filter(|(d, _)| *d <= reach).min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

/// Edit distance (insert, delete, replace), by bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let new = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = new;
            left = new;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("forwrd", ["forward", "admin"]), Some("forward"));
        assert_eq!(nearest("zebra", ["forward", "admin"]), None);
    }

    #[test]
    fn distance_is_the_edit_distance() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn a_problem_names_place_key_and_fix() {
        let p = Problem::new("unknown key").at("remit.yaml", Some(3)).key("listen.forwrd").help("did you mean `forward`?");
        assert_eq!(p.to_string(), "remit.yaml:3: listen.forwrd: unknown key; did you mean `forward`?");
    }
}
