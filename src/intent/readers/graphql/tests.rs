use proptest::prelude::*;
use serde_json::{Value, json};

use crate::intent::{
    Catalog,
    readers::tests::{ask, head, is, refused},
};

fn catalog() -> Catalog {
    let text = r#"
provider: hub
hosts: [api.hub.example]
readers: [{graphql: /graphql}]
operations:
  - {id: hub.query.repository, match: "graphql query repository", effect: read, body: {owner: /owner, name: /name}}
  - {id: hub.query.viewer, match: "graphql query viewer", effect: read}
  - {id: hub.query.__schema, match: ["graphql query __schema", "graphql query __type", "graphql query __typename"], effect: read}
  - {id: hub.mutation.createIssue, match: "graphql mutation createIssue", effect: write, body: {input.title: /input/title, input.labels: /input/labels}}
  - {id: hub.mutation.deleteIssue, match: "graphql mutation deleteIssue", effect: delete, body: {id: /id}}
"#;
    Catalog::parse("hub.yaml", text).unwrap()
}

type Answer = Result<Vec<(String, Value)>, String>;

const URL: &str = "https://api.hub.example/graphql";

fn post(body: &str) -> Answer {
    ask(&catalog(), &head("POST", URL, &[("content-type", "application/json")]), body)
}

fn query(text: &str) -> Answer {
    post(&json!({"query": text}).to_string())
}

fn with(text: &str, variables: Value) -> Answer {
    post(&json!({"query": text, "variables": variables}).to_string())
}

fn get(query: &str) -> Answer {
    ask(&catalog(), &head("GET", &format!("{URL}?{query}"), &[]), "")
}

