//! OpenAPI 3.0 and 3.1.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{intent::pattern::is_name, problem::Problem};

use super::{
    Draft, DraftBody, DraftOperation, MAX_OPERATIONS,
    derive,
    resolve::{problem, properties, resolve, token},
};

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Reads a description.
pub(super) fn draft(document: &Value, provider: Option<&str>, host: Option<&str>) -> Result<Draft, Problem> {
    let version = document.get("openapi").and_then(Value::as_str).unwrap_or("");
    if !version.starts_with("3.") {
        let message = if document.get("swagger").is_some() { "Swagger 2.0 is not read" } else { "this is no OpenAPI 3 description" };
        return Err(problem("/openapi", message).help("give a description that begins with `openapi: 3.0.x` or `3.1.x`"));
    }
    let servers = servers(document.get("servers"), "/servers", host)?;
    let Some(first) = servers.first() else {
        return Err(problem("/servers", "the description names no host").help("give it with --host"));
    };
    let provider = provider.map_or_else(|| name_from_host(&first.host), str::to_owned);
    let reader = Reader { document, provider: &provider, servers: &servers, host };
    let empty = Map::new();
    let paths = document.get("paths").and_then(Value::as_object).unwrap_or(&empty);
    let mut operations = Vec::new();
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for (path, item) in paths {
        let pointer = format!("/paths/{}", token(path));
        let item = resolve(document, item, &pointer)?;
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            let pointer = format!("{pointer}/{method}");
            let made = reader.operation(path, item, method, operation, &pointer)?;
            if let Some(other) = ids.insert(made.id.clone(), pointer.clone()) {
                return Err(problem(&pointer, format!("`{}` is also the id of {other}", made.id)));
            }
            operations.push(made);
            if operations.len() > MAX_OPERATIONS {
                return Err(problem("/paths", format!("there are more than {MAX_OPERATIONS} operations")));
            }
        }
    }
    if operations.is_empty() {
        return Err(problem("/paths", "the description has no operations"));
    }
    let mut hosts: Vec<String> = servers.iter().map(|s| s.host.clone()).collect();
    hosts.dedup();
    let version = document.pointer("/info/version").and_then(Value::as_str).unwrap_or("").to_owned();
    Ok(Draft { version, hosts, operations, ..Draft::new(&provider) })
}

/// Where operations are served.
#[derive(Debug, Clone, PartialEq)]
struct Server {
    host: String,
    /// Without a trailing slash.
    base: String,
}

struct Reader<'d> {
    document: &'d Value,
    provider: &'d str,
    servers: &'d [Server],
    host: Option<&'d str>,
}

/// The parameters of one operation.
#[derive(Default)]
struct Parameters {
    /// Name in the description → name in the catalog, and whether it spans segments.
    path: BTreeMap<String, (String, bool)>,
    query: Vec<String>,
    reserved: Vec<String>,
    taken: Vec<String>,
}

