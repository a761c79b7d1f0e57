use proptest::prelude::{Strategy, any, prop};
use serde_json::{Value, json};

use crate::{
    authority::{
        fixture::{grant, intent, spec, workflow},
        narrow::narrow,
        nearest::nearest,
    },
    call::Effect,
    config::{GrantSpec, WorkflowSpec},
    refusal::Reason,
};

fn triage() -> WorkflowSpec {
    spec().workflows.swap_remove(0)
}

#[test]
fn what_is_unsaid_is_inherited() {
    let out = narrow(&triage(), &[json!({"intents": ["github.issues.get"], "where": {"repo": "web"}})]).unwrap();
    assert_eq!(out, [json!({"intents": ["github.issues.get"], "effects": ["read"], "where": {"owner": ["acme"], "repo": ["web"]}})]);
}

#[test]
fn one_asked_grant_may_lie_in_several() {
    let out = narrow(&triage(), &[json!({"where": {"repo": ["web"]}})]).unwrap();
    assert_eq!(out.len(), 3, "{out:?}");
    let out = narrow(&triage(), &[json!({"intents": ["github.issues.get", "slack.chat.post"]})]).unwrap();
    assert_eq!(out.iter().map(|g| &g["intents"]).collect::<Vec<_>>(), [&json!(["github.issues.get"]), &json!(["slack.chat.post"])]);
}

#[test]
fn limits_and_approvals_can_be_added() {
    let out = narrow(
        &triage(),
        &[json!({"intents": ["slack.chat.post"], "limit": {"calls": 3, "per": "task"}, "approval": {"by": ["group:a"]}})],
    );
    assert_eq!(
        out.unwrap(),
        [
            json!({"intents": ["slack.chat.post"], "where": {"channel": ["team-*"]}, "limit": {"calls": 3, "per": "task"}, "approval": {"by": ["group:a"]}})
        ]
    );
}

#[test]
fn what_is_wider_or_not_understood_is_refused_by_name() {
    for (asked, named) in [
        (json!({"intents": ["openai.chat.create"]}), "openai.chat.create"),
        (json!({"intents": ["github.*"], "effects": ["write"]}), "`write`"),
        (json!({"intents": ["github.issues.add-labels"], "effects": ["write"], "where": {"repo": "docs"}}), "\"docs\""),
        (json!({"intents": ["github.issues.get"], "where": {"repo": ["web", "secret"]}}), "\"secret\""),
        (json!({"intents": ["git*"]}), "`git*`"),
        (json!({"intents": ["slack.chat.post"], "where": {"channel": "te*"}}), "\"te*\""),
        (json!({"intents": ["github.issues.add-labels"], "effects": ["write"], "limit": {"calls": 21}}), "21"),
        (json!({"intents": ["*github"]}), "`*github`"),
        (json!({"intents": [""]}), "``"),
        (json!({"intents": ["github.**"]}), "`github.**`"),
        (json!({"intents": ["slack.chat.post"], "credential": "root"}), "credential"),
        (json!({"effects": ["everything"]}), "everything"),
        (json!({"where": {"repo": []}}), "`repo`"),
        (json!({"intents": ["slack.chat.post"], "limit": {"calls": 3, "per": "1h"}}), "1h"),
        (json!({"where": {"repo": "web"}, "limit": {"calls": 3}}), "several"),
        (json!("github.*"), "grants[0]"),
    ] {
        let refusal = narrow(&triage(), std::slice::from_ref(&asked)).expect_err(&asked.to_string());
        assert_eq!(refusal.reason, Reason::DelegationInvalid);
        assert!(refusal.detail.contains(named), "{asked}: {}", refusal.detail);
    }
    assert!(narrow(&triage(), &vec![json!({}); 65]).is_err());
    assert!(narrow(&workflow("empty", vec![]), &[json!({})]).is_err());
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let id = prop::sample::select(vec!["a.b.c", "a.b.d", "a.*", "a.b.*", "b.*", "b.b.c", "*"]);
    prop::collection::vec(id.prop_map(String::from), 0..3)
}

fn effects() -> impl Strategy<Value = Vec<Effect>> {
    prop::collection::vec(prop::sample::select(vec![Effect::Read, Effect::Write]), 0..2)
}

fn wheres() -> impl Strategy<Value = Vec<(String, Vec<Value>)>> {
    let values = prop::collection::vec(prop::sample::select(vec![json!("x"), json!("y"), json!("xy"), json!("x*"), json!("*")]), 1..3);
    prop::collection::btree_map(prop::sample::select(vec!["p".to_string(), "q".to_string()]), values, 0..3)
        .prop_map(|m| m.into_iter().collect())
}

type Written = (Vec<String>, Vec<Effect>, Vec<(String, Vec<Value>)>);

fn as_spec((intents, effects, constraints): Written) -> GrantSpec {
    let intents: Vec<&str> = intents.iter().map(|i| &**i).collect();
    let constraints: Vec<(&str, Value)> = constraints.iter().map(|(k, v)| (&**k, json!(v))).collect();
    grant(1, &intents, &effects, &constraints)
}

fn read_back(value: &Value) -> GrantSpec {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let intents = list(&value["intents"]).iter().map(|v| v.as_str().unwrap().to_string()).collect();
    let effects = list(&value["effects"]).iter().map(|v| serde_json::from_value(v.clone()).unwrap()).collect();
    let constraints = value["where"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), list(v))).collect();
    as_spec((intents, effects, constraints))
}

fn allows(grants: &[GrantSpec], asked: &crate::call::Intent) -> bool {
    nearest(grants, asked).is_some_and(|n| n.lacked.is_empty())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    /// Law 5 for one link: what a task's own grants allow, its workflow allows.
    #[test]
    fn narrowed_grants_allow_nothing_that_the_workflow_does_not(
        held in prop::collection::vec((patterns(), effects(), wheres()).prop_map(as_spec), 1..4),
        asked in (patterns(), effects(), wheres()),
        calls in prop::collection::vec((0usize..4, any::<bool>(), prop::option::of(0usize..3), prop::option::of(0usize..3)), 32),
    ) {
        let held = workflow("w", held);
        let (intents, effects, constraints) = asked;
        let constraints: serde_json::Map<String, Value> = constraints.into_iter().map(|(k, v)| (k, json!(v))).collect();
        let asked = json!({"intents": intents, "effects": effects, "where": constraints});
        if let Ok(out) = narrow(&held, &[asked]) {
            let out: Vec<GrantSpec> = out.iter().map(read_back).collect();
            proptest::prop_assert!(!out.is_empty());
            for (id, write, p, q) in calls {
                let values = ["x", "y", "xy"];
                let params: Vec<(&str, &str)> = [("p", p), ("q", q)].into_iter().filter_map(|(n, v)| Some((n, values[v?]))).collect();
                let id = ["a.b.c", "a.b.d", "b.b.c", "c.c.c"][id];
                let call = intent(id, if write { Effect::Write } else { Effect::Read }, &[], &params);
                proptest::prop_assert!(!allows(&out, &call) || allows(&held.grants, &call), "{call:?}\n{out:?}");
            }
        }
    }
}
