//! A Workload API that gives what a test tells it to, and is as strict as SPIRE's about who asks.

use std::{convert::Infallible, path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::{net::UnixListener, sync::watch, task::JoinHandle};

use super::svid::Leaf;

/// What the API answers now.
#[derive(Clone, Default)]
pub struct State {
    /// A gRPC status other than 0, instead of messages.
    pub refuse: Option<u16>,
    /// Counts the pushes: a change is a new message on every open stream.
    pub turn: u64,
    pub svids: Vec<u8>,
    pub x509: Vec<u8>,
    pub jwt: Vec<u8>,
    /// The token that is given for each audience.
    pub tokens: Vec<(String, String)>,
    /// Cuts the streams.
    pub cut: bool,
}

pub struct WorkloadApi {
    pub tell: watch::Sender<State>,
    /// Each request's method, and whether it showed the metadata.
    pub asked: Arc<Mutex<Vec<(String, bool)>>>,
    serving: JoinHandle<()>,
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl WorkloadApi {
    pub fn at(socket: &Path, state: State) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (tell, told) = watch::channel(state);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (told, asked) = (told.clone(), kept.clone());
                let service = service_fn(move |request| {
                    let (told, asked) = (told.clone(), asked.clone());
                    async move { Ok::<_, Infallible>(answer(request, told, &asked).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { tell, asked, serving }
    }

    pub fn push(&self, change: impl FnOnce(&mut State)) {
        self.tell.send_modify(|state| {
            change(state);
            state.turn += 1;
        });
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, told: watch::Receiver<State>, asked: &Mutex<Vec<(String, bool)>>) -> Response<Body> {
    let named = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let method = request.uri().path().trim_start_matches("/SpiffeWorkloadAPI/").to_owned();
    let knows = named("workload.spiffe.io") == "true";
    asked.lock().push((method.clone(), knows));
    assert_eq!((named("content-type").as_str(), named("te").as_str()), ("application/grpc", "trailers"));
    if !knows {
        return only_status(3, "security header missing from request");
    }
    if let Some(code) = told.borrow().refuse {
        return only_status(code, "no identity issued");
    }
    if method == "FetchJWTSVID" {
        let message = request.into_body().collect().await.unwrap().to_bytes();
        let tokens = told.borrow().tokens.clone();
        // The request is its audience and nothing else.
        return match tokens.iter().find(|(audience, _)| message[5..] == field(1, audience.as_bytes())) {
            Some((_, token)) => once(&field(1, &[field(1, b"spiffe://acme.test/remit"), field(2, token.as_bytes())].concat())),
            None => only_status(7, "no identity issued"),
        };
    }
    let frames = futures_util::stream::unfold((told, false, false), move |(mut told, began, over)| {
        let method = method.clone();
        async move {
            if over {
                return None;
            }
            if began && told.changed().await.is_err() {
                return None;
            }
            let state = told.borrow_and_update().clone();
            if state.cut {
                return None;
            }
            if let Some(code) = state.refuse {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from(code));
                return Some((Ok::<_, Infallible>(Frame::trailers(trailers)), (told, true, true)));
            }
            let message = match method.as_str() {
                "FetchX509SVID" => state.svids,
                "FetchX509Bundles" => state.x509,
                _ => state.jwt,
            };
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let framed = [&[0][..], &length, &message].concat();
            Some((Ok(Frame::data(Bytes::from(framed))), (told, true, false)))
        }
    });
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// One message, and the status that it is all.
fn once(message: &[u8]) -> Response<Body> {
    let framed = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(Bytes::from(framed))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn only_status(code: u16, message: &'static str) -> Response<Body> {
    let mut response = Response::new(http_body_util::Empty::new().boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("grpc-status", HeaderValue::from(code));
    response.headers_mut().insert("grpc-message", HeaderValue::from_static(message));
    response
}

/// A length-delimited field of protobuf.
pub fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// `X509SVIDResponse` with one SVID.
pub fn svids(id: &str, leaf: &Leaf, bundle: &[u8]) -> Vec<u8> {
    let chain: Vec<u8> = leaf.chain.iter().flat_map(|c| c.to_vec()).collect();
    field(1, &[field(1, id.as_bytes()), field(2, &chain), field(3, &leaf.key), field(4, bundle)].concat())
}

/// A map from trust domain to bundle, as field `number`.
pub fn bundles(number: u64, of: &[(&str, &[u8])]) -> Vec<u8> {
    of.iter()
        .flat_map(|(domain, bundle)| field(number, &[field(1, format!("spiffe://{domain}").as_bytes()), field(2, bundle)].concat()))
        .collect()
}
