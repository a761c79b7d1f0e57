//! Google's discovery documents.
//!
//! `{+name}` stands for a whole resource name, `projects/p/topics/t`: the parameter's pattern says of
//! which segments, so that `where` can speak of the project. Names of these parameters are
//! those of the document's `flatPath`.

mod template;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    call::{Effect, Label},
    intent::aws::is_formed,
    problem::Problem,
};

use super::{
    Draft, DraftBody, DraftOperation, MAX_OPERATIONS,
    derive::{self, Derived, kebab},
    names::Taken,
    resolve::{problem, token},
};

/// The provider of every API: one credential, and grants such as `google.drive.*`.
pub(super) const PROVIDER: &str = "google";

/// Reads a document.
pub(super) fn draft(document: &Value, provider: Option<&str>) -> Result<Draft, Problem> {
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or("");
    let group = kebab(text("name"));
    if group.is_empty() {
        return Err(problem("/name", "the document does not name its API"));
    }
    let provider = provider.unwrap_or(PROVIDER).to_owned();
    let hosts = hosts(document)?;
    let reader = Reader { document, provider: &provider, group: &group, name: text("name"), hosts: &hosts, base: base(document) };
    let mut methods = Vec::new();
    methods_of(document, String::new(), &mut methods, 0)?;
    let ids = reader.ids(&methods);
    let operations = methods.iter().zip(ids).map(|((pointer, _, m), id)| reader.method(id, m, pointer)).collect::<Result<_, _>>()?;
    Ok(Draft {
        version: text("version").to_owned(),
        hosts: hosts.clone(),
        credential: Some("google".into()),
        errors: Some("google".into()),
        operations,
        ..Draft::new(&provider)
    })
}

/// The hosts that serve an API: its own, that for client certificates, and those of regions.
fn hosts(document: &Value) -> Result<Vec<String>, Problem> {
    let mut hosts = Vec::new();
    let regional = document.get("endpoints").and_then(Value::as_array).into_iter().flatten();
    let urls = ["rootUrl", "mtlsRootUrl"].iter().filter_map(|k| document.get(*k)).chain(regional.filter_map(|e| e.get("endpointUrl")));
    for url in urls.filter_map(Value::as_str) {
        let Some(host) = url.strip_prefix("https://").and_then(|u| u.split('/').next()).filter(|h| !h.is_empty()) else { continue };
        let mut host = host.to_ascii_lowercase();
        if is_formed(&host)
            && let Some((api, rest)) = host.split_once('.')
            && let Some((_, rest)) = rest.split_once('.')
        {
            host = format!("{api}.{{location}}.{rest}");
        }
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if hosts.is_empty() { Err(problem("/rootUrl", "the document names no https host")) } else { Ok(hosts) }
}

/// What stands before every path.
fn base(document: &Value) -> String {
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    let root = text("rootUrl").and_then(|u| u.split_once("://")).and_then(|(_, r)| r.split_once('/')).map_or("", |(_, path)| path);
    let service = text("servicePath").or_else(|| text("basePath")).unwrap_or("");
    [root, service].iter().map(|p| p.trim_matches('/')).filter(|p| !p.is_empty()).map(|p| format!("/{p}")).collect()
}

/// How deep resources may lie in one another.
const MAX_DEPTH: usize = 32;

/// A method with its pointer and the path of its resources.
type Method<'d> = (String, String, &'d Value);

fn methods_of<'d>(value: &'d Value, path: String, all: &mut Vec<Method<'d>>, depth: usize) -> Result<(), Problem> {
    let pointer = path.split('.').filter(|p| !p.is_empty()).fold(String::new(), |at, p| format!("{at}/resources/{}", token(p)));
    if depth > MAX_DEPTH {
        return Err(problem(&pointer, format!("resources lie more than {MAX_DEPTH} deep in one another")));
    }
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, method) in value.get("methods").and_then(Value::as_object).into_iter().flatten() {
        all.push((format!("{pointer}/methods/{}", token(name)), join(name), method));
        if all.len() > MAX_OPERATIONS {
            return Err(problem(&pointer, format!("there are more than {MAX_OPERATIONS} methods")));
        }
    }
    for (name, resource) in value.get("resources").and_then(Value::as_object).into_iter().flatten() {
        methods_of(resource, join(name), all, depth + 1)?;
    }
    Ok(())
}

