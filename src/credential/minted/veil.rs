use bytes::Bytes;
use http::{HeaderMap, header};

use super::{form::Form, json::Json, looks_secret, xml::Xml};

/// What hides the values of an answer and leaves its form and its length: clients read it still.
#[derive(Debug)]
pub(in crate::credential) enum Veil {
    Json(Box<Json>),
    Xml(Box<Xml>),
    Form(Box<Form>),
    /// Its form is not known: nothing of it passes.
    Nothing,
}

/// The answer is not what it says, or is too deep: nothing more of it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::credential) struct Stop;

impl Veil {
    /// By what the answer says of itself. What is compressed is not read.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let coded = headers.get_all(header::CONTENT_ENCODING).iter().any(|v| !matches!(v.as_bytes(), b"" | b"identity"));
        let kind = headers.get(header::CONTENT_TYPE).map(|v| v.as_bytes().to_ascii_lowercase()).unwrap_or_default();
        let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        match kind {
            _ if coded => Self::Nothing,
            b"application/x-www-form-urlencoded" => Self::Form(Box::default()),
            b"application/json" | b"text/json" | b"application/x-amz-json-1.0" | b"application/x-amz-json-1.1" => {
                Self::Json(Box::default())
            }
            b"text/xml" | b"application/xml" => Self::Xml(Box::default()),
            _ if kind.ends_with(b"+json") => Self::Json(Box::default()),
            _ if kind.ends_with(b"+xml") => Self::Xml(Box::default()),
            _ => Self::Nothing,
        }
    }

    /// Takes the next piece; gives what may go on.
    pub(in crate::credential) fn push(&mut self, piece: &[u8]) -> Result<Bytes, Stop> {
        let mut out = Vec::with_capacity(piece.len() + 16);
        for byte in piece {
            match self {
                Self::Json(json) => json.take(*byte, &mut out)?,
                Self::Xml(xml) => xml.take(*byte, &mut out)?,
                Self::Form(form) => form.take(*byte, &mut out),
                Self::Nothing => {}
            }
        }
        Ok(out.into())
    }

    /// What was held back, at the end.
    pub(in crate::credential) fn finish(&mut self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Json(json) => json.value.end(&mut out),
            Self::Xml(xml) => xml.value.end(&mut out),
            Self::Form(form) => form.value.end(&mut out),
            Self::Nothing => {}
        }
        out.into()
    }

    /// Whether lengths hold.
    pub(in crate::credential) fn keeps_length(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// How much is held back.
    pub(in crate::credential) fn held(&self) -> usize {
        match self {
            Self::Json(json) => json.value.held.len(),
            Self::Xml(xml) => xml.value.held.len(),
            Self::Form(form) => form.value.held.len(),
            Self::Nothing => 0,
        }
    }
}

/// The longest value that passes.
const LONGEST: usize = 512;

/// A value that is being read: it is held until it is known whether it passes.
#[derive(Debug, Default)]
pub(super) struct Value {
    /// Empty for one that is hidden: its bytes were overwritten as they came.
    held: Vec<u8>,
    passes: bool,
}

impl Value {
    /// Another value begins, of a name that is harmless or not.
    pub(super) fn begin(&mut self, harmless: bool) {
        self.passes = harmless;
    }

    pub(super) fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        if !self.passes {
            out.push(b'*');
            return;
        }
        self.held.push(byte);
        if self.held.len() > LONGEST {
            self.hide(out);
        }
    }

    /// The value is whole.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if looks_secret(&self.held) || self.held.starts_with(b"tok_") {
            self.hide(out);
        }
        out.append(&mut self.held);
        self.passes = false;
    }

    fn hide(&mut self, out: &mut Vec<u8>) {
        out.resize(out.len() + self.held.len(), b'*');
        self.held.clear();
        self.passes = false;
    }
}
