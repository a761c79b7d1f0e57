//! Catalogs that ship by the hundred, compressed, each compiled when one of its hosts is first called.
//!
//! A pack is an index (hosts and groups of ids → chunk), the names of all parameters, and the chunks:
//! catalogs as text, each compressed by itself. Start reads the index alone. What was compiled
//! stays: the pack bounds how much that can be.

use std::{
    collections::{BTreeSet, HashMap},
    io::{Read, Write},
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use smallvec::SmallVec;

use crate::call::{ErrorForm, Host, Provider};

use super::{
    aws::{Form, MOST_WILD, is_formed},
    build, builtin,
    catalog::Catalog,
    hosts,
    pattern::Pattern,
    spec::Source,
};

const MAGIC: &[u8; 8] = b"remitpk1";

/// The largest chunk once it is decompressed, and the largest index: what ships is far below.
const MAX_PART: u64 = 32 << 20;

/// All packs of a catalog.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    chunks: Vec<Chunk>,
    /// A host as catalogs write it, with `{}` for a parameter → chunk.
    hosts: HashMap<Box<str>, u32, ahash::RandomState>,
    /// `aws.s3` → chunk.
    groups: HashMap<Box<str>, u32, ahash::RandomState>,
    providers: Vec<Arc<Provider>>,
    /// The compressed names of parameters.
    names: Vec<&'static [u8]>,
}

#[derive(Debug)]
struct Chunk {
    bytes: &'static [u8],
    provider: u32,
    /// None once it turned out to be broken.
    catalog: OnceLock<Option<Box<Catalog>>>,
}

impl Shelf {
    /// Adds a pack; None when it is none.
    pub(super) fn add(&mut self, pack: &'static [u8]) -> Option<()> {
        let rest = pack.strip_prefix(MAGIC.as_slice())?;
        let (index, rest) = part(rest)?;
        let (names, chunks) = part(rest)?;
        self.names.push(names);
        let index = inflate(index)?;
        for line in index.lines() {
            let mut fields = line.split('\t');
            match fields.next()? {
                "provider" => {
                    let (id, credential, errors) = (fields.next()?, fields.next()?, fields.next()?);
                    let errors: ErrorForm = serde_json::from_value(errors.into()).ok()?;
                    self.providers.push(Arc::new(Provider {
                        id: id.into(),
                        credential: Some(credential.into()).filter(|_| !credential.is_empty()),
                        errors,
                        basic: Default::default(),
                    }));
                }
                "chunk" => {
                    let (from, to): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
                    let at = self.chunks.len() as u32;
                    let provider = (self.providers.len() as u32).checked_sub(1)?;
                    self.chunks.push(Chunk { bytes: chunks.get(Range { start: from, end: to })?, provider, catalog: OnceLock::new() });
                    self.groups.extend(fields.next()?.split(',').map(|g| (Box::from(g), at)));
                    self.hosts.extend(fields.next()?.split(',').map(|h| (Box::from(h), at)));
                }
                _ => return None,
            }
        }
        Some(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The catalog that lists a host, compiled if need be.
    pub(super) fn catalog(&self, host: &Host) -> Option<&Catalog> {
        self.compiled(self.chunk(host)?)
    }

    /// The provider that a host belongs to; compiles nothing.
    pub(super) fn provider(&self, host: &Host) -> Option<&Arc<Provider>> {
        self.providers.get(self.chunks.get(self.chunk(host)? as usize)?.provider as usize)
    }

    /// The catalog that lists an id, or did before it was renamed.
    pub(super) fn with_id(&self, id: &str) -> Option<&Catalog> {
        let end = id.match_indices('.').nth(1)?.0;
        self.compiled(*self.groups.get(id.get(..end)?)?)
    }

    /// The groups of ids (`aws.s3`) that begin with a text, or with which it begins.
    pub(super) fn groups<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let fits =
            move |g: &&str| g.starts_with(prefix) || (prefix.starts_with(g) && prefix.get(g.len()..).is_some_and(|r| r.starts_with('.')));
        self.groups.keys().map(|g| &**g).filter(fits)
    }

    /// A group's name, as the shelf holds it.
    pub(super) fn group(&self, name: &str) -> Option<&str> {
        self.groups.get_key_value(name).map(|(name, _)| &**name)
    }

    /// The catalog of a group.
    pub(super) fn with_group(&self, group: &str) -> Option<&Catalog> {
        self.compiled(*self.groups.get(group)?)
    }

    /// Every catalog, compiled.
    pub(super) fn all(&self) -> impl Iterator<Item = &Catalog> {
        (0..self.chunks.len() as u32).filter_map(|at| self.compiled(at))
    }

    /// The catalogs of one provider, compiled.
    pub(super) fn of_provider<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Catalog> {
        let is_it = move |c: &&Chunk| self.providers.get(c.provider as usize).is_some_and(|p| *p.id == *id);
        self.chunks.iter().filter(is_it).filter_map(|c| c.catalog.get_or_init(|| compile(c.bytes)).as_deref())
    }

    pub(super) fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter()
    }

