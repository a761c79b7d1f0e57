//! AWS protocols that name the operation instead of a resource.
//!
//! json names it in the field `X-Amz-Target`: `match: "aws DynamoDB_20120810.PutItem"`, with parameters
//! from the top of the JSON body. query and ec2 name it by `Version` and `Action`, in the query or a
//! form: `match: "aws 2016-11-15.RunInstances"`, with parameters from the form's fields; `InstanceId.1` and
//! `Names.member.1` are members of lists. A request that names two operations is refused.

use std::borrow::Cow;

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::{
    call::{Effect, Head},
    intent::{query, request::Media},
};

use super::{Arguments, Ask};

const TARGET: &str = "x-amz-target";

/// The most fields that a form may have.
const MOST_FIELDS: usize = 20_000;

/// The key that `X-Amz-Target` gives.
pub(super) fn target(head: &Head) -> Result<Option<String>, String> {
    let Some(target) = field(&head.headers)? else { return Ok(None) };
    if head.path.query().into_iter().flat_map(query::pairs).any(|(name, _)| *query::fold(&name) == *"action") {
        return Err("`X-Amz-Target` names an operation, and `Action` in the query another".into());
    }
    Ok(Some(format!("aws {target}")))
}

fn field(headers: &HeaderMap) -> Result<Option<&str>, String> {
    let mut all = headers.get_all(TARGET).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err("the field `X-Amz-Target` stands twice".into());
    }
    value.to_str().map(Some).map_err(|_| "the field `X-Amz-Target` is not ASCII text".into())
}

/// What a request without `X-Amz-Target` asks for.
pub(super) fn read(head: &Head, media: &Media, text: &str) -> Result<Vec<Ask<'static>>, String> {
    let mut fields = Map::new();
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = head.path.query().into_iter().flat_map(query::pairs).collect();
    if !text.is_empty() {
        if !media.is_form() && !media.essence.is_empty() {
            return Err(format!("the body is {:?}, and without `X-Amz-Target` an AWS operation is named in a form", media.essence));
        }
        strict(text)?;
        pairs.extend(query::pairs(text));
    }
    if pairs.len() > MOST_FIELDS {
        return Err(format!("the form has more than {MOST_FIELDS} fields"));
    }
    let mut lists: Vec<(String, Vec<(u32, Value)>)> = Vec::new();
    for (name, value) in pairs {
        let value = Value::String(value.into_owned());
        if let Some((list, index)) = member(&name) {
            match lists.iter_mut().find(|(l, _)| *l == list) {
                Some((_, all)) => all.push((index, value)),
                None => lists.push((list.to_owned(), vec![(index, value)])),
            }
        } else if let Some(before) = fields.insert(name.clone().into_owned(), value.clone())
            && before != value
        {
            return Err(format!("`{}` has two values", short(&name)));
        }
    }
    for (name, mut all) in lists {
        all.sort_by_key(|(index, _)| *index);
        if all.windows(2).any(|w| w.first().map(|f| f.0) == w.get(1).map(|s| s.0)) {
            return Err(format!("a member of `{}` has two values", short(&name)));
        }
        let list = Value::Array(all.into_iter().map(|(_, value)| value).collect());
        if fields.insert(name.clone(), list).is_some() {
            return Err(format!("`{}` is a value and a list", short(&name)));
        }
    }
    for name in ["Action", "Version"] {
        if fields.keys().any(|k| k != name && query::fold(k) == query::fold(name)) {
            return Err(format!("a field differs from `{name}` only in case"));
        }
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or("");
    let key = format!("aws {}.{}", text("Version"), text("Action"));
    let verb = text("Action");
    let effect = if ["Describe", "List", "Get"].iter().any(|v| verb.starts_with(v)) { Effect::Read } else { Effect::Write };
    Ok(vec![Ask { key, general: None, arguments: Arguments::Built(Value::Object(fields)), inside: None, effect }])
}

/// A form that readers might decode in two ways is not read: bad escapes, and `;` between fields.
fn strict(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for at in memchr::memchr_iter(b'%', bytes) {
        if !bytes.get(at + 1..at + 3).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
            return Err("the form has a `%` that begins no escape".into());
        }
    }
    if percent_encoding::percent_decode(bytes).decode_utf8().is_err() {
        return Err("the form is not UTF-8 once decoded".into());
    }
    let hidden = text.split('&').flat_map(|pair| pair.split(';').skip(1)).any(|piece| {
        let name = query::decode(piece.split('=').next().unwrap_or(piece));
        matches!(&*query::fold(&name), "action" | "version")
    });
    if hidden { Err("`;` in the form could begin another `Action`".into()) } else { Ok(()) }
}

/// `InstanceId.1`, `Names.member.1`: a member of a list of plain values.
fn member(name: &str) -> Option<(&str, u32)> {
    let (list, index) = name.rsplit_once('.')?;
    let list = list.strip_suffix(".member").unwrap_or(list);
    let index = index.parse().ok()?;
    (!list.is_empty() && !list.contains('.')).then_some((list, index))
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
