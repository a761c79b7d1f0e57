//! What a delegation token has to be, one thing wrong at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

use std::{fs, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use remit::{
    authority::{
        NoEvents, Registry, Start, Tasks,
        token::{Delegations, LONGEST, MOST_LINKS, Received, TYPE, Used},
    },
    call::{Destination, Host, LinkKind, Principal, Scheme, Task},
    clock::{Moment, SystemClock},
    config::Config,
    jose::SigningKey,
    refusal::{Reason, Refusal},
};
use ring::{
    digest, hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::{Value, json};

const A: &str = "spiffe://acme.example/agent/a";
const B: &str = "spiffe://acme.example/agent/b";
const C: &str = "spiffe://acme.example/agent/c";

/// Three agents, each with a key, of which `c` is the one that reads.
struct Lab {
    dir: PathBuf,
    keys: [(&'static str, SigningKey); 3],
    config: Config,
    delegations: Delegations,
    registry: Registry,
    used: Used,
    now: Moment,
}

impl Lab {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("remit-token-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let keys = [A, B, C].map(|id| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
            let name = id.rsplit('/').next().unwrap();
            let body = base64::engine::general_purpose::STANDARD.encode(pkcs8.as_ref());
            fs::write(dir.join(format!("{name}.pem")), format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
                .unwrap();
            let key = SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap();
            fs::write(dir.join(format!("{name}.jwks")), json!({"keys": [key.public_jwk()]}).to_string()).unwrap();
            (id, key)
        });
        let config = Config::parse(CONFIG, &dir, &dir.join("remit.yaml")).unwrap_or_else(|p| panic!("{p}"));
        let delegations = Delegations::load(&config).unwrap_or_else(|p| panic!("{p}"));
        let registry = Registry::new(&config.registry, config.mode);
        Self { dir, keys, config, delegations, registry, used: Used::default(), now: Moment::now() }
    }

    fn key(&self, id: &str) -> &SigningKey {
        &self.keys.iter().find(|(i, _)| *i == id).unwrap().1
    }

    fn sign(&self, claims: &Value) -> String {
        let key = self.key(claims["iss"].as_str().unwrap());
        key.sign(TYPE, Some(&key.thumbprint()), &[], claims).unwrap()
    }

    fn receive(&self, token: &str) -> Result<Received, Refusal> {
        self.delegations.receive(token.as_bytes(), C, &self.registry, &self.used, self.now)
    }

    /// Why a token is not believed.
    fn refused(&self, token: &str) -> String {
        let refusal = self.receive(token).expect_err("a refusal");
        assert_eq!(refusal.reason, Reason::DelegationInvalid, "{}", refusal.detail);
        refusal.detail.to_string()
    }

    /// A good link of `a` to `c`, with `more` over it; a null takes a claim away.
    fn first(&self, more: Value) -> Value {
        let iat = self.now.utc.unix_timestamp();
        let claims = json!({
            "iss": A, "aud": C, "sub": "alice@acme.example", "sub_verified": true, "act": {"sub": A}, "iat": iat, "exp": iat + 60,
            "jti": jti(), "grants": [{"intents": ["example.*"], "effects": ["read"], "where": {"owner": ["acme"]}}],
        });
        over(claims, more)
    }

    /// `a` to `b`, and `b` to `c` below it, with `more` over the latter.
    fn second(&self, more: Value) -> String {
        let parent = self.sign(&self.first(json!({"aud": B})));
        let claims = self.first(json!({"iss": B, "act": {"sub": B, "act": {"sub": A}}, "parent": hash(&parent)}));
        format!("{}~{parent}", self.sign(&over(claims, more)))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const CONFIG: &str = r#"
version: 1
catalog: [{provider: example, hosts: [b.acme.example, c.acme.example], operations: [{id: example.items.get, match: "GET /{path...}", effect: read}]}]
agents:
  - {id: a, owner: o, identities: [{spiffe: "spiffe://acme.example/agent/a"}], workflows: [w], delegates_to: [b]}
  - {id: b, owner: o, identities: [{spiffe: "spiffe://acme.example/agent/b"}], workflows: [w, narrow], delegates_to: [c], address: "b.acme.example:8080"}
  - {id: c, owner: o, identities: [{spiffe: "spiffe://acme.example/agent/c"}], workflows: [w], address: [c.acme.example]}
workflows:
  - {id: w, purpose: p, max_lifetime: 5m, grants: [{intents: ["example.*"], effects: [read], where: {owner: acme}, limit: {calls: 20, per: task}}]}
  - {id: narrow, purpose: p, max_lifetime: 5m, grants: [{intents: [example.items.get]}, {intents: ["other.*"]}]}
delegation:
  key: {file: b.pem}
  trust:
    - {spiffe: "spiffe://acme.example/agent/a", jwks: a.jwks}
    - {spiffe: "spiffe://acme.example/agent/b", jwks: b.jwks}
"#;

fn jti() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("jti-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn over(mut claims: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn hash(token: &str) -> String {
    B64.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

fn raw(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
    let signature = B64.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[test]
fn a_good_token_says_for_whom_and_each_agents_grants() {
    let lab = Lab::new("good");
    let received = lab.receive(&lab.second(json!({}))).unwrap();
    assert_eq!((&*received.principal.id, received.principal.verified, &*received.from), ("alice@acme.example", true, B));
    let links: Vec<(LinkKind, &str, bool)> = received.links.iter().map(|l| (l.kind, &*l.id, l.workflow.is_none())).collect();
    assert_eq!(links, [(LinkKind::Principal, "alice@acme.example", true), (LinkKind::Agent, A, true), (LinkKind::Agent, B, true)]);
    assert!(received.links.iter().skip(1).all(|l| l.grants.as_ref().is_some_and(|g| g.len() == 1)));
    assert!(!format!("{received:?}").contains("eyJ"), "a token does not show");
}

#[test]
fn an_expired_one_is_refused() {
    let lab = Lab::new("expired");
    let iat = lab.now.utc.unix_timestamp();
    assert!(lab.refused(&lab.sign(&lab.first(json!({"iat": iat - 120, "exp": iat - 61})))).contains("expired 61 s ago"));
    assert!(lab.refused(&lab.sign(&lab.first(json!({"exp": null})))).contains("`exp` is missing"));
    assert!(lab.refused(&lab.sign(&lab.first(json!({"iat": null})))).contains("`iat` is missing"));
    assert!(lab.refused(&lab.sign(&lab.first(json!({"exp": iat + 61})))).contains("lives longer than 60 s"));
}

#[test]
fn one_that_is_not_valid_yet_is_refused() {
    let lab = Lab::new("early");
    let iat = lab.now.utc.unix_timestamp();
    assert!(lab.refused(&lab.sign(&lab.first(json!({"iat": iat + 30, "exp": iat + 60})))).contains("not valid for another 30 s"));
    assert!(lab.refused(&lab.sign(&lab.first(json!({"nbf": iat + 30})))).contains("not valid for another 30 s"));
}

#[test]
fn one_for_another_audience_is_refused() {
    let lab = Lab::new("audience");
    for aud in [json!(B), json!("spiffe://acme.example/agent/c/x"), json!("spiffe://acme.example")] {
        assert!(lab.refused(&lab.sign(&lab.first(json!({"aud": aud})))).contains("not for this audience"), "{aud}");
    }
    assert!(lab.refused(&lab.sign(&lab.first(json!({"aud": [C, B]})))).contains("`aud`"), "one audience, and no list");
}

#[test]
fn one_of_another_type_is_refused() {
    let lab = Lab::new("type");
    let key = lab.key(A);
    for typ in ["JWT", "at+jwt", "remit-delegation"] {
        let token = key.sign(typ, Some(&key.thumbprint()), &[], &lab.first(json!({}))).unwrap();
        assert!(lab.refused(&token).contains(&format!("type is `{typ}`")));
    }
    let untyped = raw(&json!({"alg": "ES256", "kid": key.thumbprint()}), &lab.first(json!({})), |_| vec![0; 64]);
    assert!(lab.refused(&untyped).contains("type is ``"));
}

#[test]
fn alg_none_is_refused() {
    let lab = Lab::new("none");
    for alg in ["none", "None", "NONE"] {
        let token = raw(&json!({"alg": alg, "typ": TYPE}), &lab.first(json!({})), |_| vec![]);
        assert!(lab.refused(&token).contains(&format!("signed with `{alg}`")));
        let token = raw(&json!({"alg": alg, "typ": TYPE}), &lab.first(json!({})), |_| vec![1]);
        assert!(lab.refused(&token).contains(&format!("signed with `{alg}`")));
    }
}

#[test]
fn a_public_key_is_no_shared_secret_and_no_key_of_another_kind() {
    let lab = Lab::new("confusion");
    let (kid, claims) = (lab.key(A).thumbprint(), lab.first(json!({})));
    let public = fs::read(lab.dir.join("a.jwks")).unwrap();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &public);
    let token = raw(&json!({"alg": "HS256", "typ": TYPE, "kid": kid}), &claims, |s| hmac::sign(&secret, s).as_ref().to_vec());
    assert!(lab.refused(&token).contains("signed with `HS256`"));
    let token = raw(&json!({"alg": "RS256", "typ": TYPE, "kid": kid}), &claims, |_| vec![1; 256]);
    assert!(lab.refused(&token).contains("no key for RS256"));
    // A key that the token brings along is not looked at.
    let other = lab.key(C);
    let header = json!({"alg": "ES256", "typ": TYPE, "jwk": other.public_jwk(), "kid": other.thumbprint()});
    assert!(lab.refused(&raw(&header, &claims, |_| vec![1; 64])).contains("no key is known"));
}

#[test]
fn an_unknown_kid_is_refused() {
    let lab = Lab::new("kid");
    let token = lab.key(A).sign(TYPE, Some("other"), &[], &lab.first(json!({}))).unwrap();
    assert!(lab.refused(&token).contains("no key is known for the token's `kid` `other`"));
}

#[test]
fn one_signed_by_another_key_is_refused() {
    let lab = Lab::new("signature");
    let token = lab.key(B).sign(TYPE, Some(&lab.key(A).thumbprint()), &[], &lab.first(json!({}))).unwrap();
    assert!(lab.refused(&token).contains("signature does not verify"));
    let mut token = lab.sign(&lab.first(json!({})));
    let last = token.pop().unwrap();
    token.push(if last == 'A' { 'Q' } else { 'A' });
    lab.refused(&token);
    // Nobody said that `c` may sign anything.
    let token = lab.sign(&lab.first(json!({"iss": C, "act": {"sub": C}})));
    assert!(lab.refused(&token).contains("was issued by"));
}

#[test]
fn one_that_was_used_is_refused() {
    let lab = Lab::new("replayed");
    let token = lab.second(json!({}));
    lab.receive(&token).unwrap();
    assert!(lab.refused(&token).contains("used before"));
}

#[test]
fn one_that_is_replayed_to_another_agent_is_refused() {
    let lab = Lab::new("elsewhere");
    let token = lab.sign(&lab.first(json!({"aud": B})));
    assert!(lab.refused(&token).contains("not for this audience"));
    // Nor does the one that `b` was handed serve `c` when it stands above one of its own.
    let taken = lab.second(json!({}));
    let parent = taken.split_once('~').unwrap().1;
    assert!(lab.refused(parent).contains("not for this audience"));
}

#[test]
fn a_long_one_is_refused_unread() {
    let lab = Lab::new("long");
    assert!(lab.refused(&"a".repeat(64 << 10)).contains("longer than 16 KiB"));
    let many = json!(vec![json!({"intents": ["example.items.get"]}); 700]);
    let token = lab.sign(&lab.first(json!({"grants": many.as_array().unwrap()[..64]})));
    assert!(token.len() < LONGEST);
    lab.receive(&token).unwrap();
    assert!(lab.refused(&"~".repeat(MOST_LINKS)).contains("more than 8 links"));
}

#[test]
fn act_a_hundred_deep_is_refused() {
    let lab = Lab::new("deep");
    let deep = (0..100).fold(json!({"sub": A}), |act, _| json!({"sub": A, "act": act}));
    assert!(lab.refused(&lab.sign(&lab.first(json!({"act": deep})))).contains("no single reading"));
    let deeper = (0..3).fold(json!({"sub": A}), |act, _| json!({"sub": A, "act": act}));
    for act in [deeper, json!({"sub": B}), json!({}), Value::Null, json!({"sub": A, "more": 1})] {
        assert!(lab.refused(&lab.sign(&lab.first(json!({"act": act})))).contains("`act`"), "{act}");
    }
}

#[test]
fn a_link_that_is_wider_than_the_one_above_is_refused() {
    let lab = Lab::new("wider");
    let good = json!({"intents": ["example.items.get"], "effects": ["read"], "where": {"owner": ["acme"]}});
    lab.receive(&lab.second(json!({"grants": [good]}))).unwrap();
    for (name, wider) in [
        ("intents", json!(["*"])),
        ("intents", json!(["example.items.get", "other.items.get"])),
        ("intents", Value::Null),
        ("effects", json!(["read", "write"])),
        ("effects", Value::Null),
        ("where", json!({"owner": ["acme", "evil"]})),
        ("where", json!({"owner": ["*"]})),
        ("where", json!({"repo": ["web"]})),
        ("where", Value::Null),
    ] {
        let token = lab.second(json!({"grants": [over(good.clone(), json!({name: wider}))]}));
        assert!(lab.refused(&token).contains("a link is wider than the one above"), "{name} {wider}");
    }
    for (bad, why) in
        [(json!([]), "0 grants"), (Value::Null, "no list"), (json!([{"credential": "x", "intents": ["a"]}]), "not understood")]
    {
        assert!(lab.refused(&lab.sign(&lab.first(json!({"grants": bad})))).contains(why), "{bad}");
    }
}

#[test]
fn links_that_do_not_belong_together_are_refused() {
    let lab = Lab::new("apart");
    for (more, why) in [
        (json!({"parent": hash("another")}), "does not stand before the token"),
        (json!({"parent": null}), "does not stand before the token"),
        (json!({"sub": "bob@acme.example"}), "different subjects"),
        (json!({"act": {"sub": B}}), "`act`"),
        (json!({"iss": A, "act": {"sub": A, "act": {"sub": A}}}), "signed by another than the one above it was meant for"),
    ] {
        assert!(lab.refused(&lab.second(more.clone())).contains(why), "{more}");
    }
    // A link that stands alone and says that it has a parent.
    assert!(lab.refused(&lab.sign(&lab.first(json!({"parent": hash("x")})))).contains("does not stand before"));
    // The one above expires first.
    let iat = lab.now.utc.unix_timestamp();
    let parent = lab.sign(&lab.first(json!({"aud": B, "exp": iat + 10})));
    let own = lab.sign(&lab.first(json!({"iss": B, "act": {"sub": B, "act": {"sub": A}}, "parent": hash(&parent)})));
    assert!(lab.refused(&format!("{own}~{parent}")).contains("outlives"));
    // The one above does not say that the subject was proven.
    let parent = lab.sign(&lab.first(json!({"aud": B, "sub_verified": false})));
    let own = lab.sign(&lab.first(json!({"iss": B, "act": {"sub": B, "act": {"sub": A}}, "parent": hash(&parent)})));
    assert!(lab.refused(&format!("{own}~{parent}")).contains("says that the subject was proven"));
}

#[test]
fn an_agent_that_is_suspended_here_hands_nothing_over() {
    let lab = Lab::new("suspended");
    let mut spec = lab.config.registry.clone();
    spec.agents.iter_mut().find(|a| &*a.id == "a").unwrap().status = remit::config::Status::Suspended;
    let registry = Registry::new(&spec, lab.config.mode);
    let token = lab.second(json!({}));
    let refusal = lab.delegations.receive(token.as_bytes(), C, &registry, &lab.used, lab.now).unwrap_err();
    assert_eq!(refusal.reason, Reason::AgentSuspended);
}

#[test]
fn what_cannot_be_confirmed_is_refused() {
    let lab = Lab::new("cnf");
    for cnf in [json!({"jwk": {}}), json!({}), json!({"x5t#S256": "short"}), json!({"x5t#S256": "a", "jwk": {}}), json!("x")] {
        assert!(lab.refused(&lab.sign(&lab.first(json!({"cnf": cnf})))).contains("`cnf`"), "{cnf}");
    }
    let bound = lab.receive(&lab.sign(&lab.first(json!({"cnf": {"x5t#S256": B64.encode([7; 32])}})))).unwrap();
    assert_eq!(bound.certificate, Some([7; 32]));
}

fn task_of(lab: &Lab, tasks: &Arc<Tasks>, start: Start) -> Arc<Task> {
    tasks.start(&lab.registry, start, lab.now).unwrap().0
}

fn alice() -> Principal {
    Principal { id: "alice@acme.example".into(), verified: true, claims: json!({}) }
}

fn to(host: &str, port: u16) -> Destination {
    Destination { scheme: Scheme::Https, host: Host::parse(host).unwrap(), port }
}

/// What `b` signs, `c` believes; and it holds no more than `b`'s workflow and what `a` handed over both do.
#[test]
fn what_is_handed_on_is_what_both_grant() {
    let lab = Lab::new("handed");
    let tasks = Arc::new(Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), std::time::Duration::from_secs(1)));
    let parent = lab.sign(&lab.first(json!({"aud": B})));
    let received = lab.delegations.receive(parent.as_bytes(), B, &lab.registry, &lab.used, lab.now).unwrap();
    let start = Start { before: received.links.clone(), ends: Some(received.expires), ..Start::new("b", "narrow", alice()) };
    let task = task_of(&lab, &tasks, start);
    let handed =
        lab.delegations.hand_over(&task, &to("c.acme.example", 443), &lab.registry, Some(&received), None, lab.now).unwrap().unwrap();
    assert_eq!((&*handed.to, handed.value.is_sensitive()), (C, true));
    let read = lab.receive(handed.value.to_str().unwrap()).unwrap();
    let grants: Vec<&Vec<Value>> = read.links.iter().filter_map(|l| l.grants.as_ref()).collect();
    assert_eq!(*grants[1], [json!({"intents": ["example.items.get"], "effects": ["read"], "where": {"owner": ["acme"]}})]);
    assert!(read.expires <= received.expires);
    assert_eq!(read.jti, handed.jti);
}

#[test]
fn only_a_peer_that_the_agent_may_delegate_to_is_handed_anything() {
    let lab = Lab::new("peers");
    let tasks = Arc::new(Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), std::time::Duration::from_secs(1)));
    let task = task_of(&lab, &tasks, Start::new("b", "w", alice()));
    let hand =
        |task: &Task, host: &str, port| lab.delegations.hand_over(task, &to(host, port), &lab.registry, None, None, lab.now).unwrap();
    assert!(hand(&task, "c.acme.example", 443).is_some());
    assert!(hand(&task, "c.acme.example", 8443).is_some(), "no port is said, so any");
    assert!(hand(&task, "b.acme.example", 8080).is_none(), "not one that it delegates to");
    assert!(hand(&task, "api.example.test", 443).is_none());
    let a = task_of(&lab, &tasks, Start::new("a", "w", alice()));
    assert!(hand(&a, "b.acme.example", 8080).is_some());
    assert!(hand(&a, "b.acme.example", 8081).is_none());
    assert!(hand(&a, "c.acme.example", 443).is_none());
    // Each call is handed its own.
    let tokens: std::collections::HashSet<_> = (0..10).map(|_| hand(&task, "c.acme.example", 443).unwrap().jti).collect();
    assert_eq!(tokens.len(), 10);
}

#[test]
fn nothing_in_common_is_nothing_to_hand_on() {
    let lab = Lab::new("disjoint");
    let tasks = Arc::new(Tasks::new(Arc::new(SystemClock), Arc::new(NoEvents), std::time::Duration::from_secs(1)));
    let parent = lab.sign(&lab.first(json!({"aud": B, "grants": [{"intents": ["elsewhere.*"]}]})));
    let received = lab.delegations.receive(parent.as_bytes(), B, &lab.registry, &lab.used, lab.now).unwrap();
    let task = task_of(&lab, &tasks, Start { before: received.links.clone(), ..Start::new("b", "narrow", alice()) });
    let refusal = lab.delegations.hand_over(&task, &to("c.acme.example", 443), &lab.registry, Some(&received), None, lab.now).unwrap_err();
    assert_eq!(refusal.reason, Reason::DelegationInvalid);
    assert!(refusal.detail.contains("handed nothing that its workflow grants too"));
}
