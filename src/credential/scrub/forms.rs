use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// Derived forms shorter than this would hit text that has nothing to do with the value.
const SHORTEST: usize = 6;

/// The forms in which a server may echo `value`: itself, base64 at each of the three offsets and
/// in both alphabets, hex in both cases; each of these percent-encoded, escaped in JSON and in HTML; and
/// every byte of it as an escape of URLs and of JSON.
pub(super) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    if value.is_empty() {
        return Vec::new();
    }
    let mut bare = vec![value.to_vec()];
    for offset in 0..3 {
        bare.push(base64_core(&STANDARD_NO_PAD, value, offset));
        bare.push(base64_core(&URL_SAFE_NO_PAD, value, offset));
    }
    let mut all = bare.clone();
    for form in &bare {
        all.extend(percent_forms(form));
        all.extend(json_forms(form));
        all.extend(html_forms(form));
    }
    // JSON in a text of JSON.
    all.extend(json_forms(value).iter().flat_map(|inner| json_forms(inner)));
    for digits in [LOWER, UPPER] {
        all.push(hex(value, digits));
        all.push(spelt(value, b"%", digits));
        all.push(spelt(value, b"\\u00", digits));
    }
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(all.len());
    for (i, form) in all.into_iter().enumerate() {
        if (i == 0 || form.len() >= SHORTEST) && !kept.contains(&form) {
            kept.push(form);
        }
    }
    kept
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

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
    spelt(value, b"", digits)
}

/// Every byte in hex behind `before`.
fn spelt(value: &[u8], before: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * (before.len() + 2));
    for b in value {
        out.extend_from_slice(before);
        out.extend([digits[usize::from(b >> 4)], digits[usize::from(b & 15)]]);
    }
    out
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
    for digits in [UPPER, LOWER] {
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

/// JSON as most write it (RFC 8259 §7), with `\/` as PHP does, and with what means something in HTML as
/// `\u00XX`, as encoders do that guard against that: Go and Rails, Gson, .NET, PHP when told to.
fn json_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let guarded = |which: &'static [u8], digits: &'static [u8; 16], slash: bool| {
        escape(value, move |b| match b {
            _ if which.contains(&b) => Some(vec![b'\\', b'u', b'0', b'0', digits[usize::from(b >> 4)], digits[usize::from(b & 15)]]),
            b'"' => Some(b"\\\"".to_vec()),
            b'\\' => Some(b"\\\\".to_vec()),
            b'/' if slash => Some(b"\\/".to_vec()),
            b'\n' => Some(b"\\n".to_vec()),
            b'\r' => Some(b"\\r".to_vec()),
            b'\t' => Some(b"\\t".to_vec()),
            _ => None,
        })
    };
    vec![
        guarded(b"", LOWER, false),
        guarded(b"", LOWER, true),
        guarded(b"<>&", LOWER, false),
        guarded(b"<>&=\'", LOWER, false),
        guarded(b"<>&\'\"+`", UPPER, false),
        guarded(b"<>&\'\"", UPPER, true),
    ]
}

/// HTML and XML, with names or numbers for quotes.
fn html_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let with = |quote: &'static str, apostrophe: &'static str| {
        escape(value, move |b| match b {
            b'&' => Some(b"&amp;".to_vec()),
            b'<' => Some(b"&lt;".to_vec()),
            b'>' => Some(b"&gt;".to_vec()),
            b'"' => Some(quote.as_bytes().to_vec()),
            b'\'' => Some(apostrophe.as_bytes().to_vec()),
            _ => None,
        })
    };
    vec![with("&quot;", "&#39;"), with("&#34;", "&#39;"), with("&quot;", "&#x27;"), with("&quot;", "&apos;")]
}

fn escape(value: &[u8], replaced: impl Fn(u8) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &b in value {
        match replaced(b) {
            Some(text) => out.extend_from_slice(&text),
            None => out.push(b),
        }
    }
    out
}

#[cfg(test)]
mod tests;
