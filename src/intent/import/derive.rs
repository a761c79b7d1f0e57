//! Ids, effects and labels from what a description says.

use serde_json::Value;

use crate::call::{Effect, Label};

/// An effect and labels, and whether they were guessed.
#[derive(Debug, PartialEq)]
pub(super) struct Derived {
    pub effect: Effect,
    pub labels: Vec<Label>,
    pub uncertain: bool,
}

/// Verbs of operations that only look, whatever their method.
const READS: [&str; 22] = [
    "get",
    "list",
    "search",
    "query",
    "find",
    "lookup",
    "check",
    "validate",
    "verify",
    "preview",
    "render",
    "count",
    "describe",
    "compare",
    "estimate",
    "calculate",
    "fetch",
    "show",
    "read",
    "test",
    "diff",
    "retrieve",
];
const DELETES: [&str; 7] = ["delete", "remove", "destroy", "purge", "erase", "drop", "revoke"];
const EXECUTES: [&str; 8] = ["run", "execute", "invoke", "dispatch", "trigger", "exec", "eval", "rerun"];
const CHANGES: [&str; 14] =
    ["create", "update", "set", "add", "put", "send", "start", "stop", "cancel", "reset", "enable", "disable", "restore", "publish"];
/// Things whose settings decide what others may do.
const GOVERNS: [&str; 10] =
    ["permission", "permissions", "role", "roles", "policy", "policies", "protection", "ruleset", "rulesets", "admin"];
const MAKES: [&str; 9] = ["create", "add", "generate", "issue", "mint", "reset", "rotate", "regenerate", "refresh"];

/// The group and name of an operation's id.
pub(super) fn id(operation: &Value, method: &str, path: &str) -> (String, String) {
    let tag = operation.pointer("/tags/0").and_then(Value::as_str);
    let literal = path.split('/').find(|s| !s.is_empty() && !s.contains('{') && !is_version(s));
    let group = || Some(kebab(tag.or(literal).unwrap_or("api"))).filter(|g| !g.is_empty()).unwrap_or_else(|| "api".into());
    let from_path = || {
        let words: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(kebab).collect();
        kebab(&format!("{method}-{}", words.join("-")))
    };
    let Some(id) = operation.get("operationId").and_then(Value::as_str) else {
        return (group(), from_path());
    };
    match id.split_once(['/', '.']) {
        Some((group, name)) if !kebab(group).is_empty() && !kebab(name).is_empty() => (kebab(group), kebab(name)),
        _ if kebab(id).is_empty() => (group(), from_path()),
        _ => (group(), kebab(id)),
    }
}

/// What an operation does, from its method and then its name.
pub(super) fn effect(method: &str, group: &str, name: &str) -> Derived {
    let words: Vec<&str> = name.split('-').collect();
    let verb = words.first().copied().unwrap_or("");
    let is = |list: &[&str]| list.contains(&verb);
    let has = |list: &[&str]| words.iter().any(|w| list.contains(w));
    let (mut effect, mut uncertain) = match method {
        "get" | "head" | "options" | "trace" if is(&DELETES) || is(&EXECUTES) || is(&CHANGES) => (Effect::Write, true),
        "get" | "head" | "options" | "trace" => (Effect::Read, false),
        "delete" => (Effect::Delete, false),
        "post" if is(&READS) => (Effect::Read, true),
        "post" if is(&DELETES) || has(&DELETES) => (Effect::Delete, true),
        "post" | "put" if is(&EXECUTES) => (Effect::Execute, true),
        _ => (Effect::Write, false),
    };
    if matches!(effect, Effect::Write | Effect::Delete) && (has(&GOVERNS) || group == "admin") {
        (effect, uncertain) = (Effect::Admin, true);
    }
    let labels = if effect == Effect::Read { Vec::new() } else { labels(method, &words) };
    Derived { effect, uncertain: uncertain || !labels.is_empty(), labels }
}

/// What it does beyond its effect. Taking something away neither mints, shares nor sends.
fn labels(method: &str, words: &[&str]) -> Vec<Label> {
    let has = |list: &[&str]| words.iter().any(|w| list.contains(w));
    let mut labels = Vec::new();
    if method == "delete" || has(&DELETES) {
        return labels;
    }
    if has(&MAKES) && has(&["token", "tokens", "key", "keys", "credential", "credentials", "jitconfig", "password"]) {
        labels.push(Label::MintsCredential);
    }
    if has(&[
        "collaborator",
        "collaborators",
        "invitation",
        "invitations",
        "invite",
        "member",
        "members",
        "membership",
        "memberships",
        "share",
    ]) {
        labels.push(Label::SharesAccess);
    }
    if has(&["webhook", "webhooks", "hook", "hooks", "transfer", "forward", "forwarding"]) {
        labels.push(Label::SendsElsewhere);
    }
    labels
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
    }

    #[test]
    fn effects_come_from_the_method_and_guesses_are_marked() {
        let of = |method, name| {
            let d = effect(method, "x", name);
            (d.effect, d.uncertain)
        };
        assert_eq!(of("get", "list-issues"), (Effect::Read, false));
        assert_eq!(of("post", "create"), (Effect::Write, false));
        assert_eq!(of("post", "render"), (Effect::Read, true));
        assert_eq!(of("post", "bulk-delete"), (Effect::Delete, true));
        assert_eq!(of("delete", "anything"), (Effect::Delete, false));
        assert_eq!(of("put", "set-org-permissions"), (Effect::Admin, true));
        assert_eq!(effect("post", "x", "create-deploy-key").labels, [Label::MintsCredential]);
        assert_eq!(effect("delete", "x", "delete-deploy-key").labels, []);
    }
}
