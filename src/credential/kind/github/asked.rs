//! What is asked of GitHub for one scope, and whether what it gave is no more.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::credential::issue::Fault;

/// What an installation token is to be for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The account whose installation gives it, where the scope names one.
    pub(super) owner: Option<String>,
    /// Their names alone. None: every repository of the installation, as the operator wrote (`*`).
    pub(super) repositories: Option<Vec<String>>,
    permissions: Map<String, Value>,
}

/// The only character that a repository's name may hold beside letters and digits are these.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && !matches!(text, "." | "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

pub(super) fn level(word: &str) -> Option<u8> {
    match word {
        "read" => Some(0),
        "write" => Some(1),
        "admin" => Some(2),
        _ => None,
    }
}

impl Asked {
    /// From what the config asks, with the parameters of the call filled in.
    pub(super) fn read(scope: &Map<String, Value>) -> Result<Self, Fault> {
        let list = scope.get("repositories").and_then(Value::as_array).filter(|l| !l.is_empty());
        let list = list.ok_or_else(|| refused("the scope asks for no repository, which to GitHub is all of them"))?;
        let permissions = scope.get("permissions").and_then(Value::as_object).filter(|p| !p.is_empty());
        let permissions =
            permissions.ok_or_else(|| refused("the scope asks for no permission, which to GitHub is all that the App has"))?;
        let mut owner = scope.get("owner").and_then(Value::as_str).map(str::to_owned);
        if owner.as_deref().is_some_and(|o| !is_name(o)) {
            return Err(refused("the scope's `owner` is no account on GitHub"));
        }
        let mut names = Vec::with_capacity(list.len());
        for item in list {
            let text = item.as_str().ok_or_else(|| refused("a repository of the scope is no text"))?;
            if text == "*" && list.len() == 1 {
                return Ok(Self { owner, repositories: None, permissions: permissions.clone() });
            }
            let (whose, name) = match text.split_once('/') {
                Some((whose, name)) => (Some(whose), name),
                None => (None, text),
            };
            if !is_name(name) || whose.is_some_and(|w| !is_name(w)) {
                return Err(refused("a repository of the scope has no name that GitHub gives"));
            }
            match (&owner, whose) {
                (Some(known), Some(whose)) if !known.eq_ignore_ascii_case(whose) => {
                    return Err(refused(&format!("one installation token is for one owner, and the call is for `{known}` and `{whose}`")));
                }
                (None, Some(whose)) => owner = Some(whose.to_owned()),
                _ => {}
            }
            names.push(name.to_owned());
        }
        Ok(Self { owner, repositories: Some(names), permissions: permissions.clone() })
    }

    pub(super) fn body(&self) -> Value {
        match &self.repositories {
            Some(names) => json!({"repositories": names, "permissions": self.permissions}),
            None => json!({"permissions": self.permissions}),
        }
    }

    /// In what the token is for more than was asked. What the answer does not say is taken for more.
    pub(super) fn wider(&self, given: &Map<String, Value>) -> Option<String> {
        self.wider_permission(given).or_else(|| self.wider_repository(given))
    }

    fn wider_permission(&self, given: &Map<String, Value>) -> Option<String> {
        let Some(permissions) = given.get("permissions").and_then(Value::as_object) else {
            return Some("GitHub does not say which permissions the token has".to_owned());
        };
        permissions.iter().find_map(|(name, word)| {
            let word = word.as_str().unwrap_or_default();
            // Whatever is given of a repository, GitHub lets its metadata be read.
            if name == "metadata" && word == "read" {
                return None;
            }
            let given = level(word);
            let asked = self.permissions.get(name).and_then(Value::as_str).and_then(level);
            let within = given.is_some() && asked.is_some() && given <= asked;
            (!within).then(|| format!("the token has `{}: {}`", crate::shown::shown(name), crate::shown::shown(word)))
        })
    }

