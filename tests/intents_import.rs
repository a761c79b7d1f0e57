//! Descriptions of GraphQL, MCP, A2A and gRPC services become catalogs that read requests right; and no
//! description and no body, however it is broken, makes an import or a reader fail otherwise than by saying so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use remit::{
    cli::request,
    intent::{
        Catalog,
        import::{Imported, Source, import},
    },
    problem::Problem,
};
use serde_json::{Value, json};

fn imported(bytes: &[u8], host: &str) -> Result<Imported, Problem> {
    import(Source { name: "description", bytes, provider: Some("acme"), format: None, host: Some(host), overlay: None, beside: None })
}

/// A catalog and its text.
fn catalog(bytes: &[u8], host: &str) -> (Catalog, String) {
    let made = imported(bytes, host).unwrap_or_else(|problem| panic!("{problem}"));
    (Catalog::parse("acme.yaml", &made.text).unwrap(), made.text)
}

/// Ids and parameters that a request is read as.
fn read(catalog: &Catalog, method: &str, url: &str, body: &str) -> Vec<(String, Value)> {
    let head = request::head(method, url, [("content-type", "application/json")]).unwrap();
    let body = Bytes::copy_from_slice(body.as_bytes());
    let reading = catalog.find(&head).and_then(|f| f.read(&head, Some(&body))).unwrap_or_else(|r| panic!("{}", r.detail));
    reading.intents.iter().map(|i| (i.id().to_owned(), serde_json::to_value(&i.params).unwrap())).collect()
}

/// Effect, labels and whether it is a guess.
fn facts(catalog: &Catalog, id: &str) -> String {
    let facts = catalog.operation(id).unwrap_or_else(|| panic!("{id} is not there"));
    let labels: Vec<&str> = facts.operation().labels.iter().map(|l| l.as_str()).collect();
    let guessed = if facts.is_uncertain() { "?" } else { "" };
    format!("{}{guessed} {}", facts.operation().effect, labels.join(" ")).trim().to_owned()
}

const SDL: &str = r#"
"The schema" schema @link(url: "x") { query: Root mutation: Changes subscription: Events }
directive @input(a: [Int!] = [1]) repeatable on FIELD | OBJECT
scalar Date @specifiedBy(url: "x")
union Any = | Issue | Root
enum State @x { OPEN "closed" CLOSED }
interface Node { id: ID! }
type Issue implements Node & Other @key(fields: "id") { id: ID! }
type Root { issue("which" id: ID!, filter: Filter = {state: OPEN}): Issue old: Int @deprecated(reason: "gone") }
extend type Root { search(text: String, ids: [Filter!]!): [Issue!]! }
type Changes { createIssue(input: NewIssue!): Issue getToken: String deleteIssue(id: ID!): Int registerHook(webhookUrl: String): Int }
type Events { changed(id: ID): Issue }
input Filter { state: State = OPEN, labels: [String] }
input NewIssue @x { repositoryId: ID! title: String clientMutationId: String }
extend input NewIssue { body: String }
"#;

fn introspection() -> Value {
    let named = |kind: &str, name: &str| json!({"kind": kind, "name": name, "ofType": null});
    let required = |inner: Value| json!({"kind": "NON_NULL", "name": null, "ofType": inner});
    json!({"data": {"__schema": {
    "queryType": {"name": "Root"}, "mutationType": {"name": "Changes"}, "subscriptionType": null,
    "types": [
        {"kind": "OBJECT", "name": "Root", "fields": [{"name": "issue", "args": [{"name": "id", "type": required(named("SCALAR", "ID"))}]}]},
        {"kind": "OBJECT", "name": "Changes", "fields": [
            {"name": "createIssue", "args": [{"name": "input", "type": required(named("INPUT_OBJECT", "NewIssue"))}]}]},
        {"kind": "INPUT_OBJECT", "name": "NewIssue", "fields": null, "inputFields": [{"name": "title", "type": named("SCALAR", "String")}]},
        {"kind": "SCALAR", "name": "ID"}
    ]}}})
}

