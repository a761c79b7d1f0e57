//! Where operations are served: OpenAPI 3's `servers`, Swagger 2's `host` and `basePath`.

use serde_json::Value;

use crate::{
    intent::{hosts::parse_one, pattern::is_name},
    problem::Problem,
};

use super::super::resolve::{problem, short};

/// The most servers of one description, with every variable that lists its values written out.
const MAX_SERVERS: usize = 64;

/// Where operations are served.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Server {
    pub host: String,
    /// Without a trailing slash.
    pub base: String,
}

/// What a server's address is completed with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    /// The host that the person importing named.
    pub host: Option<&'a str>,
    /// Where an address without a host is served.
    pub root: &'a [Server],
}

/// The servers of a description, a path item or an operation; None when it lists none.
pub(super) fn servers(list: Option<&Value>, pointer: &str, given: Given<'_>) -> Result<Option<Vec<Server>>, Problem> {
    let mut all = Vec::new();
    for (i, server) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let here = format!("{pointer}/{i}/url");
        let Some(url) = server.get("url").and_then(Value::as_str) else { return Err(problem(&here, "a server needs `url`")) };
        add(&mut all, url, server.get("variables"), given, &here)?;
    }
    Ok(Some(all).filter(|all| !all.is_empty()))
}

/// Swagger 2's, with the two ways in which vendors say that the host varies.
pub(super) fn swagger(document: &Value, given: Given<'_>) -> Result<Option<Vec<Server>>, Problem> {
    let base = document.get("basePath").and_then(Value::as_str).unwrap_or("");
    if base.contains(['{', '}']) {
        return Err(problem("/basePath", "the base path holds a variable").help("write its value into the description"));
    }
    let mut all = Vec::new();
    let template = document.pointer("/x-ms-parameterized-host/hostTemplate").and_then(Value::as_str);
    let (host, pointer) = match template {
        Some(template) => (Some(template), "/x-ms-parameterized-host/hostTemplate"),
        None => (document.get("host").and_then(Value::as_str), "/host"),
    };
    let host = host.map(|h| h.split_once("://").map_or(h, |(_, rest)| rest));
    match host.or(given.host) {
        Some(host) => add(&mut all, &format!("https://{}/{}", host.trim_matches('/'), base.trim_matches('/')), None, given, pointer)?,
        None => return Ok(None),
    }
    Ok(Some(all))
}

fn add(all: &mut Vec<Server>, url: &str, variables: Option<&Value>, given: Given<'_>, pointer: &str) -> Result<(), Problem> {
    let url = url.trim();
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let (authority, base) = match url.split_once("://").map(|(_, rest)| rest).or_else(|| url.strip_prefix("//")) {
        Some(rest) => rest.split_once('/').map_or((Some(rest), ""), |(a, b)| (Some(a), b)),
        None => (None, url),
    };
    let bases = bases(base, variables, pointer)?;
    let hosts = match authority.filter(|a| !a.is_empty()) {
        Some(authority) => hosts(authority, variables, given, pointer)?,
        None => match given.host {
            Some(host) => vec![host.to_owned()],
            None if !given.root.is_empty() => given.root.iter().map(|s| s.host.clone()).collect(),
            None => return Err(problem(pointer, format!("`{}` names no host", short(url))).help("give it with --host")),
        },
    };
    for host in hosts {
        let host = host.to_ascii_lowercase();
        if let Err(message) = parse_one(&host) {
            return Err(problem(pointer, message).help("give the host with --host"));
        }
        for base in &bases {
            let one = Server { host: host.clone(), base: base.clone() };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        if all.len() > MAX_SERVERS {
            return Err(problem(pointer, format!("there are more than {MAX_SERVERS} servers")));
        }
    }
    Ok(())
}

/// The hosts that an authority stands for.
fn hosts(authority: &str, variables: Option<&Value>, given: Given<'_>, pointer: &str) -> Result<Vec<String>, Problem> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let name = without_port(authority);
    // A host that is nothing but a variable is the reader's to name.
    if name.starts_with('{') && name.ends_with('}') && !name.contains('.') {
        if let Some(host) = given.host {
            return Ok(vec![host.to_owned()]);
        }
        let inner = name.trim_matches(['{', '}']);
        if values(inner, variables).is_empty() {
            return Err(problem(pointer, format!("the host is the variable `{}`", short(inner))).help("give it with --host"));
        }
    }
    let mut all = vec![String::new()];
    let labels: Vec<&str> = labels(name);
    for (i, label) in labels.iter().enumerate() {
        let dot = if i == 0 { "" } else { "." };
        let texts = match label.strip_prefix('{').and_then(|l| l.strip_suffix('}')).filter(|n| is_name(n)) {
            Some(variable) => label_values(variable, variables, labels.len() - i > 2, pointer)?,
            None => expand(label, variables, pointer)?,
        };
        all = combine(&all, dot, &texts, pointer)?;
    }
    Ok(all.into_iter().map(|h| without_port(h.trim_end_matches('.')).to_owned()).collect())
}

/// A variable that is one whole label: each value that is listed, else a parameter of the host
/// where one is safe and its default is one label, else its default.
fn label_values(name: &str, variables: Option<&Value>, inner: bool, pointer: &str) -> Result<Vec<String>, Problem> {
    let values = values(name, variables);
    let listed = listed(name, variables);
    match values.first() {
        _ if listed => Ok(values),
        Some(default) if default.contains('.') || !inner => Ok(vec![default.clone()]),
        None if !inner => Err(problem(pointer, format!("the variable `{}` has no default", short(name))).help("give the host with --host")),
        _ => Ok(vec![format!("{{{name}}}")]),
    }
}

/// Labels between dots that are not inside braces.
fn labels(name: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    name.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '.' && depth == 0
    })
    .collect()
}