impl Reader<'_> {
    /// One operation; a path served under several base paths is matched under the first.
    fn operation(&self, path: &str, item: &Value, method: &str, operation: &Value, pointer: &str) -> Result<DraftOperation, Problem> {
        let own = [(operation.get("servers"), format!("{pointer}/servers")), (item.get("servers"), pointer.to_owned())];
        let own = own.into_iter().find(|(s, _)| s.is_some());
        let servers = match own {
            Some((list, pointer)) => servers(list, &pointer, self.host)?,
            None => self.servers.to_vec(),
        };
        let base = servers.first().map_or("", |s| &s.base);
        let hosts: Vec<String> = servers.iter().map(|s| s.host.clone()).collect();
        let own_hosts = if hosts.iter().eq(self.servers.iter().map(|s| &s.host)) { Vec::new() } else { hosts };
        let mut parameters = self.parameters(item, operation, pointer)?;
        let (body, content) = self.body(operation, pointer, &parameters)?;
        let path = template(path, base, &mut parameters, pointer)?;
        let (group, name) = derive::id(operation, method, &path);
        let derived = derive::effect(method, &group, &name);
        Ok(DraftOperation {
            matches: vec![format!("{} {path}", method.to_ascii_uppercase())],
            query: parameters.query,
            body,
            content,
            reserved: parameters.reserved,
            hosts: own_hosts,
            ..DraftOperation::new(format!("{}.{group}.{name}", self.provider), derived)
        })
    }

    fn parameters(&self, item: &Value, operation: &Value, pointer: &str) -> Result<Parameters, Problem> {
        // The operation's own override the path's by name and place.
        let mut all: Vec<(&str, &str, &Value)> = Vec::new();
        for list in [item, operation] {
            for (i, parameter) in list.get("parameters").and_then(Value::as_array).into_iter().flatten().enumerate() {
                let here = format!("{pointer}/parameters/{i}");
                let parameter = resolve(self.document, parameter, &here)?;
                let text = |key: &str| parameter.get(key).and_then(Value::as_str);
                let (Some(name), Some(place)) = (text("name"), text("in")) else {
                    return Err(problem(&here, "a parameter needs `name` and `in`"));
                };
                all.retain(|(n, p, _)| (*n, *p) != (name, place));
                all.push((name, place, parameter));
            }
        }
        let mut found = Parameters::default();
        for (name, _, parameter) in all.iter().filter(|(_, place, _)| *place == "path") {
            let multi = parameter.get("x-multi-segment") == Some(&Value::Bool(true));
            // The vendor's own words are the only sign that a value may hold an encoded slash.
            let slash = parameter.get("description").and_then(Value::as_str).is_some_and(|d| d.contains("%2F"));
            let clean = found.take(name, "path");
            if multi || slash {
                found.reserved.push(clean.clone());
            }
            found.path.insert((*name).to_owned(), (clean, multi));
        }
        for (name, _, parameter) in all.iter().filter(|(_, place, _)| *place == "query") {
            let schema = parameter.get("schema").map_or(Ok(&Value::Null), |s| resolve(self.document, s, pointer))?;
            let list = name.ends_with("[]") || schema.get("type").and_then(Value::as_str) == Some("array");
            let wire = name.strip_suffix("[]").unwrap_or(name);
            let clean = found.take(wire, "query");
            let (left, right) = if clean == wire { (String::new(), wire) } else { (format!("{clean}="), wire) };
            found.query.push(format!("{left}{right}{}", if list { "[]" } else { "" }));
        }
        Ok(found)
    }

    fn body(&self, operation: &Value, pointer: &str, parameters: &Parameters) -> Result<(DraftBody, Vec<String>), Problem> {
        let Some(body) = operation.get("requestBody") else { return Ok((DraftBody::Undeclared, Vec::new())) };
        let pointer = format!("{pointer}/requestBody");
        let body = resolve(self.document, body, &pointer)?;
        let empty = Map::new();
        let content = body.get("content").and_then(Value::as_object).unwrap_or(&empty);
        let is_json = |media: &str| {
            let essence = media.split(';').next().unwrap_or(media).trim();
            essence == "application/json" || essence.ends_with("+json")
        };
        let mut names: Vec<String> = Vec::new();
        for (media, value) in content.iter().filter(|(media, _)| is_json(media)) {
            let here = format!("{pointer}/content/{}/schema", token(media));
            let Some(schema) = value.get("schema") else { continue };
            names.extend(properties(self.document, schema, &here)?);
        }
        names.sort_unstable();
        names.dedup();
        let mut others: Vec<String> =
            content.keys().filter(|m| !is_json(m)).map(|m| m.split(';').next().unwrap_or(m).trim().to_ascii_lowercase()).collect();
        others.dedup();
        if !content.is_empty() && others.len() == content.len() {
            return Ok((DraftBody::Stream, Vec::new()));
        }
        let mut taken = Parameters { taken: parameters.taken.clone(), ..Parameters::default() };
        let pairs: Vec<_> = names.iter().map(|name| (taken.take(name, "body"), format!("/{}", token(name)))).collect();
        Ok((if pairs.is_empty() { DraftBody::Undeclared } else { DraftBody::Json(pairs) }, others))
    }
}

impl Parameters {
    /// A name that the catalog can use, and that no other parameter has.
    fn take(&mut self, name: &str, place: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        let mut clean: String = name.chars().take(100).map(|c| if fits(c) { c } else { '_' }).collect();
        if !is_name(&clean) {
            clean = "_".into();
        }
        let is_taken = |all: &[String], n: &str| all.iter().any(|t| t.eq_ignore_ascii_case(n));
        if is_taken(&self.taken, &clean) {
            clean = format!("{place}_{clean}");
        }
        while is_taken(&self.taken, &clean) {
            clean.push('_');
        }
        self.taken.push(clean.clone());
        clean
    }
}

