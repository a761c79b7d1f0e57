//! GraphQL's tokens (specification of September 2025, §2.1).

use std::borrow::Cow;

/// One token, as it stands in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::intent) enum Token<'s> {
    /// One of `! $ & ( ) : = @ [ ] { | }`.
    Mark(u8),
    /// `...`
    Spread,
    Name(&'s str),
    Int(&'s str),
    Float(&'s str),
    /// What stands between the quotes.
    Text(&'s str),
    /// What stands between triple quotes.
    Block(&'s str),
    End,
}

/// A place in a source: the token that comes next, and what is behind it.
#[derive(Debug)]
pub(in crate::intent) struct Cursor<'s> {
    pub(in crate::intent) lexer: Lexer<'s>,
    pub(in crate::intent) token: Token<'s>,
}

impl<'s> Cursor<'s> {
    /// Before a source of at most `most` tokens: the first comes with the first [`Self::advance`].
    pub(in crate::intent) fn new(source: &'s str, most: usize) -> Self {
        Self { lexer: Lexer::new(source, most), token: Token::End }
    }

    /// Goes past the next token, and gives it.
    pub(in crate::intent) fn advance(&mut self) -> Result<Token<'s>, String> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    pub(in crate::intent) fn is(&self, mark: u8) -> bool {
        self.token == Token::Mark(mark)
    }

    /// Goes past a mark, if it is next.
    pub(in crate::intent) fn take(&mut self, mark: u8) -> Result<bool, String> {
        let is = self.is(mark);
        if is {
            self.advance()?;
        }
        Ok(is)
    }
}

/// What may follow in a name.
const NAME: u8 = 1;
/// What stands between tokens.
const BLANK: u8 = 2;

/// The classes of each byte.
static CLASS: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte as u8 {
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => NAME,
            b' ' | b'\t' | b'\n' | b'\r' | b',' => BLANK,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Splits a source into tokens, at most as many as it was made for.
#[derive(Debug, Clone)]
pub(in crate::intent) struct Lexer<'s> {
    source: &'s str,
    at: usize,
    left: usize,
}

impl<'s> Lexer<'s> {
    pub(in crate::intent) fn new(source: &'s str, most: usize) -> Self {
        Self { source, at: 0, left: most }
    }

    /// The line that the lexer has come to, from 1.
    pub(in crate::intent) fn line(&self) -> usize {
        memchr::memchr_iter(b'\n', self.source.as_bytes().get(..self.at).unwrap_or(&[])).count() + 1
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.at + ahead).copied()
    }

    fn rest(&self) -> &'s [u8] {
        self.source.as_bytes().get(self.at..).unwrap_or(&[])
    }

    /// Goes past bytes of one class.
    fn pass(&mut self, class: u8) {
        self.at += self.rest().iter().take_while(|b| CLASS.get(usize::from(**b)).is_some_and(|c| c & class != 0)).count();
    }

    fn error<T>(&self, message: &str) -> Result<T, String> {
        Err(format!("{message} (line {})", self.line()))
    }

    /// The next token.
    ///
    /// # Errors
    /// One sentence with the line, when there is none.
    pub(in crate::intent) fn next(&mut self) -> Result<Token<'s>, String> {
        self.skip()?;
        let Some(byte) = self.byte(0) else { return Ok(Token::End) };
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return self.error("the GraphQL document has too many tokens"),
        }
        match byte {
            b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|' | b'}' => {
                self.at += 1;
                Ok(Token::Mark(byte))
            }
            b'.' if self.source.get(self.at..self.at + 3) == Some("...") => {
                self.at += 3;
                Ok(Token::Spread)
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let start = self.at;
                self.pass(NAME);
                Ok(Token::Name(self.source.get(start..self.at).unwrap_or("")))
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.text(),
            _ => self.error("the GraphQL document has a character that begins no token"),
        }
    }

    /// White space, commas, comments and byte order marks mean nothing.
    fn skip(&mut self) -> Result<(), String> {
        loop {
            self.pass(BLANK);
            match self.byte(0) {
                Some(b'#') => {
                    let rest = self.source.as_bytes().get(self.at..).unwrap_or(&[]);
                    let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    // A lone carriage return ends a comment to some readers only.
                    if rest.get(end) == Some(&b'\r') && rest.get(end + 1) != Some(&b'\n') {
                        return self.error("a GraphQL comment holds a lone carriage return");
                    }
                    if rest.get(..end).is_some_and(|c| c.iter().any(|b| *b < b' ' && *b != b'\t')) {
                        return self.error("a GraphQL comment holds a control character");
                    }
                    self.at += end;
                }
                Some(0xef) if self.source.get(self.at..self.at + 3) == Some("\u{feff}") => self.at += 3,
                _ => return Ok(()),
            }
        }
    }

    fn digits(&mut self) -> Result<(), String> {
        if !self.byte(0).is_some_and(|b| b.is_ascii_digit()) {
            return self.error("a number of the GraphQL document lacks a digit");
        }
        while self.byte(0).is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Token<'s>, String> {
        let start = self.at;
        if self.byte(0) == Some(b'-') {
            self.at += 1;
        }
        if self.byte(0) == Some(b'0') && self.byte(1).is_some_and(|b| b.is_ascii_digit()) {
            return self.error("a number of the GraphQL document begins with 0");
        }
        self.digits()?;
        let mut float = false;
        if self.byte(0) == Some(b'.') {
            float = true;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if matches!(self.byte(0), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        if self.byte(0).is_some_and(|b| b == b'.' || b == b'_' || b.is_ascii_alphabetic()) {
            return self.error("a number of the GraphQL document runs into a name");
        }
        let text = self.source.get(start..self.at).unwrap_or("");
        Ok(if float { Token::Float(text) } else { Token::Int(text) })
    }

    fn text(&mut self) -> Result<Token<'s>, String> {
        if self.source.get(self.at..self.at + 3) == Some("\"\"\"") {
            self.at += 3;
            return self.block();
        }
        self.at += 1;
        let start = self.at;
        loop {
            match self.byte(0) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Token::Text(self.source.get(start..self.at - 1).unwrap_or("")));
                }
                Some(b'\\') => self.at += 2,
                Some(b' '..) | Some(b'\t') => self.at += 1,
                Some(_) => return self.error("a text of the GraphQL document holds a control character or does not end on its line"),
                None => return self.error("a text of the GraphQL document does not end"),
            }
        }
    }

    fn block(&mut self) -> Result<Token<'s>, String> {
        let start = self.at;
        loop {
            match self.byte(0) {
                Some(b'"') if self.byte(1) == Some(b'"') && self.byte(2) == Some(b'"') => {
                    self.at += 3;
                    return Ok(Token::Block(self.source.get(start..self.at - 3).unwrap_or("")));
                }
                Some(b'\\') if self.source.get(self.at + 1..self.at + 4) == Some("\"\"\"") => self.at += 4,
                Some(b' '.. | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(_) => return self.error("a text of the GraphQL document holds a control character"),
                None => return self.error("a text of the GraphQL document does not end"),
            }
        }
    }
}

