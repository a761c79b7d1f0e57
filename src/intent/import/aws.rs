//! AWS service models, as botocore ships them: `service-2.json`, with the rules of its endpoints.
//!
//! rest-json and rest-xml operations are found by method and path; json ones by `X-Amz-Target`, query
//! and ec2 ones by `Version` and `Action`, both through the reader `aws`; rpc-v2-cbor ones by path. A model
//! that lists several protocols gets the matches of all, since clients choose.

mod effects;
mod hosts;
mod s3;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{intent::pattern::is_name, problem::Problem};

use super::{
    Draft, DraftBody, DraftOperation, MAX_OPERATIONS,
    derive::{self, kebab},
    names::Taken,
    resolve::problem,
};

/// The provider of every service: one credential, and grants such as `aws.s3.*`.
pub(super) const PROVIDER: &str = "aws";

/// What belongs to one service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model<'a> {
    pub model: &'a Value,
    /// `endpoint-rule-set-1.json`, where it was at hand.
    pub rules: Option<&'a Value>,
    /// The folder that botocore keeps it in, which is the name of the AWS CLI's command.
    pub folder: Option<&'a str>,
    pub provider: Option<&'a str>,
}

/// Reads a model.
pub(super) fn draft(source: Model<'_>) -> Result<Draft, Problem> {
    let reader = Reader::new(source)?;
    let operations = source.model.get("operations").and_then(Value::as_object);
    let Some(operations) = operations.filter(|o| !o.is_empty()) else { return Err(problem("/operations", "the model has no operations")) };
    if operations.len() > MAX_OPERATIONS {
        return Err(problem("/operations", format!("there are more than {MAX_OPERATIONS} operations")));
    }
    let mut made = Vec::new();
    for (name, operation) in operations {
        made.push(reader.operation(name, operation)?);
    }
    let mut made = distinguish(made);
    if reader.service == "s3" {
        s3::places(&mut made);
    }
    let reads = made.iter().any(|o| o.operation.all_matches().any(|m| m.starts_with("aws ")));
    Ok(Draft {
        version: reader.version.clone(),
        hosts: reader.hosts.clone(),
        credential: Some("aws".into()),
        errors: Some("aws".into()),
        body_type: Some("any".into()),
        // Neptune and DocumentDB take requests of RDS, on its hosts.
        owns_hosts: source.model.pointer("/metadata/endpointPrefix").and_then(Value::as_str) == Some(&*reader.service),
        readers: if reads { vec![("aws".into(), "/".into())] } else { Vec::new() },
        operations: made.into_iter().map(|m| m.operation).collect(),
        ..Draft::new(&reader.provider)
    })
}

struct Reader<'a> {
    shapes: &'a Map<String, Value>,
    provider: String,
    service: String,
    version: String,
    protocols: Vec<&'a str>,
    target: Option<&'a str>,
    hosts: Vec<String>,
}

/// An operation, and what a request for it cannot do without.
struct Made {
    operation: DraftOperation,
    query: Vec<String>,
    headers: Vec<String>,
}

/// The members of an operation's input, by where they are sent.
#[derive(Default)]
struct Members<'a> {
    /// Name in the path → whether it is greedy is told by the path.
    path: Vec<String>,
    /// Name in the query, whether a list, whether required.
    query: Vec<(String, bool, bool)>,
    headers: Vec<String>,
    body: Vec<(String, &'a Value)>,
    /// The body is this member alone.
    payload: Option<&'a Value>,
    /// Some value of the body is bytes, which may be many.
    large: bool,
}