    fn wider_repository(&self, given: &Map<String, Value>) -> Option<String> {
        let asked = self.repositories.as_ref()?;
        let list = given.get("repositories").and_then(Value::as_array);
        let (Some(list), Some("selected")) = (list, given.get("repository_selection").and_then(Value::as_str)) else {
            return Some("the token is for all repositories of the installation".to_owned());
        };
        list.iter().find_map(|repository| {
            let name = repository.get("name").and_then(Value::as_str).unwrap_or_default();
            let owner = repository.pointer("/owner/login").and_then(Value::as_str).unwrap_or_default();
            let same_owner = self.owner.as_deref().is_none_or(|o| o.eq_ignore_ascii_case(owner));
            let within = same_owner && asked.iter().any(|a| a.eq_ignore_ascii_case(name));
            let named: [Cow<'_, str>; 2] = [crate::shown::shown(owner), crate::shown::shown(name)];
            (!within).then(|| format!("the token is for the repository `{}`", named.join("/")))
        })
    }
}

fn refused(why: &str) -> Fault {
    Fault::Refused(why.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(scope: Value) -> Result<Asked, Fault> {
        Asked::read(scope.as_object().unwrap())
    }

    fn asked() -> Asked {
        read(json!({"repositories": ["acme/web", "acme/docs"], "permissions": {"issues": "write"}})).unwrap()
    }

    #[test]
    fn the_owner_of_the_repositories_is_whose_installation_is_asked() {
        let asked = asked();
        assert_eq!(asked.owner.as_deref(), Some("acme"));
        assert_eq!(asked.body(), json!({"repositories": ["web", "docs"], "permissions": {"issues": "write"}}));
        let all = read(json!({"owner": "acme", "repositories": ["*"], "permissions": {"members": "read"}})).unwrap();
        assert_eq!((all.owner.as_deref(), all.body()), (Some("acme"), json!({"permissions": {"members": "read"}})));
        assert!(read(json!({"repositories": ["web"], "permissions": {"issues": "read"}})).unwrap().owner.is_none());
    }

    #[test]
    fn nothing_is_left_to_defaults_and_nothing_can_leave_its_place() {
        for wrong in [
            json!({}),
            json!({"permissions": {"issues": "read"}}),
            json!({"repositories": [], "permissions": {"issues": "read"}}),
            json!({"repositories": ["web"]}),
            json!({"repositories": ["web"], "permissions": {}}),
            json!({"repositories": ["web", "*"], "permissions": {"issues": "read"}}),
            json!({"repositories": ["acme/web", "other/web"], "permissions": {"issues": "read"}}),
            json!({"owner": "other", "repositories": ["acme/web"], "permissions": {"issues": "read"}}),
            json!({"owner": "a/b", "repositories": ["web"], "permissions": {"issues": "read"}}),
            json!({"repositories": ["acme/../other"], "permissions": {"issues": "read"}}),
            json!({"repositories": [".."], "permissions": {"issues": "read"}}),
            json!({"repositories": ["web?x"], "permissions": {"issues": "read"}}),
            json!({"repositories": [7], "permissions": {"issues": "read"}}),
        ] {
            assert!(matches!(read(wrong.clone()), Err(Fault::Refused(_))), "{wrong}");
        }
    }

    #[test]
    fn more_than_was_asked_is_seen() {
        let web = json!({"name": "Web", "owner": {"login": "Acme"}});
        let given = |change: Value| {
            let mut given =
                json!({"permissions": {"issues": "write", "metadata": "read"}, "repository_selection": "selected", "repositories": [web]});
            for (name, value) in change.as_object().unwrap() {
                given[name] = value.clone();
            }
            asked().wider(given.as_object().unwrap())
        };
        assert_eq!(given(json!({})), None);
        assert_eq!(given(json!({"permissions": {"issues": "read"}})), None, "less is no more");
        for (change, wants) in [
            (json!({"permissions": {"issues": "admin"}}), "issues: admin"),
            (json!({"permissions": {"issues": "write", "contents": "read"}}), "contents: read"),
            (json!({"permissions": {"metadata": "write"}}), "metadata: write"),
            (json!({"permissions": {"issues": "all"}}), "issues: all"),
            (json!({"permissions": {"issues": 2}}), "issues"),
            (json!({"permissions": null}), "does not say which permissions"),
            (json!({"repository_selection": "all"}), "all repositories"),
            (json!({"repositories": null}), "all repositories"),
            (json!({"repositories": [web, {"name": "secret", "owner": {"login": "acme"}}]}), "acme/secret"),
            (json!({"repositories": [{"name": "web", "owner": {"login": "other"}}]}), "other/web"),
            (json!({"repositories": [{}]}), "repository"),
        ] {
            assert!(given(change.clone()).is_some_and(|w| w.contains(wants)), "{change}");
        }
    }

    fn permissions() -> impl Strategy<Value = Vec<Option<usize>>> {
        proptest::collection::vec(proptest::option::of(0usize..3), 3)
    }

    proptest! {
        /// By levels: none, read, write, admin of three permissions; and some of four repositories.
        #[test]
        fn a_token_is_wider_exactly_when_something_of_it_is(
            (asked, given) in (permissions(), permissions()),
            (named, had) in (proptest::collection::btree_set(0usize..4, 1..4), proptest::collection::btree_set(0usize..4, 0..4)),
        ) {
            prop_assume!(asked.iter().any(Option::is_some));
            let of = |levels: &[Option<usize>]| -> Map<String, Value> {
                let word = |level: usize| Value::from(["read", "write", "admin"][level]);
                levels.iter().zip(["issues", "contents", "actions"]).filter_map(|(l, name)| Some((name.to_owned(), word((*l)?)))).collect()
            };
            let repository = |n: &usize| json!({"name": format!("r{n}"), "owner": {"login": "acme"}});
            let scope = json!({"repositories": named.iter().map(|n| format!("acme/r{n}")).collect::<Vec<_>>(), "permissions": of(&asked)});
            let answer = json!({
                "permissions": of(&given), "repository_selection": "selected",
                "repositories": had.iter().map(repository).collect::<Vec<_>>(),
            });
            let more = given.iter().zip(&asked).any(|(given, asked)| given > asked) || !had.is_subset(&named);
            prop_assert_eq!(read(scope).unwrap().wider(answer.as_object().unwrap()).is_some(), more);
        }
    }
}