struct Reader<'d> {
    document: &'d Value,
    provider: &'d str,
    group: &'d str,
    name: &'d str,
    hosts: &'d [String],
    base: String,
}

impl Reader<'_> {
    /// The vendor's ids; where two methods have one, those of their resources.
    fn ids(&self, methods: &[Method<'_>]) -> Vec<String> {
        let own = |m: &Value| {
            let id = m.get("id").and_then(Value::as_str).unwrap_or("");
            let rest = id.strip_prefix(self.name).and_then(|r| r.strip_prefix('.')).filter(|r| !r.is_empty());
            rest.map(dotted)
        };
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for (_, _, method) in methods {
            *count.entry(own(method).unwrap_or_default()).or_default() += 1;
        }
        let pick = |(_, path, method): &Method<'_>| own(method).filter(|id| count.get(id) == Some(&1)).unwrap_or_else(|| dotted(path));
        methods.iter().map(pick).collect()
    }

    fn method(&self, name: String, method: &Value, pointer: &str) -> Result<DraftOperation, Problem> {
        let text = |key: &str| method.get(key).and_then(Value::as_str);
        let (Some(verb), Some(path)) = (text("httpMethod"), text("path")) else {
            return Err(problem(pointer, "a method needs `httpMethod` and `path`"));
        };
        let empty = Map::new();
        let parameters = method.get("parameters").and_then(Value::as_object).unwrap_or(&empty);
        let mut taken = Taken::from_hosts(self.hosts);
        let template = template::Template::new(path, text("flatPath"), parameters, pointer)?;
        let (path, reserved) = template.write(&self.base, &mut taken);
        let short = name.rsplit('.').next().unwrap_or(&name);
        let mut made =
            DraftOperation::derived(format!("{}.{}.{name}", self.provider, self.group), effect(verb, self.group, &name, short, method));
        made.matches.push(format!("{verb} {path}"));
        made.reserved = reserved;
        for (wire, parameter) in parameters.iter().filter(|(_, p)| p.get("location").and_then(Value::as_str) == Some("query")) {
            made.query.push(taken.query(wire, parameter.get("repeated").and_then(Value::as_bool) == Some(true)));
        }
        // Parameters of every method count where the body has one of the same name.
        let fields = self.properties(method);
        for wire in self.document.get("parameters").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            if fields.is_some_and(|f| f.keys().any(|k| k.eq_ignore_ascii_case(wire))) && !parameters.contains_key(wire) {
                made.query.push(taken.query(wire, false));
            }
        }
        let names = template.names();
        for (_, protocol) in method.pointer("/mediaUpload/protocols").and_then(Value::as_object).into_iter().flatten() {
            let Some(path) = protocol.get("path").and_then(Value::as_str) else { continue };
            let upload = template::Template::new(path, None, parameters, pointer)?;
            let line = format!("{verb} {}", upload.write_as(&names));
            if !made.streams.contains(&line) {
                made.streams.push(line);
            }
        }
        self.body(method, &mut made, &mut taken);
        Ok(made)
    }

    fn schema(&self, method: &Value) -> Option<&Value> {
        self.document.get("schemas")?.get(method.pointer("/request/$ref")?.as_str()?)
    }

    /// The members of a method's body; None where anything may stand in it (`HttpBody`).
    fn properties(&self, method: &Value) -> Option<&Map<String, Value>> {
        self.schema(method)?.get("properties")?.as_object()
    }

    fn body(&self, method: &Value, made: &mut DraftOperation, taken: &mut Taken) {
        let Some(properties) = self.properties(method) else { return };
        let mut budget = 200;
        made.llm = self.schema(method).is_some_and(|s| self.has_bytes(s, 0, &mut budget));
        made.body = DraftBody::Json(properties.keys().map(|k| (taken.clean(k, "body"), format!("/{}", token(k)))).collect());
    }

    /// Whether a body holds bytes, which may be many: pictures, sound, files.
    fn has_bytes(&self, schema: &Value, depth: usize, budget: &mut usize) -> bool {
        if depth > 6 || *budget == 0 {
            return false;
        }
        *budget -= 1;
        let named = schema.get("$ref").and_then(Value::as_str).and_then(|n| self.document.get("schemas")?.get(n));
        if let Some(named) = named {
            return self.has_bytes(named, depth + 1, budget);
        }
        schema.get("format").and_then(Value::as_str) == Some("byte") && schema.get("type").and_then(Value::as_str) == Some("string")
            || schema.get("items").is_some_and(|i| self.has_bytes(i, depth + 1, budget))
            || schema
                .get("properties")
                .and_then(Value::as_object)
                .is_some_and(|p| p.iter().any(|(name, v)| !is_mark(name) && self.has_bytes(v, depth + 1, budget)))
    }
}

