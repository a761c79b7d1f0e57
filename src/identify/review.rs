//! Kubernetes' own word on a token: TokenReview, `authentication.k8s.io/v1`.

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::config::Endpoint;

use super::fetch::Ask;

/// Questions under way at once: whoever shows many tokens must not make many of them.
const AT_ONCE: usize = 16;

/// The path of the API, below the server's own.
const PATH: &str = "apis/authentication.k8s.io/v1/tokenreviews";

/// Asks an API server.
#[derive(Debug)]
pub(super) struct Reviewer {
    at: Endpoint,
    path: String,
    ask: Ask,
    room: Semaphore,
}

/// What went wrong with a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reviewed {
    /// The cluster does not know the token, or knows it for someone else.
    No(String),
    /// Nobody answered as a cluster does.
    Unanswered(String),
}

impl Reviewer {
    pub(super) fn new(at: Endpoint, ask: Ask) -> Self {
        let path = format!("{}/{PATH}", at.path.trim_end_matches('/'));
        Self { at, path, ask, room: Semaphore::new(AT_ONCE) }
    }

    /// The user that the cluster says the token is, for one of `audience`.
    pub(super) async fn user(&self, token: &str, audience: &[Box<str>]) -> Result<String, Reviewed> {
        let _place = self.room.acquire().await;
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": audience},
        });
        let answer = self.ask.post(&self.at, &self.path, &question).await.map_err(Reviewed::Unanswered)?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|e| Reviewed::Unanswered(format!("the TokenReview: {e}")))?;
        said(&answer, audience)
    }
}

/// An answer without audiences is for the API server's own: that is no token for Remit.
fn said(answer: &Value, audience: &[Box<str>]) -> Result<String, Reviewed> {
    let status =
        answer.get("status").and_then(Value::as_object).ok_or_else(|| Reviewed::Unanswered("no TokenReview came back".to_owned()))?;
    if status.get("authenticated") != Some(&Value::Bool(true)) {
        let why = status.get("error").and_then(Value::as_str).unwrap_or("the token is not authenticated");
        return Err(Reviewed::No(format!("the cluster says: {}", crate::jose::quoted(why))));
    }
    let audiences = status.get("audiences").and_then(Value::as_array);
    let ours = audiences.is_some_and(|a| a.iter().filter_map(Value::as_str).any(|a| audience.iter().any(|o| **o == *a)));
    if !ours {
        return Err(Reviewed::No("the cluster does not say that the token is for this audience".to_owned()));
    }
    let user = status.get("user").and_then(|u| u.get("username")).and_then(Value::as_str);
    user.map(str::to_owned).ok_or_else(|| Reviewed::Unanswered("the TokenReview names no user".to_owned()))
}

/// `namespace/name` of the user of a service account.
pub(super) fn account(user: &str) -> Option<String> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains([':', '/']) && !namespace.contains('/'))
        .then(|| format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_for_our_audience_is_one() {
        let ours = [Box::from("remit")];
        let answer = |status: Value| said(&json!({"status": status}), &ours);
        let user = json!({"username": "system:serviceaccount:support:bot"});
        let yes = answer(json!({"authenticated": true, "audiences": ["other", "remit"], "user": user}));
        assert_eq!(yes.unwrap(), "system:serviceaccount:support:bot");
        for no in [
            json!({"authenticated": false, "error": "expired"}),
            json!({}),
            json!({"authenticated": "true", "audiences": ["remit"], "user": user}),
            json!({"authenticated": true, "user": user}),
            json!({"authenticated": true, "audiences": [], "user": user}),
            json!({"authenticated": true, "audiences": ["https://kubernetes.default.svc"], "user": user}),
        ] {
            assert!(matches!(answer(no.clone()), Err(Reviewed::No(_))), "{no}");
        }
        assert!(matches!(answer(json!({"authenticated": true, "audiences": ["remit"]})), Err(Reviewed::Unanswered(_))));
        assert!(matches!(said(&json!({"kind": "Status"}), &ours), Err(Reviewed::Unanswered(_))));
    }

    #[test]
    fn an_account_is_told_from_other_users() {
        assert_eq!(account("system:serviceaccount:support:bot").as_deref(), Some("support/bot"));
        for other in [
            "alice",
            "system:node:a",
            "system:serviceaccount:support",
            "system:serviceaccount::bot",
            "system:serviceaccount:a:b:c",
            "system:serviceaccount:a/b:c",
        ] {
            assert_eq!(account(other), None, "{other}");
        }
    }
}
