//! Requests made from GitHub's own description, by a generator that shares nothing with the
//! importer, are read as the operations they are for.
//!
//! `REMIT_GITHUB_DESCRIPTION` names the description (`generated/api.github.com.json` of the npm
//! package `@octokit/openapi`); without it the requests are made from the committed catalog.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use remit::{
    cli::request,
    config::CatalogSource,
    intent::{Catalog, Need},
};
use serde_json::{Map, Value, json};

/// One request, and what should be read from it.
#[derive(Debug)]
struct Case {
    id: String,
    method: String,
    url: String,
    params: BTreeMap<String, Value>,
    body: Option<Value>,
}

#[test]
fn every_operation_of_github_is_read_right() {
    let catalog = Catalog::load(&[CatalogSource::Builtin]).unwrap();
    let description = std::env::var("REMIT_GITHUB_DESCRIPTION");
    let described = description.is_ok();
    let cases = match description {
        Ok(file) => from_description(&serde_json::from_slice(&fs::read(file).unwrap()).unwrap()),
        Err(_) => from_catalog(&catalog),
    };
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(&catalog, case).err().map(|e| format!("{}: {e}", case.id))).collect();
    assert!(wrong.is_empty(), "{} of {} are read wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let rest = cases.iter().filter(|c| !c.url.ends_with("/graphql")).count();
    assert_eq!((rest, cases.len() - rest), (1223, if described { 0 } else { 281 }));
}

fn check(catalog: &Catalog, case: &Case) -> Result<(), String> {
    let head = request::head(&case.method, &case.url, [("content-type", "application/json")]).map_err(|e| e.to_string())?;
    let found = catalog.find(&head).map_err(|e| e.detail.into_owned())?;
    let body = case.body.as_ref().map(|b| Bytes::from(b.to_string()));
    let reading = found.read(&head, body.as_ref().filter(|_| found.need() != Need::Nothing)).map_err(|e| e.detail.into_owned())?;
    let [intent] = reading.intents.as_slice() else { return Err("not one intent".into()) };
    if intent.id() != case.id {
        return Err(format!("{} {} is read as {}", case.method, case.url, intent.id()));
    }
    let got: BTreeMap<String, Value> = intent.params.iter().map(|(n, v)| (n.to_string(), serde_json::to_value(v).unwrap())).collect();
    if got != case.params {
        return Err(format!("parameters {got:?}, not {:?}", case.params));
    }
    Ok(())
}

fn from_description(document: &Value) -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch"] {
            if let Some(operation) = item.get(method) {
                cases.push(case(document, path, item, method, operation));
            }
        }
    }
    cases
}

fn case(document: &Value, path: &str, item: &Value, method: &str, operation: &Value) -> Case {
    let id = format!("github.{}", operation["operationId"].as_str().unwrap().replace('/', "."));
    let base = operation.pointer("/servers/0/url").or_else(|| document.pointer("/servers/0/url")).unwrap().as_str().unwrap();
    let mut url = path.to_owned();
    let mut query = Vec::new();
    let mut params = BTreeMap::new();
    let lists = [item.get("parameters"), operation.get("parameters")];
    for parameter in lists.into_iter().flatten().flat_map(|l| l.as_array().unwrap()) {
        let parameter = meant(document, parameter);
        let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
        let schema = meant(document, &parameter["schema"]);
        // `branches/{branch}/rename`: such values hold slashes, and clients send them as they are.
        let many = parameter.get("x-multi-segment").is_some() && place == "path";
        let text = match schema["type"].as_str() {
            Some("integer") => "17".to_owned(),
            _ => format!("v-{}{}", name.to_lowercase(), if many { "/x" } else { "" }),
        };
        if place == "path" {
            url = url.replace(&format!("{{{name}}}"), &text);
            params.insert(name.to_owned(), json!(text));
        } else if schema["type"] == "array" {
            query.push(format!("{name}={text}&{name}=b"));
            params.insert(name.to_owned(), json!([text, "b"]));
        } else {
            query.push(format!("{name}={text}"));
            params.insert(name.to_owned(), json!(text));
        }
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let body = body(document, operation);
    for (key, value) in body.iter().flat_map(|b| b.as_object().unwrap()) {
        let name = if params.contains_key(key) { format!("body_{key}") } else { key.clone() };
        params.insert(name, value.clone());
    }
    Case { id, method: method.to_ascii_uppercase(), url: format!("{base}{url}{query}"), params, body }
}

/// A body that holds every property the schema speaks of, however it is put together.
fn body(document: &Value, operation: &Value) -> Option<Value> {
    let content = meant(document, operation.get("requestBody")?).get("content")?.get("application/json")?;
    let mut all = Map::new();
    let mut left = vec![content.get("schema")?];
    while let Some(schema) = left.pop() {
        let schema = meant(document, schema);
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let value = match meant(document, property)["type"].as_str() {
                Some("integer" | "number") => json!(5),
                Some("boolean") => json!(true),
                Some("array") => json!(["a"]),
                Some("object") => json!({"k": {"l": null}}),
                _ => json!(format!("b-{}", name.to_lowercase())),
            };
            all.insert(name.clone(), value);
        }
        left.extend(["oneOf", "anyOf", "allOf"].iter().filter_map(|k| schema.get(*k)).flat_map(|l| l.as_array().unwrap()));
    }
    Some(Value::Object(all)).filter(|b| b.as_object().is_some_and(|b| !b.is_empty()))
}

fn meant<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(to) => meant(document, document.pointer(to.trim_start_matches('#')).unwrap()),
        None => value,
    }
}

/// From the catalog's own lines: shows that no operation shadows another.
fn from_catalog(catalog: &Catalog) -> Vec<Case> {
    let mut cases = Vec::new();
    for facts in catalog.operations().filter(|f| &*f.operation().provider.id == "github") {
        let (method, pattern) = facts.matches().next().unwrap().split_once(' ').unwrap();
        if method == "graphql" {
            let (kind, field) = pattern.split_once(' ').unwrap();
            let url = format!("https://{}/graphql", facts.hosts().next().unwrap());
            let body = Some(json!({"query": format!("{kind} {{ {field} {{ id }} }}")}));
            cases.push(Case { id: facts.operation().id.to_string(), method: "POST".into(), url, params: BTreeMap::new(), body });
            continue;
        }
        let mut url = pattern.to_owned();
        let mut params = BTreeMap::new();
        for (name, _) in facts.parameters().filter(|(_, place)| *place == "path") {
            let many = url.contains(&format!("{{+{name}}}"));
            let value = format!("v-{name}{}", if many { "/x" } else { "" });
            url = url.replace(&format!("{{+{name}}}"), &value).replace(&format!("{{{name}}}"), &value);
            params.insert(name.to_owned(), json!(value));
        }
        let id = facts.operation().id.to_string();
        let host = facts.hosts().next().unwrap();
        cases.push(Case { id, method: method.to_owned(), url: format!("https://{host}{url}"), params, body: None });
    }
    cases
}

#[test]
fn every_shipped_catalog_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalog");
    let mut count = 0;
    for file in fs::read_dir(root).unwrap().map(|f| f.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".yaml") && !name.ends_with(".overlay.yaml") {
            Catalog::load(&[CatalogSource::File(file)]).unwrap_or_else(|problems| panic!("{problems}"));
            count += 1;
        }
    }
    assert_eq!(count, 13);
}
