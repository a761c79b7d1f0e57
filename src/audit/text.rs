//! JSON written by hand into a buffer that is used again: strict, and safe to show on a terminal.

use std::cell::Cell;

use serde_json::Value;
use time::{OffsetDateTime, UtcOffset};

/// Appends `text` as a JSON string.
///
/// Beside what RFC 8259 §7 demands, everything that a terminal or a line reader could take for
/// more than text is escaped: C1 controls, U+2028 and U+2029, marks of direction, U+FEFF.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    inner(out, text);
    out.push(b'"');
}

/// Appends `text` escaped, without the quotes around it.
pub(super) fn inner(out: &mut Vec<u8>, text: &str) {
    // Without an early end the loop is done many bytes at a time, and nearly all texts are plain.
    if text.bytes().fold(true, |all, b| all & is_plain(b)) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| !is_plain(b)) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut chars = from.chars();
        let Some(c) = chars.next() else { break };
        escape(out, c);
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Bytes that stand for themselves: printable ASCII but `"` and `\`.
const fn is_plain(b: u8) -> bool {
    (b >= 0x20) & (b < 0x7f) & (b != b'"') & (b != b'\\')
}

/// Whether a character is shown as an escape wherever Remit shows text.
#[must_use]
pub(super) fn hidden(c: char) -> bool {
    crate::shown::is_obeyed(c)
}

fn escape(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        c if hidden(c) => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                hex(out, &unit.to_be_bytes());
            }
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Appends bytes as lower-case hex, without quotes.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let from = out.len();
    out.resize(from + 2 * bytes.len(), 0);
    let places = out.get_mut(from..).unwrap_or_default().chunks_exact_mut(2);
    for (place, b) in places.zip(bytes) {
        place.copy_from_slice(&[digit(b >> 4), digit(b & 15)]);
    }
}

/// Arithmetic rather than a table, so that many digits are made at a time.
const fn digit(nibble: u8) -> u8 {
    nibble + b'0' + if nibble > 9 { b'a' - b'0' - 10 } else { 0 }
}

/// Reads lower-case hex of exactly `N` bytes.
pub(super) fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    fn value(b: u8) -> Option<u8> {
        match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        }
    }
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = value(*pair.first()?)? << 4 | value(*pair.get(1)?)?;
    }
    Some(out)
}

/// Appends a whole number.
pub(super) fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends microseconds as milliseconds with three decimals.
pub(super) fn millis(out: &mut Vec<u8>, micros: u128) {
    let micros = u64::try_from(micros).unwrap_or(u64::MAX);
    number(out, micros / 1000);
    let mut fraction = *b".000";
    digits(&mut fraction[1..], (micros % 1000) as u32);
    out.extend_from_slice(&fraction);
}

/// Appends a quoted RFC 3339 time in UTC with microseconds; always 29 bytes.
pub(super) fn time(out: &mut Vec<u8>, at: OffsetDateTime) {
    thread_local!(static LAST: Cell<(i64, [u8; 29])> = const { Cell::new((i64::MIN, [0; 29])) });
    let second = at.unix_timestamp();
    // Many records are of one second; its date is worked out once.
    let (last, mut text) = LAST.get();
    if last != second {
        text = to_the_second(at);
        LAST.set((second, text));
    }
    digits(&mut text[21..27], at.microsecond());
    out.extend_from_slice(&text);
}

fn to_the_second(at: OffsetDateTime) -> [u8; 29] {
    let at = at.to_offset(UtcOffset::UTC);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let mut text = *b"\"0000-00-00T00:00:00.000000Z\"";
    digits(&mut text[1..5], year.unsigned_abs());
    for (from, value) in [(6, month as u8), (9, day), (12, hour), (15, minute), (18, second)] {
        digits(&mut text[from..from + 2], u32::from(value));
    }
    text
}

/// Fills all of `place` with the last digits of `value`.
fn digits(place: &mut [u8], mut value: u32) {
    for slot in place.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Appends any JSON value, its texts escaped as [`string`] does.
pub(super) fn value(out: &mut Vec<u8>, v: &Value) {
    match v {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::String(s) => string(out, s),
        Value::Array(items) => list(out, b"[]", items.iter(), value),
        Value::Object(map) => list(out, b"{}", map.iter(), |out, (k, v)| {
            string(out, k);
            out.push(b':');
            value(out, v);
        }),
    }
}

/// Appends items between two brackets with commas between them.
pub(super) fn list<T>(out: &mut Vec<u8>, brackets: &[u8; 2], items: impl Iterator<Item = T>, mut each: impl FnMut(&mut Vec<u8>, T)) {
    out.push(brackets[0]);
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(brackets[1]);
}

/// The longest start of `text` that is no longer than `max` bytes and ends between characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn any_text_reads_back_and_holds_nothing_hidden(text in any::<String>()) {
            let json = written(|out| string(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            prop_assert!(!json.chars().any(hidden));
        }

        #[test]
        fn hex_reads_back(bytes in any::<[u8; 32]>()) {
            prop_assert_eq!(unhex::<32>(written(|out| hex(out, &bytes)).as_bytes()), Some(bytes));
        }

        #[test]
        fn a_cut_is_a_prefix_within_its_bound(text in any::<String>(), max in 0usize..40) {
            prop_assert!(text.starts_with(cut(&text, max)) && cut(&text, max).len() <= max);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(
            written(|out| string(out, "a\u{202e}b\u{2028}\u{1b}[31m\u{9b}\u{e0041}\"\\")),
            r#""a\u202eb\u2028\u001b[31m\u009b\udb40\udc41\"\\""#
        );
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(written(|out| time(out, datetime!(2026-02-03 04:05:06.000_078 +2))), r#""2026-02-03T02:05:06.000078Z""#);
        assert_eq!(written(|out| millis(out, 1_234_005)), "1234.005");
    }

    #[test]
    fn values_read_back() {
        let v = serde_json::json!({"a": [1, -2.5, null, true, "x\u{2028}"], "b\n": {}});
        assert_eq!(serde_json::from_str::<Value>(&written(|out| value(out, &v))).unwrap(), v);
    }
}
