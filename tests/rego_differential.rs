//! The engine that is used, regorus's other one, and OPA: one meaning.
//!
//! `REMIT_TEST_OPA` names the OPA binary (`tests/tools/opa.sh` builds it). Without it these tests
//! fail: a comparison that did not take place proves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

#[path = "law_7_fixtures/mod.rs"]
mod fixtures;
#[path = "law_7_fixtures/random.rs"]
mod random;

use std::{path::Path, process::Command};

use fixtures::{Folder, decider, facts};
use random::Random;
use remit::decide::{self, Decider, Kind};
use serde_json::{Value, json};

const SHIPPED: [&str; 3] = ["authz", "delegated", "guardrails"];

fn opa() -> std::path::PathBuf {
    let path = std::env::var_os("REMIT_TEST_OPA").expect("REMIT_TEST_OPA names the OPA binary; tests/tools/opa.sh DEST builds it");
    path.into()
}

#[test]
fn opa_test_passes_on_the_policies_that_ship() {
    let output = Command::new(opa()).args(["test", "policies"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let strict = Command::new(opa()).args(["check", "--strict", "policies"]).output().unwrap();
    assert!(strict.status.success(), "{}", String::from_utf8_lossy(&strict.stderr));
}

#[test]
fn the_shipped_policy_means_the_same_to_three_engines() {
    let registry = fixtures::limited();
    let decider = decider(&registry, &[]);
    assert_eq!(decider.engine(), Kind::Register);
    let mut random = Random::new(1);
    let inputs: Vec<Value> = (0..4000)
        .map(|_| {
            let task = random.task();
            decider.document(&random.facts(&task), &random.intent())
        })
        .collect();
    let data = json!({"remit": decide::registry_data(&registry)});
    let by_opa = opa_decisions(&inputs, &data, &[], true).expect("OPA evaluates the shipped policy without an error");
    let mut tree = Tree::new(&data, &[]);
    for (input, expected) in inputs.iter().zip(by_opa) {
        let used = decider.evaluate_document(input).unwrap_or(Value::Null);
        assert_same(&used, &expected, "OPA", input, "");
        assert_same(&tree.decision(input).unwrap(), &expected, "the interpreter against OPA", input, "");
    }
}

#[test]
fn random_guardrails_mean_what_opa_says() {
    let rounds: u64 = std::env::var("REMIT_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let registry = fixtures::limited();
    let data = json!({"remit": decide::registry_data(&registry)});
    let (mut on_register, mut compared, mut closed) = (0, 0, 0);
    for seed in 0..rounds {
        let mut random = Random::new(1000 + seed);
        let policy = random.policy();
        let Ok((decider, _)) = fixtures::load(&registry, &[("guard.rego", &policy)]) else { continue };
        on_register += usize::from(decider.engine() == Kind::Register);
        let inputs: Vec<Value> = (0..40).map(|_| wide_input(&decider, &mut random)).collect();
        let Some(expected) = one_by_one(&inputs, &data, &policy) else { continue };
        let mut tree = Tree::new(&data, &[&policy]);
        for (input, expected) in inputs.iter().zip(expected) {
            match (decider.evaluate_document(input), expected) {
                // Denied as `policy_failed`, whatever OPA would have said.
                (Err(_), expected) => closed += usize::from(expected.is_some()),
                (Ok(used), Some(expected)) => {
                    assert_same(&used, &expected, "OPA", input, &policy);
                    if let Ok(tree) = tree.decision(input) {
                        assert_same(&tree, &expected, "the interpreter against OPA", input, &policy);
                    }
                    compared += 1;
                }
                (Ok(used), None) => panic!("OPA has an error where we have {used}\n{input}\n{policy}"),
            }
        }
    }
    println!("{compared} compared, {on_register} of {rounds} policies on the register VM, {closed} failed closed where OPA did not");
    assert!(compared as u64 > rounds * 10, "only {compared} were compared");
    assert!(on_register as u64 > rounds / 10, "only {on_register} ran on the register VM");
}

/// An input that the registry grants, so that the guardrails decide.
fn wide_input(decider: &Decider, random: &mut Random) -> Value {
    let task = fixtures::task("strict-bot", "everything");
    random.label(&task);
    decider.document(&facts(&task), &random.wide_intent())
}

/// OPA's decisions; where one has an error, each is asked for on its own. None: OPA refuses the policy.
fn one_by_one(inputs: &[Value], data: &Value, policy: &str) -> Option<Vec<Option<Value>>> {
    if let Ok(all) = opa_decisions(inputs, data, &[policy], false) {
        return Some(all.into_iter().map(|v| (v != Value::Null).then_some(v)).collect());
    }
    let each = |input: &Value| opa_decisions(std::slice::from_ref(input), data, &[policy], false);
    let first = each(&inputs[0]);
    if first.as_ref().is_err_and(|e| {
        e.contains("rego_compile_error")
            || e.contains("rego_parse_error")
            || e.contains("rego_type_error")
            || e.contains("rego_unsafe_var_error")
    }) {
        return None;
    }
    Some(inputs.iter().map(|input| each(input).ok().and_then(|mut v| v.pop()).filter(|v| *v != Value::Null)).collect())
}

fn opa_decisions(inputs: &[Value], data: &Value, policies: &[&str], strict: bool) -> Result<Vec<Value>, String> {
    let folder = Folder::new();
    let mut data = data.clone();
    data["batch"] = json!(inputs);
    let data = folder.write("data.json", &data.to_string());
    let batch = "package batch_of\n\nresults := [r | some i in data.batch; r := one(i)]\n\none(i) := r if { r := data.remit.authz.decision with input as i }\n\none(i) := null if { not data.remit.authz.decision with input as i }\n";
    let mut command = Command::new(opa());
    command.args(["eval", "--format", "json", "-d"]).arg(&data).arg("-d").arg(folder.write("batch.rego", batch));
    if strict {
        command.arg("--strict-builtin-errors");
    }
    for name in SHIPPED {
        command.arg("-d").arg(Path::new("policies/remit").join(format!("{name}.rego")));
    }
    for (i, policy) in policies.iter().enumerate() {
        // regorus has the meaning of `not` that OPA has under this import (`not f(undefined)` holds).
        let policy = policy.replacen("\n\n", "\n\nimport future.keywords.not\n\n", 1);
        command.arg("-d").arg(folder.write(&format!("guard{i}.rego"), &policy));
    }
    let output = command.arg("data.batch_of.results").output().expect("OPA runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|_| text.clone())?;
    answer["result"][0]["expressions"][0]["value"].as_array().cloned().ok_or(text)
}

/// regorus's interpreter, as the second opinion.
struct Tree(regorus::Engine);

impl Tree {
    fn new(data: &Value, policies: &[&str]) -> Self {
        let mut engine = regorus::Engine::new();
        engine.set_strict_builtin_errors(true);
        for name in SHIPPED {
            let text = std::fs::read_to_string(format!("policies/remit/{name}.rego")).unwrap();
            engine.add_policy(format!("{name}.rego"), text).unwrap();
        }
        for policy in policies {
            engine.add_policy("guard.rego".into(), (*policy).to_owned()).unwrap();
        }
        engine.add_data(regorus::Value::from_json_str(&data.to_string()).unwrap()).unwrap();
        Self(engine)
    }

    fn decision(&mut self, input: &Value) -> Result<Value, String> {
        self.0.set_input(regorus::Value::from_json_str(&input.to_string()).unwrap());
        let value = self.0.eval_rule("data.remit.authz.decision".into()).map_err(|e| e.to_string())?;
        Ok(serde_json::from_str(&value.to_json_str().unwrap()).unwrap())
    }
}

fn assert_same(used: &Value, expected: &Value, who: &str, input: &Value, policy: &str) {
    assert_eq!(used, expected, "{who}\ninput: {input}\n{policy}");
}
