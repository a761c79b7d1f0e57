use std::{fs, path, sync::Arc};

use parking_lot::Mutex;
use serde_json::json;

use crate::{
    config::{ClientProof, KeepSpec, OauthGrant, OauthSpec, SecretSource},
    credential::{
        issue::{Fault, IssueCredential},
        kind::{
            Made, Oauth,
            oauth::tests::{built, folder, spec},
            scripted::{Scripted, ask, json},
        },
    },
    fetch::Fetch,
    tls::UpstreamTls,
};

/// Gives tokens, each of them another, and rotates refresh tokens: one that was used is worth nothing.
async fn rotating(first: &str) -> Scripted {
    let now = Arc::new(Mutex::new((first.to_owned(), 0)));
    Scripted::new(0, move |asked| {
        let mut now = now.lock();
        if asked.form("grant_type") != "refresh_token" || asked.form("refresh_token") != now.0 {
            return json(400, json!({"error": "invalid_grant"}));
        }
        *now = (format!("refresh-token-number-{}", now.1 + 1), now.1 + 1);
        json(200, json!({"access_token": format!("access-{}", now.1), "token_type": "Bearer", "refresh_token": now.0}))
    })
    .await
}

fn refreshing(server: &Scripted, dir: &path::Path) -> OauthSpec {
    let keep = KeepSpec { file: dir.join("kept"), key: dir.join("key") };
    let token = SecretSource::File(dir.join("consent"));
    let mut spec = spec(server, OauthGrant::RefreshToken { token, keep });
    spec.client.as_mut().unwrap().proof = ClientProof::Nothing;
    spec
}

#[tokio::test]
async fn a_rotated_token_is_used_once_by_one_and_outlasts_whoever_used_it() {
    let dir = folder("rotates");
    fs::write(dir.join("consent"), "the-first-of-this-consent").unwrap();
    let server = rotating("the-first-of-this-consent").await;
    let spec = refreshing(&server, &dir);
    let oauth = built(&spec);
    // Two at once, and a reload beside them: each waits for the token that the one before was given.
    let (a, b) = (ask(json!({"scope": "a"})), ask(json!({"scope": "b"})));
    let again = built(&spec);
    let (one, two, three) = tokio::join!(oauth.issue(&a), oauth.issue(&b), again.issue(&a));
    assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");
    assert!(one.unwrap().secrets.len() == 2, "the refresh token is scrubbed too");
    assert!(oauth.refresh().unwrap(), "another secret is in force");
    let mut secrets = Vec::new();
    oauth.secrets(&mut |s| secrets.push(s.to_owned()));
    assert!(secrets.contains(&"refresh-token-number-3".to_owned()), "{secrets:?}");
    drop((oauth, again));
    assert!(!String::from_utf8_lossy(&fs::read(dir.join("kept")).unwrap()).contains("refresh-token"), "sealed");
    built(&spec).issue(&a).await.unwrap();
    assert_eq!(server.asked().last().unwrap().form("refresh_token"), "refresh-token-number-3", "after a restart");
    // A new consent is another chain, and the old one is forgotten.
    fs::write(dir.join("consent"), "of-a-new-consent").unwrap();
    let Err(Fault::Refused(why)) = built(&spec).issue(&a).await else { panic!() };
    assert_eq!(server.asked().last().unwrap().form("refresh_token"), "of-a-new-consent");
    assert!(why.contains("let the user consent again") && !why.contains("of-a-new"), "{why}");
}

#[tokio::test]
async fn what_keeps_a_consent_is_looked_at_before_it_is_used() {
    let dir = folder("kept-wrong");
    fs::write(dir.join("consent"), "the-first-of-this-consent").unwrap();
    let server = rotating("the-first-of-this-consent").await;
    let spec = refreshing(&server, &dir);
    built(&spec).issue(&ask(json!({"scope": "a"}))).await.unwrap();
    let good = fs::read(dir.join("kept")).unwrap();
    let said = async |what: &str| match built(&spec).issue(&ask(json!({"scope": "a"}))).await {
        Err(Fault::Unavailable(why)) => why,
        other => panic!("{what}: {other:?}"),
    };
    fs::write(dir.join("kept"), &good[..good.len() - 1]).unwrap();
    assert!(said("cut").await.contains("was cut"));
    fs::write(dir.join("kept"), "x").unwrap();
    let why = said("nothing of ours").await;
    assert!(why.contains("keep.file") && why.contains("let the user consent again"), "{why}");
    fs::write(dir.join("kept"), &good).unwrap();
    fs::rename(dir.join("key"), dir.join("other")).unwrap();
    assert!(said("no key").await.contains("keep.key"));
    fs::rename(dir.join("other"), dir.join("key")).unwrap();
    let named = Made { name: &"another".into(), env: &|_| None, fetch: &fetch(), svids: None };
    let Err(Fault::Unavailable(why)) = Oauth::new(&spec, &named).unwrap().issue(&ask(json!({"scope": "a"}))).await else { panic!() };
    assert!(why.contains("of the credential `name`"), "{why}");
    assert_eq!(server.asked().len(), 1, "and nothing is asked meanwhile");
}

fn fetch() -> Fetch {
    Fetch::new(UpstreamTls::new(rustls::RootCertStore::empty()).unwrap(), &[])
}

#[tokio::test]
async fn a_token_that_cannot_be_written_is_used_and_written_when_it_can_be() {
    let dir = folder("unwritten");
    fs::write(dir.join("consent"), "the-first-of-this-consent").unwrap();
    let server = rotating("the-first-of-this-consent").await;
    let spec = refreshing(&server, &dir);
    let oauth = built(&spec);
    oauth.issue(&ask(json!({"scope": "a"}))).await.unwrap();
    // A folder where the new file would be made: nobody can write there, root neither.
    fs::create_dir(dir.join("kept.new")).unwrap();
    oauth.issue(&ask(json!({"scope": "b"}))).await.unwrap();
    oauth.issue(&ask(json!({"scope": "c"}))).await.unwrap();
    let problem = oauth.refresh().unwrap_err().to_string();
    assert!(problem.contains("a restart would lose it") && problem.contains("kept"), "{problem}");
    fs::remove_dir(dir.join("kept.new")).unwrap();
    assert!(oauth.refresh().unwrap());
    drop(oauth);
    built(&spec).issue(&ask(json!({"scope": "a"}))).await.unwrap();
    assert_eq!(server.asked().last().unwrap().form("refresh_token"), "refresh-token-number-3");
}
