//! Random tasks, intents and policies, the same for the same seed.

#![allow(clippy::explicit_auto_deref, reason = "without the deref the type is not inferred")]
#![allow(dead_code, unreachable_pub)]

use remit::{
    call::{Effect, How, Intent, Label, Listener, Param, Params, Task},
    decide::{Facts, Request},
};
use serde_json::{Value, json};
use std::sync::Arc;

use super::fixtures::{link, operation, request, task_of};

pub struct Random(u64);

const TEXTS: [&str; 12] = ["acme", "web", "docs", "website", "secret", "", "7", "9", "true", "é", "a b", "null"];
const NAMES: [&str; 5] = ["owner", "repo", "number", "title", "path"];
const WIDE_NAMES: [&str; 3] = ["a", "b", "c"];
const IDS: [&str; 9] = [
    "github.repos.get-content",
    "github.issues.add-labels",
    "github.issues.create-comment",
    "github.issues.update",
    "github.repos.delete",
    "github.repos.update",
    "github.unknown",
    "unknown",
    "gitlab.projects.get",
];

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn json(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => json!(self.below(12)),
            1 => json!(7.0),
            2 => json!(self.chance(50)),
            3 => Value::Null,
            4 | 5 => json!(*self.one(&TEXTS)),
            6 => (0..self.below(3)).map(|_| self.json(depth - 1)).collect(),
            _ => (0..self.below(3)).map(|_| (self.one(&TEXTS).to_string(), self.json(depth - 1))).collect::<serde_json::Map<_, _>>().into(),
        }
    }

    pub fn param(&mut self) -> Param {
        if self.chance(75) { Param::Text((*self.one(&TEXTS)).into()) } else { Param::Json(self.json(1)) }
    }

    fn params(&mut self, names: &[&str]) -> Params {
        let mut params = Params::default();
        let likely = self.chance(40);
        for name in names {
            if likely && matches!(*name, "owner" | "repo") {
                params.push(Arc::from(*name), Param::Text(if *name == "owner" { "acme" } else { "web" }.into()));
            } else if self.chance(70) {
                params.push(Arc::from(*name), self.param());
            }
        }
        params
    }

    pub fn effect(&mut self) -> Effect {
        *self.one(&Effect::ALL)
    }

    pub fn labels(&mut self) -> Vec<Label> {
        Label::ALL.into_iter().filter(|_| self.chance(10)).collect()
    }

    pub fn intent(&mut self) -> Intent {
        let (id, effect, labels) = (*self.one(&IDS), self.effect(), self.labels());
        Intent { operation: operation(id, effect, &labels), params: self.params(&NAMES) }
    }

    /// One that `*` covers.
    pub fn wide_intent(&mut self) -> Intent {
        let effect = *self.one(&[Effect::Read, Effect::Write, Effect::Delete]);
        Intent { operation: operation("github.issues.get", effect, &[]), params: self.params(&WIDE_NAMES) }
    }

    pub fn label(&mut self, task: &Task) {
        let labels = self.labels();
        task.labels.add(&labels);
        for id in IDS.into_iter().filter(|_| self.chance(15)) {
            task.succeeded.add(&id.into());
        }
    }

    pub fn task(&mut self) -> Task {
        let links = 1 + self.below(2);
        let chain = (0..links)
            .map(|_| {
                let agent = *self.one(&["triage-bot", "careful-bot", "strict-bot", "nobody"]);
                let workflow = *self.one(&["triage-issues", "triage-issues", "everything", "by-effect", "none"]);
                let grants = if self.chance(30) { (0..1 + self.below(2)).map(|_| self.grant()).collect() } else { Vec::new() };
                link(agent, workflow, grants)
            })
            .collect();
        let task = task_of(chain);
        self.label(&task);
        task
    }

    /// A delegated grant, in the registry's form.
    fn grant(&mut self) -> Value {
        let mut grant = json!({});
        if self.chance(70) {
            grant["intents"] = json!([*self.one(&["github.*", "*", "github.issues.*", "github.issues.add-labels", "unknown"])]);
        }
        if self.chance(30) {
            grant["effects"] = json!([self.effect().as_str()]);
        }
        if self.chance(50) {
            let wanted = match self.below(3) {
                0 => json!(*self.one(&["web*", "acme", "7"])),
                1 => json!([7, "docs", "we*"]),
                _ => self.json(1),
            };
            grant["where"] = json!({*self.one(&NAMES): wanted});
        }
        if self.chance(20) {
            grant["approval"] = json!({"by": ["bob"]});
        }
        if self.chance(20) {
            grant["limit"] = json!({"calls": 3, "per": *self.one(&["task", "1m", "1h30m"])});
        }
        if self.chance(20) {
            grant["credential"] = json!("narrow");
        }
        grant
    }

    pub fn facts<'a>(&mut self, task: &'a Task) -> Facts<'a> {
        static DRIFT: std::sync::LazyLock<Vec<Box<str>>> = std::sync::LazyLock::new(|| vec!["model x".into(), "tool y".into()]);
        let drift = if self.chance(20) { &DRIFT[..1 + self.below(2)] } else { &[] };
        let how = if self.chance(50) { How::Handle } else { How::Ambient };
        let listener = *self.one(&Listener::ALL);
        let request = self.request();
        Facts { task, how, listener, drift, request }
    }

    pub fn request(&mut self) -> Request<'static> {
        Request {
            method: *self.one(&["GET", "POST"]),
            host: *self.one(&["api.github.com", "evil.example"]),
            path: *self.one(&["/a", "/b", "/a/b"]),
            upgrade: if self.chance(20) { Some("websocket") } else { None },
            body_bytes: if self.chance(80) { Some(self.below(3) as u64) } else { None },
            ..request()
        }
    }

    // --- policies -------------------------------------------------------------------------------

    /// A module of guardrails with a few helpers, in Rego that OPA mostly accepts.
    pub fn policy(&mut self) -> String {
        let mut out = String::from("package remit.guardrails\n\n");
        let helpers = self.below(4);
        for i in 0..helpers {
            out += &self.helper(i);
        }
        for i in 0..1 + self.below(3) {
            let body = self.body(helpers, None);
            out += &format!("deny contains \"deny {i}\" if {{\n{body}}}\n\n");
        }
        out
    }

    fn helper(&mut self, i: usize) -> String {
        let body = self.body(i, None);
        match self.below(8) {
            0 => format!("h{i} if {{\n{body}}}\n\n"),
            1 => format!("h{i} := {} if {{\n{body}}}\n\n", self.expr(i, None, 1)),
            2 => {
                let (a, b) = (self.constant(), self.constant());
                format!("h{i} := {a} if {{\n{body}}}\n\nh{i} := {b} if {{\n{}}}\n\n", self.body(i, None))
            }
            3 => format!("h{i} := {} if {{\n{body}}}\nelse := {}\n\n", self.constant(), self.expr(i, None, 1)),
            4 => format!("h{i} contains {} if {{\n{body}}}\n\n", self.expr(i, None, 1)),
            5 => format!("h{i} := [x | some x in {}; {}]\n\n", self.list(), self.condition(i, Some("x"))),
            6 => format!("default h{i} := {}\n\nh{i} := {} if {{\n{body}}}\n\n", self.constant(), self.constant()),
            _ => format!("h{i}[k] := v if {{\n\tsome k, v in input.intent.params\n\t{}\n}}\n\n", self.condition(i, Some("v"))),
        }
    }

    fn body(&mut self, helpers: usize, var: Option<&str>) -> String {
        let mut out = String::new();
        let mut var = var.map(str::to_owned);
        if self.chance(25) {
            out += &format!("\tsome x in {}\n", self.list());
            var = Some("x".into());
        }
        if self.chance(30) {
            out += &format!("\ty := {}\n", self.expr(helpers, var.as_deref(), 1));
            if self.chance(70) {
                out += &format!("\ty {} {}\n", self.operator(), self.constant());
            }
        }
        for _ in 0..1 + self.below(2) {
            out += &format!("\t{}\n", self.condition(helpers, var.as_deref()));
        }
        out
    }

    fn operator(&mut self) -> &'static str {
        *self.one(&["==", "!=", "<", ">", "<=", ">="])
    }

    fn condition(&mut self, helpers: usize, var: Option<&str>) -> String {
        let expr = |r: &mut Self| r.expr(helpers, var, 1);
        match self.below(12) {
            0..4 => format!("{} {} {}", expr(self), self.operator(), self.constant()),
            4 => format!("{} {} {}", expr(self), self.operator(), expr(self)),
            5 => format!("not {} {} {}", expr(self), self.operator(), self.constant()),
            6 => format!("not {}", expr(self)),
            7 => format!("{} in {}", expr(self), self.list()),
            8 => format!("every e in {} {{ e {} {} }}", self.list(), self.operator(), self.constant()),
            9 => format!("count([z | some z in {}; z {} {}]) {} 0", self.list(), self.operator(), self.constant(), self.operator()),
            10 => format!("startswith({}, {})", self.path(), self.text()),
            _ => expr(self),
        }
    }

    fn expr(&mut self, helpers: usize, var: Option<&str>, depth: usize) -> String {
        if depth == 0 {
            return if self.chance(50) { self.path() } else { self.constant() };
        }
        let inner = |r: &mut Self| r.expr(helpers, var, depth - 1);
        match self.below(14) {
            0..3 => self.path(),
            3 => self.constant(),
            4 if helpers > 0 => format!("h{}", self.below(helpers)),
            5 => format!("{} + {}", inner(self), inner(self)),
            6 => format!("count({})", self.list()),
            7 => format!("lower({})", self.path()),
            8 => format!("object.get(input.intent.params, {}, {})", self.text_name(), self.constant()),
            9 => format!("to_number({})", self.path()),
            10 => format!("{{\"k\": {}}}.k", inner(self)),
            11 => format!("[{}][0]", inner(self)),
            12 => format!("{} - 1", inner(self)),
            _ => var.map_or_else(|| self.path(), str::to_owned),
        }
    }

    fn path(&mut self) -> String {
        let name = *self.one(&WIDE_NAMES);
        match self.below(8) {
            0..5 => format!("input.intent.params.{name}"),
            5 => "input.intent.effect".into(),
            6 => format!("input.intent.params[\"{name}\"]"),
            _ => "input.request.method".into(),
        }
    }

    fn list(&mut self) -> String {
        match self.below(7) {
            0 => (*self.one(&["input.task.labels", "input.task.succeeded"])).into(),
            1 => format!("[{}, {}]", self.path(), self.constant()),
            2 => format!("{{{}, {}}}", self.constant(), self.path()),
            3 => self.path(),
            4 => "input.intent.params".into(),
            5 => "input.delegation".into(),
            _ => "[1, \"web\", true]".into(),
        }
    }

    fn constant(&mut self) -> String {
        self.one(&["1", "7", "0", "\"web\"", "\"\"", "true", "false", "null", "[]", "\"7\""]).to_string()
    }

    fn text(&mut self) -> String {
        self.one(&["\"w\"", "\"\"", "\"7\""]).to_string()
    }

    fn text_name(&mut self) -> String {
        format!("\"{}\"", self.one(&WIDE_NAMES))
    }
}
