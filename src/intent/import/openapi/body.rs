//! What an operation's body holds.

use serde_json::Value;

use crate::problem::Problem;

use super::{
    super::{
        DraftBody,
        resolve::{Refs, token},
    },
    parameter::{Described, Parameters},
};

const FORM: &str = "application/x-www-form-urlencoded";

/// A body, and the media types that are taken beside JSON.
pub(super) type Body = (DraftBody, Vec<String>);

/// OpenAPI 3's `requestBody`.
pub(super) fn request_body<'d>(refs: &Refs<'d>, operation: &'d Value, pointer: &str, parameters: &Parameters) -> Result<Body, Problem> {
    let Some(body) = operation.get("requestBody") else { return Ok((DraftBody::Undeclared, Vec::new())) };
    let pointer = format!("{pointer}/requestBody");
    let body = refs.resolve(body, &pointer)?;
    let mut names: Vec<String> = Vec::new();
    let mut media = Vec::new();
    for (kind, value) in body.get("content").and_then(Value::as_object).into_iter().flatten() {
        let essence = essence(kind);
        if (is_json(&essence) || essence == FORM)
            && let Some(schema) = value.get("schema")
        {
            names.extend(refs.properties(schema, &format!("{pointer}/content/{}/schema", token(kind)))?);
        }
        media.push(essence);
    }
    Ok(made(names, media, parameters))
}

/// Swagger 2's `body` and `formData` parameters, under what the operation or the description
/// consumes.
pub(super) fn swagger<'d>(
    refs: &Refs<'d>,
    document: &'d Value,
    operation: &'d Value,
    all: &[Described<'d>],
    parameters: &Parameters,
) -> Result<Body, Problem> {
    let mut names = Vec::new();
    let (mut body, mut form, mut file) = (false, false, false);
    for one in all {
        match one.place {
            "body" => {
                body = true;
                if let Some(schema) = one.get("schema") {
                    names.extend(refs.properties(schema, &one.pointer)?);
                }
            }
            "formData" => {
                form = true;
                file |= one.get("type").and_then(Value::as_str) == Some("file");
                names.push(one.name.to_owned());
            }
            _ => {}
        }
    }
    if !body && !form {
        return Ok((DraftBody::Undeclared, Vec::new()));
    }
    let consumes = operation.get("consumes").or_else(|| document.get("consumes")).and_then(Value::as_array);
    let mut media: Vec<String> = consumes.into_iter().flatten().filter_map(Value::as_str).map(essence).collect();
    if form {
        // A form is a form, whatever the description consumes elsewhere.
        media.retain(|m| m == FORM || m == "multipart/form-data");
        if media.is_empty() {
            media.push(if file { "multipart/form-data".into() } else { FORM.into() });
        }
    }
    Ok(made(names, media, parameters))
}

fn made(mut names: Vec<String>, media: Vec<String>, parameters: &Parameters) -> Body {
    names.sort_unstable();
    names.dedup();
    let mut others: Vec<String> = media.iter().filter(|m| !is_json(m) && m.contains('/') && *m != "*/*").cloned().collect();
    others.sort_unstable();
    others.dedup();
    let read = media.is_empty() || media.iter().any(|m| is_json(m) || m == FORM || m == "*/*");
    if !read {
        return (DraftBody::Stream, Vec::new());
    }
    let mut taken = parameters.clone();
    let pairs: Vec<_> = names.iter().map(|name| (taken.take(name, "body"), format!("/{}", token(name)))).collect();
    (if pairs.is_empty() { DraftBody::Undeclared } else { DraftBody::Json(pairs) }, others)
}

fn essence(media: &str) -> String {
    media.split(';').next().unwrap_or(media).trim().to_ascii_lowercase()
}

fn is_json(essence: &str) -> bool {
    matches!(essence, "application/json" | "text/json") || essence.ends_with("+json")
}
