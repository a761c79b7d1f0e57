use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    call::{Destination, Effect, Head, Host, Path, Scheme},
    config::CatalogSource,
    refusal::Reason,
};

/// A head as a listener would make it.
fn head(method: &str, url: &str, fields: &[(&str, &str)]) -> Head {
    let (host, path) = url.split_once('/').unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Head {
        method: method.parse().unwrap(),
        to: Destination { scheme: Scheme::Https, host: Host::parse(host).unwrap(), port: 443 },
        path: Path::parse(format!("/{path}").parse().unwrap()).unwrap(),
        headers,
        version: Version::HTTP_11,
        upgrade: None,
    }
}

fn builtin() -> &'static Catalog {
    static CATALOG: std::sync::OnceLock<Catalog> = std::sync::OnceLock::new();
    CATALOG.get_or_init(|| Catalog::load(&[CatalogSource::Builtin]).unwrap())
}

fn small() -> Catalog {
    let text = r#"
provider: shop
hosts: ["{site}.shop.example", api.shop.example]
credential: shop
errors: problem
fold: [owner]
operations:
  - {id: shop.items.list, match: "GET /items", effect: read, query: [state, "tag[]", kind=type]}
  - {id: shop.items.get, match: "GET /items/{id}", effect: read}
  - {id: shop.items.mine, match: "GET /items/mine", effect: read}
  - {id: shop.items.put, match: "PUT /owners/{owner}/items/{id}", effect: write, body: {title: /title, body_id: /id, deep: /a/b, first: /list/0}}
  - {id: shop.items.touch, match: "POST /owners/{owner}/touch", effect: write}
  - {id: shop.items.verb, match: "POST /items/{id}:cancel", effect: write}
  - {id: shop.files.get, match: "GET /files/{+path}", effect: read, reserved: [path]}
  - {id: shop.files.log, match: "GET /files/{+path}/log", effect: read}
  - {id: shop.files.span, match: "GET /span/{+a}/x/{+b}", effect: read}
  - {id: shop.files.put, match: "PUT /files/{name}", effect: write, body: stream}
  - {id: shop.range.get, match: "GET /range/{from}...{to}", effect: read}
  - {id: shop.docs.put, match: "PUT /docs", effect: write, body: {title: /title}, content: [text/plain, "image/*"]}
  - {id: shop.svc.up, match: "GET /svc?service=up", effect: write}
  - {id: shop.svc.any, match: "GET /svc", effect: read}
was: {shop.items.fetch: shop.items.get}
"#;
    Catalog::parse("shop.yaml", text).unwrap()
}

type Answer = Result<(String, Value), String>;

/// Id and parameters, or the detail of an `ambiguous_request`.
fn ask(catalog: &Catalog, head: &Head, body: &str) -> Answer {
    let result = catalog.find(head).and_then(|found| {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        found.read(head, Some(&bytes).filter(|_| found.need() != Need::Nothing))
    });
    match result {
        Ok(reading) => {
            let intent = &reading.intents[0];
            Ok((intent.id().to_owned(), serde_json::to_value(&intent.params).unwrap()))
        }
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::AmbiguousRequest);
            Err(refusal.detail.into_owned())
        }
    }
}

fn get(url: &str) -> Answer {
    ask(&small(), &head("GET", &format!("api.shop.example{url}"), &[]), "")
}

fn put(body: &str) -> Answer {
    ask(&small(), &head("PUT", "api.shop.example/owners/Acme/items/7", &[]), body)
}

fn is(answer: Answer, id: &str, params: Value) {
    assert_eq!(answer, Ok((id.to_owned(), params)));
}

fn refused(answer: Answer, about: &str) {
    match answer {
        Err(detail) => assert!(detail.contains(about), "{detail:?} does not speak of {about:?}"),
        Ok(read) => panic!("read as {read:?}, expected a refusal about {about:?}"),
    }
}

#[test]
fn literals_come_before_parameters_and_long_before_short() {
    is(get("/items/mine"), "shop.items.mine", json!({}));
    is(get("/items/7"), "shop.items.get", json!({"id": "7"}));
    is(get("/files/a/b/log"), "shop.files.log", json!({"path": "a/b"}));
    is(get("/files/a/b"), "shop.files.get", json!({"path": "a/b"}));
    is(get("/files/log"), "shop.files.get", json!({"path": "log"}));
    is(get("/files/"), "shop.files.get", json!({"path": ""}));
    is(get("/svc?service=up&x=1"), "shop.svc.up", json!({}));
    is(get("/svc?service=down"), "shop.svc.any", json!({}));
    is(get("/range/a...b"), "shop.range.get", json!({"from": "a", "to": "b"}));
    let verb = ask(&small(), &head("POST", "api.shop.example/items/7:cancel", &[]), "");
    is(verb, "shop.items.verb", json!({"id": "7"}));
    is(ask(&small(), &head("HEAD", "api.shop.example/items/7", &[]), ""), "shop.items.get", json!({"id": "7"}));
}

