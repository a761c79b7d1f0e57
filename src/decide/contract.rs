//! The input contract: which paths there are, and which value in a cache key stands for each.

use crate::problem;

use super::walk::Key;

/// One value of a cache key. What a policy can read of the input is a set of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Leaf {
    /// What is fixed for a task, as the task's number.
    Task,
    /// Parameters that the task's own delegated grants name.
    Delegated,
    How,
    Listener,
    Drift,
    TaskLabels,
    /// The operations that succeeded in the task.
    Succeeded,
    Id,
    Provider,
    Group,
    Name,
    Effect,
    Labels,
    Method,
    Scheme,
    Host,
    Port,
    Path,
    Protocol,
    Upgrade,
    BodyBytes,
    /// Some parameters, or all: last, because they are the longest.
    Params,
}

/// Every path of the contract. Each is always there, so reading an object reads these and no more. What stands below a path is free (`claims`, a parameter's value).
pub(super) const PATHS: [(&[&str], Leaf); 29] = [
    (&["caller", "how"], Leaf::How),
    (&["caller", "listener"], Leaf::Listener),
    (&["agent", "id"], Leaf::Task),
    (&["agent", "spiffe_id"], Leaf::Task),
    (&["agent", "drift"], Leaf::Drift),
    (&["task", "id"], Leaf::Task),
    (&["task", "workflow"], Leaf::Task),
    (&["task", "purpose"], Leaf::Task),
    (&["task", "labels"], Leaf::TaskLabels),
    (&["task", "succeeded"], Leaf::Succeeded),
    (&["task", "principal", "id"], Leaf::Task),
    (&["task", "principal", "verified"], Leaf::Task),
    (&["task", "principal", "claims"], Leaf::Task),
    (&["delegation"], Leaf::Task),
    (&["intent", "id"], Leaf::Id),
    (&["intent", "provider"], Leaf::Provider),
    (&["intent", "group"], Leaf::Group),
    (&["intent", "name"], Leaf::Name),
    (&["intent", "effect"], Leaf::Effect),
    (&["intent", "labels"], Leaf::Labels),
    (&["intent", "params"], Leaf::Params),
    (&["request", "method"], Leaf::Method),
    (&["request", "scheme"], Leaf::Scheme),
    (&["request", "host"], Leaf::Host),
    (&["request", "port"], Leaf::Port),
    (&["request", "path"], Leaf::Path),
    (&["request", "protocol"], Leaf::Protocol),
    (&["request", "upgrade"], Leaf::Upgrade),
    (&["request", "body_bytes"], Leaf::BodyBytes),
];

/// Keys below a link of the delegation chain.
const LINK: [&str; 4] = ["kind", "id", "workflow", "grants"];

/// Why a path is none of the contract's, with the nearest that is.
pub(super) struct Outside {
    pub(super) path: String,
    pub(super) nearest: Option<String>,
}

/// Checks a reference to `input`; computed keys end the check.
pub(super) fn outside(keys: &[Key]) -> Option<Outside> {
    let mut at: Vec<&str> = Vec::new();
    for key in keys {
        let next = candidates(&at);
        if next.is_empty() {
            break;
        }
        let key = key.as_deref()?;
        if !next.contains(&key) {
            let path = format!("input.{}", spelt(&at, key));
            let nearest = problem::nearest(key, next).map(|n| format!("input.{}", spelt(&at, n)));
            return Some(Outside { path, nearest });
        }
        at.push(key);
    }
    below(keys)
}

/// What may follow `at`; empty where anything may.
fn candidates(at: &[&str]) -> Vec<&'static str> {
    let mut next: Vec<&'static str> =
        PATHS.iter().filter(|(path, _)| path.starts_with(at)).filter_map(|(path, _)| path.get(at.len()).copied()).collect();
    next.dedup();
    next
}

/// The links of the chain: `input.delegation[_].kind`.
fn below(keys: &[Key]) -> Option<Outside> {
    let [Some(first), _, Some(key), ..] = keys else { return None };
    if &**first != "delegation" || LINK.contains(&&**key) {
        return None;
    }
    let nearest = problem::nearest(key, LINK).map(|n| format!("input.delegation[_].{n}"));
    Some(Outside { path: format!("input.delegation[_].{key}"), nearest })
}

fn spelt(at: &[&str], key: &str) -> String {
    at.iter().chain([&key]).copied().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(path: &str) -> Vec<Key> {
        path.split('.').map(|k| if k == "_" { None } else { Some(k.into()) }).collect()
    }

    #[test]
    fn paths_of_the_contract_pass() {
        for path in
            ["intent.params.repo", "intent.params._", "_.x", "delegation._.kind", "task.principal.claims.a.b", "agent", "task.labels._"]
        {
            assert!(outside(&keys(path)).is_none(), "{path}");
        }
    }

    #[test]
    fn other_paths_are_named_with_the_nearest() {
        for (path, near) in [
            ("intent.param.repo", "input.intent.params"),
            ("agents.id", "input.agent"),
            ("delegation._.kinds", "input.delegation[_].kind"),
            ("request.hosts", "input.request.host"),
        ] {
            assert_eq!(outside(&keys(path)).unwrap().nearest.unwrap(), near);
        }
        assert!(outside(&keys("zebra.id")).unwrap().nearest.is_none());
    }
}
