//! Kind `oauth` against authorization servers that do wrong: the call gets `credential_unavailable` within its limit, with
//! what to mend and without a secret, and others are not held up. That it works with real ones, `tests/clients/test_oauth.py` shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use support::{
    Do, HOST, Lab, Received, Remit, Settings, Upstream, agent,
    tokens::{Key, now},
};
use time::{OffsetDateTime, macros::format_description};

const CLIENT_SECRET: &str = "client-secret-7c1f0d93ab";
const TOKEN: &str = "access-token-5b2e9f417a";

/// An answer with this status, body and more fields.
fn say(status: &str, body: &str, fields: &str) -> Do {
    Do::Say(
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len()).into_bytes(),
    )
}

fn gives(more: Value) -> Do {
    let mut body = json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 60});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    say("200 OK", &body.to_string(), "")
}

/// A field of a form.
fn form(request: &Received, name: &str) -> Option<String> {
    let body = String::from_utf8(request.body.clone()).unwrap();
    let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    body.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| plain(key) == name).map(|(_, value)| plain(value))
}

struct House {
    _lab: Lab,
    api: Upstream,
    remit: Remit,
}

/// Remit with one credential of kind `oauth`: `more` are its keys beside the token endpoint's.
async fn house(name: &str, endpoint: &str, more: &str) -> House {
    let lab = Lab::new(name);
    let api = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |r| Do::ok(&format!("you sent {:?}", r.field("authorization")))).await;
    fs::write(lab.dir.join("client"), CLIENT_SECRET).unwrap();
    fs::write(lab.dir.join("remit.yaml"), config(&Settings::to(api.address), endpoint, more)).unwrap();
    let remit = Remit::start(&lab.dir);
    House { _lab: lab, api, remit }
}

const BASIC: &str = "grant: client_credentials, client: {id: remit, secret: {file: client}}";

fn config(settings: &Settings, endpoint: &str, more: &str) -> String {
    let scope = "[{intents: [example.items.list], scope: [items.read]}, {intents: [\"example.*\"], scope: [items.all]}]";
    let oauth = format!("{{kind: oauth, hosts: [{HOST}], token_endpoint: \"{endpoint}\", scope: {scope}, {more}}}");
    settings.yaml_with(&oauth)
}

fn at(server: &Upstream) -> String {
    format!("http://{}/token", server.address)
}

impl House {
    /// What the agent is told, and that no one is told a secret.
    async fn refused(&self) -> String {
        // A task of its own: what failed for one is not asked again for it at once.
        let (_, handle) = self.remit.task(&[]);
        let answer = agent::tls_as(&self.remit, &handle).await.ask(agent::get("/items")).await;
        assert_eq!((answer.status, answer.reason()), (502, Some("credential_unavailable")), "{}", answer.text());
        assert!(self.api.seen().is_empty(), "nothing leaves without a credential");
        let told = answer.text();
        let all = format!("{told}{}{:?}", self.remit.printed(), self.remit.log().records());
        assert!(!all.contains(CLIENT_SECRET) && !all.contains(TOKEN), "{all}");
        told
    }
}

