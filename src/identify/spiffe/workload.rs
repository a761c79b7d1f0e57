//! The Workload API's streams: gRPC over HTTP/2 on its socket.
//!
//! Three streams of full sets are all that is needed, so hyper's HTTP/2 client and a reader of four
//! message kinds do it; tonic and prost would be the dearest part of the build.

use std::{fmt, io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::config::WorkloadApi;

/// To connect and to the head of the answer; then messages may be hours apart.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest message: gRPC's own bound.
const LARGEST: usize = 4 << 20;
/// For one answer: who waits for it is a call.
const SOON: Duration = Duration::from_secs(5);

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing is for this workload: what it had must no longer be used.
    Denied(String),
    /// The request is one that will never be answered.
    Never(String),
    /// It may go on when it is asked again.
    Broken(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(why) | Self::Never(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}

/// Asks one method that answers once.
///
/// # Errors
/// Why it did not.
pub(super) async fn ask(api: &WorkloadApi, method: &str, message: &[u8]) -> Result<Bytes, String> {
    let mut answer = None;
    let mut take = |message: &[u8]| {
        answer = Some(Bytes::copy_from_slice(message));
        Ok(())
    };
    let ended = timeout(SOON, stream(api, method, message, &mut take)).await;
    match (answer, ended) {
        (Some(answer), Ok(_)) => Ok(answer),
        (None, Ok(ended)) => Err(format!("the Workload API: {ended}")),
        (_, Err(_)) => Err(format!("the Workload API gave no answer within {} s", SOON.as_secs())),
    }
}

/// Asks one method, with a message, and gives each message of its stream, until the stream ends.
pub(super) async fn stream(
    api: &WorkloadApi,
    method: &str,
    message: &[u8],
    take: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send),
) -> Ended {
    let ended = match api {
        WorkloadApi::Unix(path) => match timeout(PATIENCE, UnixStream::connect(path)).await {
            Ok(Ok(socket)) => over(socket, method, message, take).await,
            Ok(Err(e)) => Err(io_broken(&e)),
            Err(_) => Err(Ended::Broken("nobody accepts on the socket".into())),
        },
        WorkloadApi::Tcp(address) => match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => over(socket, method, message, take).await,
            Ok(Err(e)) => Err(io_broken(&e)),
            Err(_) => Err(Ended::Broken("nobody accepts on the socket".into())),
        },
    };
    match ended {
        Ok(()) => Ended::Broken("the stream ended".into()),
        Err(ended) => ended,
    }
}

fn io_broken(error: &io::Error) -> Ended {
    Ended::Broken(error.to_string())
}

async fn over<S>(socket: S, method: &str, message: &[u8], take: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send)) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |e: hyper::Error| Ended::Broken(e.to_string());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.map_err(broken)?;
    let driver = AbortOnDrop(tokio::spawn(connection));
    let request = request(method, message).map_err(|e| Ended::Never(e.to_string()))?;
    let answered = timeout(PATIENCE, sender.send_request(request)).await;
    let response = answered.map_err(|_| Ended::Broken("no answer came".into()))?.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(Ended::Broken(format!("it answered {}", response.status())));
    }
    // An answer without messages has its status in its head.
    status(response.headers())?;
    let ended = messages(response.into_body(), take).await;
    drop(driver);
    ended
}

fn request(method: &str, message: &[u8]) -> Result<Request<Full<Bytes>>, http::Error> {
    // Not compressed, and its length.
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(message);
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://localhost/SpiffeWorkloadAPI/{method}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "remit")
        // Workload Endpoint §6.1: shows that whoever asks knows whom it asks.
        .header("workload.spiffe.io", HeaderValue::from_static("true"))
        .body(Full::new(Bytes::from(framed)))
}

async fn messages(mut body: Incoming, take: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send)) -> Result<(), Ended> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Ended::Broken(e.to_string()))?;
        match frame.into_data() {
            Ok(data) => {
                held.extend_from_slice(&data);
                while let Some(message) = message(&mut held)? {
                    take(&message).map_err(|why| Ended::Broken(format!("a message cannot be read: {why}")))?;
                }
            }
            Err(frame) => return frame.trailers_ref().map_or(Ok(()), status),
        }
    }
    Ok(())
}

/// The next whole message: a flag, four bytes of length, and that many bytes.
fn message(held: &mut BytesMut) -> Result<Option<Bytes>, Ended> {
    let Some(&[flag, a, b, c, d]) = held.first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if flag != 0 || length > LARGEST {
        return Err(Ended::Broken("a message is compressed or larger than 4 MiB".into()));
    }
    if held.len() < 5 + length {
        return Ok(None);
    }
    held.advance(5);
    Ok(Some(held.split_to(length).freeze()))
}

/// gRPC's status, in a head or in trailers; an absent one says nothing yet.
fn status(fields: &HeaderMap) -> Result<(), Ended> {
    let text = |name: &str| fields.get(name).and_then(|v| v.to_str().ok());
    let Some(code) = text("grpc-status") else { return Ok(()) };
    let said = crate::jose::quoted(text("grpc-message").unwrap_or_default());
    match code {
        "0" => Ok(()),
        "3" => Err(Ended::Never(format!("InvalidArgument: {said}"))),
        "7" => Err(Ended::Denied(format!("PermissionDenied: {said}"))),
        "12" => Err(Ended::Never(format!("Unimplemented: {said}"))),
        other => Err(Ended::Broken(format!("gRPC status {}: {said}", crate::jose::quoted(other)))),
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
