//! `remit intents`: what the catalogs know, and what a request means to them.

mod batch;
mod coverage;
mod find;
mod import;
mod print;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use crate::{
    call::Effect,
    config::CatalogSource,
    intent::{Catalog, import as import_from},
};

/// Intents: what requests mean, and the operations that catalogs list
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  remit intents match GET https://api.github.com/repos/acme/web/issues
  remit intents match --input calls.jsonl --output json
  remit intents search \"label issue\"
  remit intents show github.issues.add-labels
  remit intents import api.json --provider acme -o catalog/acme.yaml
  remit intents coverage api.json")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what a request means: its intent and parameters
    Match(MatchArgs),
    /// List operations
    List(ListArgs),
    /// Find operations by words: "label issue"
    Search(SearchArgs),
    /// Show one operation, and a grant for it to paste
    Show(ShowArgs),
    /// Make a catalog from a vendor's own description
    Import(ImportArgs),
    /// Make a request for every operation of a description, and see what each is taken for
    Coverage(CoverageArgs),
}

/// Which catalogs are read.
#[derive(Debug, ClapArgs)]
struct Sources {
    /// A catalog file to read beside those that ship (may be repeated)
    #[arg(long, value_name = "FILE")]
    catalog: Vec<PathBuf>,
    /// Leave out the catalogs that ship
    #[arg(long)]
    no_builtin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  remit intents match POST https://api.github.com/repos/acme/web/issues -d '{\"title\": \"Broken\"}'
  remit intents match --catalog catalog/acme.yaml --input calls.jsonl --output json

The input of a batch is one JSON object a line: {\"method\", \"url\", \"headers\", \"body\"}.
Exit code 1: the request is refused, or no catalog lists what it asks for.")]
struct MatchArgs {
    #[arg(required_unless_present = "input", requires = "url")]
    method: Option<String>,
    url: Option<String>,
    /// A header field, `Name: value` (may be repeated)
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The body
    #[arg(short = 'd', long = "data", value_name = "BODY")]
    data: Option<String>,
    /// Read requests from a file, one JSON object a line; `-` is standard input
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["method", "headers", "data"])]
    input: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Example: remit intents list github --effect admin")]
struct ListArgs {
    /// Only of this provider
    provider: Option<String>,
    /// Only of this effect: read, write, delete, admin, execute
    #[arg(long, value_parser = effect)]
    effect: Option<Effect>,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Example: remit intents search \"label issue\"")]
