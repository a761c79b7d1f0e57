//! GraphQL schemas: the schema language, and the answer to an introspection query.
//!
//! Every field of the root types is an operation, `PROVIDER.query.FIELD`, deprecated ones too.
//! Arguments are its parameters by their names; the fields of an argument that is one input object
//! are called `ARGUMENT.FIELD`, and what lies deeper is part of their values.

mod parser;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    call::{Effect, Label},
    intent::pattern::is_name,
    problem::Problem,
};

use super::{
    Draft, DraftBody, DraftOperation, MAX_OPERATIONS, address,
    derive::{self, kebab},
    openapi::name_from_host,
    resolve::problem,
};

use parser::Parser;

/// How deep a type or a value may nest.
const MAX_DEPTH: usize = 64;

/// The most parameters of one operation.
const MAX_PARAMETERS: usize = 1000;

/// Says which request made an answer; no parameter of anything.
const CLIENT_ID: &str = "clientMutationId";

/// Fields that every schema has at the root of a query.
const INTROSPECTION: [&str; 3] = ["__schema", "__type", "__typename"];

/// What matters of a schema.
#[derive(Debug, Default)]
struct Schema {
    /// `query` → the type's name.
    roots: BTreeMap<String, String>,
    /// Fields of objects.
    objects: BTreeMap<String, Vec<Field>>,
    /// Fields of input objects.
    inputs: BTreeMap<String, Vec<Argument>>,
}

#[derive(Debug)]
struct Field {
    name: String,
    arguments: Vec<Argument>,
}

#[derive(Debug)]
struct Argument {
    name: String,
    /// The type's name, and whether it is a list of that.
    kind: String,
    list: bool,
}

/// Reads the schema language.
pub(super) fn sdl(text: &str, provider: Option<&str>, host: Option<&str>) -> Result<Draft, Problem> {
    let mut parser = Parser::new(text);
    let schema = parser.schema().map_err(|message| Problem { line: Some(parser.at.lexer.line()), ..Problem::new(message) })?;
    draft(&schema, provider, host)
}

/// Reads the answer to an introspection query.
pub(super) fn introspection(document: &Value, provider: Option<&str>, host: Option<&str>) -> Result<Draft, Problem> {
    let inner = ["/data/__schema", "/__schema"].into_iter().find_map(|p| Some((p, document.pointer(p)?)));
    let (pointer, value) = inner.unwrap_or(("", document));
    let mut schema = Schema::default();
    for kind in ROOTS {
        if let Some(name) = value.pointer(&format!("/{kind}Type/name")).and_then(Value::as_str) {
            schema.roots.insert(kind.into(), name.into());
        }
    }
    let types = value.get("types").and_then(Value::as_array);
    let Some(types) = types else { return Err(problem(&format!("{pointer}/types"), "the introspection result has no types")) };
    for (i, one) in types.iter().enumerate() {
        let at = format!("{pointer}/types/{i}");
        let name = text(one, "name", &at)?;
        let list = |key: &str| one.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        match text(one, "kind", &at)?.as_str() {
            "OBJECT" => {
                let fields = list("fields").map(|(j, f)| {
                    let at = format!("{at}/fields/{j}");
                    Ok(Field { name: text(f, "name", &at)?, arguments: arguments(f.get("args"), &at)? })
                });
                schema.objects.insert(name, fields.collect::<Result<_, Problem>>()?);
            }
            "INPUT_OBJECT" => {
                schema.inputs.insert(name, arguments(one.get("inputFields"), &at)?);
            }
            _ => {}
        }
    }
    draft(&schema, provider, host)
}

const ROOTS: [&str; 3] = ["query", "mutation", "subscription"];

fn text(value: &Value, key: &str, pointer: &str) -> Result<String, Problem> {
    value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| problem(pointer, format!("`{key}` is missing, or is not text")))
}

