use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use smallvec::{SmallVec, smallvec};

use crate::{
    call::{Effect, Head, Intent, Observed, Operation, Param, Params, Path, Provider},
    refusal::Refusal,
};

use super::{
    catalog::{BodyPlan, Compiled, Declared, Entry, HostParams, Origin, Shape, UNLISTED_HOST, ambiguous},
    fields::Fields,
    json::{self, Plan, Taken},
    llm, query,
    readers::Mounted,
    request::Media,
    spec::Class,
    trie::{Captures, Hit, Leaf},
};

/// How much of the body must be at hand before [`Found::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// None: it may stream by unread.
    Nothing,
    /// The whole, when there is one, up to the limit of its class.
    Whole { limit: Class },
    /// At least so many bytes from its beginning, or all of it when it is shorter; the rest may
    /// stream by unread.
    Prefix { bytes: usize },
}

/// What a call asks for.
#[derive(Debug)]
pub struct Reading {
    /// Never empty; all must be allowed.
    pub intents: SmallVec<[Intent; 1]>,
    /// None: the host is in no catalog.
    pub provider: Option<Arc<Provider>>,
}

/// The operation that a call is for, before its parameters are read.
#[derive(Debug)]
pub struct Found<'c>(Kind<'c>);

#[derive(Debug)]
enum Kind<'c> {
    Listed(Listed<'c>),
    /// A reader tells from the body.
    Mounted(Mounted<'c>, Need),
    Unlisted {
        provider: Option<&'c Arc<Provider>>,
        operation: &'c Arc<Operation>,
    },
}

#[derive(Debug)]
struct Listed<'c> {
    entry: &'c Entry,
    compiled: &'c Compiled,
    leaf: &'c Leaf,
    captures: Captures,
    hosts: HostParams,
    /// What is read of the body, given its media type.
    reads: Reads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Nothing,
    /// Parameters that are declared.
    Declared,
    /// Parameters that are declared, from a form.
    Form,
    /// Only names that are parameters elsewhere.
    Names,
}

impl<'c> Found<'c> {
    pub(super) fn unlisted(provider: Option<&'c Arc<Provider>>, operation: &'c Arc<Operation>) -> Self {
        Self(Kind::Unlisted { provider, operation })
    }

    pub(super) fn listed(entry: &'c Entry, compiled: &'c Compiled, hit: Hit<'c>, hosts: HostParams, head: &Head) -> Result<Self, Refusal> {
        let reads = if hit.leaf.stream { Reads::Nothing } else { reads(compiled, head)? };
        let listed = Listed { entry, compiled, leaf: hit.leaf, captures: hit.captures, hosts, reads };
        if head.path.has_encoded_slash() {
            listed.check_slashes(head)?;
        }
        Ok(Self(Kind::Listed(listed)))
    }

    pub(super) fn mounted(mounted: Mounted<'c>, head: &Head) -> Result<Self, Refusal> {
        let need = mounted.need(head)?;
        Ok(Self(Kind::Mounted(mounted, need)))
    }

    /// The operation, which may be the provider's or the catalog's `unknown`; that is what it is
    /// as long as only the body can tell.
    #[must_use]
    pub fn operation(&self) -> &'c Arc<Operation> {
        match &self.0 {
            Kind::Listed(listed) => &listed.compiled.operation,
            Kind::Mounted(mounted, _) => mounted.unread(),
            Kind::Unlisted { operation, .. } => operation,
        }
    }

    /// How much of the body [`Self::read`] needs.
    #[must_use]
    pub fn need(&self) -> Need {
        match &self.0 {
            Kind::Listed(listed) if listed.reads != Reads::Nothing => Need::Whole { limit: listed.compiled.limit },
            Kind::Mounted(_, need) => *need,
            Kind::Listed(_) | Kind::Unlisted { .. } => Need::Nothing,
        }
    }

    /// Reads the parameters, and behind a reader the operations: 1 to 64 intents. `head` is the one
    /// it was found for; `body` as much of the body as [`Self::need`] asks for, when there is one.
    ///
    /// # Errors
    /// `ambiguous_request`, with a sentence that names what has two readings.
    pub fn read(&self, head: &Head, body: Option<&Bytes>) -> Result<Reading, Refusal> {
        match &self.0 {
            Kind::Unlisted { provider, operation } => {
                refuse_method_name(head)?;
                let mut params = Params::default();
                params.push(Arc::from(UNLISTED_HOST), Param::Text(head.to.host.as_str().into()));
                let intent = Intent { operation: Arc::clone(operation), params };
                Ok(Reading { intents: smallvec![intent], provider: provider.map(Arc::clone) })
            }
            Kind::Mounted(mounted, _) => {
                refuse_method_name(head)?;
                mounted.read(head, body.map_or(&[][..], |b| b))
            }
            Kind::Listed(listed) => {
                let params = listed.params(head, body.filter(|b| !b.is_empty()))?;
                let intent = Intent { operation: Arc::clone(&listed.compiled.operation), params };
                Ok(Reading { intents: smallvec![intent], provider: Some(Arc::clone(&listed.entry.provider)) })
            }
        }
    }
}

