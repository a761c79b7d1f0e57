//! Protobuf descriptor sets (`google/protobuf/descriptor.proto`), as far as they describe services: each
//! method is the operation of its gRPC path, `POST /package.Service/Method`.
//!
//! The effect is the method's `idempotency_level` or its HTTP rule where one says that nothing is changed,
//! else what its name says.

use std::collections::BTreeMap;

use crate::{call::Effect, problem::Problem};

use super::{
    Draft, DraftBody, DraftOperation, MAX_OPERATIONS, address,
    derive::{self, Derived, kebab},
    openapi::name_from_host,
};

/// What may follow the tag of a field.
#[derive(Debug, Clone, Copy)]
enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    Other,
}

/// A method of a service.
#[derive(Debug)]
struct Method {
    package: String,
    service: String,
    name: String,
    /// The vendor says that it changes nothing.
    reads: bool,
}

const SET_FILE: u64 = 1;
const FILE_NAME: u64 = 1;
const FILE_PACKAGE: u64 = 2;
const FILE_SERVICE: u64 = 6;
const SERVICE_NAME: u64 = 1;
const SERVICE_METHOD: u64 = 2;
const METHOD_NAME: u64 = 1;
const METHOD_OPTIONS: u64 = 4;
const OPTION_IDEMPOTENCY: u64 = 34;
const NO_SIDE_EFFECTS: u64 = 1;
/// `google.api.http`, and in it the path of a GET.
const OPTION_HTTP: u64 = 72_295_728;
const HTTP_GET: u64 = 2;

/// Reads a descriptor set.
pub(super) fn draft(bytes: &[u8], provider: Option<&str>, host: Option<&str>) -> Result<Draft, Problem> {
    let mut methods = Vec::new();
    each(bytes, 0, &mut |number, wire| match (number, wire) {
        (SET_FILE, Wire::Bytes(inner)) => file(inner, &mut methods),
        _ => Ok(()),
    })
    .map_err(|message| {
        let what = "this is no text, and as a protobuf descriptor set it cannot be read";
        Problem::new(format!("{what}: {message}")).help("give a description that `remit intents import --help` lists")
    })?;
    if methods.is_empty() {
        return Err(Problem::new("the descriptor set has no service with a method")
            .help("make it with `protoc --include_imports --descriptor_set_out=FILE`"));
    }
    let (host, path) = address(host, "")?;
    let provider = provider.map_or_else(|| name_from_host(&host), str::to_owned);
    // A service's own name is enough, unless two packages have one of that name.
    let mut packages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for method in &methods {
        let all = packages.entry(kebab(&method.service)).or_default();
        if !all.contains(&method.package) {
            all.push(method.package.clone());
        }
    }
    let mut operations: Vec<DraftOperation> = Vec::new();
    for method in &methods {
        let mut group = kebab(&method.service);
        if packages.get(&group).is_some_and(|p| p.len() > 1) {
            group = kebab(&format!("{}.{}", method.package, method.service));
        }
        operations.push(operation(method, &provider, &group, &path));
    }
    Ok(Draft { provider, hosts: vec![host], operations, errors: Some("grpc".into()), ..Draft::default() })
}

fn operation(method: &Method, provider: &str, group: &str, base: &str) -> DraftOperation {
    let name = kebab(&method.name);
    let Derived { mut effect, labels, mut uncertain } = derive::effect("post", group, &name);
    if method.reads {
        (effect, uncertain) = (Effect::Read, false);
    }
    let dot = if method.package.is_empty() { "" } else { "." };
    let path = format!("{}/{}{dot}{}/{}", base.trim_end_matches('/'), method.package, method.service, method.name);
    let mut made = DraftOperation::new(format!("{provider}.{group}.{name}"), vec![format!("POST {path}")], effect);
    made.labels = if effect == Effect::Read { Vec::new() } else { labels };
    made.uncertain = uncertain;
    made.content = vec!["application/grpc*".into()];
    made.body = DraftBody::Stream;
    made
}