/// Bytes that mark a version are few.
fn is_mark(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["etag", "fingerprint", "hash", "token", "digest", "checksum", "signature"].iter().any(|m| name.ends_with(m))
}

/// `projects.serviceAccounts.keys.create` → `projects.service-accounts.keys.create`.
fn dotted(id: &str) -> String {
    id.split('.').map(kebab).filter(|p| !p.is_empty()).collect::<Vec<_>>().join(".")
}

/// The effect, from the method, the scopes that suffice for it, and its name.
fn effect(verb: &str, group: &str, name: &str, short: &str, method: &Value) -> Derived {
    let Derived { mut effect, labels, mut uncertain } = derive::effect(&verb.to_ascii_lowercase(), group, short);
    let readable =
        method.get("scopes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).any(|s| s.ends_with(".readonly"));
    if readable && effect != Effect::Read && labels.is_empty() && verb == "POST" {
        (effect, uncertain) = (Effect::Read, true);
    }
    if effect == Effect::Read && readable {
        uncertain = false;
    }
    // `oauthClients.credentials.create` creates a credential: what comes before the verb is what it acts on.
    let resource = name.rsplit('.').nth(1).unwrap_or(group);
    let mut all = labels;
    let of_resource = derive::effect(&verb.to_ascii_lowercase(), resource, short).labels;
    for label in of_resource.into_iter().chain(more_labels(group, name, short)) {
        if !all.contains(&label) && effect != Effect::Read || label == Label::MintsCredential {
            all.push(label);
        }
    }
    all.dedup();
    if all.contains(&Label::SharesAccess) && short == "set-iam-policy" {
        (effect, uncertain) = (Effect::Admin, false);
    }
    Derived { effect, uncertain: uncertain || !all.is_empty(), labels: all }
}

fn more_labels(group: &str, name: &str, short: &str) -> Vec<Label> {
    let parts: Vec<&str> = name.split('.').collect();
    let has = |part: &str| parts.contains(&part);
    let makes = short.starts_with("create") || short.starts_with("insert") || short.starts_with("update") || short.starts_with("patch");
    let mut labels = Vec::new();
    let mints =
        matches!(short, "generate-access-token" | "generate-id-token" | "sign-jwt" | "sign-blob" | "generate-auth-token" | "access")
            || (makes && (has("keys") || has("tokens") || has("hmac-keys") || has("api-keys")))
            || (makes && (has("ssh-public-keys") || has("public-keys") || has("ssh-keys")))
            || matches!((group, short), ("secretmanager", "access") | ("sts", "token"))
            || matches!(short, "sign-ssh-public-key" | "acquire-access-token" | "verify-password" | "verify-custom-token" | "sign-up")
            || (short.starts_with("exchange-") && !short.ends_with("-rates"))
            || name.contains("sign-in");
    if mints {
        labels.push(Label::MintsCredential);
    }
    if short == "set-iam-policy"
        || (makes && (has("permissions") || has("acl") || has("members") || has("delegates") || short.ends_with("-access-controls")))
    {
        labels.push(Label::SharesAccess);
    }
    let sends = matches!(short, "watch" | "send" | "update-auto-forwarding" | "publish")
        || (makes
            && (has("forwarding-addresses")
                || has("send-as")
                || has("subscriptions")
                || has("push-config")
                || has("notification-configs")));
    if sends {
        labels.push(Label::SendsElsewhere);
    }
    labels
}
