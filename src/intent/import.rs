//! Vendors' own API descriptions to catalogs (`remit intents import`).
//!
//! The output depends on nothing but the description and the overlay, names where it came from,
//! and marks every effect or label that was guessed from a name.

mod collide;
mod derive;
mod document;
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
pub const MAX_DESCRIPTION: u64 = 96 << 20;

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
    /// How many were left out; the catalog's header says which, and why.
    pub left_out: usize,
}

/// A description as a catalog to be.
#[derive(Debug)]
struct Draft {
    provider: String,
    version: String,
    hosts: Vec<String>,
    operations: Vec<DraftOperation>,
    left_out: Vec<LeftOut>,
}

/// An operation that no request can be told to be for.
#[derive(Debug, Clone)]
struct LeftOut {
    /// Where in the description it stands.
    pointer: String,
    why: String,
}

#[derive(Debug)]
struct DraftOperation {
    id: String,
    /// As the catalog has them: `METHOD /path` with `{name}` and `{+name}`, base path included.
    matches: Vec<String>,
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

impl DraftOperation {
    /// An operation of which nothing more is known.
    fn new(id: String, matches: Vec<String>, effect: Effect) -> Self {
        Self {
            id,
            matches,
            effect,
            labels: Vec::new(),
            uncertain: false,
            query: Vec::new(),
            body: DraftBody::default(),
            content: Vec::new(),
            reserved: Vec::new(),
            follows: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

#[derive(Debug, Default, PartialEq)]
enum DraftBody {
    #[default]
    Undeclared,
    Stream,
    /// Parameter → JSON pointer.
    Json(Vec<(String, String)>),
}

/// Makes a catalog from a description: OpenAPI 3 or Swagger 2.0, JSON or YAML.
///
/// # Errors
/// What is wrong in the description, at its JSON pointer.
pub fn import(source: Source<'_>) -> Result<Imported, Problem> {
    if source.bytes.len() as u64 > MAX_DESCRIPTION {
        return Err(Problem::new(format!("the description is larger than {} MiB", MAX_DESCRIPTION >> 20)).at(source.name, None));
    }
    check_provider(source.provider)?;
    let document = document::read(source.name, source.bytes)?;
    let mut draft = openapi::draft(&document, source.provider, source.host).map_err(|p| Problem { file: Some(source.name.into()), ..p })?;
    // A tree takes several times its text.
    drop(document);
    if let Some(overlay) = source.overlay {
        overlay.apply(&mut draft.operations)?;
    }
    draft.operations.sort_by(|a, b| a.id.cmp(&b.id));
    let digest = ring::digest::digest(&ring::digest::SHA256, source.bytes);
    let text = write::catalog(&draft, source.name, digest.as_ref(), source.overlay);
    // What was written is read back before anyone relies on it.
    super::Catalog::parse(&format!("{} (imported)", source.name), &text).map_err(first)?;
    let uncertain = draft.operations.iter().filter(|o| o.uncertain).count();
    Ok(Imported { text, operations: draft.operations.len(), uncertain, left_out: draft.left_out.len(), provider: draft.provider })
}

fn check_provider(name: Option<&str>) -> Result<(), Problem> {
    let fits = |n: &str| {
        !n.is_empty() && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') && n != "unknown" && n != "tunnel"
    };
    match name.filter(|n| !fits(n)) {
        Some(name) => {
            Err(Problem::new(format!("`{name}` cannot name a provider")).key("--provider").help("use lower-case letters, digits and `-`"))
        }
        None => Ok(()),
    }
}

fn first(problems: crate::problem::Problems) -> Problem {
    problems.0.into_iter().next().unwrap_or_else(|| Problem::new("the catalog made from the description does not load"))
}