fn arguments(list: Option<&Value>, pointer: &str) -> Result<Vec<Argument>, Problem> {
    let all = list.and_then(Value::as_array).into_iter().flatten().map(|argument| {
        let name = text(argument, "name", pointer)?;
        let (mut kind, mut is_list) = (argument.get("type").unwrap_or(&Value::Null), false);
        for _ in 0..MAX_DEPTH {
            is_list |= kind.get("kind").and_then(Value::as_str) == Some("LIST");
            match kind.get("ofType") {
                Some(inner @ Value::Object(_)) => kind = inner,
                _ => return Ok(Argument { name, kind: text(kind, "name", pointer)?, list: is_list }),
            }
        }
        Err(problem(pointer, format!("the type of `{name}` nests more than {MAX_DEPTH} deep")))
    });
    all.collect()
}

/// The operations of a schema.
fn draft(schema: &Schema, provider: Option<&str>, host: Option<&str>) -> Result<Draft, Problem> {
    let (host, path) = address(host, "/graphql")?;
    let provider = provider.map_or_else(|| name_from_host(&host), str::to_owned);
    let mut operations = Vec::new();
    for kind in ROOTS {
        let Some(fields) = schema.roots.get(kind).and_then(|name| schema.objects.get(name)) else { continue };
        for field in fields {
            operations.push(operation(schema, &provider, kind, field)?);
        }
    }
    if operations.is_empty() {
        return Err(
            Problem::new("the schema has no fields to query").help("its root types are named in `schema`, or are `Query` and `Mutation`")
        );
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(Problem::new(format!("there are more than {MAX_OPERATIONS} operations")));
    }
    for name in INTROSPECTION {
        let id = format!("{provider}.query.{name}");
        operations.push(DraftOperation::new(id, vec![format!("graphql query {name}")], Effect::Read));
    }
    Ok(Draft { provider, hosts: vec![host], operations, readers: vec![("graphql".into(), path)], ..Draft::default() })
}

fn operation(schema: &Schema, provider: &str, kind: &str, field: &Field) -> Result<DraftOperation, Problem> {
    let name = &field.name;
    let mut made = DraftOperation::new(format!("{provider}.{kind}.{name}"), vec![format!("graphql {kind} {name}")], Effect::Read);
    if kind == "mutation" {
        let derived = derive::effect("post", "mutation", &kebab(name));
        // A mutation that is called after what it reads changes something all the same.
        let reads = derived.effect == Effect::Read;
        made.effect = if reads { Effect::Write } else { derived.effect };
        made.uncertain = derived.uncertain || reads;
        made.labels = derived.labels;
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut declare = |name: String, pointer: String| {
        let twin = |(n, _): &(String, String)| n.eq_ignore_ascii_case(&name);
        if is_name(&name) && !parameters.iter().any(twin) {
            parameters.push((name, pointer));
        }
    };
    for argument in &field.arguments {
        let own = &argument.name;
        match schema.inputs.get(&argument.kind).filter(|_| !argument.list) {
            Some(fields) => fields
                .iter()
                .filter(|f| f.name != CLIENT_ID)
                .take(MAX_PARAMETERS)
                .for_each(|f| declare(format!("{own}.{}", f.name), format!("/{own}/{}", f.name))),
            None => declare(own.clone(), format!("/{own}")),
        }
    }
    if parameters.len() > MAX_PARAMETERS {
        return Err(Problem::new(format!("there are more than {MAX_PARAMETERS} parameters")).key(format!("{kind}.{name}")));
    }
    secrets(&parameters, &mut made);
    made.body = DraftBody::Json(parameters);
    Ok(made)
}

/// A mutation that is told where to send something sends elsewhere, whatever it is called.
fn secrets(parameters: &[(String, String)], made: &mut DraftOperation) {
    let tells = |name: &str| {
        let last = name.rsplit('.').next().unwrap_or(name);
        ["webhookUrl", "callbackUrl", "forwardTo", "forwardingAddress"].iter().any(|w| w.eq_ignore_ascii_case(last))
    };
    if made.effect != Effect::Read && !made.labels.contains(&Label::SendsElsewhere) && parameters.iter().any(|(n, _)| tells(n)) {
        made.labels.push(Label::SendsElsewhere);
        made.uncertain = true;
    }
}
