use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::clock::Moment;

use super::{
    fixture::{Issuer, confused, pem},
    *,
};

const NOW: i64 = 1_800_000_000;

fn at(unix: i64) -> Moment {
    Moment { utc: OffsetDateTime::from_unix_timestamp(unix).unwrap(), ..Moment::now() }
}

fn claims() -> Value {
    json!({"iss": "https://id.example.org", "sub": "bot", "aud": "remit", "exp": NOW + 300, "iat": NOW})
}

fn check(keys: &Keys, token: &str, accepted: &[Algorithm]) -> Result<Verified, Fault> {
    Token::read(token.as_bytes())?.verify(keys, accepted)
}

#[test]
fn every_algorithm_verifies_and_only_its_own_bytes() {
    for algorithm in Algorithm::ALL {
        let issuer = Issuer::new(algorithm, "k1");
        let token = issuer.token(&claims());
        let verified = check(&issuer.keys(), &token, &[algorithm]).unwrap();
        assert_eq!((verified.algorithm, verified.claims.text("sub")), (algorithm, Some("bot")));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        let broken = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(check(&issuer.keys(), &broken, &[algorithm]).unwrap_err(), Fault::Signature);
        let others: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(|a| *a != algorithm).collect();
        assert_eq!(check(&issuer.keys(), &token, &others).unwrap_err(), Fault::Algorithm(algorithm.to_string()));
    }
}

#[test]
fn another_payload_under_the_same_signature_is_refused() {
    let issuer = Issuer::new(Algorithm::Es256, "k1");
    let token = issuer.token(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let forged = URL_SAFE_NO_PAD.encode(json!({"sub": "root", "exp": NOW + 300}).to_string());
    let forged = format!("{}.{forged}.{}", parts[0], parts[2]);
    assert_eq!(check(&issuer.keys(), &forged, &Algorithm::ALL).unwrap_err(), Fault::Signature);
}

#[test]
fn none_and_hmac_are_no_algorithms() {
    let issuer = Issuer::new(Algorithm::Rs256, "k1");
    let none = |alg: &str| {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string()), URL_SAFE_NO_PAD.encode(claims().to_string()))
    };
    for alg in ["none", "None", "NONE", "HS256", "HS512", "es256", "ES256K", "RSA-OAEP", "dir"] {
        assert_eq!(Token::read(none(alg).as_bytes()).unwrap_err(), Fault::Algorithm(alg.to_string()), "{alg}");
    }
    assert!(matches!(Token::read(none("ES256").as_bytes()).unwrap_err(), Fault::Malformed(_)), "an empty signature is none");
    // The public key in every form that an attacker could take for the secret.
    let jwk = issuer.jwk();
    for secret in
        [jwk.to_string().into_bytes(), URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap(), pem("PUBLIC KEY", b"x").into_bytes()]
    {
        let token = confused(&secret, "k1", &claims());
        assert_eq!(check(&issuer.keys(), &token, &Algorithm::ALL).unwrap_err(), Fault::Algorithm("HS256".into()));
    }
}

#[test]
fn the_key_says_what_it_is_for() {
    let rsa = Issuer::new(Algorithm::Rs256, "k1");
    let token = rsa.token(&claims());
    let with = |name: &str, value: Value| {
        let mut jwk = rsa.jwk();
        jwk[name] = value;
        Keys::read(json!({"keys": [jwk]}).to_string().as_bytes(), Use::Signature).unwrap()
    };
    assert!(check(&with("alg", "RS256".into()), &token, &Algorithm::ALL).is_ok());
    assert!(matches!(check(&with("alg", "PS256".into()), &token, &Algorithm::ALL).unwrap_err(), Fault::Unfit(_)));
    assert!(with("use", "enc".into()).is_empty());
    assert!(with("use", "jwt-svid".into()).is_empty());
    assert!(with("key_ops", json!(["encrypt"])).is_empty());
    assert!(check(&with("key_ops", json!(["verify"])), &token, &Algorithm::ALL).is_ok());
    assert!(with("d", "AQAB".into()).is_empty(), "a key whose private part is public proves nothing");
    // The same `kid` over another kind of key.
    let es = Issuer::new(Algorithm::Es256, "k1");
    assert!(matches!(check(&es.keys(), &token, &Algorithm::ALL).unwrap_err(), Fault::Unfit(_)));
}

