//! What passes through: bodies of any size, events and messages as they come, trailers, upgrades,
//! and HTTP/1.1 and HTTP/2 across each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use support::{
    Conn, Do, HOST, Lab, Remit, SECRET, Settings, Upstream, agent, chunks,
    web::{self, Body, Client},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Agent's protocol and upstream's: whether each is HTTP/2.
const ACROSS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// Remit before an upstream of one protocol.
async fn house<F, A>(name: &str, h2: bool, answer: A) -> (Lab, Remit)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let lab = Lab::new(name);
    let alpn: &[&[u8]] = if h2 { &[b"h2"] } else { &[b"http/1.1"] };
    let address = web::serve(lab.tls(HOST, alpn), answer).await;
    let remit = lab.start(&Settings::to(address));
    (lab, remit)
}

/// Upstream of raw bytes.
async fn raw(name: &str, more: &str, answer: impl Fn(&support::Received) -> Do + Send + Sync + 'static) -> (Lab, Upstream, Remit) {
    let lab = Lab::new(name);
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), answer).await;
    let remit = lab.start(&Settings { more: more.into(), ..Settings::to(upstream.address) });
    (lab, upstream, remit)
}

async fn next(body: &mut Incoming) -> Option<Frame<Bytes>> {
    let frame = tokio::time::timeout(agent::PATIENCE, body.frame()).await.expect("a frame in time");
    frame.map(Result::unwrap)
}

/// Reads to the end, before which no further byte may come.
async fn ends(body: &mut Incoming) {
    while let Some(frame) = next(body).await {
        assert_eq!(frame.data_ref().map(Bytes::len), Some(0), "{frame:?}");
    }
}