/// The longest name of a data source.
const LONGEST_SOURCE: usize = 256;

impl Found<'_> {
    /// What the call shows of its agent, once it was read: what it hands to a model, and where a
    /// read gets its data. `body` is what [`Self::read`] was given.
    #[must_use]
    pub fn observe(&self, reading: &Reading, body: Option<&Bytes>) -> Observed {
        let model = match (&self.0, body) {
            (Kind::Listed(listed), Some(body)) if matches!(listed.compiled.body, BodyPlan::Llm(_)) => Some(llm::observe(body)),
            _ => None,
        };
        Observed { model, source: reading.intents.iter().find(|i| i.operation.effect == Effect::Read).map(|i| self.source(i)) }
    }

    /// `provider`, and the first two parameters that stand in the path: `github:acme/web`.
    fn source(&self, intent: &Intent) -> Box<str> {
        let fixed = if let Kind::Listed(listed) = &self.0 { listed.captures.len() } else { 0 };
        let mut out = intent.operation.provider.id.to_string();
        for ((_, value), mark) in intent.params.iter().take(fixed).zip([':', '/']) {
            if let Param::Text(text) = value {
                out.push(mark);
                out.push_str(text);
            }
        }
        let end = (0..=out.len().min(LONGEST_SOURCE)).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(end);
        out.into()
    }
}

/// What is to be read of a body of this media type.
fn reads(compiled: &Compiled, head: &Head) -> Result<Reads, Refusal> {
    let declared = match compiled.body {
        BodyPlan::Stream => return Ok(Reads::Nothing),
        BodyPlan::Json(_) | BodyPlan::Llm(_) => Reads::Declared,
        BodyPlan::Undeclared => Reads::Names,
    };
    // Seldom has one a body, so seldom is its media type worth a look.
    if compiled.content.is_empty() && (declared == Reads::Declared || matches!(head.method, Method::GET | Method::HEAD)) {
        return Ok(declared);
    }
    let media = Media::of(&head.headers)?;
    if !media.essence.is_empty() && media.is_one_of(&compiled.content) {
        // A form has the names of the JSON beside which it is taken.
        return Ok(if media.is_form() && declared == Reads::Declared { Reads::Form } else { Reads::Nothing });
    }
    let texty = compiled.any_type || media.is_json() || media.is_form() || media.essence.starts_with("text/");
    Ok(if declared == Reads::Names && !texty { Reads::Nothing } else { declared })
}

/// Some readers skip it before JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A query parameter that bears the name of one from the body, to be compared once that is read.
type Pending<'q> = SmallVec<[(u16, Cow<'q, str>); 2]>;