#[test]
fn what_is_not_listed_is_unknown_with_its_methods_effect() {
    for (method, effect) in [("GET", Effect::Read), ("OPTIONS", Effect::Read), ("DELETE", Effect::Delete), ("PATCH", Effect::Write)] {
        for (url, id, provider) in [("api.shop.example/no/such", "shop.unknown", true), ("other.example/x", "unknown", false)] {
            let head = head(method, url, &[]);
            let reading = small().find(&head).unwrap().read(&head, None).unwrap();
            let intent = &reading.intents[0];
            assert_eq!((intent.id(), intent.operation.effect), (id, effect));
            assert_eq!(reading.provider.is_some(), provider);
            assert_eq!(intent.is_unknown_host(), !provider);
            assert_eq!(intent.is_unknown_operation(), provider);
        }
    }
    is(get("/items/7/"), "shop.unknown", json!({"host": "api.shop.example"}));
    is(get("/files/a/"), "shop.unknown", json!({"host": "api.shop.example"}));
}

#[test]
fn a_host_gives_its_parameters_and_only_one_label() {
    is(ask(&small(), &head("GET", "acme.shop.example/items/7", &[]), ""), "shop.items.get", json!({"id": "7", "site": "acme"}));
    for host in ["shop.example", "a.b.shop.example", "acme.shop.example.evil.example"] {
        is(ask(&small(), &head("GET", &format!("{host}/items/7"), &[]), ""), "unknown", json!({"host": host}));
    }
    refused(ask(&small(), &head("GET", "acme.shop.example/items/7?site=other", &[]), ""), "`site`");
}

#[test]
fn a_tunnel_is_judged_by_its_host_alone() {
    let catalog = small();
    let of = |host: &str| catalog.tunnel(&Host::parse(host).unwrap());
    for (host, id) in [("acme.shop.example", "shop.tunnel"), ("db.example", "tunnel")] {
        let reading = of(host);
        assert_eq!((reading.intents[0].id(), reading.intents[0].operation.effect), (id, Effect::Execute));
        assert_eq!(serde_json::to_value(&reading.intents[0].params).unwrap(), json!({"host": host}));
    }
}

#[test]
fn an_encoded_slash_passes_only_in_a_reserved_parameter() {
    is(get("/files/a%2Fb"), "shop.files.get", json!({"path": "a/b"}));
    refused(get("/items/a%2Fb"), "%2F");
    refused(get("/nothing/a%2fb"), "%2F");
    refused(ask(&small(), &head("GET", "other.example/a%2Fb", &[]), ""), "%2F");
    refused(get("/files/a%2Fb/log"), "%2F");
}

#[test]
fn a_path_with_two_readings_is_refused() {
    refused(get("/items/%6dine"), "mine");
    refused(get("/%69tems"), "items");
    refused(get("/range/a...b...c"), "two ways");
    refused(get("/range/a%2E..b"), "two ways");
    refused(get("/span/1/x/2/x/3"), "two places");
    is(get("/span/1/2/x/3"), "shop.files.span", json!({"a": "1/2", "b": "3"}));
    let long = format!("/span{}", "/y".repeat(30_000));
    refused(get(&long), "too many segments");
}

