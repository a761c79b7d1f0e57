//! `remit intents coverage`: what the requests of a description's operations are taken for.

use std::{collections::BTreeMap, io, path::Path};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    call::Host,
    cli::request,
    config::CatalogSource,
    intent::{
        Catalog, Facts,
        import::{self, Beside, Source, Tree},
    },
    problem::{Problem, Problems},
};

use super::{CoverageArgs, End, Output, Terminal, print};

/// What became of an operation's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Wrong,
    Unmatched,
    Ambiguous,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Wrong, Self::Unmatched, Self::Ambiguous];

    fn as_str(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Unmatched => "unmatched",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// An operation that is not right.
#[derive(Debug)]
struct Miss {
    id: String,
    request: String,
    why: String,
}

#[derive(Debug, Default)]
struct Report {
    operations: usize,
    requests: usize,
    right: usize,
    misses: BTreeMap<Kind, Vec<Miss>>,
}

pub(super) fn run(args: &CoverageArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    let report = match cover(args) {
        Ok(report) => report,
        Err(problems) => {
            for problem in &problems.0 {
                writeln!(to.err, "{}", print::safe(&problem.to_string()))?;
            }
            return Ok(End::Failed);
        }
    };
    match args.output {
        Output::Json => writeln!(to.out, "{}", report.json(args.examples))?,
        Output::Text => report.text(args.examples, to)?,
    }
    Ok(if report.right == report.operations { End::Ok } else { End::No })
}

fn cover(args: &CoverageArgs) -> Result<Report, Problems> {
    let (texts, indistinct) = describe(args)?;
    let others: Vec<CatalogSource> =
        args.shipped.then_some(CatalogSource::Builtin).into_iter().chain(args.catalog.iter().cloned().map(CatalogSource::File)).collect();
    let other = if others.is_empty() { None } else { Some(Catalog::load(&others)?) };
    let mut report = Report::default();
    for (name, text) in &texts {
        let own = Catalog::parse(name, text)?;
        for facts in own.operations() {
            report.operation(&own, other.as_ref().unwrap_or(&own), facts);
        }
    }
    for (id, why) in indistinct {
        report.operations += 1;
        report.miss(Kind::Ambiguous, Miss { id, request: String::new(), why });
    }
    Ok(report)
}

/// Catalogs by name, and what the description gives the same requests.
type Described = (Vec<(String, String)>, Vec<(String, String)>);

/// The catalogs that a description becomes.
fn describe(args: &CoverageArgs) -> Result<Described, Problem> {
    if args.source.is_dir() {
        let tree = Tree::import(&args.source, args.provider.as_deref())?;
        let twins = tree.twins.into_iter().map(|(id, other)| (id, format!("its requests are those of `{other}`")));
        return Ok((tree.groups.into_iter().map(|g| (g.name, g.text)).collect(), twins.collect()));
    }
    let bytes = super::import::read(&args.source)?;
    let name = args.source.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let imported = import::import(Source {
        name: &name,
        bytes: &bytes,
        provider: args.provider.as_deref(),
        format: args.format.map(Into::into),
        host: args.host.as_deref(),
        overlay: None,
        beside: Some(&Beside::of(Path::new(&args.source))?),
    })?;
    Ok((vec![(name, imported.text)], imported.indistinct))
}

impl Report {
    /// Sends an operation's requests through a catalog: one for each of its matches.
    fn operation(&mut self, own: &Catalog, catalog: &Catalog, facts: Facts<'_>) {
        self.operations += 1;
        let id = &*facts.operation().id;
        let mut first: Option<(Kind, Miss)> = None;
        for text in facts.matches() {
            self.requests += 1;
            let request = Request::new(own, facts, text);
            let found = request.as_ref().map_or_else(|why| Err((Kind::Unmatched, why.clone())), |r| r.ask(catalog, id));
            if let Err((kind, why)) = found
                && first.is_none()
            {
                let request = request.map_or_else(|_| text.to_owned(), |r| format!("{} {}", r.method, r.url));
                first = Some((kind, Miss { id: id.to_owned(), request, why }));
            }
        }
        match first {
            None => self.right += 1,
            Some((kind, miss)) => self.miss(kind, miss),
        }
    }

    fn miss(&mut self, kind: Kind, miss: Miss) {
        self.misses.entry(kind).or_default().push(miss);
    }

    fn count(&self, kind: Kind) -> usize {
        self.misses.get(&kind).map_or(0, Vec::len)
    }

    fn json(&self, examples: usize) -> Value {
        let mut report = json!({"operations": self.operations, "requests": self.requests, "right": self.right});
        for kind in Kind::ALL {
            let all = self.misses.get(&kind).map_or(&[][..], |m| m);
            let shown: Vec<Value> = all.iter().take(examples).map(|m| json!({"id": m.id, "request": m.request, "why": m.why})).collect();
            report[kind.as_str()] = json!({"count": all.len(), "examples": shown});
        }
        report
    }

    fn text(&self, examples: usize, to: &mut Terminal<'_>) -> io::Result<()> {
        let share = |n: usize| 100.0 * n as f64 / self.operations.max(1) as f64;
        writeln!(to.out, "{} operations, {} requests", self.operations, self.requests)?;
        writeln!(to.out, "  {:<10} {:>7}  {:>6.2} %", "right", self.right, share(self.right))?;
        for kind in Kind::ALL {
            writeln!(to.out, "  {:<10} {:>7}  {:>6.2} %", kind.as_str(), self.count(kind), share(self.count(kind)))?;
        }
        for kind in Kind::ALL {
            for miss in self.misses.get(&kind).into_iter().flatten().take(examples) {
                writeln!(to.out, "\n{}: {}\n  {}", kind.as_str(), print::cell(&miss.id), print::safe(&miss.why))?;
                if !miss.request.is_empty() {
                    writeln!(to.out, "  {}", print::safe(&miss.request))?;
                }
            }
        }
        Ok(())
    }
}

/// A request made of one match.
#[derive(Debug, Default)]
struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

impl Request {
    fn new(own: &Catalog, facts: Facts<'_>, text: &str) -> Result<Self, String> {
        let (word, rest) = text.split_once(' ').ok_or("the match has no path")?;
        let host = facts.hosts().next().map(|h| fill(h, true)).unwrap_or_default();
        if word.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Self::for_reader(own, &host, word, rest);
        }
        let (target, fields) = rest.split_once(" with ").unwrap_or((rest, ""));
        let (place, query) = target.split_once('?').unwrap_or((target, ""));
        let (own_host, path) = place.split_at(place.find('/').unwrap_or(0));
        let host = if own_host.is_empty() { host } else { fill(own_host, true) };
        let mut pairs: Vec<String> =
            query.split('&').filter(|q| !q.is_empty()).map(|q| if q.contains('=') { q.to_owned() } else { format!("{q}=v") }).collect();
        let fixed: Vec<&str> = query.split('&').map(|q| q.split('=').next().unwrap_or(q)).collect();
        for name in facts.query().filter(|name| !fixed.contains(name)) {
            pairs.push(format!("{}=v", encode(name)));
        }
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        let headers = fields.split(',').filter(|f| !f.is_empty()).map(|f| (f.to_owned(), "v".to_owned())).collect();
        Ok(Self { method: word.to_owned(), url: format!("https://{host}{}{query}", fill(path, false)), headers, body: None })
    }

    /// A request to a reader's path, whose body names the operation.
    fn for_reader(own: &Catalog, host: &str, word: &str, key: &str) -> Result<Self, String> {
        let at = Host::parse(host).map_err(|e| e.to_string())?;
        let path = own.reader_path(&at, word).ok_or_else(|| format!("no reader `{word}` is mounted on {host}"))?;
        let mut request = Self { method: "POST".into(), url: format!("https://{host}{}", fill(path, false)), ..Self::default() };
        let (kind, name) = key.split_once(' ').unwrap_or((key, ""));
        let rpc = |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (media, body) = match word {
            "graphql" => ("application/json", json!({"query": format!("{kind} {{ {name} }}")}).to_string()),
            "mcp" if key == "response" => ("application/json", json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string()),
            "mcp" => ("application/json", rpc(kind, json!({"name": if name.is_empty() { "v" } else { name }}))),
            "a2a" => ("application/json", rpc(kind, json!({}))),
            "aws" => match key.split_once('.').filter(|(v, _)| v.starts_with(|c: char| c.is_ascii_digit())) {
                Some((version, action)) => ("application/x-www-form-urlencoded", format!("Action={action}&Version={version}")),
                None => {
                    request.headers.push(("X-Amz-Target".into(), key.to_owned()));
                    ("application/x-amz-json-1.1", "{}".to_owned())
                }
            },
            _ => return Err(format!("no request is made for the reader `{word}`")),
        };
        request.headers.push(("Content-Type".into(), media.into()));
        request.body = Some(body);
        Ok(request)
    }

    /// What a catalog takes it for; an error when that is not the operation alone.
    fn ask(&self, catalog: &Catalog, id: &str) -> Result<(), (Kind, String)> {
        let headers = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let head = request::head(&self.method, &self.url, headers).map_err(|e| (Kind::Ambiguous, e.to_string()))?;
        let body = self.body.as_ref().map(|b| Bytes::copy_from_slice(b.as_bytes()));
        let read = catalog.find(&head).and_then(|found| found.read(&head, body.as_ref()));
        let reading = read.map_err(|refusal| (Kind::Ambiguous, format!("refused: {}", refusal.detail)))?;
        let want = catalog.current_id(id);
        match reading.intents.as_slice() {
            [one] if one.id() == want => Ok(()),
            all if all.iter().any(|i| i.is_unknown_host() || i.is_unknown_operation()) => {
                Err((Kind::Unmatched, "no operation is listed for it".into()))
            }
            all => Err((Kind::Wrong, format!("taken for {}", all.iter().map(|i| i.id()).collect::<Vec<_>>().join(", ")))),
        }
    }
}

/// Puts values where parameters stand.
fn fill(text: &str, host: bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, after) = tail.split_once('}').unwrap_or((tail, ""));
        out.push_str(before);
        let plain: String = name.trim_start_matches('+').chars().filter(char::is_ascii_alphanumeric).collect();
        out.push_str(&match name {
            "region" if host => "us-east-1".to_owned(),
            "location" if host => "europe-west3".to_owned(),
            _ if name.starts_with('+') => format!("v-{plain}/x"),
            _ => format!("v-{}", plain.to_ascii_lowercase()),
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn encode(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
