//! What upstream says of a credential does not reach the agent: the injected value in no form, cookies and
//! minted tokens only where a grant returns them, and no redirect takes anything along.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, io::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use support::{Answer, Do, HOST, Lab, Remit, SECRET, Settings, Upstream, agent};
use tokio::io::AsyncReadExt as _;

const OTHER: &str = "other.example.test";
const MINTED: &str = r#"{"token":"ex-9f8e7d6c5b4a39281706","expires_at":"2030-01-01T00:00:00Z","id":7,"permissions":{"issues":"write"}}"#;
const OAUTH: &str = r#"{"access_token":"at-9f8e7d6c5b4a39281706","token_type":"Bearer","expires_in":3600,"scope":"repo"}"#;

const MORE: &str = r#"
  - {id: example.tokens.mint, match: "POST /tokens", effect: write, labels: [mints-credential], body: {name: /name}}
  - {id: example.oauth.exchange, match: "POST /oauth/token", effect: write, body: stream}
"#;

async fn house(name: &str, grants: &[&str], answer: impl Fn(&support::Received) -> Do + Send + Sync + 'static) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    let catalog = fs::read_to_string(lab.dir.join("catalog.yaml")).unwrap();
    let catalog = catalog.replace(&format!("hosts: [{HOST}]"), &format!("hosts: [{HOST}, {OTHER}]"));
    fs::write(lab.dir.join("catalog.yaml"), format!("{}{MORE}", catalog.trim_end())).unwrap();
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), answer).await;
    let mut settings = Settings::to(upstream.address);
    if !grants.is_empty() {
        settings.grants = grants.iter().map(|g| (*g).to_owned()).collect();
    }
    let remit = lab.start(&settings);
    (lab, upstream, remit)
}

