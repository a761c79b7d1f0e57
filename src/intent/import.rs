//! Vendors' own API descriptions to catalogs (`remit intents import`).
//!
//! The output depends on nothing but the description and the overlay, names where it came from,
//! and marks every effect or label that was guessed from a name.

mod derive;
mod openapi;
mod overlay;
mod resolve;
mod write;

use crate::{
    call::{Effect, Label},
    problem::Problem,
};

pub use overlay::Overlay;

/// The largest description that is read, in bytes.
pub const MAX_DESCRIPTION: u64 = 64 << 20;

/// The most operations that one description may have.
const MAX_OPERATIONS: usize = 50_000;

/// What to import, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Where it came from, as it stands in the catalog's header: a file name, a package.
    pub name: &'a str,
    pub bytes: &'a [u8],
    /// The provider's id; without one, the first label of the host that says something.
    pub provider: Option<&'a str>,
    /// The host, for a description that names none.
    pub host: Option<&'a str>,
    pub overlay: Option<&'a Overlay>,
}

/// A catalog made from a description.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The catalog file.
    pub text: String,
    pub provider: String,
    pub operations: usize,
    /// How many have a guessed effect or label.
    pub uncertain: usize,
}

/// A description as a catalog to be.
#[derive(Debug)]
struct Draft {
    provider: String,
    version: String,
    hosts: Vec<String>,
    operations: Vec<DraftOperation>,
}

#[derive(Debug)]
struct DraftOperation {
    id: String,
    method: String,
    /// With `{name}` and `{+name}`, base path included.
    path: String,
    effect: Effect,
    labels: Vec<Label>,
    uncertain: bool,
    query: Vec<String>,
    body: DraftBody,
    content: Vec<String>,
    reserved: Vec<String>,
    follows: Vec<String>,
    /// Its own, when it is not served where the others are.
    hosts: Vec<String>,
}

#[derive(Debug, PartialEq)]
enum DraftBody {
    Undeclared,
    Stream,
    /// Parameter → JSON pointer.
    Json(Vec<(String, String)>),
}

/// Makes a catalog from an OpenAPI 3 description, JSON or YAML.
///
/// # Errors
/// What is wrong in the description, at its JSON pointer.
pub fn import(source: Source<'_>) -> Result<Imported, Problem> {
    if source.bytes.len() as u64 > MAX_DESCRIPTION {
        return Err(Problem::new(format!("the description is larger than {} MiB", MAX_DESCRIPTION >> 20)).at(source.name, None));
    }
    let document = parse(source)?;
    let mut draft = openapi::draft(&document, source.provider, source.host).map_err(|p| Problem { file: Some(source.name.into()), ..p })?;
    if let Some(overlay) = source.overlay {
        overlay.apply(&mut draft.operations)?;
    }
    draft.operations.sort_by(|a, b| a.id.cmp(&b.id));
    let digest = ring::digest::digest(&ring::digest::SHA256, source.bytes);
    let text = write::catalog(&draft, source.name, digest.as_ref(), source.overlay);
    // What was written is read back before anyone relies on it.
    super::Catalog::parse(&format!("{} (imported)", source.name), &text).map_err(first)?;
    let uncertain = draft.operations.iter().filter(|o| o.uncertain).count();
    Ok(Imported { text, operations: draft.operations.len(), uncertain, provider: draft.provider })
}

fn parse(source: Source<'_>) -> Result<serde_json::Value, Problem> {
    let fail = |line: usize, message: String| Problem::new(message).at(source.name, Some(line));
    let text = std::str::from_utf8(source.bytes).map_err(|_| Problem::new("the description is not UTF-8").at(source.name, None))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|e| fail(e.line(), format!("the description is not JSON: {e}")));
    }
    serde_yaml::from_str(text).map_err(|e| fail(e.location().map_or(1, |l| l.line()), format!("the description is not YAML: {e}")))
}

fn first(problems: crate::problem::Problems) -> Problem {
    problems.0.into_iter().next().unwrap_or_else(|| Problem::new("the catalog made from the description does not load"))
}
