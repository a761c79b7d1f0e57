use super::{Stop, holds_secrets, is_harmless, veil::Value};

/// Deeper answers are not read.
const DEEPEST: usize = 64;
/// No number that counts something has more digits.
const LONGEST_NUMBER: u8 = 20;
/// Longer names are not harmless.
const LONGEST_NAME: usize = 64;

/// JSON (RFC 8259), one document or several, byte by byte: every text is hidden but those of
/// harmless names.
#[derive(Debug, Default)]
pub(in crate::credential) struct Json {
    pub(super) value: Value,
    open: Vec<Open>,
    at: At,
    /// The name of the member that is being read.
    name: Vec<u8>,
    /// What a literal must go on with.
    literal: &'static [u8],
    /// How long the number is that is being read.
    digits: u8,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    object: bool,
    /// The next text is a name.
    names: bool,
    /// All that is in it is a credential; or all of it is harmless, unless an object in it has names.
    secret: bool,
    harmless: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Between,
    Name {
        escaped: bool,
    },
    Text {
        escaped: bool,
    },
}

impl Json {
    pub(super) fn take(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Stop> {
        match self.at {
            At::Between => self.between(byte, out)?,
            At::Name { escaped } => {
                self.at = At::Name { escaped: !escaped && byte == b'\\' };
                if byte == b'"' && !escaped {
                    self.at = At::Between;
                } else if self.name.len() <= LONGEST_NAME {
                    self.name.push(byte);
                }
                out.push(byte);
            }
            At::Text { escaped } => {
                self.at = At::Text { escaped: !escaped && byte == b'\\' };
                if byte == b'"' && !escaped {
                    self.at = At::Between;
                    self.value.end(out);
                    out.push(byte);
                } else {
                    self.value.take(byte, out);
                }
            }
        }
        Ok(())
    }

    fn between(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Stop> {
        if let Some((next, rest)) = self.literal.split_first() {
            self.literal = rest;
            out.push(byte);
            return if byte == *next { Ok(()) } else { Err(Stop) };
        }
        let inside = self.open.last().copied();
        self.digits = if byte.is_ascii_digit() { self.digits.saturating_add(1) } else { 0 };
        match byte {
            b'0'..=b'9' if self.digits > LONGEST_NUMBER => return Err(Stop),
            b'"' if inside.is_some_and(|o| o.object && o.names) => {
                self.name.clear();
                self.at = At::Name { escaped: false };
            }
            b'"' => {
                self.value.begin(self.harmless(inside));
                self.at = At::Text { escaped: false };
            }
            b'{' | b'[' => self.enter(byte == b'{', inside)?,
            b'}' | b']' => drop(self.open.pop()),
            b':' => self.names(false),
            b',' => self.names(true),
            b't' => self.literal = b"rue",
            b'f' => self.literal = b"alse",
            b'n' => self.literal = b"ull",
            b' ' | b'\t' | b'\r' | b'\n' | b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E' => {}
            _ => return Err(Stop),
        }
        out.push(byte);
        Ok(())
    }

    fn enter(&mut self, object: bool, inside: Option<Open>) -> Result<(), Stop> {
        if self.open.len() >= DEEPEST {
            return Err(Stop);
        }
        let named = inside.is_some_and(|o| o.object);
        let secret = inside.is_some_and(|o| o.secret) || (named && holds_secrets(&self.name));
        // `permissions: {issues: write}`, `scopes: [read]`.
        let permissions = named && object && self.name == b"permissions";
        let harmless = !secret && (permissions || (!object && self.harmless(inside)));
        self.open.push(Open { object, names: object, secret, harmless });
        Ok(())
    }

    fn names(&mut self, names: bool) {
        if let Some(open) = self.open.last_mut() {
            open.names = names;
        }
    }

    fn harmless(&self, inside: Option<Open>) -> bool {
        inside.is_some_and(|o| !o.secret && (o.harmless || (o.object && is_harmless(&self.name))))
    }
}
