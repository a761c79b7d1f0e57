mod proven;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use http::{Method, Version, uri::PathAndQuery};

use crate::{
    authority::fixture::{LIFETIME, spec},
    call::{Destination, Host, Mode, Path, Scheme},
    config::Status,
};

use super::*;
use crate::authority::fixture::House;

fn head(fields: &[(&str, &str)]) -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Head {
        method: Method::GET,
        to: Destination { scheme: Scheme::Https, host: Host::parse("api.github.com").unwrap(), port: 443 },
        path: Path::parse(PathAndQuery::from_static("/")).unwrap(),
        headers,
        version: Version::HTTP_11,
        upgrade: None,
    }
}

fn basic(handle: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("task:{handle}")))
}

fn ambient(uid: &[u32]) -> Ambient {
    Ambient { agent: "triage-bot".into(), workflow: "triage-issues".into(), uid: uid.to_vec() }
}

struct Call<'a> {
    house: &'a House,
    peer: &'a str,
    uid: Option<u32>,
    ambient: Option<Ambient>,
    seen: Option<Seen>,
}

impl<'a> Call<'a> {
    fn to(house: &'a House) -> Self {
        Self { house, peer: "127.0.0.1:50000", uid: None, ambient: None, seen: None }
    }

    fn with(&self, connect: Option<&str>, fields: &[(&str, &str)]) -> Result<Caller, Reason> {
        let connect = connect.map(|v| HeaderValue::from_str(v).unwrap());
        let arrival = self.arrival(connect.as_ref());
        let House { tasks, registry, .. } = self.house;
        identify(&arrival, &head(fields), tasks, registry, self.ambient.as_ref(), self.house.now()).map_err(|r| r.refusal.reason)
    }

    fn admitted(&self, connect: Option<&str>) -> Result<(), Reason> {
        let connect = connect.map(|v| HeaderValue::from_str(v).unwrap());
        admit(&self.arrival(connect.as_ref()), &self.house.tasks, self.ambient.as_ref(), self.house.now()).map_err(|r| r.reason)
    }

    fn arrival<'b>(&'b self, connect: Option<&'b HeaderValue>) -> Arrival<'b> {
        Arrival {
            listener: Listener::Forward,
            peer: self.peer.parse().unwrap(),
            proxy_authorization: connect,
            peer_uid: self.uid,
            proven: None,
            seen: self.seen.as_ref(),
            behind: None,
        }
    }
}

#[test]
fn a_handle_is_read_as_real_clients_send_it() {
    let house = House::new();
    let (task, handle) = house.start();
    let call = Call::to(&house);
    let escaped: String = handle.bytes().map(|b| format!("%{b:02X}")).collect();
    let lightly = handle.replace('-', "%2D").replace('_', "%5f");
    for field in [
        basic(&handle),
        basic(&escaped),
        basic(&lightly),
        format!("Basic {}", STANDARD_NO_PAD.encode(format!("task:{handle}"))),
        basic(&handle).replace("Basic ", "basic   "),
        format!("BASIC {}", STANDARD.encode(format!("task:{handle}"))),
        format!("Bearer {handle}"),
        format!("bearer {handle} "),
    ] {
        let caller = call.with(Some(&field), &[]).unwrap_or_else(|r| panic!("{field}: {r}"));
        assert!(Arc::ptr_eq(&caller.task, &task));
        assert_eq!((caller.how, caller.listener), (How::Handle, Listener::Forward));
        assert_eq!(call.admitted(Some(&field)), Ok(()));
        // absolute form: the field is the request's own, and the arrival may carry it too
        assert!(call.with(None, &[("Proxy-Authorization", &field)]).is_ok());
        assert!(call.with(Some(&field), &[("proxy-authorization", &field)]).is_ok());
    }
    assert!(call.with(None, &[("Remit-Task", &handle)]).is_ok());
    assert!(call.with(Some(&basic(&handle)), &[("remit-task", &handle)]).is_ok());
}

#[test]
fn what_is_no_handle_of_a_known_task_is_no_task() {
    let house = House::new();
    let (task, handle) = house.start();
    // also where ambient authority would serve a call without a claim
    for ambient in [None, Some(ambient(&[]))] {
        let call = Call { ambient, ..Call::to(&house) };
        let user = |u: &str| format!("Basic {}", STANDARD.encode(format!("{u}:{handle}")));
        for field in [
            basic(&"A".repeat(43)),
            basic(&handle[1..]),
            basic(&format!("{handle}\n")),
            basic(&"%41".repeat(60)),
            basic(""),
            user("Task"),
            user(""),
            format!("Basic {}", STANDARD.encode(&handle)),
            "Basic ???".to_string(),
            "Basic".to_string(),
            String::new(),
            format!("Digest {handle}"),
            format!("Basic {}", "QUFB".repeat(2000)),
            format!("Bearer {}", task.id),
        ] {
            assert_eq!(call.with(Some(&field), &[]).unwrap_err(), Reason::NoTask, "{field}");
            assert_eq!(call.admitted(Some(&field)), Err(Reason::NoTask), "{field}");
        }
        assert_eq!(call.with(None, &[("remit-task", task.id.as_str())]).unwrap_err(), Reason::NoTask);
        assert_eq!(call.with(Some(&basic(&handle)), &[("remit-task", "x")]).unwrap_err(), Reason::NoTask);
    }
}