#[test]
fn every_field_at_the_root_of_a_schema_is_an_operation() {
    let (catalog, text) = catalog(SDL.as_bytes(), "api.acme.example/v2/graphql");
    assert!(text.contains("readers: [{graphql: /v2/graphql}]"), "{text}");
    for (id, want) in [
        ("acme.query.issue", "read"),
        ("acme.query.old", "read"),
        ("acme.query.search", "read"),
        ("acme.query.__schema", "read"),
        ("acme.subscription.changed", "read"),
        ("acme.mutation.createIssue", "write"),
        ("acme.mutation.deleteIssue", "delete?"),
        ("acme.mutation.getToken", "write? mints-credential"),
        ("acme.mutation.registerHook", "write? sends-elsewhere"),
    ] {
        assert_eq!(facts(&catalog, id), want, "{id}");
    }
    let body = json!({
        "query": "mutation ($i: NewIssue!) { createIssue(input: $i) { id } }",
        "variables": {"i": {"repositoryId": "R_1", "title": "x", "body": "y", "clientMutationId": "z"}}
    });
    let url = "https://api.acme.example/v2/graphql";
    let params = json!({"input.repositoryId": "R_1", "input.title": "x", "input.body": "y"});
    assert_eq!(read(&catalog, "POST", url, &body.to_string()), [("acme.mutation.createIssue".to_owned(), params)]);
    let body = json!({"query": "{ issue(id: 1, filter: {labels: [\"a\"]}) { id } search(ids: [{}]) { id } }"});
    let want = [("acme.query.issue", json!({"id": 1, "filter.labels": ["a"]})), ("acme.query.search", json!({"ids": [{}]}))];
    assert_eq!(read(&catalog, "POST", url, &body.to_string()), want.map(|(id, p)| (id.to_owned(), p)));
}

#[test]
fn an_introspection_result_is_a_schema_too() {
    for document in [introspection(), introspection()["data"].clone()] {
        let (catalog, _) = catalog(document.to_string().as_bytes(), "api.acme.example");
        let body = json!({"query": "mutation { createIssue(input: {title: \"x\"}) { id } }"});
        let want = ("acme.mutation.createIssue".to_owned(), json!({"input.title": "x"}));
        assert_eq!(read(&catalog, "POST", "https://api.acme.example/graphql", &body.to_string()), [want]);
    }
}

fn tools() -> Value {
    let tool = |name: &str, hints: Value| json!({"name": name, "annotations": hints, "inputSchema": {"type": "object", "properties": {"title": {}, "a/b": {}, "x-y": {}}}});
    json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [
        tool("list_issues", json!({"readOnlyHint": true})),
        tool("frobnicate", json!({"readOnlyHint": true})),
        tool("delete_all", json!({"readOnlyHint": true})),
        tool("tidy", json!({"readOnlyHint": false, "destructiveHint": true})),
        tool("tweak", json!({"readOnlyHint": false, "destructiveHint": false})),
        tool("fetch_page", json!({"readOnlyHint": true, "openWorldHint": true})),
        tool("plain", json!({})),
    ]}})
}

#[test]
fn a_servers_word_on_its_tools_counts_where_their_names_do_not_gainsay_it() {
    let (catalog, text) = catalog(tools().to_string().as_bytes(), "mcp.acme.example/v1/mcp");
    assert!(text.contains("readers: [{mcp: /v1/mcp}]") && text.contains("errors: jsonrpc"), "{text}");
    for (tool, want) in [
        ("list_issues", "read?"),
        ("frobnicate", "read?"),
        ("delete_all", "delete?"),
        ("tidy", "delete?"),
        ("tweak", "write"),
        ("fetch_page", "read? sends-elsewhere"),
        ("plain", "write?"),
    ] {
        assert_eq!(facts(&catalog, &format!("acme.tool.{tool}")), want, "{tool}");
    }
    let url = "https://mcp.acme.example/v1/mcp";
    let call = |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let tweak = call("tools/call", json!({"name": "tweak", "arguments": {"title": 1, "x-y": 2, "a/b": 3}}));
    assert_eq!(read(&catalog, "POST", url, &tweak), [("acme.tool.tweak".to_owned(), json!({"title": 1, "x-y": 2}))]);
    for (method, id) in [
        ("initialize", "acme.session.initialize"),
        ("ping", "acme.session.ping"),
        ("tools/list", "acme.tools.list"),
        ("server/discover", "acme.session.discover"),
        ("logging/setLevel", "acme.logging.set-level"),
        ("subscriptions/listen", "acme.subscriptions.listen"),
        ("completion/complete", "acme.completion.complete"),
        ("sampling/createMessage", "acme.unknown"),
    ] {
        assert_eq!(read(&catalog, "POST", url, &call(method, json!({})))[0].0, id);
    }
    assert_eq!(read(&catalog, "GET", url, "")[0].0, "acme.session.stream");
    assert_eq!(read(&catalog, "DELETE", url, "")[0].0, "acme.session.end");
}

