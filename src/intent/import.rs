//! Vendors' own API descriptions to catalogs (`remit intents import`).
//!
//! The output depends on nothing but the description and the overlay, names where it came from,
//! and marks every effect or label that was guessed from a name.

mod a2a;
mod aws;
mod collide;
mod derive;
mod discovery;
mod document;
mod graphql;
mod mcp;
mod merge;
mod names;
mod openapi;
mod overlay;
mod protobuf;
mod resolve;
mod sniff;
mod tree;
mod write;

use crate::{
    call::{Effect, Label},
    problem::Problem,
};

pub use overlay::Overlay;
pub use sniff::Format;
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
    /// What it is written in; without it, what it looks like.
    pub format: Option<Format>,
    /// The host, for a description that names none; for GraphQL and MCP with the path behind it
    /// (`api.acme.example/graphql`).
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
    /// What no request can be told to be for: its place in the description, or its id, and why.
    pub indistinct: Vec<(String, String)>,
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
    /// Others that share its hosts borrow them.
    owns_hosts: bool,
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

/// Makes a catalog from a description in one of the [`Format`]s.
///
/// # Errors
/// What is wrong in the description, at its JSON pointer.
pub fn import(source: Source<'_>) -> Result<Imported, Problem> {
    check_provider(source.provider)?;
    let bytes = expand(source.name, source.bytes)?;
    let draft =
        draft(Source { bytes: &bytes, ..source }).map_err(|p| Problem { file: p.file.or_else(|| Some(source.name.into())), ..p })?;
    if draft.operations.is_empty() {
        return Err(Problem::new("the description has no operations").at(source.name, None));
    }
    // What no request tells apart is settled as between descriptions.
    let (mut draft, twins) = merge::merge(vec![draft]);
    if let Some(overlay) = source.overlay {
        overlay.apply(&mut draft.operations)?;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, source.bytes);
    let text = write::catalog(&draft, source.name, digest.as_ref(), source.overlay);
    // What was written is read back before anyone relies on it.
    super::Catalog::parse(&format!("{} (imported)", source.name), &text).map_err(first)?;
    let uncertain = draft.operations.iter().filter(|o| o.uncertain).count();
    let left_out = draft.left_out.len();
    let mut indistinct: Vec<(String, String)> = draft.left_out.into_iter().map(|l| (l.pointer, l.why)).collect();
    indistinct.extend(twins.into_iter().map(|(id, other)| (id, format!("its requests are those of `{other}`"))));
    Ok(Imported { text, operations: draft.operations.len(), uncertain, left_out, indistinct, provider: draft.provider })
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

fn draft(source: Source<'_>) -> Result<Draft, Problem> {
    let format = source.format.unwrap_or_else(|| Format::of(source.bytes));
    if format == Format::Protobuf {
        return protobuf::draft(source.bytes, source.provider, source.host);
    }
    if format == Format::Graphql && !source.bytes.trim_ascii_start().starts_with(b"{") {
        let text = std::str::from_utf8(source.bytes).map_err(|_| Problem::new("the description is not UTF-8"))?;
        return graphql::sdl(text, source.provider, source.host);
    }
    let document = document::read(source.name, source.bytes)?;
    match format {
        Format::Graphql => graphql::introspection(&document, source.provider, source.host),
        Format::Mcp => mcp::draft(&document, source.provider, source.host),
        Format::A2a => a2a::draft(&document, source.provider),
        Format::Discovery => discovery::draft(&document, source.provider),
        Format::Aws => {
            let rules = match source.beside.and_then(|b| b.rules.as_ref()) {
                Some((name, bytes)) => Some(document::read(name, bytes)?),
                None => None,
            };
            let folder = source.beside.and_then(|b| b.folder.as_deref());
            aws::draft(aws::Model { model: &document, rules: rules.as_ref(), folder, provider: source.provider })
        }
        Format::Openapi | Format::Protobuf => openapi::draft(&document, source.provider, source.host),
    }
}

/// Where a description that does not say so is served: host, and path or `path`.
fn address(host: Option<&str>, path: &str) -> Result<(String, String), Problem> {
    let Some(host) = host else {
        return Err(Problem::new("the description names no host").help(format!("give it with --host, such as api.acme.example{path}")));
    };
    let host = host.strip_prefix("https://").unwrap_or(host);
    Ok(host.find('/').map_or_else(|| (host.to_owned(), path.to_owned()), |at| (host[..at].to_owned(), host[at..].to_owned())))
}

fn first(problems: crate::problem::Problems) -> Problem {
    problems.0.into_iter().next().unwrap_or_else(|| Problem::new("the catalog made from the description does not load"))
}
