//! Law 3, on a real connection: whatever form upstream echoes the injected value in, however it
//! cuts its answer into pieces, the value does not come through.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::{convert::Infallible, io::Write, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{body::Incoming, client::conn::http1 as client, server::conn::http1 as server, service::service_fn};
use hyper_util::rt::TokioIo;
use remit::credential::{ScrubError, Scrubbed, Scrubber, ask_readable, scrub_response};

const VALUE: &str = "s3cr3t/value+of=some&length~2b";

fn forms() -> Vec<String> {
    let hex: String = VALUE.bytes().map(|b| format!("{b:02x}")).collect();
    let percent: String =
        VALUE.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    let mut all = vec![VALUE.into(), hex.to_uppercase(), hex, percent, serde_json::to_string(VALUE).unwrap(), VALUE.replace('/', "\\/")];
    for before in ["", "u:", "user:"] {
        all.push(STANDARD.encode(format!("{before}{VALUE}")));
        all.push(URL_SAFE.encode(format!("{before}{VALUE}!")));
    }
    all
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Answers `/FORM/SIZE` with the form's text in pieces of that size; `/gzip/SIZE` compressed.
async fn echo(request: Request<Incoming>) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let mut parts = request.uri().path().trim_start_matches('/').split('/');
    let (form, size) = (parts.next().unwrap(), parts.next().unwrap().parse::<usize>().unwrap());
    let (text, coding) = match form.parse::<usize>() {
        Ok(i) => (format!("before {} after", forms()[i]).into_bytes(), None),
        Err(_) => (gzip(&format!("before {VALUE} after")), Some("gzip")),
    };
    let mut frames: Vec<_> = text.chunks(size).map(|c| Ok(Frame::data(Bytes::copy_from_slice(c)))).collect();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-echo", VALUE.parse().unwrap());
    frames.push(Ok(Frame::trailers(trailers)));
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    response.headers_mut().insert("x-echo", format!("Bearer {VALUE}").parse().unwrap());
    response.headers_mut().insert("location", format!("/next?key={VALUE}").parse().unwrap());
    response.headers_mut().insert("trailer", "x-echo".parse().unwrap());
    if let Some(coding) = coding {
        response.headers_mut().insert("content-encoding", coding.parse().unwrap());
    }
    Ok(response)
}

async fn call(path: &str, scrubber: &Arc<Scrubber>) -> Response<Scrubbed<Incoming>> {
    let (agent, upstream) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        // The connection ends when its other side is dropped.
        let _ = server::Builder::new().serve_connection(TokioIo::new(upstream), service_fn(echo)).await;
    });
    let (mut sender, connection) = client::handshake(TokioIo::new(agent)).await.unwrap();
    tokio::spawn(connection);
    let mut request =
        Request::get(path).header("te", "trailers").header("accept-encoding", "gzip, br").body(Empty::<Bytes>::new()).unwrap();
    ask_readable(request.headers_mut());
    assert_eq!(request.headers()["accept-encoding"], "identity");
    scrub_response(sender.send_request(request).await.unwrap(), Some(scrubber)).unwrap()
}

#[tokio::test]
async fn no_form_in_no_piece_comes_through() {
    let scrubber = Arc::new(Scrubber::new([VALUE.as_bytes()]).unwrap());
    for (i, form) in forms().iter().enumerate() {
        for size in [1, 2, 3, 7, 16, 1000] {
            let response = call(&format!("/{i}/{size}"), &scrubber).await;
            assert!(!format!("{:?}", response.headers()).contains(VALUE));
            let mut body = response.into_body();
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                match frame.unwrap().into_data() {
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(frame) => assert!(!format!("{:?}", frame.trailers_ref()).contains(VALUE)),
                }
            }
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(text.len(), form.len() + 13, "the length holds");
            assert!(text.starts_with("before ") && text.ends_with(" after"), "{text}");
            assert!(text.matches('*').count() >= VALUE.len() && !scrubber.finds(text.as_bytes()), "{form} in pieces of {size}: {text}");
            assert!(body.hits() >= 3);
        }
    }
}

#[tokio::test]
async fn a_compressed_answer_is_cut_before_the_value() {
    let scrubber = Arc::new(Scrubber::new([VALUE.as_bytes()]).unwrap());
    for size in [1, 5, 1000] {
        let mut body = call(&format!("/gzip/{size}"), &scrubber).await.into_body();
        let end = loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(ScrubError::Cut))), "pieces of {size}");
    }
}