fn file(bytes: &[u8], methods: &mut Vec<Method>) -> Result<(), String> {
    let (mut name, mut package, mut services) = (String::new(), String::new(), Vec::new());
    each(bytes, 1, &mut |number, wire| {
        match (number, wire) {
            (FILE_NAME, Wire::Bytes(text)) => name = utf8(text)?,
            (FILE_PACKAGE, Wire::Bytes(text)) => package = identifier(text, true)?,
            (FILE_SERVICE, Wire::Bytes(inner)) => services.push(inner),
            _ => {}
        }
        Ok(())
    })?;
    for inner in services {
        service(inner, &package, methods).map_err(|message| format!("{}: {message}", name.chars().take(120).collect::<String>()))?;
    }
    Ok(())
}

fn service(bytes: &[u8], package: &str, methods: &mut Vec<Method>) -> Result<(), String> {
    let (mut service, mut found) = (String::new(), Vec::new());
    each(bytes, 2, &mut |number, wire| {
        match (number, wire) {
            (SERVICE_NAME, Wire::Bytes(text)) => service = identifier(text, false)?,
            (SERVICE_METHOD, Wire::Bytes(inner)) => found.push(method(inner)?),
            _ => {}
        }
        Ok(())
    })?;
    if service.is_empty() || methods.len() + found.len() > MAX_OPERATIONS {
        return Err(if service.is_empty() {
            "a service without a name".into()
        } else {
            format!("there are more than {MAX_OPERATIONS} methods")
        });
    }
    methods.extend(found.into_iter().map(|(name, reads)| Method { package: package.to_owned(), service: service.clone(), name, reads }));
    Ok(())
}

/// Name, and whether it changes nothing.
fn method(bytes: &[u8]) -> Result<(String, bool), String> {
    let (mut name, mut reads) = (String::new(), false);
    each(bytes, 3, &mut |number, wire| {
        match (number, wire) {
            (METHOD_NAME, Wire::Bytes(text)) => name = identifier(text, false)?,
            (METHOD_OPTIONS, Wire::Bytes(options)) => reads |= only_reads(options)?,
            _ => {}
        }
        Ok(())
    })?;
    if name.is_empty() { Err("a method without a name".into()) } else { Ok((name, reads)) }
}

fn only_reads(options: &[u8]) -> Result<bool, String> {
    let mut reads = false;
    each(options, 4, &mut |number, wire| {
        match (number, wire) {
            (OPTION_IDEMPOTENCY, Wire::Number(level)) => reads |= level == NO_SIDE_EFFECTS,
            (OPTION_HTTP, Wire::Bytes(rule)) => each(rule, 5, &mut |number, _| {
                reads |= number == HTTP_GET;
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(reads)
}

/// Calls `see` for every field of a message. Unknown ones are passed over; groups are not read.
fn each<'b>(bytes: &'b [u8], depth: usize, see: &mut dyn FnMut(u64, Wire<'b>) -> Result<(), String>) -> Result<(), String> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let (number, kind) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err(format!("a field has the number 0 ({depth} deep)"));
        }
        let wire = match kind {
            0 => Wire::Number(varint(&mut rest)?),
            1 => take(&mut rest, 8).map(|_| Wire::Other)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| "a field is too long".to_owned())?;
                Wire::Bytes(take(&mut rest, length)?)
            }
            5 => take(&mut rest, 4).map(|_| Wire::Other)?,
            _ => return Err(format!("a field has the wire type {kind}, which descriptors do not use")),
        };
        see(number, wire)?;
    }
    Ok(())
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Result<&'b [u8], String> {
    let (taken, left) = rest.split_at_checked(length).ok_or("a field is longer than what holds it")?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((byte, left)) = rest.split_first() else { return Err("it ends within a number".into()) };
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number is longer than 10 bytes".into())
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a name is not UTF-8".into())
}

/// A name as protobuf allows it, which can stand in a path; a package's has dots.
fn identifier(bytes: &[u8], dots: bool) -> Result<String, String> {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || (dots && *b == b'.');
    if bytes.len() > 512 || !bytes.iter().all(fits) {
        return Err("a name holds what no protobuf name may".into());
    }
    utf8(bytes)
}
