//! Every config of `docs/identities.md` loads as it stands, and what `check` says of wrong ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, path::Path};

use remit::{app, config::Config};
use support::{
    Lab,
    svid::Domain,
    tokens::{Key, set},
};

const DOCS: &str = include_str!("../docs/identities.md");

fn blocks() -> Vec<&'static str> {
    DOCS.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_config_in_the_docs_loads() {
    let lab = Lab::new("docs-identities");
    let domain = Domain::new("acme.example");
    fs::write(lab.dir.join("jwks.json"), set(&[&Key::new("k1")])).unwrap();
    fs::write(lab.dir.join("svid-jwks.json"), set(&[&Key::new("k1")]).replace("\"sig\"", "\"jwt-svid\"")).unwrap();
    fs::write(lab.dir.join("roots.pem"), &domain.pem).unwrap();
    fs::write(lab.dir.join("ca.crt"), &domain.pem).unwrap();
    fs::write(lab.dir.join("token"), "token").unwrap();
    let configs: Vec<&str> = blocks().into_iter().filter(|b| b.starts_with("version: 1")).collect();
    assert_eq!(configs.len(), 6);
    for (n, text) in configs.iter().enumerate() {
        let file = lab.dir.join(format!("remit-{n}.yaml"));
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let (_, warnings) = app::load(&config).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert!(warnings.is_empty(), "{warnings:?}\n{text}");
    }
    // The rules of the first example, whose issuers stand elsewhere.
    let rules = blocks().into_iter().find(|b| b.starts_with("agents:")).unwrap();
    let rest = configs[0].split("agents:").next().unwrap().to_owned()
        + rules
        + "workflows:"
        + configs[0].split("workflows:\n").nth(1).unwrap_or_default();
    let rest = rest.replace("workflows:  - id", "workflows:\n  - id");
    Config::parse(&rest, &lab.dir, Path::new("remit.yaml")).unwrap_or_else(|problems| panic!("{problems}\n{rest}"));
}

fn problems(text: &str) -> String {
    Config::parse(&format!("version: 1\n{text}\n"), Path::new("/nonexistent"), Path::new("remit.yaml"))
        .map_or_else(|p| p.to_string(), |_| String::new())
}

const ISSUER: &str = "issuer: \"https://id.example\", audience: remit, keys: discovery";
const WORKFLOW: &str = "workflows: [{id: w, purpose: p, max_lifetime: 1m, grants: [{intents: [github.*]}]}]";

#[test]
fn what_is_wrong_with_an_issuer_is_said_with_its_line() {
    for (issuer, says) in [
        (
            "issuer: \"https://id.example\", keys: discovery",
            "remit.yaml:2: issuers[0]: `audience` is missing; a token for someone else must not be taken here",
        ),
        ("audience: remit, keys: discovery", "`issuer` is missing"),
        ("issuer: \"https://id.example\", audience: [], keys: discovery", "issuers[0].audience: nothing is listed"),
        ("issuer: \"https://id.example\", audience: remit", "nothing says how its tokens are verified"),
        (
            "issuer: \"https://id.example\", audience: remit, keys: {url: \"http://id.example/jwks\"}",
            "issuers[0].keys.url: `http://id.example/jwks` is plain HTTP beyond loopback; write https",
        ),
        ("issuer: \"http://id.example\", audience: remit, keys: discovery", "plain HTTP beyond loopback"),
        ("issuer: \"acme\", audience: remit, keys: discovery", "the issuer's discovery document cannot be asked for"),
        ("issuer: \"https://id.example\", audience: remit, keys: {url: \"https://u:p@id.example/\"}", "a user or a fragment"),
        ("issuer: \"https://id.example\", audience: remit, keys: {file: nowhere.json}", "no file /nonexistent/nowhere.json"),
        (&format!("{ISSUER}, algorithms: [none]"), "`none` is no signature: anyone could write such a token; remove it"),
        (&format!("{ISSUER}, algorithms: [HS256]"), "`HS256` signs with a secret that whoever verifies could sign with too"),
        (&format!("{ISSUER}, algorithms: [RS265]"), "did you mean `RS256`?"),
        (&format!("{ISSUER}, algorithms: []"), "no algorithm is listed"),
        (&format!("{ISSUER}, control: remit, principal: sub"), "the audience is also that of agents' tokens"),
        (&format!("{ISSUER}, control: other"), "a token that may start tasks must say for whom"),
        (&format!("{ISSUER}, principal: act.sub"), "`act` names who acts, not for whom"),
        (&format!("{ISSUER}, leeway: 1h"), "clocks are not that far apart; write at most 5m"),
        (&format!("{ISSUER}, kubernetes: {{keys: discovery}}"), "or two things do"),
        (
            "issuer: \"https://k8s.example\", audience: remit, kubernetes: {review: \"https://k8s.example\"}",
            "a TokenReview is asked with a token of Remit's own",
        ),
        ("issuer: \"https://k8s.example\", audience: remit, kubernetes: {keys: discovery, remember: 1h}", "write at most 10m"),
        ("issuer: \"https://k8s.example\", audience: remit, ca: x, kubernetes: {keys: discovery}", "beside `kubernetes` this is not read"),
        (&format!("{ISSUER}}}, {{{ISSUER}"), "issuer `https://id.example` is also defined at remit.yaml:2"),
    ] {
        let found = problems(&format!("issuers: [{{{issuer}}}]"));
        assert!(found.contains("remit.yaml:2") && found.contains(says), "{issuer}\n{found}");
    }
}

