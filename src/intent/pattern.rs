//! What an operation matches: `GET /repos/{owner}/{repo}/issues?service=x`.

use http::{HeaderName, Method};

use super::hosts::{self, HostSpec};

/// One `match` of an operation, parsed.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub method: Method,
    /// The host that serves this match, when it is not one of the operation's.
    pub host: Option<HostSpec>,
    pub segments: Vec<Segment>,
    /// Query parameters that must be there with just this value, decoded.
    pub query: Query,
    /// Header fields that must be there.
    pub headers: Vec<HeaderName>,
    /// The path parameters, in order.
    pub names: Vec<Box<str>>,
}

/// Names and values; without one, any value will do.
pub(super) type Query = Vec<(Box<str>, Option<Box<str>>)>;

/// One segment of a path; the parameters' names stand in [`Pattern::names`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    Literal(Box<str>),
    /// Literals with parameters between: `{repo}.git`, `{base}...{head}`.
    Mixed(Box<[Piece]>),
    /// One parameter, one segment.
    Whole,
    /// One parameter over one or more segments, and what must follow it in the last (`:cancel`).
    Multi(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    Literal(Box<str>),
    Param,
}

impl Pattern {
    /// Parses `METHOD [HOST]/PATH[?name=value&name…][ with FIELD,…]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((method, target)) = text.split_once(' ') else {
            return Err("a match is a method, one space and a path, such as \"GET /items/{id}\"".into());
        };
        let upper = method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let method = Method::from_bytes(method.as_bytes()).ok().filter(|_| upper).ok_or_else(|| format!("`{method}` is not a method"))?;
        let (target, fields) = target.split_once(" with ").map_or((target, None), |(t, f)| (t, Some(f)));
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let Some((host, path)) = path.split_once('/') else { return Err("the path must start with `/`".into()) };
        let host = if host.is_empty() { None } else { Some(hosts::parse_one(host)?) };
        let mut names = Vec::new();
        let mut segments = Vec::new();
        let count = path.split('/').count();
        for (i, segment) in path.split('/').enumerate() {
            if segment.is_empty() && i + 1 < count {
                return Err("the path has an empty segment (`//`)".into());
            }
            segments.push(parse_segment(segment, &mut names)?);
        }
        for (i, name) in names.iter().enumerate() {
            if names.iter().take(i).any(|n| n.eq_ignore_ascii_case(name)) {
                return Err(format!("the parameter `{name}` stands twice in the path"));
            }
        }
        let query = query.map_or_else(|| Ok(Vec::new()), parse_query)?;
        let field = |f: &str| HeaderName::from_bytes(f.as_bytes()).map_err(|_| format!("`{f}` is no header field"));
        let headers = fields.into_iter().flat_map(|f| f.split(',')).map(field).collect::<Result<_, _>>()?;
        Ok(Self { method, host, segments, query, headers, names })
    }

    /// The match without its parameters' names: two operations of one shape cannot be told apart.
    pub(super) fn shape(&self) -> String {
        let mut shape = self.method.to_string();
        for segment in &self.segments {
            shape.push('/');
            match segment {
                Segment::Literal(text) => shape.push_str(text),
                Segment::Whole => shape.push_str("{}"),
                Segment::Multi(suffix) => {
                    shape.push_str("{+}");
                    shape.push_str(suffix);
                }
                Segment::Mixed(pieces) => pieces.iter().for_each(|p| match p {
                    Piece::Literal(text) => shape.push_str(text),
                    Piece::Param => shape.push_str("{}"),
                }),
            }
        }
        let mut query: Vec<String> =
            self.query.iter().map(|(k, v)| v.as_ref().map_or_else(|| k.to_string(), |v| format!("{k}={v}"))).collect();
        query.sort_unstable();
        if !query.is_empty() {
            shape.push('?');
            shape.push_str(&query.join("&"));
        }
        let mut headers: Vec<&str> = self.headers.iter().map(HeaderName::as_str).collect();
        headers.sort_unstable();
        if !headers.is_empty() {
            shape.push_str(" with ");
            shape.push_str(&headers.join(","));
        }
        shape
    }
}

