//! Ids, effects and labels from what a description says.
//!
//! The method comes first, then what the vendor says in so many words, then names. Whatever a name
//! alone decided is `uncertain`. Where a name can be read in two ways, the stricter one counts.

mod labels;
mod words;

use serde_json::Value;

use crate::call::{Effect, Label};

use words::{GOVERNS, Words};

/// An effect and labels, and whether they were guessed.
#[derive(Debug, PartialEq)]
pub(super) struct Derived {
    pub effect: Effect,
    pub labels: Vec<Label>,
    pub uncertain: bool,
}

/// The longest group or name that is made.
const LONGEST: usize = 120;

/// The group and name of an operation's id.
pub(super) fn id(operation: &Value, method: &str, path: &str) -> (String, String) {
    let tag = operation.pointer("/tags/0").and_then(Value::as_str).map(kebab).filter(|t| !t.is_empty());
    let literal = path.split(['/', '?']).find(|s| !s.is_empty() && !s.contains('{') && !is_version(s)).map(kebab).filter(|l| !l.is_empty());
    let group = || tag.or(literal).unwrap_or_else(|| "api".into());
    let from_path = || {
        let words: Vec<String> = path.split(['/', '?', '&', '=']).filter(|s| !s.is_empty()).map(kebab).collect();
        kebab(&format!("{method}-{}", words.join("-")))
    };
    let (group, name) = match operation.get("operationId").and_then(Value::as_str) {
        None => (group(), from_path()),
        Some(id) => match id.split_once(['/', '.']) {
            Some((first, rest)) if !kebab(first).is_empty() && !kebab(rest).is_empty() => (kebab(first), kebab(rest)),
            _ if kebab(id).is_empty() => (group(), from_path()),
            _ => (group(), kebab(id)),
        },
    };
    // Kept for what no catalog lists.
    let group = if group == "unknown" || group == "tunnel" { format!("{group}-api") } else { group };
    (group, name)
}

/// What an operation does, from its method and then its name.
pub(super) fn effect(method: &str, group: &str, name: &str) -> Derived {
    let words = Words::of(method, group, name);
    let (mut effect, mut uncertain) = match method {
        "get" | "head" | "options" | "trace" => by_safe_method(&words),
        "delete" => (Effect::Delete, false),
        "post" if words.only_reads() => (Effect::Read, true),
        "post" if words.deletes() => (Effect::Delete, true),
        "post" | "put" if words.executes() => (Effect::Execute, true),
        "post" => (Effect::Write, words.may_read()),
        _ => (Effect::Write, false),
    };
    if matches!(effect, Effect::Write | Effect::Delete) && (words.has(&GOVERNS) || group == "admin") {
        (effect, uncertain) = (Effect::Admin, true);
    }
    let labels = labels::labels(method, effect, &words);
    Derived { effect, uncertain: uncertain || !labels.is_empty(), labels }
}

fn by_safe_method(words: &Words<'_>) -> (Effect, bool) {
    match () {
        () if words.says_read() => (Effect::Read, false),
        () if words.deletes_first() => (Effect::Delete, true),
        () if words.executes() => (Effect::Execute, true),
        () if words.changes() => (Effect::Write, true),
        () => (Effect::Read, false),
    }
}

/// As [`effect`], corrected by what the vendor says of an OpenAPI operation.
pub(super) fn hinted(operation: &Value, method: &str, group: &str, name: &str) -> Derived {
    let derived = effect(method, group, name);
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    // Kubernetes: `connect` opens a shell, a port or a proxy into a pod, by GET as well.
    let effect = match text("x-kubernetes-action") {
        Some("connect") => Effect::Execute,
        Some("get" | "list" | "watch" | "watchlist") => Effect::Read,
        Some("delete" | "deletecollection") => Effect::Delete,
        Some("post" | "put" | "patch") if derived.effect == Effect::Read => Effect::Write,
        Some(_) => derived.effect,
        None => return consequential(operation, derived),
    };
    let effect = if derived.effect == Effect::Admin && effect != Effect::Read { Effect::Admin } else { effect };
    Derived { effect, ..derived }
}

/// `x-openai-isConsequential: false` says that a call changes nothing.
fn consequential(operation: &Value, derived: Derived) -> Derived {
    match operation.get("x-openai-isConsequential").and_then(Value::as_bool) {
        Some(true) if derived.effect == Effect::Read => Derived { effect: Effect::Write, uncertain: true, ..derived },
        Some(false) if derived.effect == Effect::Read => Derived { uncertain: !derived.labels.is_empty(), ..derived },
        _ => derived,
    }
}