#[test]
fn claims_that_name_different_tasks_are_refused() {
    let house = House::new();
    let ((_, a), (_, b)) = (house.start(), house.start());
    let call = Call::to(&house);
    for (connect, fields) in [
        (Some(basic(&a)), vec![("remit-task", b.clone())]),
        (Some(basic(&a)), vec![("proxy-authorization", basic(&b))]),
        (None, vec![("proxy-authorization", basic(&a)), ("remit-task", b.clone())]),
    ] {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, &**v)).collect();
        assert_eq!(call.with(connect.as_deref(), &fields).unwrap_err(), Reason::DelegationInvalid);
    }
}

#[test]
fn several_fields_of_one_name_are_ambiguous_also_when_they_agree() {
    let house = House::new();
    let (_, handle) = house.start();
    let call = Call { ambient: Some(ambient(&[])), ..Call::to(&house) };
    for (name, value) in [("remit-task", handle.clone()), ("proxy-authorization", basic(&handle))] {
        assert_eq!(call.with(None, &[(name, &value), (name, &value)]).unwrap_err(), Reason::AmbiguousRequest);
    }
    let two = head(&[("proxy-authorization", &basic(&handle)), ("proxy-authorization", &basic(&handle))]);
    assert_eq!(proxy_authorization(&two.headers).unwrap_err().reason, Reason::AmbiguousRequest);
}

#[test]
fn a_task_that_is_over_is_told_inside_and_not_at_the_door() {
    let house = House::new();
    let ((ended, a), (_, b)) = (house.start(), house.start());
    house.tasks.end(&ended.id);
    let call = Call { ambient: Some(ambient(&[])), ..Call::to(&house) };
    assert_eq!(call.with(Some(&basic(&a)), &[]).unwrap_err(), Reason::TaskEnded);
    assert_eq!(call.admitted(Some(&basic(&a))), Ok(()));
    house.clock.advance(LIFETIME);
    assert_eq!(call.with(Some(&basic(&b)), &[]).unwrap_err(), Reason::TaskExpired);
    house.tasks.sweep(house.now().instant);
    assert_eq!(call.with(Some(&basic(&b)), &[]).unwrap_err(), Reason::TaskExpired);
}

#[test]
fn the_agents_status_is_asked_on_every_call() {
    let mut house = House::new();
    let (_, handle) = house.start();
    let now = house.now().utc;
    for (status, expires, want) in [
        (Status::Suspended, None, Reason::AgentSuspended),
        (Status::Retired, None, Reason::AgentRetired),
        (Status::Active, Some(now), Reason::AgentExpired),
    ] {
        let mut all = spec();
        (all.agents[0].status, all.agents[0].expires) = (status, expires);
        house.registry = Registry::new(&all, Mode::Enforce);
        let call = Call { ambient: Some(ambient(&[])), ..Call::to(&house) };
        assert_eq!(call.with(Some(&basic(&handle)), &[]).unwrap_err(), want);
        assert_eq!(call.with(None, &[]).unwrap_err(), want);
    }
    house.registry = Registry::default();
    assert_eq!(Call::to(&house).with(Some(&basic(&handle)), &[]).unwrap_err(), Reason::UnknownAgent);
    // the status tells more than that its tasks were ended
    house.tasks.review(&house.registry, house.now());
    assert_eq!(Call::to(&house).with(Some(&basic(&handle)), &[]).unwrap_err(), Reason::UnknownAgent);
}

#[test]
fn ambient_authority_serves_loopback_peers_without_a_claim_and_nobody_else() {
    let house = House::new();
    let none = Call::to(&house);
    assert_eq!(none.with(None, &[]).unwrap_err(), Reason::NoTask);
    assert_eq!(none.admitted(None), Err(Reason::NoTask));
    for peer in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        let call = Call { peer, ambient: Some(ambient(&[])), ..Call::to(&house) };
        assert_eq!(call.with(None, &[]).unwrap().how, How::Ambient, "{peer}");
        assert_eq!(call.admitted(None), Ok(()));
    }
    for peer in ["192.0.2.7:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1", "0.0.0.0:1"] {
        let call = Call { peer, ambient: Some(ambient(&[])), ..Call::to(&house) };
        assert_eq!(call.with(None, &[]).unwrap_err(), Reason::NoTask, "{peer}");
        assert_eq!(call.admitted(None), Err(Reason::NoTask));
    }
}

