//! A person's corrections to what was derived, kept apart from what is imported.

use serde::Deserialize;

use crate::{
    call::{Effect, ErrorForm, Label},
    problem::Problem,
};

use super::{DraftBody, DraftOperation};

/// Corrections to an imported catalog. Rules apply in order; one that matches nothing is an
/// error, so that an overlay does not outlive what it corrects.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    #[serde(skip)]
    file: std::path::PathBuf,
    pub(super) credential: Option<String>,
    pub(super) errors: Option<ErrorForm>,
    #[serde(default)]
    pub(super) fold: Vec<String>,
    pub(super) body_type: Option<String>,
    #[serde(default)]
    pub(super) was: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Ids; `*` stands for any text.
    ids: Vec<String>,
    /// Only operations of these effects so far.
    #[serde(default, rename = "of")]
    effects: Vec<Effect>,
    /// The new id of the one operation that the rule is for.
    id: Option<String>,
    effect: Option<Effect>,
    labels: Option<Vec<Label>>,
    reserved: Option<Vec<String>>,
    follows: Option<Vec<String>>,
    /// Parameters of the body that are to be called otherwise.
    #[serde(default)]
    rename: std::collections::BTreeMap<String, String>,
    /// Nothing to correct: someone looked.
    #[serde(default)]
    certain: bool,
}

impl Overlay {
    /// Reads an overlay.
    ///
    /// # Errors
    /// What is wrong in it, with its line.
    pub fn parse(file: &std::path::Path, text: &str) -> Result<Self, Problem> {
        let overlay: Self = serde_yaml::from_str(text).map_err(|e| Problem::new(e.to_string()).at(file, e.location().map(|l| l.line())))?;
        Ok(Self { file: file.to_owned(), ..overlay })
    }

    pub(super) fn apply(&self, operations: &mut [DraftOperation]) -> Result<(), Problem> {
        for (i, rule) in self.rules.iter().enumerate() {
            for pattern in &rule.ids {
                let mut any = false;
                if rule.id.is_some() && operations.iter().filter(|o| matches(pattern, &o.id)).nth(1).is_some() {
                    let message = format!("`{pattern}` is more than one operation, and an id is one's own");
                    return Err(Problem::new(message).at(&self.file, None).key(format!("rules[{i}].id")));
                }
                for operation in operations.iter_mut().filter(|o| matches(pattern, &o.id)) {
                    if rule.effects.is_empty() || rule.effects.contains(&operation.effect) {
                        any |= rule.correct(operation);
                    }
                }
                if !any {
                    let message = format!("`{pattern}` is no operation of the description with such an effect");
                    return Err(Problem::new(message).at(&self.file, None).key(format!("rules[{i}].ids")));
                }
            }
        }
        Ok(())
    }
}

impl Rule {
    /// Whether there was something to correct: `reserved` alone may name what the path has not.
    fn correct(&self, operation: &mut DraftOperation) -> bool {
        if let Some(effect) = self.effect {
            operation.effect = effect;
        }
        if let Some(id) = &self.id {
            operation.id.clone_from(id);
        }
        if let Some(labels) = &self.labels {
            operation.labels.clone_from(labels);
        }
        if let Some(follows) = &self.follows {
            operation.follows.clone_from(follows);
        }
        if let DraftBody::Json(pairs) = &mut operation.body {
            for (name, _) in pairs.iter_mut() {
                if let Some(new) = self.rename.get(name.as_str()) {
                    name.clone_from(new);
                }
            }
        }
        let mut changes = self.reserved.is_none();
        for name in self.reserved.iter().flatten() {
            let has = [format!("{{{name}}}"), format!("{{+{name}}}")].iter().any(|p| operation.all_matches().any(|m| m.contains(p)));
            changes |= has;
            if has && !operation.reserved.contains(name) {
                operation.reserved.push(name.clone());
            }
        }
        // Whoever wrote the rule has looked.
        operation.uncertain &= !(self.certain || self.effect.is_some() || self.labels.is_some());
        changes
    }
}

/// Whether an id fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, id: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| id.strip_prefix(first)) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        let Some(at) = rest.find(piece) else { return false };
        rest = rest.get(at + piece.len()..).unwrap_or("");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, id, want) in [
            ("a.b.c", "a.b.c", true),
            ("a.b.c", "a.b.cd", false),
            ("a.*", "a.b.c", true),
            ("a.*.c", "a.b.c", true),
            ("a.*-key-*", "a.create-key-now", true),
            ("*-key", "a.key", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, id), want, "{pattern} {id}");
        }
    }
}