/// A match without its parameters' names.
pub(super) fn shape(text: &str) -> String {
    let mut shape = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            '+' if inside && shape.ends_with('{') => {}
            _ if inside => continue,
            _ => {}
        }
        shape.push(c);
    }
    shape
}

/// `v1`, `2026-07-01`: no name of a thing.
fn is_version(segment: &str) -> bool {
    let digits = segment.strip_prefix('v').unwrap_or(segment);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

/// `createUser_v2` → `create-user-v2`.
pub(super) fn kebab(text: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if out.len() >= LONGEST {
            break;
        }
        if c.is_ascii_alphanumeric() {
            // `getURLById`: a new word begins at a capital after a small letter, or before one.
            let next_is_small = chars.peek().is_some_and(|n| n.is_ascii_lowercase());
            let starts = c.is_ascii_uppercase()
                && (before.is_ascii_lowercase() || before.is_ascii_digit() || (before.is_ascii_uppercase() && next_is_small));
            if starts && !out.ends_with('-') {
                out.push('-');
            }
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        before = c;
    }
    out.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_joined_with_dashes() {
        for (text, want) in [
            ("createUser", "create-user"),
            ("create-comment", "create-comment"),
            ("getURLById", "get-url-by-id"),
            ("list_models", "list-models"),
            ("Re-run all!", "re-run-all"),
        ] {
            assert_eq!(kebab(text), want);
        }
        assert!(kebab(&"a".repeat(10_000)).len() <= LONGEST);
    }

    #[test]
    fn ids_come_from_the_vendor_or_the_path() {
        for (operation, path, want) in [
            (json!({"operationId": "issues/create"}), "/x", ("issues", "create")),
            (json!({"operationId": "createPet", "tags": ["Pets"]}), "/x", ("pets", "create-pet")),
            (json!({"operationId": "createPet"}), "/v1/pets", ("pets", "create-pet")),
            (json!({}), "/v1/pets/{id}", ("pets", "post-v1-pets-id")),
            (json!({"operationId": "日本"}), "/pets", ("pets", "post-pets")),
            (json!({"tags": ["unknown"]}), "/pets", ("unknown-api", "post-pets")),
            (json!({}), "/", ("api", "post")),
        ] {
            let (group, name) = id(&operation, "post", path);
            assert_eq!((&*group, &*name), want, "{operation} {path}");
        }
    }

    #[test]
    fn effects_come_from_the_method_and_guesses_are_marked() {
        let of = |method, name| {
            let d = effect(method, "x", name);
            (d.effect, d.uncertain)
        };
        assert_eq!(of("get", "list-issues"), (Effect::Read, false));
        assert_eq!(of("get", "get-workflow-run"), (Effect::Read, false));
        assert_eq!(of("get", "delete-item"), (Effect::Delete, true));
        assert_eq!(of("get", "send-invoice"), (Effect::Write, true));
        assert_eq!(of("get", "execute"), (Effect::Execute, true));
        assert_eq!(of("post", "create"), (Effect::Write, false));
        assert_eq!(of("post", "render"), (Effect::Read, true));
        assert_eq!(of("post", "orders-search"), (Effect::Read, true));
        assert_eq!(of("post", "search-and-replace"), (Effect::Write, true));
        assert_eq!(of("post", "get-or-create-user"), (Effect::Write, true));
        assert_eq!(of("post", "check-run-create"), (Effect::Write, false));
        assert_eq!(of("post", "bulk-delete"), (Effect::Delete, true));
        assert_eq!(of("post", "run-query"), (Effect::Execute, true));
        assert_eq!(of("delete", "anything"), (Effect::Delete, false));
        assert_eq!(of("put", "set-org-permissions"), (Effect::Admin, true));
    }

    #[test]
    fn the_vendors_word_counts_more_than_a_name() {
        let of = |hint: Value, method| hinted(&hint, method, "pods", "x").effect;
        assert_eq!(of(json!({"x-kubernetes-action": "connect"}), "get"), Effect::Execute);
        assert_eq!(of(json!({"x-kubernetes-action": "deletecollection"}), "delete"), Effect::Delete);
        let search = json!({"x-openai-isConsequential": false});
        assert!(!hinted(&search, "post", "x", "search-things").uncertain);
    }
}
