//! Law 7: a cached decision equals a fresh one for every input, over the policy that ships, over
//! policies written to break the footprint, and across policy changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

#[path = "law_7_fixtures/mod.rs"]
mod fixtures;
#[path = "law_7_fixtures/random.rs"]
mod random;

use std::{collections::HashSet, sync::Arc};

use fixtures::{decider, facts, intent, registry, text};
use random::Random;
use remit::{
    call::{Decision, Effect, How, Intent, Label, LinkKind, Listener, Param, Params, Task, Verdict},
    decide::{Decider, Facts, Kind, Request, Sources},
};
use serde_json::{Value, json};

/// Guardrails that read the input in roundabout ways.
const BREAKERS: [(&str, &str); 25] = [
    ("what succeeded", "deny contains \"no\" if not \"github.issues.update\" in input.task.succeeded"),
    ("what succeeded, by an alias", "t := input.task\n\ndeny contains \"no\" if { some done in t.succeeded; done == \"unknown\" }"),
    ("how much succeeded", "deny contains \"no\" if count(input.task.succeeded) > 1"),
    ("alias of input", "x := input\n\ndeny contains \"no\" if x.intent.params.a == \"web\""),
    ("alias in a body", "deny contains \"no\" if { x := input; y := x.request; y.path == \"/b\" }"),
    ("alias by import", "import input.intent.params as p\n\ndeny contains \"no\" if p.b == \"7\""),
    ("computed key", "keys := {\"a\", \"b\"}\n\ndeny contains \"no\" if { some k in keys; input.intent.params[k] == \"web\" }"),
    ("computed root key", "deny contains \"no\" if { some k, v in input; v.host == \"evil.example\"; k == \"request\" }"),
    ("walk", "deny contains \"no\" if { walk(input, [_, v]); v == \"evil.example\" }"),
    ("walk below", "deny contains \"no\" if { walk(input.intent, [p, v]); v == \"web\"; count(p) > 1 }"),
    ("function of input", "host(i) := i.request.host\n\ndeny contains \"no\" if host(input) == \"evil.example\""),
    ("function that reads input", "late(x) if input.request.body_bytes == x\n\ndeny contains \"no\" if late(1)"),
    ("with input", "q if input.intent.params.a == \"web\"\n\ndeny contains \"no\" if q with input.intent.params.b as 1"),
    (
        "with all of input",
        "q if input.intent.effect == \"GET\"\n\ndeny contains \"no\" if { q with input as {\"intent\": {\"effect\": input.request.method}} }",
    ),
    ("with data", "q if data.knob == input.request.method\n\ndeny contains \"no\" if q with data.knob as \"GET\""),
    ("array comprehension", "deny contains \"no\" if count([v | some v in input.intent.params; v == \"web\"]) > 0"),
    ("object comprehension", "m := {k: v | some k, v in input.intent.params}\n\ndeny contains \"no\" if m.a == m.b"),
    ("negation", "deny contains \"no\" if not input.intent.params.a"),
    ("negated rule", "ok if input.request.upgrade == null\n\ndeny contains \"no\" if not ok"),
    ("every", "deny contains \"no\" if every l in input.task.labels { l == \"private-data\" }"),
    ("some in", "deny contains \"no\" if { some l in input.task.labels; l == \"private-data\" }"),
    ("object.get", "deny contains \"no\" if object.get(input, [\"intent\", \"params\", \"c\"], \"web\") == \"web\""),
    ("object.get of a part", "deny contains \"no\" if object.get(input.intent.params, \"c\", null) == null"),
    ("input in a set", "deny contains \"no\" if { some i in {input.caller, 1}; i.how == \"ambient\" }"),
    ("input in an array", "s := [input, 1]\n\ndeny contains \"no\" if s[0].caller.listener == \"inbound\""),
];

#[test]
fn a_kept_decision_is_the_fresh_one_for_the_policy_that_ships() {
    let decider = decider(&fixtures::limited(), &[]);
    assert_eq!(decider.engine(), Kind::Register);
    let pool = Pool::new(7, 90, false);
    let fresh = pool.fresh(&decider);
    let kinds: HashSet<_> = fresh.iter().map(|d| d.verdict).collect();
    assert_eq!(kinds.len(), 3, "the inputs reach every verdict");
    let hits = pool.compare(&decider, &fresh, 2_000_000, 70);
    assert!(hits > 1_500_000, "only {hits} came from the cache");
}