/// The value of a [`Token::Text`] (§2.9.4).
pub(in crate::intent) fn unescape(raw: &str) -> Result<Cow<'_, str>, String> {
    if !raw.contains('\\') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        out.push_str(plain);
        let kind = escape.as_bytes().get(1).copied();
        rest = escape.get(2..).unwrap_or("");
        match kind {
            Some(c @ (b'"' | b'\\' | b'/')) => out.push(char::from(c)),
            Some(b'b') => out.push('\u{8}'),
            Some(b'f') => out.push('\u{c}'),
            Some(b'n') => out.push('\n'),
            Some(b'r') => out.push('\r'),
            Some(b't') => out.push('\t'),
            Some(b'u') => {
                let (c, tail) = unicode(rest).ok_or("a text of the GraphQL document has an escape that is no character")?;
                out.push(c);
                rest = tail;
            }
            _ => return Err("a text of the GraphQL document has an escape that means nothing".into()),
        }
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// What follows `\u`: four digits, a pair of surrogates, or `{…}`.
fn unicode(text: &str) -> Option<(char, &str)> {
    let hex = |digits: &str| if digits.bytes().all(|b| b.is_ascii_hexdigit()) { u32::from_str_radix(digits, 16).ok() } else { None };
    if let Some(inner) = text.strip_prefix('{') {
        let (digits, rest) = inner.split_once('}')?;
        return Some((char::from_u32(hex(digits).filter(|_| digits.len() <= 8)?)?, rest));
    }
    let (first, rest) = (hex(text.get(..4)?)?, text.get(4..)?);
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let low = rest.strip_prefix("\\u")?;
    let (second, rest) = (hex(low.get(..4)?)?, low.get(4..)?);
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, rest))
}

