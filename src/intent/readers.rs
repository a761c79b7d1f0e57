//! Readers: what tells from a request's body which operations it is for.
//!
//! A reader is mounted at a path of some hosts (`readers: [{mcp: /mcp}]`). From a request to that path
//! it makes one or more [`Ask`]s, each with a key that begins with the reader's word; the operation
//! whose `match` is that key takes its `body` parameters from the ask's arguments. All asks of one
//! request must be allowed, and what a reader cannot read in one way is refused (law 2).

mod a2a;
mod aws;
mod git;
pub(super) mod graphql;
mod jsonrpc;
mod mcp;

use std::{borrow::Cow, sync::Arc};

use http::Method;
use serde_json::Value;
use smallvec::SmallVec;

use crate::{
    call::{Effect, ErrorForm, Head, Intent, Operation, Param, Params, Path, Provider},
    problem::{Problem, nearest},
    refusal::Refusal,
};

use super::{
    build::line,
    catalog::{BodyPlan, Compiled, Declared, Entry, Fallback, HostParams, Origin, ambiguous},
    found::{Need, Reading},
    json::{self, Plan},
    pattern::Pattern,
    query,
    request::Media,
    spec::{Class, Source},
    trie::{Captures, Trie},
};

/// How many intents one request may carry.
const MOST: usize = 64;

/// The kinds of readers, each with a word of its own in catalogs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Graphql,
    Mcp,
    A2a,
    Git,
    Aws,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Graphql, Self::Mcp, Self::A2a, Self::Git, Self::Aws];

    /// The word that names it in `readers`, and with which its keys begin.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Graphql => "graphql",
            Self::Mcp => "mcp",
            Self::A2a => "a2a",
            Self::Aws => "aws",
            Self::Git => "git",
        }
    }

    /// The methods of the requests that it reads.
    pub(super) fn methods(self) -> &'static [Method] {
        match self {
            Self::Graphql | Self::Aws => &[Method::GET, Method::POST],
            Self::Mcp | Self::A2a | Self::Git => &[Method::POST],
        }
    }

    /// How its clients expect an error to be worded, where that is not the provider's to say.
    fn form(self) -> Option<ErrorForm> {
        match self {
            Self::Graphql => Some(ErrorForm::Graphql),
            Self::Mcp | Self::A2a => Some(ErrorForm::Jsonrpc),
            Self::Aws => None,
            Self::Git => Some(ErrorForm::Git),
        }
    }

    /// How much of the body it needs.
    fn need(self) -> Need {
        match self {
            Self::Graphql | Self::Mcp | Self::A2a | Self::Aws => Need::Whole { limit: Class::Default },
            Self::Git => Need::Prefix { bytes: git::PREFIX },
        }
    }

    /// The key of a request whose head names the operation alone: it is read as one found by path.
    pub(super) fn key_of_head(self, head: &Head) -> Result<Option<String>, String> {
        if self == Self::Aws { aws::target(head) } else { Ok(None) }
    }

    /// What a request asks for: at least one thing.
    fn read<'b>(self, head: &'b Head, media: &Media, body: &'b [u8]) -> Result<Vec<Ask<'b>>, String> {
        if self == Self::Git {
            return git::read(&head.headers, media, body);
        }
        let body = std::str::from_utf8(body).map_err(|e| format!("the body is not UTF-8 (byte {})", e.valid_up_to()))?;
        match self {
            Self::Graphql => graphql::read(head, media, body),
            Self::Mcp => mcp::read(head, media, body),
            Self::A2a => a2a::read(media, body),
            Self::Aws => aws::read(head, media, body),
            Self::Git => Ok(Vec::new()),
        }
    }

    fn parse(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|k| k.word() == word).ok_or_else(|| {
            let near = nearest(word, Self::ALL.iter().map(|k| k.word())).map(|n| format!(": did you mean `{n}`?"));
            format!("there is no reader `{word}`{}", near.unwrap_or_default())
        })
    }
}

