//! Calls whose request side is open are decided again: when their task touches something new, when
//! the rules change; and what a task did before decides what it may do next.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::time::Duration;

use support::{Conn, Do, HOST, Lab, Remit, Settings, Upstream, agent, web};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const TUNNEL: &str = "tunnel.example.test";

/// What has read the list of items may not send any more.
const AFTER_UNTRUSTED: &str = r#"package remit.guardrails.open

sends := {"example.blobs.put", "example.socket.open", "tunnel"}

deny contains "what read untrusted content sends nothing" if {
	"untrusted-content" in input.task.labels
	input.intent.id in sends
}

label contains "untrusted-content" if input.intent.id == "example.items.list"
"#;

async fn house(name: &str, policy: &str) -> (Lab, Upstream, Settings, Remit) {
    let lab = Lab::new(name);
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |request| match request.target().as_str() {
        "/events" => Do::Hang(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec()),
        "/socket" => Do::Hang(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()),
        "/items/0" => Do::Say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ => Do::ok("hello"),
    })
    .await;
    let raw = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = Settings::to(upstream.address);
    settings.resolve.push((TUNNEL.into(), raw.local_addr().unwrap()));
    settings.grants.push(format!("{{intents: [tunnel], where: {{host: {TUNNEL}}}}}"));
    settings.tunnel = "[tunnel.example.test]";
    settings.more = "policies: {paths: [rails]}".into();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = raw.accept().await {
            tokio::spawn(async move {
                tcp.write_all(b"hello").await.unwrap();
                let _ = tcp.read_to_end(&mut vec![]).await;
            });
        }
    });
    rail(&lab, policy);
    let remit = lab.start(&settings);
    (lab, upstream, settings, remit)
}

fn rail(lab: &Lab, policy: &str) {
    std::fs::create_dir_all(lab.dir.join("rails")).unwrap();
    std::fs::write(lab.dir.join("rails/open.rego"), policy).unwrap();
}

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: api.example.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// One of each kind of a task.
struct Open {
    events: Conn<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
    socket: Conn<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
    upload: Conn<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
    tunnel: Conn<tokio::net::TcpStream>,
}

impl Open {
    async fn of(remit: &Remit, handle: &str) -> Self {
        let mut events = agent::tls_as(remit, handle).await;
        events.send(agent::get("/events")).await;
        assert_eq!(events.head().await.unwrap().status, 200);
        let mut socket = agent::tls_as(remit, handle).await;
        assert_eq!(socket.ask(UPGRADE).await.status, 101);
        let mut tunnel = agent::connect(remit, &format!("{TUNNEL}:443"), &format!("Proxy-Authorization: Bearer {handle}\r\n")).await;
        assert_eq!(support::chunks::exactly(&mut tunnel.stream, &mut tunnel.read, 5).await.unwrap(), b"hello");
        let mut upload = agent::tls_as(remit, handle).await;
        upload.send(format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nhalf of it")).await;
        Self { events, socket, upload, tunnel }
    }

    /// What sends is closed, with its reason; what only listens is not.
    async fn are_closed(mut self, reason: &str) {
        let answer = self.upload.answer().await.unwrap();
        assert_eq!(answer.reason(), Some(reason), "{answer:?}");
        assert!(cut(&mut self.socket).await && cut(&mut self.tunnel).await);
        assert!(!cut(&mut self.events).await, "nothing more is asked for there");
    }

    async fn are_open(&mut self) {
        assert!(!cut(&mut self.socket).await && !cut(&mut self.tunnel).await && !cut(&mut self.upload).await);
    }
}

/// Whether the other side ends it within a second.
async fn cut<S: AsyncRead + Unpin>(conn: &mut Conn<S>) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_millis(700), conn.stream.read_to_end(&mut rest)).await.is_ok()
}

