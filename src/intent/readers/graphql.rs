//! GraphQL over HTTP: every field at the root of the operation that would run is one thing asked for.
//!
//! `match: "graphql mutation createIssue"`; parameters come from the field's arguments, with variables
//! put in (`body: {input.title: /input/title}`). `@skip` and `@include` hide nothing, aliases rename
//! nothing, fragments are looked into. What a document means may not depend on who reads it: two
//! operations and no `operationName`, a document that is not there, a second document in the URL are
//! refused. A persisted query is judged by its document, where that was seen.

mod document;
mod known;
pub(in crate::intent) mod lexer;

use std::borrow::Cow;

use http::Method;
use serde_json::value::RawValue;

use crate::{
    call::{Effect, Head},
    intent::{json, query, request::Media},
};

use self::document::{Document, Fragment, Operation, Selection, Variables};
use super::{Arguments, Ask, MOST};

/// The parts of a request, in a JSON body or a query.
const PARTS: [&str; 4] = ["query", "variables", "operationName", "extensions"];

/// By these, too, servers find documents that were stored before.
const STORED: [&str; 5] = ["id", "documentId", "doc_id", "queryId", "hash"];

/// The types of operations, and what a field of one does that no catalog lists.
const KINDS: [(&str, Effect); 3] = [("query", Effect::Read), ("mutation", Effect::Write), ("subscription", Effect::Read)];

pub(super) fn read<'b>(head: &Head, media: &Media, text: &str) -> Result<Vec<Ask<'b>>, String> {
    let mut asks = Vec::new();
    if matches!(head.method, Method::GET | Method::HEAD) {
        if !text.is_empty() {
            return Err("a GraphQL query by GET stands in the URL, and this request has a body too".into());
        }
        url(head.path.query().unwrap_or(""))?.asks(&mut asks)?;
        return Ok(asks);
    }
    refuse_url(head.path.query().unwrap_or(""))?;
    if &*media.essence == "application/graphql" {
        let request = Request { query: Some(Cow::Borrowed(text)), ..Request::default() };
        request.asks(&mut asks)?;
        return Ok(asks);
    }
    if !media.is_json() {
        return Err(format!("the body is {:?}, and a GraphQL request is read from JSON or `application/graphql`", media.essence));
    }
    match json::items(text, MOST)? {
        Some(batch) => batch.into_iter().try_for_each(|one| Request::of(one.get())?.asks(&mut asks))?,
        None => Request::of(text)?.asks(&mut asks)?,
    }
    Ok(asks)
}

/// One GraphQL request.
#[derive(Debug, Default)]
struct Request<'b> {
    query: Option<Cow<'b, str>>,
    /// An object, as it is written.
    variables: Option<Cow<'b, str>>,
    operation: Option<Cow<'b, str>>,
    /// The digest by which the server may know the document.
    persisted: Option<String>,
}

impl<'b> Request<'b> {
    fn of(text: &'b str) -> Result<Self, String> {
        let Some(mut members) = json::members(text, &PARTS)? else { return Err("a GraphQL request is an object".into()) };
        members.iter().filter(|(name, _)| *name != "query").try_for_each(|(_, raw)| json::check(raw.get()))?;
        members.retain(|_, raw| raw.get() != "null");
        if let Some(key) = members.keys().find(|k| STORED.iter().any(|s| s.eq_ignore_ascii_case(k))) {
            return Err(format!("`{key}` asks for a document that the server has stored, which cannot be judged: send it as `query`"));
        }
        let text = |what: &str| match members.get(what).map(|raw| json::text(raw)) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(Cow::Owned(text))),
            Some(None) => Err(format!("`{what}` of a GraphQL request is text")),
        };
        let object = |what: &str| members.get(what).map(|raw| object(raw.get(), what)).transpose();
        Ok(Self {
            query: text("query")?,
            variables: object("variables")?.map(Cow::Borrowed),
            operation: text("operationName")?,
            persisted: object("extensions")?.map_or(Ok(None), digest)?,
        })
    }

    /// Adds what the request asks for.
    fn asks(&self, asks: &mut Vec<Ask<'_>>) -> Result<(), String> {
        let sent = self.query.as_deref().filter(|q| !q.trim().is_empty());
        let remembered = match (&self.persisted, sent) {
            (None, None) => return Err("the GraphQL request has no document".into()),
            (Some(digest), None) => Some(known::document(digest)?),
            (_, Some(_)) => None,
        };
        let query = sent.or(remembered.as_deref()).unwrap_or_default();
        let document = document::parse(query)?;
        if let (Some(digest), Some(sent)) = (&self.persisted, sent) {
            known::learn(digest, sent)?;
        }
        let operation = choose(&document, self.operation.as_deref().filter(|o| !o.is_empty()))?;
        let given = self.variables.as_deref().map_or(Ok(None), |v| json::members(v, &[]))?.unwrap_or_default();
        let variables = Variables { defined: &operation.variables, given: &given };
        let mut walk = Walk { document: &document, operation, variables, open: Vec::new(), done: Vec::new(), typename: false, asks };
        let before = walk.asks.len();
        walk.selections(&operation.selections)?;
        if walk.asks.len() == before && walk.typename {
            walk.ask("__typename", &[])?;
        }
        Ok(())
    }
}