#[test]
fn a_kept_decision_is_the_fresh_one_for_policies_that_try_to_hide_what_they_read() {
    for (name, rules) in BREAKERS {
        let decider = decider(&registry(), &[("guard.rego", &format!("package remit.guardrails\n\n{rules}\n"))]);
        assert!(decider.footprint().cacheable, "{name}");
        let pool = Pool::new(11, 25, true);
        let fresh = pool.fresh(&decider);
        let answers: HashSet<_> = fresh.iter().map(|d| d.verdict).collect();
        assert_eq!(answers, HashSet::from([Verdict::Allow, Verdict::Deny]), "{name}: the inputs do not tell its answers apart");
        let hits = pool.compare(&decider, &fresh, 60_000, 3);
        assert!(hits > 30_000, "{name}: only {hits} came from the cache");
    }
}

#[test]
fn rules_in_other_packages_are_followed() {
    let lib = "package lib.deep\n\nwhere_to := input.request.path\n\nfar(x) if input.intent.params.a == x";
    let guard = "package remit.guardrails.team\n\nimport data.lib.deep\n\ndeny contains \"no\" if deep.where_to == \"/b\"\n\ndeny contains \"far\" if data.lib.deep.far(\"web\")";
    let decider = decider(&registry(), &[("guard.rego", guard), ("lib/deep.rego", lib)]);
    assert!(decider.footprint().reads.contains(&"input.request.path".to_owned()));
    let pool = Pool::new(13, 40, true);
    let fresh = pool.fresh(&decider);
    pool.compare(&decider, &fresh, 100_000, 5);
}

#[test]
fn a_policy_change_changes_the_answers_that_it_should() {
    let pool = Pool::new(17, 30, true);
    let versions = ["web", "docs", "7"].map(|value| {
        let rules = format!("package remit.guardrails\n\ndeny contains \"no {value}\" if input.intent.params.a == \"{value}\"\n");
        decider(&registry(), &[("guard.rego", &rules)])
    });
    let fresh = versions.each_ref().map(|v| pool.fresh(v));
    assert_ne!(fresh[0], fresh[1]);
    // As after a reload: each version answers with its own decisions, whatever others have kept.
    for round in 0..12 {
        pool.compare(&versions[round % 3], &fresh[round % 3], 20_000, 100 + round as u64);
    }
    assert_ne!(versions[0].revision(), versions[1].revision());
}

#[test]
fn volatile_builtins_are_never_kept() {
    for call in ["time.now_ns() > 0", "rand.intn(\"seed\", 2) >= 0", "uuid.rfc4122(\"k\") != \"\""] {
        let rules =
            format!("package remit.guardrails\n\nhelp if {call}\n\ndeny contains \"no\" if {{ help; input.intent.effect == \"admin\" }}\n");
        let decider = decider(&registry(), &[("guard.rego", &rules)]);
        assert!(!decider.footprint().cacheable);
        assert_eq!(decider.footprint().uncacheable[0].rule, "data.remit.guardrails.help");
        assert_eq!(decider.footprint().uncacheable[0].line, 3);
        let task = fixtures::task("triage-bot", "triage-issues");
        let read = [intent("github.repos.get", Effect::Read, &[("owner", text("acme")), ("repo", text("web"))])];
        for _ in 0..3 {
            let (decision, cached) = decider.judge_parts(&facts(&task), &read);
            assert_eq!((decision.verdict, cached), (Verdict::Allow, false), "{call}");
        }
    }
}

#[test]
fn a_policy_may_forbid_keeping_its_decision() {
    let folder = fixtures::Folder::new();
    let rules = "package remit.authz\n\ndecision := {\"decision\": \"allow\", \"cache\": input.intent.effect == \"read\"}\n";
    folder.write("own.rego", rules);
    let sources = Sources { builtin: false, paths: vec![folder.0.clone()], ..fixtures::sources(&registry()) };
    let decider = Decider::load(sources).unwrap().0;
    let task = fixtures::task("triage-bot", "triage-issues");
    let second = |effect| {
        let what = [intent("github.repos.get", effect, &[])];
        decider.judge_parts(&facts(&task), &what);
        decider.judge_parts(&facts(&task), &what).1
    };
    assert!(second(Effect::Read));
    assert!(!second(Effect::Write));
}

