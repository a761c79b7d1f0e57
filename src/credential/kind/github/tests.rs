use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    clock::Moment,
    credential::kind::scripted::{self, Asked as Seen, Scripted, ask, made, rfc3339},
    jose::{Algorithm, Leeway, Token, fixture},
};

const PEM: &str = include_str!("../../../jose/fixture/rsa.pem");
const TOKEN: &str = "ghs_1234_eyJsb25nIjoidG9rZW4ifQ";

fn app(at: &Scripted, installation: Option<u64>) -> GithubApp {
    let config = Config { app: "77".into(), key: scripted::secret(), api: at.endpoint("/api/v3"), installation };
    made(PEM, |made| GithubApp::new(&config, made)).unwrap()
}

fn scope() -> Value {
    json!({"repositories": ["acme/web"], "permissions": {"issues": "write"}})
}

fn given() -> Value {
    json!({
        "token": TOKEN, "expires_at": rfc3339(3600), "permissions": {"issues": "write", "metadata": "read"},
        "repository_selection": "selected", "repositories": [{"name": "web", "owner": {"login": "acme"}}],
    })
}

/// Whether what proves the App is good at `ahead` seconds from now, for GitHub.
fn proves(seen: &Seen, ahead: i64) -> Result<(), String> {
    let token = seen.field("authorization").strip_prefix("Bearer ").unwrap();
    let keys = fixture::Issuer::new(Algorithm::Rs256, "k").keys();
    let read = Token::read(token.as_bytes()).map_err(|e| e.to_string())?;
    read.check_type(&["JWT"], false).map_err(|e| e.to_string())?;
    let claims = read.verify(&keys, &[Algorithm::Rs256]).map_err(|e| e.to_string())?.claims;
    let now = Moment::now();
    let there = Moment { utc: now.utc + time::Duration::seconds(ahead), ..now };
    claims.check_issuer("77").map_err(|e| e.to_string())?;
    let exp = claims.check_times(there, Leeway(Duration::ZERO)).map_err(|e| e.to_string())?;
    if exp > there.utc.unix_timestamp() + 600 { Err("it lives too long".into()) } else { Ok(()) }
}

#[tokio::test]
async fn a_token_is_asked_for_what_the_call_needs_and_revoked() {
    let at = Scripted::new(0, |seen| match &*seen.line {
        "GET /api/v3/repos/acme/web/installation" => scripted::json(200, json!({"id": 5, "account": {"login": "Acme"}})),
        "POST /api/v3/app/installations/5/access_tokens" => scripted::json(201, given()),
        "DELETE /api/v3/installation/token" if seen.field("authorization") == format!("Bearer {TOKEN}") => (204, vec![], String::new()),
        _ => scripted::json(404, json!({"message": "Not Found"})),
    })
    .await;
    let app = app(&at, None);
    let issued = app.issue(&ask(scope())).await.unwrap();
    let asked = at.asked();
    assert!(asked.iter().all(|seen| proves(seen, 0) == Ok(()) && seen.field("user-agent") == "remit"), "{asked:?}");
    assert_eq!(asked[1].json(), json!({"repositories": ["web"], "permissions": {"issues": "write"}}));
    assert_eq!((asked[1].field("accept"), asked[1].field("x-github-api-version")), ("application/vnd.github+json", "2022-11-28"));
    assert_eq!((issued.secrets[0].expose().as_slice(), issued.wider), (TOKEN.as_bytes(), None));
    let lives = issued.lives.unwrap().as_secs();
    assert!((3590..=3600).contains(&lives), "{lives}");
    assert_eq!(app.revoke(issued.handle.unwrap().expose()).await, Ok(Revoked::Done));
    // The installation is known now.
    app.issue(&ask(scope())).await.unwrap();
    assert_eq!(at.asked().len(), 4);
}

#[tokio::test]
async fn a_token_for_more_is_given_to_be_revoked() {
    for (name, value) in [("repository_selection", json!("all")), ("permissions", json!({"issues": "admin"})), ("expires_at", json!(null))]
    {
        let at = Scripted::new(0, move |_| {
            let mut given = given();
            given[name] = value.clone();
            scripted::json(201, given)
        })
        .await;
        let issued = app(&at, Some(5)).issue(&ask(scope())).await.unwrap();
        assert!(issued.wider.is_some() && issued.handle.is_some(), "{name}");
    }
}