#[tokio::test]
async fn each_wrong_answer_refuses_the_call_and_says_what_to_mend() {
    let huge = format!("{{\"access_token\": \"{}\"}}", "x".repeat(10 << 20));
    let error = |status: &str, code: &str| say(status, &json!({"error": code, "error_description": "no"}).to_string(), "");
    let table: Vec<(&str, Do, &str)> = vec![
        ("wrong secret", error("401 Unauthorized", "invalid_client"), "the client `remit` shows its secret by `client_secret_basic`"),
        ("revoked app", error("400 Bad Request", "unauthorized_client"), "does not let this client use this grant"),
        ("an unknown scope", error("400 Bad Request", "invalid_scope"), "look at `scope`"),
        ("an unknown audience", error("400 Bad Request", "invalid_target"), "does not know this resource or audience"),
        ("forbidden", error("403 Forbidden", "access_denied"), "the server's own rules"),
        ("may pass", error("400 Bad Request", "temporarily_unavailable"), "`temporarily_unavailable`"),
        ("no such page", say("404 Not Found", "<html>", ""), "this is no endpoint of the server"),
        ("a redirect", say("302 Found", "", "Location: http://127.0.0.1:1/elsewhere\r\n"), "a redirect is not followed"),
        ("down", say("503 Service Unavailable", "", ""), "503"),
        ("too many", say("429 Too Many Requests", "", "Retry-After: 1\r\n"), "429"),
        ("10 MiB", say("200 OK", &huge, ""), "larger than 1 MiB"),
        ("HTML", say("200 OK", "<html>hello</html>", ""), "it is no JSON object"),
        ("a list", say("200 OK", "[1]", ""), "it is no JSON object"),
        ("no token", say("200 OK", "{}", ""), "it has no `access_token`"),
        ("a number", gives(json!({"access_token": 5})), "its `access_token` is no token"),
        ("a token of two lines", gives(json!({"access_token": "a\nX-Evil: 1"})), "its `access_token` is no token"),
        ("an empty token", gives(json!({"access_token": ""})), "its `access_token` is no token"),
        ("a token for DPoP", gives(json!({"token_type": "DPoP"})), "a token of type `DPoP`"),
        ("no type", gives(json!({"token_type": null})), "a token of type `none`"),
        (
            "an ID token",
            gives(json!({"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"})),
            "where an access token was asked for",
        ),
        ("a wider scope", gives(json!({"scope": "items.read items.admin"})), "items.admin"),
        ("cut off", Do::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec()), "not read"),
        ("its words repeat the secret", error("401 Unauthorized", "invalid_client"), "invalid_client"),
    ];
    let next = Arc::new(Mutex::new(None));
    let taken = next.clone();
    let server = Upstream::plain(move |_| taken.lock().take().unwrap_or_else(|| say("500 Internal Server Error", "", ""))).await;
    let h = house("oauth-wrong", &at(&server), BASIC).await;
    for (what, answer, says) in table {
        let answer = if what.starts_with("its words") {
            say(
                "401 Unauthorized",
                &json!({"error": "invalid_client", "error_description": format!("you sent {CLIENT_SECRET}")}).to_string(),
                "",
            )
        } else {
            answer
        };
        *next.lock() = Some(answer);
        let began = Instant::now();
        let told = h.refused().await;
        assert!(told.contains(says), "{what}: {told}");
        assert!(began.elapsed() < Duration::from_secs(6), "{what}");
        assert!(next.lock().is_none(), "{what}");
    }
    let asked = server.seen();
    assert!(asked.iter().all(|r| r.line() == "POST /token HTTP/1.1"));
    assert!(asked.iter().all(|r| form(r, "scope").as_deref() == Some("items.read")), "never another scope, and never none");
}

#[tokio::test]
async fn who_cannot_be_reached_or_believed_gives_nothing() {
    let lab = Lab::new("oauth-elsewhere");
    let server = Upstream::tls(lab.tls("localhost", &[b"http/1.1"]), |_| gives(json!({}))).await;
    let https = format!("https://localhost:{}/token", server.address.port());
    // Its certificate is another CA's than the one that this Remit trusts.
    let h = house("oauth-tls", &https, BASIC).await;
    let told = h.refused().await;
    assert!(told.contains("TLS") && server.seen().is_empty(), "{told}");
    let nobody = house("oauth-nobody", "http://127.0.0.1:1/token", BASIC).await;
    assert!(nobody.refused().await.contains("http://127.0.0.1:1/token"));
}