/// Reads data until it ends with `text`.
async fn reads(body: &mut Incoming, text: &str) {
    let mut read = String::new();
    while !read.ends_with(text) {
        let frame = next(body).await.unwrap_or_else(|| panic!("ended at {read:?}, before {text:?}"));
        read.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert_eq!(read, text);
}

#[tokio::test]
async fn events_pass_as_they_come() {
    for (h2, upstream_h2) in ACROSS {
        let (events, body) = web::piped();
        let slot = Arc::new(Mutex::new(Some(body)));
        let (_lab, remit) = house("streams-events", upstream_h2, move |_| {
            let body = slot.lock().take().unwrap();
            async move { Response::builder().header("content-type", "text/event-stream").body(body).unwrap() }
        })
        .await;
        events.send(web::data("data: 0\n\n")).await.unwrap();
        let mut client = Client::new(&remit, h2).await;
        let mut answer = client.send(Method::GET, "/events", web::full("")).await.into_body();
        reads(&mut answer, "data: 0\n\n").await;
        // Each arrives before the next is sent.
        for turn in 1..5 {
            let event = format!("data: {turn}\n\n");
            events.send(web::data(&event)).await.unwrap();
            reads(&mut answer, &event).await;
        }
        drop(events);
        ends(&mut answer).await;
        let pair = remit.log().only().await;
        assert_eq!((&pair.outcome["outcome"], &pair.outcome["bytes_down"]), (&"complete".into(), &45.into()));
    }
}

#[tokio::test]
async fn messages_pass_both_ways_at_once() {
    for upstream_h2 in [false, true] {
        let (_lab, remit) = house("streams-duplex", upstream_h2, |request| async move {
            Response::new(request.into_body().map_err(std::io::Error::other).boxed_unsync())
        })
        .await;
        let mut client = Client::new(&remit, true).await;
        let (messages, body) = web::piped();
        messages.send(web::data("one\n")).await.unwrap();
        let mut answer = client.send(Method::PUT, "/blobs/1", body).await.into_body();
        reads(&mut answer, "one\n").await;
        for text in ["two\n", "three\n"] {
            messages.send(web::data(text)).await.unwrap();
            reads(&mut answer, text).await;
        }
        drop(messages);
        ends(&mut answer).await;
        let pair = remit.log().only().await;
        assert_eq!((&pair.outcome["bytes_up"], &pair.outcome["bytes_down"]), (&14.into(), &14.into()));
        assert_eq!(pair.outcome["body_sha256"].as_str().unwrap().len(), 64);
    }
}

#[tokio::test]
async fn trailers_pass() {
    for (h2, upstream_h2) in ACROSS {
        let (_lab, remit) = house("streams-trailers", upstream_h2, |request| async move {
            let sent = request.into_body().collect().await.unwrap();
            let sum = sent.trailers().and_then(|t| t.get("x-sum")).map_or_else(|| "none".into(), |v| v.to_str().unwrap().to_owned());
            let (frames, body) = web::piped();
            tokio::spawn(async move {
                frames.send(web::data("hello")).await.unwrap();
                let trailers =
                    [("x-status".parse().unwrap(), "7".parse().unwrap()), ("x-request-sum".parse().unwrap(), sum.parse().unwrap())];
                frames.send(Frame::trailers(trailers.into_iter().collect())).await.unwrap();
            });
            Response::builder().header("trailer", "x-status, x-request-sum").body(body).unwrap()
        })
        .await;
        let (frames, body) = web::piped();
        tokio::spawn(async move {
            frames.send(web::data("hi")).await.unwrap();
            frames.send(Frame::trailers([("x-sum".parse().unwrap(), "42".parse().unwrap())].into_iter().collect())).await.unwrap();
        });
        let answer = Client::new(&remit, h2).await.send(Method::PUT, "/blobs/1", body).await;
        let answer = answer.into_body().collect().await.unwrap();
        let trailers = answer.trailers().cloned().unwrap_or_default();
        assert_eq!(answer.to_bytes(), "hello");
        assert_eq!(trailers.get("x-status").map(|v| v.as_bytes()), Some(&b"7"[..]), "h2 {h2}, upstream {upstream_h2}");
        // HTTP/1.1 sends only the trailers it announced, which this agent's library did not.
        if h2 && upstream_h2 {
            assert_eq!(trailers["x-request-sum"], "42");
        }
    }
}

#[tokio::test]
async fn large_bodies_stream_through_little_memory() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 1024;
    for (h2, upstream_h2) in [(false, false), (true, true)] {
        let (_lab, remit) = house("streams-large", upstream_h2, |request| async move {
            if request.method() == Method::PUT {
                let mut body = request.into_body();
                let mut length = 0;
                while let Some(frame) = body.frame().await {
                    length += frame.unwrap().data_ref().map_or(0, Bytes::len);
                }
                return Response::new(web::full(length.to_string()));
            }
            let (frames, body) = web::piped();
            tokio::spawn(async move {
                for _ in 0..PIECES {
                    if frames.send(Frame::data(Bytes::from(vec![b'x'; PIECE]))).await.is_err() {
                        return;
                    }
                }
            });
            Response::new(body)
        })
        .await;
        let mut client = Client::new(&remit, h2).await;
        let before = remit.memory("VmHWM");
        let (frames, body) = web::piped();
        tokio::spawn(async move {
            for _ in 0..PIECES {
                frames.send(Frame::data(Bytes::from(vec![b'y'; PIECE]))).await.unwrap();
            }
        });
        let answer = client.send(Method::PUT, "/blobs/1", body).await;
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), (PIECE * PIECES).to_string());
        let mut body = client.send(Method::GET, "/items/1", web::full("")).await.into_body();
        // An agent that does not read holds upstream back.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut length = 0;
        while let Some(frame) = next(&mut body).await {
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(length, PIECE * PIECES);
        let grown = remit.memory("VmHWM") - before;
        assert!(grown < 32 << 10, "{grown} KiB more for 128 MiB, h2: {h2}");
        let pairs = remit.log().pairs(2).await;
        assert_eq!((&pairs[0].outcome["bytes_up"], &pairs[1].outcome["bytes_down"]), (&(PIECE * PIECES).into(), &(PIECE * PIECES).into()));
    }
}