/// The value of a [`Token::Block`]: common indentation and blank first and last lines go (§2.9.4).
pub(in crate::intent) fn dedent(raw: &str) -> String {
    let text = raw.replace("\\\"\"\"", "\"\"\"").replace("\r\n", "\n").replace('\r', "\n");
    let blank = |line: &str| line.bytes().all(|b| matches!(b, b' ' | b'\t'));
    let indent_of = |line: &str| line.bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let indent = text.split('\n').skip(1).filter(|l| !blank(l)).map(indent_of).min().unwrap_or(0);
    let mut lines: Vec<&str> = text
        .split('\n')
        .enumerate()
        .map(|(i, line)| if i == 0 { line } else { line.get(indent.min(line.len())..).unwrap_or("") })
        .collect();
    let first = lines.iter().position(|l| !blank(l)).unwrap_or(lines.len());
    lines.drain(..first);
    while lines.last().is_some_and(|l| blank(l)) {
        lines.pop();
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(source: &str) -> Result<Vec<Token<'_>>, String> {
        let mut lexer = Lexer::new(source, 100);
        let mut tokens = Vec::new();
        loop {
            match lexer.next()? {
                Token::End => return Ok(tokens),
                token => tokens.push(token),
            }
        }
    }

    #[test]
    fn tokens_are_told_apart() {
        use Token::{Block, Float, Int, Mark, Name, Spread, Text};
        assert_eq!(
            all("\u{feff}{a:-1 ...b # c }\n,1.5e+3 \"x\\\"y\" \"\"\"z\\\"\"\"\"\"\" 0}").unwrap(),
            [
                Mark(b'{'),
                Name("a"),
                Mark(b':'),
                Int("-1"),
                Spread,
                Name("b"),
                Float("1.5e+3"),
                Text("x\\\"y"),
                Block("z\\\"\"\""),
                Int("0"),
                Mark(b'}')
            ]
        );
        for source in
            ["01", "1a", "1.", "1e", "-", "\"a", "\"a\nb\"", "\"\"\"a", "..", "?", "a\u{0}", "#\u{0}", "# a\rb", "\"\\", "é", "1.5.6"]
        {
            assert!(all(source).is_err(), "{source:?}");
        }
        assert!(all(&"a ".repeat(101)).unwrap_err().contains("too many"));
        assert!(all("a\nb\n?").unwrap_err().contains("line 3"));
    }

    #[test]
    fn texts_have_the_value_that_servers_give_them() {
        assert_eq!(unescape(r#"a\n\u0041\u{1F600}\uD83D\uDE00\/"#).unwrap(), "a\nA\u{1f600}\u{1f600}/");
        for raw in [r"\x", r"\u12", r"\uD83D", r"\uD83Dx", r"\uDE00", r"\u{}", r"\u{110000}", r"\u{D800}", r"\u+123"] {
            assert!(unescape(raw).is_err(), "{raw}");
        }
        assert_eq!(dedent("\n    a\n      b\n\n  "), "a\n  b");
        assert_eq!(dedent("a\r\n  b"), "a\nb");
        assert_eq!(dedent(" \\\"\"\" "), " \"\"\" ");
    }
}
