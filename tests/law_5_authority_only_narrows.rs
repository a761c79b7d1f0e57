//! Law 5: authority only narrows: down to a task's own grants, and over time to nothing; and its
//! end reaches what is already open.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::time::{Duration, Instant};

use support::{Conn, Do, HOST, Lab, Remit, Settings, Upstream, agent, web};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

async fn house(name: &str, vary: impl FnOnce(&mut Settings)) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |request| match request.target().as_str() {
        "/events" => Do::Hang(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec()),
        "/socket" => Do::Hang(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()),
        "/items/wait" => Do::Hang(vec![]),
        _ => Do::ok("hello"),
    })
    .await;
    let mut settings = Settings::to(upstream.address);
    vary(&mut settings);
    let remit = lab.start(&settings);
    (lab, upstream, remit)
}

#[tokio::test]
async fn a_task_can_do_no_more_than_its_grants_and_its_workflow() {
    let (_lab, upstream, remit) = house("law5-narrow", |_| ()).await;
    let (_, wide) = remit.task(&[]);
    let (_, reads) = remit.task(&["--grant", r#"{"effects": ["read"]}"#]);
    let (_, seven) = remit.task(&["--grant", r#"{"intents": ["example.items.get"], "where": {"id": ["7", "8*"]}}"#]);
    let (_, once) = remit.task(&["--grant", r#"{"intents": ["example.items.get"], "limit": {"calls": 1, "per": "task"}}"#]);
    let (get7, get9, get81) = (agent::get("/items/7"), agent::get("/items/9"), agent::get("/items/81"));
    let (post, delete) = (agent::post("/items", "{}"), agent::send("DELETE", "/items/7", ""));
    for (name, handle, request, want) in [
        ("wide", &wide, &post, None),
        ("wide", &wide, &delete, Some("not_granted")),
        ("reads", &reads, &get9, None),
        ("reads", &reads, &post, Some("not_granted")),
        ("seven", &seven, &get7, None),
        ("seven", &seven, &get81, None),
        ("seven", &seven, &get9, Some("not_granted")),
        ("seven", &seven, &post, Some("not_granted")),
        ("once", &once, &get7, None),
        ("once", &once, &get9, Some("limit_exceeded")),
        ("once", &once, &post, Some("not_granted")),
        // Who is wider is not narrowed by who was narrow on the cache's key.
        ("wide", &wide, &get9, None),
    ] {
        let answer = agent::tls_as(&remit, handle).await.ask(request).await;
        assert_eq!(answer.reason(), want, "{name}: {request}: {}", answer.text());
    }
    assert_eq!(upstream.seen().len(), 6);
    remit.log().pairs(12).await;
}

#[tokio::test]
async fn no_task_begins_with_more_than_its_workflow() {
    let (_lab, _upstream, remit) = house("law5-wider", |s| {
        s.grants = vec!["{intents: [example.items.*], effects: [read], where: {id: [\"7\", \"8\"]}, limit: {calls: 3, per: task}}".into()];
    })
    .await;
    let start = ["task", "start", "--agent", "tester", "--workflow", "work", "--for", "alice@example.test"];
    for (why, more) in [
        ("another operation", &["--grant", r#"{"intents": ["example.files.get"]}"#][..]),
        ("another effect", &["--grant", r#"{"intents": ["example.items.create"], "effects": ["write"]}"#]),
        ("all operations", &["--grant", r#"{"intents": ["*"]}"#]),
        ("another value", &["--grant", r#"{"where": {"id": "9"}}"#]),
        ("a prefix", &["--grant", r#"{"where": {"id": "7*"}}"#]),
        ("a higher limit", &["--grant", r#"{"limit": {"calls": 4, "per": "task"}}"#]),
        ("another credential", &["--grant", r#"{"credential": "example"}"#]),
        ("a longer life", &["--lifetime", "11m"]),
        ("no life", &["--lifetime", "0s"]),
    ] {
        let (code, out) = remit.command(&[&start[..], more].concat());
        assert_eq!(code, Some(1), "{why}: {out}");
    }
    for who in [["nobody", "work"], ["tester", "nothing"]] {
        let (code, out) = remit.command(&["task", "start", "--agent", who[0], "--workflow", who[1], "--for", "alice@example.test"]);
        assert_eq!(code, Some(1), "{who:?}: {out}");
    }
    assert!(remit.log().of_kind("task").is_empty());
}

#[tokio::test]
async fn a_task_ends_by_itself_with_what_it_has_open() {
    let (_lab, upstream, remit) = house("law5-expiry", |_| ()).await;
    let began = Instant::now();
    let (id, handle) = remit.task(&["--lifetime", "2s"]);
    let mut stream = agent::tls_as(&remit, &handle).await;
    stream.send(agent::get("/events")).await;
    assert_eq!(stream.head().await.unwrap().status, 200);
    let mut conn = agent::tls_as(&remit, &handle).await;
    assert_eq!(conn.ask(agent::get("/items")).await.status, 200);
    // Until the stream is cut.
    let mut rest = vec![];
    let cut = tokio::time::timeout(agent::PATIENCE, stream.stream.read_to_end(&mut rest)).await;
    assert!(cut.is_ok() && began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    let before = upstream.seen().len();
    let answer = conn.ask(agent::get("/items")).await;
    assert_eq!((answer.status, answer.reason()), (403, Some("task_expired")), "{answer:?}");
    assert!(answer.text().contains("start a new task"), "{}", answer.text());
    assert_eq!(agent::tls_as(&remit, &handle).await.ask(agent::get("/items")).await.reason(), Some("task_expired"));
    assert_eq!(upstream.seen().len(), before);
    let pairs = remit.log().pairs(4).await;
    assert_eq!((&pairs[0].outcome["outcome"], &pairs[0].outcome["reason"]), (&"incomplete".into(), &"task_expired".into()));
    assert!(remit.log().of_kind("task").iter().any(|t| t["id"] == *id && t["why"] == "expired"), "{:?}", remit.log().of_kind("task"));
}

/// Whether the connection ends; how long that took.
async fn cut<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(conn: &mut Conn<S>, since: Instant) -> Duration {
    let mut rest = vec![];
    let _ = tokio::time::timeout(agent::PATIENCE, conn.stream.read_to_end(&mut rest)).await.expect("the stream is cut");
    since.elapsed()
}

#[tokio::test]
async fn the_end_of_a_task_cuts_what_it_has_open_and_nothing_else() {
    let raw = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = raw.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = raw.accept().await.unwrap();
            tokio::spawn(async move {
                tcp.write_all(b"hello from inside").await.unwrap();
                let _ = tcp.read_to_end(&mut vec![]).await;
            });
        }
    });
    let (_lab, upstream, remit) = house("law5-ended", |s| {
        s.resolve.push(("tunnel.example.test".into(), address));
        s.grants.push("{intents: [tunnel], where: {host: tunnel.example.test}}".into());
        s.tunnel = "[tunnel.example.test]";
    })
    .await;
    let ((id, handle), (_, other)) = (remit.task(&[]), remit.task(&[]));
    let mut events = agent::tls_as(&remit, &handle).await;
    events.send(agent::get("/events")).await;
    assert_eq!(events.head().await.unwrap().status, 200);
    let mut spared = agent::tls_as(&remit, &other).await;
    spared.send(agent::get("/events")).await;
    assert_eq!(spared.head().await.unwrap().status, 200);
    let mut socket = agent::tls_as(&remit, &handle).await;
    let upgrade = "GET /socket HTTP/1.1\r\nHost: api.example.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(socket.ask(upgrade).await.status, 101);
    let claim = format!("Proxy-Authorization: Bearer {handle}\r\n");
    let mut tunnel = agent::connect(&remit, "tunnel.example.test:443", &claim).await;
    assert_eq!(support::chunks::exactly(&mut tunnel.stream, &mut tunnel.read, 1).await.unwrap(), b"h");
    let mut upload = agent::tls_as(&remit, &handle).await;
    upload.send(format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nhalf of it")).await;
    let mut waiting = agent::tls_as(&remit, &handle).await;
    waiting.send(agent::get("/items/wait")).await;
    while remit.log().of_kind("decision").len() < 6 || upstream.seen().len() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;

    remit.end_task(&id);
    let ended = Instant::now();
    let took = [cut(&mut events, ended).await, cut(&mut socket, ended).await, cut(&mut tunnel, ended).await];
    let answers = [waiting.answer().await.unwrap(), upload.answer().await.unwrap()];
    assert!(took.iter().all(|t| *t < Duration::from_secs(1)), "{took:?}");
    assert!(answers.iter().all(|a| a.reason() == Some("task_ended")), "{answers:?}");
    let again = agent::tls_as(&remit, &handle).await.ask(agent::get("/items")).await;
    assert_eq!((again.status, again.reason()), (403, Some("task_ended")));
    // What upstream has open for it is let go, too.
    for _ in 0..200 {
        if upstream.ended() >= 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(upstream.ended() >= 4, "{} of {}", upstream.ended(), upstream.opened());
    let still = tokio::time::timeout(Duration::from_millis(300), spared.stream.read_u8()).await;
    assert!(still.is_err() || still.unwrap().is_ok(), "the stream of another task was cut");
    drop(spared);
    let pairs = remit.log().pairs(7).await;
    for pair in pairs.iter().filter(|p| p.decision["task"] == *id) {
        assert_eq!(pair.outcome["reason"], "task_ended", "{pair:?}");
    }
    remit.log().verify();
}

#[tokio::test]
async fn the_end_of_a_task_resets_its_h2_streams_and_not_the_connection() {
    let lab = Lab::new("law5-h2");
    let address = web::serve(lab.tls(HOST, &[b"h2"]), |request| async move {
        if request.uri().path() != "/events" {
            return http::Response::new(web::full("hello"));
        }
        let endless = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>();
        http::Response::new(http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(endless)))
    })
    .await;
    let remit = lab.start(&Settings::to(address));
    let ((id, handle), (_, other)) = (remit.task(&[]), remit.task(&[]));
    let inside = agent::connect(&remit, &format!("{HOST}:443"), &format!("Proxy-Authorization: Bearer {handle}\r\n")).await;
    let tls = agent::shake(&remit, inside, HOST, &[b"h2"]).await.stream;
    let io = hyper_util::rt::TokioIo::new(tls);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, web::Body>(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| http::Request::get(format!("https://{HOST}{path}")).body(web::full("")).unwrap();
    let events = sender.send_request(request("/events")).await.unwrap();
    assert_eq!(events.status(), 200);
    // The two tasks share the connection to upstream.
    assert_eq!(agent::tls_as(&remit, &other).await.ask(agent::get("/items")).await.status, 200);
    remit.end_task(&id);
    let began = Instant::now();
    let broken = http_body_util::BodyExt::collect(events.into_body()).await;
    assert!(broken.is_err() && began.elapsed() < Duration::from_secs(1), "{broken:?}");
    let refused = sender.send_request(request("/items")).await.unwrap();
    assert_eq!(refused.headers()["remit-reason"], "task_ended");
    assert_eq!(agent::tls_as(&remit, &other).await.ask(agent::get("/items")).await.status, 200);
}

#[tokio::test]
async fn an_ambient_task_that_was_ended_stays_ended() {
    let (_lab, upstream, remit) = house("law5-ambient", |_| ()).await;
    let mut conn = agent::tls(&remit).await;
    assert_eq!(conn.ask(agent::get("/items")).await.status, 200);
    let id = remit.log().only().await.decision["task"].as_str().unwrap().to_owned();
    remit.end_task(&id);
    for answer in [conn.ask(agent::get("/items")).await, agent::ask(&remit, agent::get("/items")).await] {
        assert_eq!(answer.reason(), Some("task_ended"), "{answer:?}");
    }
    // A wrong handle never falls back to ambient authority.
    let wrong = format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\nRemit-Task: nonsense\r\n\r\n");
    assert_eq!(agent::ask(&remit, wrong).await.reason(), Some("no_task"));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_ambient_successor_inherits_what_was_spent() {
    let (_lab, upstream, remit) = house("law5-successor", |s| {
        s.lifetime = "1s";
        s.grants = vec!["{intents: [example.items.get], limit: {calls: 2, per: task}}".into()];
    })
    .await;
    let ask = || agent::ask(&remit, agent::get("/items/7"));
    assert_eq!(ask().await.status, 200);
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(ask().await.status, 200);
    assert_eq!(ask().await.reason(), Some("limit_exceeded"));
    let pairs = remit.log().pairs(3).await;
    assert_ne!(pairs[0].decision["task"], pairs[1].decision["task"]);
    assert_eq!(upstream.seen().len(), 2);
}
