use std::{fs, path::PathBuf, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    config::{ActorSpec, AssertionSpec, ClientProof, ClientSpec, KeySpec, OauthGrant, SecretSource, SignedSpec, SubjectSpec, TokenType},
    credential::kind::scripted::{Asked, Scripted, ask, json, made, secret},
    jose::{Algorithm, Token, fixture::Issuer as Key, fixture::pem},
    tls::{Bundles, DomainRoots, OwnSvids, TokenSvid},
};

const SECRET: &str = "s+cr%t of the client";

pub(super) fn spec(server: &Scripted, grant: OauthGrant) -> OauthSpec {
    let client = Some(ClientSpec { id: "re mit".into(), proof: ClientProof::Basic(secret()) });
    OauthSpec { token: server.endpoint("/token"), revocation: None, issuer: Some("https://id.example".into()), client, grant }
}

pub(super) fn built(spec: &OauthSpec) -> Oauth {
    made(SECRET, |made| Oauth::new(spec, made)).unwrap()
}

pub(super) fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("remit-oauth-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[tokio::test]
async fn what_is_asked_is_what_the_scope_says_and_no_more() {
    let server = Scripted::new(0, |_| json(200, json!({"access_token": "abcdef", "token_type": "bearer", "expires_in": "90"}))).await;
    let oauth = built(&spec(&server, OauthGrant::ClientCredentials));
    let wanted = json!({"scope": ["a", "b"], "resource": "https://api.example", "audience": ["x", "y"]});
    let issued = oauth.issue(&ask(wanted)).await.unwrap();
    assert_eq!((issued.lives.unwrap().as_secs(), issued.handle.is_some(), issued.wider), (90, false, None));
    let asked = server.asked().remove(0);
    assert_eq!(asked.line, "POST /token");
    assert_eq!(asked.field("content-type"), "application/x-www-form-urlencoded");
    let body = String::from_utf8(asked.body.clone()).unwrap();
    let plain = percent_encoding::percent_decode_str(&body).decode_utf8().unwrap();
    assert_eq!(plain, "grant_type=client_credentials&scope=a b&resource=https://api.example&audience=x&audience=y");
    // Each part is encoded as in a form, and then both together.
    use base64::{Engine, engine::general_purpose::STANDARD};
    assert_eq!(asked.field("authorization"), format!("Basic {}", STANDARD.encode("re%20mit:s%2Bcr%25t%20of%20the%20client")));
}

#[test]
fn a_parameter_stands_for_itself() {
    let server = |at: &str| Endpoint::parse(at).unwrap();
    let at = server("https://id.example/token");
    let spec = OauthSpec {
        token: at,
        revocation: None,
        issuer: None,
        client: Some(ClientSpec { id: "a".into(), proof: ClientProof::Nothing }),
        grant: OauthGrant::TokenExchange { subject: SubjectSpec::Principal(TokenType::AccessToken), actor: None },
    };
    let oauth = built(&spec);
    for good in ["acme", "acme-web_2.0", "bob+x@acme.example", "~"] {
        assert_eq!(oauth.value(good).as_deref(), Some(good));
    }
    for bad in ["a b", "a:b", "a/b", "*", "..", ".", "a..b", "a%20b", "é", "a\tb", "a,b", "{x}", "#"] {
        assert_eq!(oauth.value(bad), None, "{bad}");
    }
}

#[tokio::test]
async fn more_than_was_asked_is_seen_in_the_answer_and_in_the_token() {
    let jwt = |claims: Value| Key::new(Algorithm::Es256, "k").token(&claims);
    let table = [
        (json!({"scope": "a"}), None, None),
        (json!({"scope": "a b"}), None, Some("`b`")),
        (json!({"scope": ["a", "b"]}), None, Some("`b`")),
        (json!({}), Some(json!({"scope": "a"})), None),
        (json!({"scope": "a"}), Some(json!({"scope": "a admin"})), Some("`admin`")),
        (json!({}), Some(json!({"scp": ["a", "admin"]})), Some("`admin`")),
        (json!({}), Some(json!({"aud": "me"})), None),
        (json!({}), Some(json!({"aud": ["me", "everyone"]})), Some("`everyone`")),
    ];
    for (more, claims, wider) in table {
        let token = claims.as_ref().map_or_else(|| "opaque".to_owned(), |c| jwt(c.clone()));
        let mut body = json!({"access_token": token, "token_type": "Bearer"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let said = body.clone();
        let server = Scripted::new(0, move |_| json(200, said.clone())).await;
        let issued =
            built(&spec(&server, OauthGrant::ClientCredentials)).issue(&ask(json!({"scope": "a", "audience": "me"}))).await.unwrap();
        assert_eq!(issued.wider.is_some(), wider.is_some(), "{body} {claims:?}: {:?}", issued.wider);
        assert!(issued.wider.unwrap_or_default().contains(wider.unwrap_or_default()), "{body}");
    }
}

#[tokio::test]
async fn a_token_without_a_life_lives_as_long_as_it_says_itself() {
    let exp = crate::clock::utc().unix_timestamp() + 600 + 90;
    let token = Key::new(Algorithm::Es256, "k").token(&json!({"exp": exp}));
    // Ten minutes ahead there: what is left is by its clock.
    let server = Scripted::new(600, move |_| json(200, json!({"access_token": token, "token_type": "Bearer"}))).await;
    let issued = built(&spec(&server, OauthGrant::ClientCredentials)).issue(&ask(json!({"scope": "a"}))).await.unwrap();
    assert!((85..=90).contains(&issued.lives.unwrap().as_secs()), "{:?}", issued.lives);
}

fn read(token: &str, key: &Key) -> Value {
    let token = Token::read(token.as_bytes()).unwrap();
    Value::Object(token.verify(&key.keys(), &[Algorithm::Es256]).unwrap().claims.all().clone())
}

#[tokio::test]
async fn an_exchange_shows_both_tokens_and_their_types_and_never_someone_elses() {
    let server = Scripted::new(0, |_| json(200, json!({"access_token": "abcdef", "token_type": "Bearer"}))).await;
    let key = Key::new(Algorithm::Es256, "k1");
    let dir = folder("exchange");
    fs::write(dir.join("key.pem"), pem("PRIVATE KEY", key.pkcs8())).unwrap();
    let pem = SecretSource::File(dir.join("key.pem"));
    let signed = SignedSpec {
        key: KeySpec { pem, kid: Some("k1".into()) },
        issuer: "https://remit.example".into(),
        subject: "{agent.id} for {principal.id}".into(),
    };
    let grant =
        OauthGrant::TokenExchange { subject: SubjectSpec::Principal(TokenType::IdToken), actor: Some(ActorSpec::Signed(signed.clone())) };
    let oauth = built(&spec(&server, grant));
    let wanted = ask(json!({"scope": "a"}));
    let Err(Fault::Refused(why)) = oauth.issue(&wanted).await else { panic!() };
    assert!(why.contains("no token of alice") && server.asked().is_empty(), "{why}");
    wanted.task.proof.renew(&Arc::new(Secret::new("alice.s.own".to_owned())));
    oauth.issue(&wanted).await.unwrap();
    let asked = server.asked().remove(0);
    let form = |name: &str| asked.form(name);
    let urn = |name: &str| format!("urn:ietf:params:oauth:{name}");
    assert_eq!((form("grant_type"), form("requested_token_type")), (urn("grant-type:token-exchange"), urn("token-type:access_token")));
    assert_eq!((form("subject_token"), form("subject_token_type")), ("alice.s.own".into(), urn("token-type:id_token")));
    assert_eq!(form("actor_token_type"), urn("token-type:jwt"));
    let claims = read(&form("actor_token"), &key);
    assert_eq!(
        (&claims["iss"], &claims["sub"], &claims["aud"]),
        (&json!("https://remit.example"), &json!("bot for alice"), &json!("https://id.example"))
    );
    assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 300);
    oauth.issue(&wanted).await.unwrap();
    assert_ne!(read(&server.asked()[1].form("actor_token"), &key)["jti"], claims["jti"], "each is used once");
    // The same as an assertion, where no client is wanted.
    let mut bearer = spec(&server, OauthGrant::JwtBearer(AssertionSpec::Signed(signed)));
    bearer.client = None;
    built(&bearer).issue(&wanted).await.unwrap();
    let asked = server.asked().remove(2);
    assert_eq!(asked.form("grant_type"), urn("grant-type:jwt-bearer"));
    assert_eq!(read(&asked.form("assertion"), &key)["sub"], "bot for alice");
    assert_eq!((asked.field("authorization"), asked.form("client_id")), ("", String::new()));
}

#[tokio::test]
async fn a_client_shows_a_token_that_someone_else_renews() {
    let server = Scripted::new(0, |_| json(200, json!({"access_token": "abcdef", "token_type": "Bearer"}))).await;
    let dir = folder("held");
    fs::write(dir.join("svid"), "a.b.c\n").unwrap();
    let mut spec = spec(&server, OauthGrant::ClientCredentials);
    spec.client.as_mut().unwrap().proof = ClientProof::Assertion(SecretSource::File(dir.join("svid")));
    let oauth = built(&spec);
    assert!(oauth.watches());
    oauth.issue(&ask(json!({"scope": "a"}))).await.unwrap();
    fs::write(dir.join("svid"), "d.e.f\n").unwrap();
    assert!(oauth.refresh().unwrap());
    oauth.issue(&ask(json!({"scope": "a"}))).await.unwrap();
    let shown: Vec<String> = server.asked().iter().map(|a: &Asked| a.form("client_assertion")).collect();
    assert_eq!(shown, ["a.b.c", "d.e.f"]);
    assert!(server.asked()[0].form("client_assertion_type").ends_with(":jwt-bearer") && server.asked()[0].form("client_id") == "re mit");
}

#[test]
fn a_key_that_cannot_sign_is_an_error_at_load() {
    for (text, says) in [
        (pem("PRIVATE KEY", Key::new(Algorithm::Es384, "k").pkcs8()), "an RSA, a P-256 or an Ed25519 key is wanted"),
        (pem("EC PRIVATE KEY", &[48, 0]), "openssl pkcs8 -topk8"),
        ("hunter2".to_owned(), "no `PRIVATE KEY` in PEM"),
    ] {
        let key = KeySpec { pem: secret(), kid: None };
        let spec = OauthSpec {
            token: Endpoint::parse("https://id.example/token").unwrap(),
            revocation: None,
            issuer: Some("https://id.example".into()),
            client: Some(ClientSpec { id: "remit".into(), proof: ClientProof::Key(key) }),
            grant: OauthGrant::ClientCredentials,
        };
        let problem = made(&text, |made| Oauth::new(&spec, made)).unwrap_err();
        assert_eq!(problem.key.as_deref(), Some("client.key.env"));
        assert!(problem.to_string().contains(says) && !problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[tokio::test]
async fn revocation_takes_back_what_there_is() {
    let server = Scripted::new(0, |asked| match (asked.line.as_str(), asked.form("token").as_str()) {
        ("POST /token", _) => json(200, json!({"access_token": "abcdef", "token_type": "Bearer", "refresh_token": "unasked-for"})),
        ("POST /revoke", "self-contained") => json(400, json!({"error": "unsupported_token_type"})),
        ("POST /revoke", "down") => json(503, json!({})),
        ("POST /revoke", "not-ours") => json(401, json!({"error": "invalid_client"})),
        _ => (200, vec![], String::new()),
    })
    .await;
    let mut spec = spec(&server, OauthGrant::ClientCredentials);
    spec.revocation = Some(server.endpoint("/revoke"));
    let oauth = built(&spec);
    let issued = oauth.issue(&ask(json!({"scope": "a"}))).await.unwrap();
    let handle = issued.handle.unwrap();
    for _ in 0..2 {
        assert_eq!(oauth.revoke(handle.expose()).await, Ok(Revoked::Done), "also when it is gone already");
    }
    let tokens: Vec<String> = server.asked()[1..].iter().map(|a| a.form("token")).collect();
    assert_eq!(tokens, ["unasked-for", "abcdef", "unasked-for", "abcdef"]);
    assert_eq!(oauth.revoke(b"self-contained").await, Ok(Revoked::Irrevocable));
    assert!(matches!(oauth.revoke(b"down").await, Err(Fault::Unavailable(_))));
    assert!(matches!(oauth.revoke(b"not-ours").await, Err(Fault::Refused(why)) if why.contains("`re mit`")));
}

/// A Workload API that gives a new JWT-SVID each time.
#[derive(Debug, Default)]
struct Svids(std::sync::atomic::AtomicUsize);

impl Bundles for Svids {
    fn roots(&self, _: &str) -> Option<DomainRoots> {
        None
    }
}

impl OwnSvids for Svids {
    fn own(&self) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn token<'a>(&'a self, audience: &'a str) -> TokenSvid<'a> {
        let nth = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let answer = if audience == "down" {
            Err("the Workload API is down".to_owned())
        } else {
            Ok(Secret::new(format!("svid-{nth}-for-{audience}")))
        };
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test]
async fn remits_own_svid_says_who_acts() {
    let server = Scripted::new(0, |_| json(200, json!({"access_token": "abcdef", "token_type": "Bearer"}))).await;
    let acting = |audience: &str| {
        let actor = Some(ActorSpec::Svid(audience.into()));
        spec(&server, OauthGrant::TokenExchange { subject: SubjectSpec::Held(secret(), TokenType::Jwt), actor })
    };
    let problem = made(SECRET, |made| Oauth::new(&acting("id"), made)).unwrap_err();
    assert!(problem.to_string().contains("workload_api") && problem.key.as_deref() == Some("actor.svid"), "{problem}");
    let svids: Arc<dyn OwnSvids> = Arc::new(Svids::default());
    let with = |audience: &str| made(SECRET, |made| Oauth::new(&acting(audience), &Made { svids: Some(&svids), ..*made })).unwrap();
    let oauth = with("id");
    for _ in 0..2 {
        oauth.issue(&ask(json!({"scope": "a"}))).await.unwrap();
    }
    let shown: Vec<String> = server.asked().iter().map(|a: &Asked| a.form("actor_token")).collect();
    assert_eq!(shown, ["svid-0-for-id", "svid-1-for-id"]);
    assert!(server.asked()[0].form("actor_token_type").ends_with(":jwt"));
    assert!(matches!(with("down").issue(&ask(json!({"scope": "a"}))).await, Err(Fault::Unavailable(why)) if why.contains("is down")));
}