struct SearchArgs {
    #[arg(required = true)]
    words: Vec<String>,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Example: remit intents show github.issues.create")]
struct ShowArgs {
    id: String,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  remit intents import api.json --provider acme -o catalog/acme.yaml
  remit intents import openapi.yaml --host api.acme.example --overlay acme.overlay.yaml
  remit intents import schema.graphql --provider acme --host api.acme.example/graphql -o acme.yaml
  remit intents import tools.json --provider acme --host mcp.acme.example/mcp -o acme.yaml
  remit intents import acme.binpb --provider acme --host grpc.acme.example -o acme.yaml
  remit intents import botocore/data/sqs/2012-11-05/service-2.json.gz -o sqs.yaml
  remit intents import discovery_cache/documents -o catalogs/

Effects and labels that were guessed from a name are marked `uncertain: true`; an overlay corrects them.")]
struct ImportArgs {
    /// The description: OpenAPI, GraphQL (SDL, or the answer to an introspection query), a protobuf
    /// descriptor set, an MCP server's answer to tools/list, an A2A agent card, a Google discovery
    /// document, an AWS service model; compressed with gzip or not; or a folder of such files
    source: PathBuf,
    /// The provider's id; ids of operations begin with it
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// What the source is written in; without it, what it looks like
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The host, where the description names none; for GraphQL and MCP with the path behind it
    #[arg(long)]
    host: Option<String>,
    /// Corrections to what is derived
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
    /// How the source is named in the catalog; without it, its file name
    #[arg(long, value_name = "TEXT")]
    source_name: Option<String>,
    /// Where the catalog is written; without it, to standard output. For a folder of descriptions a
    /// folder of catalogs, or one file that ends in `.pack`
    #[arg(short = 'o', long = "output-file", value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  remit intents coverage openapi.yaml
  remit intents coverage api.json --catalog catalog/acme.yaml --output json
  remit intents coverage botocore/data --shipped

An operation is right when each of its requests is taken for it and nothing else; wrong: for another; unmatched: for
none; ambiguous: the request is refused, or the description gives two operations the same requests.
Exit code 1: not every operation is right.")]
struct CoverageArgs {
    /// The description, in any format that can be imported, or a folder of descriptions
    source: PathBuf,
    /// A catalog to find the operations in, instead of the one made of the description (may be repeated)
    #[arg(long, value_name = "FILE")]
    catalog: Vec<PathBuf>,
    /// Find the operations in the catalogs that ship
    #[arg(long)]
    shipped: bool,
    /// The provider's id, as for import
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// What the source is written in; without it, what it looks like
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The host, where the description names none
    #[arg(long)]
    host: Option<String>,
    /// How many examples of each kind of miss are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    examples: usize,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// What a description may be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// OpenAPI 3, JSON or YAML
    Openapi,
    /// GraphQL's schema language, or the answer to an introspection query
    Graphql,
    /// An MCP server's answer to tools/list (and resources/list, prompts/list)
    Mcp,
    /// A protobuf descriptor set: protoc --include_imports --descriptor_set_out
    Protobuf,
    /// An A2A agent card
    A2a,
    /// A Google discovery document
    Discovery,
    /// An AWS service model of botocore's
    Aws,
}

impl From<Format> for import_from::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Openapi => Self::Openapi,
            Format::Graphql => Self::Graphql,
            Format::Mcp => Self::Mcp,
            Format::Protobuf => Self::Protobuf,
            Format::A2a => Self::A2a,
            Format::Discovery => Self::Discovery,
            Format::Aws => Self::Aws,
        }
    }
}

/// How a command ended: the exit codes of every `remit` command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ok = 0,
    No = 1,
    Usage = 2,
    Failed = 3,
}

/// A command's output, where tests can look at it.
struct Terminal<'w> {
    out: &'w mut dyn Write,
    err: &'w mut dyn Write,
}

/// Runs `remit intents …`.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    let (stdout, stderr) = (io::stdout().lock(), io::stderr().lock());
    let (mut out, mut err) = (io::BufWriter::new(stdout), stderr);
    let end = execute(args, &mut Terminal { out: &mut out, err: &mut err });
    // A reader that went away (`| head`) is no failure of ours.
    match (end, out.flush()) {
        (Ok(end), Ok(())) => ExitCode::from(end as u8),
        (Err(e), _) | (_, Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => ExitCode::from(End::Failed as u8),
    }
}

fn execute(args: Args, to: &mut Terminal<'_>) -> io::Result<End> {
    match args.command {
        Command::Match(args) => batch::run(&args, to),
        Command::List(args) => find::list(&args, to),
        Command::Search(args) => find::search(&args, to),
        Command::Show(args) => find::show(&args, to),
        Command::Import(args) => import::run(&args, to),
        Command::Coverage(args) => coverage::run(&args, to),
    }
}

impl Sources {
    /// Loads the catalogs, or says what is wrong with them.
    fn load(&self, to: &mut Terminal<'_>) -> io::Result<Option<Catalog>> {
        let builtin = if self.no_builtin { None } else { Some(CatalogSource::Builtin) };
        let sources: Vec<_> = builtin.into_iter().chain(self.catalog.iter().cloned().map(CatalogSource::File)).collect();
        match Catalog::load(&sources) {
            Ok(catalog) => Ok(Some(catalog)),
            Err(problems) => {
                for problem in &problems.0 {
                    writeln!(to.err, "{}", print::safe(&problem.to_string()))?;
                }
                Ok(None)
            }
        }
    }
}

fn effect(text: &str) -> Result<Effect, String> {
    Effect::ALL.into_iter().find(|e| e.as_str() == text).ok_or_else(|| "one of read, write, delete, admin, execute".to_owned())
}

#[cfg(test)]
mod tests;
