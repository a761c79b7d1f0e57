//! A mutational driver for every parser of bytes that an agent or a description's author chose: seeds are
//! cut, joined and flipped, and whatever comes out must end in an answer, soon. `REMIT_FUZZ_SECONDS` says how
//! long each target runs; `./tests/run --long` gives each a minute.

#![allow(clippy::unwrap_used)] // a test may

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use remit::{
    authority::{
        Registry,
        token::{Delegations, TYPE, Used},
    },
    call::Host,
    cli::request,
    clock::Moment,
    config::{CatalogSource, Config},
    credential::{Scanner, Scrubber},
    intent::{
        Catalog,
        import::{self, Source},
    },
    jose::SigningKey,
};
use serde_json::{Value, json};

/// xorshift64*: the same run for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % most.max(1)
    }
}

/// Pieces that mean something to some parser.
const WORDS: [&[u8]; 24] = [
    b"%2F",
    b"%2e",
    b"..",
    b";",
    b"\\",
    b"//",
    b"\0",
    b"\xff\xfe",
    b"[]",
    b"[a]",
    b"{",
    b"}",
    b"\"",
    b"\\ud800",
    b"0000",
    b"0001",
    b"ffff",
    b"&",
    b"=",
    b"_method",
    b"$ref",
    b"#/",
    b"*a",
    b"9007199254740993",
];

fn mutate(random: &mut Random, seeds: &[&[u8]]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << random.below(8);
            }
            1 => bytes.truncate(at),
            2 => {
                let other = seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let part = other[from..].to_vec();
                bytes.splice(at..at, part);
            }
            3 if !bytes.is_empty() => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.below(64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied());
            }
        }
    }
    bytes
}

/// Runs a target on mutations of its seeds; no input may take long.
fn fuzz(seeds: &[&[u8]], mut target: impl FnMut(&[u8])) {
    let seconds = std::env::var("REMIT_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let start = Instant::now();
    let mut count = 0_u64;
    while start.elapsed() < Duration::from_secs(seconds) {
        let input = mutate(&mut random, seeds);
        let began = Instant::now();
        target(&input);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?} took {:?}", String::from_utf8_lossy(&input), began.elapsed());
        count += 1;
    }
    assert!(count > 10, "only {count} inputs were tried");
}

fn builtin() -> Catalog {
    Catalog::load(&[CatalogSource::Builtin]).unwrap()
}

/// Fuzzes the body of a request.
fn body(method: &str, url: &str, media: &str, seeds: &[&[u8]]) {
    let catalog = builtin();
    let head = request::head(method, url, [("content-type", media)]).unwrap();
    fuzz(seeds, |input| {
        if let Ok(found) = catalog.find(&head) {
            let _ = found.read(&head, Some(&Bytes::copy_from_slice(input)));
        }
    });
}

#[test]
fn paths_and_queries() {
    let catalog = builtin();
    let seeds: [&[u8]; 5] = [
        b"/repos/acme/web/contents/a/b%2Fc?ref=main&per_page=5",
        b"/repos/acme/web/compare/a...b",
        b"/orgs/acme/packages/container/a%2Fb/versions",
        b"/search/issues?q=a+b&sort=x;order=y",
        b"/gists/1/%2e%2e/x",
    ];
    fuzz(&seeds, |input| {
        let url = format!("https://api.github.com{}", String::from_utf8_lossy(input));
        if let Ok(head) = request::head("GET", &url, std::iter::empty::<(&str, &str)>())
            && let Ok(found) = catalog.find(&head)
        {
            let _ = found.read(&head, None);
        }
    });
}

#[test]
fn hosts() {
    let seeds: [&[u8]; 5] = [b"api.github.com", b"xn--bcher-kva.example.", b"[::ffff:127.0.0.1]:443", b"0x7f.1", b"a..b"];
    fuzz(&seeds, |input| {
        if let Ok(text) = std::str::from_utf8(input) {
            let _ = Host::parse(text);
        }
    });
}

