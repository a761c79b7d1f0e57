//! Finding operations by words.

use super::catalog::{Catalog, Facts};

/// The most that a search gives.
const MOST: usize = 20;

impl Catalog {
    /// Operations whose id or path holds all the words, the best first: at most 20. A word fits
    /// another that begins with it, singular or plural.
    #[must_use]
    pub fn search(&self, text: &str) -> Vec<Facts<'_>> {
        let words: Vec<String> = split(text).map(|w| stem(&w)).collect();
        if words.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<(usize, Facts<'_>)> = self.operations().filter_map(|f| Some((score(f, &words)?, f))).collect();
        found.sort_by(|(a, f), (b, g)| {
            b.cmp(a).then_with(|| f.operation().id.len().cmp(&g.operation().id.len())).then_with(|| f.operation().id.cmp(&g.operation().id))
        });
        found.into_iter().take(MOST).map(|(_, f)| f).collect()
    }
}

/// How well an operation fits; None when a word is missing.
fn score(facts: Facts<'_>, words: &[String]) -> Option<usize> {
    let id: Vec<String> = split(&facts.operation().id).map(|w| stem(&w)).collect();
    let path: Vec<String> = facts.matches().flat_map(split).map(|w| stem(&w)).collect();
    let mut total = 0;
    for word in words {
        total += if id.contains(word) {
            4
        } else if id.iter().any(|w| w.starts_with(word.as_str())) {
            3
        } else if path.contains(word) {
            2
        } else if path.iter().any(|w| w.starts_with(word.as_str())) {
            1
        } else {
            return None;
        };
    }
    Some(total)
}

fn split(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).flat_map(humps).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// `createIssue` is two words.
fn humps(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let starts = |(i, c): (usize, char)| (i > 0 && c.is_uppercase() && !rest[..i].ends_with(char::is_uppercase)).then_some(i);
        let end = rest.char_indices().find_map(starts).unwrap_or(rest.len());
        let (first, tail) = rest.split_at(end);
        rest = tail;
        Some(first).filter(|f| !f.is_empty())
    })
}

fn stem(word: &str) -> String {
    let short = word.strip_suffix("ies").map(|w| format!("{w}y")).or_else(|| word.strip_suffix('s').map(str::to_owned));
    short.filter(|s| s.len() > 2).unwrap_or_else(|| word.to_owned())
}