    /// Adds every name that a parameter has; compiles nothing.
    pub(super) fn parameter_names(&self, names: &mut BTreeSet<String>) {
        for text in self.names.iter().filter_map(|n| inflate(n)) {
            names.extend(text.lines().map(str::to_owned));
        }
    }

    fn chunk(&self, host: &Host) -> Option<u32> {
        if let Some(at) = self.hosts.get(host.as_str()) {
            return Some(*at);
        }
        let form = Form::of(host.as_str())?;
        let mut key = SmallVec::new();
        for wild in 0..=MOST_WILD {
            if form.key(wild, &mut key)
                && let Some(at) = self.hosts.get(std::str::from_utf8(&key).ok()?)
            {
                return Some(*at);
            }
        }
        None
    }

    fn compiled(&self, at: u32) -> Option<&Catalog> {
        let chunk = self.chunks.get(at as usize)?;
        chunk.catalog.get_or_init(|| compile(chunk.bytes)).as_deref()
    }
}

fn compile(bytes: &[u8]) -> Option<Box<Catalog>> {
    let text = inflate(bytes)?;
    let mut problems = Vec::new();
    let texts = [builtin::Text { file: "builtin".into(), text: text.into() }];
    let catalog = build::catalog(&texts, &mut problems);
    problems.is_empty().then(|| Box::new(catalog))
}

/// A part that begins with its length.
fn part(bytes: &'static [u8]) -> Option<(&'static [u8], &'static [u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn inflate(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    DeflateDecoder::new(bytes).take(MAX_PART).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Writes a pack of catalogs, each sound by itself.
pub(super) fn write<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<u8> {
    let (mut index, mut chunks) = (String::new(), Vec::new());
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut last = None;
    for text in texts {
        let Ok(source) = Source::parse(Path::new("pack"), text) else { continue };
        let spec = &source.spec;
        if last.as_ref() != Some(&spec.provider) {
            let errors = spec.errors.and_then(|e| serde_json::to_value(e).ok());
            let errors = errors.as_ref().and_then(serde_json::Value::as_str).unwrap_or("problem");
            index.push_str(&format!("provider\t{}\t{}\t{errors}\n", spec.provider, spec.credential.as_deref().unwrap_or("")));
            last = Some(spec.provider.clone());
        }
        let group = |id: &str| id.match_indices('.').nth(1).and_then(|(end, _)| id.get(..end)).map(str::to_owned);
        let groups: BTreeSet<String> =
            spec.operations.iter().map(|o| &*o.id).chain(spec.was.0.iter().map(|(old, _)| &**old)).filter_map(group).collect();
        let own = spec.operations.iter().flat_map(|o| o.matches.0.iter().chain(&o.streams.0)).filter_map(|m| Pattern::parse(m).ok()?.host);
        let written = spec.hosts.iter().chain(spec.operations.iter().flat_map(|o| &o.hosts)).filter_map(|h| hosts::parse_one(h).ok());
        let keys: BTreeSet<String> = written.chain(own).filter(|h| h.names.is_empty() || is_formed(&h.text)).map(|h| h.key()).collect();
        let from = chunks.len();
        chunks.extend(deflate(text));
        let list = |all: &BTreeSet<String>| all.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        index.push_str(&format!("chunk\t{from}\t{}\t{}\t{}\n", chunks.len(), list(&groups), list(&keys)));
        let mut problems = Vec::new();
        let catalog = build::catalog(&[builtin::Text { file: "pack".into(), text: text.to_owned().into() }], &mut problems);
        names.extend(catalog.parameter_names());
    }
    let mut pack = MAGIC.to_vec();
    for part in [index, names.into_iter().collect::<Vec<_>>().join("\n")] {
        let bytes = deflate(&part);
        pack.extend((bytes.len() as u32).to_le_bytes());
        pack.extend(bytes);
    }
    pack.extend(chunks);
    pack
}

fn deflate(text: &str) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default()
}