#[test]
fn json_bodies() {
    let seeds: [&[u8]; 3] =
        [br#"{"title": "a", "labels": ["b", {"name": "c"}], "milestone": 5}"#, br#"{"Title": 1, "title": 2}"#, br#"{"a": [[[[1e400]]]]}"#];
    body("POST", "https://api.github.com/repos/acme/web/issues", "application/json", &seeds);
}

#[test]
fn forms() {
    let seeds: [&[u8]; 3] =
        [b"amount=5&currency=eur&metadata[a]=b&expand[]=c", b"items[0][price]=x&items[1][price]=y", b"amount=1&amount=2;currency=x"];
    body("POST", "https://api.stripe.com/v1/payment_intents", "application/x-www-form-urlencoded", &seeds);
}

#[test]
fn calls_to_models() {
    let seeds: [&[u8]; 2] = [
        br#"{"model": "m", "max_output_tokens": 5, "input": [{"content": [{"type": "input_image", "image_url": "https://x"}]}], "tools": [{"type": "mcp", "server_url": "https://y"}, {"type": "function", "name": "f"}]}"#,
        br#"{"model": "m", "previous_response_id": "r", "prompt": {"id": "p"}, "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}"#,
    ];
    body("POST", "https://api.openai.com/v1/responses", "application/json", &seeds);
}

#[test]
fn git_packet_lines() {
    let (old, new) = ("1".repeat(40), "2".repeat(40));
    let command = format!("{old} {new} refs/heads/x\0 atomic push-options");
    let push = format!("{:04x}{command}0000000bci.skip0000PACK", command.len() + 4);
    let shallow = format!("0035shallow {old}\n0000");
    body(
        "POST",
        "https://github.com/acme/web.git/git-receive-pack",
        "application/x-git-receive-pack-request",
        &[push.as_bytes(), shallow.as_bytes(), b"0000"],
    );
}

#[test]
fn graphql_documents() {
    let seeds: [&[u8]; 2] = [
        br#"{"query": "query A($o: String!) { repository(owner: $o, name: \"x\") { ...F } } fragment F on Repository { id }", "variables": {"o": "acme"}, "operationName": "A"}"#,
        br#"[{"query": "mutation { createIssue(input: {title: \"a\"}) { issue { id } } }"}]"#,
    ];
    body("POST", "https://api.github.com/graphql", "application/json", &seeds);
}

#[test]
fn calls_of_tools_and_agents() {
    let text = "provider: x\nhosts: [x.example]\nreaders: [{mcp: /mcp}, {a2a: /a2a}]\noperations:\n  \
                - {id: x.tool.t, match: \"mcp tools/call t\", effect: write, body: {a: /a, b: /b/0}}\n  \
                - {id: x.a2a.send, match: \"a2a SendMessage\", effect: write, body: {role: /message/role}}\n";
    let catalog = Catalog::parse("x.yaml", text).unwrap();
    let seeds: [&[u8]; 4] = [
        br#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {"a": "b", "b": [1]}, "_meta": {"progressToken": 1}}}"#,
        br#"[{"jsonrpc": "2.0", "method": "notifications/cancelled"}, {"jsonrpc": "2.0", "id": "2", "method": "resources/read", "params": {"uri": "file:///x"}}]"#,
        br#"{"jsonrpc": "2.0", "id": 3, "method": "SendMessage", "params": {"message": {"role": "user", "parts": [{"text": "x"}]}}}"#,
        br#"{"jsonrpc": "2.0", "id": 4, "result": {}}"#,
    ];
    for path in ["mcp", "a2a"] {
        let head = request::head("POST", &format!("https://x.example/{path}"), [("content-type", "application/json")]).unwrap();
        fuzz(&seeds, |input| {
            if let Ok(found) = catalog.find(&head) {
                let _ = found.read(&head, Some(&Bytes::copy_from_slice(input)));
            }
        });
    }
}

#[test]
fn calls_of_aws() {
    body(
        "POST",
        "https://sqs.eu-west-1.amazonaws.com/",
        "application/x-www-form-urlencoded",
        &[
            b"Action=SendMessage&Version=2012-11-05&QueueUrl=https%3A%2F%2Fsqs.eu-west-1.amazonaws.com%2F1%2Fq&MessageBody=a",
            b"Action=DeleteMessageBatch&DeleteMessageBatchRequestEntry.1.Id=a&Action=x",
        ],
    );
}

/// The injected value never comes through, in whichever pieces the answer comes.
#[test]
fn answers_that_are_scrubbed() {
    const VALUE: &str = "sk-live/Ab1+Cd2=Ef3";
    let scrubber = Arc::new(Scrubber::new([VALUE.as_bytes()]).unwrap());
    let encoded: String = VALUE.bytes().map(|b| format!("%{b:02X}")).collect();
    let seeds = [format!("{{\"token\": \"{VALUE}\"}}"), format!("a {encoded} b {VALUE}{VALUE}"), VALUE[..18].repeat(5)];
    let seeds: Vec<&[u8]> = seeds.iter().map(|s| s.as_bytes()).collect();
    let mut random = Random(7);
    fuzz(&seeds, |input| {
        let mut whole = input.to_vec();
        scrubber.mask(&mut whole);
        let (mut scanner, mut out, mut rest) = (Scanner::new(scrubber.clone()), Vec::new(), Bytes::copy_from_slice(input));
        while !rest.is_empty() {
            let piece = rest.split_to((random.below(9) + 1).min(rest.len()));
            out.extend_from_slice(&scanner.push(piece));
        }
        out.extend_from_slice(&scanner.finish());
        assert_eq!(out, whole, "in pieces as whole");
        assert!(!scrubber.finds(&out), "{:?}", String::from_utf8_lossy(input));
    });
}

#[test]
fn descriptions() {
    let seeds: [&[u8]; 7] = [
        br##"{"openapi": "3.0.0", "servers": [{"url": "https://{r}.x.example/{v}", "variables": {"r": {"default": "a"}, "v": {"enum": ["v1"]}}}], "paths": {"/a/{b}": {"parameters": [{"$ref": "#/components/parameters/B"}], "post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S"}}}}}}}, "components": {"parameters": {"B": {"name": "b", "in": "path"}}, "schemas": {"S": {"allOf": [{"$ref": "#/components/schemas/S"}], "properties": {"x": {}}}}}}"##,
        b"swagger: 2.0\nhost: x.example\nbasePath: /v1\npaths:\n  /a/{b}:\n    get: {parameters: [{name: b, in: path, type: string}, {name: c, in: query, type: array, collectionFormat: multi}]}\n",
        b"type Query { a(b: Int = 1): [String!]! } type Mutation { c(d: In!): Int } input In { e: ID }",
        br#"{"tools": [{"name": "t", "inputSchema": {"properties": {"a": {}}}, "annotations": {"readOnlyHint": true}}]}"#,
        br#"{"version": "2.0", "metadata": {"apiVersion": "2020-01-01", "endpointPrefix": "x", "protocol": "rest-json", "serviceId": "X", "signatureVersion": "v4"}, "operations": {"PutA": {"name": "PutA", "http": {"method": "PUT", "requestUri": "/a/{B}/c/{D+}?e=f"}, "input": {"shape": "In"}}}, "shapes": {"In": {"type": "structure", "required": ["B"], "members": {"B": {"shape": "S", "location": "uri", "locationName": "B"}, "D": {"shape": "S", "location": "uri", "locationName": "D"}, "G": {"shape": "In"}}}, "S": {"type": "string"}}}"#,
        br#"{"version": "2.0", "metadata": {"apiVersion": "2020-01-01", "endpointPrefix": "y", "protocol": "json", "jsonVersion": "1.1", "targetPrefix": "Y_2020", "serviceId": "Y"}, "operations": {"Do": {"name": "Do", "http": {"method": "POST", "requestUri": "/"}, "input": {"shape": "I"}}}, "shapes": {"I": {"type": "structure", "members": {"a": {"shape": "I"}}}}}"#,
        br#"{"kind": "discovery#restDescription", "name": "x", "version": "v1", "rootUrl": "https://x.example/", "servicePath": "x/v1/", "parameters": {"alt": {"location": "query", "type": "string"}}, "resources": {"a": {"methods": {"get": {"id": "x.a.get", "httpMethod": "GET", "path": "a/{+name}", "parameters": {"name": {"location": "path", "required": true, "pattern": "^b/[^/]+$"}}, "scopes": ["https://x.example/auth/a"]}}, "resources": {"c": {"methods": {"put": {"id": "x.a.c.put", "httpMethod": "PUT", "path": "c/{d}", "request": {"$ref": "R"}}}}}}}, "schemas": {"R": {"id": "R", "type": "object", "properties": {"e": {"$ref": "R"}}}}}"#,
    ];
    fuzz(&seeds, |input| {
        let _ = import::import(Source {
            name: "fuzzed",
            bytes: input,
            provider: Some("x"),
            format: None,
            host: Some("x.example"),
            beside: None,
            overlay: None,
        });
    });
}

/// Mutated as text a token is believed only where it is the one that was signed; with its claims mutated and signed
/// anew it is believed only within what those above it say.
#[test]
fn delegation_tokens() {
    let dir = std::env::temp_dir().join(format!("remit-fuzz-tokens-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = ring::signature::EcdsaKeyPair::generate_pkcs8(&ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap();
    std::fs::write(dir.join("set.jwks"), json!({"keys": [key.public_jwk()]}).to_string()).unwrap();
    let [a, b, c] = ["spiffe://acme.example/a", "spiffe://acme.example/b", "spiffe://acme.example/c"];
    let trust = format!("[{{spiffe: \"{a}\", jwks: set.jwks}}, {{spiffe: \"{b}\", jwks: set.jwks}}]");
    let config = Config::parse(&format!("version: 1\ndelegation: {{trust: {trust}}}\n"), &dir, &dir.join("f")).unwrap();
    let delegations = Delegations::load(&config).unwrap();
    let (registry, now) = (Registry::new(&config.registry, config.mode), Moment::now());
    let receive = |token: &[u8]| delegations.receive(token, c, &registry, &Used::default(), now);
    let sign = |claims: &Value| key.sign(TYPE, Some(&key.thumbprint()), &[], claims).ok();
    let iat = now.utc.unix_timestamp();
    let grants = json!([{"intents": ["example.items.*"], "effects": ["read"], "where": {"owner": ["acme"]}, "limit": {"calls": 5}}]);
    let claims = json!({"iss": a, "aud": b, "sub": "alice", "act": {"sub": a}, "iat": iat, "exp": iat + 60, "jti": "1", "grants": grants});
    let parent = sign(&claims).unwrap();
    let hash = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, parent.as_bytes()));
    let act = json!({"sub": b, "act": {"sub": a}});
    let claims =
        json!({"iss": b, "aud": c, "sub": "alice", "act": act, "iat": iat, "exp": iat + 60, "jti": "2", "parent": hash, "grants": grants});
    let token = format!("{}~{parent}", sign(&claims).unwrap());
    assert!(receive(token.as_bytes()).is_ok());
    fuzz(&[token.as_bytes(), parent.as_bytes()], |input| {
        if receive(input).is_ok() {
            assert_eq!(input, token.as_bytes());
        }
    });
    let believed = std::cell::Cell::new(0);
    fuzz(&[claims.to_string().as_bytes()], |input| {
        let Ok(mutated) = serde_json::from_slice::<Value>(input) else { return };
        let Some(own) = sign(&mutated) else { return };
        let Ok(read) = receive(format!("{own}~{parent}").as_bytes()) else { return };
        believed.set(believed.get() + 1);
        assert_eq!((&*read.principal.id, &*read.from, read.links.len()), ("alice", b, 3));
        let held = read.links[2].grants.as_ref().unwrap();
        for grant in held {
            assert!(grant["intents"].as_array().unwrap().iter().all(|i| i.as_str().unwrap().starts_with("example.items.")), "{grant}");
            assert_eq!((&grant["effects"], &grant["where"]), (&json!(["read"]), &json!({"owner": ["acme"]})), "{grant}");
            assert!(grant["limit"]["calls"].as_u64().is_some_and(|n| n <= 5), "{grant}");
        }
    });
    assert!(believed.get() > 0, "nothing was ever believed");
    let _ = std::fs::remove_dir_all(&dir);
}
