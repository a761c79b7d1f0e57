//! Paths of discovery documents: `v1/{+name}:publish`, with what `name` may be.

use serde_json::{Map, Value};

use crate::{
    intent::import::{names::Taken, resolve::problem},
    problem::Problem,
};

/// A path in pieces.
#[derive(Debug)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    /// A parameter of one segment or a part of one.
    One(String),
    /// A parameter of several segments.
    Many(String),
}

/// Stands for `[^/]+` while a pattern is taken apart.
const ANY: &str = "\u{1}";

impl Template {
    /// Takes a path apart. `flat`: the same path with a parameter for each segment, for their names.
    pub(super) fn new(path: &str, flat: Option<&str>, parameters: &Map<String, Value>, pointer: &str) -> Result<Self, Problem> {
        let mut pieces = Vec::new();
        let mut rest = path.trim_start_matches('/');
        while let Some(open) = rest.find('{') {
            let (literal, tail) = rest.split_at(open);
            push(&mut pieces, literal);
            let Some(close) = tail.find('}') else {
                return Err(problem(&format!("{pointer}/path"), format!("`{path}` has a `{{` without its `}}`")));
            };
            let name = tail.get(1..close).unwrap_or("");
            rest = tail.get(close + 1..).unwrap_or("");
            match name.strip_prefix('+') {
                None => pieces.push(Piece::One(name.trim_end_matches('*').to_owned())),
                Some(name) => {
                    let pattern = parameters.get(name).and_then(|p| p.get("pattern")).and_then(Value::as_str);
                    resource(&mut pieces, name, pattern, rest);
                }
            }
        }
        push(&mut pieces, rest);
        let mut template = Self { pieces };
        if let Some(flat) = flat {
            template.name(flat);
        }
        template.name_by_place();
        Ok(template)
    }

    /// Takes the parameters' names from the flat path, where it has just as many.
    fn name(&mut self, flat: &str) {
        let names: Vec<&str> = flat.split('{').skip(1).filter_map(|p| p.split('}').next()).map(|n| n.trim_start_matches('+')).collect();
        let own = self.pieces.iter_mut().filter_map(Piece::name_mut);
        let own: Vec<&mut String> = own.collect();
        if own.len() == names.len() {
            own.into_iter().zip(names).for_each(|(own, name)| *own = name.to_owned());
        }
    }

    /// A parameter without a name is called after what stands before it: `projects/{projectsId}`.
    fn name_by_place(&mut self) {
        let mut before = String::from("resource");
        for piece in &mut self.pieces {
            match piece {
                Piece::Text(text) => {
                    if let Some(last) = text.split(['/', ':']).rfind(|s| !s.is_empty()) {
                        before = last.to_owned();
                    }
                }
                Piece::One(name) | Piece::Many(name) => {
                    if name.is_empty() {
                        *name = format!("{before}Id");
                    }
                }
            }
        }
    }

    /// The parameters' names, in order.
    pub(super) fn names(&self) -> Vec<String> {
        self.pieces.iter().filter_map(|p| if let Piece::One(n) | Piece::Many(n) = p { Some(n.clone()) } else { None }).collect()
    }

    /// The path as the catalog writes it, and its parameters that may hold an encoded slash.
    pub(super) fn write(&self, base: &str, taken: &mut Taken) -> (String, Vec<String>) {
        let mut names = Vec::new();
        let path = self.print(base, |name| {
            names.push(taken.clean(name, "path"));
            names.last().cloned().unwrap_or_default()
        });
        (path, names)
    }

    /// The same with the names of another path, so that both give the same parameters.
    pub(super) fn write_as(&self, names: &[String]) -> String {
        let mut at = 0;
        self.print("", |own| {
            at += 1;
            names.get(at - 1).map_or_else(|| own.to_owned(), Clone::clone)
        })
    }

    fn print(&self, base: &str, mut name: impl FnMut(&str) -> String) -> String {
        let mut out = format!("{base}/");
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::One(own) => out.push_str(&format!("{{{}}}", name(own))),
                Piece::Many(own) => out.push_str(&format!("{{+{}}}", name(own))),
            }
        }
        out
    }
}

impl Piece {
    fn name_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Text(_) => None,
            Self::One(name) | Self::Many(name) => Some(name),
        }
    }
}

/// The segments of a resource name, from the pattern that it must fit.
fn resource(pieces: &mut Vec<Piece>, name: &str, pattern: Option<&str>, after: &str) {
    let Some(pattern) = pattern else { return pieces.push(Piece::Many(name.to_owned())) };
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let pattern = pattern.strip_suffix('$').unwrap_or(pattern).replace("[^/]+", ANY).replace("[^/]*", ANY);
    let segments: Vec<&str> = pattern.split('/').collect();
    let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'~'));
    let fits = |s: &&str| plain(s) || **s == *ANY || **s == *".*" || **s == *".+" || is_class(s);
    // A parameter alone keeps its name.
    if segments.len() == 1 {
        let many = segments.first().is_some_and(|s| matches!(*s, ".*" | ".+") || !fits(s));
        return pieces.push(if many { Piece::Many(name.to_owned()) } else { Piece::One(name.to_owned()) });
    }
    let whole = pieces.last().is_none_or(|p| matches!(p, Piece::Text(t) if t.ends_with('/'))) || pieces.is_empty();
    // What spans segments ends its own: only a literal such as `:verb` may follow.
    let last_ok = after.is_empty() || after.starts_with('/') || after.starts_with(':');
    if !segments.iter().all(fits) || !whole || !last_ok {
        return pieces.push(Piece::Many(name.to_owned()));
    }
    for (i, segment) in segments.iter().enumerate() {
        if i > 0 {
            push(pieces, "/");
        }
        match *segment {
            s if plain(s) => push(pieces, s),
            ".*" | ".+" => pieces.push(Piece::Many(String::new())),
            _ => pieces.push(Piece::One(String::new())),
        }
    }
}

/// `[0-9]{1,19}`, `([a-z](?:…)?|…)`: some letters of one segment.
fn is_class(text: &str) -> bool {
    text.starts_with(['[', '(']) && !text.contains('.') && !text.contains("[^") && text.ends_with([']', '}', ')', '+', '*', '?'])
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    if text.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(path: &str, flat: Option<&str>, pattern: Option<&str>) -> String {
        let mut parameters = Map::new();
        if let Some(pattern) = pattern {
            parameters.insert("name".into(), json!({"pattern": pattern}));
        }
        Template::new(path, flat, &parameters, "/x").unwrap().write("/b", &mut Taken::default()).0
    }

    #[test]
    fn a_resource_name_is_taken_apart() {
        let pattern = Some("^projects/[^/]+/topics/[^/]+$");
        assert_eq!(
            write("v1/{+name}:publish", Some("v1/projects/{projectsId}/topics/{topicsId}:publish"), pattern),
            "/b/v1/projects/{projectsId}/topics/{topicsId}:publish"
        );
        assert_eq!(write("v1/{+name}", None, pattern), "/b/v1/projects/{projectsId}/topics/{topicsId}");
        assert_eq!(write("v1/{+name}", None, Some("^documents/.*$")), "/b/v1/documents/{+documentsId}");
        assert_eq!(write("v1/{+name}/x", None, None), "/b/v1/{+name}/x");
        assert_eq!(write("v1/{+name}", None, Some("^a/(b|c)d/.*e$")), "/b/v1/{+name}");
        assert_eq!(write("files/{fileId}/copy", None, None), "/b/files/{fileId}/copy");
    }
}