/// A body that is judged whole is held once, and what is held for it is given back.
#[tokio::test]
async fn a_large_call_to_a_model_is_held_once() {
    let lab = Lab::new("streams-model");
    let catalog = "provider: example\nhosts: [api.example.test]\ncredential: example\noperations:\n  \
                   - {id: example.chat.create, match: \"POST /v1/chat/completions\", effect: write, body: llm}\n";
    std::fs::write(lab.dir.join("catalog.yaml"), catalog).unwrap();
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("{}")).await;
    let remit = lab.start(&Settings {
        grants: vec!["{intents: [example.chat.create], where: {model: gpt-5}}".into()],
        ..Settings::to(upstream.address)
    });
    let (_, handle) = remit.task(&[]);
    let text = "a line of a prompt that says something, then goes on\\n".repeat(8);
    let message = format!(r#"{{"role":"user","content":"{text}"}}"#);
    let mut before = 0;
    for size in [64 << 10, 20 << 20] {
        let messages = vec![message.as_str(); size / message.len()].join(",");
        let body = format!(r#"{{"model":"gpt-5","max_completion_tokens":100,"messages":[{messages}]}}"#);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut conn = agent::tls_as(&remit, &handle).await;
        let answer = conn.ask(format!("{head}{body}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(upstream.seen().last().unwrap().body.len() == body.len());
        let peak = remit.memory("VmHWM");
        assert!(before == 0 || peak - before < (28 << 10), "{} KiB more for a body of {} KiB", peak - before, body.len() >> 10);
        before = peak;
    }
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_first_byte_of_an_answer() {
    let (_lab, upstream, remit) = raw("streams-slow", "timeouts: {first_byte: 1s}", |_| Do::ok("got it")).await;
    let mut conn = agent::tls(&remit).await;
    conn.send(format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n")).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        conn.send("x").await;
    }
    let answer = conn.answer().await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "got it"), "{}", answer.text());
    assert_eq!(upstream.take().unwrap().body, b"xxxxxxxxxx");
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_has_left() {
    for upstream_h2 in [false, true] {
        let (_lab, remit) =
            house("streams-early", upstream_h2, |_| async { Response::builder().status(413).body(web::full("too much")).unwrap() }).await;
        let mut conn = agent::tls(&remit).await;
        let head = format!("PUT /blobs/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000\r\n\r\n");
        let answer = conn.ask(head + &"x".repeat(1000)).await;
        assert_eq!((answer.status, answer.text().as_str()), (413, "too much"), "upstream h2: {upstream_h2}");
        drop(conn);
        assert_eq!(remit.log().only().await.outcome["status"], 413);
    }
}

#[tokio::test]
async fn interim_answers_do_not_end_a_call() {
    let (_lab, _upstream, remit) = raw("streams-interim", "", |_| {
        Do::Say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec())
    })
    .await;
    assert_eq!(agent::ask(&remit, agent::get("/items")).await.text(), "hello");
}

#[tokio::test]
async fn what_upstream_says_of_its_hop_and_of_remit_stays_there() {
    let (_lab, _upstream, remit) = raw("streams-answer", "", |request| match request.target().as_str() {
        "/items/switch" | "/socket" => Do::Say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n".to_vec()),
        "/items/two" => Do::Say(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nX-Smuggled: 1\r\n\r\n"
                .to_vec(),
        ),
        _ => Do::Say(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\nAlt-Svc: h3=\":443\"\r\n\
              Remit-Reason: fake\r\nRemit-Decision: d-fake\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\n\r\nok"
                .to_vec(),
        ),
    })
    .await;
    let answer = agent::ask(&remit, agent::get("/items")).await;
    let gone = ["connection", "x-hop", "keep-alive", "alt-svc", "remit-reason", "remit-decision", "proxy-authenticate"];
    assert!(gone.iter().all(|name| answer.field(name).is_none()), "{answer:?}");
    assert_eq!((answer.field("x-kept"), answer.text().as_str()), (Some("1"), "ok"));
    // An answer with two lengths has one, and nothing behind it is another call's answer.
    let answer = agent::ask(&remit, agent::get("/items/two")).await;
    assert_eq!((answer.text().as_str(), answer.field("content-length"), answer.field("x-smuggled")), ("hello", None, None));
    for _ in 0..3 {
        assert_eq!(agent::ask(&remit, agent::get("/items")).await.text(), "ok");
    }
    // Protocols are switched only to what was asked for.
    let upgrade = |path: &str, to: &str| format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: {to}\r\n\r\n");
    for request in [agent::get("/items/switch"), upgrade("/items/switch", "h2c"), upgrade("/socket", "websocket")] {
        let answer = agent::ask(&remit, request).await;
        assert_eq!((answer.status, answer.reason()), (502, Some("upstream_unreachable")), "{answer:?}");
    }
    remit.log().pairs(8).await;
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_when_its_body_is_wanted() {
    let (_lab, upstream, remit) = raw("streams-expect", "", |_| Do::ok("got it")).await;
    let head = |line: &str| {
        format!("{line} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    };
    for line in ["POST /items", "PUT /blobs/1"] {
        let mut conn = agent::tls(&remit).await;
        conn.send(head(line)).await;
        assert_eq!(conn.head().await.unwrap().status, 100);
        assert_eq!(conn.ask("{}").await.text(), "got it");
        let arrived = upstream.take().unwrap();
        assert_eq!((arrived.body.as_slice(), arrived.field("expect")), (&b"{}"[..], None));
    }
    let mut conn = agent::tls(&remit).await;
    // Refused by its head alone: the body is never asked for.
    conn.send(head("POST /nothing")).await;
    assert_eq!(conn.head().await.unwrap().status, 403);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_websocket_passes_both_ways_without_the_credential() {
    let (_lab, remit) = house("streams-socket", false, |mut request| async move {
        let switch = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = hyper_util::rt::TokioIo::new(switch.await.unwrap());
            let mut said = [0; 5];
            io.read_exact(&mut said).await.unwrap();
            io.write_all(&said).await.unwrap();
            io.write_all(format!(" {SECRET} and more").as_bytes()).await.unwrap();
            io.shutdown().await.unwrap();
        });
        let echo = request.headers()["sec-websocket-key"].clone();
        let answer = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
        answer.header("sec-websocket-accept", echo).body(web::full("")).unwrap()
    })
    .await;
    let mut conn = agent::tls(&remit).await;
    let ask = "GET /socket HTTP/1.1\r\nHost: api.example.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let answer = conn.ask(ask).await;
    assert_eq!((answer.status, answer.field("upgrade"), answer.field("sec-websocket-accept")), (101, Some("websocket"), Some("k")));
    conn.send("hello").await;
    let mut rest = std::mem::take(&mut conn.read);
    tokio::time::timeout(agent::PATIENCE, conn.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(rest).unwrap(), format!("hello {} and more", "*".repeat(SECRET.len())));
    conn.stream.shutdown().await.unwrap();
    let pair = remit.log().only().await;
    assert_eq!(
        (&pair.outcome["outcome"], &pair.outcome["status"], &pair.outcome["bytes_up"]),
        (&"complete".into(), &101.into(), &5.into())
    );
}

#[tokio::test]
async fn a_websocket_outlives_the_time_for_a_head() {
    let lab = Lab::new("streams-long-socket");
    let address = web::serve(lab.tls(HOST, &[b"http/1.1"]), |mut request: Request<Incoming>| async move {
        let switch = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(hyper_util::rt::TokioIo::new(switch.await.unwrap()));
            tokio::io::copy(&mut read, &mut write).await
        });
        Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket").body(web::full("")).unwrap()
    })
    .await;
    let remit = lab.start(&Settings { more: "timeouts: {header: 1s, idle: 3s}".into(), ..Settings::to(address) });
    let mut conn = agent::tls(&remit).await;
    let upgrade = format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(conn.ask(upgrade).await.status, 101);
    for turn in 0..5 {
        conn.send([turn]).await;
        assert_eq!(tokio::time::timeout(agent::PATIENCE, conn.stream.read_u8()).await.unwrap().unwrap(), turn);
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    let began = Instant::now();
    assert!(conn.closes().await);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(remit.log().only().await.outcome["reason"], "upstream_timeout");
}

#[tokio::test]
async fn answers_without_a_body_keep_their_length() {
    let (_lab, _upstream, remit) = raw("streams-empty", "", |request| {
        let head = match request.target().as_str() {
            "/items/204" => "204 No Content\r\n",
            "/items/304" => "304 Not Modified\r\nETag: \"1\"\r\n",
            _ => "200 OK\r\nContent-Length: 1234\r\n",
        };
        Do::Say(format!("HTTP/1.1 {head}\r\n").into_bytes())
    })
    .await;
    let mut conn = agent::tls(&remit).await;
    conn.send(agent::get("/items/1").replace("GET", "HEAD")).await;
    let answer = conn.answer_without_body().await.unwrap();
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("1234")));
    assert_eq!(conn.ask(agent::get("/items/204")).await.status, 204);
    let answer = conn.ask(agent::get("/items/304")).await;
    assert_eq!((answer.status, answer.field("etag")), (304, Some("\"1\"")));
    let pairs = remit.log().pairs(3).await;
    assert!(pairs.iter().all(|p| p.outcome["outcome"] == "complete"), "{pairs:#?}");
}

#[tokio::test]
async fn connections_are_used_again_and_a_stale_one_is_replaced() {
    let (_lab, upstream, remit) = raw("streams-pool", "", |request| match request.target().as_str() {
        "/items/close" => Do::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_vec()),
        "/items/last" => Do::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        "/items/until-end" => Do::Cut(b"HTTP/1.1 200 OK\r\n\r\nall there is, and that is a lot more than a secret".to_vec()),
        _ => Do::ok("ok"),
    })
    .await;
    let ask = |path: &'static str| agent::ask(&remit, agent::get(path));
    for _ in 0..5 {
        assert_eq!(ask("/items/1").await.status, 200);
    }
    assert_eq!(upstream.opened(), 1);
    let answer = ask("/items/close").await;
    assert_eq!((answer.status, answer.field("connection")), (200, None));
    assert_eq!(ask("/items/1").await.status, 200);
    assert_eq!(upstream.opened(), 2);
    // Upstream ends it after the answer: the next call finds that out and dials anew.
    assert_eq!(ask("/items/last").await.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ask("/items/1").await.status, 200);
    assert_eq!(upstream.opened(), 3);
    // An end without TLS's farewell is no end.
    let answer = ask("/items/until-end").await;
    assert!(!answer.whole || answer.field("transfer-encoding").is_none(), "{answer:?}");
    assert_eq!(remit.log().pairs(10).await[9].outcome["outcome"], "incomplete");
}

