use std::fs;

use clap::Parser;
use serde_json::{Value, json};

use super::{Args, End, Terminal, execute};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// Exit, standard output, standard error.
fn remit(words: &[&str]) -> (End, String, String) {
    let cli = Cli::try_parse_from(["intents"].iter().chain(words)).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = execute(cli.args, &mut Terminal { out: &mut out, err: &mut err }).unwrap();
    (end, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A folder that goes away with the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("remit-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ISSUES: &str = "https://api.github.com/repos/acme/web/issues";

#[test]
fn one_request_is_matched() {
    let (end, out, _) = remit(&["match", "POST", ISSUES, "-d", r#"{"title": "Broken"}"#, "--output", "json"]);
    let want = json!({"intents": [{"id": "github.issues.create", "effect": "write", "params": {"owner": "acme", "repo": "web", "title": "Broken"}}], "provider": "github"});
    assert_eq!((end, serde_json::from_str::<Value>(&out).unwrap()), (End::Ok, want));
    let (end, out, _) = remit(&["match", "GET", ISSUES]);
    assert_eq!((end, out.as_str()), (End::Ok, "github.issues.list-for-repo  read\n  owner = \"acme\"\n  repo = \"web\"\n"));
}

#[test]
fn exit_codes_tell_no_from_wrong() {
    assert_eq!(remit(&["match", "GET", "https://nowhere.example/"]).0, End::No);
    assert_eq!(remit(&["match", "GET", "https://api.github.com/no/such/thing"]).0, End::No);
    let (end, out, _) = remit(&["match", "POST", ISSUES, "-H", "X-HTTP-Method-Override: DELETE"]);
    assert_eq!(end, End::No);
    assert!(out.starts_with("refused: ambiguous_request: "), "{out}");
    assert_eq!(remit(&["match", "GET", "not a url"]).0, End::Usage);
    assert_eq!(remit(&["match", "GET", ISSUES, "-H", "no colon"]).0, End::Usage);
    assert_eq!(remit(&["match", "GET", ISSUES, "--catalog", "/no/such/file.yaml"]).0, End::Failed);
    assert_eq!(remit(&["match", "--input", "/no/such/file.jsonl"]).0, End::Failed);
    assert_eq!(
        remit(&["show", "github.issues.creat"]).2,
        "no operation has the id `github.issues.creat`; did you mean `github.issues.create`?\n"
    );
}

#[test]
fn a_batch_answers_line_for_line() {
    let folder = Folder::new("batch");
    let lines = [
        format!(r#"{{"method": "GET", "url": "{ISSUES}/7"}}"#),
        "{".to_owned(),
        format!(r#"{{"method": "POST", "url": "{ISSUES}", "headers": {{"Content-Type": "application/json"}}, "body": {{"title": "a"}}}}"#),
        format!(
            r#"{{"method": "POST", "url": "{ISSUES}", "headers": [["content-type", "application/json"]], "body": "{{\"title\": \"b\"}}"}}"#
        ),
        format!(r#"{{"method": "POST", "url": "{ISSUES}", "body": {{"title": "a", "title": "b"}}}}"#),
        format!(r#"{{"method": "GET", "url": "{ISSUES}/../x"}}"#),
        r#"{"method": "GET", "url": "https://nowhere.example/", "headers": {"Accept": ["a", "b"]}, "body": null}"#.to_owned(),
        r#"{"method": "GET", "url": "/x"}"#.to_owned(),
        r#"{"metod": "GET", "url": "https://a.example/"}"#.to_owned(),
    ];
    let input = folder.file("calls.jsonl", &lines.join("\n"));
    let (end, out, _) = remit(&["match", "--input", &input, "--output", "json"]);
    let answers: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((end, answers.len()), (End::Ok, lines.len()));
    assert_eq!(answers[0]["intents"][0]["params"]["issue_number"], "7");
    assert_eq!(answers[1]["error"]["line"], 2);
    assert_eq!(answers[2]["intents"][0]["params"]["title"], "a");
    assert_eq!(answers[3]["intents"][0]["params"]["title"], "b");
    for i in [4, 5] {
        assert_eq!(answers[i]["refused"]["reason"], "ambiguous_request", "{}", answers[i]);
    }
    assert_eq!(
        answers[6],
        json!({"intents": [{"id": "unknown", "effect": "read", "params": {"host": "nowhere.example"}}], "provider": null})
    );
    assert_eq!(answers[7]["error"]["line"], 8);
    assert_eq!(answers[8]["error"]["line"], 9);
}

#[test]
fn what_a_request_holds_cannot_steer_the_terminal() {
    let body = r#"{"title": "a\u001b[2J\u202e"}"#;
    let (_, out, _) = remit(&["match", "POST", ISSUES, "-d", body]);
    assert!(out.contains("title") && !out.contains(['\u{1b}', '\u{202e}']), "{out:?}");
}

#[test]
fn operations_are_listed_searched_and_shown() {
    let (end, out, _) = remit(&["list", "github-git"]);
    assert_eq!((end, out.lines().count()), (End::Ok, 5));
    let (_, out, _) = remit(&["list", "anthropic", "--effect", "delete", "--output", "json"]);
    assert!(out.lines().all(|l| serde_json::from_str::<Value>(l).unwrap()["effect"] == "delete"));
    assert_eq!(remit(&["list", "githb"]).0, End::No);
    let (_, out, _) = remit(&["search", "label issue"]);
    assert!(out.contains("github.issues.add-labels"), "{out}");
    let (_, out, _) = remit(&["show", "github.issues.add-labels"]);
    assert!(out.contains("- intents: [github.issues.add-labels]\n        where: {owner: …, repo: …, issue_number: …}"), "{out}");
}

const DESCRIPTION: &str = r##"{
  "openapi": "3.0.3", "info": {"version": "1.2"}, "servers": [{"url": "https://api.acme.example/v1"}],
  "components": {
    "parameters": {"id": {"name": "id", "in": "path"}},
    "requestBodies": {"new": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}}},
    "schemas": {"New": {"allOf": [{"$ref": "#/components/schemas/New"}, {"properties": {"name": {}, "id": {}}}]}}
  },
  "paths": {
    "/things/{id}": {
      "parameters": [{"$ref": "#/components/parameters/id"}],
      "get": {"operationId": "things/getOne", "parameters": [{"name": "fields[]", "in": "query"}, {"name": "id", "in": "query"}]},
      "post": {"operationId": "things/search", "requestBody": {"$ref": "#/components/requestBodies/new"}}
    },
    "/upload": {"post": {"tags": ["Big Files"], "requestBody": {"content": {"application/octet-stream": {}}}, "servers": [{"url": "https://up.acme.example"}]}}
  }
}"##;

#[test]
fn a_description_becomes_a_catalog() {
    let folder = Folder::new("import");
    let source = folder.file("acme.json", DESCRIPTION);
    let (end, out, err) = remit(&["import", &source]);
    assert_eq!((end, err.as_str()), (End::Ok, ""));
    let want = [
        "provider: acme",
        "hosts: [api.acme.example]",
        r#"  - {id: acme.big-files.post-upload, match: "POST /upload", effect: write, hosts: [up.acme.example], body: stream}"#,
        r#"  - {id: acme.things.get-one, match: "GET /v1/things/{id}", effect: read, query: ["fields[]", query_id=id]}"#,
        r#"  - {id: acme.things.search, match: "POST /v1/things/{id}", effect: read, body: {body_id: /id, name: /name}, uncertain: true}"#,
    ];
    for line in want {
        assert!(out.lines().any(|l| l == line), "{line}\n  is not in\n{out}");
    }
    assert_eq!(remit(&["import", &source]).1, out, "the same twice");
    let catalog = folder.path("acme.yaml");
    assert_eq!(remit(&["import", &source, "-o", &catalog]).0, End::Ok);
    let (_, out, _) = remit(&["match", "GET", "https://api.acme.example/v1/things/7?fields[]=a", "--catalog", &catalog, "--no-builtin"]);
    assert_eq!(out, "acme.things.get-one  read\n  id = \"7\"\n  fields = [\"a\"]\n");
}

#[test]
fn a_broken_description_names_the_place() {
    let folder = Folder::new("broken");
    let cyclic = r##"{"openapi": "3.0.0", "servers": [{"url": "https://a.example"}],
        "components": {"parameters": {"a": {"$ref": "#/components/parameters/b"}, "b": {"$ref": "#/components/parameters/a"}}},
        "paths": {"/x": {"get": {"parameters": [{"$ref": "#/components/parameters/a"}]}}}}"##;
    let path = |inner: &str| format!(r#"{{"openapi": "3.0.0", "servers": [{{"url": "https://a.example"}}], "paths": {{{inner}}}}}"#);
    let cases = [
        ("{".to_owned(), "not JSON"),
        ("{}".to_owned(), "/openapi: this is neither an OpenAPI 3 nor a Swagger 2.0 description"),
        (r#"{"swagger": "1.2"}"#.to_owned(), "neither an OpenAPI 3"),
        (r#"{"openapi": "3.0.0", "paths": {"/x": {"get": {}}}}"#.to_owned(), "/servers: the description names no host"),
        (path(""), "/paths: the description has no operations"),
        (path(r##""/x": {"$ref": "#/nothing"}"##), "/paths/~1x: `#/nothing` points at nothing"),
        (path(r#""/x": {"$ref": "other.json"}"#), "/paths/~1x: `other.json` points outside"),
        (path(r#""/x": {"get": {"parameters": [{"in": "path"}]}}"#), "/paths/~1x/get/parameters/0: a parameter needs"),
        (path(r#""x": {"get": {}}"#), "/paths/x/get: `x` is not a path"),
        (cyclic.to_owned(), "/paths/~1x/get/parameters/0: more than 32 `$ref`s"),
        (format!("{{\"openapi\": {}", "[".repeat(100_000)), "recursion limit"),
    ];
    for (text, want) in cases {
        let source = folder.file("d.json", &text);
        let (end, _, err) = remit(&["import", &source]);
        assert_eq!(end, End::Failed);
        assert!(err.contains(want), "{err}\n  does not say\n{want}");
    }
    let overlay = folder.file("o.yaml", "rules: [{ids: [acme.no.such], effect: read}]\n");
    let source = folder.file("d.json", DESCRIPTION);
    let (end, _, err) = remit(&["import", &source, "--overlay", &overlay]);
    assert_eq!(end, End::Failed);
    assert!(err.contains("o.yaml") && err.contains("`acme.no.such`"), "{err}");
}

/// GitHub's description, where `REMIT_GITHUB_DESCRIPTION` says it is: the committed catalog is
/// what it gives today.
#[test]
fn the_committed_github_catalog_is_what_the_import_gives() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalog");
    let committed = fs::read_to_string(root.join("github.yaml")).unwrap();
    assert!(committed.contains("\n# operations: 1223,"));
    let Ok(description) = std::env::var("REMIT_GITHUB_DESCRIPTION") else { return };
    let name = committed.lines().find_map(|l| l.strip_prefix("# source: ")).unwrap();
    let overlay = root.join("github.overlay.yaml");
    let (end, out, _) =
        remit(&["import", &description, "--provider", "github", "--source-name", name, "--overlay", overlay.to_str().unwrap()]);
    assert_eq!(end, End::Ok);
    assert!(out == committed, "run config/catalog/build");
}