#[test]
fn what_is_wrong_with_an_identity_is_said_with_its_line() {
    let agents = |a: &str, b: &str| {
        problems(&format!(
            "issuers: [{{{ISSUER}}}]\n{WORKFLOW}\nagents:\n- {{id: a, owner: o, workflows: [w], identities: [{a}]}}\n- {{id: b, owner: o, identities: [{b}]}}"
        ))
    };
    let jwt = |claims: &str| format!("{{jwt: {{issuer: \"https://id.example\", claims: {{{claims}}}}}}}");
    for (a, b, says) in [
        (
            jwt("sub: x"),
            jwt("sub: x"),
            "remit.yaml:6: agents[1].identities[0].jwt: identity `jwt of https://id.example with sub: \"x\"` is also defined at remit.yaml:5",
        ),
        (jwt("sub: x"), jwt("sub: x, tenant: 7"), "a token with these claims is also `a`, by remit.yaml:5"),
        (jwt("act: {sub: x}, tenant: 7"), jwt("act.sub: x"), "a token with these claims is also `b`"),
        (jwt("act: {act: {sub: x}}"), String::new(), "only the outermost `act` says who acts"),
        (jwt("act.act.sub: x"), String::new(), "only the outermost `act` says who acts"),
        (jwt(""), String::new(), "no claim is named, so every token of the issuer would be this agent"),
        (jwt("sub: [x]"), String::new(), "a list where a text, a number, true or false is wanted"),
        (
            "{jwt: {issuer: \"https://id.exmple\", claims: {sub: x}}}".into(),
            String::new(),
            "no issuer `https://id.exmple` is defined; did you mean `https://id.example`?",
        ),
        ("{spiffe: \"spiffe://a/b\", service_account: a/b}".into(), String::new(), "an identity is one of"),
        ("{spiffe: \"spiffe://a/b\", workflow: v}".into(), String::new(), "agent `a` is not bound to workflow `v`"),
        ("{spiffe: \"spiffe://a/b\"}, {spiffe: \"spiffe://a/c\"}".into(), String::new(), "more than one SPIFFE ID"),
        ("{spiffe: \"spiffe://a/b\", issuer: x}".into(), String::new(), "`issuer` belongs to `service_account`"),
    ] {
        let found = agents(&a, &b);
        assert!(found.contains(says), "{a} {b}\n{found}");
    }
    let cluster = |n: u8| format!("{{issuer: \"https://k{n}.example\", audience: remit, kubernetes: {{keys: discovery}}}}");
    let account = |issuer: &str| {
        problems(&format!(
            "issuers: [{}, {}]\nagents: [{{id: a, owner: o, identities: [{{service_account: n/a{issuer}}}]}}]",
            cluster(1),
            cluster(2)
        ))
    };
    assert!(account("").contains("2 clusters are configured, and this account could be of any; add `issuer:` beside it"));
    assert_eq!(account(", issuer: \"https://k1.example\""), "");
}

#[test]
fn what_is_wrong_with_tls_and_spiffe_is_said_with_its_line() {
    let bundles = "spiffe: {workload_api: \"unix:///a\"}";
    for (text, says) in [
        ("listen: {forward: {address: \"127.0.0.1:1\", tls: {svid: true}}}".to_string(), "`svid: true` needs the Workload API"),
        (
            "listen: {forward: {address: \"127.0.0.1:1\", tls: {names: [a.example]}}}".into(),
            "no SPIFFE bundle verifies the certificates of clients",
        ),
        (format!("{bundles}\nlisten: {{forward: {{address: \"127.0.0.1:1\", tls: {{}}}}}}"), "the listener has one certificate"),
        (
            format!("{bundles}\nlisten: {{forward: {{address: \"127.0.0.1:1\", tls: {{svid: true, names: [a.example]}}}}}}"),
            "the listener has one certificate",
        ),
        (format!("{bundles}\nlisten: {{forward: {{tls: {{svid: true}}}}}}"), "`address` is missing"),
        ("spiffe: {audience: a}".into(), "nothing verifies an SVID"),
        ("spiffe: {workload_api: /a}".into(), "is no endpoint of the Workload API"),
        ("spiffe: {bundles: [{trust_domain: A.example, roots: x}]}".into(), "its trust domain may hold only"),
        ("spiffe: {bundles: [{trust_domain: a.example}]}".into(), "the bundle is empty"),
    ] {
        let found = problems(&text);
        assert!(found.contains(says), "{text}\n{found}");
    }
}
