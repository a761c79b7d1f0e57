use std::io::Write;

use http::{HeaderName, HeaderValue, Method, Version};
use proptest::prelude::*;

use super::*;
use crate::call::{Destination, Host, Path, Scheme};

const TOKEN: &str = "ghp_R4nd0mLook1ngT0kenOf36Charactersab12";
const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\na1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ\na1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ\n";
const AWS: &str = "AKIAQ3EGPLW7HNO4TIBC\nsecret = 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\n";
const SENDGRID: &str = "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";
const OPENAI: &str = "sk-a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZa1B2c3D4e5F6";
const CONFIGURED: &str = "a-configured-secret/of some+length";

fn head(fields: &[(&'static str, &'static str)]) -> Head {
    Head {
        method: Method::PUT,
        to: Destination { scheme: Scheme::Https, host: Host::parse("api.example.com").unwrap(), port: 443 },
        path: Path::parse("/p".parse().unwrap()).unwrap(),
        headers: fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect(),
        version: Version::HTTP_11,
        upgrade: None,
    }
}

fn stream(fields: &[(&'static str, &'static str)]) -> Stream {
    let leaks = Arc::new(Scrubber::new([CONFIGURED.as_bytes()]).unwrap());
    Stream::new(&head(fields), &Arc::new(Placeholders::new(["npm_a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ"])), Some(leaks), false)
}

/// What leaves, and why it stopped.
fn through(mut stream: Stream, body: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<String>) {
    let (mut out, mut rest) = (Vec::new(), body);
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (piece, more) = rest.split_at(cut.min(rest.len()));
        rest = more;
        match stream.push(Bytes::copy_from_slice(piece)) {
            Ok(bytes) => out.extend_from_slice(&bytes),
            Err(refusal) => return (out, Some(refusal.detail.into_owned())),
        }
    }
    assert!(out.len() + stream.held() == body.len() || stream.held() > 0);
    match stream.finish() {
        Ok(bytes) => out.extend_from_slice(&bytes),
        Err(refusal) => return (out, Some(refusal.detail.into_owned())),
    }
    assert_eq!(stream.held(), 0);
    (out, None)
}

#[test]
fn a_secret_in_any_pieces_never_leaves_whole() {
    for (secret, what) in [
        (TOKEN, "a GitHub token"),
        (JWT, "a JSON Web Token"),
        (PEM, "a private key"),
        (AWS, "an AWS key"),
        (SENDGRID, "a SendGrid key"),
        (OPENAI, "an OpenAI key"),
        (CONFIGURED, "it has leaked"),
    ] {
        let body = format!("some text before = {secret} and some after it");
        for size in [1, 2, 3, 5, 8, 13, 40, 1000] {
            let cuts = vec![size; body.len() / size + 1];
            let (out, why) = through(stream(&[]), body.as_bytes(), &cuts);
            let why = why.unwrap_or_else(|| panic!("{secret} in pieces of {size} was not found"));
            assert!(why.contains(what) && !why.contains(secret), "{why}");
            assert!(out.len() < "some text before = ".len() + 30, "{size}: {}", String::from_utf8_lossy(&out));
            assert!(body.as_bytes().starts_with(&out));
        }
    }
}

#[test]
fn examples_placeholders_and_ordinary_text_leave_as_they_are() {
    let text = "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx AKIAIOSFODNN7EXAMPLE npm_a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ \
                task-sk-learn eyJub3QiOiJhIGp3dCJ9.abc.def -----BEGIN CERTIFICATE----- SG.short hvs. AK";
    for size in [1, 2, 7, 30, 1000] {
        let (out, why) = through(stream(&[]), text.as_bytes(), &vec![size; text.len() / size + 1]);
        assert_eq!((String::from_utf8(out).unwrap().as_str(), why), (text, None), "pieces of {size}");
    }
}

#[test]
fn only_what_may_be_the_beginning_of_a_secret_waits() {
    let mut plain = stream(&[("content-length", "1000")]);
    let piece = Bytes::from_static(b"{\"text\": \"hello\"}\n");
    let out = plain.push(piece.clone()).unwrap();
    assert_eq!((out.as_ptr(), out.len(), plain.held()), (piece.as_ptr(), piece.len(), 0), "without a copy");
    assert_eq!(plain.push(Bytes::from_static(b"x ghp_R4")).unwrap(), "x ");
    assert_eq!(plain.held(), 6);
    assert_eq!(plain.push(Bytes::from_static(b". ")).unwrap(), "ghp_R4. ");
    // Of a body of no known length, what hardly begins one does not wait either.
    let mut unknown = stream(&[]);
    assert_eq!(unknown.push(Bytes::from_static(b"one")).unwrap(), "one");
    assert_eq!(unknown.push(Bytes::from_static(b" ghp_R4")).unwrap(), " ghp");
    assert_eq!(unknown.push(Bytes::from_static(b". ")).unwrap(), "_R4. ");
    // Who waits for each message gets it, and the last part of a secret does not leave.
    let mut grpc = stream(&[("content-type", "application/grpc+proto")]);
    assert_eq!(grpc.push(Bytes::from_static(b"x ghp_R4nd0mLook1ngT0kenOf36Char")).unwrap(), "x ghp_R4nd0mLook1ngT0kenOf36Char");
    assert!(grpc.push(Bytes::from_static(b"actersab12 y")).is_err());
}

