//! An agent that is called: it says what it saw, and calls out through Remit as an instrumented framework does.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{
    agent::{Answer, Conn},
    web::{Body, data, full, piped},
};

#[derive(Clone)]
pub struct Behind {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    proxy: OnceLock<SocketAddr>,
    seen: Mutex<Vec<HeaderMap>>,
    /// Lets a request go on that waits.
    go: Notify,
    /// Requests that have come this far.
    waiting: Notify,
    /// Where it calls other agents.
    peer: OnceLock<String>,
}

impl Behind {
    pub async fn new(h2c: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = behind.state.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let state = state.clone();
                let service = service_fn(move |request| {
                    let state = state.clone();
                    async move { Ok::<_, Infallible>(answer(state, request).await) }
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(tcp);
                    let _ = if h2c {
                        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.is_ok()
                    } else {
                        http1::Builder::new().serve_connection(io, service).with_upgrades().await.is_ok()
                    };
                });
            }
        });
        behind
    }

    /// Whom its calls go through.
    pub fn calls_through(&self, proxy: SocketAddr) {
        self.state.proxy.set(proxy).unwrap();
    }

    /// Where `/ask` calls.
    pub fn asks(&self, peer: &str) {
        self.state.peer.set(peer.to_owned()).unwrap();
    }

    /// The fields of the requests that it got, in order.
    pub fn seen(&self) -> Vec<HeaderMap> {
        self.state.seen.lock().clone()
    }

    /// Waits until a request waits.
    pub async fn waits(&self) {
        tokio::time::timeout(Duration::from_secs(20), self.state.waiting.notified()).await.expect("a request that waits");
    }

    pub fn go(&self) {
        self.state.go.notify_one();
    }

    /// A call out, as its own with the fields of a request that it answers.
    pub async fn call(&self, target: &str, fields: &str) -> Answer {
        call(&self.state, target, fields).await
    }
}

async fn call(state: &State, target: &str, fields: &str) -> Answer {
    let mut conn = Conn::new(TcpStream::connect(state.proxy.get().unwrap()).await.unwrap());
    let host = target.trim_start_matches("http://").split('/').next().unwrap();
    conn.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await
}

/// What an instrumented framework passes on: the trace, with a span of its own.
pub fn passed_on(headers: &HeaderMap) -> String {
    let field = headers.get("traceparent").unwrap().to_str().unwrap();
    format!("traceparent: 00-{}-00f067aa0ba902b8-01\r\n", &field[3..35])
}

async fn answer(state: Arc<State>, mut request: Request<Incoming>) -> Response<Body> {
    let headers = request.headers().clone();
    state.seen.lock().push(headers.clone());
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/call" => said(&call(&state, "http://api.example.test/items/1", &passed_on(&headers)).await),
        "/list" => said(&call(&state, "http://api.example.test/items", &passed_on(&headers)).await),
        "/ask" => said(&call(&state, state.peer.get().unwrap(), &passed_on(&headers)).await),
        "/forge" => {
            let fields = format!("{}Remit-Delegation: mine\r\nRemit-Principal: root\r\n", passed_on(&headers));
            said(&call(&state, state.peer.get().unwrap(), &fields).await)
        }
        "/waits-and-calls" => {
            state.waiting.notify_one();
            state.go.notified().await;
            said(&call(&state, "http://api.example.test/items/1", &passed_on(&headers)).await)
        }
        "/stream" => {
            let (sender, body) = piped();
            let state = state.clone();
            tokio::spawn(async move {
                let _ = sender.send(data("data: 1\n\n")).await;
                state.waiting.notify_one();
                state.go.notified().await;
                let _ = sender.send(data("data: 2\n\n")).await;
                let trailers = HeaderMap::from_iter([(header::ETAG, "\"end\"".parse().unwrap())]);
                let _ = sender.send(Frame::trailers(trailers)).await;
            });
            let mut response = Response::new(body);
            response.headers_mut().insert(header::CONTENT_TYPE, "text/event-stream".parse().unwrap());
            response.headers_mut().insert(header::TRAILER, "etag".parse().unwrap());
            response
        }
        "/socket" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = io.read(&mut buffer).await {
                    if io.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(header::CONNECTION, "upgrade".parse().unwrap());
            response.headers_mut().insert(header::UPGRADE, "websocket".parse().unwrap());
            response
        }
        "/echo" => {
            let whole = request.into_body().collect().await.unwrap();
            let trailers = whole.trailers().cloned().unwrap_or_default();
            let text = json!({"body": String::from_utf8_lossy(&whole.to_bytes()), "trailers": trailers.len()}).to_string();
            Response::new(full(text))
        }
        _ => Response::new(full("hello")),
    }
}

fn said(answer: &Answer) -> Response<Body> {
    let text = json!({"status": answer.status, "reason": answer.reason(), "body": answer.text()}).to_string();
    Response::new(full(text))
}
