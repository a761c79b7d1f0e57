use std::{fs, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    clock::Moment,
    config::{GoogleImpersonation, GoogleSubject},
    credential::kind::scripted::{self, Asked as Seen, Scripted, ask, made, rfc3339},
    jose::{self, Algorithm, Leeway, fixture},
};

const PEM: &str = include_str!("../../../jose/fixture/rsa.pem");
const BOT: &str = "bot@acme.iam.gserviceaccount.com";
const READ: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const ACCESS: &str = "ya29.c.b0AXv0zTPq";
const SUBJECT: &str = "eyJzdWJqZWN0IjoidG9rZW4ifQ.c29tZS1jbGFpbXM.c29tZS1zaWduYXR1cmU";
const AUDIENCE: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/i";

fn key_file(at: &str) -> Value {
    json!({"type": "service_account", "client_email": BOT, "private_key_id": "kid-1", "private_key": PEM, "token_uri": format!("{at}/token")})
}

fn by_key(at: &Scripted, impersonate: bool) -> Google {
    let config = Config { source: GoogleSource::Key(scripted::secret()), impersonate: impersonate.then(|| other(at)) };
    made(&key_file(&at.at).to_string(), |made| Google::new(&config, made)).unwrap()
}

fn by_federation(at: &Scripted, impersonate: bool) -> Google {
    let federation = GoogleFederation {
        audience: AUDIENCE.into(),
        token: GoogleSubject::Secret(scripted::secret()),
        token_type: "urn:ietf:params:oauth:token-type:jwt",
        sts: at.endpoint("/v1/token"),
    };
    let config = Config { source: GoogleSource::Federation(federation), impersonate: impersonate.then(|| other(at)) };
    made(SUBJECT, |made| Google::new(&config, made)).unwrap()
}

fn other(at: &Scripted) -> GoogleImpersonation {
    GoogleImpersonation { account: "other@acme.iam.gserviceaccount.com".into(), iam: at.endpoint("") }
}

fn scope() -> Value {
    json!({"scopes": [READ]})
}

fn given() -> Value {
    json!({"access_token": ACCESS, "token_type": "Bearer", "expires_in": 3599})
}

