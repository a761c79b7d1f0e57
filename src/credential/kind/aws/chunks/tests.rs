//! Against the examples of S3's documentation: 65 KiB of `a`, once with a checksum after them.

use proptest::prelude::*;
use time::OffsetDateTime;

use super::{
    super::sigv4::{Place, Stamp},
    *,
};

const NONE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn key() -> Key {
    let stamp = Stamp::at(OffsetDateTime::from_unix_timestamp(1_369_353_600).unwrap());
    Key::derive("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", stamp, &Place::new("s3", "us-east-1"))
}

/// A body of chunks, each with its signature, and what ends it.
fn body(chunks: &[(&[u8], &str)], end: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (data, signature) in chunks {
        out.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", data.len()).as_bytes());
        if !data.is_empty() {
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(end.as_bytes());
    out
}

fn rewrite(seed: &str, trailers: bool, sent: &[u8], pieces: usize) -> Result<Vec<u8>, Unsigned> {
    let mut chunks = Chunks::new(key(), seed, trailers);
    let mut out = Vec::new();
    for piece in sent.chunks(pieces) {
        out.extend_from_slice(&chunks.next(&Bytes::copy_from_slice(piece))?);
    }
    chunks.end().map(|()| out)
}

#[test]
fn the_documentations_chunks() {
    let (first, second) = (vec![b'a'; 65_536], vec![b'a'; 1024]);
    let signed = [
        (&*first, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (&*second, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (b"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ];
    let sent = body(&signed.map(|(data, _)| (data, NONE)), "\r\n");
    assert_eq!(sent.len(), 66_824, "as the documentation counts it");
    let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    for pieces in [1, 7, 16_384, 100_000] {
        assert_eq!(rewrite(seed, false, &sent, pieces).unwrap(), body(&signed, "\r\n"), "in pieces of {pieces}");
    }
}

#[test]
fn the_documentations_chunks_with_a_checksum_after_them() {
    let (first, second) = (vec![b'a'; 65_536], vec![b'a'; 1024]);
    let signed = [
        (&*first, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
        (&*second, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
        (b"", "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
    ];
    let end = |signature: &str| format!("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{signature}\r\n\r\n");
    let sent = body(&signed.map(|(data, _)| (data, NONE)), &end(NONE));
    let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
    let want = body(&signed, &end("d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"));
    for pieces in [3, 50_000] {
        assert_eq!(rewrite(seed, true, &sent, pieces).unwrap(), want, "in pieces of {pieces}");
    }
}

#[test]
fn what_is_not_framed_so_is_refused() {
    let good = body(&[(b"abc", NONE), (b"", NONE)], "\r\n");
    assert!(rewrite("", false, &good, 5).is_ok());
    let text = String::from_utf8(good).unwrap();
    let short = &NONE[1..];
    for (sent, why) in [
        (text.replace("3;", "4;"), "longer than its size"),
        (text.replace("3;", "2;"), "longer than its size"),
        (text.replace("3;", "-3;"), "does not begin with"),
        (text.replace("3;", "+3;"), "does not begin with"),
        (text.replace("3;", "100001;"), "larger than 1 MiB"),
        (text.replace(NONE, short), "does not begin with"),
        (text.replace(EXTENSION, ";name=x;chunk-signature="), "does not begin with"),
        (text.replace(&format!("{EXTENSION}{NONE}"), ""), "does not begin with"),
        ("a".repeat(200), "does not begin with"),
        (format!("{text}more"), "after the last chunk"),
        (text.trim_end().to_owned(), "broke off"),
        (text[..100].to_owned(), "broke off"),
        (String::new(), "broke off"),
        (format!("{}x-amz-checksum-crc32:AAAA\r\n\r\n", text.strip_suffix("\r\n").unwrap()), "does not announce"),
    ] {
        let got = rewrite("", false, sent.as_bytes(), 9).unwrap_err().to_string();
        assert!(got.contains(why), "{sent:?}: {got}");
    }
    let head = text.strip_suffix("\r\n").unwrap();
    for (end, why) in [
        ("\r\n", "and are not"),
        ("x-amz-checksum-crc32:AAAA\r\n\r\n", "and are not"),
        ("no field\r\n\r\n", "no fields"),
        ("x-amz-trailer-signature:0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n", "after the signature"),
        ("x-amz-trailer-signature:0\r\nx-amz-trailer-signature:0\r\n\r\n", "no fields"),
        (&"a".repeat(5000), "no fields"),
    ] {
        let got = rewrite("", true, format!("{head}{end}").as_bytes(), 11).unwrap_err().to_string();
        assert!(got.contains(why), "{end:?}: {got}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn data_passes_unchanged_however_it_is_cut(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6), pieces in 1_usize..400) {
        let mut chunks: Vec<(&[u8], &str)> = parts.iter().map(|p| (&**p, NONE)).collect();
        chunks.push((b"", NONE));
        let sent = body(&chunks, "\r\n");
        let got = rewrite("seed", false, &sent, pieces).unwrap();
        prop_assert_eq!(got.len(), sent.len());
        // Signed over the same data, whatever stood there before.
        let mut before = "seed".to_owned();
        let mut signatures = Vec::new();
        for (data, _) in &chunks {
            before = key().chunk(&before, data);
            signatures.push(before.clone());
        }
        let want: Vec<(&[u8], &str)> = chunks.iter().zip(&signatures).map(|((data, _), s)| (*data, &**s)).collect();
        prop_assert_eq!(got, body(&want, "\r\n"));
    }
}