/// Half an hour off, both ways: the first proof is refused, and the second is by GitHub's clock.
#[tokio::test]
async fn another_clock_is_learnt_from_the_refusal() {
    for ahead in [-1800, 1800] {
        let at = Scripted::new(ahead, move |seen| match proves(seen, ahead) {
            Ok(()) => {
                let mut given = given();
                given["expires_at"] = rfc3339(3600 + ahead).into();
                scripted::json(201, given)
            }
            Err(_) => scripted::json(401, json!({"message": "'Expiration time' claim ('exp') is too far in the future"})),
        })
        .await;
        let app = app(&at, Some(5));
        let issued = app.issue(&ask(scope())).await.unwrap();
        let lives = issued.lives.unwrap().as_secs();
        assert!((3590..=3602).contains(&lives), "by its own clock it lives an hour: {lives}");
        app.issue(&ask(scope())).await.unwrap();
        assert_eq!(at.asked().len(), 3, "its clock is known the next time");
    }
}

#[tokio::test]
async fn each_refusal_says_what_to_mend_and_shows_no_secret() {
    let cases: [(u16, &str, &str, bool); 9] = [
        (401, "A JSON web token could not be decoded", "`private_key` is a key of the App", false),
        (403, "This installation has been suspended", "suspended", false),
        (404, "Not Found", "not installed there", false),
        (422, "The permissions requested are not granted", "grant it on GitHub", false),
        (429, "Slow down", "429", true),
        (500, "Oh", "500", true),
        (302, "Moved", "a redirect is not followed", false),
        (418, "", "gave no token", false),
        (201, "", "gave no token", true),
    ];
    for (status, message, mend, passes) in cases {
        let at = Scripted::new(0, move |_| scripted::json(status, json!({"message": message}))).await;
        let fault = app(&at, Some(5)).issue(&ask(scope())).await.unwrap_err();
        let text = fault.to_string();
        assert!(text.contains(mend) && text.contains("127.0.0.1"), "{status}: {text}");
        assert_eq!(matches!(fault, Fault::Unavailable(_)), passes, "{status}: {text}");
    }
    let at = Scripted::new(0, |seen| scripted::json(401, json!({"message": format!("no: {}", seen.field("authorization"))}))).await;
    let text = app(&at, Some(5)).issue(&ask(scope())).await.unwrap_err().to_string();
    let proof = at.asked()[0].field("authorization").to_owned();
    assert!(proof.trim_start_matches("Bearer ").split('.').all(|part| !text.contains(part)), "{text}");
    for limited in [("retry-after", "60"), ("x-ratelimit-remaining", "0")] {
        let at = Scripted::new(0, move |_| (403, vec![(limited.0, limited.1.into())], "{}".into())).await;
        let fault = app(&at, Some(5)).issue(&ask(scope())).await.unwrap_err();
        assert!(matches!(&fault, Fault::Unavailable(why) if why.contains("limits how often")), "{fault}");
    }
}

#[tokio::test]
async fn nonsense_and_silence_are_no_token() {
    for body in ["", "nonsense", "[]", "{}", r#"{"token": 7}"#, r#"{"token": "short"}"#, "{\"token\": \"ghs_with\\nnew lines in it\"}"] {
        let at = Scripted::new(0, move |_| (201, vec![], body.to_owned())).await;
        let fault = app(&at, Some(5)).issue(&ask(scope())).await.unwrap_err();
        assert!(matches!(fault, Fault::Unavailable(_)), "{body}: {fault}");
    }
    let at = Scripted::new(0, |_| (201, vec![], " ".repeat(10 << 20))).await;
    let fault = app(&at, Some(5)).issue(&ask(scope())).await.unwrap_err();
    assert!(fault.to_string().contains("larger than 1 MiB"), "{fault}");
}