fn parse_query(text: &str) -> Result<Query, String> {
    let mut pairs = Vec::new();
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=').map_or((pair, None), |(n, v)| (n, Some(v)));
        if name.is_empty() || pair.contains(['{', '}', '%', '+']) {
            return Err(format!("`{pair}`: a match holds literal query values; declare parameters with `query: [name]`"));
        }
        if pairs.iter().any(|(n, _): &(Box<str>, _)| **n == *name) {
            return Err(format!("`{name}` stands twice in the query"));
        }
        pairs.push((name.into(), value.map(Into::into)));
    }
    Ok(pairs)
}

fn parse_segment(text: &str, names: &mut Vec<Box<str>>) -> Result<Segment, String> {
    let mut pieces = Vec::new();
    let mut multi = false;
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (literal, tail) = rest.split_at(open);
        push_literal(literal, &mut pieces)?;
        let inner = tail.get(1..).unwrap_or("");
        let Some(close) = inner.find('}') else { return Err(format!("`{text}` has a `{{` without its `}}`")) };
        let (name, after) = inner.split_at(close);
        rest = after.get(1..).unwrap_or("");
        let plain = name.strip_prefix('+');
        multi |= plain.is_some();
        let name = plain.unwrap_or(name);
        if !is_name(name) {
            return Err(format!("`{name}` is not a parameter name: letters, digits, `_`, `-`, `.` or `$`"));
        }
        if matches!(pieces.last(), Some(Piece::Param)) {
            return Err(format!("two parameters of `{text}` have nothing between them"));
        }
        names.push(name.into());
        pieces.push(Piece::Param);
    }
    push_literal(rest, &mut pieces)?;
    match (multi, pieces.as_slice()) {
        (true, [Piece::Param]) => Ok(Segment::Multi("".into())),
        (true, [Piece::Param, Piece::Literal(suffix)]) => Ok(Segment::Multi(suffix.clone())),
        (true, _) => Err(format!("`{text}`: a `{{+…}}` stands first in its segment, with at most a literal after it")),
        (false, []) => Ok(Segment::Literal("".into())),
        (false, [Piece::Literal(literal)]) if matches!(&**literal, "." | "..") => {
            Err(format!("`{literal}` cannot stand in a path that has one reading"))
        }
        (false, [Piece::Literal(literal)]) => Ok(Segment::Literal(literal.clone())),
        (false, [Piece::Param]) => Ok(Segment::Whole),
        (false, _) => Ok(Segment::Mixed(pieces.into())),
    }
}

fn push_literal(text: &str, pieces: &mut Vec<Piece>) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '}' | '%' | ';' | '\\' | '?' | '#');
    if !text.chars().all(fits) {
        return Err(format!("`{text}` cannot stand in a path that has one reading"));
    }
    pieces.push(Piece::Literal(text.into()));
    Ok(())
}

/// Whether a text can name a parameter.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_told_apart() {
        let p = Pattern::parse("GET /a/{x}/{y}.git/{b}...{h}/{+rest}:go/end").unwrap();
        assert_eq!(p.shape(), "GET/a/{}/{}.git/{}...{}/{+}:go/end");
        assert_eq!(p.names.iter().map(|n| &**n).collect::<Vec<_>>(), ["x", "y", "b", "h", "rest"]);
        assert_eq!(Pattern::parse("GET /x?b=2&a=1").unwrap().shape(), "GET/x?a=1&b=2");
        assert_eq!(Pattern::parse("GET /").unwrap().shape(), "GET/");
    }

    #[test]
    fn what_cannot_be_matched_is_refused() {
        for text in [
            "/items",
            "get /x",
            "GET x",
            "GET /a//b",
            "GET /{a",
            "GET /{a}{b}",
            "GET /{a}/{A}",
            "GET /x{+a}",
            "GET /a;b",
            "GET /a%20b",
            "GET /../x",
            "GET /x?",
            "GET x.example?y",
            "GET x..example/y",
            "GET /x with a b",
            "GET /x?y={z}",
            "GET /{a b}",
            "GET /x?y=1&y=2",
            "GET /a}",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