/// Whether an assertion is good at `ahead` seconds from now, for Google; the claims.
fn asserted(seen: &Seen, at: &str, ahead: i64) -> Result<String, String> {
    let assertion = seen.form("assertion");
    let keys = fixture::Issuer::new(Algorithm::Rs256, "kid-1").keys();
    let read = jose::Token::read(assertion.as_bytes()).map_err(|e| e.to_string())?;
    let claims = read.verify(&keys, &[Algorithm::Rs256]).map_err(|e| e.to_string())?.claims;
    let now = Moment::now();
    let there = Moment { utc: now.utc + time::Duration::seconds(ahead), ..now };
    claims.check_issuer(BOT).map_err(|e| e.to_string())?;
    claims.check_audience(&[format!("{at}/token")]).map_err(|e| e.to_string())?;
    claims.check_times(there, Leeway(Duration::ZERO)).map_err(|e| e.to_string())?;
    Ok(claims.text("scope").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_key_signs_for_the_scopes_of_the_call() {
    let at = Scripted::new(0, |_| scripted::json(200, given())).await;
    let issued = by_key(&at, false).issue(&ask(json!({"scopes": [READ, "email"]}))).await.unwrap();
    let asked = at.asked();
    assert_eq!((asked[0].line.as_str(), asked[0].form("grant_type").as_str()), ("POST /token", JWT_BEARER));
    assert_eq!(asserted(&asked[0], &at.at, 0).unwrap(), format!("{READ} email"));
    assert_eq!((issued.lives, issued.wider), (Some(Duration::from_secs(3599)), None));
    assert!(issued.handle.is_none(), "Google takes back no token of a service account");
    assert_eq!(issued.secrets[0].expose(), ACCESS.as_bytes());
}

#[tokio::test]
async fn a_federated_token_is_exchanged_and_proves_itself() {
    let at = Scripted::new(0, |_| {
        let mut given = given();
        given["issued_token_type"] = ACCESS_TOKEN.into();
        scripted::json(200, given)
    })
    .await;
    by_federation(&at, false).issue(&ask(scope())).await.unwrap();
    let asked = &at.asked()[0];
    for (name, value) in [
        ("grant_type", EXCHANGE),
        ("audience", AUDIENCE),
        ("scope", READ),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token", SUBJECT),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ] {
        assert_eq!(asked.form(name), value, "{name}");
    }
    assert_eq!((asked.line.as_str(), asked.field("authorization")), ("POST /v1/token", ""));
    let id_token = Scripted::new(0, |_| scripted::json(200, given())).await;
    let fault = by_federation(&id_token, false).issue(&ask(scope())).await.unwrap_err();
    assert!(fault.to_string().contains("no access token"), "{fault}");
}

#[tokio::test]
async fn another_account_is_impersonated_for_as_long_as_the_task_has() {
    let at = Scripted::new(0, |seen| match &*seen.line {
        "POST /token" => scripted::json(200, given()),
        "POST /v1/projects/-/serviceAccounts/other@acme.iam.gserviceaccount.com:generateAccessToken"
            if seen.field("authorization") == format!("Bearer {ACCESS}") =>
        {
            scripted::json(200, json!({"accessToken": "ya29.the-other-accounts", "expireTime": rfc3339(600)}))
        }
        _ => scripted::json(403, json!({"error": {"code": 403, "message": "Permission denied", "status": "PERMISSION_DENIED"}})),
    })
    .await;
    let issued = by_key(&at, true).issue(&ask(scope())).await.unwrap();
    assert_eq!(issued.secrets[0].expose(), b"ya29.the-other-accounts");
    let asked = at.asked();
    assert_eq!(asserted(&asked[0], &at.at, 0).unwrap(), TO_IMPERSONATE, "its own token is for nothing else");
    assert_eq!(asked[1].json(), json!({"scope": [READ], "lifetime": "600s"}));
    assert!((590..=600).contains(&issued.lives.unwrap().as_secs()) && issued.wider.is_none());
    let longer = Scripted::new(0, |seen| match &*seen.line {
        "POST /token" => scripted::json(200, given()),
        _ => scripted::json(200, json!({"accessToken": "ya29.the-other-accounts", "expireTime": rfc3339(3600)})),
    })
    .await;
    let issued = by_key(&longer, true).issue(&ask(scope())).await.unwrap();
    assert!(issued.wider.is_some_and(|w| w.contains("600 s were asked")));
}

#[tokio::test]
async fn more_scopes_than_asked_are_seen() {
    for (scope, wider) in [(READ.to_owned(), false), (format!("{READ} https://www.googleapis.com/auth/cloud-platform"), true)] {
        let at = Scripted::new(0, move |_| {
            let mut given = given();
            given["scope"] = scope.clone().into();
            scripted::json(200, given)
        })
        .await;
        let issued = by_key(&at, false).issue(&ask(self::scope())).await.unwrap();
        assert_eq!(issued.wider.is_some(), wider);
        // What is more than asked is not used to impersonate either.
        if wider {
            assert!(matches!(by_key(&at, true).issue(&ask(self::scope())).await, Err(Fault::Refused(_))));
        }
    }
}

#[tokio::test]
async fn another_clock_is_learnt_from_the_refusal() {
    for ahead in [-600, 600] {
        let at = Scripted::new(ahead, {
            let at = std::sync::Mutex::new(String::new());
            move |seen| {
                let mut at = at.lock().unwrap();
                *at = format!("http://{}", seen.field("host"));
                match asserted(seen, &at, ahead) {
                    Ok(_) => scripted::json(200, given()),
                    Err(_) => scripted::json(
                        400,
                        json!({"error": "invalid_grant", "error_description": "Invalid JWT: Token must be a short-lived token"}),
                    ),
                }
            }
        })
        .await;
        by_key(&at, false).issue(&ask(scope())).await.unwrap();
        assert_eq!(at.asked().len(), 2);
    }
}

#[tokio::test]
async fn each_refusal_says_what_to_mend_and_shows_no_secret() {
    let at =
        Scripted::new(0, |seen| scripted::json(400, json!({"error": "invalid_grant", "error_description": seen.form("assertion")}))).await;
    let text = by_key(&at, false).issue(&ask(scope())).await.unwrap_err().to_string();
    assert!(text.contains("key is one of the service account's") && !text.contains("eyJ"), "{text}");
    let at = Scripted::new(0, |_| scripted::json(403, json!({"error": {"message": "Permission 'iam' denied"}}))).await;
    let text = by_federation(&at, false).issue(&ask(scope())).await.unwrap_err().to_string();
    assert!(text.contains("\"Permission 'iam' denied\"") && text.contains("check that the token's issuer and audience"), "{text}");
    let at = Scripted::new(0, |seen| match &*seen.line {
        "POST /token" => scripted::json(200, given()),
        _ => scripted::json(403, json!({"error": {"message": "no"}})),
    })
    .await;
    let text = by_key(&at, true).issue(&ask(scope())).await.unwrap_err().to_string();
    assert!(text.contains("roles/iam.serviceAccountTokenCreator"), "{text}");
    for body in [
        json!([]),
        json!({}),
        json!({"access_token": "short", "token_type": "Bearer", "expires_in": 1}),
        json!({"access_token": ACCESS, "token_type": "mac", "expires_in": 1}),
        json!({"access_token": ACCESS, "token_type": "Bearer"}),
        json!({"access_token": ACCESS, "token_type": "Bearer", "expires_in": "soon"}),
    ] {
        let at = Scripted::new(0, move |_| scripted::json(200, body.clone())).await;
        let fault = by_key(&at, false).issue(&ask(scope())).await.unwrap_err();
        assert!(matches!(fault, Fault::Unavailable(_)), "{fault}");
    }
}

#[tokio::test]
async fn no_scope_is_asked_for_by_another() {
    let at = Scripted::new(0, |_| scripted::json(200, given())).await;
    let google = by_key(&at, false);
    for wrong in [json!({}), json!({"scopes": []}), json!({"scopes": ["a b"]}), json!({"scopes": [""]})] {
        assert!(matches!(google.issue(&ask(wrong.clone())).await, Err(Fault::Refused(_))), "{wrong}");
    }
    assert!(at.asked().is_empty());
    assert_eq!(google.value("reports").as_deref(), Some("reports"));
    for wrong in ["", "a b", "a/b", "..", "a\"b", "a?b"] {
        assert_eq!(google.value(wrong), None, "{wrong}");
    }
}

#[test]
fn a_key_that_is_none_is_named_and_not_shown() {
    let ec = fixture::pem("PRIVATE KEY", fixture::Issuer::new(Algorithm::Es256, "k").pkcs8());
    let config = Config { source: GoogleSource::Key(scripted::secret()), impersonate: None };
    let with = |name: &str, value: Value| {
        let mut file = key_file("https://oauth2.googleapis.com");
        file[name] = value;
        file.to_string()
    };
    for (text, wants) in [
        ("nonsense".to_owned(), "not JSON"),
        ("{}".to_owned(), "`type` is not `service_account`"),
        (with("type", json!("external_account")), "federation"),
        (with("client_email", json!(null)), "`client_email` is missing"),
        (with("private_key", json!("")), "`private_key` is missing"),
        (with("private_key", json!(ec)), "signs with ES256"),
        (with("token_uri", json!("http://oauth2.example.org/token")), "plain HTTP"),
    ] {
        let problem = made(&text, |made| Google::new(&config, made)).unwrap_err();
        assert!(problem.to_string().contains(wants) && problem.key.as_deref() == Some("key.env"), "{problem}");
        assert!(!problem.to_string().contains("MII"), "{problem}");
    }
}

#[test]
fn a_key_is_read_again_when_its_file_changes() {
    let path = std::env::temp_dir().join(format!("remit-google-key-{}.json", std::process::id()));
    fs::write(&path, key_file("https://oauth2.googleapis.com").to_string()).unwrap();
    let config = Config { source: GoogleSource::Key(crate::config::SecretSource::File(path.clone())), impersonate: None };
    let google = made("", |made| Google::new(&config, made)).unwrap();
    assert!(google.watches() && !google.refresh().unwrap());
    let mut other = key_file("https://oauth2.googleapis.com");
    other["client_email"] = "new-bot@acme.iam.gserviceaccount.com".into();
    fs::write(&path, other.to_string()).unwrap();
    assert!(google.refresh().unwrap());
    let Source::Key(key) = &google.source else { panic!() };
    assert_eq!(&*key.value().email, "new-bot@acme.iam.gserviceaccount.com");
    fs::write(&path, "nonsense").unwrap();
    assert!(google.refresh().is_err() && google.refresh().is_err(), "reported until it is mended");
    assert_eq!(&*key.value().email, "new-bot@acme.iam.gserviceaccount.com", "the old one stays in force");
    fs::remove_file(&path).unwrap();
}
