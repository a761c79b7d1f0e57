use std::{
    convert::Infallible,
    io::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::Compression;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;

use super::*;

const VALUE: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

fn scrubber(values: &[&str]) -> Arc<Scrubber> {
    Arc::new(Scrubber::new(values.iter().map(|v| v.as_bytes())).unwrap())
}

/// The reference: what the scanner must give, however the body is cut.
fn whole(scrubber: &Scrubber, body: &[u8]) -> Vec<u8> {
    let mut out = body.to_vec();
    let patterns = scrubber.patterns.expose();
    for (at, _) in body.iter().enumerate() {
        for pattern in patterns.iter().filter(|p| body[at..].starts_with(p)) {
            out[at..at + pattern.len()].fill(MASK);
        }
    }
    out
}

fn streamed(mut scanner: Scanner, body: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    for cut in cuts {
        let (piece, more) = rest.split_at((*cut).min(rest.len()));
        out.extend_from_slice(&scanner.push(Bytes::copy_from_slice(piece)));
        rest = more;
    }
    out.extend_from_slice(&scanner.push(Bytes::copy_from_slice(rest)));
    out.extend_from_slice(&scanner.finish());
    out
}

/// Bodies in which beginnings, wholes and overlaps of values abound.
fn planted(values: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let scrubber = scrubber(values);
    let patterns: Vec<Vec<u8>> = scrubber.patterns.expose().clone();
    let piece = (0..patterns.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8).prop_map(move |(i, a, b, kind)| {
        let p = &patterns[i];
        match kind {
            0 => p.clone(),
            1 => p[..a.index(p.len())].to_vec(),
            2 => p[a.index(p.len())..].to_vec(),
            _ => b"{\"x\": \"lorem ipsum\"}"[..b.index(20)].to_vec(),
        }
    });
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn streaming_gives_what_the_whole_gives(body in planted(&[VALUE, "aabaabaaab", "abcabcabd/+"]), cuts in prop::collection::vec(0usize..30, 0..40)) {
        let scrubber = scrubber(&[VALUE, "aabaabaaab", "abcabcabd/+"]);
        let want = whole(&scrubber, &body);
        let got = streamed(Scanner::new(scrubber.clone()), &body, &cuts);
        prop_assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&want));
        let mut at_once = body;
        scrubber.mask(&mut at_once);
        prop_assert_eq!(at_once, want);
    }

    #[test]
    fn interactive_streams_leak_at_most_three_bytes_and_hold_no_less(body in planted(&[VALUE]), cuts in prop::collection::vec(0usize..9, 0..60)) {
        let scrubber = scrubber(&[VALUE]);
        let got = streamed(Scanner::interactive(scrubber.clone()), &body, &cuts);
        prop_assert_eq!(got.len(), body.len());
        prop_assert!(!scrubber.finds(&got));
        let want = whole(&scrubber, &body);
        for (g, w) in got.iter().zip(&want) {
            prop_assert!(g == w || *w == MASK, "only masked bytes may differ");
        }
    }
}

#[test]
fn only_a_possible_beginning_waits() {
    let mut scanner = Scanner::new(scrubber(&[VALUE]));
    let event = Bytes::from_static(b"data: {\"token\":\"x\"}\n\n");
    let out = scanner.push(event.clone());
    assert_eq!(out.as_ptr(), event.as_ptr(), "passed on without a copy");
    assert_eq!((out.len(), scanner.held()), (event.len(), 0));
    assert_eq!(scanner.push(Bytes::from_static(b"abc ghp_01")), "abc ");
    assert_eq!(scanner.held(), 6);
    assert_eq!(scanner.push(Bytes::from_static(b"9")), "ghp_019", "no value after all");
}

#[test]
fn hits_are_counted_once() {
    let mut scanner = Scanner::new(scrubber(&[VALUE]));
    for byte in VALUE.as_bytes().iter().chain(b" and ").chain(VALUE.as_bytes()) {
        scanner.push(Bytes::copy_from_slice(&[*byte]));
    }
    assert_eq!(scanner.hits(), 2);
}

