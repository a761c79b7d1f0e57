//! The query of a request, as names and values (WHATWG URL §5.1: `&` separates, `+` is a space).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The pairs of a query, decoded; a name without `=` has the empty value.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// Decodes one name or value; plain text is borrowed.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    // Checked to be UTF-8 when the path was parsed.
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

/// Whether every escape is whole and what they decode to is UTF-8 without NUL.
pub(super) fn is_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let whole = memchr::memchr_iter(b'%', bytes)
        .all(|at| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00"));
    whole && !bytes.contains(&0) && percent_decode_str(text).decode_utf8().is_ok()
}

/// A name as readers that do not mind case compare it: `ſ` and the Kelvin sign fold too.
pub(super) fn fold(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        if name.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }
    } else {
        Cow::Owned(name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let all: Vec<_> = pairs("a=1&b=%20x+y&&flag&%73tate=open&c=d=e").map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
        let want = [("a", "1"), ("b", " x y"), ("flag", ""), ("state", "open"), ("c", "d=e")];
        assert_eq!(all, want.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn folding_is_what_lax_readers_do() {
        for (text, want) in [("Title", "title"), ("\u{17f}tate", "state"), ("\u{212a}ey", "key"), ("title", "title")] {
            assert_eq!(fold(text), want);
        }
    }
}