fn card() -> Value {
    json!({"name": "Helper", "version": "3", "skills": [], "supportedInterfaces": [
        {"url": "https://a2a.acme.example/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
        {"url": "https://a2a.acme.example/v1/", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
        {"url": "https://a2a.acme.example", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
    ]})
}

#[test]
fn an_agent_card_says_where_an_agent_is_asked() {
    let (catalog, _) = catalog(card().to_string().as_bytes(), "unused.example");
    let call = |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let push = json!({"message": {}, "configuration": {"taskPushNotificationConfig": {"url": "https://x.example"}}});
    let want = [("acme.message.send".to_owned(), json!({"push_url": "https://x.example"}))];
    assert_eq!(read(&catalog, "POST", "https://a2a.acme.example/rpc", &call("SendMessage", push.clone())), want);
    assert_eq!(read(&catalog, "POST", "https://a2a.acme.example/v1/message:send", &push.to_string()), want);
    let task = [("acme.tasks.cancel".to_owned(), json!({"id": "t1"}))];
    assert_eq!(read(&catalog, "POST", "https://a2a.acme.example/rpc", &call("tasks/cancel", json!({"id": "t1"}))), task);
    assert_eq!(read(&catalog, "POST", "https://a2a.acme.example/v1/tasks/t1:cancel", ""), task);
    assert_eq!(facts(&catalog, "acme.push.create"), "write sends-elsewhere");
    assert_eq!(read(&catalog, "GET", "https://a2a.acme.example/.well-known/agent-card.json", "")[0].0, "acme.card.get");
}

/// A field of a protobuf message: bytes.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn descriptors() -> Vec<u8> {
    let no_side_effects = [varint(34 << 3), varint(1)].concat();
    let get = field(72_295_728, &field(2, b"/v1/x"));
    let method = |name: &str, options: &[u8]| field(2, &[field(1, name.as_bytes()), field(2, b".x.Y"), field(4, options)].concat());
    let service = |name: &str, methods: &[Vec<u8>]| field(6, &[field(1, name.as_bytes()), methods.concat()].concat());
    let orders = [method("CreateOrder", b""), method("FindAll", &no_side_effects), method("Touch", &get), method("DeleteOrder", b"")];
    let file = |name: &str, package: &str, service: Vec<u8>| {
        field(1, &[field(1, name.as_bytes()), field(2, package.as_bytes()), field(4, b"\x0a\x01M"), service].concat())
    };
    [
        file("a.proto", "shop.v1", service("Orders", &orders)),
        file("b.proto", "shop.v1", service("Health", &[method("Check", b"")])),
        file("c.proto", "grpc.health.v1", service("Health", &[method("Check", b"")])),
    ]
    .concat()
}

#[test]
fn a_grpc_method_is_the_operation_of_its_path() {
    let (catalog, text) = catalog(&descriptors(), "grpc.acme.example");
    assert!(text.contains("errors: grpc"), "{text}");
    for (id, want) in [
        ("acme.orders.create-order", "write"),
        ("acme.orders.find-all", "read"),
        ("acme.orders.touch", "read"),
        ("acme.orders.delete-order", "delete?"),
        ("acme.shop-v1-health.check", "write?"),
        ("acme.grpc-health-v1-health.check", "write?"),
    ] {
        assert_eq!(facts(&catalog, id), want, "{id}");
    }
    assert_eq!(read(&catalog, "POST", "https://grpc.acme.example/shop.v1.Orders/CreateOrder", "")[0].0, "acme.orders.create-order");
    assert_eq!(read(&catalog, "POST", "https://grpc.acme.example/shop.v1.Orders/createorder", "")[0].0, "acme.unknown");
}

#[test]
fn what_is_wrong_with_a_description_is_named() {
    let deep = format!("type Query {{ a(b: Int = {}1{}): Int }}", "[".repeat(100), "]".repeat(100));
    for (bytes, about) in [
        (b"type Query {\n a: Int\n b(: Int\n}".to_vec(), "description:3: the GraphQL schema has no name"),
        (deep.into_bytes(), "nests more than"),
        (b"type Other { a: Int }".to_vec(), "no fields to query"),
        (b"type Query { a: Int } nonsense".to_vec(), "`nonsense`"),
        (b"type Query { a: Int }\ntype Query { a: Int }".to_vec(), "acme.query.a"),
        (br#"{"__schema": {"queryType": {"name": "Q"}, "types": [{"kind": "OBJECT"}]}}"#.to_vec(), "/__schema/types/0"),
        (br#"{"tools": [{"inputSchema": {}}]}"#.to_vec(), "/tools/0"),
        (br#"{"tools": [{"name": "a", "inputSchema": {}}, {"name": "a", "inputSchema": {}}]}"#.to_vec(), "stands twice"),
        (br#"{"tools": []}"#.to_vec(), "no tools"),
        (br#"{"skills": [], "url": "ftp://x"}"#.to_vec(), "/url"),
        (br#"{"skills": [], "supportedInterfaces": []}"#.to_vec(), "no interface"),
        (b"\x0a\xff\xff\xff\xff\x0f".to_vec(), "longer than what holds it"),
        (b"\x0a\x02\x0a\x7f".to_vec(), "longer than what holds it"),
        (b"\x0b\x00\x80".to_vec(), "wire type 3"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "longer than 10 bytes"),
        (field(1, &field(6, &field(1, b"A/../B"))), "no protobuf name"),
        (field(1, &field(1, b"\xff\xfe")), "not UTF-8"),
    ] {
        let problem = imported(&bytes, "api.acme.example").map(|i| i.text).unwrap_err().to_string();
        assert!(problem.contains(about), "{problem:?} does not speak of {about:?}");
    }
    let none = import(Source { name: "d", bytes: SDL.as_bytes(), provider: None, format: None, host: None, overlay: None, beside: None });
    assert!(none.unwrap_err().to_string().contains("--host"));
}

/// A generator of the same numbers at every run (xorshift).
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    /// Some bytes, broken in one to three places.
    fn breaks(&mut self, seed: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.next(3) {
            let at = self.next(bytes.len());
            let to = at + self.next(24).min(bytes.len() - at);
            match self.next(5) {
                0 => drop(bytes.drain(at..to)),
                1 => drop(bytes.splice(at..at, pieces[self.next(pieces.len())].iter().copied())),
                2 => bytes.extend_from_within(at..to),
                3 if !bytes.is_empty() => {
                    let last = bytes.len() - 1;
                    bytes[at.min(last)] = self.next(256) as u8;
                }
                _ => {
                    let copy = bytes[at..to].to_vec();
                    let back = self.next(bytes.len());
                    bytes.splice(back..back, copy.into_iter().cycle().take(200.min(20 * (to - at))));
                }
            }
        }
        bytes
    }
}

const PIECES: [&[u8]; 16] = [
    b"{",
    b"}",
    b"[",
    b"\"",
    b"...",
    b"\"\"\"",
    b"\\u",
    b",",
    b":",
    b"type Query {",
    b"\xff",
    b"\x00",
    b"\x0a\x80",
    b"null",
    b"fragment F on Q {",
    b"{\"a\":",
];

/// What one case may take, in a build that is not optimised.
const BOUND: Duration = Duration::from_secs(2);

#[test]
fn no_description_breaks_an_import() {
    let seeds = [
        SDL.as_bytes().to_vec(),
        introspection().to_string().into_bytes(),
        tools().to_string().into_bytes(),
        card().to_string().into_bytes(),
        descriptors(),
    ];
    let mut dice = Dice(0x5eed);
    let mut taken = 0;
    for round in 0..1500 {
        let bytes = dice.breaks(&seeds[round % seeds.len()], &PIECES);
        let began = Instant::now();
        taken += usize::from(imported(&bytes, "api.acme.example").is_ok());
        assert!(began.elapsed() < BOUND, "{:?} for {:?}", began.elapsed(), String::from_utf8_lossy(&bytes));
    }
    assert!(taken > 50, "only {taken} of the broken descriptions were still descriptions");
}

#[test]
fn no_body_breaks_a_reader() {
    let text = r#"
provider: acme
hosts: [api.acme.example]
readers: [{graphql: /graphql}, {mcp: /mcp}, {a2a: /a2a}]
operations:
  - {id: acme.query.a, match: "graphql query a", effect: read, body: {b.c: /b/c, d: /d/0}}
  - {id: acme.tool.a, match: "mcp tools/call a", effect: write, body: {b.c: /b/c}}
  - {id: acme.a2a.send, match: "a2a SendMessage", effect: write, body: {b: /b}}
"#;
    let catalog = Catalog::parse("acme.yaml", text).unwrap();
    let query = r#"query Q($v: X = {c: [1]}) { a(b: $v, d: ["\u0041", """b"""]) @skip(if: true) { ...F } ...F } fragment F on Q { a(b: {c: ENUM}) }"#;
    let seeds = [
        ("graphql", json!({"query": query, "variables": {"v": {"c": {"d": 1.5}}}, "operationName": "Q"})),
        (
            "mcp",
            json!([{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {"b": {"c": 1}}, "_meta": {}}}]),
        ),
        ("a2a", json!({"jsonrpc": "2.0", "id": "x", "method": "SendMessage", "params": {"b": [{"c": null}]}})),
    ];
    let mut dice = Dice(0xb0d7);
    let mut taken = 0;
    for round in 0..6000 {
        let (path, seed) = &seeds[round % seeds.len()];
        let body = Bytes::from(dice.breaks(seed.to_string().as_bytes(), &PIECES));
        let head = request::head("POST", &format!("https://api.acme.example/{path}"), [("content-type", "application/json")]).unwrap();
        let began = Instant::now();
        taken += usize::from(catalog.find(&head).and_then(|f| f.read(&head, Some(&body))).is_ok());
        assert!(began.elapsed() < BOUND, "{:?} for {:?}", began.elapsed(), String::from_utf8_lossy(&body));
    }
    assert!(taken > 100, "only {taken} of the broken bodies were still requests");
}

#[test]
fn the_worst_documents_within_the_bounds_take_little_time() {
    let catalog = Catalog::parse("a.yaml", "provider: a\nhosts: [a.example]\nreaders: [{graphql: /g}]\noperations: []\n").unwrap();
    let head = request::head("POST", "https://a.example/g", [("content-type", "application/graphql")]).unwrap();
    for text in [
        (0..255).map(|i| format!("fragment F{i} on Q {{ {} }} ", "...F1 ".repeat(10))).collect::<String>() + "{ ...F0 }",
        format!("{{ a({}) {{ b }} }}", (0..256).map(|i| format!("a{i}: {{{}}} ", "b: 1")).collect::<String>()),
        format!("{{ {} }}", "... { ".repeat(99) + "a" + &"} ".repeat(99)),
        "# ".to_owned() + &"x".repeat(1 << 20),
        format!("{{ a(b: \"{}\") }}", "\\u0041".repeat(100_000)),
        format!("{{ a(b: \"\"\"{}\"\"\") }}", " \n".repeat(400_000)),
        "{ a }".to_owned() + &" ".repeat(1 << 20),
        format!("{{ {} }}", "...F ".repeat(9_000)),
    ] {
        let began = Instant::now();
        let _ = catalog.find(&head).unwrap().read(&head, Some(&Bytes::from(text.clone())));
        assert!(began.elapsed() < BOUND, "{:?} for {:.60}", began.elapsed(), text);
    }
}