type Frames = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn response(frames: Vec<Frame<Bytes>>, fields: &[(&'static str, &str)]) -> Response<Frames> {
    let frames: Vec<_> = frames.into_iter().map(Ok).collect();
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    for (name, value) in fields {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

async fn collect<B: Body<Data = Bytes> + Unpin>(mut body: B) -> (Vec<u8>, Option<HeaderMap>, Option<B::Error>) {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    loop {
        match body.frame().await {
            None => return (bytes, trailers, None),
            Some(Err(error)) => return (bytes, trailers, Some(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}

#[tokio::test]
async fn fields_body_and_trailers_are_scrubbed_and_the_length_holds() {
    let text = format!("you sent {VALUE}, or {}", STANDARD.encode(format!("bot:{VALUE}")));
    let (a, b) = text.as_bytes().split_at(20);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-message", VALUE.parse().unwrap());
    let frames = vec![
        Frame::data(Bytes::copy_from_slice(a)),
        Frame::data(Bytes::copy_from_slice(b)),
        Frame::data(Bytes::from_static(b"ghp_0")),
        Frame::trailers(trailers),
    ];
    let echoed = response(frames, &[("x-echo", &format!("Bearer {VALUE}"))]);
    let scrubbed = scrub_response(echoed, Some(&scrubber(&[VALUE]))).unwrap();
    assert_eq!(scrubbed.headers()["x-echo"], format!("Bearer {}", "*".repeat(VALUE.len())));
    let mut body = scrubbed.into_body();
    let (bytes, trailers, error) = collect(&mut body).await;
    assert!(error.is_none());
    assert_eq!(bytes.len(), text.len() + 5);
    assert!(bytes.ends_with(b"ghp_0"), "a beginning at the end is no value");
    assert!(!scrubber(&[VALUE]).finds(&bytes));
    assert_eq!(trailers.unwrap()["grpc-message"], "*".repeat(VALUE.len()));
    assert_eq!(body.hits(), 4);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &str, zlib: bool) -> Vec<u8> {
    if zlib {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    } else {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }
}

#[tokio::test]
async fn compressed_answers_pass_untouched_and_are_cut_on_a_hit() {
    let clean: String = (0..5000).map(|i| format!("line {i} ghp_{i}\n")).collect();
    let dirty = format!("{clean}{VALUE}{clean}");
    for (coding, pack) in
        [("gzip", &gzip as &dyn Fn(&str) -> Vec<u8>), ("deflate", &|t| deflate(t, true)), ("deflate", &|t| deflate(t, false))]
    {
        for (text, cut) in [(&clean, false), (&dirty, true)] {
            let packed = pack(text);
            let frames = packed.chunks(100).map(|c| Frame::data(Bytes::copy_from_slice(c))).collect();
            let body = scrub_response(response(frames, &[("content-encoding", coding)]), Some(&scrubber(&[VALUE]))).unwrap().into_body();
            let (bytes, _, error) = collect(body).await;
            assert_eq!(matches!(error, Some(ScrubError::Cut)), cut, "{coding}");
            assert_eq!(bytes == packed, !cut, "{coding}");
            assert!(packed.starts_with(&bytes));
        }
    }
}

#[tokio::test]
async fn no_part_of_a_compressed_value_comes_through() {
    let packed = gzip(&format!("x{VALUE}"));
    for size in 1..packed.len() {
        let frames = packed.chunks(size).map(|c| Frame::data(Bytes::copy_from_slice(c))).collect();
        let body = scrub_response(response(frames, &[("content-encoding", "gzip")]), Some(&scrubber(&[VALUE]))).unwrap().into_body();
        let (bytes, _, error) = collect(body).await;
        assert!(matches!(error, Some(ScrubError::Cut)));
        let mut seen = Vec::new();
        let _ = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut seen);
        assert!(!seen.windows(4).any(|w| w == b"ghp_"), "pieces of {size}: {}", String::from_utf8_lossy(&seen));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_or_broken_off() {
    for fields in [[("content-encoding", "br")], [("content-encoding", "gzip, gzip")], [("grpc-encoding", "gzip")]] {
        let refused = scrub_response(response(vec![Frame::data(Bytes::from_static(b"x"))], &fields), Some(&scrubber(&[VALUE])));
        assert_eq!(refused.err().unwrap().reason.status(), 502);
    }
    let frames = vec![Frame::data(Bytes::from_static(b"not gzip at all, not at all"))];
    let body = scrub_response(response(frames, &[("content-encoding", "gzip")]), Some(&scrubber(&[VALUE]))).unwrap().into_body();
    assert!(matches!(collect(body).await.2, Some(ScrubError::Encoding)));
}

#[test]
fn nothing_injected_means_nothing_touched() {
    let frames = vec![Frame::data(Bytes::from_static(b"\x1b\x00"))];
    let mut body = scrub_response(response(frames, &[("content-encoding", "br")]), None).unwrap().into_body();
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else { panic!("a frame is ready") };
    assert_eq!(frame.into_data().unwrap(), "\x1b\x00");
}

#[test]
fn debug_shows_no_value() {
    let shown = format!("{:?}", scrubber(&[VALUE]));
    assert!(!shown.contains("ghp_"), "{shown}");
}