#[tokio::test]
async fn the_installation_is_that_of_the_owner_or_the_only_one() {
    let all = json!({"owner": "acme", "repositories": ["*"], "permissions": {"members": "read"}});
    let at = Scripted::new(0, |seen| match &*seen.line {
        "GET /api/v3/orgs/acme/installation" => scripted::json(404, json!({})),
        "GET /api/v3/users/acme/installation" => scripted::json(200, json!({"id": 6, "account": {"login": "acme"}})),
        "GET /api/v3/app/installations?per_page=2" => scripted::json(200, json!([{"id": 7}])),
        line if line.contains("/access_tokens") => {
            let members =
                json!({"token": TOKEN, "expires_at": rfc3339(60), "permissions": {"members": "read"}, "repository_selection": "all"});
            scripted::json(201, members)
        }
        _ => scripted::json(404, json!({})),
    })
    .await;
    let issued = app(&at, None).issue(&ask(all.clone())).await.unwrap();
    assert_eq!(issued.wider, None, "all of them were asked");
    assert!(at.asked().last().unwrap().line.contains("/installations/6/"));
    let bare = json!({"repositories": ["*"], "permissions": {"members": "read"}});
    app(&at, None).issue(&ask(bare)).await.unwrap();
    assert!(at.asked().last().unwrap().line.contains("/installations/7/"));
    let fault = app(&at, Some(9)).issue(&ask(all)).await.unwrap_err();
    assert!(fault.to_string().contains("`installation` is not that of `acme`"), "{fault}");
    let elsewhere = Scripted::new(0, |_| scripted::json(200, json!({"id": 5, "account": {"login": "other"}}))).await;
    assert!(app(&elsewhere, None).issue(&ask(scope())).await.is_err(), "an installation of someone else");
    for (list, wants) in [(json!([]), "installed nowhere"), (json!([{"id": 1}, {"id": 2}]), "several owners")] {
        let at = Scripted::new(0, move |_| scripted::json(200, list.clone())).await;
        let fault = app(&at, None).issue(&ask(json!({"repositories": ["web"], "permissions": {"issues": "read"}}))).await.unwrap_err();
        assert!(matches!(&fault, Fault::Refused(why) if why.contains(wants)), "{fault}");
    }
}

#[tokio::test]
async fn what_is_gone_is_revoked_and_what_fails_is_tried_again() {
    for (status, done) in [(204, true), (401, true), (403, false), (500, false), (302, false)] {
        let at = Scripted::new(0, move |_| (status, vec![], String::new())).await;
        let revoked = app(&at, Some(5)).revoke(TOKEN.as_bytes()).await;
        assert_eq!(revoked.is_ok(), done, "{status}: {revoked:?}");
        if let Err(fault) = revoked {
            assert!(!fault.to_string().contains(TOKEN));
        }
    }
}

#[test]
fn a_value_names_one_repository_and_nothing_else() {
    let config = Config {
        app: "77".into(),
        key: scripted::secret(),
        api: crate::config::Endpoint::parse("https://api.github.com").unwrap(),
        installation: None,
    };
    let app = made(PEM, |made| GithubApp::new(&config, made)).unwrap();
    assert_eq!(app.value("web-2.0_x").as_deref(), Some("web-2.0_x"));
    for wrong in ["", "*", ".", "..", "a/b", "a b", "a%2fb", "a?b", "wëb"] {
        assert_eq!(app.value(wrong), None, "{wrong}");
    }
    assert!(app.level("read") < app.level("write") && app.level("write") < app.level("admin") && app.level("owner").is_none());
    let ec = fixture::pem("PRIVATE KEY", fixture::Issuer::new(Algorithm::Es256, "k").pkcs8());
    let problem = made(&ec, |made| GithubApp::new(&config, made)).unwrap_err();
    assert_eq!(problem.key.as_deref(), Some("private_key.env"));
    assert!(problem.to_string().contains("RS256 alone") && !problem.to_string().contains("MIG"), "{problem}");
    let mut seen = 0;
    app.secrets(&mut |_| seen += 1);
    assert_eq!(seen, 4);
    assert!(!format!("{app:?}").contains("BEGIN"));
}
