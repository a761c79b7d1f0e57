//! Delegation tokens that carry the SVID of their issuer (`x5c`): which chains are believed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, IsCa};
use remit::{
    authority::{
        Registry,
        token::{Delegations, TYPE, Used},
    },
    clock::Moment,
    config::Config,
    jose::SigningKey,
    refusal::Reason,
};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use support::svid::{Domain, Leaf};
use time::OffsetDateTime;

const A: &str = "spiffe://acme.example/agent/a";
const C: &str = "spiffe://acme.example/agent/c";

const CONFIG: &str = r#"
version: 1
agents:
  - {id: c, owner: o, identities: [{spiffe: "spiffe://acme.example/agent/c"}], workflows: [w]}
workflows:
  - {id: w, purpose: p, max_lifetime: 5m, grants: [{intents: ["github.*"], effects: [read]}]}
delegation:
  trust: [{trust_domain: acme.example, bundle: acme.pem}]
"#;

struct Lab {
    dir: PathBuf,
    delegations: Delegations,
    registry: Registry,
    acme: Domain,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Lab {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("remit-chain-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let acme = Domain::new("acme.example");
        fs::write(dir.join("acme.pem"), &acme.pem).unwrap();
        let config = Config::parse(CONFIG, &dir, &dir.join("remit.yaml")).unwrap_or_else(|p| panic!("{p}"));
        let delegations = Delegations::load(&config).unwrap_or_else(|p| panic!("{p}"));
        Self { dir, delegations, registry: Registry::new(&config.registry, config.mode), acme }
    }

    /// What comes of a token of `issuer`, signed by `key`, with this chain.
    fn receive(&self, issuer: &str, key: &Leaf, chain: &[CertificateDer<'static>]) -> Result<String, String> {
        let now = Moment::now();
        let iat = now.utc.unix_timestamp();
        let claims = json!({
            "iss": issuer, "aud": C, "sub": "alice@acme.example", "sub_verified": true, "act": {"sub": issuer}, "iat": iat, "exp": iat + 60,
            "jti": "1", "grants": [{"intents": ["github.issues.get"]}],
        });
        let token = SigningKey::from_pkcs8(&key.key).unwrap().sign(TYPE, None, chain, &claims).unwrap();
        let received = self.delegations.receive(token.as_bytes(), C, &self.registry, &Used::default(), now);
        received.map(|r| r.from.to_string()).map_err(|refusal| {
            assert_eq!(refusal.reason, Reason::DelegationInvalid);
            refusal.detail.to_string()
        })
    }

    fn refused(&self, key: &Leaf, chain: &[CertificateDer<'static>]) -> String {
        self.receive(A, key, chain).expect_err("a refusal")
    }
}

#[test]
fn an_svid_of_the_issuer_by_its_domains_roots_is_believed() {
    let lab = Lab::new("good");
    let leaf = lab.acme.svid(A);
    assert_eq!(lab.receive(A, &leaf, &leaf.chain).unwrap(), A);
    // With the root behind it, as some send it.
    let whole = [leaf.chain.clone(), vec![lab.acme.der.clone().into()]].concat();
    assert_eq!(lab.receive(A, &leaf, &whole).unwrap(), A);
}

#[test]
fn every_other_chain_is_refused() {
    let lab = Lab::new("bad");
    let (own, again, other) = (lab.acme.svid(A), lab.acme.svid(A), lab.acme.svid("spiffe://acme.example/agent/b"));
    let stranger = Domain::new("acme.example").svid(A);
    let past = OffsetDateTime::now_utc() - time::Duration::minutes(1);
    let varied = |vary: &dyn Fn(&mut rcgen::CertificateParams)| lab.acme.leaf(&[A], |p| vary(p));
    for (key, chain, why) in [
        (&own, again.chain.clone(), "signature"),
        (&own, other.chain.clone(), "another's SVID"),
        (&other, other.chain.clone(), "another's SVID"),
        (&stranger, stranger.chain.clone(), "BadSignature"),
        // The leaf comes first, whatever else is there.
        (&own, vec![lab.acme.der.clone().into(), own.chain[0].clone()], ""),
        (&own, vec![vec![0x30, 0x00].into()], ""),
    ] {
        let said = lab.refused(key, &chain);
        assert!(said.contains(why), "{why}: {said}");
    }
    for (leaf, why) in [
        (varied(&|p| p.not_after = past), "xpired"),
        (varied(&|p| p.not_before = OffsetDateTime::now_utc() + time::Duration::minutes(5)), "not valid yet"),
        (varied(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "CaUsedAsEndEntity"),
        (lab.acme.leaf(&[A, "spiffe://acme.example/agent/b"], |_| ()), "exactly one URI"),
        (lab.acme.leaf(&[], |_| ()), "no name"),
    ] {
        let said = lab.refused(&leaf, &leaf.chain);
        assert!(said.contains(why), "{why}: {said}");
    }
    // A domain whose roots nobody configured.
    let id = "spiffe://other.example/agent/a";
    let leaf = Domain::new("other.example").svid(id);
    let said = lab.receive(id, &leaf, &leaf.chain).unwrap_err();
    assert!(said.contains("other.example"), "{said}");
}
