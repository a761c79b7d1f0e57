//! `remit audit export`: what is written keeps to OCSF 1.9.0 and CloudEvents 1.0, and is the same each time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "this is test code")]

mod audit_support;

use audit_support::{Dir, Sample, call, new_id, open, outcome, runtime};
use remit::{
    audit::{Durability, Exported, cloud_event, export},
    call::{Mode, Recorder, Verdict},
    refusal::Reason,
};
use serde_json::Value;
use time::OffsetDateTime;

/// One object of the schema: what it must have, of what it must have one, and what else it may have.
#[derive(Debug)]
struct Object {
    name: &'static str,
    required: &'static [&'static str],
    one_of: &'static [&'static str],
    allowed: &'static [&'static str],
    /// Members that are objects of the schema themselves.
    below: &'static [(&'static str, &'static str)],
}

/// The part of OCSF 1.9.0 that API Activity reaches here, with the profiles `ai_operation`, `security_control` and `trace`.
const SCHEMA: &[Object] = &[
    Object {
        name: "api_activity",
        required: &[
            "activity_id",
            "category_uid",
            "class_uid",
            "metadata",
            "severity_id",
            "time",
            "type_uid",
            "actor",
            "api",
            "src_endpoint",
        ],
        one_of: &[],
        allowed: &[
            "activity_name",
            "category_name",
            "class_name",
            "type_name",
            "severity",
            "status",
            "status_id",
            "status_code",
            "status_detail",
            "message",
            "dst_endpoint",
            "http_request",
            "http_response",
            "resources",
            "unmapped",
            "action",
            "action_id",
            "disposition",
            "disposition_id",
            "authorizations",
            "ai_agent",
            "trace",
        ],
        below: &[
            ("metadata", "metadata"),
            ("actor", "actor"),
            ("api", "api"),
            ("src_endpoint", "network_endpoint"),
            ("dst_endpoint", "network_endpoint"),
            ("http_request", "http_request"),
            ("http_response", "http_response"),
            ("resources", "resource_details"),
            ("authorizations", "authorization"),
            ("ai_agent", "ai_agent"),
            ("trace", "trace"),
        ],
    },
    Object {
        name: "metadata",
        required: &["product", "version"],
        one_of: &[],
        allowed: &["profiles", "uid", "log_name", "sequence", "original_time", "correlation_uid"],
        below: &[("product", "product")],
    },
    Object { name: "product", required: &[], one_of: &["name", "uid"], allowed: &["vendor_name", "version"], below: &[] },
    Object {
        name: "actor",
        required: &[],
        one_of: &["process", "user", "iam_role", "invoked_by", "session", "app_name", "app_uid"],
        allowed: &[],
        below: &[("user", "user")],
    },
    Object { name: "user", required: &[], one_of: &["account", "name", "uid"], allowed: &["type_id"], below: &[] },
    Object {
        name: "api",
        required: &["operation"],
        one_of: &[],
        allowed: &["service", "request", "response"],
        below: &[("service", "service"), ("request", "request"), ("response", "response")],
    },
    Object { name: "service", required: &[], one_of: &["name", "uid"], allowed: &[], below: &[] },
    Object { name: "request", required: &["uid"], one_of: &[], allowed: &[], below: &[] },
    Object { name: "response", required: &[], one_of: &[], allowed: &["code", "error", "error_message"], below: &[] },
    Object {
        name: "network_endpoint",
        required: &[],
        one_of: &["ip", "uid", "name", "hostname", "svc_name", "instance_uid", "interface_uid", "interface_name", "domain"],
        allowed: &["port"],
        below: &[],
    },
    Object { name: "http_request", required: &[], one_of: &[], allowed: &["http_method", "url", "uid"], below: &[("url", "url")] },
    Object { name: "url", required: &[], one_of: &["url_string", "path"], allowed: &["scheme", "hostname", "port"], below: &[] },
    Object { name: "http_response", required: &["code"], one_of: &[], allowed: &["latency", "length"], below: &[] },
    Object { name: "resource_details", required: &[], one_of: &["name", "uid"], allowed: &["type", "data", "labels"], below: &[] },
    Object { name: "authorization", required: &[], one_of: &[], allowed: &["decision", "policy"], below: &[("policy", "policy")] },
    Object { name: "policy", required: &[], one_of: &["name", "type", "uid"], allowed: &["version", "is_applied"], below: &[] },
    Object { name: "ai_agent", required: &[], one_of: &["name", "uid"], allowed: &["instance_uid"], below: &[] },
    Object { name: "trace", required: &["uid"], one_of: &[], allowed: &[], below: &[] },
];

/// The captions of an enumeration's values.
type Captions = &'static [(u64, &'static str)];

/// Enumerations, with the members that hold the captions of their values.
const ENUMS: &[(&str, &str, Captions)] = &[
    ("activity_id", "activity_name", &[(0, "Unknown"), (1, "Create"), (2, "Read"), (3, "Update"), (4, "Delete"), (99, "Other")]),
    ("severity_id", "severity", &[(1, "Informational"), (2, "Low"), (3, "Medium"), (4, "High"), (5, "Critical")]),
    ("status_id", "status", &[(0, "Unknown"), (1, "Success"), (2, "Failure")]),
    ("action_id", "action", &[(1, "Allowed"), (2, "Denied"), (3, "Observed")]),
    ("disposition_id", "disposition", &[(1, "Allowed"), (2, "Blocked"), (17, "Logged")]),
];