impl<'a> Reader<'a> {
    fn new(source: Model<'a>) -> Result<Self, Problem> {
        let model = source.model;
        let metadata = model.get("metadata").and_then(Value::as_object).ok_or_else(|| problem("/metadata", "the model has no metadata"))?;
        let shapes = model.get("shapes").and_then(Value::as_object).ok_or_else(|| problem("/shapes", "the model has no shapes"))?;
        let text = |key: &str| metadata.get(key).and_then(Value::as_str);
        let protocols: Vec<&str> = match metadata.get("protocols").and_then(Value::as_array) {
            Some(all) => all.iter().filter_map(Value::as_str).collect(),
            None => text("protocol").into_iter().collect(),
        };
        const KNOWN: [&str; 6] = ["rest-json", "rest-xml", "query", "ec2", "json", "smithy-rpc-v2-cbor"];
        let protocols: Vec<&str> = protocols.into_iter().filter(|p| KNOWN.contains(p)).collect();
        if protocols.is_empty() {
            return Err(problem("/metadata/protocol", "no protocol of this model is known").help(KNOWN.join(", ")));
        }
        let id = text("serviceId").or_else(|| text("endpointPrefix")).unwrap_or("");
        let service = source.folder.map_or_else(|| kebab(id), kebab);
        if service.is_empty() {
            return Err(problem("/metadata/serviceId", "the model does not say which service it is of"));
        }
        Ok(Self {
            shapes,
            provider: source.provider.unwrap_or(PROVIDER).to_owned(),
            version: text("apiVersion").unwrap_or("").to_owned(),
            protocols,
            target: text("targetPrefix"),
            hosts: if service == "s3" { s3::hosts() } else { hosts::of(source.rules, model) },
            service,
        })
    }

    fn operation(&self, name: &str, operation: &'a Value) -> Result<Made, Problem> {
        let pointer = format!("/operations/{name}");
        let http = operation.get("http");
        let method = http.and_then(|h| h.get("method")).and_then(Value::as_str).unwrap_or("POST");
        let uri = http.and_then(|h| h.get("requestUri")).and_then(Value::as_str).unwrap_or("/");
        let rest = self.protocols.iter().any(|p| p.starts_with("rest-"));
        let members = self.members(operation, rest, &pointer)?;
        let short = kebab(name);
        let read_only = operation.get("readonly").and_then(Value::as_bool) == Some(true);
        let derived = effects::of(&self.service, &short, if rest { method } else { "POST" }, read_only);
        let id = format!("{}.{}.{short}", self.provider, self.service);
        let own = self.own_hosts(operation);
        let hosts = if own.is_empty() { &self.hosts } else { &own };
        let mut taken = Taken::from_hosts(hosts);
        let mut made = DraftOperation::derived(id, derived);
        let (mut query, mut headers) = (Vec::new(), Vec::new());
        if rest {
            let (path, reserved) = template(uri, &mut taken, &pointer)?;
            made.matches.push(format!("{method} {path}"));
            made.reserved = reserved;
            for (wire, list, required) in &members.query {
                made.query.push(taken.query(wire, *list));
                query.extend(required.then(|| wire.clone()));
            }
            headers = members.headers.clone();
        }
        made.hosts = own;
        made.llm = members.large;
        self.rpc_matches(name, &mut made);
        made.body = self.body(&members, rest, &mut taken);
        Ok(Made { operation: made, query, headers })
    }

    /// The matches of protocols that name the operation instead of a resource.
    fn rpc_matches(&self, name: &str, made: &mut DraftOperation) {
        for protocol in &self.protocols {
            match *protocol {
                "json" => made.matches.extend(self.target.map(|t| format!("aws {t}.{name}"))),
                "query" | "ec2" => made.matches.push(format!("aws {}.{name}", self.version)),
                "smithy-rpc-v2-cbor" => made.streams.extend(self.target.map(|t| format!("POST /service/{t}/operation/{name}"))),
                _ => {}
            }
        }
    }

