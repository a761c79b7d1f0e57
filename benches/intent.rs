//! What a match costs: `cargo bench --bench intent`. Prints nanoseconds of CPU per call, the median
//! of several rounds, and what loading the built-in catalogs costs. CPU, since other work on the
//! machine would count otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use remit::{call::Head, cli::request, config::CatalogSource, intent::Catalog};

const ROUNDS: usize = 11;
const CALLS: usize = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let before = resident();
    let began = cpu();
    let catalog = Catalog::load(&[CatalogSource::Builtin])?;
    println!("load built-in catalogs: {:?}, {} KiB resident more", cpu() - began, resident().saturating_sub(before));
    let mut loads: Vec<Duration> = (0..ROUNDS).map(|_| time(|| drop(black_box(Catalog::load(&[CatalogSource::Builtin]))))).collect();
    loads.sort_unstable();
    println!("load again, median: {:?}; {} operations", loads[ROUNDS / 2], catalog.operations().count());

    let api = "https://api.github.com";
    for (what, method, path) in [
        ("two parameters", "GET", "/repos/acme/web/issues"),
        ("two parameters and a query", "GET", "/repos/acme/web/issues?state=open&per_page=100"),
        ("three parameters", "GET", "/repos/acme/web/issues/17/comments"),
        ("several segments", "GET", "/repos/acme/web/contents/src/call/head.rs"),
        ("several segments, then more", "GET", "/repos/acme/web/branches/feature/x/protection"),
        ("no such operation", "GET", "/repos/acme/web/nothing/here"),
    ] {
        let head = request::head(method, &format!("{api}{path}"), [("user-agent", "bench"), ("accept", "*/*")])?;
        let find = median(|| drop(black_box(catalog.find(black_box(&head)))));
        let both = median(|| drop(black_box(catalog.find(black_box(&head)).and_then(|f| f.read(&head, None)))));
        println!("{what:<30} find {find:>5} ns, find and read {both:>5} ns");
    }

    for count in [10, 1_000, 20_000] {
        let catalog = Catalog::parse("many.yaml", &many(count)).map_err(|e| e.to_string())?;
        let last = count - 1;
        let head = request::head("GET", &format!("https://many.example/v1/group{}/thing{last}/17/parts", last % 37), [("accept", "*/*")])?;
        let found = read_only(&catalog, &head)?;
        assert!(found.ends_with(&format!("thing{last}")), "{found}");
        let find = median(|| drop(black_box(catalog.find(black_box(&head)))));
        println!("{:<30} find {find:>5} ns", format!("{count} operations"));
    }

    let issue = request::head("POST", &format!("{api}/repos/acme/web/issues"), [("content-type", "application/json")])?;
    let body = Bytes::from(r#"{"title":"Broken","body":"It does not start","labels":["bug"],"assignees":["octocat"]}"#);
    println!("{:<30} find and read {:>5} ns", "body of 86 bytes", median(|| drop(black_box(read(&catalog, &issue, &body)))));
    let chat = request::head("POST", "https://api.openai.com/v1/chat/completions", [("content-type", "application/json")])?;
    for (size, calls) in [(4 << 10, 20_000_u32), (20 << 20, 20)] {
        let body = prompt(size);
        let spent = time(|| (0..calls).for_each(|_| drop(black_box(read(&catalog, &chat, &body)))));
        println!("{:<30} find and read {:?}", format!("chat body of {size} bytes"), spent / calls);
    }
    for (what, url, body) in [("GraphQL", "https://api.github.com/graphql", graphql()), ("MCP", "https://mcp.example/mcp", mcp())] {
        let catalog = if what == "MCP" { &Catalog::parse("mcp.yaml", TOOLS).map_err(|e| e.to_string())? } else { &catalog };
        let head = request::head("POST", url, [("content-type", "application/json")])?;
        read(catalog, &head, &body)?;
        let mut rounds: Vec<u128> =
            (0..ROUNDS).map(|_| time(|| (0..2000).for_each(|_| drop(black_box(read(catalog, &head, &body))))).as_nanos() / 2000).collect();
        rounds.sort_unstable();
        println!("{:<30} find and read {:>5} ns", format!("{what} body of {} bytes", body.len()), rounds[ROUNDS / 2]);
    }
    Ok(())
}