#[test]
fn methods_have_one_name() {
    for name in ["X-HTTP-Method-Override", "x-method-override", "X-HTTP-Method"] {
        refused(ask(&small(), &head("POST", "api.shop.example/items/7", &[(name, "DELETE")]), ""), "method");
    }
    for name in ["X-Original-URL", "x-rewrite-url"] {
        refused(ask(&small(), &head("GET", "api.shop.example/items/7", &[(name, "/admin")]), ""), "another path");
    }
    refused(get("/items?_method=delete"), "_method");
    refused(get("/nothing?%5Fmethod=delete"), "_method");
    refused(put(r#"{"_method": "delete"}"#), "_method");
    refused(ask(&small(), &head("POST", "api.shop.example/owners/a/touch", &[]), "_method=delete"), "_method");
}

#[test]
fn query_parameters_are_decoded_and_have_one_value() {
    is(get("/items?state=a%20b+c&type=x&other=1"), "shop.items.list", json!({"state": "a b c", "kind": "x"}));
    is(get("/items?%73tate=open"), "shop.items.list", json!({"state": "open"}));
    is(get("/items?state=open&state=open"), "shop.items.list", json!({"state": "open"}));
    is(get("/items?tag=a&tag[]=b"), "shop.items.list", json!({"tag": ["a", "b"]}));
    refused(get("/items?state=open&state=closed"), "state");
    refused(get("/items?State=closed"), "state");
    refused(get("/items?state[]=closed"), "state");
    refused(get("/items?x=1;state=closed"), "state");
    refused(get("/items?\u{17f}tate=closed".replace('\u{17f}', "%C5%BF").as_str()), "state");
    refused(get("/items/7?id=8"), "`id`");
    refused(get("/items/7?ID=8"), "`id`");
    is(get("/items/7?id=7"), "shop.items.get", json!({"id": "7"}));
    refused(get("/svc?service=up&service=down"), "service");
    refused(get("/svc?service=up&Service=down"), "Service");
}

#[test]
fn body_parameters_are_any_json_value() {
    let params = |more: Value| {
        let mut all = json!({"owner": "acme", "id": "7"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    is(put(""), "shop.items.put", params(json!({})));
    is(put(r#"{"title": "x", "extra": [1, {"y": 2}]}"#), "shop.items.put", params(json!({"title": "x"})));
    is(put(r#"{"a": {"b": {"c": [1, null]}, "z": 1}}"#), "shop.items.put", params(json!({"deep": {"c": [1, null]}})));
    is(put(r#"{"list": ["p", "q"]}"#), "shop.items.put", params(json!({"first": "p"})));
    is(put(r#"{"id": 9}"#), "shop.items.put", params(json!({"body_id": 9})));
    is(put("[1]"), "shop.items.put", params(json!({})));
    is(put(r#"{"owner": "ACME"}"#), "shop.items.put", params(json!({})));
    refused(put(r#"{"owner": "evil"}"#), "`owner`");
    refused(put(r#"{"Owner": "evil"}"#), "`owner`");
    refused(ask(&small(), &head("PUT", "api.shop.example/owners/a/items/7?title=x", &[]), r#"{"title": "y"}"#), "title");
    refused(ask(&small(), &head("PUT", "api.shop.example/owners/a/items/7?title=x", &[]), "{}"), "title");
    let same = ask(&small(), &head("PUT", "api.shop.example/owners/a/items/7?title=x", &[]), r#"{"title": "x"}"#);
    is(same, "shop.items.put", json!({"owner": "a", "id": "7", "title": "x"}));
}

#[test]
fn an_undeclared_body_may_not_contradict_a_parameter() {
    let touch =
        |body: &str, media: &str| ask(&small(), &head("POST", "api.shop.example/owners/acme/touch", &[("content-type", media)]), body);
    refused(touch(r#"{"owner": "evil"}"#, "application/json"), "owner");
    refused(touch("owner=evil", "application/x-www-form-urlencoded"), "owner");
    refused(touch("x=%FF&own%65r%5B%5D=evil", "application/x-www-form-urlencoded"), "owner");
    refused(touch("\u{feff}{\"owner\": \"evil\"}", "text/plain"), "JSON");
    refused(touch("owner=evil", "application/json"), "JSON");
    refused(touch(r#"{"x": 1, "x": 2}"#, "application/json"), "\"x\"");
    is(touch(r#"{"x": 1}"#, "application/json"), "shop.items.touch", json!({"owner": "acme"}));
    is(touch("\u{0}\u{1}", "application/octet-stream"), "shop.items.touch", json!({"owner": "acme"}));
}

#[test]
fn hostile_json_is_refused() {
    let deep = |n: usize| format!("{{\"x\": {}1{}}}", "[".repeat(n), "]".repeat(n));
    for (body, about) in [
        (r#"{"title": "a", "title": "b"}"#.to_owned(), "title"),
        (r#"{"title": "a", "Title": "b"}"#.to_owned(), "Title"),
        (r#"{"Title": "b"}"#.to_owned(), "case"),
        ("{\"t\u{131}tle\": 1, \"T\u{130}TLE\": 1}".to_owned(), ""),
        ("{\"x\": {\"y\": [{\"k\": 1, \"k\": 2}]}}".to_owned(), "\"k\""),
        ("{\"\\u0074itle\": 1, \"title\": 2}".to_owned(), "title"),
        ("{\"a\": {\"b\": 1, \"B\": 2}}".to_owned(), "\"B\""),
        (r#"{"title": "a"} {"title": "b"}"#.to_owned(), "trailing"),
        (r#"{"title": "a"}x"#.to_owned(), "trailing"),
        (r#"{"x": "\ud800"}"#.to_owned(), "escape"),
        (r#"{"x": "\ud800\u0041"}"#.to_owned(), ""),
        (r#"{"\udc00": 1}"#.to_owned(), "surrogate"),
        (deep(200), "recursion"),
        (deep(100_000), "recursion"),
        (r#"{"title": NaN}"#.to_owned(), ""),
        (r#"{"title": 01}"#.to_owned(), ""),
        (r#"{"title": 'a'}"#.to_owned(), ""),
        (r#"{"title": "a",}"#.to_owned(), ""),
        (r#"{title: "a"}"#.to_owned(), ""),
        ("{\"title\": \"a\n\"}".to_owned(), "control"),
        ("{\"x\": 1 /* c */}".to_owned(), ""),
        ("\u{feff}{}".to_owned(), ""),
        ("{\"title\": 123456789012345678901234567890}".to_owned(), "number"),
        ("{\"x\": 1e999}".to_owned(), "number"),
        ("{".to_owned(), ""),
        ("title=x".to_owned(), ""),
        (" ".to_owned(), ""),
    ] {
        match put(&body) {
            Err(detail) => assert!(detail.contains(about), "{body:.60}: {detail}"),
            Ok(read) if body.contains('\u{131}') => drop(read),
            Ok(read) => panic!("{body:.60} was read as {read:?}"),
        }
    }
    assert!(put(&deep(100)).is_ok());
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let head = head("PUT", "api.shop.example/owners/a/items/7", &[]);
    let catalog = small();
    for body in [&b"{\"x\": \"\xff\"}"[..], b"{\"x\": \"\xc0\xaf\"}", b"{\"\xed\xa0\x80\": 1}", b"\xff\xfe{\0}\0"] {
        let refusal = catalog.find(&head).unwrap().read(&head, Some(&Bytes::copy_from_slice(body))).unwrap_err();
        assert_eq!(refusal.reason, Reason::AmbiguousRequest);
    }
}

#[test]
fn many_keys_are_checked_as_few_are() {
    let keys: Vec<String> = (0..5000).map(|i| format!("\"k{i}\": {i}")).collect();
    assert!(put(&format!("{{{}}}", keys.join(", "))).is_ok());
    refused(put(&format!("{{{}, \"k4\": 1}}", keys.join(", "))), "k4");
    refused(put(&format!("{{{}, \"k4999\": 1}}", keys.join(", "))), "k4999");
    refused(put(&format!("{{\"in\": {{{}, \"k4999\": 1}}}}", keys.join(", "))), "k4999");
}

#[test]
fn the_media_type_decides_what_a_body_may_be() {
    let put = |fields: &[(&str, &str)], body: &str| ask(&small(), &head("PUT", "api.shop.example/docs", fields), body);
    let json = r#"{"title": "x"}"#;
    for media in ["application/json", "Application/JSON; charset=UTF-8", "application/merge-patch+json"] {
        is(put(&[("content-type", media)], json), "shop.docs.put", json!({"title": "x"}));
    }
    is(put(&[], json), "shop.docs.put", json!({"title": "x"}));
    is(put(&[("content-type", "text/plain")], "anything"), "shop.docs.put", json!({}));
    is(put(&[("content-type", "image/png")], "anything"), "shop.docs.put", json!({}));
    for media in ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/xml"] {
        refused(put(&[("content-type", media)], json), "JSON");
    }
    refused(put(&[("content-type", "application/json; charset=utf-16")], json), "charset");
    refused(put(&[("content-type", "application/json"), ("content-type", "text/plain")], json), "two Content-Types");
    refused(put(&[("content-encoding", "gzip")], json), "Content-Encoding");
    is(put(&[("content-encoding", "identity")], json), "shop.docs.put", json!({"title": "x"}));
}

#[test]
fn only_what_must_be_read_is_asked_for() {
    let catalog = small();
    let need = |method: &str, url: &str, media: &str| {
        let head = head(method, &format!("api.shop.example{url}"), &[("content-type", media)]);
        catalog.find(&head).unwrap().need()
    };
    let whole = Need::Whole { limit: Class::Default };
    assert_eq!(need("PUT", "/owners/a/items/1", "application/json"), whole);
    assert_eq!(need("PUT", "/files/x", "application/json"), Need::Nothing);
    assert_eq!(need("PUT", "/docs", "image/png"), Need::Nothing);
    assert_eq!(need("POST", "/owners/a/touch", "application/octet-stream"), Need::Nothing);
    assert_eq!(need("POST", "/owners/a/touch", "application/json"), whole);
    assert_eq!(need("POST", "/nothing", "application/json"), Need::Nothing);
    let chat = head("POST", "api.openai.com/v1/chat/completions", &[]);
    assert_eq!(builtin().find(&chat).unwrap().need(), Need::Whole { limit: Class::Llm });
}

#[test]
fn github_reads_what_curl_sends() {
    let form = head("POST", "api.github.com/repos/Acme/Web/issues", &[("content-type", "application/x-www-form-urlencoded")]);
    let params = json!({"owner": "acme", "repo": "web", "title": "Broken"});
    is(ask(builtin(), &form, r#"{"title": "Broken"}"#), "github.issues.create", params);
    refused(ask(builtin(), &form, "title=Broken"), "JSON");
    refused(ask(builtin(), &form, r#"{"title": "x", "repo": "secret"}"#), "repo");
}

#[test]
fn git_is_told_apart_by_service() {
    let params = json!({"owner": "acme", "repo": "web"});
    for (method, url, id) in [
        ("GET", "github.com/acme/web.git/info/refs?service=git-upload-pack", "github-git.repos.fetch"),
        ("GET", "github.com/acme/Web/info/refs?service=git-upload-pack", "github-git.repos.fetch"),
        ("POST", "github.com/acme/web.git/git-upload-pack", "github-git.repos.fetch"),
        ("GET", "github.com/acme/web.git/info/refs?service=git-receive-pack", "github-git.repos.prepare-push"),
    ] {
        is(ask(builtin(), &head(method, url, &[]), ""), id, params.clone());
    }
    let push = head("POST", "github.com/acme/web/git-receive-pack", &[("content-type", "application/x-git-receive-pack-request")]);
    is(ask(builtin(), &push, "0000"), "github-git.repos.prepare-push", params.clone());
    let (old, new) = ("1".repeat(40), "2".repeat(40));
    let body = format!("006a{old} {new} refs/heads/bot/fix\0 atomic0000PACK");
    let mut pushed = params;
    pushed["ref"] = json!("refs/heads/bot/fix");
    pushed["change"] = json!("update");
    pushed["options"] = json!([]);
    let body = body.replacen("006a", &format!("{:04x}", body.len() - 8), 1);
    is(ask(builtin(), &push, &body), "github-git.repos.push", pushed);
    refused(ask(builtin(), &push, "0010nonsense"), "push");
    refused(ask(builtin(), &head("POST", "github.com/acme/web/git-receive-pack", &[]), "0000"), "x-git-receive-pack-request");

    is(ask(builtin(), &head("GET", "github.com/acme/web.git/info/refs", &[]), ""), "github-git.unknown", json!({"host": "github.com"}));
}

#[test]
fn realtime_is_the_only_upgrade() {
    let upgrades: Vec<_> = builtin()
        .operations()
        .filter(|f| f.hosts().next().is_some() && !f.operation().upgrades.is_empty())
        .map(|f| f.operation().id.to_string())
        .collect();
    assert_eq!(upgrades, ["openai.realtime.connect"]);
}

#[test]
fn ids_that_were_renamed_are_found() {
    let catalog = small();
    assert_eq!(&*catalog.operation("shop.items.fetch").unwrap().operation().id, "shop.items.get");
    assert_eq!(catalog.current_id("shop.items.fetch"), "shop.items.get");
    assert!(catalog.operation("shop.items.nothing").is_none());
    assert!(catalog.parameter_names().is_superset(&["site", "title", "kind", "host"].map(str::to_owned).into()));
    assert!(catalog.is_folded("owner") && !catalog.is_folded("id"));
}

#[test]
fn words_find_operations() {
    let first = |words: &str| builtin().search(words).first().map(|f| f.operation().id.to_string()).unwrap_or_default();
    assert_eq!(first("label issue add"), "github.issues.add-labels");
    assert!(builtin().search("label issue").iter().any(|f| &*f.operation().id == "github.issues.add-labels"));
    assert_eq!(builtin().search("zebra quagga").len(), 0);
}

/// What a broken catalog says of itself.
fn problems(text: &str) -> String {
    Catalog::parse("c.yaml", text).unwrap_err().to_string()
}

#[test]
fn a_broken_catalog_names_file_line_and_fix() {
    let with = |lines: &str| format!("provider: p\nhosts: [a.example]\noperations:\n{lines}");
    for (text, want) in [
        (
            "provider: p\nhosts: [a.example]\noperatons: []\n".to_owned(),
            "c.yaml:3: operatons: `operatons` is not known here; did you mean `operations`?",
        ),
        (
            with("  - {id: p.a.b, match: \"GET /x\", effect: read}\n  - {id: p.a.c, match: \"GET /y\", efect: read}\n"),
            "c.yaml:5: efect: `efect` is not known here; did you mean `effect`?",
        ),
        (with("  - {id: p.a.b, match: \"GET /x\", effect: raed}\n"), "c.yaml:4: raed: `raed` is not known here; did you mean `read`?"),
        (with("  - {id: p.a.b, match: \"GET /x\", effect: read}\n  - {id: p.a.b, match: \"GET /y\", effect: read}\n"), "c.yaml"),
        (
            with("  - {id: p.a.b, match: \"GET /x/{i}\", effect: read}\n  - {id: p.a.c, match: \"GET /x/{j}\", effect: read}\n"),
            "matches the same requests as p.a.b (c.yaml:4)",
        ),
        (with("  - {id: q.a.b, match: \"GET /x\", effect: read}\n"), "c.yaml:4: q.a.b: an id is `p.GROUP.NAME`"),
        (with("  - {id: p.a.b, match: \"GET /x/{id}\", effect: read, reserved: [di]}\n"), "did you mean `id`?"),
        (with("  - {id: p.a.b, match: \"GET /x/{id}\", effect: write, body: {id: /id}}\n"), "call it `body_id`"),
        (with("  - {id: p.a.b, match: \"GET /x\", effect: write, body: {id: id}}\n"), "JSON pointer"),
        (with("  - {id: p.a.b, match: \"GET /x\", effect: write, body: {id: /i, id: /j}}\n"), "stands twice"),
        (with("  - {id: p.unknown.b, match: \"GET /x\", effect: read}\n"), "`unknown` is kept"),
        (with("  - {id: p.a.b, match: \"/x\", effect: read}\n"), "c.yaml:4: p.a.b: a match is"),
        ("provider: p\nhosts: [a.example]\nreaders: [{soap: /x}]\n".to_owned(), "c.yaml:3: readers: there is no reader `soap`"),
        ("provider: p\nhosts: [\"{x}.com\"]\n".to_owned(), "c.yaml:2: hosts: `{x}.com` could be anybody's host"),
        ("provider: p\nhosts: [a.example]\nfold: [repo]\n".to_owned(), "c.yaml:3: fold: no operation has a parameter `repo`"),
        ("provider: P\nhosts: [a.example]\n".to_owned(), "provider: `P` cannot name a provider"),
        ("provider: p\nhosts: [a.example]\nwas: {p.x.y: p.a.b}\n".to_owned(), "c.yaml:3: was.p.x.y: no operation has the id"),
        ("provider: [\n".to_owned(), "c.yaml:"),
    ] {
        let got = problems(&text);
        assert!(got.contains(want), "{got}\n  does not say\n{want}");
    }
}

#[test]
fn files_of_one_provider_are_merged_and_of_two_kept_apart() {
    let folder = std::env::temp_dir().join(format!("remit-catalog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        CatalogSource::File(folder.join(name))
    };
    let one = file("1.yaml", "provider: p\nhosts: [a.example]\noperations: [{id: p.a.one, match: \"GET /1\", effect: read}]\n");
    let two = file("2.yaml", "provider: p\nhosts: [a.example, b.example]\noperations: [{id: p.a.two, match: \"GET /2\", effect: read}]\n");
    let three = file("3.yaml", "provider: q\nhosts: [a.example]\noperations: [{id: q.a.x, match: \"GET /1\", effect: read}]\n");
    let four = file("4.yaml", "provider: p\nhosts: [a.example]\noperations: [{id: p.a.same, match: \"GET /1\", effect: read}]\n");
    let merged = Catalog::load(&[one.clone(), two]).unwrap();
    let id = |url: &str| ask(&merged, &head("GET", url, &[]), "").unwrap().0;
    assert_eq!(
        [id("a.example/1"), id("a.example/2"), id("b.example/1"), id("b.example/2")],
        ["p.a.one", "p.a.two", "p.unknown", "p.a.two"]
    );
    let claimed = Catalog::load(&[one.clone(), three]).unwrap_err().to_string();
    assert!(claimed.contains("`a.example` belongs to the provider `p` already"), "{claimed}");
    let same = Catalog::load(&[one, four]).unwrap_err().to_string();
    assert!(same.contains("4.yaml:3") && same.contains("p.a.one") && same.contains("1.yaml:3"), "{same}");
    let missing = Catalog::load(&[CatalogSource::File(folder.join("none.yaml"))]).unwrap_err().to_string();
    assert!(missing.contains("none.yaml"), "{missing}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A request for an operation, with values for its parameters, and what should be read from it.
fn render(pattern: &str, value: &mut dyn FnMut(&str, bool) -> String) -> (String, Value) {
    let mut out = String::new();
    let mut want = serde_json::Map::new();
    let mut rest = pattern;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, after) = tail.split_once('}').unwrap();
        let multi = name.starts_with('+');
        let name = name.trim_start_matches('+');
        let given = value(name, multi);
        out.push_str(before);
        out.push_str(&percent_encoding::utf8_percent_encode(&given, SEGMENT).to_string().replace("%2F", if multi { "/" } else { "%2F" }));
        want.insert(name.to_owned(), Value::String(given));
        rest = after;
    }
    out.push_str(rest);
    (out, Value::Object(want))
}

const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

fn lowered(params: &Value) -> Value {
    serde_json::from_str(&params.to_string().to_lowercase()).unwrap()
}

fn check(facts: Facts<'_>, value: &mut dyn FnMut(&str, bool) -> String) {
    // What only a reader finds has no request of its own.
    for pattern in facts.matches().filter(|m| m.starts_with(|c: char| c.is_ascii_uppercase())) {
        // Served from hosts that only their users know.
        if facts.hosts().next().is_none() {
            continue;
        }
        let (method, path) = pattern.split_once(' ').unwrap();
        let host = facts.hosts().next().unwrap();
        if method == "graphql" {
            let body = json!({"query": format!("{path} {{ id }} }}").replacen(' ', " { ", 1)});
            let answer = ask(builtin(), &head("POST", &format!("{host}/graphql"), &[]), &body.to_string());
            is(answer, &facts.operation().id, json!({}));
            continue;
        }
        let (path, want) = render(path, value);
        let (id, params) =
            ask(builtin(), &head(method, &format!("{host}{path}"), &[]), "").unwrap_or_else(|e| panic!("{pattern} {path}: {e}"));
        assert_eq!(id, &*facts.operation().id, "{path}");
        assert_eq!(lowered(&params), lowered(&want), "{path}");
    }
}

/// Those of packs have hosts and headers in their matches; `remit intents coverage` is for them.
fn is_plain(facts: &Facts<'_>) -> bool {
    !matches!(&*facts.operation().provider.id, "aws" | "google")
}

#[test]
fn every_catalog_of_every_pack_compiles() {
    let count = |provider: &str| builtin().operations_of(provider).count();
    assert_eq!((count("aws"), count("google")), (19_605, 17_144));
    assert_eq!(builtin().shelf.all().count(), 411 + 331);
    for name in ["TableName", "Bucket", "projectsId", "userId"] {
        assert!(builtin().parameter_names().contains(name), "{name}");
    }
    // One that gave way to another still answers to its id.
    assert_eq!(builtin().current_id("aws.docdb.create-db-cluster"), "aws.rds.create-db-cluster");
    assert!(builtin().operation("aws.docdb.create-db-cluster").is_some());
    assert!(builtin().operation("aws.nothing.at-all").is_none());
}

#[test]
fn service_and_region_come_from_the_host() {
    let of = |method: &str, url: &str, fields: &[(&str, &str)], body: &str| {
        let head = head(method, url, fields);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let reading = builtin().find(&head).and_then(|f| f.read(&head, Some(&body))).map_err(|r| r.detail.into_owned())?;
        let intent = reading.intents.first().unwrap();
        Ok::<_, String>((intent.id().to_owned(), serde_json::to_value(&intent.params).unwrap()))
    };
    let signed = ("authorization", "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/iam/aws4_request, SignedHeaders=host, Signature=0");
    let target = |name| [signed, ("x-amz-target", name), ("content-type", "application/x-amz-json-1.0")];
    let table = r#"{"TableName": "t", "Item": {"a": {"S": "1"}, "A": {"S": "2"}}}"#;
    let put = of("POST", "dynamodb-fips.us-gov-west-1.api.aws/", &target("DynamoDB_20120810.PutItem"), table).unwrap();
    assert_eq!(put.0, "aws.dynamodb.put-item");
    assert_eq!((&put.1["region"], &put.1["TableName"]), (&json!("us-gov-west-1"), &json!("t")));
    // A bucket called like a service is a bucket, and a region is what looks like one.
    assert_eq!(of("GET", "dynamodb.s3.amazonaws.com/k", &[signed], "").unwrap().1, json!({"Bucket": "dynamodb", "Key": "k"}));
    assert_eq!(of("POST", "dynamodb.evil.amazonaws.com/", &target("DynamoDB_20120810.PutItem"), table).unwrap().0, "unknown");
    assert_eq!(of("POST", "dynamodb.us-east-1.amazonaws.com/", &target("DynamoDB_20120810.Nothing"), table).unwrap().0, "aws.unknown");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let ec2 = |body: &str| of("POST", "ec2.us-east-1.amazonaws.com/", &form, body);
    let ended = ec2("Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.2=i-2").unwrap();
    assert_eq!((&*ended.0, &ended.1["InstanceId"]), ("aws.ec2.terminate-instances", &json!(["i-1", "i-2"])));
    for two in [
        "Action=TerminateInstances&Version=2016-11-15&Action=DescribeInstances",
        "Action=TerminateInstances&Version=2016-11-15&action=DescribeInstances",
        "Action=TerminateInstances;Action=DescribeInstances&Version=2016-11-15",
        "Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.1=i-2",
    ] {
        assert!(ec2(two).is_err(), "{two}");
    }
}

#[test]
fn what_was_granted_on_a_repository_by_rest_is_not_granted_by_graphql() {
    // From a repository a selection goes on to everything of its owner's.
    let body = json!({"query": r#"{ repository(owner: "acme", name: "web") { owner { repositories { totalCount } } } }"#});
    let (id, params) = ask(builtin(), &head("POST", "api.github.com/graphql", &[]), &body.to_string()).unwrap();
    assert_eq!(id, "github.query.repository");
    assert_eq!(params, json!({"root.owner": "acme", "root.name": "web"}));
}

#[test]
fn every_shipped_operation_is_matched_by_its_own_request() {
    let mut count = 0;
    for facts in builtin().operations().filter(is_plain) {
        check(facts, &mut |name, multi| if multi { format!("{name}-1/Val%ue 2") } else { format!("{name}-Val%ue 1") });
        count += 1;
    }
    assert!(count > 1400, "{count}");
    let github = |f: &Facts<'_>| &*f.operation().provider.id == "github" && f.matches().all(|m| !m.starts_with("graphql"));
    assert_eq!(builtin().operations().filter(github).count(), 1223);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_rendered_operation_is_matched_back(pick in any::<prop::sample::Index>(), texts in prop::collection::vec("[a-z0-9][a-zA-Z0-9 _+&=%?#@é~-]{0,12}Q", 8)) {
        static ALL: std::sync::OnceLock<Vec<Facts<'static>>> = std::sync::OnceLock::new();
        let all = ALL.get_or_init(|| builtin().operations().filter(is_plain).collect());
        let facts = all[pick.index(all.len())];
        let mut at = 0;
        check(facts, &mut |_, multi| {
            at += 1;
            let text = &texts[at % texts.len()];
            if multi { format!("{text}/{}", texts[(at + 1) % texts.len()]) } else { text.clone() }
        });
    }

    #[test]
    fn no_body_breaks_the_reader(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let head = head("PUT", "api.shop.example/owners/a/items/7", &[]);
        let catalog = small();
        let _ = catalog.find(&head).unwrap().read(&head, Some(&Bytes::from(body)));
    }

    #[test]
    fn json_that_is_read_is_what_a_plain_reader_reads(title in any::<Option<String>>(), extra in "[a-z]{3,6}", n in any::<i64>()) {
        let mut body = json!({format!("x{extra}"): n});
        if let Some(title) = &title {
            body["title"] = json!(title);
        }
        let (_, params) = put(&body.to_string()).unwrap();
        prop_assert_eq!(params.get("title").cloned(), title.map(Value::String));
    }
}