    fn body(&self, members: &Members<'a>, rest: bool, taken: &mut Taken) -> DraftBody {
        if self.protocols.contains(&"rest-xml") {
            return DraftBody::Stream;
        }
        let inner;
        let members: &[(String, &Value)] = match members.payload {
            // A structure's members stand at the top of the body; bytes and text are the body.
            Some(payload) => match self.structure(payload) {
                Some(shape) => {
                    inner = shape.iter().map(|(n, m)| (wire(n, m).to_owned(), m)).collect::<Vec<_>>();
                    &inner
                }
                None => return DraftBody::Stream,
            },
            None => &members.body,
        };
        if members.is_empty() {
            return if rest { DraftBody::Undeclared } else { DraftBody::Json(Vec::new()) };
        }
        DraftBody::Json(members.iter().map(|(name, _)| (taken.clean(name, "body"), format!("/{}", super::resolve::token(name)))).collect())
    }

    fn members(&self, operation: &'a Value, rest: bool, pointer: &str) -> Result<Members<'a>, Problem> {
        let mut found = Members::default();
        let Some(input) = operation.get("input") else { return Ok(found) };
        let name = input.get("shape").and_then(Value::as_str).unwrap_or("");
        let Some(shape) = self.shapes.get(name) else {
            return Err(problem(&format!("{pointer}/input/shape"), format!("there is no shape `{name}`")));
        };
        let required: Vec<&str> = shape.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let payload = shape.get("payload").and_then(Value::as_str);
        for (name, member) in shape.get("members").and_then(Value::as_object).into_iter().flatten() {
            let sent = if rest { wire(name, member).to_owned() } else { self.field(name, member) };
            let needed = required.contains(&name.as_str());
            match member.get("location").and_then(Value::as_str).filter(|_| rest) {
                Some("uri") => found.path.push(sent),
                Some("querystring") => match self.kind(member) {
                    "map" => {}
                    kind => found.query.push((sent, kind == "list", needed)),
                },
                Some("header") if needed => found.headers.push(sent),
                Some(_) => {}
                None if payload == Some(name.as_str()) => found.payload = Some(member),
                None if payload.is_none() => {
                    found.large |= self.kind(member) == "blob";
                    found.body.push((sent, member));
                }
                None => {}
            }
        }
        Ok(found)
    }

    /// What a member is called in a JSON body, or in a form of query or ec2, whose lists may be called otherwise.
    fn field(&self, name: &str, member: &'a Value) -> String {
        let text = |value: &'a Value, key: &str| value.get(key).and_then(Value::as_str);
        if self.protocols.contains(&"ec2") {
            let name_of = name;
            return text(member, "queryName").map(str::to_owned).unwrap_or_else(|| {
                let (first, rest) = wire(name_of, member).split_at_checked(1).unwrap_or(("", ""));
                format!("{}{rest}", first.to_ascii_uppercase())
            });
        }
        let list = self.shape(member).filter(|s| s.get("flattened").and_then(Value::as_bool) == Some(true)).and_then(|s| s.get("member"));
        let inner = list.filter(|_| self.protocols.contains(&"query")).and_then(|m| text(m, "locationName"));
        inner.unwrap_or_else(|| wire(name, member)).to_owned()
    }

    fn shape(&self, member: &'a Value) -> Option<&'a Value> {
        self.shapes.get(member.get("shape").and_then(Value::as_str)?)
    }

    fn kind(&self, member: &'a Value) -> &'a str {
        self.shape(member).and_then(|s| s.get("type")).and_then(Value::as_str).unwrap_or("")
    }

    fn structure(&self, member: &'a Value) -> Option<&'a Map<String, Value>> {
        let shape = self.shape(member)?;
        let events = shape.get("eventstream").is_some() || shape.get("document").is_some();
        shape.get("members").and_then(Value::as_object).filter(|_| self.kind(member) == "structure" && !events)
    }

    /// Hosts of an operation whose model puts something before them: `data.`, `{AccountId}.`.
    fn own_hosts(&self, operation: &Value) -> Vec<String> {
        let Some(prefix) = operation.pointer("/endpoint/hostPrefix").and_then(Value::as_str) else { return Vec::new() };
        // The rules of some services put the account there themselves.
        let prefixed = |h: &String| {
            if prefix.starts_with('{') && h.starts_with('{') && !h.starts_with("{region}") { h.clone() } else { format!("{prefix}{h}") }
        };
        let mut own: Vec<String> = Vec::new();
        for host in self.hosts.iter().map(prefixed).filter(|h| !h.contains("}{")) {
            if !own.iter().any(|o| derive::shape(o) == derive::shape(&host)) {
                own.push(host);
            }
        }
        own
    }
}

/// The name under which a member is sent.
fn wire<'a>(name: &'a str, member: &'a Value) -> &'a str {
    member.get("locationName").and_then(Value::as_str).unwrap_or(name)
}

/// `/{Bucket}/{Key+}?acl` as the catalog writes it, and its parameters: an encoded slash may stand
/// in each, since names of resources hold them.
fn template(uri: &str, taken: &mut Taken, pointer: &str) -> Result<(String, Vec<String>), Problem> {
    let (path, query) = uri.split_once('?').map_or((uri, ""), |(p, q)| (p, q));
    if !path.starts_with('/') {
        return Err(problem(&format!("{pointer}/http/requestUri"), format!("`{uri}` is no path: it starts with `/`")));
    }
    let (mut out, mut names, mut rest) = (String::new(), Vec::new(), path);
    while let Some(open) = rest.find('{') {
        let (literal, tail) = rest.split_at(open);
        out.push_str(literal);
        let Some(close) = tail.find('}') else {
            return Err(problem(&format!("{pointer}/http/requestUri"), format!("`{uri}` has a `{{` without its `}}`")));
        };
        let name = tail.get(1..close).unwrap_or("");
        let (name, greedy) = name.strip_suffix('+').map_or((name, false), |n| (n, true));
        let clean = taken.clean(name, "path");
        out.push_str(&format!("{{{}{clean}}}", if greedy { "+" } else { "" }));
        names.push(clean);
        rest = tail.get(close + 1..).unwrap_or("");
    }
    out.push_str(rest);
    // `x-id` names the operation for people who read logs: a client may leave it out.
    let literals: Vec<&str> = query.split('&').filter(|q| !q.is_empty() && !q.starts_with("x-id=")).collect();
    if !literals.is_empty() {
        out.push('?');
        out.push_str(&literals.join("&"));
    }
    Ok((out, names))
}

/// Tells operations of one path apart by what each requires: the query, then header fields.
fn distinguish(mut made: Vec<Made>) -> Vec<Made> {
    for round in 0..2 {
        let mut groups: BTreeMap<(String, Vec<String>), Vec<usize>> = BTreeMap::new();
        for (i, one) in made.iter().enumerate() {
            let Some(first) = one.operation.matches.first().filter(|m| !m.starts_with("aws ")) else { continue };
            groups.entry((derive::shape(first), one.operation.hosts.clone())).or_default().push(i);
        }
        for all in groups.into_values().filter(|all| all.len() > 1) {
            let needs = |i: usize| if round == 0 { made[i].query.clone() } else { made[i].headers.clone() };
            let common: Vec<String> = needs(all[0]).into_iter().filter(|n| all.iter().all(|i| needs(*i).contains(n))).collect();
            let own: Vec<(usize, Vec<String>)> =
                all.iter().map(|i| (*i, needs(*i).into_iter().filter(|n| !common.contains(n)).collect())).collect();
            for (i, names) in own {
                let Some(text) = made[i].operation.matches.first_mut() else { continue };
                for name in names.into_iter().filter(|n| is_name(n)) {
                    match round {
                        0 => text.push(if text.contains('?') { '&' } else { '?' }),
                        _ => text.push_str(if text.contains(" with ") { "," } else { " with " }),
                    }
                    text.push_str(&if round == 0 { name.clone() } else { name.to_ascii_lowercase() });
                }
            }
        }
    }
    made
}