fn check(value: &Value, object: &str, path: &str) {
    let schema = SCHEMA.iter().find(|o| o.name == object).unwrap();
    let fields = value.as_object().unwrap_or_else(|| panic!("{path} is no object: {value}"));
    for name in schema.required {
        assert!(fields.get(*name).is_some_and(|v| !v.is_null()), "{path}.{name} is missing: {value}");
    }
    let some = |names: &[&str]| names.iter().any(|n| fields.get(*n).is_some_and(|v| !v.is_null()));
    assert!(schema.one_of.is_empty() || some(schema.one_of), "{path} has none of {:?}", schema.one_of);
    for (name, inner) in fields {
        let known = [schema.required, schema.one_of, schema.allowed].iter().any(|l| l.contains(&name.as_str()));
        assert!(known, "{path}.{name} is not of the schema");
        assert!(!inner.is_null(), "{path}.{name} is null");
        if let Some((_, below)) = schema.below.iter().find(|(n, _)| n == name) {
            let at = format!("{path}.{name}");
            match inner.as_array() {
                Some(items) => items.iter().for_each(|item| check(item, below, &at)),
                None => check(inner, below, &at),
            }
        }
    }
}

fn check_event(event: &Value) {
    // CloudEvents 1.0 §3.1: the required attributes, each a text that is not empty.
    for name in ["id", "source", "specversion", "type"] {
        assert!(event[name].as_str().is_some_and(|t| !t.is_empty()), "{name}: {event}");
    }
    assert_eq!(event["specversion"], "1.0");
    let names = event.as_object().unwrap().keys();
    assert!(names.clone().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())), "{event}");
    let data = &event["data"];
    check(data, "api_activity", "data");
    assert_eq!((&data["category_uid"], &data["class_uid"]), (&6.into(), &6003.into()));
    assert_eq!(data["type_uid"], 600_300 + data["activity_id"].as_u64().unwrap());
    assert_eq!(data["metadata"]["version"], "1.9.0");
    for (id, name, values) in ENUMS {
        let (_, caption) = values.iter().find(|(v, _)| data[*id] == *v).unwrap_or_else(|| panic!("{id}: {}", data[*id]));
        assert_eq!(data[*name], *caption, "{id}");
    }
    // A UTC epoch in milliseconds.
    let age = OffsetDateTime::now_utc().unix_timestamp() * 1000 - data["time"].as_i64().unwrap();
    assert!((-1000..600_000).contains(&age), "{age}");
}

#[test]
fn every_kind_of_call_keeps_to_the_schema_and_has_the_same_id_each_time() {
    let dir = Dir::new("export");
    let open_call = runtime(1).block_on(async {
        let audit = open(&dir.0);
        let sample = Sample::default();
        audit.task(&remit::audit::TaskRecord::Started(&sample.caller.task));
        call(&audit, &sample, Durability::Buffered).await.unwrap();
        let (refused, nobody, observed, open_call) = (new_id(), new_id(), new_id(), new_id());
        let reasons = ["no grant matches".into()];
        let deny = remit::audit::DecisionRecord {
            verdict: Verdict::Deny,
            code: Some(Reason::NotGranted),
            reasons: &reasons,
            lease: None,
            ..sample.record(refused)
        };
        for (id, record) in [
            (refused, deny),
            (observed, remit::audit::DecisionRecord { id: observed, mode: Mode::Observe, ..deny }),
            (
                nobody,
                remit::audit::DecisionRecord {
                    id: nobody,
                    code: Some(Reason::NoTask),
                    caller: None,
                    to: None,
                    path: None,
                    method: None,
                    intents: &[],
                    ..deny
                },
            ),
        ] {
            audit.decision(&record, Durability::Buffered).await.unwrap();
            audit.outcome(&outcome(id));
        }
        audit.decision(&sample.record(open_call), Durability::Buffered).await.unwrap();
        audit.close();
        open_call
    });
    let all = |since, until| {
        let mut events = Vec::new();
        let done = export(&[dir.log()], since, until, |call, task| {
            events.push(cloud_event(call, task));
            Ok(())
        });
        (done.unwrap(), events)
    };
    let (done, events) = all(None, None);
    assert_eq!(done, Exported { calls: 4, open: 1 });
    events.iter().for_each(check_event);
    assert_eq!(events, all(None, None).1);
    assert!(events.iter().all(|e| e["id"] != open_call.to_string()));
    let [allowed, refused, observed, nobody] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(allowed["data"]["actor"]["user"]["uid"], "alice@acme.example");
    assert_eq!(
        (&allowed["data"]["action"], &refused["data"]["action"], &observed["data"]["action"]),
        (&"Allowed".into(), &"Denied".into(), &"Observed".into())
    );
    assert_eq!((&refused["data"]["status_code"], &refused["data"]["severity"]), (&"not_granted".into(), &"Medium".into()));
    assert_eq!((&nobody["data"]["src_endpoint"]["svc_name"], nobody.get("subject")), (&"unidentified".into(), None));
    let now = OffsetDateTime::now_utc();
    assert_eq!(all(Some(now), None).0.calls, 0);
    assert_eq!(all(Some(now - time::Duration::minutes(5)), Some(now)).0.calls, 4);
    assert_eq!(all(None, Some(now - time::Duration::minutes(5))).0.calls, 0);
}