/// The path as the catalog writes it.
fn template(path: &str, base: &str, parameters: &mut Parameters, pointer: &str) -> Result<String, Problem> {
    if !path.starts_with('/') || path.contains('#') {
        return Err(problem(pointer, format!("`{path}` is not a path: it starts with `/` and has no `#`")));
    }
    let mut out = base.to_owned();
    let mut rest = path;
    while let Some(open) = rest.find('{') {
        let (literal, tail) = rest.split_at(open);
        out.push_str(literal);
        let Some(close) = tail.find('}') else { return Err(problem(pointer, format!("`{path}` has a `{{` without its `}}`"))) };
        let name = tail.get(1..close).unwrap_or("");
        let (name, plus) = name.strip_prefix('+').map_or((name, false), |n| (n, true));
        let (clean, multi) = match parameters.path.get(name) {
            Some(known) => known.clone(),
            // Named in the path alone: some descriptions leave it at that.
            None => (parameters.take(name, "path"), false),
        };
        out.push_str(if multi || plus { "{+" } else { "{" });
        out.push_str(&clean);
        out.push('}');
        rest = tail.get(close + 1..).unwrap_or("");
    }
    out.push_str(rest);
    parameters.reserved.retain(|r| out.contains(&format!("{{{r}}}")) || out.contains(&format!("{{+{r}}}")));
    Ok(out)
}

/// The servers of a description, an item or an operation.
fn servers(list: Option<&Value>, pointer: &str, host: Option<&str>) -> Result<Vec<Server>, Problem> {
    let mut all = Vec::new();
    for (i, server) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let here = format!("{pointer}/{i}/url");
        let Some(url) = server.get("url").and_then(Value::as_str) else { return Err(problem(&here, "a server needs `url`")) };
        let one = server_of(url, server.get("variables"), host, &here)?;
        if !all.contains(&one) {
            all.push(one);
        }
    }
    if all.is_empty()
        && let Some(host) = host
    {
        all.push(Server { host: host.to_ascii_lowercase(), base: String::new() });
    }
    Ok(all)
}

fn server_of(url: &str, variables: Option<&Value>, host: Option<&str>, pointer: &str) -> Result<Server, Problem> {
    let (authority, base) = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or((rest, ""), |(a, b)| (a, b)),
        None => {
            let Some(host) = host else {
                return Err(problem(pointer, format!("`{url}` names no host")).help("give it with --host"));
            };
            (host, url.trim_start_matches('/'))
        }
    };
    // A variable that is one whole label stays a parameter; any other takes its default.
    let mut labels = Vec::new();
    for label in authority.split(':').next().unwrap_or(authority).split('.') {
        let name = label.strip_prefix('{').and_then(|l| l.strip_suffix('}'));
        labels.push(if name.is_some_and(is_name) { label.to_owned() } else { defaults(label, variables, pointer)? });
    }
    let base = defaults(base.trim_matches('/'), variables, pointer)?;
    let base = if base.is_empty() { String::new() } else { format!("/{}", base.trim_matches('/')) };
    Ok(Server { host: labels.join(".").to_ascii_lowercase(), base })
}

/// Puts the variables' defaults in their places.
fn defaults(text: &str, variables: Option<&Value>, pointer: &str) -> Result<String, Problem> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('{') {
        let Some((name, after)) = tail.split_once('}') else { return Err(problem(pointer, "a `{` has no `}`")) };
        let value = variables.and_then(|v| v.get(name)).and_then(|v| v.get("default")).and_then(Value::as_str);
        out.push_str(before);
        out.push_str(value.ok_or_else(|| problem(pointer, format!("the variable `{name}` has no default")))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// `api.github.com` → `github`.
fn name_from_host(host: &str) -> String {
    let labels: Vec<&str> = host.split('.').filter(|l| !l.contains('{')).collect();
    let name = labels.len().checked_sub(2).and_then(|i| labels.get(i)).or_else(|| labels.first()).copied().unwrap_or("api");
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}
