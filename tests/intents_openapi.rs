//! Descriptions of every kind, through the built binary: what is made of them, and that those which are
//! broken or made to exhaust whoever reads them end with an error that names the place.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("remit-openapi-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn remit(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remit")).args(["intents"]).args(args).output().unwrap()
}

/// The catalog made of a description.
fn import(file: &Path, more: &[&str]) -> String {
    let out = remit(&[&["import", file.to_str().unwrap()], more].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The line of an operation in a catalog.
fn line<'c>(catalog: &'c str, id: &str) -> &'c str {
    let start = format!("id: {id},");
    catalog.lines().find(|l| l.contains(&start)).unwrap_or_else(|| panic!("no {id} in\n{catalog}"))
}

/// What a request means to a catalog: the id and its parameters.
fn means(catalog: &Path, method: &str, url: &str, headers: &[&str], body: Option<&str>) -> (String, Value) {
    let mut args =
        ["match", "--no-builtin", "--output", "json", "--catalog", catalog.to_str().unwrap(), method, url].map(str::to_owned).to_vec();
    args.extend(headers.iter().map(|h| format!("--header={h}")));
    args.extend(body.map(|b| format!("--data={b}")));
    let out = remit(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let value: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    let intent = value.pointer("/intents/0").unwrap_or(&value);
    (
        intent.get("id").or_else(|| value.pointer("/refused/reason")).and_then(Value::as_str).unwrap_or_default().to_owned(),
        intent["params"].clone(),
    )
}

const TRICKY: &str = r##"
openapi: 3.1
info: {title: Tricky, version: 7}
servers:
  - url: https://{region}.api.tricky.example/{base}
    variables: {region: {default: eu, enum: [eu, us]}, base: {default: v2}}
webhooks:
  ignored: {post: {operationId: never}}
paths:
  /users/{id}:
    $ref: "#/components/pathItems/User"
    summary: beside a reference
  /users/me: {get: {operationId: getMe, responses: {200: {description: ok}}}}
  /files/{path}:
    parameters: [{$ref: "#/components/parameters/Path"}]
    get: {operationId: get_file}
  /raw/{owner}-{repo}.json: {get: {tags: [Raw things]}}
  /jobs/{job}:{verb}: {post: {operationId: jobs.act}}
  /items/:
    get:
      operationId: listItems
      parameters:
        - {name: filter, in: query, style: deepObject, schema: {type: object}}
        - {name: tag, in: query, schema: {type: array, items: {type: string}}}
        - {name: ids, in: query, explode: false, schema: {type: array}}
        - {name: page, in: query, schema: {type: object, properties: {offset: {}, limit: {}}}}
        - {name: X-Not, in: header}
    head: {operationId: headItems}
    options: {operationId: optionsItems}
    post:
      operationId: createItem
      requestBody: {$ref: "#/components/requestBodies/Item"}
  /labels/{id}:
    get: {operationId: label, parameters: [{name: id, in: path, required: true, style: label}]}
  /matrix/{id}:
    get: {operationId: matrix, parameters: [{name: id, in: path, required: true, style: matrix}]}
  /same/{a}: {get: {operationId: sameOne}}
  /same/{b}: {get: {operationId: sameTwo}, delete: {operationId: same-one}}
  /elsewhere:
    servers: [{url: "https://uploads.tricky.example"}]
    put: {operationId: upload, requestBody: {content: {application/octet-stream: {}}}}
components:
  pathItems:
    User:
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      get: {operationId: getUser}
      patch: {operationId: getUser, requestBody: {content: {application/merge-patch+json: {schema: {$ref: "#/components/schemas/a~1b~0c%20d"}}}}}
  parameters:
    Path: {name: path, in: path, required: true, description: "encode slashes as %2F"}
  requestBodies:
    Item:
      content:
        application/x-www-form-urlencoded: {schema: {$ref: "#/components/schemas/Item"}}
        application/json; charset=utf-8: {schema: {$ref: "#/components/schemas/Item"}}
  schemas:
    "a/b~c d": {properties: {title: {}}}
    Item: {allOf: [{properties: {name: {}, id: {}}}, {$ref: "#/components/schemas/Loop"}]}
    Loop: {anyOf: [{$ref: "#/components/schemas/Item"}, {properties: {price: {}}}]}
"##;

#[test]
fn a_tricky_description_is_read_as_its_vendor_means_it() {
    let folder = Folder::new("tricky");
    let source = folder.write("tricky.yaml", TRICKY);
    let text = import(&source, &[]);
    assert_eq!(text, import(&source, &[]), "the same description gives the same catalog");
    for head in ["# source: tricky.yaml", "# version: 7", "provider: tricky", "hosts: [eu.api.tricky.example, us.api.tricky.example]"] {
        assert!(text.contains(head), "no {head} in\n{text}");
    }
    assert!(!text.contains("never"));
    assert!(line(&text, "tricky.items.create-item").contains("body: {id: /id, name: /name, price: /price}"));
    assert!(line(&text, "tricky.elsewhere.upload").contains("hosts: [uploads.tricky.example]"));
    assert!(line(&text, "tricky.elsewhere.upload").contains("body: stream"));
    // Two operations with one id get one of their own each; one that looks like another is left out, and said.
    assert!(text.contains("tricky.users.get-user-get-v2-users-id,") && text.contains("tricky.users.get-user-patch-v2-users-id,"), "{text}");
    assert!(
        text.contains("# left out: 2") && text.contains("tricky.same.same-two") && text.contains("/paths/~1matrix~1{id}/get"),
        "{text}"
    );

    let catalog = folder.write("catalog.yaml", &text);
    let base = "https://us.api.tricky.example/v2";
    for (method, path, id, params) in [
        ("GET", "/users/me", "tricky.users.get-me", json!({})),
        ("GET", "/users/7", "tricky.users.get-user-get-v2-users-id", json!({"id": "7"})),
        ("GET", "/files/a%2Fb", "tricky.files.get-file", json!({"path": "a/b"})),
        ("GET", "/raw/acme-web.json", "tricky.raw-things.get-raw-owner-repo-json", json!({"owner": "acme", "repo": "web"})),
        ("POST", "/jobs/7:stop", "tricky.jobs.act", json!({"job": "7", "verb": "stop"})),
        ("GET", "/labels/.7", "tricky.labels.label", json!({"id": "7"})),
        ("HEAD", "/items/", "tricky.items.head-items", json!({})),
        ("OPTIONS", "/items/", "tricky.items.options-items", json!({})),
        ("DELETE", "/same/x", "tricky.same.same-one-delete-v2-same-b", json!({"b": "x"})),
        (
            "GET",
            "/items/?filter[state]=open&filter[by][id]=7&tag=a&tag=b&ids=1,2&offset=5",
            "tricky.items.list-items",
            json!({"filter": {"state": "open", "by": {"id": "7"}}, "tag": ["a", "b"], "ids": "1,2", "offset": "5"}),
        ),
        ("GET", "/items", "tricky.unknown", json!({})),
        ("GET", "/items/?filter[state]=a&filter[state]=b", "ambiguous_request", Value::Null),
        ("GET", "/items/?Offset=1", "ambiguous_request", Value::Null),
    ] {
        let (got, values) = means(&catalog, method, &format!("{base}{path}"), &[], None);
        assert_eq!(got, id, "{method} {path}");
        if !params.is_null() && id != "tricky.unknown" {
            assert_eq!(values, params, "{method} {path}");
        }
    }
}

#[test]
fn a_form_is_read_beside_json() {
    let folder = Folder::new("form");
    let catalog = folder.write("catalog.yaml", &import(&folder.write("tricky.yaml", TRICKY), &[]));
    let url = "https://us.api.tricky.example/v2/items/";
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    let want = json!({"name": "a b", "price": {"amount": "5"}});
    assert_eq!(means(&catalog, "POST", url, &form, Some("name=a+b&price[amount]=5&other=1")), ("tricky.items.create-item".into(), want));
    let both = json!({"name": "x", "price": 5});
    let json_type = ["Content-Type: application/json"];
    assert_eq!(means(&catalog, "POST", url, &json_type, Some(r#"{"name": "x", "price": 5}"#)).1, both);
    for body in
        ["name=a&name=b", "name=a&Name=b", "name=a;name=b", "name[x=1", "name=%ff", "name=%zz", "name=a&_method=DELETE", "{\"name\": 1}"]
    {
        assert_eq!(means(&catalog, "POST", url, &form, Some(body)).0, "ambiguous_request", "{body}");
    }
    assert_eq!(means(&catalog, "POST", &format!("{url}?name=b"), &form, Some("name=a")).0, "ambiguous_request");
    for kind in ["text/plain", "application/xml", "multipart/form-data; boundary=x"] {
        let field = format!("Content-Type: {kind}");
        assert_eq!(means(&catalog, "POST", url, &[&field], Some("name=a")).0, "ambiguous_request", "{kind}");
    }
    assert_eq!(means(&catalog, "POST", url, &[form[0], "Content-Encoding: gzip"], Some("name=a")).0, "ambiguous_request");
}

const SWAGGER: &str = r##"
swagger: 2.0
info: {title: Old, version: "1"}
host: api.old.example:8443
basePath: /v1/
schemes: [https]
consumes: [application/json]
paths:
  /pets:
    parameters: [{name: status, in: query, type: array, collectionFormat: multi, items: {type: string}}, {name: csv, in: query, type: array, items: {type: string}}]
    get: {}
    post:
      operationId: addPet
      parameters: [{name: body, in: body, schema: {$ref: "#/definitions/Pet"}}]
  /pets/{petId}:
    post:
      operationId: updatePet
      parameters: [{name: petId, in: path, type: string, required: true}, {name: name, in: formData, type: string}, {name: status, in: formData, type: string}]
  /pets/{petId}/photo:
    post:
      operationId: uploadPhoto
      consumes: [multipart/form-data]
      parameters: [{name: petId, in: path, type: string, required: true}, {name: file, in: formData, type: file}]
definitions:
  Pet: {properties: {name: {type: string}, tag: {type: string}}}
"##;

#[test]
fn swagger_two_is_read() {
    let folder = Folder::new("swagger");
    let catalog = folder.write("catalog.yaml", &import(&folder.write("old.yaml", SWAGGER), &[]));
    let base = "https://api.old.example/v1/pets";
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    let is = |method: &str, url: String, headers: &[&str], body, id: &str, params: Value| {
        assert_eq!(means(&catalog, method, &url, headers, body), (id.to_owned(), params), "{method} {url}");
    };
    is("GET", format!("{base}?status=a&status=b&csv=1,2"), &[], None, "old.pets.get-pets", json!({"csv": "1,2", "status": ["a", "b"]}));
    is("POST", base.into(), &[], Some(r#"{"name": "x", "tag": "y"}"#), "old.pets.add-pet", json!({"name": "x", "tag": "y"}));
    is(
        "POST",
        format!("{base}/7"),
        &form,
        Some("name=x&status=y"),
        "old.pets.update-pet",
        json!({"petId": "7", "name": "x", "status": "y"}),
    );
    is(
        "POST",
        format!("{base}/7/photo"),
        &["Content-Type: multipart/form-data; boundary=b"],
        Some("--b--"),
        "old.pets.upload-photo",
        json!({"petId": "7"}),
    );
}

/// A description with one operation, around what is wrong.
fn with(paths: &Value, more: &[(&str, Value)]) -> String {
    let mut all = json!({"openapi": "3.0.0", "servers": [{"url": "https://api.x.example"}], "paths": paths});
    more.iter().for_each(|(key, value)| all[*key] = value.clone());
    all.to_string()
}

#[test]
fn broken_descriptions_are_refused_with_the_place() {
    let folder = Folder::new("broken");
    let body = |schema: Value| json!({"/x": {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}});
    for (name, text, about) in [
        (
            "outside.json",
            with(&body(json!({"$ref": "other.yaml#/X"})), &[]),
            "/paths/~1x/post/requestBody/content/application~1json/schema",
        ),
        ("outside2.json", with(&json!({"/x": {"$ref": "paths.yaml#/x"}}), &[]), "bundle it"),
        ("nothing.json", with(&body(json!({"$ref": "#/components/schemas/None"})), &[]), "points at nothing"),
        ("circle.json", with(&json!({"/x": {"$ref": "#/paths/~1y"}, "/y": {"$ref": "#/paths/~1x"}}), &[]), "circle"),
        (
            "itself.json",
            with(
                &body(json!({"$ref": "#/components/schemas/A"})),
                &[("components", json!({"schemas": {"A": {"$ref": "#/components/schemas/A"}}}))],
            ),
            "circle",
        ),
        ("host.json", with(&json!({"/x": {"get": {}}}), &[("servers", json!([]))]), "--host"),
        ("relative.json", with(&json!({"/x": {"get": {}}}), &[("servers", json!([{"url": "/v1"}]))]), "/servers/0/url"),
        ("variable.json", with(&json!({"/x": {"get": {}}}), &[("servers", json!([{"url": "https://{h}/v1"}]))]), "--host"),
        ("none.json", with(&json!({}), &[]), "no operations"),
        ("paths.json", with(&json!([1]), &[]), "/paths"),
        ("item.json", with(&json!({"/x": 5}), &[]), "/paths/~1x"),
        ("parameter.json", with(&json!({"/x": {"get": {"parameters": [{"name": "a"}]}}}), &[]), "/paths/~1x/get/parameters/0"),
        ("twice.json", "{\"openapi\": \"3.0.0\",\n\"paths\": {},\n\"paths\": {}}".into(), "twice.json:3"),
        ("cut.json", "{\"openapi\": \"3.0.0\", ".into(), "cut.json:1"),
        ("tabs.yaml", "openapi: 3.0.0\npaths:\n\t- x".into(), "tabs.yaml:"),
        ("other.json", "{\"asyncapi\": \"2.0\"}".into(), "neither an OpenAPI 3 nor a Swagger 2.0"),
        ("empty.yaml", String::new(), "neither"),
    ] {
        let file = folder.write(name, &text);
        let out = remit(&["import", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(3), "{name}: {said}");
        assert!(said.contains(about) && said.contains(name), "{name}: {said}");
    }
    let file = folder.write("fine.json", &with(&json!({"/x": {"get": {}}}), &[]));
    let out = remit(&["import", file.to_str().unwrap(), "--provider", "No Such"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("cannot name a provider"));
}

#[test]
fn hostile_descriptions_end_soon() {
    let folder = Folder::new("hostile");
    let mut laughs = String::from("openapi: 3.0.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..15 {
        laughs.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
    }
    // Schemas that combine one another: 2^30 ways through them.
    let schemas: Value = (0..30)
        .map(|i| {
            let next = json!({"$ref": format!("#/components/schemas/S{}", i + 1)});
            (format!("S{i}"), json!({"allOf": [next, next], "properties": {format!("p{i}"): {}}}))
        })
        .chain([("S30".to_owned(), json!({}))])
        .collect::<serde_json::Map<_, _>>()
        .into();
    let deep = json!({"/x": {"post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}}}});
    let variables: Value =
        (0..10).map(|i| (format!("v{i}"), json!({"enum": ["a", "b", "c"], "default": "a"}))).collect::<serde_json::Map<_, _>>().into();
    let url: String = (0..10).map(|i| format!("{{v{i}}}.")).collect();
    let servers = json!([{"url": format!("https://{url}x.example"), "variables": variables}]);
    let big = format!("{{\"openapi\": \"3.0.0\", \"info\": {{\"title\": \"{}\"}}, \"paths\": {{", "x".repeat(50 << 20));
    for (name, text, ends) in [
        ("laughs.yaml", laughs, "repetition"),
        ("nested.json", "[".repeat(5 << 20), "recursion"),
        ("nested.yaml", format!("a: {}", "{a: ".repeat(1 << 20)), "nests more than"),
        ("dashes.yaml", format!("a:\n{}x", "- ".repeat(1 << 20)), "nests more than"),
        ("flat.json", format!("[{}1]", "1,".repeat(20 << 20)), "values"),
        ("flat.yaml", "- a\n".repeat(10 << 20), "too large"),
        ("cut.json", big, "cut.json:1"),
        ("huge.json", " ".repeat(100 << 20), "larger than"),
        ("servers.json", with(&json!({"/x": {"get": {}}}), &[("servers", servers)]), "addresses"),
        ("schemas.json", with(&deep, &[("components", json!({"schemas": schemas}))]), ""),
    ] {
        let file = folder.write(name, &text);
        let start = Instant::now();
        // 2 GiB of address space: what is more is a failure.
        let line = format!("ulimit -v 2097152; exec timeout 60 {} intents import {}", env!("CARGO_BIN_EXE_remit"), file.display());
        let out = Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(start.elapsed() < Duration::from_secs(60), "{name} took {:?}", start.elapsed());
        match ends {
            "" => assert!(out.status.success(), "{name}: {said}"),
            about => assert!(out.status.code() == Some(3) && said.contains(about), "{name}: {:?} {said}", out.status),
        }
        fs::remove_file(&file).unwrap();
    }
}
