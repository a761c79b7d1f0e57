use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// The path and query of a request, checked to have one reading.
///
/// The bytes are kept as they came, since what was judged is what is sent (law 2). Segments are
/// split before they are decoded (RFC 3986 §3.3), so `%2F` never separates.
#[derive(Clone, PartialEq, Eq)]
pub struct Path {
    whole: PathAndQuery,
    encoded_slash: bool,
}

/// Why a path has more than one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not start with `/`")]
    NotAbsolute,
    #[error("the path has a `.` or `..` segment, plain, encoded or with `;`")]
    DotSegment,
    #[error("the path has an empty segment (`//`)")]
    EmptySegment,
    #[error("the path holds `;` or `\\`, which servers read in different ways")]
    Delimiter,
    #[error("a `%` in the path or query is not followed by two hex digits")]
    BadEscape,
    #[error("the path or query decodes to a control character or to invalid UTF-8")]
    BadText,
}

impl Path {
    /// Checks the path and query of a request target.
    ///
    /// # Errors
    /// When two servers could read it differently.
    pub fn parse(whole: PathAndQuery) -> Result<Self, PathError> {
        let path = whole.path();
        let Some(rest) = path.strip_prefix('/') else { return Err(PathError::NotAbsolute) };
        let bytes = path.as_bytes();
        let mut encoded_slash = false;
        if memchr::memchr3(b'%', b';', b'\\', bytes).is_some() || !path.is_ascii() {
            encoded_slash = check_escapes(path)?;
        }
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment.is_empty() && segments.peek().is_some() {
                return Err(PathError::EmptySegment);
            }
            if segment.starts_with('.') || segment.contains('%') {
                check_dots(segment)?;
            }
        }
        if let Some(query) = whole.query()
            && (query.contains('%') || !query.is_ascii())
        {
            // A query may hold a text of several lines, such as a GraphQL document.
            check_text(query, true)?;
        }
        Ok(Self { whole, encoded_slash })
    }

    /// `/`
    #[must_use]
    pub fn root() -> Self {
        Self { whole: PathAndQuery::from_static("/"), encoded_slash: false }
    }

    /// The path's bytes as they came.
    #[must_use]
    pub fn raw(&self) -> &str {
        self.whole.path()
    }

    /// The query's bytes as they came, without the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.whole.query()
    }

    /// Path and query as they go upstream.
    #[must_use]
    pub fn whole(&self) -> &PathAndQuery {
        &self.whole
    }

    /// The raw segments after the first `/`; a trailing slash gives a last empty one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.raw().get(1..).unwrap_or("").split('/')
    }

    /// Whether any segment holds `%2F`, which only a `reserved` parameter may.
    #[must_use]
    pub fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// The same path with another query; used to inject a query credential.
    ///
    /// # Errors
    /// When the pieces are not a path and query (never for a checked path and an encoded query).
    pub fn with_query(&self, query: &str) -> Result<Self, http::uri::InvalidUri> {
        let text = format!("{}?{query}", self.raw());
        let whole = PathAndQuery::from_maybe_shared(Bytes::from(text))?;
        Ok(Self { whole, encoded_slash: self.encoded_slash })
    }

    /// Decodes one raw segment; plain segments are borrowed.
    #[must_use]
    pub fn decode(segment: &str) -> Cow<'_, str> {
        if !segment.contains('%') {
            return Cow::Borrowed(segment);
        }
        // Checked to be UTF-8 when the path was parsed.
        percent_decode_str(segment).decode_utf8_lossy()
    }
}

/// Checks escapes and delimiters; returns whether there is an encoded slash.
fn check_escapes(path: &str) -> Result<bool, PathError> {
    if path.contains(';') || path.contains('\\') {
        return Err(if path.contains("..;") || path.contains(".;") { PathError::DotSegment } else { PathError::Delimiter });
    }
    check_text(path, false)?;
    let mut slash = false;
    for at in memchr::memchr_iter(b'%', path.as_bytes()) {
        match path.as_bytes().get(at + 1..at + 3) {
            Some(b"2f" | b"2F") => slash = true,
            Some(b"5c" | b"5C") => return Err(PathError::Delimiter),
            _ => {}
        }
    }
    Ok(slash)
}

fn check_text(text: &str, lines: bool) -> Result<(), PathError> {
    for at in memchr::memchr_iter(b'%', text.as_bytes()) {
        let Some(digits) = text.as_bytes().get(at + 1..at + 3) else { return Err(PathError::BadEscape) };
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(PathError::BadEscape);
        }
        // C0 controls and DEL, however they are spelt.
        if lines && matches!(digits, b"09" | [b'0', b'a' | b'A' | b'd' | b'D']) {
            continue;
        }
        if matches!(digits, [b'0' | b'1', _] | [b'7', b'f' | b'F']) {
            return Err(PathError::BadText);
        }
    }
    percent_decode_str(text).decode_utf8().map_err(|_| PathError::BadText)?;
    Ok(())
}

fn check_dots(segment: &str) -> Result<(), PathError> {
    // `%2e%2F..` hides a dot segment behind an encoded slash, so each decoded piece is looked at.
    let decoded = Path::decode(segment);
    if decoded.split('/').any(|piece| piece == "." || piece == "..") { Err(PathError::DotSegment) } else { Ok(()) }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.whole.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Path, PathError> {
        Path::parse(text.parse().unwrap())
    }

    #[test]
    fn plain_paths_keep_their_bytes() {
        for text in [
            "/",
            "/repos/acme/web",
            "/repos/acme/web/",
            "/a/%7Euser?x=%20y",
            "/@scope%2Fname",
            "/a/...",
            "/.well-known/x",
            "/a?x=%0A%0d%09",
        ] {
            let path = parse(text).unwrap();
            assert_eq!(path.whole().as_str(), text);
        }
        assert!(parse("/@scope%2fname").unwrap().has_encoded_slash());
    }

    #[test]
    fn two_readings_are_refused() {
        for (text, want) in [
            ("/a/../b", PathError::DotSegment),
            ("/a/%2e%2E/b", PathError::DotSegment),
            ("/a/.%2e", PathError::DotSegment),
            ("/a/..%2fb", PathError::DotSegment),
            ("/a/..;/b", PathError::DotSegment),
            ("/a//b", PathError::EmptySegment),
            ("/a;x=1/b", PathError::Delimiter),
            ("/a%5cb", PathError::Delimiter),
            ("/a%zz", PathError::BadEscape),
            ("/a%2", PathError::BadEscape),
            ("/a%00", PathError::BadText),
            ("/a%c0%ae", PathError::BadText),
            ("/a?x=%ff", PathError::BadText),
            ("/a?x=%00", PathError::BadText),
            ("/a%0a?x=%0A%0d%09", PathError::BadText),
        ] {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
    }
}