impl Listed<'_> {
    fn params(&self, head: &Head, body: Option<&Bytes>) -> Result<Params, Refusal> {
        let mut params = Params::default();
        for (range, at) in self.captures.iter().zip(&self.leaf.params) {
            let raw = head.path.raw().get(range.start as usize..range.end as usize).unwrap_or("");
            if let Some(declared) = self.declared(*at) {
                params.push(Arc::clone(&declared.name), declared.text(Path::decode(raw)));
            }
        }
        for (name, value) in &self.hosts {
            params.push(Arc::clone(name), Param::Text(value.clone()));
        }
        let mut pending = Pending::new();
        if let Some(query) = head.path.query() {
            self.query(query, &mut params, &mut pending)?;
        }
        if let Some(body) = body
            && self.reads != Reads::Nothing
        {
            self.body(head, body, &mut params)?;
        }
        for (at, value) in pending {
            if let Some(declared) = self.declared(at) {
                declared.compare(&params, &Value::String(value.into_owned()), "query")?;
            }
        }
        Ok(params)
    }

    fn declared(&self, at: u16) -> Option<&Declared> {
        self.compiled.declared.get(usize::from(at))
    }

    fn check_slashes(&self, head: &Head) -> Result<(), Refusal> {
        for (range, at) in self.captures.iter().zip(&self.leaf.params) {
            let raw = head.path.raw().get(range.start as usize..range.end as usize).unwrap_or("");
            let Some(declared) = self.declared(*at).filter(|d| !d.reserved) else { continue };
            if raw.as_bytes().windows(3).any(|w| w.eq_ignore_ascii_case(b"%2f")) {
                let detail = format!("`{}` holds `%2F`, which servers read in different ways", declared.name);
                return Err(ambiguous(detail));
            }
        }
        Ok(())
    }

    fn query<'q>(&self, text: &'q str, params: &mut Params, pending: &mut Pending<'q>) -> Result<(), Refusal> {
        let mut lists: SmallVec<[(u16, Vec<Value>); 1]> = SmallVec::new();
        let mut objects: SmallVec<[(u16, Fields); 1]> = SmallVec::new();
        let split_too = text.contains(';');
        for (name, value) in query::pairs(text) {
            let found = self.compiled.declared.iter().position(|d| d.from == Origin::Query && d.is_sent_as(&name));
            if let Some((at, declared)) = found.and_then(|at| Some((at as u16, self.declared(at as u16)?))) {
                if declared.shape == Shape::List {
                    match lists.iter_mut().find(|(a, _)| *a == at) {
                        Some((_, all)) => all.push(Value::String(declared.folded(value).into())),
                        None => lists.push((at, vec![Value::String(declared.folded(value).into())])),
                    }
                } else if declared.shape == Shape::Object {
                    let known = objects.iter().position(|(a, _)| *a == at).unwrap_or_else(|| {
                        objects.push((at, Fields::default()));
                        objects.len() - 1
                    });
                    if let Some((_, fields)) = objects.get_mut(known) {
                        fields.insert(&name, value.into_owned()).map_err(|why| ambiguous(format!("the query's {why}")))?;
                    }
                } else if let Some(before) = params.lookup(&declared.name) {
                    if *before != declared.text(value) {
                        return Err(ambiguous(format!("the query gives `{}` two values", declared.name)));
                    }
                } else {
                    params.push(Arc::clone(&declared.name), declared.text(value));
                }
            } else if !self.leaf.query.iter().any(|(n, _)| **n == *name) {
                self.stray(&name, value, params, pending)?;
            }
        }
        if split_too {
            self.semicolons(text)?;
        }
        self.give(lists, objects, params);
        Ok(())
    }

    fn give(&self, lists: SmallVec<[(u16, Vec<Value>); 1]>, objects: SmallVec<[(u16, Fields); 1]>, params: &mut Params) {
        for (at, all) in lists {
            if let Some(declared) = self.declared(at) {
                params.push(Arc::clone(&declared.name), Param::Json(Value::Array(all)));
            }
        }
        for (at, fields) in objects {
            // What is in it stands under the parameter's own name.
            if let Some(declared) = self.declared(at)
                && let Some(value) = fields.into_object().remove(&*declared.wire)
            {
                params.push(Arc::clone(&declared.name), Param::Json(value));
            }
        }
    }

    /// A query name that the operation does not declare: harmless unless a lax reader would take
    /// it for a parameter.
    fn stray<'q>(&self, name: &str, value: Cow<'q, str>, params: &Params, pending: &mut Pending<'q>) -> Result<(), Refusal> {
        let folded = query::fold(name);
        refuse_method(&folded)?;
        // `state[]`, `state[0]` are `state` to many frameworks.
        let base = folded.split('[').next().unwrap_or(&folded);
        let literal = self.leaf.query.iter().find(|(n, _)| *query::fold(n) == *base);
        let twin = self.compiled.declared.iter().position(|d| *d.folded == *base);
        if literal.is_some() || twin.is_some_and(|at| self.is_spelling(at, base, &folded)) {
            return Err(ambiguous(format!("the query has {name:?}, which some readers take for `{base}`")));
        }
        let Some(declared) = twin.and_then(|at| self.compiled.declared.get(at)) else { return Ok(()) };
        if declared.from == Origin::Body {
            pending.push((twin.unwrap_or(0) as u16, value));
            return Ok(());
        }
        declared.compare(params, &Value::String(value.into_owned()), "query")
    }

    /// Whether a name is only another spelling of the query parameter it folds to.
    fn is_spelling(&self, at: usize, base: &str, folded: &str) -> bool {
        self.compiled.declared.get(at).is_some_and(|d| d.from == Origin::Query || base != folded)
    }

    /// Some readers end a pair at `;` as well.
    fn semicolons(&self, text: &str) -> Result<(), Refusal> {
        for piece in text.split('&').flat_map(|pair| pair.split(';').skip(1)) {
            let name = query::decode(piece.split('=').next().unwrap_or(piece));
            let folded = query::fold(&name);
            if self.compiled.declared.iter().any(|d| *d.folded == *folded) || self.leaf.query.iter().any(|(n, _)| **n == *folded) {
                return Err(ambiguous(format!("`;` in the query could begin the parameter {name:?}")));
            }
        }
        Ok(())
    }

    fn body(&self, head: &Head, body: &Bytes, params: &mut Params) -> Result<(), Refusal> {
        let media = Media::of(&head.headers)?;
        media.refuse_encoded(&head.headers)?;
        let nothing = Plan::default();
        let plan = match &self.compiled.body {
            BodyPlan::Json(plan) => plan,
            BodyPlan::Stream | BodyPlan::Undeclared | BodyPlan::Llm(_) => &nothing,
        };
        if self.reads == Reads::Form {
            return self.declared_form(body, plan, params);
        }
        let first = body.iter().find(|b| !b.is_ascii_whitespace());
        let is_json = matches!(first, Some(b'{' | b'[')) || body.starts_with(BYTE_ORDER_MARK) || media.says_json();
        if self.reads == Reads::Names && !is_json {
            return self.form(body, params);
        }
        if self.reads == Reads::Declared && !self.compiled.any_type && !media.is_json() {
            let detail = format!("the body is {:?}, and this operation's parameters are read from JSON", media.essence);
            return Err(ambiguous(detail));
        }
        if let BodyPlan::Llm(first) = self.compiled.body {
            return self.model(first, body, params);
        }
        let watch = |folded: &str| folded == "_method" || self.compiled.declared.iter().any(|d| *d.folded == *folded);
        let Taken { params: mut taken, watched } = json::read(body, plan, &watch).map_err(ambiguous)?;
        taken.sort_by_key(|(at, _)| *at);
        for (at, value) in taken {
            if let Some(declared) = self.declared(at) {
                params.push(Arc::clone(&declared.name), declared.json(value));
            }
        }
        for (key, value) in watched {
            let folded = query::fold(&key);
            refuse_method(&folded)?;
            if let Some(declared) = self.compiled.declared.iter().find(|d| *d.folded == *folded) {
                declared.meet(params, &key, value)?;
            }
        }
        Ok(())
    }

    /// A call to a model, whose parameters stand from `first` on.
    fn model(&self, first: u16, body: &Bytes, params: &mut Params) -> Result<(), Refusal> {
        for (at, value) in llm::read(body).map_err(ambiguous)?.into_params() {
            if let Some(declared) = self.declared(first.saturating_add(at as u16)) {
                params.push(Arc::clone(&declared.name), declared.json(value));
            }
        }
        Ok(())
    }

    /// A form whose fields are parameters: what the JSON pointers of `body` lead to in it.
    fn declared_form(&self, body: &Bytes, plan: &Plan, params: &mut Params) -> Result<(), Refusal> {
        let text = form_text(body)?;
        let mut fields = Fields::default();
        for (name, value) in query::pairs(text) {
            refuse_method(&query::fold(&name))?;
            fields.insert(&name, value.into_owned()).map_err(|why| ambiguous(format!("the form's {why}")))?;
        }
        if text.contains(';') {
            self.semicolons(text)?;
        }
        let form = fields.into_value();
        for (at, value) in plan.take(&form).map_err(ambiguous)? {
            if let Some(declared) = self.declared(at) {
                params.push(Arc::clone(&declared.name), declared.json(value));
            }
        }
        for (name, value) in form.as_object().into_iter().flatten() {
            let folded = query::fold(name);
            if let Some(declared) = self.compiled.declared.iter().find(|d| d.from != Origin::Body && *d.folded == *folded) {
                declared.meet(params, name, value.clone())?;
            }
        }
        Ok(())
    }

    /// A body that nobody declared and that is not JSON: read as a form, whose names may not
    /// contradict a parameter.
    fn form(&self, body: &Bytes, params: &mut Params) -> Result<(), Refusal> {
        for (name, value) in query::pairs(&String::from_utf8_lossy(body)) {
            let folded = query::fold(&name);
            refuse_method(&folded)?;
            let base = folded.split('[').next().unwrap_or(&folded);
            if let Some(declared) = self.compiled.declared.iter().find(|d| *d.folded == *base) {
                if declared.either {
                    form_text(body)?;
                }
                declared.meet(params, &name, Value::String(value.into_owned()))?;
            }
        }
        Ok(())
    }
}

