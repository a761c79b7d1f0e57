//! OpenAPI 3 and Swagger 2.0.

mod body;
mod parameter;
mod path;
mod server;

use serde_json::Value;

use crate::problem::Problem;

use super::{
    Draft, DraftOperation, LeftOut, MAX_OPERATIONS, collide,
    derive::{self, Derived},
    resolve::{Refs, problem, short, token},
};

use parameter::{Parameters, described};
use server::{Given, Server, servers};

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Reads a description.
pub(super) fn draft(document: &Value, provider: Option<&str>, host: Option<&str>) -> Result<Draft, Problem> {
    let swagger = version(document)?;
    let refs = Refs::new(document);
    let given = Given { host, root: &[] };
    let named = if swagger { server::swagger(document, given)? } else { servers(document.get("servers"), "/servers", given)? };
    let from_host = || host.map(|h| vec![Server { host: h.to_ascii_lowercase(), base: String::new() }]);
    let root = named.or_else(from_host).unwrap_or_default();
    let title = document.pointer("/info/title").and_then(Value::as_str);
    let mut reader = Reader { refs, document, swagger, provider: String::new(), servers: &root, host, left_out: Vec::new() };
    reader.provider = match (provider, root.first()) {
        (Some(name), _) => name.to_owned(),
        (None, Some(first)) => server::provider(&first.host, title),
        (None, None) => server::provider("", title),
    };
    let mut operations = reader.operations()?;
    if operations.is_empty() {
        return Err(problem("/paths", "the description has no operations"));
    }
    collide::ids(&mut operations, &reader.provider);
    collide::shapes(&mut operations, &mut reader.left_out);
    let mut hosts: Vec<String> = root.iter().map(|s| s.host.clone()).collect();
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|h| seen.insert(h.clone()));
    let version = document.pointer("/info/version").map(text).unwrap_or_default();
    Ok(Draft { provider: reader.provider, version, hosts, operations, left_out: reader.left_out, ..Draft::default() })
}

/// `api.github.com` → `github`: what a provider is called unless someone says otherwise.
pub(super) fn name_from_host(host: &str) -> String {
    server::provider(host, None)
}

/// Whether it is Swagger 2.0, or else OpenAPI 3. YAML makes numbers of both, unless quoted.
fn version(document: &Value) -> Result<bool, Problem> {
    let of = |key: &str| document.get(key).map(text).unwrap_or_default();
    if of("openapi").starts_with('3') {
        return Ok(false);
    }
    if of("swagger").starts_with('2') {
        return Ok(true);
    }
    let help = "give a description that begins with `openapi: 3.0.x`, `openapi: 3.1.x` or `swagger: \"2.0\"`";
    Err(problem("/openapi", "this is neither an OpenAPI 3 nor a Swagger 2.0 description").help(help))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

struct Reader<'d> {
    refs: Refs<'d>,
    document: &'d Value,
    swagger: bool,
    provider: String,
    servers: &'d [Server],
    host: Option<&'d str>,
    left_out: Vec<LeftOut>,
}

/// Where an operation stands.
struct Place<'d> {
    path: &'d str,
    item: Vec<&'d Value>,
    method: &'static str,
    operation: &'d Value,
    /// Of the path item, and of the operation.
    pointers: (String, String),
}