#[test]
fn ambient_authority_for_an_owner_serves_its_sockets_only() {
    let house = House::new();
    for (uid, serves) in [(Some(1000), true), (Some(1001), true), (Some(0), false), (None, false)] {
        let call = Call { uid, ambient: Some(ambient(&[1000, 1001])), ..Call::to(&house) };
        assert_eq!(call.with(None, &[]).is_ok(), serves, "{uid:?}");
        assert_eq!(call.admitted(None).is_ok(), serves);
    }
}

#[test]
fn a_claim_is_taken_before_ambient_authority() {
    let house = House::new();
    let (task, handle) = house.start();
    let call = Call { ambient: Some(ambient(&[])), ..Call::to(&house) };
    assert!(Arc::ptr_eq(&call.with(None, &[("remit-task", &handle)]).unwrap().task, &task));
}

#[test]
fn what_a_connection_has_seen_changes_no_answer() {
    let mut house = House::new();
    let ((a, of_a), (b, of_b)) = (house.start(), house.start());
    let ambient = || Some(ambient(&[]));
    let call = Call { seen: Some(Seen::default()), ambient: ambient(), ..Call::to(&house) };
    assert!(call.with(Some("Basic wrong"), &[]).is_err(), "a wrong value is not remembered");
    for _ in 0..3 {
        assert!(Arc::ptr_eq(&call.with(Some(&basic(&of_a)), &[]).unwrap().task, &a));
        assert!(Arc::ptr_eq(&call.with(Some(&basic(&of_b)), &[]).unwrap().task, &b), "one connection, two tasks");
        assert!(Arc::ptr_eq(&call.with(None, &[("remit-task", &of_b)]).unwrap().task, &b));
        assert_eq!(call.with(Some(&basic(&of_a)), &[("remit-task", &of_b)]).unwrap_err(), Reason::DelegationInvalid);
        let mut close = basic(&of_a).into_bytes();
        *close.last_mut().unwrap() ^= 1;
        assert_eq!(call.with(Some(std::str::from_utf8(&close).unwrap()), &[]).unwrap_err(), Reason::NoTask);
        assert_eq!(call.with(None, &[]).unwrap().how, How::Ambient, "a claim is not carried over to a call without one");
    }
    house.tasks.end(&a.id);
    assert_eq!(call.with(Some(&basic(&of_a)), &[]).unwrap_err(), Reason::TaskEnded);
    house.clock.advance(LIFETIME);
    assert_eq!(call.with(None, &[("remit-task", &of_b)]).unwrap_err(), Reason::TaskExpired);
    let seen = call.seen;
    house.registry = Registry::default();
    let call = Call { seen, ambient: ambient(), ..Call::to(&house) };
    assert_eq!(call.with(Some(&basic(&of_a)), &[]).unwrap_err(), Reason::UnknownAgent);
    assert!(!format!("{:?}", call.seen).contains(&of_a));
}

#[test]
fn no_refusal_repeats_what_was_presented() {
    let house = House::new();
    let (task, handle) = house.start();
    house.tasks.end(&task.id);
    let value = HeaderValue::from_str(&basic(&handle)).unwrap();
    let call = Call::to(&house);
    let arrival = call.arrival(Some(&value));
    let refusal = identify(&arrival, &head(&[]), &house.tasks, &house.registry, None, house.now()).unwrap_err().refusal;
    assert!(!format!("{refusal:?}").contains(&handle));
}

proptest::proptest! {
    /// Whatever is presented, only a handle is a claim, and nothing presented falls back to ambient authority.
    #[test]
    fn nothing_but_a_handle_is_a_claim(value in "[ -~\\x80-\\xff]{0,120}", scheme in "(Basic |basic|Bearer |)") {
        let house = House::new();
        house.start();
        let field = HeaderValue::from_bytes(format!("{scheme}{value}").as_bytes()).unwrap();
        let call = Call { ambient: Some(ambient(&[])), ..Call::to(&house) };
        let refused = identify(&call.arrival(Some(&field)), &head(&[]), &house.tasks, &house.registry, call.ambient.as_ref(), house.now());
        proptest::prop_assert_eq!(refused.unwrap_err().refusal.reason, Reason::NoTask);
        let text = format!("task:{value}");
        let field = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(&text))).unwrap();
        proptest::prop_assert!(admit(&call.arrival(Some(&field)), &house.tasks, None, house.now()).is_err());
    }
}
