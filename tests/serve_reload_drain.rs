//! `remit serve` over time: reloads take all or nothing and drop no call; a drain lets calls end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use support::{Answer, Conn, Do, HOST, Lab, Remit, SECRET, Settings, Upstream, agent};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Settings with short waits, before an upstream that does as its path says.
async fn house(name: &str, more: &str) -> (Lab, Upstream, Settings, Remit) {
    let lab = Lab::new(name);
    let upstream = Upstream::tls(lab.tls(HOST, &[b"http/1.1"]), |request| match request.target().as_str() {
        "/events" => Do::Hang(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec()),
        "/socket" => Do::Hang(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()),
        "/items/slow" => {
            let pieces = (0..10).map(|n| format!("piece {n} of ten\n").into_bytes()).collect::<Vec<_>>();
            let length: usize = pieces.iter().map(Vec::len).sum();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
            Do::Drip([vec![head], pieces].concat(), Duration::from_millis(100))
        }
        _ => Do::ok("hello"),
    })
    .await;
    let settings = Settings { more: more.into(), ..Settings::to(upstream.address) };
    let remit = lab.start(&settings);
    (lab, upstream, settings, remit)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < agent::PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn reloads(remit: &Remit, event: &str) -> usize {
    remit.log().of_kind("event").iter().filter(|e| e["event"] == event).count()
}

/// Asks the admin listener; None when nobody is there.
async fn admin(remit: &Remit, path: &str) -> Option<Answer> {
    let mut conn = Conn::new(TcpStream::connect(remit.admin).await.ok()?);
    conn.send(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")).await;
    conn.answer().await
}

#[tokio::test]
async fn a_changed_file_is_in_force_soon_and_open_streams_go_on() {
    let (lab, _upstream, mut settings, remit) = house("reload-change", "").await;
    let mut stream = agent::tls(&remit).await;
    stream.send(agent::get("/events")).await;
    assert_eq!(stream.head().await.unwrap().status, 200);
    let mut conn = agent::tls(&remit).await;
    assert_eq!(conn.ask(agent::post("/items", "{}")).await.status, 200);

    settings.grants = vec!["{intents: [example.*], effects: [read]}".into()];
    lab.write(&settings);
    until("the reload", || reloads(&remit, "reload") == 1).await;
    // On the connection that was there, and on a new one.
    for answer in [conn.ask(agent::post("/items", "{}")).await, agent::ask(&remit, agent::post("/items", "{}")).await] {
        assert_eq!(answer.reason(), Some("not_granted"), "{answer:?}");
    }
    assert_eq!(conn.ask(agent::get("/items")).await.status, 200);
    let still = tokio::time::timeout(Duration::from_millis(200), stream.stream.read_to_end(&mut vec![])).await;
    assert!(still.is_err(), "the stream was cut");
    let metrics = admin(&remit, "/metrics").await.unwrap().text();
    assert!(metrics.contains("remit_reloads_total{result=\"ok\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_mistake_changes_nothing() {
    let (lab, _upstream, settings, remit) = house("reload-mistake", "").await;
    let good = settings.yaml();
    for (n, (bad, says)) in [
        (good.replace("grants:", "grant:"), "unknown key"),
        (good.replace("example.*", "exmaple.*"), "did you mean"),
        (good.replace("catalog.yaml", "missing.yaml"), "missing.yaml"),
        ("version: [".to_owned(), "remit.yaml"),
        (String::new(), "nothing where a mapping is wanted"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(lab.dir.join("remit.yaml"), bad).unwrap();
        until(says, || reloads(&remit, "reload_refused") == n + 1).await;
        assert!(remit.printed().contains(says), "{says}: {}", remit.printed());
        assert_eq!(agent::ask(&remit, agent::post("/items", "{}")).await.status, 200);
    }
    assert_eq!(reloads(&remit, "reload"), 0);
    fs::write(lab.dir.join("remit.yaml"), good).unwrap();
    until("the reload", || reloads(&remit, "reload") == 1).await;
    remit.log().pairs(5).await;
}

#[tokio::test]
async fn sighup_reloads() {
    let (_lab, _upstream, _settings, remit) = house("reload-hup", "").await;
    for n in 1..3 {
        remit.signal("HUP");
        until("the reload", || reloads(&remit, "reload") == n).await;
    }
    assert_eq!(agent::ask(&remit, agent::get("/items")).await.status, 200);
}

#[tokio::test]
async fn no_call_is_dropped_by_reloads() {
    let (_lab, _upstream, _settings, remit) = house("reload-many", "").await;
    let over = Arc::new(AtomicBool::new(false));
    let ask = |keep: bool| {
        let (remit, over) = (&remit, over.clone());
        async move {
            let mut conn = agent::tls(remit).await;
            let mut calls = 0;
            while !over.load(Ordering::Relaxed) {
                if !keep {
                    conn = agent::tls(remit).await;
                }
                let answer = conn.ask(agent::get("/items/1")).await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{answer:?}");
                calls += 1;
            }
            calls
        }
    };
    let reload = async {
        for n in 1..=10 {
            remit.signal("HUP");
            until("the reload", || reloads(&remit, "reload") == n).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let (kept, fresh, slow, ()) = tokio::join!(ask(true), ask(false), agent::ask(&remit, agent::get("/items/slow")), reload);
    assert!(kept > 10 && fresh > 10, "{kept} {fresh}");
    assert_eq!((slow.status, slow.whole), (200, true));
    remit.log().pairs(kept + fresh + 1).await;
    remit.log().verify();
}

#[tokio::test]
async fn an_agent_that_is_suspended_loses_its_tasks_and_streams() {
    let (lab, upstream, mut settings, remit) = house("reload-suspend", "").await;
    let (id, handle) = remit.task(&[]);
    let mut stream = agent::tls_as(&remit, &handle).await;
    stream.send(agent::get("/events")).await;
    assert_eq!(stream.head().await.unwrap().status, 200);
    settings.agent = "status: suspended".into();
    lab.write(&settings);
    let cut = tokio::time::timeout(agent::PATIENCE, stream.stream.read_to_end(&mut vec![])).await;
    assert!(cut.is_ok(), "the stream was not cut");
    let answer = agent::tls_as(&remit, &handle).await.ask(agent::get("/items")).await;
    assert_eq!(answer.reason(), Some("agent_suspended"), "{answer:?}");
    // Active again, it needs a new task.
    settings.agent = String::new();
    lab.write(&settings);
    until("the reload", || reloads(&remit, "reload") == 2).await;
    let answer = agent::tls_as(&remit, &handle).await.ask(agent::get("/items")).await;
    assert_eq!(answer.reason(), Some("task_ended"), "{answer:?}");
    assert_eq!(upstream.seen().len(), 1);
    assert!(remit.log().of_kind("task").iter().any(|t| t["id"] == *id && !t["why"].is_null()));
}

#[tokio::test]
async fn a_secret_that_is_rotated_is_the_one_that_is_sent() {
    let (lab, upstream, _settings, remit) = house("reload-secret", "").await;
    assert_eq!(agent::ask(&remit, agent::get("/items")).await.status, 200);
    assert_eq!(upstream.take().unwrap().field("authorization"), Some(format!("Bearer {SECRET}")));
    let new = "rotated-secret-0a1b2c3d4e";
    fs::write(lab.dir.join("secret.txt"), new).unwrap();
    let began = Instant::now();
    loop {
        assert_eq!(agent::ask(&remit, agent::get("/items")).await.status, 200);
        if upstream.take().unwrap().field("authorization") == Some(format!("Bearer {new}")) {
            break;
        }
        assert!(began.elapsed() < agent::PATIENCE, "the new secret is not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!remit.printed().contains(new));
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_takes_no_more() {
    let (_lab, _upstream, _settings, mut remit) = house("drain-ends", "").await;
    while admin(&remit, "/readyz").await.unwrap().status != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut idle = agent::tls(&remit).await;
    assert_eq!(idle.ask(agent::get("/items")).await.status, 200);
    let mut slow = agent::tls(&remit).await;
    slow.send(agent::get("/items/slow")).await;
    assert_eq!(slow.head().await.unwrap().status, 200);
    remit.signal("TERM");
    // A connection without a call is closed at once, and no new one is accepted.
    assert!(idle.closes().await);
    let refused = match TcpStream::connect(remit.proxy).await {
        Err(_) => true,
        Ok(mut tcp) => {
            let _ = tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
            matches!(tcp.read(&mut [0; 1]).await, Err(_) | Ok(0))
        }
    };
    assert!(refused, "a new connection was taken");
    let ready = admin(&remit, "/readyz").await.unwrap();
    assert!(ready.status == 503 && ready.text().contains("draining"), "{ready:?}");
    let mut rest = vec![];
    let _ = slow.stream.read_to_end(&mut rest).await;
    let text = String::from_utf8([slow.read, rest].concat()).unwrap();
    assert!(text.starts_with("piece 0") && text.ends_with("piece 9 of ten\n"), "{text:?}");
    assert!(remit.ended(Duration::from_secs(10)).await.success());
    let pairs = remit.log().pairs(2).await;
    assert!(pairs.iter().all(|p| p.outcome["outcome"] == "complete"), "{pairs:#?}");
    assert!(remit.log().verify().contains("closed"));
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let (_lab, _upstream, _settings, mut remit) = house("drain-deadline", "timeouts: {drain: 1s}").await;
    let mut stream = agent::tls(&remit).await;
    stream.send(agent::get("/events")).await;
    assert_eq!(stream.head().await.unwrap().status, 200);
    remit.signal("TERM");
    let began = Instant::now();
    let mut rest = vec![];
    let _ = tokio::time::timeout(agent::PATIENCE, stream.stream.read_to_end(&mut rest)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(remit.ended(Duration::from_secs(5)).await.success());
    assert_eq!(remit.log().only().await.outcome["outcome"], "incomplete");
    assert!(remit.log().verify().contains("closed"));
}

#[tokio::test]
async fn an_open_websocket_is_drained_like_a_call() {
    let (_lab, _upstream, _settings, mut remit) = house("drain-socket", "timeouts: {drain: 1s}").await;
    let mut socket = agent::tls(&remit).await;
    let upgrade = "GET /socket HTTP/1.1\r\nHost: api.example.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(socket.ask(upgrade).await.status, 101);
    remit.signal("TERM");
    let began = Instant::now();
    let _ = tokio::time::timeout(agent::PATIENCE, socket.stream.read_to_end(&mut vec![])).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "cut after {:?}", began.elapsed());
    assert!(remit.ended(Duration::from_secs(5)).await.success());
    assert_eq!(remit.log().only().await.outcome["outcome"], "incomplete");
    remit.log().verify();
}

#[tokio::test]
async fn slow_heads_and_silence_end_a_connection() {
    let (_lab, upstream, _settings, remit) = house("serve-slow", "timeouts: {header: 1s, idle: 2s}").await;
    // A head that comes byte by byte.
    let mut slow = agent::tls(&remit).await;
    let began = Instant::now();
    for byte in "GET /items HTTP/1.1\r\n".bytes() {
        let _ = slow.stream.write_all(&[byte]).await;
        let _ = slow.stream.flush().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(slow.closes().await);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // A CONNECT without a byte of TLS, and a connection without a call.
    let mut mute = agent::connect(&remit, &format!("{HOST}:443"), "").await;
    let mut idle = agent::tls(&remit).await;
    assert_eq!(idle.ask(agent::get("/items")).await.status, 200);
    let began = Instant::now();
    assert!(mute.closes().await);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(idle.closes().await);
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (_lab, upstream, _settings, remit) = house("serve-large", "limits: {header_bytes: 8KiB, headers: 20}").await;
    let ask = |fields: String| agent::ask(&remit, format!("GET /items HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
    assert_eq!(ask(format!("X-A: {}\r\n", "b".repeat(7000))).await.status, 200);
    assert_eq!(ask("X-A: b\r\n".repeat(18)).await.status, 200);
    assert_eq!(ask(format!("X-A: {}\r\n", "b".repeat(20_000))).await.status, 431);
    assert_eq!(ask("X-A: b\r\n".repeat(30)).await.status, 431);
    assert_eq!(upstream.seen().len(), 2);
}
