use super::{is_harmless, veil::Value};

/// The fields of a form, as some token endpoints answer.
#[derive(Debug, Default)]
pub(in crate::credential) struct Form {
    pub(super) value: Value,
    key: Vec<u8>,
    in_value: bool,
}

impl Form {
    pub(super) fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'&' => {
                self.value.end(out);
                self.key.clear();
                self.in_value = false;
                out.push(byte);
            }
            b'=' if !self.in_value => {
                self.in_value = true;
                self.value.begin(is_harmless(&self.key));
                out.append(&mut self.key);
                out.push(byte);
            }
            _ if self.in_value => self.value.take(byte, out),
            // A name is one when `=` follows: text without is a value.
            _ if self.key.len() < 64 => self.key.push(byte),
            _ => out.push(b'*'),
        }
    }
}