#[tokio::test]
async fn one_who_does_not_answer_holds_up_nobody_else() {
    let server =
        Upstream::plain(|r| if form(r, "scope").as_deref() == Some("items.read") { Do::Hang(vec![]) } else { gives(json!({})) }).await;
    let h = house("oauth-slow", &at(&server), BASIC).await;
    let (remit, began) = (&h.remit, Instant::now());
    let slow = async {
        let answer = agent::ask(remit, agent::get("/items")).await;
        (answer.status, answer.text(), began.elapsed())
    };
    let quick = async {
        let answer = agent::ask(remit, agent::get("/items/5")).await;
        (answer.status, answer.text(), began.elapsed())
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert!(quick.0 == 200 && quick.2 < Duration::from_secs(2), "{quick:?}");
    assert!(slow.0 == 502 && slow.1.contains("credential_unavailable"), "{slow:?}");
    assert!(slow.2 < Duration::from_secs(8), "{slow:?}");
    assert!(!quick.1.contains(TOKEN) && quick.1.contains("******"), "echoed, and scrubbed: {}", quick.1);
}

/// A server whose clock is `ahead` seconds from ours: it takes only what was signed by its own.
async fn with_clock(ahead: i64, key: Arc<Key>) -> Upstream {
    let date = move || {
        let form = format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
        format!("Date: {}\r\n", OffsetDateTime::from_unix_timestamp(now() + ahead).unwrap().format(form).unwrap())
    };
    Upstream::plain(move |r| {
        let signed = form(r, "client_assertion").unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).unwrap()).unwrap()).unwrap();
        let (from, to) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        let theirs = now() + ahead;
        let good = from <= theirs + 5 && theirs < to && claims["aud"] == "https://id.example.test" && verified(&key, &signed);
        if good {
            let body = json!({"access_token": TOKEN, "token_type": "bearer", "expires_in": 60}).to_string();
            say("200 OK", &body, &date())
        } else {
            say("401 Unauthorized", &json!({"error": "invalid_client"}).to_string(), &date())
        }
    })
    .await
}

fn verified(key: &Key, token: &str) -> bool {
    let jwk = key.jwk();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], part("x"), part("y")].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .is_ok()
}

#[tokio::test]
async fn a_clock_ten_minutes_off_is_learnt_and_signed_by() {
    for ahead in [600, -600, 0] {
        let key = Arc::new(Key::new("k1"));
        let server = with_clock(ahead, key.clone()).await;
        let lab = Lab::new("oauth-clock");
        fs::write(lab.dir.join("key.pem"), key.pem()).unwrap();
        let api = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
        let more = "grant: client_credentials, issuer: \"https://id.example.test\", client: {id: remit, key: {file: key.pem}}";
        fs::write(lab.dir.join("remit.yaml"), config(&Settings::to(api.address), &at(&server), more)).unwrap();
        let remit = Remit::start(&lab.dir);
        let answer = agent::ask(&remit, agent::get("/items")).await;
        assert_eq!(answer.status, 200, "{ahead}: {}", answer.text());
        assert_eq!(server.seen().len(), if ahead == 0 { 1 } else { 2 }, "{ahead}");
        let answer = agent::ask(&remit, agent::get("/items/5")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(server.seen().len(), if ahead == 0 { 2 } else { 3 }, "what was learnt is remembered");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_revoked() {
    let server = Upstream::plain(|r| match (r.target().as_str(), form(r, "scope").as_deref()) {
        ("/token", Some("items.read")) => gives(json!({"token_type": "DPoP", "refresh_token": "refresh-token-0c44aa91"})),
        ("/token", _) => gives(json!({})),
        ("/revoke", _) if form(r, "token").as_deref() == Some(TOKEN) => say("200 OK", "", ""),
        _ => say("200 OK", "", ""),
    })
    .await;
    let more = format!("{BASIC}, revocation_endpoint: \"http://{}/revoke\"", server.address);
    let h = house("oauth-revoke", &at(&server), &more).await;
    assert!(h.refused().await.contains("DPoP"));
    let revoked = |server: &Upstream| -> Vec<(String, String)> {
        let all = server.seen();
        let all = all.iter().filter(|r| r.target() == "/revoke");
        all.map(|r| (form(r, "token").unwrap(), form(r, "token_type_hint").unwrap())).collect()
    };
    let both = [("refresh-token-0c44aa91", "refresh_token"), (TOKEN, "access_token")];
    assert_eq!(revoked(&server), both.map(|(a, b)| (a.to_owned(), b.to_owned())), "the one that gives others first");
    assert_eq!(agent::ask(&h.remit, agent::get("/items/5")).await.status, 200);
}
