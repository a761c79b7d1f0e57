use super::{Stop, is_harmless, veil::Value};

/// XML, byte by byte: every text is hidden but those of harmless elements, and the values of
/// attributes but those of namespaces.
#[derive(Debug, Default)]
pub(in crate::credential) struct Xml {
    pub(super) value: Value,
    at: At,
    name: Vec<u8>,
    /// The quote that an attribute's value ends with.
    quote: u8,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Text,
    /// Behind `<`.
    Tag,
    /// Its name is read, and attributes follow.
    Attributes,
    AttributeValue,
    /// `<?xml … ?>`
    Declaration,
}

const LONGEST_NAME: usize = 64;

impl Xml {
    pub(super) fn take(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Stop> {
        match (self.at, byte) {
            (At::Text, b'<') => {
                self.value.end(out);
                self.name.clear();
                self.at = At::Tag;
            }
            (At::Text, b' ' | b'\t' | b'\r' | b'\n') => {}
            (At::Text, _) => {
                self.value.take(byte, out);
                return Ok(());
            }
            (At::Tag, b'?') if self.name.is_empty() => self.at = At::Declaration,
            // Comments, CDATA and declarations hide text from this reading.
            (At::Tag, b'!') => return Err(Stop),
            (At::Tag | At::Attributes | At::Declaration, b'>') => {
                self.at = At::Text;
                let opens = self.name.first() != Some(&b'/');
                self.value.begin(opens && is_harmless(local(&self.name)));
            }
            (At::Tag, b' ' | b'\t' | b'\r' | b'\n') => self.at = At::Attributes,
            (At::Tag, _) if self.name.len() < LONGEST_NAME => self.name.push(byte),
            (At::Attributes | At::Declaration, b'"' | b'\'') => {
                self.quote = byte;
                let spaces = out
                    .rsplit(|b| b.is_ascii_whitespace())
                    .next()
                    .is_some_and(|a| a.starts_with(b"xmlns") || a.starts_with(b"version=") || a.starts_with(b"encoding="));
                self.value.begin(spaces);
                self.at = At::AttributeValue;
            }
            (At::AttributeValue, _) if byte == self.quote => {
                self.value.end(out);
                self.at = At::Attributes;
            }
            (At::AttributeValue, _) => {
                self.value.take(byte, out);
                return Ok(());
            }
            (At::Tag, _) => return Err(Stop),
            // An element without text: what follows is not its.
            (At::Attributes, b'/') => self.name = vec![byte],
            (At::Attributes | At::Declaration, _) => {}
        }
        out.push(byte);
        Ok(())
    }
}

/// An element's name without its namespace's prefix.
fn local(name: &[u8]) -> &[u8] {
    name.rsplit(|b| *b == b':').next().unwrap_or_default()
}