/// The authority without `:443` or `:{port}`.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) || (port.starts_with('{') && port.ends_with('}')) => host,
        _ => authority,
    }
}

fn bases(base: &str, variables: Option<&Value>, pointer: &str) -> Result<Vec<String>, Problem> {
    let all = expand(base.trim_matches('/'), variables, pointer)?;
    let slash = |b: &str| if b.trim_matches('/').is_empty() { String::new() } else { format!("/{}", b.trim_matches('/')) };
    Ok(all.iter().map(|b| slash(b)).collect())
}

/// A text with each variable's values in its place.
fn expand(text: &str, variables: Option<&Value>, pointer: &str) -> Result<Vec<String>, Problem> {
    let mut all = vec![String::new()];
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('{') {
        let Some((name, after)) = tail.split_once('}') else { return Err(problem(pointer, "a `{` has no `}`")) };
        let values = values(name, variables);
        if values.is_empty() {
            return Err(problem(pointer, format!("the variable `{}` has no default", short(name))));
        }
        all = combine(&all, before, &values, pointer)?;
        rest = after;
    }
    combine(&all, rest, &[String::new()], pointer)
}

fn combine(all: &[String], between: &str, texts: &[String], pointer: &str) -> Result<Vec<String>, Problem> {
    if all.len() * texts.len() > MAX_SERVERS {
        return Err(problem(pointer, format!("its variables make more than {MAX_SERVERS} addresses")));
    }
    Ok(all.iter().flat_map(|a| texts.iter().map(move |t| format!("{a}{between}{t}"))).collect())
}

