//! A catalog file as it is written, and the strict reading of one.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::{
    call::{Effect, ErrorForm, Label},
    problem::{Problem, nearest},
};

use super::lines;

/// The largest catalog file that is read, in bytes.
pub(super) const MAX_FILE: u64 = 64 << 20;

/// One catalog file: a provider, or a part of one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSpec {
    pub provider: String,
    /// Hosts that serve every operation which names none of its own.
    #[serde(default)]
    pub hosts: Vec<String>,
    pub credential: Option<String>,
    pub errors: Option<ErrorForm>,
    /// The user as whom a bearer credential is sent in HTTP's basic authentication instead.
    pub basic: Option<String>,
    /// Parameters that the vendor compares without regard to case.
    #[serde(default)]
    pub fold: Vec<String>,
    /// Which media types the vendor reads as JSON.
    #[serde(default)]
    pub body_type: BodyType,
    #[serde(default)]
    pub operations: Vec<OperationSpec>,
    /// What finds operations in bodies: `{graphql: /graphql}`, the reader's word first.
    #[serde(default)]
    pub readers: Vec<Pairs>,
    /// Old id → present id.
    #[serde(default)]
    pub was: Pairs,
}

/// Which media types of a body the vendor reads as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BodyType {
    /// `application/json`, `+json`, or none given.
    #[default]
    Json,
    /// Whatever the `Content-Type` says.
    Any,
}

/// One operation, one line of facts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationSpec {
    pub id: String,
    #[serde(rename = "match")]
    pub matches: OneOrMany,
    /// More of them, whose bodies are never read: uploads.
    #[serde(default)]
    pub streams: OneOrMany,
    pub effect: Effect,
    #[serde(default)]
    pub labels: Vec<Label>,
    /// `name`, `name[]` for a list, `param=name` where the parameter is called otherwise.
    #[serde(default)]
    pub query: Vec<String>,
    #[serde(default)]
    pub body: BodySpec,
    /// Parameters that the vendor takes from the query or from the body, written as in `query`.
    #[serde(default)]
    pub either: Vec<String>,
    /// Media types that are taken beside JSON, without parameters from the body.
    #[serde(default)]
    pub content: Vec<String>,
    /// Path parameters in which `%2F` may stand.
    #[serde(default)]
    pub reserved: Vec<String>,
    #[serde(default)]
    pub follows: Vec<String>,
    #[serde(default)]
    pub upgrade: Vec<String>,
    pub credential: Option<NoCredential>,
    #[serde(default)]
    pub limit: Class,
    /// Hosts that serve this operation instead of the file's.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The importer guessed the effect or a label; someone should look.
    #[serde(default)]
    pub uncertain: bool,
}

/// How large a body may be that is read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// `limits.body.default`.
    #[default]
    Default,
    /// `limits.body.llm`: prompts with images are tens of MiB.
    Llm,
}

/// `credential: none`: the operation takes none, so none is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NoCredential {
    None,
}

/// What an operation's body holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum BodySpec {
    /// Nothing that anyone declared: a JSON body is still looked at for names of parameters.
    #[default]
    Undeclared,
    /// Never read (`body: stream`): uploads, packs.
    Stream,
    /// A call to a model (`body: llm`), whose parameters are known.
    Llm,
    /// Parameter → JSON pointer (RFC 6901).
    Json(Pairs),
}

/// A mapping of text to text, in the order written; a key given twice is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pairs(pub Vec<(String, String)>);

/// One text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pairs, A::Error> {
                pairs(map)
            }
        }
        d.deserialize_map(V)
    }
}

impl<'de> Deserialize<'de> for BodySpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = BodySpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`stream`, `llm`, or a mapping of parameters to JSON pointers")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<BodySpec, E> {
                match text {
                    "stream" => Ok(BodySpec::Stream),
                    "llm" => Ok(BodySpec::Llm),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BodySpec, A::Error> {
                pairs(map).map(BodySpec::Json)
            }
        }
        d.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text such as \"GET /items/{id}\", or a list of them")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = seq.next_element()? {
                    all.push(text);
                }
                Ok(OneOrMany(all))
            }
        }
        d.deserialize_any(V)
    }
}

fn pairs<'de, A: MapAccess<'de>>(mut map: A) -> Result<Pairs, A::Error> {
    let mut all: Vec<(String, String)> = Vec::new();
    while let Some((key, value)) = map.next_entry::<String, String>()? {
        if all.iter().any(|(k, _)| *k == key) {
            return Err(A::Error::custom(format_args!("the key `{key}` stands twice")));
        }
        all.push((key, value));
    }
    Ok(Pairs(all))
}

/// A catalog file with its text, so that problems can name a line.
#[derive(Debug)]
pub(super) struct Source<'t> {
    pub file: PathBuf,
    pub text: &'t str,
    pub spec: FileSpec,
}

impl<'t> Source<'t> {
    /// Reads the text of one catalog file.
    pub(super) fn parse(file: &Path, text: &'t str) -> Result<Self, Problem> {
        if let Some(spec) = lines::read(text) {
            return Ok(Self { file: file.to_owned(), text, spec });
        }
        match serde_yaml::from_str::<FileSpec>(text) {
            Ok(spec) => Ok(Self { file: file.to_owned(), text, spec }),
            Err(e) => Err(explain(file, text, &e)),
        }
    }

    /// The line on which an operation is written, from 1.
    pub(super) fn line_of(&self, id: &str) -> Option<usize> {
        let is_it = |line: &str| {
            line.match_indices(id).any(|(at, _)| {
                let before = line.get(..at).unwrap_or("").trim_end_matches(['"', '\'', ' ']);
                let after = line.get(at + id.len()..).unwrap_or("").chars().next();
                before.ends_with("id:") && !after.is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
            })
        };
        self.text.lines().position(is_it).map(|i| i + 1)
    }

    /// A problem with one operation of this file.
    pub(super) fn problem(&self, id: &str, message: impl Into<String>) -> Problem {
        Problem::new(message).at(&self.file, self.line_of(id)).key(id)
    }

    /// `FILE:LINE` of an operation, to name the other of two.
    pub(super) fn place(&self, id: &str) -> String {
        self.line_of(id).map_or_else(|| self.file.display().to_string(), |line| format!("{}:{line}", self.file.display()))
    }
}

/// Turns a YAML error into a problem with its line, and the nearest key where one was unknown.
fn explain(file: &Path, text: &str, error: &serde_yaml::Error) -> Problem {
    let message = error.to_string();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let mut line = error.location().map(|l| l.line());
    let unknown = message.contains("unknown field `") || message.contains("unknown variant `");
    let message = match message.find(" at line ") {
        Some(at) => message.get(..at).unwrap_or(&message),
        None => &message,
    };
    let problem = Problem::new(message.strip_prefix("operations: ").unwrap_or(message));
    let Some((wrong, known)) = quoted.split_first().filter(|_| unknown) else { return problem.at(file, line) };
    // The parser reports where the mapping began; the word itself is on that line or below it.
    let start = line.unwrap_or(1).saturating_sub(1);
    if let Some(i) = text.lines().skip(start).position(|l| l.contains(wrong)) {
        line = Some(start + i + 1);
    }
    let problem = Problem::new(format!("`{wrong}` is not known here")).at(file, line).key(*wrong);
    match nearest(wrong, known.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("known here: {}", known.join(", "))),
    }
}
