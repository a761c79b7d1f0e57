//! Vendors' own API descriptions to catalogs (`remit intents import`).
//!
//! The output depends on nothing but the description and the overlay, names where it came from,
//! and marks every effect or label that was guessed from a name.

mod aws;
mod collide;
mod derive;
mod discovery;
mod document;
mod merge;
mod names;
mod openapi;
mod overlay;
mod resolve;
mod tree;
mod write;

use crate::{
    call::{Effect, Label},
    problem::Problem,
};

pub use overlay::Overlay;
pub use tree::{Beside, Group, Tree, expand};

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
    /// What lies beside an AWS model.
    pub beside: Option<&'a Beside>,
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
#[derive(Debug, Clone, Default)]
struct Draft {
    provider: String,
    version: String,
    hosts: Vec<String>,
    credential: Option<String>,
    errors: Option<String>,
    body_type: Option<String>,
    /// Word and path.
    readers: Vec<(String, String)>,
    /// Ids that no request tells from another's, and that one.
    was: Vec<(String, String)>,
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

impl Draft {
    fn new(provider: &str) -> Self {
        Self { provider: provider.to_owned(), ..Self::default() }
    }
}

#[derive(Debug, Clone)]
struct DraftOperation {
    id: String,
    /// As the catalog writes them, base paths included.
    matches: Vec<String>,
    /// Matches whose bodies are never read.
    streams: Vec<String>,
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
    /// Bodies may be tens of MiB.
    llm: bool,
}

impl DraftOperation {
    /// An operation of which nothing more is known.
    fn new(id: String, matches: Vec<String>, effect: Effect) -> Self {
        Self {
            id,
            matches,
            streams: Vec::new(),
            effect,
            labels: Vec::new(),
            uncertain: false,
            query: Vec::new(),
            body: DraftBody::default(),
            content: Vec::new(),
            reserved: Vec::new(),
            follows: Vec::new(),
            hosts: Vec::new(),
            llm: false,
        }
    }

    /// One whose effect and labels were derived, and whose matches follow.
    fn derived(id: String, derived: derive::Derived) -> Self {
        let derive::Derived { effect, labels, uncertain } = derived;
        Self { labels, uncertain, ..Self::new(id, Vec::new(), effect) }
    }

    fn all_matches(&self) -> impl Iterator<Item = &String> {
        self.matches.iter().chain(&self.streams)
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
enum DraftBody {
    #[default]
    Undeclared,
    Stream,
    /// Parameter → JSON pointer.
    Json(Vec<(String, String)>),
}

/// Makes a catalog from one description: OpenAPI 3 or Swagger 2.0 (JSON or YAML), a Google discovery document or an
/// AWS service model, which is told from its content.
///
/// # Errors
/// What is wrong in the description, at its JSON pointer.
pub fn import(source: Source<'_>) -> Result<Imported, Problem> {
    check_provider(source.provider)?;
    let bytes = expand(source.name, source.bytes)?;
    let document = document::read(source.name, &bytes)?;
    let draft = draft(&document, source).map_err(|p| Problem { file: Some(source.name.into()), ..p })?;
    if draft.operations.is_empty() {
        return Err(Problem::new("the description has no operations").at(source.name, None));
    }
    // A tree takes several times its text.
    drop(document);
    // What no request tells apart is settled as between descriptions.
    let (mut draft, _) = merge::merge(vec![draft]);
    if let Some(overlay) = source.overlay {
        overlay.apply(&mut draft.operations)?;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, source.bytes);
    let text = write::catalog(&draft, source.name, digest.as_ref(), source.overlay);
    // What was written is read back before anyone relies on it.
    super::Catalog::parse(&format!("{} (imported)", source.name), &text).map_err(first)?;
    let uncertain = draft.operations.iter().filter(|o| o.uncertain).count();
    Ok(Imported { text, operations: draft.operations.len(), uncertain, left_out: draft.left_out.len(), provider: draft.provider })
}

/// Reads a description of whatever kind.
fn draft(document: &serde_json::Value, source: Source<'_>) -> Result<Draft, Problem> {
    if aws::is_model(document) {
        let rules = match source.beside.and_then(|b| b.rules.as_ref()) {
            Some((name, bytes)) => Some(document::read(name, bytes)?),
            None => None,
        };
        let folder = source.beside.and_then(|b| b.folder.as_deref());
        return aws::draft(aws::Model { model: document, rules: rules.as_ref(), folder, provider: source.provider });
    }
    if discovery::is_document(document) {
        return discovery::draft(document, source.provider);
    }
    openapi::draft(document, source.provider, source.host)
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
