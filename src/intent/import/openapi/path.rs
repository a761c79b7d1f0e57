//! Paths as descriptions write them to paths as catalogs do.

use super::parameter::Parameters;

/// How a path parameter is written (OpenAPI 3.1 §4.8.12, RFC 6570 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    #[default]
    Simple,
    /// `.{id}`
    Label,
    /// `;id=`
    Matrix,
}

/// A path's parameter.
#[derive(Debug, Clone)]
pub(super) struct PathParameter {
    /// What the catalog calls it.
    pub name: String,
    /// Whether it spans segments.
    pub multi: bool,
    pub style: Style,
}

/// The path as the catalog writes it, under a base; what stands in its query goes to the
/// parameters, or is required as it is.
///
/// # Errors
/// Why no request can be told to be for it.
pub(super) fn template(path: &str, base: &str, parameters: &mut Parameters) -> Result<String, String> {
    if path.contains('#') {
        return Err("a `#` and what follows never reach the vendor".into());
    }
    let (path, query) = split_query(path);
    let mut out = base.to_owned();
    let mut rest = path;
    while let Some(open) = rest.find('{') {
        let (literal, tail) = rest.split_at(open);
        out.push_str(literal);
        let Some(close) = tail.find('}') else { return Err("a `{` has no `}`".into()) };
        expression(tail.get(1..close).unwrap_or(""), &mut out, parameters)?;
        rest = tail.get(close + 1..).unwrap_or("");
    }
    out.push_str(rest);
    let mut fixed = Vec::new();
    for pair in query.into_iter().flat_map(|q| q.split('&')).filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.starts_with('{') {
            parameters.query_named(name);
        } else {
            fixed.push(format!("{name}={value}"));
        }
    }
    if !fixed.is_empty() {
        out.push('?');
        out.push_str(&fixed.join("&"));
    }
    Ok(out)
}

/// One `{…}` of a path.
fn expression(text: &str, out: &mut String, parameters: &mut Parameters) -> Result<(), String> {
    // RFC 6570: `{?a,b}` and `{&a}` are of the query, `{/a}` a segment, `{.a}` a label.
    if let Some(names) = text.strip_prefix(['?', '&']) {
        names.split(',').for_each(|n| parameters.query_named(n.trim_end_matches('*')));
        return Ok(());
    }
    if text.starts_with(';') {
        return Err("a parameter in `;name=value` form stands in a path, and such paths are refused".into());
    }
    let before = match text.chars().next() {
        Some('/') => "/",
        Some('.') => ".",
        _ => "",
    };
    let text = text.strip_prefix(['/', '.']).unwrap_or(text);
    let (text, plus) = text.strip_prefix('+').map_or((text, false), |t| (t, true));
    // `{path*}`, `{proxy+}`, `{path:.*}`, `{path:path}`: what frameworks write for the rest of a path.
    let (text, pattern) = text.split_once(':').map_or((text, None), |(n, p)| (n, Some(p)));
    let greedy = text.ends_with(['*', '+']) || pattern.is_some_and(|p| p == "path" || p.contains(".*") || p.contains(".+"));
    let name = text.trim_end_matches(['*', '+']).trim();
    let known = parameters.of_path(name);
    let before = match known.style {
        Style::Matrix => return Err(format!("the parameter `{name}` is in `;name=value` form, and paths with `;` are refused")),
        Style::Label if before.is_empty() => ".",
        _ => before,
    };
    out.push_str(before);
    out.push_str(if known.multi || plus || greedy { "{+" } else { "{" });
    out.push_str(&known.name);
    out.push('}');
    Ok(())
}

/// The path and its query; a `?` inside braces begins none.
fn split_query(path: &str) -> (&str, Option<&str>) {
    let mut inside = false;
    for (at, c) in path.char_indices() {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            '?' if !inside => return (path.get(..at).unwrap_or(path), path.get(at + 1..)),
            _ => {}
        }
    }
    (path, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_catalogs_do() {
        for (path, want, query) in [
            ("/a/{b}", "/v1/a/{b}", ""),
            ("/", "/v1/", ""),
            ("/a/{b}/", "/v1/a/{b}/", ""),
            ("/{owner}-{repo}.json", "/v1/{owner}-{repo}.json", ""),
            ("/{a}:{verb}", "/v1/{a}:{verb}", ""),
            ("/x/{path*}", "/v1/x/{+path}", ""),
            ("/x/{proxy+}", "/v1/x/{+proxy}", ""),
            ("/x/{path:.*}", "/v1/x/{+path}", ""),
            ("/x/{id:[0-9]+}", "/v1/x/{id}", ""),
            ("/x{/id}", "/v1/x/{id}", ""),
            ("/x{.format}", "/v1/x.{format}", ""),
            ("/x{?page,size*}", "/v1/x", "page size"),
            ("/x?comp=list&restype", "/v1/x?comp=list&restype=", ""),
            ("/x?id={id}", "/v1/x", "id"),
            ("/it's/{a b}", "/v1/it's/{a_b}", ""),
        ] {
            let mut parameters = Parameters::default();
            assert_eq!(template(path, "/v1", &mut parameters).unwrap(), want);
            assert_eq!(parameters.query.join(" "), query);
        }
        for path in ["/x#y", "/{a", "/x/{;id}"] {
            assert!(template(path, "", &mut Parameters::default()).is_err(), "{path}");
        }
    }
}