#[test]
fn keys_tell_types_and_absence_apart() {
    let decider =
        decider(&registry(), &[("guard.rego", "package remit.guardrails\n\ndeny contains \"no\" if input.intent.params.a == 17\n")]);
    let task = fixtures::task("strict-bot", "everything");
    let values = [
        None,
        Some(Param::Json(Value::Null)),
        Some(Param::Json(json!(1))),
        Some(Param::Json(json!(1.0))),
        Some(text("1")),
        Some(Param::Json(json!(true))),
        Some(text("true")),
        Some(text("")),
        Some(Param::Json(json!([]))),
        Some(Param::Json(json!({}))),
        Some(Param::Json(json!(["1"]))),
        Some(Param::Json(json!([1]))),
        Some(Param::Json(json!([[], 1]))),
        Some(Param::Json(json!([[1]]))),
        Some(Param::Json(json!(-0.0))),
        Some(Param::Json(json!(0.0))),
        Some(Param::Json(json!(u64::MAX))),
    ];
    for expected in [false, true] {
        for value in &values {
            let params: Vec<(&str, Param)> = value.iter().map(|v| ("a", v.clone())).collect();
            let (_, cached) = decider.judge_parts(&facts(&task), &[intent("github.x.y", Effect::Read, &params)]);
            assert_eq!(cached, expected, "{value:?}");
        }
    }
}

#[test]
fn what_the_policies_do_not_read_is_not_in_the_key() {
    let decider = decider(&registry(), &[]);
    let task = fixtures::task("triage-bot", "triage-issues");
    let judge = |title: &str| {
        let params = [("owner", text("acme")), ("repo", text("web")), ("title", text(title))];
        decider.judge_parts(&facts(&task), &[intent("github.issues.add-labels", Effect::Write, &params)]).1
    };
    assert!(!judge("one"));
    assert!(judge("another"));
    assert!(judge(&"x".repeat(1 << 20)), "a long parameter that nothing reads does not keep the call from being cached");
}

#[test]
fn long_keys_and_failures_are_not_kept() {
    let rules = "package remit.guardrails\n\ndeny contains \"no\" if to_number(input.intent.params.a) > 3\n";
    let decider = decider(&registry(), &[("guard.rego", rules)]);
    let task = fixtures::task("strict-bot", "everything");
    let twice = |value: &str| {
        let what = [intent("github.x.y", Effect::Read, &[("a", text(value))])];
        decider.judge_parts(&facts(&task), &what);
        decider.judge_parts(&facts(&task), &what)
    };
    assert!(twice("1").1);
    let failed = twice("no number");
    assert_eq!((failed.0.code, failed.1), (Some(remit::refusal::Reason::PolicyFailed), false));
    let long = format!("{}1", "0".repeat(5000));
    assert!(!twice(&long).1);
}

#[test]
fn the_cache_stays_within_its_memory() {
    let sources = Sources { cache_bytes: 64 << 10, ..fixtures::sources(&registry()) };
    let decider = Decider::load(sources).unwrap().0;
    for i in 0..3000 {
        let task = fixtures::task("triage-bot", "triage-issues");
        let params = [("owner", text("acme")), ("repo", text(&format!("r{i}")))];
        decider.judge_parts(&facts(&task), &[intent("github.repos.get", Effect::Read, &params)]);
    }
    // An entry is at least 320 bytes.
    assert!(decider.cached() <= (64 << 10) / 320, "{} kept", decider.cached());
}

/// Inputs in families: members of one differ in a single value, so that a value which a key
/// lacks shows.
struct Pool {
    samples: Vec<Sample>,
}

struct Sample {
    task: Arc<Task>,
    how: How,
    listener: Listener,
    drift: Vec<Box<str>>,
    request: Request<'static>,
    intent: Intent,
}