#[tokio::test]
async fn an_agent_of_http_1_0_is_answered() {
    let (_lab, _upstream, remit) = raw("streams-old", "", |_| {
        Do::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n".to_vec())
    })
    .await;
    let mut conn = agent::tls(&remit).await;
    let answer = conn.ask(format!("GET /items HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!((answer.status, answer.field("transfer-encoding"), answer.text().as_str()), (200, None, "onetwo"));
}

#[tokio::test]
async fn plain_http_passes_without_the_credential() {
    let lab = Lab::new("streams-plain");
    let upstream = Upstream::plain(|_| Do::ok("in the clear")).await;
    let remit = lab.start(&Settings::to(upstream.address));
    let mut conn = agent::tcp(&remit).await;
    for id in 1..3 {
        let request = format!("GET http://{HOST}/items/{id} HTTP/1.1\r\nHost: {HOST}\r\nProxy-Connection: keep-alive\r\n\r\n");
        assert_eq!(conn.ask(request).await.text(), "in the clear");
        let arrived = upstream.take().unwrap();
        assert_eq!((arrived.line(), arrived.field("authorization")), (format!("GET /items/{id} HTTP/1.1"), None));
        assert_eq!(arrived.field("proxy-connection"), None);
    }
    // Plain HTTP may come through a CONNECT as well.
    let mut inside = agent::connect(&remit, &format!("{HOST}:80"), "").await;
    assert_eq!(inside.ask(agent::get("/items/3")).await.text(), "in the clear");
    assert_eq!(upstream.take().unwrap().field("authorization"), None);
    assert!(remit.log().pairs(3).await.iter().all(|p| p.decision["scheme"] == "http" && p.decision["lease"].is_null()));
}

#[tokio::test]
async fn a_tunnel_is_not_opened() {
    let lab = Lab::new("streams-tunnel");
    let upstream = Upstream::tls(lab.tls("tunnel.example.test", &[b"http/1.1"]), |_| Do::ok("unopened")).await;
    let mut settings = Settings::to(upstream.address);
    settings.resolve.push(("tunnel.example.test".into(), upstream.address));
    settings.tunnel = "[\"*.example.test\"]";
    settings.grants.push("{intents: [tunnel], where: {host: tunnel.example.test}}".into());
    let mut remit = lab.start(&settings);
    // The host's own certificate, by the CA that only upstream's clients trust.
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(lab.dir.join("upstream-ca.pem")).unwrap();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let ours = std::mem::replace(&mut remit.trust, Arc::new(config));
    let inside = agent::connect(&remit, "tunnel.example.test:443", "").await;
    let mut tls = agent::shake(&remit, inside, "tunnel.example.test", &[b"http/1.1"]).await;
    let answer = tls.ask("GET /any HTTP/1.1\r\nHost: tunnel.example.test\r\nAuthorization: Bearer own\r\n\r\n").await;
    assert_eq!(answer.text(), "unopened");
    assert_eq!(upstream.take().unwrap().field("authorization").as_deref(), Some("Bearer own"));
    tls.stream.shutdown().await.unwrap();
    drop(tls);
    // What is tunnelled and not granted is refused at the CONNECT itself.
    remit.trust = ours;
    let answer = agent::tcp(&remit).await.ask("CONNECT evil.example.test:443 HTTP/1.1\r\nHost: evil.example.test:443\r\n\r\n").await;
    assert_eq!((answer.status, answer.reason()), (403, Some("not_granted")));
    let pairs = remit.log().pairs(2).await;
    assert_eq!((&pairs[0].decision["intents"][0]["id"], &pairs[0].decision["method"]), (&"tunnel".into(), &"CONNECT".into()));
    assert!(pairs[0].decision["lease"].is_null() && pairs[0].outcome["bytes_up"].as_u64().unwrap() > 100, "{pairs:#?}");
}

#[tokio::test]
async fn a_proxy_on_the_way_is_asked_for_a_tunnel() {
    let lab = Lab::new("streams-proxy");
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |_| Do::ok("through")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (proxy, to) = (listener.local_addr().unwrap(), upstream.address);
    let asked = Arc::new(Mutex::new(vec![]));
    let keep = asked.clone();
    tokio::spawn(async move {
        loop {
            let mut conn = Conn::new(listener.accept().await.unwrap().0);
            let end = chunks::until(&mut conn.stream, &mut conn.read, b"\r\n\r\n").await.unwrap();
            keep.lock().push(String::from_utf8_lossy(&conn.read[..end]).into_owned());
            conn.send("HTTP/1.1 200 OK\r\n\r\n").await;
            let mut inside = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut conn.stream, &mut inside).await });
        }
    });
    let mut settings = Settings::to(upstream.address);
    settings.resolve.clear();
    settings.via = Some(proxy);
    let remit = lab.start(&settings);
    assert_eq!(agent::ask(&remit, agent::get("/items")).await.text(), "through");
    let asked = asked.lock().clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with(&format!("CONNECT {HOST}:443 HTTP/1.1\r\n")), "{asked:?}");
    assert!(!asked[0].contains(SECRET) && !asked[0].to_lowercase().contains("authorization"), "{asked:?}");
}