/// The operation that runs.
fn choose<'d, 's>(document: &'d Document<'s>, name: Option<&str>) -> Result<&'d Operation<'s>, String> {
    let all = &document.operations;
    if all.len() > 1 && all.iter().any(|o| o.name.is_none()) {
        return Err("the GraphQL document has several operations, and not all of them a name".into());
    }
    let mut found = all.iter().filter(|o| name.is_none() || o.name == name);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) if name.is_none() => {
            Err("the GraphQL document has several operations and `operationName` does not say which".into())
        }
        (Some(_), Some(_)) => Err("the GraphQL document has two operations of one name".into()),
        (None, _) if name.is_some() => Err("the GraphQL document has no operation of the name that `operationName` gives".into()),
        (None, _) => Err("the GraphQL document has no operation".into()),
    }
}

/// Walks over the root of an operation.
struct Walk<'d, 's, 'a, 'b> {
    document: &'d Document<'s>,
    operation: &'d Operation<'s>,
    variables: Variables<'d, 's>,
    /// Fragments that are being looked into, and those that were: once is enough.
    open: Vec<&'d str>,
    done: Vec<&'d str>,
    typename: bool,
    asks: &'a mut Vec<Ask<'b>>,
}

impl<'d> Walk<'d, '_, '_, '_> {
    fn selections(&mut self, selections: &'d [Selection<'_>]) -> Result<(), String> {
        for selection in selections {
            match selection {
                // Says nothing but the type's name, beside whatever else is asked for.
                Selection::Field { name: "__typename", .. } => self.typename = true,
                Selection::Field { name, arguments } => self.ask(name, arguments)?,
                Selection::Inline(inner) => self.selections(inner)?,
                Selection::Spread(name) => self.fragment(name)?,
            }
        }
        Ok(())
    }

    fn fragment(&mut self, name: &'d str) -> Result<(), String> {
        if self.open.contains(&name) {
            return Err(format!("the fragment `{name}` of the GraphQL document contains itself"));
        }
        if self.done.contains(&name) {
            return Ok(());
        }
        let document: &'d Document<'_> = self.document;
        let Some(Fragment { selections, .. }) = document.fragments.iter().find(|f| f.name == name) else {
            return Err(format!("the GraphQL document lacks the fragment `{name}`"));
        };
        self.open.push(name);
        self.selections(selections)?;
        self.open.pop();
        self.done.push(name);
        Ok(())
    }

    fn ask(&mut self, name: &str, arguments: &[(&str, document::Input<'_>)]) -> Result<(), String> {
        if self.asks.len() >= MOST {
            return Err(format!("the GraphQL request asks for more than {MOST} fields at its root"));
        }
        let kind = self.operation.kind;
        let effect = KINDS.iter().find(|(k, _)| *k == kind).map_or(Effect::Write, |(_, e)| *e);
        let arguments = Arguments::Built(document::object(arguments, &self.variables)?);
        self.asks.push(Ask { key: format!("graphql {kind} {name}"), general: None, arguments, inside: None, effect });
        Ok(())
    }
}

/// A request in a query (GraphQL over HTTP, §6.2.1).
fn url(text: &str) -> Result<Request<'_>, String> {
    refuse_semicolon(text)?;
    let mut parts: [Option<Cow<'_, str>>; 4] = [const { None }; 4];
    for (name, value) in query::pairs(text) {
        let Some(at) = part(&name)? else { continue };
        if let Some(slot) = parts.get_mut(at)
            && slot.replace(value).is_some()
        {
            return Err(format!("the query gives `{name}` twice"));
        }
    }
    let [query, variables, operation, extensions] = parts;
    for (part, what) in [(&variables, "variables"), (&extensions, "extensions")] {
        if let Some(text) = part.as_deref().filter(|t| !t.is_empty()) {
            json::check(text)?;
            object(text.trim(), what)?;
        }
    }
    let persisted = extensions.as_deref().map_or(Ok(None), digest)?;
    Ok(Request { query, variables, operation, persisted })
}

/// What is an object, or nothing.
fn object<'t>(text: &'t str, what: &str) -> Result<&'t str, String> {
    if text == "null" || text.starts_with('{') { Ok(text) } else { Err(format!("`{what}` of a GraphQL request is an object")) }
}

/// Some servers prefer what the URL says to what the body says.
fn refuse_url(text: &str) -> Result<(), String> {
    refuse_semicolon(text)?;
    for (name, _) in query::pairs(text) {
        if part(&name)?.is_some() {
            return Err(format!("`{name}` of the GraphQL request stands in the URL, and the request has a body too"));
        }
    }
    Ok(())
}

fn refuse_semicolon(text: &str) -> Result<(), String> {
    if text.contains(';') { Err("`;` in the query ends a pair to some readers only".into()) } else { Ok(()) }
}

/// Which part of a request a query name is, if any.
fn part(name: &str) -> Result<Option<usize>, String> {
    if let Some(at) = PARTS.iter().position(|p| *p == name) {
        return Ok(Some(at));
    }
    let folded = query::fold(name);
    let base = folded.split('[').next().unwrap_or(&folded);
    if PARTS.iter().chain(&STORED).any(|p| query::fold(p) == base) {
        return Err(format!("the query has `{base}`, which some servers take for a part of the GraphQL request"));
    }
    Ok(None)
}

/// The digest of `extensions.persistedQuery`.
fn digest(extensions: &str) -> Result<Option<String>, String> {
    let members = json::members(extensions, &["persistedQuery"])?.unwrap_or_default();
    let Some(persisted) = members.get("persistedQuery").filter(|p| p.get() != "null") else { return Ok(None) };
    let inner = json::members(persisted.get(), &["sha256Hash"])?.unwrap_or_default();
    match inner.get("sha256Hash").copied().and_then(|raw: &RawValue| json::text(raw)) {
        Some(digest) => Ok(Some(digest)),
        None => Err("`extensions.persistedQuery` without `sha256Hash`".into()),
    }
}

#[cfg(test)]
mod tests;
