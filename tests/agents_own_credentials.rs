//! What an agent sends of its own, or of somebody else's: no credential of it reaches upstream, wherever it
//! stands, and a configured secret that an agent sends is reported as leaked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{fs, io::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use support::{Do, HOST, Lab, Remit, SECRET, Settings, Upstream, agent};

const TOKEN: &str = "ghp_R4nd0mLook1ngT0kenOf36Charactersab12";
/// A credential of another tenant, configured for another host.
const TENANT: &str = "other-tenants-key-71c2d905aa";

async fn house(name: &str) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let settings = Settings::to(upstream.address);
    lab.write(&settings);
    fs::write(lab.dir.join("tenant.txt"), TENANT).unwrap();
    let other =
        "credentials:\n  tenant: {kind: static, hosts: [tenant.example.test], secret: {file: tenant.txt}, inject: {header: X-Api-Key}}\n";
    fs::write(lab.dir.join("remit.yaml"), settings.yaml().replace("credentials:\n", other)).unwrap();
    let remit = Remit::start(&lab.dir);
    (lab, upstream, remit)
}

/// Nothing that Remit wrote shows `secret`.
fn written_nowhere(remit: &Remit, secret: &str) {
    let mut files = vec![remit.dir.join("audit")];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            let text = fs::read(&path).unwrap();
            assert!(memchr::memmem::find(&text, secret.as_bytes()).is_none(), "{}", path.display());
        }
    }
    assert!(!remit.printed().contains(secret));
}