#[test]
fn a_key_is_found_by_its_name_or_when_it_is_alone() {
    let (a, b) = (Issuer::new(Algorithm::Es256, "a"), Issuer::new(Algorithm::Es256, "b"));
    let both = Keys::read(json!({"keys": [a.jwk(), b.jwk()]}).to_string().as_bytes(), Use::Signature).unwrap();
    assert!(check(&both, &a.token(&claims()), &Algorithm::ALL).is_ok());
    assert!(check(&both, &b.token(&claims()), &Algorithm::ALL).is_ok());
    let unnamed = a.with_header(&json!({"alg": "ES256"}), &claims());
    assert!(check(&a.keys(), &unnamed, &Algorithm::ALL).is_ok());
    assert!(matches!(check(&both, &unnamed, &Algorithm::ALL).unwrap_err(), Fault::Unfit(_)));
    let unknown = a.with_header(&json!({"alg": "ES256", "kid": "c"}), &claims());
    assert_eq!(check(&both, &unknown, &Algorithm::ALL).unwrap_err(), Fault::UnknownKey("c".into()));
    assert!(Keys::read(json!({"keys": [a.jwk(), a.jwk()]}).to_string().as_bytes(), Use::Signature).is_err(), "two of one name");
}

#[test]
fn keys_not_had_here_are_passed_over() {
    let good = Issuer::new(Algorithm::EdDsa, "k1");
    let odd = [
        json!({"kty": "oct", "k": "AAAA", "kid": "s"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "RSA", "n": "!", "e": "AQAB"}),
        json!({"kid": "k"}),
        json!("text"),
        good.jwk(),
    ];
    let keys = Keys::read(json!({"keys": odd}).to_string().as_bytes(), Use::Signature).unwrap();
    assert_eq!(keys.kids().collect::<Vec<_>>(), ["k1"]);
    for bad in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": [], "keys": []}"#, "{\"keys\": []} x"] {
        assert!(Keys::read(bad.as_bytes(), Use::Signature).is_err(), "{bad}");
    }
}

#[test]
fn what_the_token_brings_along_is_not_looked_at() {
    let (mine, theirs) = (Issuer::new(Algorithm::Es256, "k1"), Issuer::new(Algorithm::Es256, "k1"));
    for name in ["jwk", "jku", "x5u", "x5t"] {
        let value = if name == "jwk" { theirs.jwk() } else { json!("https://evil.example/keys") };
        let token = theirs.with_header(&json!({"alg": "ES256", "kid": "k1", name: value}), &claims());
        assert_eq!(check(&mine.keys(), &token, &Algorithm::ALL).unwrap_err(), Fault::Signature, "{name}");
    }
    for name in ["crit", "b64"] {
        let token = mine.with_header(&json!({"alg": "ES256", "kid": "k1", name: ["exp"]}), &claims());
        assert_eq!(check(&mine.keys(), &token, &Algorithm::ALL).unwrap_err(), Fault::Critical);
    }
}