fn say(fields: &str, body: &[u8]) -> Do {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    Do::Say([head.as_bytes(), body].concat())
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// How servers write a value.
fn forms() -> Vec<String> {
    let each = |f: &dyn Fn(u8) -> String| SECRET.bytes().map(f).collect::<String>();
    vec![
        SECRET.into(),
        format!("Bearer {SECRET}"),
        STANDARD.encode(SECRET),
        STANDARD.encode(format!("x{SECRET}")),
        STANDARD.encode(format!("me:{SECRET}!")),
        each(&|b| format!("{b:02x}")),
        each(&|b| format!("{b:02X}")),
        each(&|b| format!("%{b:02X}")),
        each(&|b| format!("\\u{:04x}", u32::from(b))),
        SECRET.replace('-', "%2D"),
        SECRET.replace('-', "%2d"),
    ]
}

fn metric(text: &str, name: &str) -> u64 {
    text.lines().filter(|l| l.starts_with(name)).filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn metrics(remit: &Remit) -> String {
    let mut conn = support::Conn::new(tokio::net::TcpStream::connect(remit.admin).await.unwrap());
    conn.ask("GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n").await.text()
}

fn everything(answer: &Answer) -> String {
    format!("{}\n{:?}\n{}\n{:?}", answer.line, answer.fields, answer.text(), answer.trailers)
}

#[tokio::test]
async fn no_form_of_the_value_reaches_the_agent_wherever_it_stands() {
    let (_lab, upstream, remit) = house("seen-forms", &[], |request| {
        let target = request.target();
        let (form, size) = target.trim_start_matches("/items/").split_once('-').unwrap();
        let form = forms()[form.parse::<usize>().unwrap()].clone();
        let mut out = format!(
            "HTTP/1.1 200 you said {SECRET}\r\nTransfer-Encoding: chunked\r\nTrailer: x-late\r\nX-Echo: {form}\r\n{SECRET}: here\r\nLocation: /next?key={form}\r\nLink: <https://a/?k={form}>; rel=next\r\n\r\n"
        )
        .into_bytes();
        for piece in format!("before {form} after").as_bytes().chunks(size.parse().unwrap()) {
            out.extend(format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"));
        }
        out.extend(format!("0\r\nX-Late: {form}\r\n\r\n").bytes());
        Do::Say(out)
    })
    .await;
    let mut conn = agent::tls(&remit).await;
    let (all, mut asked) = (forms(), 0);
    for (i, form) in all.iter().enumerate() {
        for size in [1, 3, 11, 4000] {
            let answer = conn.ask(format!("GET /items/{i}-{size} HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\n\r\n")).await;
            asked += 1;
            let seen = everything(&answer);
            assert!(all.iter().all(|f| !seen.contains(f.as_str())), "{form} in pieces of {size}: {seen}");
            assert_eq!(answer.text().len(), form.len() + "before  after".len());
            assert!(answer.whole && answer.text().starts_with("before ") && answer.text().ends_with(" after"), "{seen}");
        }
    }
    let arrived = upstream.take().unwrap();
    assert_eq!(arrived.field("authorization"), Some(format!("Bearer {SECRET}")));
    assert_eq!(arrived.field("accept-encoding").as_deref(), Some("identity"), "what cannot be read is not asked for");
    let pairs = remit.log().pairs(asked).await;
    assert!(pairs.iter().all(|p| p.outcome["scrubbed"].as_u64().unwrap() >= 6), "{:#?}", pairs[0]);
    assert!(metric(&metrics(&remit).await, "remit_scrubbed_total") >= 6 * asked as u64);
}

#[tokio::test]
async fn compressed_answers_are_cut_before_the_value_and_unreadable_ones_refused() {
    let (_lab, _upstream, remit) = house("seen-packed", &[], |request| match request.target().as_str() {
        "/items/clean" => say("Content-Encoding: gzip\r\n", &gzip("nothing in it")),
        "/items/br" => say("Content-Encoding: br\r\n", b"\x0b\x02\x80hello\x03"),
        "/items/coded" => {
            Do::Say([&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"[..], b"5\r\nhello\r\n0\r\n\r\n"].concat())
        }
        "/items/tail" => say("Content-Encoding: gzip\r\n", &[gzip("nothing"), SECRET.into()].concat()),
        _ => say("Content-Encoding: gzip\r\n", &gzip(&format!("{} {SECRET} and more", "some text ".repeat(500)))),
    })
    .await;
    let get = async |path: &str| agent::ask(&remit, agent::get(path)).await;
    let clean = get("/items/clean").await;
    assert_eq!((clean.status, clean.whole, clean.body), (200, true, gzip("nothing in it")));
    let hit = get("/items/hit").await;
    assert!(hit.status == 200 && !hit.whole, "{hit:?}");
    let mut text = String::new();
    let _ = std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&hit.body[..]), &mut text);
    assert!(!text.contains("injected"), "{text}");
    let tail = get("/items/tail").await;
    assert!(!tail.whole && !tail.text().contains(SECRET), "what stands behind the compressed body is no part of it");
    for path in ["/items/br", "/items/coded"] {
        let refused = get(path).await;
        assert_eq!((refused.status, refused.reason()), (502, Some("upstream_unreachable")), "{path}");
    }
    let pairs = remit.log().pairs(5).await;
    assert_eq!((&pairs[1].outcome["outcome"], &pairs[1].outcome["scrubbed"]), (&"incomplete".into(), &1.into()));
}

#[tokio::test]
async fn a_redirect_takes_no_credential_to_another_host() {
    let lab = Lab::new("seen-redirect");
    let catalog = fs::read_to_string(lab.dir.join("catalog.yaml")).unwrap();
    fs::write(lab.dir.join("catalog.yaml"), catalog.replace(&format!("hosts: [{HOST}]"), &format!("hosts: [{HOST}, {OTHER}]"))).unwrap();
    let first = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |request| {
        let status = request.target().trim_start_matches("/items/").split('/').next().unwrap().to_owned();
        Do::Say(format!("HTTP/1.1 {status} Go\r\nLocation: https://{OTHER}/items/2?key={SECRET}\r\nContent-Length: 0\r\n\r\n").into_bytes())
    })
    .await;
    let second = Upstream::tls(lab.tls(OTHER, &[b"http/1.1"]), |_| Do::ok("here")).await;
    let mut settings = Settings::to(first.address);
    settings.resolve.push((OTHER.into(), second.address));
    let remit = lab.start(&settings);
    for status in ["301", "302", "303", "307", "308"] {
        let answer = agent::ask(&remit, agent::get(&format!("/items/{status}"))).await;
        assert_eq!(answer.status.to_string(), status, "Remit follows none");
        assert!(!everything(&answer).contains(SECRET));
        assert_eq!(first.take().unwrap().field("authorization"), Some(format!("Bearer {SECRET}")));
        // The agent follows as a client does: with what it thinks is its login.
        let inside = agent::connect(&remit, &format!("{OTHER}:443"), "").await;
        let mut conn = agent::shake(&remit, inside, OTHER, &[b"http/1.1"]).await;
        let to = answer.field("location").unwrap().trim_start_matches("https://").trim_start_matches(OTHER).to_owned();
        let followed = conn.ask(format!("GET {to} HTTP/1.1\r\nHost: {OTHER}\r\nAuthorization: Bearer placeholder\r\n\r\n")).await;
        assert_eq!(followed.status, 200, "{followed:?}");
        let arrived = second.take().unwrap();
        assert!(arrived.field("authorization").is_none() && !String::from_utf8_lossy(&arrived.head).contains(SECRET), "{arrived:?}");
    }
}

#[tokio::test]
async fn cookies_reach_the_agent_only_where_a_grant_returns_them() {
    let answer = |_: &support::Received| say("Set-Cookie: session=abc; Secure\r\nSet-Cookie: other=1\r\nX-Kept: yes\r\n", b"hello");
    let (_lab, _upstream, remit) = house("seen-cookies", &[], answer).await;
    let kept = agent::ask(&remit, agent::get("/items")).await;
    assert_eq!((kept.field("set-cookie"), kept.field("remit-withheld"), kept.field("x-kept")), (None, Some("cookies"), Some("yes")));
    assert_eq!(remit.log().only().await.outcome["withheld"], "cookies");
    assert_eq!(metric(&metrics(&remit).await, "remit_withheld_total{what=\"cookies\"}"), 1);

    let (_lab, _upstream, remit) = house("seen-cookies-granted", &["{intents: [example.items.list], returns: [cookies]}"], answer).await;
    let given = agent::ask(&remit, agent::get("/items")).await;
    assert_eq!(given.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie")).count(), 2, "{given:?}");
    assert_eq!((given.field("remit-withheld"), &remit.log().only().await.outcome["withheld"]), (None, &serde_json::Value::Null));
}

fn mint(request: &support::Received) -> Do {
    match request.target().as_str() {
        "/tokens" => say("Content-Type: application/json\r\nX-Subject-Token: abc\r\n", MINTED.as_bytes()),
        _ => say("Content-Type: application/json\r\n", OAUTH.as_bytes()),
    }
}

#[tokio::test]
async fn what_an_operation_mints_is_hidden_and_the_rest_of_its_answer_is_not() {
    let grants = ["{intents: [example.tokens.mint, example.oauth.exchange]}"];
    let (_lab, upstream, remit) = house("seen-minted", &grants, mint).await;
    let answer = agent::ask(&remit, agent::post("/tokens", "{\"name\":\"x\"}")).await;
    let json = answer.json();
    assert_eq!((&json["token"], &json["expires_at"]), (&"*".repeat(23).into(), &"2030-01-01T00:00:00Z".into()), "{}", answer.text());
    assert_eq!((&json["id"], &json["permissions"]["issues"]), (&7.into(), &"write".into()));
    assert_eq!((answer.body.len(), answer.field("x-subject-token"), answer.field("remit-withheld")), (MINTED.len(), None, Some("tokens")));
    // An endpoint that nobody labelled is known by its name.
    let answer = agent::ask(&remit, agent::post("/oauth/token", "grant_type=x")).await;
    assert_eq!((&answer.json()["access_token"], &answer.json()["scope"]), (&"*".repeat(23).into(), &"repo".into()));
    assert_eq!(upstream.take().unwrap().field("accept-encoding").as_deref(), Some("identity"));
    let pairs = remit.log().pairs(2).await;
    assert!(pairs.iter().all(|p| p.outcome["withheld"] == "tokens" && p.outcome["outcome"] == "complete"), "{pairs:#?}");
}

#[tokio::test]
async fn a_grant_returns_what_was_minted_and_says_so_on_the_record() {
    let grants = ["{intents: [example.tokens.mint], returns: [tokens]}"];
    let (_lab, _upstream, remit) = house("seen-returned", &grants, mint).await;
    let answer = agent::ask(&remit, agent::post("/tokens", "{\"name\":\"x\"}")).await;
    assert_eq!((answer.text().as_str(), answer.field("remit-withheld")), (MINTED, None));
    assert_eq!(remit.log().only().await.decision["returns"], serde_json::json!(["tokens"]));
}

#[tokio::test]
async fn minted_answers_of_no_known_form_are_withheld_whole_and_errors_are_not() {
    let (_lab, _upstream, remit) = house("seen-forms-unknown", &["{intents: [example.tokens.mint]}"], |request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        match body.as_str() {
            "{\"name\":\"text\"}" => say("Content-Type: text/plain\r\n", b"ex-9f8e7d6c5b4a"),
            "{\"name\":\"liar\"}" => say("Content-Type: application/json\r\n", b"ex-9f8e7d6c5b4a"),
            "{\"name\":\"packed\"}" => say("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", &gzip(MINTED)),
            _ => Do::Say(b"HTTP/1.1 422 No\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nbad name".to_vec()),
        }
    })
    .await;
    for (name, status, body) in [("text", 200, ""), ("packed", 200, ""), ("error", 422, "bad name")] {
        let answer = agent::ask(&remit, agent::post("/tokens", &format!("{{\"name\":\"{name}\"}}"))).await;
        assert_eq!((answer.status, answer.text().as_str(), answer.whole), (status, body, true), "{name}");
    }
    let liar = agent::ask(&remit, agent::post("/tokens", "{\"name\":\"liar\"}")).await;
    assert!(!liar.whole && !liar.text().contains("9f8e"), "{liar:?}");
}

#[tokio::test]
async fn what_comes_behind_an_upgrade_is_scrubbed_and_counted() {
    let (_lab, _upstream, remit) = house("seen-upgrade", &[], |_| {
        Do::Say(
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nyour key: {SECRET}.")
                .into_bytes(),
        )
    })
    .await;
    let mut conn = agent::tls(&remit).await;
    conn.send(format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")).await;
    assert_eq!(conn.head().await.unwrap().status, 101);
    let mut seen = std::mem::take(&mut conn.read);
    while !seen.ends_with(b".") {
        assert!(conn.stream.read_buf(&mut seen).await.unwrap() > 0);
    }
    let text = String::from_utf8_lossy(&seen).into_owned();
    assert!(text.starts_with("your key: ") && !text.contains(SECRET) && text.matches('*').count() >= SECRET.len() - 3, "{text}");
    drop(conn);
    assert_eq!(remit.log().only().await.outcome["scrubbed"], 1);
}