#[test]
fn a_body_that_is_compressed_is_inflated_beside_the_stream() {
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let clean: String = (0..2000).map(|i| format!("line {i} ghp_{i} sk-{i}\n")).collect();
    for coding in ["gzip", "x-gzip"] {
        for size in [1, 50, 100_000] {
            let packed = gzip(&clean);
            let (out, why) = through(stream(&[("content-encoding", coding)]), &packed, &vec![size; packed.len() / size + 1]);
            assert_eq!((out == packed, why), (true, None));
            for secret in [TOKEN, CONFIGURED] {
                let packed = gzip(&format!("{clean}{secret} {clean}"));
                let (out, why) = through(stream(&[("content-encoding", coding)]), &packed, &vec![size; packed.len() / size + 1]);
                let mut left = Vec::new();
                let _ = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&out[..]), &mut left);
                assert!(why.is_some() && !String::from_utf8_lossy(&left).contains(secret), "pieces of {size}");
            }
            // At the very end, where nothing tells that the token is over.
            let packed = gzip(&format!("x {TOKEN}"));
            assert!(through(stream(&[("content-encoding", coding)]), &packed, &vec![size; packed.len()]).1.is_some());
        }
    }
    assert!(through(stream(&[("content-encoding", "gzip")]), b"not gzip at all", &[]).1.unwrap().contains("Content-Encoding"));
}

#[test]
fn credentials_in_trailers_do_not_leave() {
    let mut one = stream(&[]);
    let mut trailers: HeaderMap = [("authorization", "Bearer x"), ("x-amz-security-token", "y"), ("x-sum", "42")]
        .into_iter()
        .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
        .collect();
    one.trailers(&mut trailers).unwrap();
    assert_eq!(trailers.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["x-sum"]);
    for value in [TOKEN, CONFIGURED] {
        let mut trailers: HeaderMap = [("x-sum".parse().unwrap(), value.parse().unwrap())].into_iter().collect();
        assert_eq!(one.trailers(&mut trailers).unwrap_err().reason, Reason::ForeignCredential);
    }
}

/// Bodies in which beginnings, wholes and joins of secrets abound.
fn planted() -> impl Strategy<Value = Vec<u8>> {
    let piece = (0..8usize, any::<prop::sample::Index>(), 0..4u8).prop_map(|(i, at, kind)| {
        let secret = [TOKEN, JWT, PEM, AWS, SENDGRID, OPENAI, CONFIGURED, " \"x\": 1, "][i].as_bytes();
        match kind {
            0 => secret[..at.index(secret.len())].to_vec(),
            1 => secret[at.index(secret.len())..].to_vec(),
            2 if at.index(4) == 0 => secret.to_vec(),
            _ => b"{\"text\": \"lorem ipsum\"}\n"[..at.index(24)].to_vec(),
        }
    });
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// However a body is cut, it is stopped exactly when the whole would have been refused, and else leaves as it came.
    #[test]
    fn streaming_says_what_the_whole_says(body in planted(), cuts in prop::collection::vec(1usize..50, 0..60)) {
        let leaks = Scrubber::new([CONFIGURED.as_bytes()]).unwrap();
        let foreign = leaks.finds(&body) || formats::find(&body, |_| false).is_some();
        let (out, why) = through(stream(&[]), &body, &cuts);
        prop_assert_eq!(why.is_some(), foreign, "{:?}", String::from_utf8_lossy(&body));
        prop_assert!(body.starts_with(&out));
        if !foreign {
            prop_assert_eq!(out.len(), body.len());
        } else {
            prop_assert!(!leaks.finds(&out));
        }
    }
}

#[test]
fn a_key_that_begins_within_what_begins_none_is_seen_alike() {
    let key = &PEM["-----".len()..];
    for text in [format!("-----BEGIN {{----{key}"), format!("-----BEGIN {PEM}"), format!("-----BEGIN -----{key}")] {
        let whole = formats::find(text.as_bytes(), |_| false).is_some();
        for size in [1, 5, 12, 30, 1000] {
            let (_, why) = through(stream(&[]), text.as_bytes(), &vec![size; text.len() / size + 1]);
            assert_eq!(why.is_some(), whole, "{text} in pieces of {size}");
        }
    }
}
