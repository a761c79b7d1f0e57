//! Text from files and the network, made safe to show.

use std::fmt::Write;

/// Escapes control and bidirectional characters, which could rewrite what a terminal shows.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
}

/// The same on one line, for a table.
pub(super) fn cell(text: &str) -> String {
    safe(text).replace('\n', "\\n")
}

fn is_unsafe(c: char) -> bool {
    crate::shown::is_obeyed(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(safe("a\u{1b}[2Jb\u{202e}c\nd"), "a\\u{1b}[2Jb\\u{202e}c\nd");
        assert_eq!(cell("a\nb"), "a\\nb");
    }
}