#[tokio::test]
async fn many_streams_of_one_connection_do_not_wait_for_each_other() {
    let (_lab, remit) = house("streams-many", true, |request| async move {
        if request.uri().path() == "/items/slow" {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Response::new(web::full("done"))
    })
    .await;
    let Client::H2(sender) = Client::new(&remit, true).await else { unreachable!() };
    let began = Instant::now();
    let ask = |path: String| {
        let mut client = Client::H2(sender.clone());
        async move { client.send(Method::GET, &path, web::full("")).await.into_body().collect().await.unwrap().to_bytes() }
    };
    let slow = tokio::spawn(ask("/items/slow".into()));
    let fast = futures_util::future::join_all((0..50).map(|n| ask(format!("/items/{n}")))).await;
    assert!(fast.iter().all(|b| b == "done") && began.elapsed() < Duration::from_secs(2));
    assert_eq!(slow.await.unwrap(), "done");
    remit.log().pairs(51).await;
}

/// What upstream compressed turns out to be broken at its first byte: the agent still sees the head,
/// and then that the body is not whole.
#[tokio::test]
async fn an_answer_whose_body_breaks_off_at_once_still_has_a_head() {
    let broken = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\nno gzip here".to_vec();
    let (_lab, _upstream, remit) = raw("streams-at-once", "", move |_| Do::Say(broken.clone())).await;
    let (_, handle) = remit.task(&[]);
    let answer = agent::tls_as(&remit, &handle).await.ask(agent::get("/items")).await;
    assert_eq!((answer.status, answer.whole), (200, false), "{answer:?}");
    let pair = remit.log().only().await;
    assert_eq!((&pair.outcome["outcome"], &pair.outcome["status"]), (&"incomplete".into(), &200.into()));
}
