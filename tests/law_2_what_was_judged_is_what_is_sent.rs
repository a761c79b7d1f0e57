//! Law 2: what was judged is what is sent. Whatever could be read in two ways is refused and does
//! not reach upstream; everything else arrives byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{cell::RefCell, time::Duration};

use proptest::{
    prelude::{Strategy, any},
    test_runner::{Config, TestCaseError, TestRunner},
};
use support::{Answer, Do, HOST, Lab, Remit, SECRET, Settings, Upstream, agent};
use tokio::io::AsyncReadExt as _;

/// Remit before an upstream that answers all, whoever is asked for.
async fn house(name: &str) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("hello")).await;
    let remit = lab.start(&Settings::to(upstream.address));
    (lab, upstream, remit)
}

/// How a request with two readings is turned away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// By a reason, and on the record.
    Reason(u16, &'static str),
    /// By the reader of bytes, which finds no request to record.
    Reader,
}

const AMBIGUOUS: By = By::Reason(400, "ambiguous_request");
const MISDIRECTED: By = By::Reason(421, "misdirected");

/// What is wrong with how a request was turned away.
fn fault(name: &str, answer: &Answer, by: By) -> Option<String> {
    let fits = match by {
        By::Reader => matches!(answer.status, 400 | 414 | 431 | 501 | 505),
        By::Reason(status, reason) => {
            let told = answer.json();
            let says = |key: &str| told[key].as_str().is_some_and(|text| !text.is_empty());
            (answer.status, answer.reason()) == (status, Some(reason))
                && answer.field("remit-decision").is_some_and(|d| d.starts_with("d-"))
                && says("detail")
                && says("next")
        }
    };
    (!fits).then(|| format!("{name}: wanted {by:?}, got {} {:?} {}", answer.line, answer.reason(), answer.text()))
}

fn check(name: &str, answer: &Answer, by: By) {
    assert_eq!(fault(name, answer, by), None);
}