/// The events of one name that are on record.
fn events(remit: &Remit, name: &str) -> Vec<serde_json::Value> {
    remit.log().of_kind("event").into_iter().filter(|e| e["event"] == name).map(|e| e["data"].clone()).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

async fn recorded(remit: &Remit, decisions: usize) {
    until("the decisions", || remit.log().of_kind("decision").len() >= decisions).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_new_label_closes_what_is_no_longer_allowed_before_its_answer_is_seen() {
    let (_lab, upstream, _, remit) = house("open-label", AFTER_UNTRUSTED).await;
    let ((id, handle), (_, other)) = (remit.task(&[]), remit.task(&[]));
    let (open, mut spared) = (Open::of(&remit, &handle).await, Open::of(&remit, &other).await);
    recorded(&remit, 8).await;
    assert_eq!(agent::tls_as(&remit, &handle).await.ask(agent::get("/items/7")).await.status, 200);
    assert!(events(&remit, "closed").is_empty(), "that touched nothing");
    assert_eq!(agent::tls_as(&remit, &handle).await.ask(agent::get("/items")).await.status, 200);
    // Before the answer was there they were gone, and are on record.
    until("the events", || events(&remit, "closed").len() >= 3).await;
    let closed = events(&remit, "closed");
    assert_eq!(closed.len(), 3, "{closed:?}");
    for event in &closed {
        assert_eq!((&event["because"], &event["reason"], &event["task"]), (&"labels".into(), &"guardrail".into(), &id.as_str().into()));
        assert_eq!(event["reasons"][0], "what read untrusted content sends nothing");
    }
    open.are_closed("guardrail").await;
    spared.are_open().await;
    let again = agent::tls_as(&remit, &handle).await.ask(agent::send("PUT", "/blobs/2", "x")).await;
    assert_eq!(again.reason(), Some("guardrail"));
    drop(spared);
    let pairs = remit.log().pairs(11).await;
    let ours = |call: &&support::log::Pair| call.decision["task"] == *id && call.decision["decision"] == "allow";
    let reasons: Vec<_> = pairs.iter().filter(ours).map(|p| p.outcome["reason"].as_str().unwrap_or("-").to_owned()).collect();
    assert_eq!(reasons.iter().filter(|r| *r == "guardrail").count(), 3, "{reasons:?}");
    assert!(upstream.seen().iter().all(|r| r.target() != "/blobs/2"));
    remit.log().verify();
}

#[tokio::test]
async fn new_rules_close_what_they_do_not_allow_and_leave_the_rest() {
    let (lab, _upstream, _, remit) = house("open-rules", "package remit.guardrails.open\n").await;
    let (_, handle) = remit.task(&[]);
    let mut open = Open::of(&remit, &handle).await;
    recorded(&remit, 4).await;
    let reloads = || events(&remit, "reload").len();
    rail(&lab, "package remit.guardrails.open\n\ndeny contains \"no\" if input.intent.id == \"example.items.remove\"\n");
    until("a reload", || reloads() >= 1).await;
    open.are_open().await;
    rail(
        &lab,
        "package remit.guardrails.open\n\nimport rego.v1\n\ndeny contains \"no sending\" if input.intent.id in {\"example.blobs.put\", \"example.socket.open\", \"tunnel\"}\n",
    );
    until("a reload", || reloads() >= 2).await;
    open.are_closed("guardrail").await;
    assert!(events(&remit, "closed").iter().all(|e| e["because"] == "rules"));
}

#[tokio::test]
async fn a_stream_that_goes_both_ways_over_h2_is_closed_by_what_its_task_touches() {
    let lab = Lab::new("open-h2");
    let address = web::serve(lab.tls(HOST, &[b"h2"]), |request| async move {
        if request.uri().path() != "/blobs/1" {
            return http::Response::new(web::full("hello"));
        }
        // An answer that begins at once, and goes on as long as the request.
        http::Response::new(http_body_util::BodyExt::boxed_unsync(http_body_util::BodyExt::map_err(
            request.into_body(),
            std::io::Error::other,
        )))
    })
    .await;
    rail(&lab, AFTER_UNTRUSTED);
    let remit = lab.start(&Settings { more: "policies: {paths: [rails]}".into(), ..Settings::to(address) });
    let (_, handle) = remit.task(&[]);
    let inside = agent::connect(&remit, &format!("{HOST}:443"), &format!("Proxy-Authorization: Bearer {handle}\r\n")).await;
    let io = hyper_util::rt::TokioIo::new(agent::shake(&remit, inside, HOST, &[b"h2"]).await.stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, web::Body>(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let (frames, body) = web::piped();
    let both = sender.send_request(http::Request::put(format!("https://{HOST}/blobs/1")).body(body).unwrap());
    frames.send(web::data("one")).await.unwrap();
    let mut both = both.await.unwrap().into_body();
    let first = http_body_util::BodyExt::frame(&mut both).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "one");
    let items = http::Request::get(format!("https://{HOST}/items")).body(web::full("")).unwrap();
    assert_eq!(sender.send_request(items).await.unwrap().status(), 200, "the connection goes on");
    let rest = tokio::time::timeout(Duration::from_secs(5), http_body_util::BodyExt::collect(both)).await.unwrap();
    assert!(rest.is_err(), "the stream was reset");
    let pairs = remit.log().pairs(2).await;
    assert!(pairs.iter().any(|p| p.outcome["reason"] == "guardrail"), "{pairs:?}");
}

#[tokio::test]
async fn one_thing_may_be_done_only_after_another_succeeded() {
    let (_lab, upstream, _, remit) = house(
        "open-after",
        r#"package remit.guardrails.order

deny contains "look at an item before you create one" if {
	input.intent.id == "example.items.create"
	not "example.items.get" in input.task.succeeded
}
"#,
    )
    .await;
    let ((_, handle), (_, other)) = (remit.task(&[]), remit.task(&[]));
    let mut conn = agent::tls_as(&remit, &handle).await;
    let create = || agent::post("/items", "{}");
    assert_eq!(conn.ask(create()).await.reason(), Some("guardrail"));
    assert_eq!(conn.ask(agent::get("/items/0")).await.status, 404);
    assert_eq!(conn.ask(create()).await.reason(), Some("guardrail"), "that was no success");
    assert_eq!(conn.ask(agent::get("/items/7")).await.status, 200);
    assert_eq!(conn.ask(create()).await.status, 200);
    assert_eq!(conn.ask(create()).await.status, 200);
    let theirs = agent::tls_as(&remit, &other).await.ask(create()).await;
    assert_eq!(theirs.reason(), Some("guardrail"), "another task has done nothing yet");
    assert_eq!(upstream.seen().len(), 4);
}