/// The text of a form that has one reading.
fn form_text(body: &Bytes) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| ambiguous("the form is not UTF-8".into()))?;
    if text.trim_start().starts_with(['{', '[']) {
        return Err(ambiguous("the body says that it is a form, and looks like JSON".into()));
    }
    if !query::is_text(text) {
        return Err(ambiguous("the form has an escape that is broken, or decodes to invalid UTF-8 or to NUL".into()));
    }
    Ok(text)
}

impl Declared {
    /// Whether a query name is this parameter's: a list may be sent as `name[]`, and an object is
    /// sent as `name[key]`.
    fn is_sent_as(&self, name: &str) -> bool {
        match self.shape {
            Shape::One => *self.wire == *name,
            Shape::List => *self.wire == *name || name.strip_suffix("[]") == Some(&*self.wire),
            Shape::Object => name.strip_prefix(&*self.wire).is_some_and(|rest| rest.is_empty() || rest.starts_with('[')),
        }
    }

    fn folded(&self, value: Cow<'_, str>) -> Box<str> {
        if self.fold && value.chars().any(char::is_uppercase) { value.to_lowercase().into() } else { value.into() }
    }

    pub(super) fn text(&self, value: Cow<'_, str>) -> Param {
        Param::Text(self.folded(value))
    }

