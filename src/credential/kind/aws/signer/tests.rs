use super::*;
use crate::call::{Host, Path, Scheme};

fn signer(token: Option<&str>) -> Signer {
    let secret = |text: &str| Secret::new(text.to_owned());
    let keys =
        Keys { id: secret("AKIAIOSFODNN7EXAMPLE"), secret: secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), token: token.map(secret) };
    Signer::new(keys, None, None)
}

/// What leaves for a request to `host`, or why it cannot be signed.
fn sign(
    signer: &Signer,
    host: &str,
    target: &str,
    fields: &[(&'static str, &str)],
    body: Option<[u8; 32]>,
) -> Result<(HeaderMap, bool), Unsigned> {
    let mut headers: HeaderMap = fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect();
    let to = Destination { scheme: Scheme::Https, host: Host::parse(host).unwrap(), port: 443 };
    let path = Path::parse(target.parse().unwrap()).unwrap();
    let leaving = Leaving { method: &http::Method::PUT, to: &to, path: &path, headers: &mut headers, body };
    let now = OffsetDateTime::from_unix_timestamp(1_369_353_600).unwrap();
    signer.sign_at(leaving, now).map(|rewrite| (headers, rewrite.is_some()))
}

const S3: &str = "examplebucket.s3.us-east-1.amazonaws.com";
const HASH: &str = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";

#[test]
fn what_the_agent_signed_with_is_replaced() {
    let agents = [
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER/20130524/eu-north-1/iam/aws4_request, SignedHeaders=host, Signature=0",
        ),
        ("x-amz-date", "19990101T000000Z"),
        ("x-amz-security-token", "theirs"),
        ("x-amz-region-set", "*"),
        ("x-amz-content-sha256", HASH),
        ("x-amz-meta-owner", "  acme   web "),
        ("user-agent", "boto"),
        ("range", "bytes=0-9"),
    ];
    let (headers, rewritten) = sign(&signer(Some("session")), S3, "/a/b", &agents, None).unwrap();
    assert!(!rewritten);
    let authorization = headers.get("authorization").unwrap();
    assert!(authorization.is_sensitive() && headers.get("x-amz-security-token").unwrap().is_sensitive());
    let text = authorization.to_str().unwrap();
    // Service and region are the host's, whatever the agent signed for.
    assert!(text.contains("AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-owner;x-amz-security-token, "), "{text}");
    assert_eq!(headers.get("x-amz-date").unwrap(), "20130524T000000Z");
    assert_eq!(headers.get("x-amz-security-token").unwrap(), "session");
    assert_eq!(headers.get("x-amz-region-set"), None);
    assert!(!headers.values().any(|v| v.to_str().unwrap_or("").contains("PLACEHOLDER")));
    let (headers, _) = sign(&signer(None), S3, "/a/b", &agents, None).unwrap();
    assert_eq!(headers.get("x-amz-security-token"), None, "keys of their own have none");
}

#[test]
fn the_body_that_is_at_hand_counts_and_not_what_the_agent_says_of_it() {
    let hash = [7; 32];
    let of = |host: &str, said: &[(&'static str, &str)], body| {
        sign(&signer(None), host, "/x", said, body).map(|(h, _)| h.get(CONTENT).map(|v| v.to_str().unwrap().to_owned()))
    };
    let other = "dynamodb.eu-west-1.amazonaws.com";
    assert_eq!(of(S3, &[], Some(hash)).unwrap().unwrap(), hex(&hash));
    assert_eq!(of(S3, &[("x-amz-content-sha256", HASH)], Some(hash)).unwrap().unwrap(), hex(&hash));
    assert_eq!(of(S3, &[("x-amz-content-sha256", UNSIGNED)], Some(hash)).unwrap().unwrap(), hex(&hash));
    assert_eq!(of(other, &[], Some(hash)).unwrap(), None, "others do not want the field");
    // Where it streams, the agent's word must stand for it.
    assert_eq!(of(S3, &[("x-amz-content-sha256", HASH)], None).unwrap().unwrap(), HASH);
    assert_eq!(of(S3, &[("x-amz-content-sha256", UNSIGNED)], None).unwrap().unwrap(), UNSIGNED);
    assert_eq!(of(S3, &[], None).unwrap().unwrap(), UNSIGNED);
    assert!(of(other, &[], None).unwrap_err().to_string().contains("wants its hash"));
    assert!(of(S3, &[("x-amz-content-sha256", "abc")], None).unwrap_err().to_string().contains("neither a hash"));
}

#[test]
fn bodies_of_signed_chunks_are_signed_again_and_others_of_that_kind_refused() {
    let of = |word: &str, more: &[(&'static str, &str)], host: &str| {
        let mut said = vec![("x-amz-content-sha256", word), ("content-encoding", "aws-chunked")];
        said.extend_from_slice(more);
        sign(&signer(None), host, "/x", &said, None).map(|(h, rewritten)| (h.get(CONTENT).unwrap().to_str().unwrap().to_owned(), rewritten))
    };
    let length = [("x-amz-decoded-content-length", "66560")];
    for (word, rewritten) in [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", true),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", true),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", false),
    ] {
        assert_eq!(of(word, &length, S3).unwrap(), (word.to_owned(), rewritten));
        assert!(of(word, &[], S3).unwrap_err().to_string().contains("Decoded-Content-Length"));
        assert!(of(word, &length, "glacier.eu-west-1.amazonaws.com").unwrap_err().to_string().contains("only S3"));
    }
    for word in ["STREAMING-AWS4-HMAC-SHA256-EVENTS", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-"] {
        assert!(of(word, &length, S3).unwrap_err().to_string().contains("event streams and SigV4A"), "{word}");
    }
    assert!(of(HASH, &length, S3).unwrap_err().to_string().contains("aws-chunked"));
}

#[test]
fn what_cannot_be_signed_says_why() {
    let why =
        |host: &str, target: &str, fields: &[(&'static str, &str)]| sign(&signer(None), host, target, fields, Some([0; 32])).unwrap_err();
    assert!(matches!(why("minio.example.com", "/", &[]), Unsigned::Credential(w) if w.contains("write `service`")));
    assert!(matches!(why("acme.s3-accelerate.amazonaws.com", "/", &[]), Unsigned::Credential(w) if w.contains("write `region`")));
    assert!(matches!(why(S3, "/x?X-Amz-Signature=0", &[]), Unsigned::Request(w) if w.contains("in its query")));
    let twice = [("x-amz-content-sha256", HASH), ("x-amz-content-sha256", UNSIGNED)];
    let mut headers = HeaderMap::new();
    twice.iter().for_each(|(n, v)| {
        headers.append(HeaderName::from_static(n), HeaderValue::from_static(v));
    });
    assert!(payload(&headers, &Place::new("s3", "us-east-1"), None).unwrap_err().to_string().contains("stands twice"));
}

#[test]
fn a_body_is_read_whole_only_where_nothing_stands_for_it() {
    let needs = |host: &str, said: &[(&'static str, &'static str)]| {
        let headers: HeaderMap = said.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        let to = Destination { scheme: Scheme::Https, host: Host::parse(host).unwrap(), port: 443 };
        signer(None).needs_body(&to, &headers)
    };
    assert!(!needs(S3, &[]) && !needs("minio.example.com", &[]));
    assert!(needs("lambda.eu-west-1.amazonaws.com", &[]));
    assert!(!needs("glacier.eu-west-1.amazonaws.com", &[("x-amz-content-sha256", HASH)]));
    assert!(!needs("data.mediastore.eu-west-1.amazonaws.com", &[("x-amz-content-sha256", UNSIGNED)]));
}