fn repository() -> [(&'static str, Value); 1] {
    [("hub.query.repository", json!({"owner": "a", "name": "b"}))]
}

#[test]
fn every_field_at_the_root_is_an_intent() {
    is(query(r#"{ repository(owner: "a", name: "b") { id } }"#), &repository());
    is(query(r#"query Q { x: repository(owner: "a", name: "b") { viewer: id } }"#), &repository());
    let two = query(r#"mutation { a: deleteIssue(id: "1") { x } b: deleteIssue(id: "2") { x } }"#);
    is(two, &[("hub.mutation.deleteIssue", json!({"id": "1"})), ("hub.mutation.deleteIssue", json!({"id": "2"}))]);
    is(query("{ viewer { login } nothing }"), &[("hub.query.viewer", json!({})), ("hub.unknown", json!({}))]);
    is(query("subscription { changes { id } }"), &[("hub.unknown", json!({}))]);
    is(
        query("{ __schema { types { name } } __type(name: \"X\") { name } }"),
        &[("hub.query.__schema", json!({})), ("hub.query.__schema", json!({}))],
    );
    is(query("{ __typename }"), &[("hub.query.__schema", json!({}))]);
    is(query("{ __typename viewer { login } }"), &[("hub.query.viewer", json!({}))]);
    let many = format!("{{ {} }}", "viewer { x } ".repeat(65));
    refused(query(&many), "more than 64");
}

#[test]
fn the_effect_of_what_is_not_listed_is_that_of_its_kind() {
    let effect = |text: &str| {
        let head = head("POST", URL, &[]);
        let body = bytes::Bytes::from(json!({"query": text}).to_string());
        let reading = catalog().find(&head).unwrap().read(&head, Some(&body)).unwrap();
        (reading.intents[0].operation.effect.as_str(), reading.provider.unwrap().errors)
    };
    assert_eq!(effect("{ x }"), ("read", crate::call::ErrorForm::Graphql));
    assert_eq!(effect("mutation { x }").0, "write");
}

#[test]
fn directives_aliases_and_fragments_hide_nothing() {
    for text in [
        r#"{ repository(owner: "a", name: "b") @skip(if: true) { id } }"#,
        r#"query ($x: Boolean!) { viewer: repository(owner: "a", name: "b") @include(if: $x) { id } }"#,
        r#"{ ... { ... on Query @skip(if: true) { repository(owner: "a", name: "b") { id } } } }"#,
        r#"query { ...F ...F } fragment F on Query { ...G } fragment G on Query { repository(owner: "a", name: "b") { id } }"#,
        "\u{feff}# {\r\n{,repository(name:\"\"\"b\"\"\"owner:\"\\u0061\"){id}}",
        r#""about" query ("what" $o: String! = "a") { repository(owner: $o, name: "b") { ...X @skip(if: true) } } fragment X on Repository { id }"#,
    ] {
        is(query(text), &repository());
    }
    refused(query("{ ...F } fragment F on Query { ...F }"), "itself");
    refused(query("{ ...F } fragment F on Query { ...G } fragment G on Query { ...F }"), "itself");
    refused(query("{ ...F }"), "lacks the fragment");
    refused(query("{ ...F } fragment F on Query { viewer { id } } fragment F on Query { other }"), "two fragments");
}

#[test]
fn variables_are_put_in() {
    let create = "mutation ($input: CreateIssueInput!) { createIssue(input: $input) { issue { id } } }";
    let want = [("hub.mutation.createIssue", json!({"input.title": "x", "input.labels": [1]}))];
    is(with(create, json!({"input": {"title": "x", "labels": [1], "more": {}}})), &want);
    is(
        with("mutation ($t: String, $l: [Int] = [1]) { createIssue(input: {title: $t, labels: $l, n: null}) { x } }", json!({"t": "x"})),
        &want,
    );
    is(with("mutation ($t: String) { createIssue(input: {title: $t}) { x } }", json!({})), &[("hub.mutation.createIssue", json!({}))]);
    is(with("mutation ($t: ID) { deleteIssue(id: $t) { x } }", json!({"t": null})), &[("hub.mutation.deleteIssue", json!({"id": null}))]);
    refused(with("mutation { deleteIssue(id: $t) { x } }", json!({"t": "1"})), "does not define");
    refused(with("mutation ($t: ID, $t: ID) { deleteIssue(id: $t) { x } }", json!({})), "twice");
    refused(with("mutation ($t: ID = $u, $u: ID) { deleteIssue(id: $t) { x } }", json!({})), "value");
    refused(post(r#"{"query": "query ($a: ID) {x(a: $a)}", "variables": {"a": 1, "a": 2}}"#), "twice");
    refused(post(r#"{"query": "{x}", "variables": "{}"}"#), "object");
    refused(query("mutation { createIssue(input: {Title: 1}) { x } }"), "only in case");
}

#[test]
fn which_operation_runs_is_never_guessed() {
    let two = r#"query A { viewer { id } } mutation B { deleteIssue(id: 1) { id } }"#;
    let named = |name: Value| post(&json!({"query": two, "operationName": name}).to_string());
    is(named("A".into()), &[("hub.query.viewer", json!({}))]);
    is(named("B".into()), &[("hub.mutation.deleteIssue", json!({"id": 1}))]);
    refused(named(Value::Null), "does not say which");
    refused(named("".into()), "does not say which");
    refused(named("C".into()), "no operation of the name");
    refused(query("{ viewer { id } } mutation B { x }"), "not all of them a name");
    refused(post(&json!({"query": "query A { x } mutation A { x }", "operationName": "A"}).to_string()), "two operations");
    refused(query("fragment F on Query { x }"), "no operation");
    refused(post(&json!({"query": two, "operationname": "A"}).to_string()), "only in case");
    refused(post(r#"{"query": "{a}", "query": "{b}"}"#), "twice");
    refused(post(r#"{"query": "{a}", "Query": "{b}"}"#), "twice");
    refused(post(r#"{"query": "{a}"} {"query": "{b}"}"#), "trailing");
}

#[test]
fn a_document_that_is_not_there_is_not_judged() {
    let text = "{ viewer { id } }";
    let digest = "6df1ce2b1a7f6d7d0a0d0ee5d7a1f3ac";
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let own: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let of = |query: Value, digest: &str| {
        post(&json!({"query": query, "extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}}).to_string())
    };
    refused(of(Value::Null, &own), "PersistedQueryNotFound");
    refused(of(text.into(), digest), "digest");
    refused(of(Value::Null, digest), "PersistedQueryNotFound");
    is(of(text.into(), &own), &[("hub.query.viewer", json!({}))]);
    // Once it was seen whole, the digest stands for it, in either case of its digits.
    is(of(Value::Null, &own), &[("hub.query.viewer", json!({}))]);
    is(of(Value::Null, &own.to_uppercase()), &[("hub.query.viewer", json!({}))]);
    refused(post("{}"), "no document");
    refused(post(r#"{"query": " "}"#), "no document");
    for key in ["id", "documentId", "doc_id", "ID"] {
        refused(post(&json!({"query": text, key: "x"}).to_string()), "stored");
    }
}

#[test]
fn batches_and_media_types() {
    let one = json!({"query": "{ viewer { id } }"});
    is(post(&json!([one, one]).to_string()), &[("hub.query.viewer", json!({})), ("hub.query.viewer", json!({}))]);
    refused(post(&Value::Array(vec![one.clone(); 65]).to_string()), "65 requests");
    refused(post("[]"), "0 things");
    refused(post("[[]]"), "object");
    let media =
        |media: &str, url: &str, body: &str| ask(&catalog(), &head("POST", &format!("{URL}{url}"), &[("content-type", media)]), body);
    is(media("application/graphql", "", "{ viewer { id } }"), &[("hub.query.viewer", json!({}))]);
    refused(media("application/x-www-form-urlencoded", "", "query=%7Bviewer%7D"), "form");
    refused(media("multipart/form-data; boundary=x", "", "--x"), "multipart");
    for url in ["?query=%7Bx%7D", "?operationName=A", "?Query=x", "?query[]=x", "?documentId=1"] {
        assert!(media("application/json", url, &one.to_string()).is_err(), "{url}");
    }
    is(media("application/json", "?trace=1", &one.to_string()), &[("hub.query.viewer", json!({}))]);
}

#[test]
fn a_query_by_get_is_read_from_the_url() {
    is(get("query=%7Brepository(owner:%22a%22,name:%22b%22)%7Bid%7D%7D"), &repository());
    let text = "query=query($o:String!)%7Brepository(owner:$o,name:%22b%22)%7Bid%7D%7D";
    is(get(&format!("{text}&variables=%7B%22o%22:%22a%22%7D&operationName=")), &repository());
    is(get("query=%7B%0A++viewer+%7B+id+%7D%0A%7D"), &[("hub.query.viewer", json!({}))]);
    is(get("query=mutation%7BdeleteIssue(id:1)%7Bx%7D%7D"), &[("hub.mutation.deleteIssue", json!({"id": 1}))]);
    refused(get(""), "no document");
    refused(get("query=%7Bx%7D&query=%7By%7D"), "twice");
    refused(get("query=%7Bx%7D&QUERY=%7By%7D"), "some servers");
    refused(get("query=%7Bx%7D;query=%7By%7D"), "`;`");
    refused(get(&format!("{text}&variables=1")), "object");
    refused(ask(&catalog(), &head("GET", &format!("{URL}?query=%7Bx%7D"), &[]), "{}"), "body too");
}

#[test]
fn what_is_no_executable_document_is_refused() {
    for text in [
        "{",
        "}",
        "{}",
        "{ a( }",
        "{ a() }",
        "{ a(b: ) }",
        "{ a(b: 1, b: 2) }",
        "{ a(b: {c: 1, c: 2}) }",
        "{ a { } }",
        "{ a: }",
        "type Q { a: Int }",
        "extend type Q { a: Int }",
        "query () { a }",
        "query Q($a) { a }",
        "{ ... }",
        "{ ...on }",
        "fragment on on Q { a } { a }",
        "fragment F($a: Int) on Q { a }",
        "\"about\" { a }",
        "{ a } extra",
        "{ a(b: 1e999) }",
        "{ a(b: 99999999999999999999) }",
        "{ a(b: \"\\ud800\") }",
        "{ a @ }",
        "{ a(b: $) }",
        "{ a }\u{0}",
    ] {
        assert!(query(text).is_err(), "{text}");
    }
    refused(query(&format!("{{ a{}{} }}", "{a".repeat(200), "}".repeat(200))), "deep");
    refused(query(&format!("{{ a(b: {}1{}) }}", "[".repeat(200), "]".repeat(200))), "deep");
    refused(query(&"{a".repeat(100_000)), "deep");
    refused(query(&format!("{{ a {{ {} }} }}", "a ".repeat(30_000))), "too many tokens");
    refused(query(&format!("{{ a({}) }}", (0..300).map(|i| format!("a{i}: 1 ")).collect::<String>())), "names in one list");
}

/// The same fields, written in another way.
fn dress(fields: &[String], how: &[u8]) -> String {
    let mut fragments = String::new();
    let mut root = String::new();
    for (i, field) in fields.iter().enumerate() {
        match how.get(i).unwrap_or(&0) % 6 {
            0 => root.push_str(&format!(" {field} {{ id }}")),
            1 => root.push_str(&format!("\n# {{ comment }}\n alias{i}:{field}@skip(if:true){{id,}}")),
            2 => root.push_str(&format!(" ... on Query {{ {field} {{ a: id }} }}")),
            3 => root.push_str(&format!(" ... @include(if: false) {{ __typename {field} {{ x(y: [1, {{z: A}}]) {{ id }} }} }}")),
            4 => root.push_str(&format!(",,{field}{{...on X{{deep{{deep{{id}}}}}}}}")),
            _ => {
                root.push_str(&format!(" ...F{i} ...F{i}"));
                fragments.push_str(&format!(" fragment F{i} on Query {{ {field} {{ id }} }}"));
            }
        }
    }
    format!("query Q {{{root} }}{fragments}")
}

proptest! {
    #[test]
    fn however_it_is_written_it_asks_for_the_same(names in prop::collection::vec("[a-z]{1,4}", 1..8), how in prop::collection::vec(any::<u8>(), 8)) {
        let fields: Vec<String> = names.iter().map(|n| format!("repository(owner: \"{n}\", name: \"b\")")).collect();
        let want: Vec<(String, Value)> = names.iter().map(|n| ("hub.query.repository".to_owned(), json!({"owner": n, "name": "b"}))).collect();
        prop_assert_eq!(query(&dress(&fields, &how)), Ok(want));
    }

    #[test]
    fn no_document_breaks_the_reader(cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..12), 1..8)) {
        let whole = "query Q($a: [ID!]! = [\"x\\u0041\"], $b: X = {y: 1.5e3}) @d(e: $a) { a: repository(owner: \"\"\"b \\\"\"\" c\"\"\", name: $b) { ...F } ...F } # x\nfragment F on Q { __typename ... { viewer } }";
        let pieces = ["{", "}", "...", "\"\"\"", "\"", "$", "fragment F on Q {", "\\", "\u{feff}", "é", "#", "9"];
        let mut text: Vec<char> = whole.chars().collect();
        for (at, to, piece) in cuts {
            let (at, to) = (at.index(text.len()), to.index(text.len()));
            let (at, to) = (at.min(to), at.max(to));
            let moved: Vec<char> = text.drain(at..to.min(at + 20)).collect();
            let back = at / 2;
            text.splice(back..back, moved.into_iter().chain(pieces[piece].chars()));
        }
        let text: String = text.into_iter().collect();
        let _ = query(&text);
        let _ = ask(&catalog(), &head("POST", URL, &[("content-type", "application/graphql")]), &text);
    }
}