    pub(super) fn json(&self, value: Value) -> Param {
        match value {
            Value::String(text) => self.text(Cow::Owned(text)),
            other => Param::Json(other),
        }
    }

    /// A value that the body has under this parameter's name: its own, where it may stand there and
    /// stands nowhere else.
    fn meet(&self, params: &mut Params, name: &str, value: Value) -> Result<(), Refusal> {
        if self.either && *self.wire == *name && params.lookup(&self.name).is_none() {
            params.push(Arc::clone(&self.name), self.json(value));
            return Ok(());
        }
        self.compare(params, &value, "body")
    }

    /// Refuses another value of this parameter, found under its name in another place.
    pub(super) fn compare(&self, params: &Params, other: &Value, place: &str) -> Result<(), Refusal> {
        let same = match (params.lookup(&self.name), other) {
            (Some(Param::Text(own)), Value::String(text)) => *own == self.folded(Cow::Borrowed(text)),
            (Some(Param::Text(own)), Value::Number(n)) => **own == *n.to_string(),
            (Some(Param::Text(own)), Value::Bool(b)) => **own == *b.to_string(),
            (Some(Param::Json(Value::Number(own))), Value::String(text)) => *text == own.to_string(),
            (Some(Param::Json(Value::Bool(own))), Value::String(text)) => *text == own.to_string(),
            (Some(Param::Json(own)), other) => own == other,
            (Some(Param::Text(_)) | None, _) => false,
        };
        if same {
            return Ok(());
        }
        let name = &self.name;
        Err(ambiguous(format!("the {place} names `{name}` with another value than the {}, where it belongs", self.from.as_str())))
    }
}

/// `_method` lets a client name another method to many frameworks.
fn refuse_method(folded: &str) -> Result<(), Refusal> {
    // Google's front end takes the latter three for a method, a body and its type.
    if matches!(folded, "_method" | "$httpmethod" | "$req" | "$ct") {
        return Err(ambiguous(format!("`{folded}` asks for another request than the one that is sent")));
    }
    Ok(())
}

fn refuse_method_name(head: &Head) -> Result<(), Refusal> {
    head.path.query().map_or(Ok(()), |text| query::pairs(text).try_for_each(|(name, _)| refuse_method(&query::fold(&name))))
}