/// The values that a variable lists, its default first; without a list, the default.
fn values(name: &str, variables: Option<&Value>) -> Vec<String> {
    let variable = variables.and_then(|v| v.get(name));
    let text = |v: &Value| match v {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut all: Vec<String> = variable.and_then(|v| v.get("default")).and_then(text).into_iter().collect();
    for value in variable.and_then(|v| v.get("enum")).and_then(Value::as_array).into_iter().flatten().filter_map(text) {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

fn listed(name: &str, variables: Option<&Value>) -> bool {
    variables.and_then(|v| v.get(name)).and_then(|v| v.get("enum")).and_then(Value::as_array).is_some_and(|all| !all.is_empty())
}

/// `api.github.com` → `github`, `api.example.co.uk` → `example`.
pub(super) fn provider(host: &str, title: Option<&str>) -> String {
    let labels: Vec<&str> = host.split('.').filter(|l| !l.contains('{')).collect();
    let country = labels.last().is_some_and(|l| l.len() == 2);
    let registry = labels.len().checked_sub(2).and_then(|i| labels.get(i)).is_some_and(|l| crate::intent::hosts::REGISTRIES.contains(l));
    let from_end = if country && registry { 3 } else { 2 };
    let named = labels.len().checked_sub(from_end).and_then(|i| labels.get(i)).copied();
    let address = host.parse::<std::net::IpAddr>().is_ok();
    let name = named.filter(|_| !address).or(title).unwrap_or_else(|| labels.first().copied().unwrap_or("api"));
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().take(40).map(clean).collect();
    let name = name.trim_matches('-');
    if name.is_empty() || name == "unknown" || name == "tunnel" { "api".into() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(server: Value, host: Option<&str>) -> Result<Vec<(String, String)>, String> {
        let root = [Server { host: "root.example.com".into(), base: String::new() }];
        let given = Given { host, root: &root };
        let all = servers(Some(&json!([server])), "/servers", given).map_err(|p| p.to_string())?;
        Ok(all.unwrap().into_iter().map(|s| (s.host, s.base)).collect())
    }

    fn one(host: &str, base: &str) -> Vec<(String, String)> {
        vec![(host.into(), base.into())]
    }

    #[test]
    fn addresses_become_hosts_and_bases() {
        for (url, host, base) in [
            ("https://api.example.com", "api.example.com", ""),
            ("https://API.example.com:8443/v1/", "api.example.com", "/v1"),
            ("//api.example.com/v1", "api.example.com", "/v1"),
            ("/v2", "root.example.com", "/v2"),
            ("v2/", "root.example.com", "/v2"),
            ("https://{site}.example.com/x", "{site}.example.com", "/x"),
            ("https://api.example.com?x=1#y", "api.example.com", ""),
        ] {
            assert_eq!(of(json!({"url": url}), None).unwrap(), one(host, base), "{url}");
        }
    }

    #[test]
    fn variables_become_their_values_or_parameters() {
        let region = json!({"url": "https://{r}.example.com/{v}", "variables": {"r": {"default": "eu", "enum": ["us", "eu"]}, "v": {"default": "v1"}}});
        assert_eq!(of(region, None).unwrap(), [one("eu.example.com", "/v1"), one("us.example.com", "/v1")].concat());
        let whole =
            json!({"url": "{scheme}://{host}/api", "variables": {"host": {"default": "ghe.example.com"}, "scheme": {"default": "https"}}});
        assert_eq!(of(whole.clone(), None).unwrap(), one("ghe.example.com", "/api"));
        assert_eq!(of(whole, Some("git.acme.example")).unwrap(), one("git.acme.example", "/api"));
        let port = json!({"url": "https://api.example.com:{port}/x", "variables": {"port": {"default": "443"}}});
        assert_eq!(of(port, None).unwrap(), one("api.example.com", "/x"));
        let dotted = json!({"url": "https://{d}.com", "variables": {"d": {"default": "api.example"}}});
        assert_eq!(of(dotted, None).unwrap(), one("api.example.com", ""));
    }

    #[test]
    fn what_names_no_host_is_refused_at_its_place() {
        for url in ["https://{host}/x", "https://{a}.com", "https://api.{b.com", "https://a b.example", "https://x.example.com/{v}"] {
            let error = of(json!({"url": url}), None).unwrap_err();
            assert!(error.contains("/servers/0/url"), "{url}: {error}");
        }
        let many: Vec<String> = (0..100).map(|i| format!("r{i}")).collect();
        assert!(of(json!({"url": "https://{r}.example.com", "variables": {"r": {"enum": many}}}), None).is_err());
    }

    #[test]
    fn a_provider_is_named_after_its_domain() {
        for (host, want) in
            [("api.github.com", "github"), ("api.example.co.uk", "example"), ("localhost", "my-api"), ("{site}.atlassian.net", "atlassian")]
        {
            assert_eq!(provider(host, Some("My API")), want);
        }
    }
}