/// A catalog of so many operations, each with a parameter.
fn many(count: usize) -> String {
    let lines = (0..count).map(|i| {
        format!("  - {{id: many.g{}.thing{i}, match: \"GET /v1/group{}/thing{i}/{{id}}/parts\", effect: read}}\n", i % 37, i % 37)
    });
    format!("provider: many\nhosts: [many.example]\noperations:\n{}", lines.collect::<String>())
}

/// The id of what a request without a body asks for.
fn read_only(catalog: &Catalog, head: &Head) -> Result<String, String> {
    let reading = catalog.find(head).and_then(|f| f.read(head, None)).map_err(|refusal| refusal.detail.into_owned())?;
    reading.intents.first().map(|i| i.operation.id.to_string()).ok_or_else(|| "nothing".into())
}

const TOOLS: &str = r#"
provider: mcp
hosts: [mcp.example]
readers: [{mcp: /mcp}]
operations:
  - {id: mcp.tool.write, match: "mcp tools/call write", effect: write, body: {path: /path}}
"#;

/// About 4 KiB of a mutation with variables, as clients write them.
fn graphql() -> Bytes {
    let fields = "          nodes { id number title author { login } labels(first: 10) { nodes { id name color } } }\\n".repeat(30);
    let query = format!(
        "mutation Create($input: CreateIssueInput!) {{\\n  createIssue(input: $input) {{\\n    issue {{\\n      id\\n{fields}    }}\\n  }}\\n}}\\n"
    );
    let text = "a line of an issue that says something, then goes on\\n".repeat(15);
    Bytes::from(format!(
        r#"{{"query":"{query}","variables":{{"input":{{"repositoryId":"R_1","title":"Broken","body":"{text}","labelIds":["a","b"]}}}},"operationName":"Create"}}"#
    ))
}

/// About 4 KiB of a tool's arguments.
fn mcp() -> Bytes {
    let edits = vec![r#"{"line":12,"old":"let x = 1;","new":"let x = 2; // because","keep":true}"#; 50].join(",");
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"write","arguments":{{"path":"src/main.rs","edits":[{edits}]}}}}}}"#
    ))
}

fn read(catalog: &Catalog, head: &Head, body: &Bytes) -> Result<(), String> {
    catalog.find(head).and_then(|f| f.read(head, Some(body))).map(drop).map_err(|refusal| refusal.detail.into_owned())
}

/// A chat request of about this many bytes, with messages of half a KiB.
fn prompt(size: usize) -> Bytes {
    let text = "a line of a prompt that says something, then goes on\\n".repeat(8);
    let message = format!(r#"{{"role":"user","content":"{text}"}}"#);
    let messages = vec![message.as_str(); (size / message.len()).max(1)].join(",");
    Bytes::from(format!(r#"{{"model":"gpt-5","max_completion_tokens":100,"stream":true,"messages":[{messages}]}}"#))
}

fn median(mut call: impl FnMut()) -> u128 {
    let mut rounds: Vec<u128> = (0..ROUNDS).map(|_| time(|| (0..CALLS).for_each(|_| call())).as_nanos() / CALLS as u128).collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

fn time(work: impl FnOnce()) -> Duration {
    let began = cpu();
    work();
    cpu() - began
}

/// What this thread has spent on a CPU, to within a scheduler's tick; the time since the start
/// where that cannot be told.
fn cpu() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = stat.split_whitespace().next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    spent.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Resident memory of this process, in KiB; 0 where it cannot be told.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}