/// The reader that a key is for: `mcp tools/call create_issue`.
pub(super) fn kind_of_key(key: &str) -> Result<Kind, String> {
    let (word, rest) = key.split_once(' ').unwrap_or((key, ""));
    let kind = Kind::parse(word)?;
    if rest.is_empty() || rest.trim() != rest || rest.chars().any(char::is_control) {
        return Err(format!("`{key}` is a reader's word without a key: write it as in \"mcp tools/call create_issue\""));
    }
    Ok(kind)
}

/// One thing that a request asks for.
#[derive(Debug)]
pub(super) struct Ask<'b> {
    /// `mcp tools/call create_issue`: the `match` of the operation.
    pub key: String,
    /// `mcp tools/call`: the `match` of the operation that stands for those not listed by name.
    pub general: Option<&'static str>,
    /// What parameters are taken from.
    pub arguments: Arguments<'b>,
    /// What parameters are taken from instead, when it is `key` that is listed.
    pub inside: Option<Arguments<'b>>,
    /// What it is taken for when no catalog lists it.
    pub effect: Effect,
}

/// What something is asked with.
#[derive(Debug)]
pub(super) enum Arguments<'b> {
    Built(Value),
    /// JSON as it is written, checked to have one reading of each key.
    Written(&'b str),
}

/// What the arguments give: declared parameters, and values of keys that a path or host has too.
type Given = (Vec<(u16, Value)>, Vec<(Box<str>, Value)>);

/// A reader as a catalog file mounts it.
#[derive(Debug)]
pub(super) struct MountSpec {
    /// The path as it is written.
    pub text: Box<str>,
    pub kind: Kind,
    pub path: Pattern,
}

/// The readers of a file.
pub(super) fn mounts(source: &Source<'_>, problems: &mut Vec<Problem>) -> Vec<MountSpec> {
    let mut all = Vec::new();
    for pairs in &source.spec.readers {
        let made = match pairs.0.as_slice() {
            [(word, path)] => Kind::parse(word)
                .and_then(|kind| Ok(MountSpec { kind, path: Pattern::parse(&format!("POST {path}"))?, text: path.as_str().into() })),
            _ => Err("a reader is written as its word and a path: `{mcp: /mcp}`".into()),
        };
        match made {
            Ok(mount) => all.push(mount),
            Err(message) => problems.push(Problem::new(message).at(&source.file, line(source, "readers:")).key("readers")),
        }
    }
    all
}

/// A mounted reader, compiled.
#[derive(Debug)]
pub(super) struct Mount {
    /// Its path, as the catalog writes it.
    pub text: Box<str>,
    pub kind: Kind,
    /// The provider, in the reader's form of errors.
    pub provider: Arc<Provider>,
    /// For what no catalog lists.
    fallback: Fallback,
    /// The parameters of its path, in order.
    names: Box<[Box<str>]>,
}

impl Mount {
    pub(super) fn new(spec: &MountSpec, provider: &Arc<Provider>) -> Self {
        let provider = match spec.kind.form() {
            Some(errors) => Arc::new(Provider { errors, ..Provider::clone(provider) }),
            None => Arc::clone(provider),
        };
        Self {
            text: spec.text.clone(),
            kind: spec.kind,
            fallback: Fallback::new(Some(&provider)),
            provider,
            names: spec.path.names.clone().into(),
        }
    }
}

/// A reader that a request came to.
#[derive(Debug)]
pub(super) struct Mounted<'c> {
    pub entry: &'c Entry,
    pub trie: &'c Trie,
    pub mount: &'c Mount,
    pub captures: Captures,
    pub hosts: HostParams,
}

impl<'c> Mounted<'c> {
    pub(super) fn need(&self, head: &Head) -> Result<Need, Refusal> {
        let need = self.mount.kind.need();
        if need != Need::Nothing {
            Media::of(&head.headers)?.refuse_encoded(&head.headers)?;
        }
        Ok(need)
    }