#[test]
fn what_has_two_readings_is_none() {
    let issuer = Issuer::new(Algorithm::Es256, "k1");
    let header = r#"{"alg":"ES256","kid":"k1"}"#;
    let twice = [
        issuer.texts(r#"{"alg":"ES256","alg":"none"}"#, r#"{"sub":"a"}"#),
        issuer.texts(header, r#"{"sub":"a","sub":"b"}"#),
        issuer.texts(header, r#"{"sub":"a","\u0073ub":"b"}"#),
        issuer.texts(header, r#"{"act":{"sub":"a","sub":"b"}}"#),
        issuer.texts(header, r#"{"sub":"a"}{"sub":"b"}"#),
        issuer.texts(header, r#"["sub"]"#),
    ];
    for token in twice {
        assert!(matches!(Token::read(token.as_bytes()).unwrap_err(), Fault::Json(_)), "{token}");
    }
    let good = issuer.token(&claims());
    let (head, rest) = good.split_once('.').unwrap();
    let malformed = [
        "".to_string(),
        "a".into(),
        "a.b".into(),
        format!("{good}.x"),
        format!("{good}="),
        format!("{head}=.{rest}"),
        format!(" {good}"),
        format!("{head}+.{rest}"),
    ];
    for token in malformed {
        assert!(matches!(Token::read(token.as_bytes()).unwrap_err(), Fault::Malformed(_) | Fault::Json(_)), "{token}");
    }
}

#[test]
fn long_and_deep_tokens_are_refused_unread() {
    let issuer = Issuer::new(Algorithm::Es256, "k1");
    let long = issuer.token(&json!({"pad": "x".repeat(64 << 10)}));
    assert_eq!(Token::read(long.as_bytes()).unwrap_err(), Fault::TooLong);
    let act = |depth: usize| (0..depth).fold(json!({"sub": "a"}), |inner, _| json!({"sub": "a", "act": inner}));
    let deep = Token::read(issuer.token(&act(100)).as_bytes()).unwrap_err();
    assert!(deep.to_string().contains("nests deeper"), "{deep}");
    assert!(Token::read(issuer.token(&act(8)).as_bytes()).is_ok());
}

#[test]
fn times_are_checked_with_leeway_on_both_sides() {
    let issuer = Issuer::new(Algorithm::Es256, "k1");
    let verified = |claims: &Value| check(&issuer.keys(), &issuer.token(claims), &Algorithm::ALL).unwrap().claims;
    let leeway = Leeway::default();
    let good = verified(&claims());
    assert_eq!(good.check_times(at(NOW), leeway).unwrap(), NOW + 300);
    assert!(good.check_times(at(NOW + 329), leeway).is_ok());
    assert_eq!(good.check_times(at(NOW + 330), leeway).unwrap_err(), Fault::Expired(30));
    assert!(good.check_times(at(NOW - 30), leeway).is_ok(), "issued by a clock a little ahead");
    assert_eq!(good.check_times(at(NOW - 31), leeway).unwrap_err(), Fault::NotYet(31));
    let later = verified(&json!({"exp": NOW + 300, "nbf": NOW + 100}));
    assert_eq!(later.check_times(at(NOW), leeway).unwrap_err(), Fault::NotYet(100));
    assert!(verified(&json!({"exp": NOW as f64 + 0.5})).check_times(at(NOW), leeway).is_ok());
    for exp in [json!("1800000300"), json!(null), json!(-1), json!(1e300), json!({})] {
        assert_eq!(verified(&json!({"exp": exp})).check_times(at(NOW), leeway).unwrap_err(), Fault::Claim("exp"));
    }
    assert_eq!(verified(&json!({})).check_times(at(NOW), leeway).unwrap_err(), Fault::Claim("exp"));
}

#[test]
fn issuer_audience_and_type_are_compared_whole() {
    let issuer = Issuer::new(Algorithm::Es256, "k1");
    let verified = |claims: &Value| check(&issuer.keys(), &issuer.token(claims), &Algorithm::ALL).unwrap().claims;
    let good = verified(&claims());
    assert!(good.check_issuer("https://id.example.org").is_ok());
    assert!(matches!(good.check_issuer("https://id.example.org/").unwrap_err(), Fault::Issuer(_)));
    assert!(good.check_audience(&["other", "remit"]).is_ok());
    assert!(matches!(good.check_audience(&["remi"]).unwrap_err(), Fault::Audience(_)));
    assert!(verified(&json!({"aud": ["a", "remit"]})).check_audience(&["remit"]).is_ok());
    for aud in [json!([]), json!({}), json!(["remit", 1]), json!(null)] {
        assert_eq!(verified(&json!({"aud": aud})).check_audience(&["remit"]).unwrap_err(), Fault::Claim("aud"));
    }
    let typed = |typ: Value| Token::read(issuer.with_header(&json!({"alg": "ES256", "typ": typ}), &claims()).as_bytes());
    assert!(typed("application/AT+jwt".into()).unwrap().check_type(&["at+jwt"], false).is_ok());
    assert_eq!(typed("dpop+jwt".into()).unwrap().check_type(&["jwt", "at+jwt"], true).unwrap_err(), Fault::Type("dpop+jwt".into()));
    assert_eq!(typed(json!(["JWT"])).unwrap_err(), Fault::Claim("typ"));
    let bare = Token::read(issuer.with_header(&json!({"alg": "ES256"}), &claims()).as_bytes()).unwrap();
    assert!(bare.check_type(&["jwt"], true).is_ok());
    assert!(bare.check_type(&["jwt"], false).is_err());
}

#[test]
fn what_is_signed_here_verifies_by_the_key_published_here() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let pkcs8 = Issuer::new(algorithm, "k");
        let key = SigningKey::from_pem(pem("PRIVATE KEY", pkcs8.pkcs8()).as_bytes()).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let keys = Keys::read(json!({"keys": [key.public_jwk()]}).to_string().as_bytes(), Use::Signature).unwrap();
        let token = key.sign("remit-delegation+jwt", Some(&key.thumbprint()), &[], &claims()).unwrap();
        let read = Token::read(token.as_bytes()).unwrap();
        read.check_type(&["remit-delegation+jwt"], false).unwrap();
        assert_eq!(read.verify(&keys, &[algorithm]).unwrap().claims.text("sub"), Some("bot"));
    }
    let key = Issuer::new(Algorithm::Es256, "k").signing_key();
    assert_eq!(key.sign("a", None, &[], &json!({"pad": "x".repeat(16 << 10)})).unwrap_err(), Fault::TooLong);
}

#[test]
fn a_key_that_cannot_sign_is_named() {
    let said = |read: Result<SigningKey, Fault>| read.unwrap_err().to_string();
    assert!(said(SigningKey::from_pkcs8(Issuer::new(Algorithm::Es384, "k").pkcs8())).contains("an RSA, a P-256 or an Ed25519 key"));
    assert!(said(SigningKey::from_pem(b"no key")).contains("no `PRIVATE KEY`"));
    assert!(said(SigningKey::from_pem(pem("EC PRIVATE KEY", &[1]).as_bytes())).contains("openssl pkcs8"));
    assert!(said(SigningKey::from_pem(pem("RSA PRIVATE KEY", &[0x30, 0]).as_bytes())).contains("an RSA"));
    assert!(said(SigningKey::from_pem(include_bytes!("fixture/rsa1024.pem"))).contains("fewer than 2048 bits"));
}

/// GitHub hands keys out in PKCS#1, which is what PKCS#8 wraps.
#[test]
fn an_rsa_key_is_the_same_in_both_forms() {
    let wrapped = Issuer::new(Algorithm::Rs256, "k");
    // RFC 5958: version, algorithm, and the octet string, whose head is 4 bytes here.
    let bare = SigningKey::from_pem(pem("RSA PRIVATE KEY", &wrapped.pkcs8()[26..]).as_bytes()).unwrap();
    assert_eq!(bare.thumbprint(), wrapped.signing_key().thumbprint());
    let token = bare.sign("JWT", None, &[], &claims()).unwrap();
    assert!(check(&wrapped.keys(), &token, &[Algorithm::Rs256]).is_ok());
    // RFC 7638 §3: the members of an RSA key's thumbprint, in that order and without blanks.
    let jwk = bare.public_jwk();
    let members = format!(r#"{{"e":{},"kty":"RSA","n":{}}}"#, jwk["e"], jwk["n"]);
    assert_eq!(bare.thumbprint(), URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, members.as_bytes())));
}

/// RFC 8037 §A.2 and §A.3: the thumbprint of the key of that RFC.
#[test]
fn thumbprints_are_those_of_the_rfc() {
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20], &seed[..]].concat();
    let key = SigningKey::from_pkcs8(&der).unwrap();
    assert_eq!(key.public_jwk()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_chain_counts_only_when_the_caller_trusts_it() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&pair).unwrap();
        let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
        let token = key.sign("JWT", None, &[leaf.der().clone()], &claims()).unwrap();
        let read = || Token::read(token.as_bytes()).unwrap();
        assert!(read().has_chain());
        let verified =
            read().verify_by_chain(&Algorithm::ALL, |chain| if chain[0] == *leaf.der() { Ok(()) } else { Err("no".into()) }).unwrap();
        assert_eq!(verified.chain, [leaf.der().clone()]);
        assert_eq!(
            read().verify_by_chain(&Algorithm::ALL, |_| Err("not in the bundle".into())).unwrap_err(),
            Fault::Chain("not in the bundle".into())
        );
        // The chain is no way past a set of keys.
        assert!(matches!(read().verify(&Issuer::new(key.algorithm(), "k").keys(), &Algorithm::ALL), Err(Fault::Signature)));
        let other = Issuer::new(key.algorithm(), "k").signing_key();
        let stolen = other.sign("JWT", None, &[leaf.der().clone()], &claims()).unwrap();
        assert_eq!(Token::read(stolen.as_bytes()).unwrap().verify_by_chain(&Algorithm::ALL, |_| Ok(())).unwrap_err(), Fault::Signature);
    }
    let rsa = Issuer::new(Algorithm::Rs256, "k1");
    let bare = Token::read(rsa.token(&claims()).as_bytes()).unwrap();
    assert!(matches!(bare.verify_by_chain(&Algorithm::ALL, |_| Ok(())).unwrap_err(), Fault::Chain(_)));
}

#[test]
fn faults_quote_little_and_escape_it() {
    let issuer = Issuer::new(Algorithm::Es256, "k1");
    let kid = format!("\u{1b}[31m{}", "k".repeat(500));
    let fault = check(&issuer.keys(), &issuer.with_header(&json!({"alg": "ES256", "kid": kid}), &claims()), &Algorithm::ALL).unwrap_err();
    assert!(!fault.to_string().contains('\u{1b}') && fault.to_string().len() < 200, "{fault}");
    let token = Token::read(issuer.token(&claims()).as_bytes()).unwrap();
    assert!(!format!("{token:?}").contains("bot"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Token::read(&bytes);
        let _ = Keys::read(&bytes, Use::Signature);
    }

    #[test]
    fn one_changed_byte_is_never_believed(at in 0usize..400, to in any::<u8>()) {
        let issuer = Issuer::new(Algorithm::EdDsa, "k1");
        let token = issuer.token(&claims()).into_bytes();
        let at = at % token.len();
        let mut changed = token.clone();
        changed[at] = to;
        prop_assume!(changed != token);
        prop_assert!(Token::read(&changed).and_then(|t| t.verify(&issuer.keys(), &Algorithm::ALL)).is_err());
    }
}