impl<'d> Reader<'d> {
    fn operations(&mut self) -> Result<Vec<DraftOperation>, Problem> {
        let mut operations = Vec::new();
        // Azure keeps paths that differ in their query alone in a map of its own.
        for key in ["paths", "x-ms-paths"] {
            let paths = match self.document.get(key) {
                None => continue,
                Some(value) => value.as_object().ok_or_else(|| problem(&format!("/{key}"), "this is no mapping of paths"))?,
            };
            for (path, item) in paths {
                let pointer = format!("/{key}/{}", token(path));
                if path.starts_with("x-") {
                    continue;
                }
                if !item.is_object() {
                    return Err(problem(&pointer, "a path item is a mapping of methods"));
                }
                let item = self.refs.chain(item, &pointer)?;
                for method in METHODS {
                    let Some(operation) = item.iter().find_map(|v| v.get(method)) else { continue };
                    let pointers = (pointer.clone(), format!("{pointer}/{method}"));
                    if !operation.is_object() {
                        return Err(problem(&pointers.1, "an operation is a mapping"));
                    }
                    let operation = self.refs.resolve(operation, &pointers.1)?;
                    let place = Place { path, item: item.clone(), method, operation, pointers };
                    operations.extend(self.operation(&place)?);
                }
                if operations.len() > MAX_OPERATIONS {
                    return Err(problem("/paths", format!("there are more than {MAX_OPERATIONS} operations")));
                }
            }
        }
        Ok(operations)
    }

    /// One operation; None when no request can be told to be for it, which is reported.
    fn operation(&mut self, place: &Place<'d>) -> Result<Option<DraftOperation>, Problem> {
        let (pointer, method, operation) = (&place.pointers.1, place.method, place.operation);
        if !place.path.starts_with('/') {
            return Err(problem(pointer, format!("`{}` is not a path: it starts with `/`", short(place.path))));
        }
        let served = self.served(place)?;
        let all = described(&self.refs, &place.item, operation, (&place.pointers.0, pointer))?;
        let mut parameters = Parameters::of(&self.refs, &all)?;
        let mut matches: Vec<String> = Vec::new();
        for server in &served {
            let one = path::template(place.path, &server.base, &mut parameters).map(|p| format!("{} {p}", method.to_ascii_uppercase()));
            match one.and_then(|m| crate::intent::pattern::Pattern::parse(&m).map(|_| m)) {
                Ok(one) if !matches.contains(&one) => matches.push(one),
                Ok(_) => {}
                Err(why) => {
                    self.left_out.push(LeftOut { pointer: pointer.clone(), why: short(&why) });
                    return Ok(None);
                }
            }
        }
        let (body, content) = match self.swagger {
            true => body::swagger(&self.refs, self.document, operation, &all, &parameters)?,
            false => body::request_body(&self.refs, operation, pointer, &parameters)?,
        };
        let (group, name) = derive::id(operation, method, place.path);
        let Derived { effect, labels, uncertain } = derive::hinted(operation, method, &group, &name);
        let mut hosts: Vec<String> = served.iter().map(|s| s.host.clone()).collect();
        hosts.dedup();
        let same = served.iter().all(|s| self.servers.iter().any(|r| r.host == s.host))
            && self.servers.iter().all(|r| served.iter().any(|s| s.host == r.host));
        parameters.reserved.retain(|r| matches.iter().any(|m| m.contains(&format!("{{{r}}}")) || m.contains(&format!("{{+{r}}}"))));
        Ok(Some(DraftOperation {
            labels,
            uncertain,
            query: parameters.query,
            body,
            content,
            reserved: parameters.reserved,
            hosts: if same { Vec::new() } else { hosts },
            ..DraftOperation::new(format!("{}.{group}.{name}", self.provider), matches, effect)
        }))
    }

    /// The servers of an operation: its own, its path's or the description's.
    fn served(&self, place: &Place<'d>) -> Result<Vec<Server>, Problem> {
        let given = Given { host: self.host, root: self.servers };
        let item = place.item.iter().find_map(|v| v.get("servers"));
        for (list, pointer) in [(place.operation.get("servers"), &place.pointers.1), (item, &place.pointers.0)] {
            if self.swagger {
                break;
            }
            if let Some(own) = servers(list, &format!("{pointer}/servers"), given)? {
                return Ok(own);
            }
        }
        if self.servers.is_empty() {
            let pointer = if self.swagger { "/host" } else { "/servers" };
            return Err(problem(pointer, "the description names no host").help("give it with --host"));
        }
        Ok(self.servers.to_vec())
    }
}
