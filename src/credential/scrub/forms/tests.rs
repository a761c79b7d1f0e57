use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

const VALUE: &[u8] = b"s3cr3t/value+with=odd&chars\"\\ ~?";

fn contains(haystack: &[u8], forms: &[Vec<u8>]) -> bool {
    forms.iter().any(|f| memchr::memmem::find(haystack, f).is_some())
}

#[test]
fn base64_is_found_whatever_stands_around_the_value() {
    let forms = forms(VALUE);
    for before in 0..7 {
        for after in 0..7 {
            let mut text = vec![0xA5; before];
            text.extend_from_slice(VALUE);
            text.extend(vec![0x5A; after]);
            assert!(contains(STANDARD.encode(&text).as_bytes(), &forms), "{before} {after}");
            assert!(contains(URL_SAFE.encode(&text).as_bytes(), &forms), "{before} {after}");
        }
    }
}

#[test]
fn what_encoders_make_of_it_is_found() {
    let forms = forms(VALUE);
    for text in [
        r#"s3cr3t/value+with=odd&chars\"\\ ~?"#,
        r#"s3cr3t\/value+with=odd&chars\"\\ ~?"#,
        r#"s3cr3t/value+with=odd\u0026chars\"\\ ~?"#,
        r#"s3cr3t/value+with\u003dodd\u0026chars\"\\ ~?"#,
        r#"s3cr3t/value\u002Bwith=odd\u0026chars\u0022\\ ~?"#,
        r#"s3cr3t\/value+with=odd\u0026chars\u0022\\ ~?"#,
        r#"s3cr3t/value+with=odd&chars\\\"\\\\ ~?"#,
        "s3cr3t%2Fvalue%2Bwith%3Dodd%26chars%22%5C%20~%3F",
        "s3cr3t%2fvalue%2bwith%3dodd%26chars%22%5c+%7e%3f",
        "s3cr3t/value+with=odd&amp;chars&quot;\\ ~?",
        "s3cr3t/value+with=odd&amp;chars&#34;\\ ~?",
    ] {
        assert!(contains(text.as_bytes(), &forms), "{text}");
    }
    let key = super::forms(b"-----BEGIN KEY-----\nabc\r\ndef\n");
    assert!(contains(br#"{"key":"-----BEGIN KEY-----\nabc\r\ndef\n"}"#, &key));
}

#[test]
fn a_plain_value_has_few_forms_and_a_short_one_only_safe_ones() {
    let token = forms(b"ghp_0123456789abcdefghijABCDEFGHIJ012345");
    assert!(token.len() <= 24, "{}", token.len());
    assert!(forms(b"ab").iter().skip(1).all(|f| f.len() >= SHORTEST));
    assert!(forms(b"").is_empty());
}

/// Encoders written from their definitions, apart from the forms.
fn echo(value: &[u8], which: usize) -> String {
    let text = std::str::from_utf8(value).unwrap();
    let each = |f: &dyn Fn(u8) -> String| value.iter().map(|b| f(*b)).collect::<String>();
    let json = serde_json::to_string(text).unwrap();
    let percent = |b: u8| format!("%{b:02X}");
    match which {
        0 => text.to_owned(),
        1 => each(&|b| format!("{b:02x}")),
        2 => each(&|b| format!("{b:02X}")),
        3 => each(&|b| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { char::from(b).into() } else { percent(b) }),
        4 => each(&|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { percent(b).to_lowercase() }),
        5 => each(&|b| {
            if b == b' ' {
                "+".into()
            } else if b.is_ascii_alphanumeric() || b"-._*".contains(&b) {
                char::from(b).into()
            } else {
                percent(b)
            }
        }),
        6 => each(&percent),
        7 => json,
        8 => json.replace('/', "\\/"),
        9 => json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
        10 => serde_json::to_string(&json).unwrap(),
        11 => each(&|b| format!("\\u{:04x}", u32::from(b))),
        12 => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;"),
        _ => percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever the secret, and however a server writes it, with whatever around it: it is found.
    #[test]
    fn every_echo_of_every_secret_is_found(value in "[ -~]{16,80}", which in 0usize..14, before in "[a-zA-Z0-9 :]{0,9}", after in "[a-zA-Z0-9 :]{0,9}") {
        let forms = forms(value.as_bytes());
        let text = format!("{before}{}{after}", echo(value.as_bytes(), which));
        prop_assert!(contains(text.as_bytes(), &forms), "{}", text);
        let whole = format!("{before}{value}{after}");
        for coded in [STANDARD.encode(&whole), URL_SAFE.encode(&whole)] {
            for text in [coded.clone(), coded.replace('/', "\\/"), coded.replace('+', "\\u002B"), coded.replace('=', "\\u003d"),
                coded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")]
            {
                prop_assert!(contains(text.as_bytes(), &forms), "{}", text);
            }
        }
    }
}