#[tokio::test]
async fn fields_that_carry_a_credential_are_dropped_and_the_right_one_is_there() {
    let (_lab, upstream, remit) = house("own-fields").await;
    let aws = "AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER00000/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=abc123";
    for (name, value) in [
        ("Authorization", "Bearer mine-mine-mine"),
        ("Authorization", "Basic bWU6bWluZQ=="),
        ("authorization", aws),
        ("Cookie", "session=mine; other=1"),
        ("X-Amz-Security-Token", "FwoGZXIvYXdzEMine"),
        ("Signature", "sig1=:bWluZQ==:"),
        ("Signature-Input", "sig1=(\"@method\");keyid=\"mine\""),
        ("X-Api-Key", "mine"),
        ("X-Acme-Api-Key", "mine"),
        ("X-Vault-Token", "mine"),
        ("Private-Token", "mine"),
        ("DPoP", "mine"),
        ("Client-Cert", ":bWluZQ==:"),
        ("X-Serverless-Authorization", "Bearer mine"),
        ("CF-Access-Client-Secret", "mine"),
    ] {
        let answer = agent::ask(&remit, format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\n{name}: {value}\r\nX-Kept: 1\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let arrived = upstream.take().unwrap();
        assert_eq!(
            (arrived.field("authorization"), arrived.field("x-kept")),
            (Some(format!("Bearer {SECRET}")), Some("1".into())),
            "{name}"
        );
        assert!(name.eq_ignore_ascii_case("authorization") || arrived.field(name).is_none(), "{name} reached upstream");
        assert!(!String::from_utf8_lossy(&arrived.head).contains(value), "{name}");
    }
    // Also when `Connection` names the fields that tell where a message ends, and when one is sent twice.
    let twice = format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\nConnection: authorization\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n");
    assert_eq!(agent::ask(&remit, twice).await.status, 200);
    let arrived = upstream.take().unwrap();
    let sent: Vec<_> = arrived.fields().into_iter().filter(|(n, _)| n.eq_ignore_ascii_case("authorization")).collect();
    assert_eq!(sent, [("authorization".to_owned(), format!("Bearer {SECRET}"))]);
}

#[tokio::test]
async fn parameters_that_carry_a_credential_are_refused_and_not_written_down() {
    let (_lab, upstream, remit) = house("own-query").await;
    let value = "mine-mine-mine-4711";
    for name in [
        "access_token",
        "Access_Token",
        "api_key",
        "apikey",
        "client_secret",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "X-Goog-Signature",
        "%61ccess_token",
        "private_token",
        "password",
        "oauth_signature",
        "jwt",
        "secret",
        "x-api-key",
    ] {
        let answer = agent::ask(&remit, agent::get(&format!("/items?page=1&{name}={value}"))).await;
        assert_eq!((answer.status, answer.reason()), (403, Some("foreign_credential")), "{name}");
        assert!(!answer.text().contains(value) && answer.text().contains("the query parameter"), "{}", answer.text());
    }
    let presigned = format!("/items?sv=2024-01-01&se=2030&sig={value}");
    assert_eq!(agent::ask(&remit, agent::get(&presigned)).await.reason(), Some("foreign_credential"));
    assert!(upstream.seen().is_empty());
    remit.log().pairs(17).await;
    written_nowhere(&remit, value);
}

#[tokio::test]
async fn another_tenants_key_is_found_wherever_it_stands_in_whatever_form() {
    let (_lab, upstream, remit) = house("own-tenant").await;
    let hex: String = TENANT.bytes().map(|b| format!("{b:02x}")).collect();
    let basic = STANDARD.encode(format!("me:{TENANT}"));
    let field = |name: &str, value: &str| format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\n{name}: {value}\r\n\r\n");
    let asked = [
        field("Authorization", &format!("Bearer {TENANT}")),
        field("Authorization", &format!("Basic {basic}")),
        field("X-Api-Key", TENANT),
        field("X-Note", &hex),
        field("Cookie", &format!("a=1; b={TENANT}")),
        field("Accept", &format!("text/plain;q={TENANT}")),
        field("User-Agent", &format!("tool/{TENANT}")),
        agent::get(&format!("/items/{TENANT}")),
        agent::get(&format!("/items?page={TENANT}")),
        agent::post("/items", &format!("{{\"title\":\"see {TENANT}\"}}")),
        agent::post("/items", &format!("{{\"title\":\"see {basic}\"}}")),
    ];
    let calls = asked.len();
    for request in asked {
        let answer = agent::ask(&remit, &request).await;
        assert_eq!((answer.status, answer.reason()), (403, Some("foreign_credential")), "{request}");
        assert!(answer.text().contains("leaked") && !answer.text().contains(TENANT), "{}", answer.text());
    }
    assert!(upstream.seen().is_empty());
    remit.log().pairs(calls).await;
    for secret in [TENANT, &hex, &basic] {
        written_nowhere(&remit, secret);
    }
}

/// A request body in chunks.
fn chunked(fields: &str, pieces: &[&[u8]], trailers: &str) -> Vec<Vec<u8>> {
    let head = format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n{fields}\r\n").into_bytes();
    let chunk = |p: &&[u8]| [format!("{:x}\r\n", p.len()).as_bytes(), p, b"\r\n"].concat();
    let end = format!("0\r\n{trailers}\r\n").into_bytes();
    [head].into_iter().chain(pieces.iter().map(chunk)).chain([end]).collect()
}

async fn put(remit: &Remit, pieces: Vec<Vec<u8>>) -> support::Answer {
    let mut conn = agent::tls(remit).await;
    for piece in pieces {
        conn.send(piece).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    conn.answer().await.unwrap()
}

#[tokio::test]
async fn a_body_that_streams_is_stopped_before_a_secret_is_whole() {
    let (_lab, upstream, remit) = house("own-streams").await;
    let gzip = |text: String| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let basic = STANDARD.encode(format!("me:{TENANT}"));
    let (packed, packed_own) = (gzip(format!("a lot of text {TENANT} and more")), gzip(format!("a lot of text {SECRET}")));
    let cut = |text: &'static str| [&text.as_bytes()[..9], &text.as_bytes()[9..]];
    let bodies: Vec<(&str, Vec<&[u8]>)> = vec![
        ("", vec![b"text ", TOKEN.as_bytes(), b" text"]),
        ("", [&[&b"text "[..]][..], &cut(TOKEN), &[b" text"]].concat()),
        ("", [&cut(TENANT)[..], &[b" text"]].concat()),
        ("", vec![b"at the very end ", SECRET.as_bytes()]),
        ("", vec![b"{\"auth\":\"", basic.as_bytes(), b"\"}"]),
        ("Content-Encoding: gzip\r\n", vec![&packed[..20], &packed[20..]]),
        ("Content-Encoding: gzip\r\n", vec![&packed_own]),
    ];
    for (fields, pieces) in &bodies {
        let answer = put(&remit, chunked(fields, pieces, "")).await;
        assert_eq!((answer.status, answer.reason()), (403, Some("foreign_credential")), "{pieces:?}: {}", answer.text());
    }
    let arrived: Vec<u8> = upstream.seen().iter().flat_map(|r| [r.head.clone(), r.body.clone()].concat()).collect();
    for secret in [TOKEN, TENANT, &basic] {
        assert!(memchr::memmem::find(&arrived, secret.as_bytes()).is_none(), "{secret} reached upstream");
    }
    assert!(upstream.seen().iter().all(|r| !r.whole || r.body.is_empty()), "none was taken for whole");
    let pairs = remit.log().pairs(bodies.len()).await;
    assert!(pairs.iter().all(|p| p.decision["decision"] == "allow" && p.outcome["reason"] == "foreign_credential"), "{pairs:#?}");
    for secret in [TOKEN, TENANT, SECRET, &basic] {
        written_nowhere(&remit, secret);
    }
}

#[tokio::test]
async fn a_body_that_streams_and_holds_none_arrives_as_it_was() {
    let (_lab, upstream, remit) = house("own-clean").await;
    let pieces: [&[u8]; 5] = [b"text ghp_R4nd0m", b" and sk-", b"learn \xff\xfe", b"eyJhbGciOiJIUzI1NiJ9.", b"-----BEGIN "];
    let answer = put(&remit, chunked("", &pieces, "X-Sum: 42\r\nAuthorization: Bearer mine\r\nX-Amz-Security-Token: mine\r\n")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let arrived = upstream.take().unwrap();
    assert_eq!((arrived.body, arrived.whole), (pieces.concat(), true));
    assert!(
        arrived.trailers.iter().all(|(n, _)| !n.eq_ignore_ascii_case("authorization") && !n.eq_ignore_ascii_case("x-amz-security-token"))
    );
    // With its length known, too.
    let body = pieces.concat();
    let head = format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    assert_eq!(put(&remit, vec![head, body[..7].to_vec(), body[7..].to_vec()]).await.status, 200);
    assert_eq!(upstream.take().unwrap().body, body);
    let pairs = remit.log().pairs(2).await;
    assert!(pairs.iter().all(|p| p.outcome["bytes_up"] == body.len() as u64 && p.outcome["body_sha256"].is_string()), "{pairs:#?}");
}
