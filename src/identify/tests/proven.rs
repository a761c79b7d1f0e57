use std::{sync::Arc, time::Duration};

use serde_json::{Map, json};

use super::*;
use crate::{
    authority::Start,
    call::{Identity, Principal, Proof},
    config::{Config, IdentityRule, IdentitySpec, Place},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn callers(workflow: Option<&str>) -> Arc<Callers> {
    let mut registry = spec();
    registry.agents[0].identities = vec![IdentityRule {
        what: IdentitySpec::Spiffe("spiffe://a/bot".into()),
        workflow: workflow.map(Into::into),
        place: Place::default(),
    }];
    let config = Config { registry, ..Config::observe() };
    Arc::new(Callers::new(&config, &rustls::RootCertStore::empty(), None).unwrap())
}

fn proof(house: &House, principal: Option<&str>) -> Arc<Proof> {
    let until = house.now().later(Duration::from_secs(60));
    let principal = principal.map(|id| Principal { id: id.into(), verified: true, claims: json!({}) });
    Arc::new(Proof {
        identity: Identity::Spiffe("spiffe://a/bot".into()),
        claims: Map::new(),
        certificate: None,
        principal,
        token: None,
        until,
        again: until,
    })
}

fn ask(house: &House, proven: &Proven, fields: &[(&str, &str)]) -> Result<Caller, Reason> {
    let call = Call::to(house);
    let arrival = Arrival { proven: Some(proven), ..call.arrival(None) };
    identify(&arrival, &head(fields), &house.tasks, &house.registry, None, house.now()).map_err(|r| r.refusal.reason)
}

#[test]
fn a_trace_picks_among_the_tasks_of_a_proven_agent_and_its_workflow_is_the_rest() {
    let house = House::new();
    let principal = Principal { id: "alice".into(), verified: false, claims: json!({}) };
    let trace = TraceId::of_traceparent(TRACE);
    let start = Start { trace, ..Start::new("triage-bot", "triage-issues", principal) };
    let (traced, handle) = house.tasks.start(&house.registry, start, house.now()).unwrap();
    let token = proof(&house, Some("bob"));
    let proven = Proven::of(&callers(Some("triage-issues")), None, Some(&token)).unwrap().unwrap();
    let by_trace = ask(&house, &proven, &[("traceparent", TRACE)]).unwrap();
    assert_eq!((by_trace.how, &by_trace.task.id), (How::Trace, &traced.id));
    let own = ask(&house, &proven, &[]).unwrap();
    assert_eq!((own.how, &*own.task.principal.id, own.task.principal.verified), (How::Svid, "bob", true));
    let again = ask(&house, &proven, &[("traceparent", &TRACE.replace("4bf", "4be"))]).unwrap();
    assert!(Arc::ptr_eq(&own.task, &again.task), "one task for one principal");
    let shown = ask(&house, &proven, &[("remit-task", handle.expose())]).unwrap();
    assert_eq!((shown.how, &shown.task.id), (How::Handle, &traced.id));
    // The same trace without a proof is nobody.
    assert_eq!(Call::to(&house).with(None, &[("traceparent", TRACE)]).unwrap_err(), Reason::NoTask);
    // And a handle of this task without the proof was stolen.
    assert_eq!(Call::to(&house).with(None, &[("remit-task", handle.expose())]).unwrap_err(), Reason::DelegationInvalid);
}

#[test]
fn each_principal_has_a_task_and_a_successor_takes_over_its_labels() {
    let house = House::new();
    let callers = callers(Some("triage-issues"));
    let of = |who: Option<&str>| {
        let proven = Proven::of(&callers, None, Some(&proof(&house, who))).unwrap().unwrap();
        ask(&house, &proven, &[]).unwrap().task
    };
    let (alice, bob, nobody) = (of(Some("alice")), of(Some("bob")), of(None));
    assert!(alice.id != bob.id && bob.id != nobody.id);
    assert!(!nobody.principal.verified);
    alice.labels.add(&[crate::call::Label::PrivateData]);
    house.clock.advance(LIFETIME);
    let next = of(Some("alice"));
    assert!(next.id != alice.id && next.labels.list().contains(&crate::call::Label::PrivateData));
}

#[test]
fn an_identity_without_a_workflow_shows_a_task_or_has_none() {
    let house = House::new();
    let proven = Proven::of(&callers(None), None, Some(&proof(&house, None))).unwrap().unwrap();
    assert_eq!(ask(&house, &proven, &[]).unwrap_err(), Reason::NoTask);
    let (task, handle) = house.start();
    assert_eq!(ask(&house, &proven, &[("remit-task", &handle)]).unwrap().task.id, task.id);
}
