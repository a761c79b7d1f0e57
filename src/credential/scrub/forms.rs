use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// Derived forms shorter than this would hit text that has nothing to do with the value.
const SHORTEST: usize = 6;

/// The forms in which a server may echo `value`: itself, base64 at each of the three offsets and
/// in both alphabets, hex in both cases, percent-encoded, escaped in JSON and in HTML.
pub(super) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    if value.is_empty() {
        return Vec::new();
    }
    let mut all = vec![value.to_vec()];
    for offset in 0..3 {
        all.push(base64_core(&STANDARD_NO_PAD, value, offset));
        all.push(base64_core(&URL_SAFE_NO_PAD, value, offset));
    }
    all.push(hex(value, b"0123456789abcdef"));
    all.push(hex(value, b"0123456789ABCDEF"));
    all.extend(percent_forms(value));
    all.extend(json_forms(value));
    all.push(escape(value, |b| match b {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'"' => Some("&quot;"),
        b'\'' => Some("&#39;"),
        _ => None,
    }));
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(all.len());
    for (i, form) in all.into_iter().enumerate() {
        if (i == 0 || form.len() >= SHORTEST) && !kept.contains(&form) {
            kept.push(form);
        }
    }
    kept
}

/// The characters of base64 that `value` alone decides when `offset` bytes stand before it and
/// any bytes behind it.
fn base64_core(engine: &impl Engine, value: &[u8], offset: usize) -> Vec<u8> {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(value);
    let text = engine.encode(&padded).into_bytes();
    // Characters that hold a bit of the bytes before it, and of those behind it.
    let from = (offset * 8).div_ceil(6);
    let to = padded.len() * 8 / 6;
    text.get(from..to).map(<[u8]>::to_vec).unwrap_or_default()
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    value.iter().flat_map(|b| [digits[usize::from(b >> 4)], digits[usize::from(b & 15)]]).collect()
}

/// As RFC 3986 encoders write it (all but unreserved; both cases), as forms do (a space is `+`),
/// and as encoders do that keep sub-delimiters.
fn percent_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let alnum = |b: u8| b.is_ascii_alphanumeric();
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let component = |b: u8| unreserved(b) || b"!*'()".contains(&b);
    let form = |b: u8| b.is_ascii_alphanumeric() || b"-._*".contains(&b);
    let path = |b: u8| unreserved(b) || b"!$&'()*+,;=:@".contains(&b);
    let query = |b: u8| path(b) || b"/?".contains(&b);
    let mut all = Vec::new();
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        for keep in [&alnum as &dyn Fn(u8) -> bool, &unreserved, &component, &path, &query] {
            all.push(percent(value, digits, keep, false));
        }
        all.push(percent(value, digits, &form, true));
    }
    all
}

fn percent(value: &[u8], digits: &[u8; 16], keep: &dyn Fn(u8) -> bool, plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &b in value {
        if keep(b) {
            out.push(b);
        } else if plus && b == b' ' {
            out.push(b'+');
        } else {
            out.extend([b'%', digits[usize::from(b >> 4)], digits[usize::from(b & 15)]]);
        }
    }
    out
}

/// JSON as most write it (RFC 8259 §7), with `\/` as PHP does, and with `<`, `>`, `&`, `'` and `+`
/// as `\u00XX`, in both cases, as encoders do that guard against HTML.
fn json_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let plain = |b: u8| match b {
        b'"' => Some("\\\""),
        b'\\' => Some("\\\\"),
        _ => None,
    };
    let slash = |b: u8| if b == b'/' { Some("\\/") } else { plain(b) };
    let guarded = |b: u8| match b {
        b'<' => Some("\\u003c"),
        b'>' => Some("\\u003e"),
        b'&' => Some("\\u0026"),
        _ => plain(b),
    };
    let strict = |b: u8| match b {
        b'<' => Some("\\u003C"),
        b'>' => Some("\\u003E"),
        b'&' => Some("\\u0026"),
        b'\'' => Some("\\u0027"),
        b'"' => Some("\\u0022"),
        b'+' => Some("\\u002B"),
        b'\\' => Some("\\\\"),
        _ => None,
    };
    vec![escape(value, plain), escape(value, slash), escape(value, guarded), escape(value, strict)]
}

fn escape(value: &[u8], replaced: impl Fn(u8) -> Option<&'static str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &b in value {
        match replaced(b) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.push(b),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

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
        let text = std::str::from_utf8(VALUE).unwrap();
        let json = serde_json::to_string(text).unwrap();
        let percent = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        assert!(contains(json.as_bytes(), &forms));
        assert!(contains(json.replace('/', "\\/").as_bytes(), &forms));
        assert!(contains(b"s3cr3t%2Fvalue%2Bwith%3Dodd%26chars%22%5C%20~%3F", &forms));
        assert!(contains(b"s3cr3t%2fvalue%2bwith%3dodd%26chars%22%5c+%7e%3f", &forms));
        assert!(contains(b"s3cr3t/value+with=odd&amp;chars&quot;\\ ~?", &forms));
        assert!(contains(percent.as_bytes(), &forms));
    }

    #[test]
    fn a_plain_value_has_few_forms_and_a_short_one_only_safe_ones() {
        assert!(forms(b"ghp_0123456789abcdefghijABCDEFGHIJ012345").len() <= 10);
        assert!(forms(b"ab").iter().skip(1).all(|f| f.len() >= SHORTEST));
        assert!(forms(b"").is_empty());
    }
}