impl Pool {
    /// `wide`: inputs that the registry grants, so that guardrails decide.
    fn new(seed: u64, families: usize, wide: bool) -> Self {
        let mut random = Random::new(seed);
        let mut samples = Vec::new();
        for _ in 0..families {
            let base = Sample::random(&mut random, wide);
            for field in 0..17 {
                samples.push(base.changed(field, &mut random, wide));
            }
            samples.push(base);
        }
        Self { samples }
    }

    fn fresh(&self, decider: &Decider) -> Vec<Decision> {
        self.samples.iter().map(|s| decider.judge_fresh(&s.facts(), &s.intent)).collect()
    }

    /// Judges samples in random order; returns how many decisions were kept ones.
    fn compare(&self, decider: &Decider, fresh: &[Decision], times: usize, seed: u64) -> usize {
        let mut random = Random::new(seed);
        let mut hits = 0;
        for _ in 0..times {
            let at = random.below(self.samples.len());
            let sample = &self.samples[at];
            let (decision, cached) = decider.judge_parts(&sample.facts(), std::slice::from_ref(&sample.intent));
            hits += usize::from(cached);
            assert_eq!(*decision, fresh[at], "cached: {cached}, {:?}", decider.document(&sample.facts(), &sample.intent));
        }
        hits
    }
}

impl Sample {
    fn random(random: &mut Random, wide: bool) -> Self {
        let task = Arc::new(if wide { fixtures::task("strict-bot", "everything") } else { random.task() });
        random.label(&task);
        let intent = if wide { random.wide_intent() } else { random.intent() };
        let facts = random.facts(&task);
        let (how, listener) = (facts.how, facts.listener);
        let drift = if wide { Vec::new() } else { facts.drift.to_vec() };
        Self { task, how, listener, drift, request: random.request(), intent }
    }

    fn facts(&self) -> Facts<'_> {
        Facts { task: &self.task, how: self.how, listener: self.listener, drift: &self.drift, request: self.request }
    }

    fn changed(&self, field: usize, random: &mut Random, wide: bool) -> Self {
        let mut new = Self { task: self.task.clone(), drift: self.drift.clone(), intent: self.intent.clone(), ..*self };
        match field {
            0 => new.how = if self.how == How::Handle { How::Ambient } else { How::Handle },
            1 => new.listener = *random.one(&Listener::ALL),
            2 if !wide => new.drift = if self.drift.is_empty() { vec!["model x".into()] } else { Vec::new() },
            3 => new.request.method = if self.request.method == "GET" { "POST" } else { "GET" },
            4 => new.request.host = if self.request.host == "evil.example" { "api.github.com" } else { "evil.example" },
            5 => new.request.path = if self.request.path == "/b" { "/a" } else { "/b" },
            6 => new.request.upgrade = if self.request.upgrade.is_some() { None } else { Some("websocket") },
            7 => new.request.body_bytes = if self.request.body_bytes == Some(1) { None } else { Some(1) },
            8 => new.request.port = 8443,
            16 => new.task = self.later(random),
            9 => new.task = Self::random(random, wide).task,
            10 => new.intent.operation = Self::random(random, wide).intent.operation,
            11 => new.intent.params = Params::default(),
            _ => new.intent.params = self.other_params(random),
        }
        if field == 9 && wide {
            new.task.labels.add(&[*random.one(&[Label::PrivateData, Label::UntrustedContent])]);
        }
        new
    }

    /// The same task when it has done more: all that is fixed for it is the same.
    fn later(&self, random: &mut Random) -> Arc<Task> {
        let links = self.task.chain.iter().filter(|l| l.kind == LinkKind::Agent).cloned().collect();
        let later = Task { id: self.task.id.clone(), number: self.task.number, ..fixtures::task_of(links) };
        later.labels.add(&self.task.labels.list());
        random.label(&later);
        later.succeeded.add(&"github.issues.update".into());
        Arc::new(later)
    }

    fn other_params(&self, random: &mut Random) -> Params {
        let mut params = Params::default();
        let place = random.below(self.intent.params.len().max(1));
        for (i, (name, value)) in self.intent.params.iter().enumerate() {
            params.push(name.clone(), if i == place { random.param() } else { value.clone() });
        }
        params
    }
}
