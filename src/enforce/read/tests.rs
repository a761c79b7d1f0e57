use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::sync::{Mutex, Semaphore};

use super::prefix;

const KIB: usize = 1024;

/// Sends parts of a body over HTTP/1.1, and gives what `prefix` read of it, and what is passed on.
async fn through(parts: Vec<&'static [u8]>, bytes: usize, budget: &Arc<Semaphore>) -> (Bytes, Bytes, bool) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let seen: Arc<Mutex<Option<(Bytes, Bytes, bool)>>> = Arc::default();
    let (budget, kept) = (budget.clone(), seen.clone());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (budget, kept) = (budget.clone(), kept.clone());
        async move {
            let (first, body) = prefix(request.into_body(), bytes, &budget, Duration::from_secs(5)).await.unwrap();
            let (streams, hint) = (body.streams(), body.size_hint());
            let passed = body.collect().await.unwrap().to_bytes();
            assert!(hint.lower() <= passed.len() as u64 && hint.upper().is_none_or(|u| u >= passed.len() as u64));
            *kept.lock().await = Some((first, passed, streams));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let frames = futures_util::stream::iter(parts.into_iter().map(|p| Ok::<_, Infallible>(Frame::data(Bytes::from_static(p)))));
    let request = Request::post("http://a.example/").body(StreamBody::new(frames)).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    seen.lock().await.take().unwrap()
}

#[tokio::test]
async fn a_beginning_is_read_and_nothing_is_lost() {
    static LONG: [u8; 64 * KIB] = [7; 64 * KIB];
    let budget = Arc::new(Semaphore::new(100));
    for (parts, bytes) in [
        (vec![&b"abc"[..], b"def", &LONG, b"end"], 4),
        (vec![&b"abc"[..], &LONG, &LONG, &LONG], 32 * KIB),
        (vec![&b"abc"[..]], 4),
        (vec![&b"abcd"[..]], 4),
        (vec![], 4),
    ] {
        let whole = parts.concat();
        let (first, passed, streams) = through(parts, bytes, &budget).await;
        assert!(first.len() >= bytes.min(whole.len()) && whole.starts_with(&first), "{} of {}", first.len(), whole.len());
        assert_eq!(passed, whole);
        assert!(!streams || whole.len() >= bytes, "a body that was read to its end is not waited for");
        assert_eq!(budget.available_permits(), 100, "its place is given back once it is sent");
    }
}

#[tokio::test]
async fn the_budget_holds_for_beginnings_too() {
    let (near, far) = tokio::io::duplex(1 << 10);
    let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
        let budget = Arc::new(Semaphore::new(1));
        let refused = prefix(request.into_body(), 2 * KIB, &budget, Duration::from_secs(5)).await.unwrap_err();
        Ok::<_, Infallible>(Response::new(refused.reason.code().to_owned()))
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(Request::post("http://a.example/").body("abc".to_owned()).unwrap()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "overloaded");
}