/// Sends each case on a connection of its own and checks how it is turned away; that upstream was
/// never dialled; that each has its decision and outcome; and that a plain call then passes.
async fn refused(name: &str, cases: &[(&str, String, By)]) {
    let (_lab, upstream, remit) = house(name).await;
    let mut faults = vec![];
    for (name, request, by) in cases {
        faults.extend(fault(name, &agent::ask(&remit, request).await, *by));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let pairs = remit.log().pairs(cases.len()).await;
    assert!(pairs.iter().all(|p| p.decision["decision"] == "deny"), "{pairs:#?}");
    assert_eq!(upstream.opened(), 0);
    assert_eq!(agent::ask(&remit, agent::get("/items")).await.status, 200);
    assert_eq!(upstream.seen().len(), 1);
}

fn line(request: &str, fields: &str, body: &str) -> String {
    format!("{request} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n{body}")
}

#[tokio::test]
async fn messages_whose_end_has_two_readings_do_not_leave() {
    let post = |fields: &str, body: &str| line("PUT /blobs/1", fields, body);
    let chunked = "0\r\n\r\n";
    refused(
        "law2-framing",
        &[
            ("CL, TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunked), AMBIGUOUS),
            ("TE, CL", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunked), AMBIGUOUS),
            ("TE, CL 0", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", chunked), AMBIGUOUS),
            ("TE, cl in capitals", post("transfer-encoding: Chunked\r\nCONTENT-LENGTH: 5\r\n", chunked), AMBIGUOUS),
            ("TE twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked), AMBIGUOUS),
            ("TE: chunked, chunked", post("Transfer-Encoding: chunked, chunked\r\n", chunked), AMBIGUOUS),
            ("TE: gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", chunked), AMBIGUOUS),
            ("TE: identity, then chunked", post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", chunked), AMBIGUOUS),
            ("TE: gzip", post("Transfer-Encoding: gzip\r\n", chunked), By::Reader),
            ("TE: identity", post("Transfer-Encoding: identity\r\n", chunked), By::Reader),
            ("TE: chunked, gzip", post("Transfer-Encoding: chunked, gzip\r\n", chunked), By::Reader),
            ("TE: xchunked", post("Transfer-Encoding: xchunked\r\n", chunked), By::Reader),
            ("two CLs", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), By::Reader),
            ("CL list", post("Content-Length: 5, 6\r\n", "hello!"), By::Reader),
            ("CL +5", post("Content-Length: +5\r\n", "hello"), By::Reader),
            ("CL -5", post("Content-Length: -5\r\n", "hello"), By::Reader),
            ("CL 0x5", post("Content-Length: 0x5\r\n", "hello"), By::Reader),
            ("CL empty", post("Content-Length: \r\n", "hello"), By::Reader),
            ("CL too large", post("Content-Length: 99999999999999999999\r\n", "hello"), By::Reader),
            ("TE in HTTP/1.0", post("Transfer-Encoding: chunked\r\n", chunked).replace("HTTP/1.1", "HTTP/1.0"), By::Reader),
        ],
    )
    .await;
}

#[tokio::test]
async fn heads_with_two_readings_do_not_leave() {
    let get = |fields: &str| line("GET /items", fields, "");
    refused(
        "law2-heads",
        &[
            ("folded field", get("X-A: b\r\n  c\r\n"), By::Reader),
            ("field begins with space", get(" X-A: b\r\n"), By::Reader),
            ("bare CR in a value", get("X-A: b\rX-B: c\r\n"), By::Reader),
            ("NUL in a value", get("X-A: b\0c\r\n"), By::Reader),
            ("space before the colon", get("X-A : b\r\n"), By::Reader),
            ("no colon", get("X-A\r\n"), By::Reader),
            ("empty name", get(": b\r\n"), By::Reader),
            ("space in the target", line("GET /items /x", "", ""), By::Reader),
            ("two Hosts", get("Host: evil.example.test\r\n"), AMBIGUOUS),
            ("two equal Hosts", get(&format!("host: {HOST}\r\n")), AMBIGUOUS),
            ("no Host", "GET /items HTTP/1.1\r\n\r\n".into(), AMBIGUOUS),
            ("no Host in HTTP/1.0", "GET /items HTTP/1.0\r\n\r\n".into(), AMBIGUOUS),
            ("empty Host", "GET /items HTTP/1.1\r\nHost:\r\n\r\n".into(), AMBIGUOUS),
            ("Host with user", format!("GET /items HTTP/1.1\r\nHost: u@{HOST}\r\n\r\n"), AMBIGUOUS),
            ("Host with path", format!("GET /items HTTP/1.1\r\nHost: {HOST}/x\r\n\r\n"), AMBIGUOUS),
            ("Host list", format!("GET /items HTTP/1.1\r\nHost: {HOST}, evil.example.test\r\n\r\n"), AMBIGUOUS),
            ("Host with a port that is none", format!("GET /items HTTP/1.1\r\nHost: {HOST}:44x\r\n\r\n"), AMBIGUOUS),
            ("Host of another", "GET /items HTTP/1.1\r\nHost: evil.example.test\r\n\r\n".into(), MISDIRECTED),
            ("Host with another port", format!("GET /items HTTP/1.1\r\nHost: {HOST}:8443\r\n\r\n"), MISDIRECTED),
            ("target of another", line("GET https://evil.example.test/items", "", ""), MISDIRECTED),
            ("target with another scheme", line(&format!("GET http://{HOST}/items"), "", ""), MISDIRECTED),
            ("target with user", line(&format!("GET https://u@{HOST}/items"), "", ""), AMBIGUOUS),
            ("CONNECT inside CONNECT", format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n"), AMBIGUOUS),
            ("method override", get("X-HTTP-Method-Override: DELETE\r\n"), AMBIGUOUS),
            ("method override, short", get("X-HTTP-Method: DELETE\r\n"), AMBIGUOUS),
            ("path override", get("X-Original-URL: /admin\r\n"), AMBIGUOUS),
            ("method in the query", line("GET /items?_method=DELETE", "", ""), AMBIGUOUS),
            ("two upgrades", get("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"), AMBIGUOUS),
            ("upgrade nobody declared", get("Connection: upgrade\r\nUpgrade: websocket\r\n"), By::Reason(403, "unknown_operation")),
        ],
    )
    .await;
}

#[tokio::test]
async fn paths_and_queries_with_two_readings_do_not_leave() {
    let targets = [
        "/items/../admin",
        "/items/..",
        "/items/./7",
        "/items/%2e%2e/admin",
        "/items/%2E%2e",
        "/items/.%2e/x",
        "/items/..%2fadmin",
        "/items/%2e%2e%2fadmin",
        "/items/..;/admin",
        "/items/..;x=1/admin",
        "/items;v=1/7",
        "/items/7;x",
        "/items//7",
        "//items/7",
        "/items/7//",
        "/items\\7",
        "/items/..\\admin",
        "/items/%5c..%5cadmin",
        "/items/7%5C8",
        "/items/%00",
        "/items/7%00.png",
        "/items/%0d%0aX-A:b",
        "/items/%0a",
        "/items/%7f",
        "/items/%",
        "/items/%2",
        "/items/%zz",
        "/items/%c0%ae%c0%ae",
        "/items/%c0%af",
        "/items/%e0%80%af",
        "/items/%ed%a0%80",
        "/items/%ff",
        "/items/7%2f8",
        "/items/7%2F8",
        "/blobs/a%2Fb",
        "/items?x=%",
        "/items?x=%ff",
        "/items?page=1&page=2",
        "/items?page=1&PAGE=2",
        "/items?page=1&p%61ge=2",
        "/items?page[]=1",
        "/items?x=1;page=2",
        "/items/7?id=8",
        "/items/7?ID=8",
        "/items/7?id[]=8",
    ];
    let cases: Vec<_> = targets.iter().map(|t| (*t, line(&format!("GET {t}"), "", ""), AMBIGUOUS)).collect();
    refused("law2-paths", &cases).await;
}

#[tokio::test]
async fn bodies_with_two_readings_do_not_leave() {
    let mut cases = vec![];
    for body in [
        r#"{"title":"a","title":"b"}"#,
        r#"{"title":"a","title":"a"}"#,
        r#"{"title":"a","t\u0069tle":"b"}"#,
        r#"{"title":"a","Title":"b"}"#,
        r#"{"by":{"owner":"a","owner":"b"}}"#,
        r#"{"by":{"owner":"a"},"by":{"owner":"b"}}"#,
        r#"{"by":{"owner":"a","OWNER":"b"}}"#,
        r#"{"deep":[{"er":{"x":1,"x":2}}]}"#,
        r#"{"title":"a"}{"title":"b"}"#,
        r#"{"title":"a"} x"#,
        r#"{"title":"a","#,
        r#"{"title":"\ud800"}"#,
        r#"{"title":NaN}"#,
        r#"{'title':'a'}"#,
        r#"{"title":"a",}"#,
        r#"{"title":"a"/**/}"#,
        r#"{"_method":"DELETE"}"#,
        "\u{feff}{\"title\":\"a\"}",
        "title=a",
    ] {
        cases.push((body, agent::post("/items", body), AMBIGUOUS));
    }
    let json = "{\"title\":\"a\"}";
    let other = |kind: &str| agent::post("/items", json).replace("application/json", kind);
    cases.push(("title in query and body", agent::post("/items?title=b", json), AMBIGUOUS));
    cases.push(("id in path and body", agent::send("PUT", "/items/7", r#"{"title":"a","id":8}"#), AMBIGUOUS));
    cases.push(("id in path and undeclared body", agent::post("/items/7/comments", r#"{"id":"8"}"#), AMBIGUOUS));
    cases.push(("a form that names the id", agent::post("/items/7/comments", "id=8").replace("application/json", "text/plain"), AMBIGUOUS));
    cases.push(("UTF-16", other("application/json; charset=utf-16"), AMBIGUOUS));
    cases.push(("a form", other("application/x-www-form-urlencoded"), AMBIGUOUS));
    cases.push(("two Content-Types", other("application/json\r\nContent-Type: text/plain"), AMBIGUOUS));
    cases.push(("compressed", other("application/json\r\nContent-Encoding: gzip"), AMBIGUOUS));
    cases.push(("breaks off", line("POST /items", "Transfer-Encoding: chunked\r\n", "zz\r\n"), AMBIGUOUS));
    refused("law2-bodies", &cases).await;
}

#[tokio::test]
async fn names_that_disagree_do_not_leave() {
    let (_lab, upstream, remit) = house("law2-names").await;
    let get = |host: &str| format!("GET /items HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (connect, sni, host) in [
        (HOST, "evil.example.test", HOST),
        (HOST, "evil.example.test", "evil.example.test"),
        ("evil.example.test", HOST, HOST),
        ("evil.example.test", HOST, "evil.example.test"),
        ("evil.example.test", "evil.example.test", HOST),
    ] {
        let inside = agent::connect(&remit, &format!("{connect}:443"), "").await;
        let mut inside = agent::shake(&remit, inside, sni, &[b"http/1.1"]).await;
        check(&format!("CONNECT {connect}, SNI {sni}, Host {host}"), &inside.ask(get(host)).await, MISDIRECTED);
    }
    for (name, request) in [
        ("absolute form, another Host", format!("GET http://{HOST}/items HTTP/1.1\r\nHost: evil.example.test\r\n\r\n")),
        ("absolute form, another port", format!("GET http://{HOST}:8080/items HTTP/1.1\r\nHost: {HOST}\r\n\r\n")),
        ("absolute form with user", format!("GET http://u:p@{HOST}/items HTTP/1.1\r\nHost: {HOST}\r\n\r\n")),
        ("CONNECT, another Host", format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: evil.example.test:443\r\n\r\n")),
        ("CONNECT with user", format!("CONNECT u@{HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")),
        ("CONNECT without port", format!("CONNECT {HOST} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")),
    ] {
        check(name, &agent::tcp(&remit).await.ask(request).await, AMBIGUOUS);
    }
    let origin_form = agent::tcp(&remit).await.ask(get(HOST)).await;
    check("origin form to the proxy", &origin_form, MISDIRECTED);
    remit.log().pairs(12).await;
    assert_eq!(upstream.opened(), 0);
}

#[tokio::test]
async fn a_second_request_behind_the_first_is_judged_by_itself() {
    let (_lab, upstream, remit) = house("law2-pipelined").await;
    let mut conn = agent::tls(&remit).await;
    conn.send([agent::get("/items/1"), agent::send("DELETE", "/items/2", ""), agent::get("/items/3")].concat()).await;
    let answers = [conn.answer().await.unwrap(), conn.answer().await.unwrap(), conn.answer().await.unwrap()];
    assert_eq!(answers.each_ref().map(|a| a.status), [200, 403, 200]);
    assert_eq!(answers[1].reason(), Some("not_granted"));
    let seen: Vec<_> = upstream.seen().iter().map(|r| r.target()).collect();
    assert_eq!(seen, ["/items/1", "/items/3"]);

    // Hidden in a body, it is a body.
    let hidden = agent::get("/items/9");
    let put = format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len());
    assert_eq!(agent::ask(&remit, put).await.status, 200);
    assert_eq!(upstream.take().unwrap().body, hidden.as_bytes());
    remit.log().pairs(4).await;
}

#[tokio::test]
async fn the_rest_of_a_refused_request_is_not_a_request() {
    let (_lab, upstream, remit) = house("law2-rest").await;
    // A refused call's body comes late, looks like a head, and hides that the next has two lengths.
    let decoy = "GET / HTTP/1.1\r\n\r\n";
    let next = line("PUT /blobs/2", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n");
    for pause in [0, 1, 2, 5, 10] {
        let mut conn = agent::tls(&remit).await;
        conn.send(line("POST /nothing", &format!("Content-Length: {}\r\n", decoy.len()), "")).await;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        conn.send([decoy, &next].concat()).await;
        let first = conn.answer().await.unwrap();
        assert_eq!(first.reason(), Some("unknown_operation"));
        if let Some(second) = conn.answer().await {
            check("behind a refused body", &second, AMBIGUOUS);
        }
    }
    assert_eq!(upstream.opened(), 0);
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as HPACK writes them without a table (RFC 7541 §6.2.2).
fn hpack(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |t: &str| [&[u8::try_from(t.len()).unwrap()], t.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// Sends one request over HTTP/2; the kind of the frame that answers it, None when nothing does.
async fn h2(remit: &Remit, fields: &[(&str, &str)], data: Option<&[u8]>) -> Option<u8> {
    let inside = agent::connect(remit, &format!("{HOST}:443"), "").await;
    let mut conn = agent::shake(remit, inside, HOST, &[b"h2"]).await;
    assert_eq!(conn.stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    bytes.extend(frame(1, if data.is_some() { 4 } else { 5 }, 1, &hpack(fields)));
    if let Some(data) = data {
        bytes.extend(frame(0, 1, 1, data));
    }
    conn.send(bytes).await;
    loop {
        let mut head = [0; 9];
        let read = tokio::time::timeout(agent::PATIENCE, conn.stream.read_exact(&mut head)).await.expect("an answer in time");
        if read.is_err() {
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        conn.stream.read_exact(&mut payload).await.unwrap();
        let about = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        // HEADERS or RST_STREAM of the request, or GOAWAY.
        if (about == 1 && matches!(head[3], 1 | 3)) || head[3] == 7 {
            return Some(head[3]);
        }
    }
}

#[tokio::test]
async fn two_readings_in_http_2_do_not_leave() {
    let (_lab, upstream, remit) = house("law2-h2").await;
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/items")];
    let with = |more: &[(&'static str, &'static str)]| [&pseudo[..], more].concat();
    let but = |name: &str, value: &'static str| pseudo.map(|(n, v)| (n, if n == name { value } else { v })).to_vec();
    let without = |name: &str| pseudo.into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    for (name, fields) in [
        ("a capital in a name", with(&[("X-A", "b")])),
        ("another host", with(&[("host", "evil.example.test")])),
        ("two authorities", with(&[(":authority", "evil.example.test")])),
        ("two paths", with(&[(":path", "/admin")])),
        ("another authority", but(":authority", "evil.example.test")),
        ("a user in the authority", but(":authority", "u@api.example.test")),
        ("another scheme", but(":scheme", "http")),
        ("no path", without(":path")),
        ("empty path", but(":path", "")),
        ("a path without slash", but(":path", "items")),
        ("dots", but(":path", "/items/../admin")),
        ("no authority and no host", without(":authority")),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", HOST)]),
        ("connection", with(&[("connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te", with(&[("te", "gzip")])),
        ("line feed in a value", with(&[("x-a", "b\r\nx-c: d")])),
        ("space in a name", with(&[("x a", "b")])),
        ("pseudo field behind others", with(&[("x-a", "b"), (":path", "/admin")])),
        ("unknown pseudo field", with(&[(":protocol", "websocket")])),
    ] {
        h2(&remit, &fields, None).await;
        assert_eq!(upstream.opened(), 0, "{name}");
    }
    let post = [(":method", "PUT"), (":scheme", "https"), (":authority", HOST), (":path", "/items/7")];
    for length in ["4", "99", "x", "5, 6"] {
        let fields = [&post[..], &[("content-type", "application/json"), ("content-length", length)]].concat();
        h2(&remit, &fields, Some(b"{ }  ")).await;
        assert_eq!(upstream.opened(), 0, "length {length}");
    }
    assert_eq!(h2(&remit, &pseudo, None).await, Some(1));
    assert_eq!(upstream.seen().len(), 1);
}

/// A request that is allowed, and what of it must arrive.
#[derive(Debug, Clone)]
struct Allowed {
    method: &'static str,
    target: String,
    body: Option<String>,
    chunked: bool,
    fields: Vec<(String, Vec<u8>)>,
}

impl Allowed {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: {HOST}\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        let Some(body) = &self.body else {
            bytes.extend_from_slice(b"\r\n");
            return bytes;
        };
        bytes.extend_from_slice(b"Content-Type: application/json\r\n");
        if self.chunked {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in body.as_bytes().chunks(7) {
                bytes.extend_from_slice(format!("{:X};ext=1\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
        bytes
    }
}

fn allowed() -> impl Strategy<Value = Allowed> {
    let character = "[A-Za-z0-9._~!$&'()*+,=:@-]|%(20|25|3[bBfF]|40|c3%a9|E2%82%AC|f0%9f%98%80)";
    let segment =
        proptest::collection::vec(character, 1..8).prop_map(|c| c.concat()).prop_filter("a dot segment", |s| *s != "." && *s != "..");
    let query = proptest::option::of(proptest::collection::vec("q[0-9]{1,3}(=([A-Za-z0-9/?:@!$'()*+,._~-]|%20|%26|%3D){0,9})?", 0..4));
    let field = ("x-case-[a-z]{1,6}", proptest::collection::vec(0x21u8..=0xff, 1..20));
    let fields = proptest::collection::vec(field, 0..4).prop_map(|all| {
        // DEL is the one octet of these that no value may hold.
        all.into_iter().map(|(n, v)| (n, v.into_iter().filter(|b| *b != 0x7f).chain([b'.']).collect())).collect()
    });
    let title = any::<String>().prop_map(|t| serde_json::json!({"title": t, "more": [1, {"x": null}]}).to_string());
    let spaces = "[ \t\r\n]{0,3}";
    let body = (spaces, title, spaces).prop_map(|(a, b, c)| [a, b, c].concat());
    (0..4u8, segment, query, body, any::<bool>(), fields).prop_map(|(which, segment, query, body, chunked, fields)| {
        let (method, path) = match which {
            0 => ("GET", format!("/items/{segment}")),
            1 => ("POST", "/items".into()),
            2 => ("PUT", format!("/items/{segment}")),
            _ => ("GET", format!("/files/{segment}%2Fa%2f{segment}")),
        };
        let target = query.map_or_else(|| path.clone(), |q: Vec<String>| format!("{path}?{}", q.join("&")));
        Allowed { method, target, body: (method != "GET").then_some(body), chunked, fields }
    })
}

#[test]
fn what_is_allowed_arrives_byte_for_byte() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_lab, upstream, remit) = runtime.block_on(house("law2-arrives"));
    let conn = RefCell::new(runtime.block_on(agent::tls(&remit)));
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let done = runner.run(&allowed(), |case| {
        let mut open = conn.borrow_mut();
        let answer = runtime.block_on(open.ask(case.bytes()));
        drop(open);
        if answer.status != 200 {
            // A refused body may take the connection with it.
            *conn.borrow_mut() = runtime.block_on(agent::tls(&remit));
            return Err(TestCaseError::fail(format!("{answer:?}")));
        }
        let arrived = upstream.take().unwrap();
        assert_eq!(arrived.line(), format!("{} {} HTTP/1.1", case.method, case.target));
        assert_eq!(arrived.body, case.body.clone().unwrap_or_default().as_bytes());
        for (name, value) in &case.fields {
            let sent = [name.as_bytes(), b": ", value, b"\r\n"].concat();
            assert!(memchr::memmem::find(&arrived.head, &sent).is_some(), "{name} in {:?}", String::from_utf8_lossy(&arrived.head));
        }
        Ok(())
    });
    done.unwrap();
}

#[tokio::test]
async fn only_what_is_for_upstream_arrives() {
    let (_lab, upstream, remit) = house("law2-hygiene").await;
    let (_, handle) = remit.task(&[]);
    let fields = "Accept: */*\r\nX-Trace: t1\r\nX-Trace: t2\r\nConnection: keep-alive, X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
                  Proxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: x-sum\r\nRemit-Anything: 1\r\nCookie: session=1\r\n\
                  Authorization: Bearer mine\r\nX-Api-Key: mine\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nExpect: 100-continue\r\n";
    let fields = format!("{fields}Proxy-Authorization: Bearer {handle}\r\nRemit-Task: {handle}\r\n");
    let mut conn = agent::tls_as(&remit, &handle).await;
    let answer = conn.ask(line("GET /items", &fields, "")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let arrived = upstream.take().unwrap();
    let mut found: Vec<String> = arrived.fields().iter().map(|(n, v)| format!("{n}: {v}")).collect();
    found.sort();
    let want = [
        "accept-encoding: identity".to_owned(),
        "accept: */*".into(),
        format!("authorization: Bearer {SECRET}"),
        format!("host: {HOST}"),
        "te: trailers".into(),
        "x-trace: t1".into(),
        "x-trace: t2".into(),
    ];
    let found: Vec<_> = found.into_iter().filter(|f| !f.starts_with("trailer:")).collect();
    assert_eq!(found, want, "{}", String::from_utf8_lossy(&arrived.head));
}

#[tokio::test]
async fn lax_spellings_leave_in_the_one_strict_form() {
    let (_lab, upstream, remit) = house("law2-lax").await;
    for (name, request, line) in [
        ("line feeds", format!("GET /items/1 HTTP/1.1\nHost: {HOST}\nX-A: b\n\n"), "GET /items/1 HTTP/1.1"),
        ("lines before", format!("\r\n\r\nGET /items/2 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), "GET /items/2 HTTP/1.1"),
        ("absolute form", format!("GET https://{HOST}/items/3 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), "GET /items/3 HTTP/1.1"),
        ("port said", format!("GET /items/4 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n"), "GET /items/4 HTTP/1.1"),
        ("case of the host", format!("GET /items/5 HTTP/1.1\r\nHost: {}\r\n\r\n", HOST.to_uppercase()), "GET /items/5 HTTP/1.1"),
        ("HTTP/1.0", format!("GET /items/6 HTTP/1.0\r\nHost: {HOST}\r\n\r\n"), "GET /items/6 HTTP/1.1"),
        ("a fragment", format!("GET /items/7#x HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), "GET /items/7 HTTP/1.1"),
    ] {
        let answer = agent::ask(&remit, request).await;
        let Some(arrived) = upstream.take() else {
            assert_eq!(answer.status, 400, "{name}: {answer:?}");
            continue;
        };
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(arrived.line(), line, "{name}");
        assert_eq!(arrived.field("host").as_deref(), Some(HOST), "{name}");
        let heads = String::from_utf8(arrived.head).unwrap();
        assert!(heads.ends_with("\r\n\r\n") && !heads.replace("\r\n", "").contains(['\r', '\n']), "{name}: {heads:?}");
    }
    // Two equal lengths are one (RFC 9112 §6.3), or none.
    let twice = line("PUT /blobs/1", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello");
    if agent::ask(&remit, twice).await.status == 200 {
        let arrived = upstream.take().unwrap();
        assert_eq!(
            arrived.fields().iter().filter(|(n, _)| n == "content-length").count(),
            1,
            "{:?}",
            String::from_utf8_lossy(&arrived.head)
        );
    }
}