    /// The operation as long as the body is not read.
    pub(super) fn unread(&self) -> &'c Arc<Operation> {
        &self.mount.fallback.write
    }

    /// Reads what is asked for: 1 to 64 intents.
    pub(super) fn read(&self, head: &Head, body: &[u8]) -> Result<Reading, Refusal> {
        let media = Media::of(&head.headers)?;
        let asks = self.mount.kind.read(head, &media, body).map_err(ambiguous)?;
        if asks.is_empty() || asks.len() > MOST {
            return Err(ambiguous(format!("the request asks for {} things; one to {MOST} can be judged", asks.len())));
        }
        let mut intents = SmallVec::with_capacity(asks.len());
        for ask in asks {
            intents.push(self.intent(head, ask)?);
        }
        Ok(Reading { intents, provider: Some(Arc::clone(&self.mount.provider)) })
    }

    fn intent(&self, head: &Head, ask: Ask<'_>) -> Result<Intent, Refusal> {
        let listed = |key: &str| self.trie.key(key).and_then(|at| self.entry.operations.get(at as usize));
        let (compiled, arguments) = if let Some(compiled) = listed(&ask.key) {
            (compiled, ask.inside.unwrap_or(ask.arguments))
        } else if let Some(compiled) = ask.general.and_then(listed) {
            (compiled, ask.arguments)
        } else {
            // What nobody lists is judged too, and may not have two readings either.
            if let Arguments::Written(text) = ask.arguments {
                json::check(text).map_err(ambiguous)?;
            }
            let operation = match ask.effect {
                Effect::Read => &self.mount.fallback.read,
                Effect::Delete => &self.mount.fallback.delete,
                Effect::Write | Effect::Admin | Effect::Execute => &self.mount.fallback.write,
            };
            return Ok(Intent { operation: Arc::clone(operation), params: Params::default() });
        };
        let params = self.params(head, compiled, &arguments)?;
        Ok(Intent { operation: Arc::clone(&compiled.operation), params })
    }

    fn params(&self, head: &Head, compiled: &Compiled, arguments: &Arguments<'_>) -> Result<Params, Refusal> {
        let mut params = Params::default();
        let (mut taken, elsewhere) = arguments.given(compiled).map_err(ambiguous)?;
        for declared in compiled.declared.iter().filter(|d| d.from == Origin::Path) {
            if let Some(value) = self.captured(head, &declared.name) {
                params.push(Arc::clone(&declared.name), declared.text(value));
            } else if let Some((_, value)) = elsewhere.iter().find(|(key, _)| **key == *declared.name) {
                // From another binding's path; here it stands among the arguments.
                params.push(Arc::clone(&declared.name), declared.json(value.clone()));
            }
        }
        for (name, value) in &self.hosts {
            params.push(Arc::clone(name), Param::Text(value.clone()));
        }
        taken.sort_by_key(|(at, _)| *at);
        for (at, value) in taken {
            if let Some(declared) = compiled.declared.get(usize::from(at)) {
                params.push(Arc::clone(&declared.name), declared.json(value));
            }
        }
        for (key, value) in elsewhere {
            let folded = query::fold(&key);
            if let Some(declared) = compiled.declared.iter().find(|d| d.is_outside() && *d.folded == *folded) {
                declared.compare(&params, &value, "body")?;
            }
        }
        Ok(params)
    }

    /// The value of a parameter of the reader's path.
    fn captured<'h>(&self, head: &'h Head, name: &str) -> Option<Cow<'h, str>> {
        let at = self.mount.names.iter().position(|n| **n == *name)?;
        let range = self.captures.get(at)?;
        head.path.raw().get(range.start as usize..range.end as usize).map(Path::decode)
    }
}

impl Arguments<'_> {
    fn given(&self, compiled: &Compiled) -> Result<Given, String> {
        let nothing = Plan::default();
        let plan = if let BodyPlan::Json(plan) = &compiled.body { plan } else { &nothing };
        let outside = |folded: &str| compiled.declared.iter().any(|d| d.is_outside() && *d.folded == *folded);
        match self {
            Self::Built(value) => {
                let twins = value.as_object().into_iter().flatten().filter(|(key, _)| outside(&query::fold(key)));
                Ok((plan.take(value)?, twins.map(|(k, v)| (k.as_str().into(), v.clone())).collect()))
            }
            Self::Written(text) => json::read(text.as_bytes(), plan, &outside).map(|taken| (taken.params, taken.watched)),
        }
    }
}

impl Declared {
    /// Whether its value comes from outside the body.
    fn is_outside(&self) -> bool {
        matches!(self.from, Origin::Path | Origin::Host)
    }
}

#[cfg(test)]
mod tests;
