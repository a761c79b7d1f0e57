//! `remit intents match`: one request, or a file of them.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    cli::request::{self, RequestError},
    intent::{Catalog, Need, Reading},
    refusal::Refusal,
};

use super::{End, MatchArgs, Output, Terminal, print};

/// The longest line of a batch, in bytes.
const MAX_LINE: u64 = 64 << 20;

/// One request of a batch; keys of the user's own may stand beside these.
#[derive(Deserialize)]
struct Line<'l> {
    #[serde(borrow)]
    method: Cow<'l, str>,
    #[serde(borrow)]
    url: Cow<'l, str>,
    #[serde(default)]
    headers: Option<Fields>,
    /// A text is the body itself; any other JSON is the body as it is written, byte for byte.
    #[serde(borrow, default)]
    body: Option<&'l RawValue>,
}

/// `{"Name": "value"}`, with a list for a field sent more than once, or `[["Name", "value"]]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Fields {
    Object(BTreeMap<String, Values>),
    Pairs(Vec<(String, String)>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

pub(super) fn run(args: &MatchArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    let Some(catalog) = args.sources.load(to)? else { return Ok(End::Failed) };
    match &args.input {
        Some(path) if path == Path::new("-") => batch(&catalog, io::stdin().lock(), args.output, to),
        Some(path) => match File::open(path) {
            Ok(file) => batch(&catalog, BufReader::new(file), args.output, to),
            Err(e) => {
                writeln!(to.err, "{}: cannot be read: {e}", print::safe(&path.display().to_string()))?;
                Ok(End::Failed)
            }
        },
        None => single(&catalog, args, to),
    }
}

fn single(catalog: &Catalog, args: &MatchArgs, to: &mut Terminal<'_>) -> io::Result<End> {
    let headers = match args.headers.iter().map(|h| request::header(h)).collect::<Result<Vec<_>, _>>() {
        Ok(headers) => headers,
        Err(e) => return usage(&e, to),
    };
    let (method, url) = (args.method.as_deref().unwrap_or("GET"), args.url.as_deref().unwrap_or(""));
    let body = args.data.as_ref().map(|d| Bytes::copy_from_slice(d.as_bytes()));
    let answer = read(catalog, method, url, headers, body);
    match &answer {
        Err(e @ RequestError::Usage(_)) => return usage(e, to),
        _ if args.output == Output::Json => writeln!(to.out, "{}", line(&answer))?,
        Ok(reading) => text(reading, to)?,
        Err(RequestError::Refused(refusal)) => writeln!(to.out, "refused: {}: {}", refusal.reason, print::safe(&refusal.detail))?,
    }
    let listed = answer.is_ok_and(|r| r.intents.iter().all(|i| !i.is_unknown_host() && !i.is_unknown_operation()));
    Ok(if listed { End::Ok } else { End::No })
}

fn usage(e: &RequestError, to: &mut Terminal<'_>) -> io::Result<End> {
    writeln!(to.err, "{}", print::safe(&e.to_string()))?;
    Ok(End::Usage)
}

/// Every line gives one line, in order; a broken one says which it was.
fn batch(catalog: &Catalog, mut input: impl BufRead, output: Output, to: &mut Terminal<'_>) -> io::Result<End> {
    let mut end = End::Ok;
    let mut bytes = Vec::new();
    for number in 1_usize.. {
        bytes.clear();
        if io::Read::take(&mut input, MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let long = bytes.len() as u64 >= MAX_LINE && !bytes.ends_with(b"\n");
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let broken = |message: String| json!({"error": {"line": number, "message": message}});
        let answer = if long {
            end = End::Failed;
            writeln!(to.out, "{}", broken(format!("the line is longer than {} MiB", MAX_LINE >> 20)))?;
            break;
        } else {
            parse(&bytes).and_then(|line| answer(catalog, &line))
        };
        match answer {
            Err(message) => writeln!(to.out, "{}", broken(message))?,
            Ok(answer) if output == Output::Json => writeln!(to.out, "{}", line(&answer))?,
            Ok(Ok(reading)) => text(&reading, to)?,
            Ok(Err(e)) => writeln!(to.out, "refused: {}", print::safe(&e.to_string()))?,
        }
    }
    Ok(end)
}

fn parse(bytes: &[u8]) -> Result<Line<'_>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("the line is not UTF-8 (byte {})", e.valid_up_to()))?;
    serde_json::from_str(text).map_err(|e| format!("the line is not {{\"method\", \"url\", \"headers\", \"body\"}}: {e}"))
}

type Answer = Result<Reading, RequestError>;

fn answer(catalog: &Catalog, line: &Line<'_>) -> Result<Answer, String> {
    let mut headers: Vec<(&str, &str)> = Vec::new();
    match &line.headers {
        Some(Fields::Object(map)) => {
            for (name, values) in map {
                match values {
                    Values::One(value) => headers.push((name, value)),
                    Values::Many(all) => headers.extend(all.iter().map(|v| (name.as_str(), v.as_str()))),
                }
            }
        }
        Some(Fields::Pairs(pairs)) => headers.extend(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))),
        None => {}
    }
    let body = line.body.map(RawValue::get).filter(|raw| *raw != "null");
    let body = match body {
        Some(raw) if raw.starts_with('"') => {
            let text: String = serde_json::from_str(raw).map_err(|e| format!("`body` is not text: {e}"))?;
            Some(Bytes::from(text))
        }
        Some(raw) => Some(Bytes::copy_from_slice(raw.as_bytes())),
        None => None,
    };
    match read(catalog, &line.method, &line.url, headers, body) {
        Err(RequestError::Usage(message)) => Err(message),
        answer => Ok(answer),
    }
}

/// What a request means, as the proxy would read it.
fn read<'h>(
    catalog: &Catalog,
    method: &str,
    url: &str,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    body: Option<Bytes>,
) -> Answer {
    let head = request::head(method, url, headers)?;
    let refused = |refusal: Refusal| RequestError::Refused(refusal);
    let found = catalog.find(&head).map_err(refused)?;
    let body = body.filter(|_| found.need() != Need::Nothing);
    found.read(&head, body.as_ref()).map_err(refused)
}

fn line(answer: &Answer) -> Value {
    match answer {
        Ok(reading) => {
            let intents: Vec<Value> =
                reading.intents.iter().map(|i| json!({"id": i.id(), "effect": i.operation.effect, "params": i.params})).collect();
            json!({"intents": intents, "provider": reading.provider.as_ref().map(|p| &*p.id)})
        }
        Err(RequestError::Refused(refusal)) => json!({"refused": {"reason": refusal.reason, "detail": refusal.detail}}),
        Err(RequestError::Usage(message)) => json!({"error": {"message": message}}),
    }
}

fn text(reading: &Reading, to: &mut Terminal<'_>) -> io::Result<()> {
    for intent in &reading.intents {
        writeln!(to.out, "{}  {}", print::cell(intent.id()), intent.operation.effect)?;
        for label in &*intent.operation.labels {
            writeln!(to.out, "  label {}", label.as_str())?;
        }
        for (name, value) in intent.params.iter() {
            let value = serde_json::to_string(value).unwrap_or_default();
            writeln!(to.out, "  {} = {}", print::cell(name), print::cell(&value))?;
        }
    }
    Ok(())
}
