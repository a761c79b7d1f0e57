//! A folder of descriptions: botocore's data, the discovery documents of Google's client.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use crate::{intent::pack, problem::Problem};

use super::{Draft, Format, MAX_DESCRIPTION, Source, draft, first, merge, write};

/// How many files a folder may hold.
const MAX_FILES: usize = 20_000;

/// How deep folders may lie in one another.
const MAX_DEPTH: usize = 8;

/// An AWS model's name in botocore's data.
const MODEL: &str = "service-2.json";
const RULES: &str = "endpoint-rule-set-1.json";

/// What lies beside an AWS model.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The rules of its endpoints: name and content.
    pub rules: Option<(String, Vec<u8>)>,
    /// The service's folder.
    pub folder: Option<String>,
}

/// The catalogs made of a folder.
#[derive(Debug)]
pub struct Tree {
    pub groups: Vec<Group>,
    /// Files that are no description.
    pub skipped: usize,
    /// Ids that no request tells from another's, and that one.
    pub twins: Vec<(String, String)>,
}

/// One catalog: everything that shares hosts.
#[derive(Debug)]
pub struct Group {
    /// `aws-s3`: what its file is called.
    pub name: String,
    pub text: String,
    pub operations: usize,
    pub uncertain: usize,
}

impl Beside {
    /// What lies beside a description; nothing where it is none of AWS's.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn of(path: &Path) -> Result<Self, Problem> {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let Some(parent) = path.parent().filter(|_| name.starts_with(MODEL)) else { return Ok(Self::default()) };
        let mut rules = None;
        for file in [RULES.to_owned(), format!("{RULES}.gz")].iter().map(|n| parent.join(n)).filter(|p| p.is_file()) {
            let shown = file.display().to_string();
            rules = Some((shown.clone(), expand(&shown, &read(&file)?)?.into_owned()));
        }
        let is_date = parent.file_name().and_then(|n| n.to_str()).is_some_and(is_date);
        let folder = parent.parent().filter(|_| is_date).and_then(|p| p.file_name()).and_then(|n| n.to_str()).map(str::to_owned);
        Ok(Self { rules, folder })
    }
}

/// `2006-03-01`.
fn is_date(name: &str) -> bool {
    name.len() == 10 && name.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

impl Tree {
    /// Makes catalogs of every description in a folder.
    ///
    /// # Errors
    /// The first description that is wrong, with its file and place in it.
    pub fn import(root: &Path, provider: Option<&str>) -> Result<Self, Problem> {
        let mut files = Vec::new();
        walk(root, 0, &mut files)?;
        let files = newest(files);
        let mut drafts: Vec<Draft> = Vec::new();
        let mut skipped = 0;
        for path in &files {
            match one(root, path, provider)? {
                Some(draft) => drafts.push(draft),
                None => skipped += 1,
            }
        }
        if drafts.is_empty() {
            return Err(Problem::new("no file in this folder is a description").at(root, None));
        }
        drafts.sort_by(|a, b| {
            a.provider.cmp(&b.provider).then_with(|| group_of(a).cmp(group_of(b))).then_with(|| rank(&b.version).cmp(&rank(&a.version)))
        });
        let (mut groups, mut twins) = (Vec::new(), Vec::new());
        for group in merge::group(drafts) {
            let (draft, found) = merge::merge(group);
            twins.extend(found);
            let name = format!("{}-{}", draft.provider, group_of(&draft));
            let text = write::bare(&draft);
            crate::intent::Catalog::parse(&name, &text).map_err(first)?;
            let uncertain = draft.operations.iter().filter(|o| o.uncertain).count();
            groups.push(Group { name, text, operations: draft.operations.len(), uncertain });
        }
        Ok(Self { groups, skipped, twins })
    }

    /// All catalogs in one compressed file, of which Remit reads only what it needs.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        pack::write(self.groups.iter().map(|g| g.text.as_str()))
    }
}

/// The API that a draft is of.
fn group_of(draft: &Draft) -> &str {
    draft.operations.first().and_then(|o| o.id.split('.').nth(1)).unwrap_or("")
}

/// The newest version that is no preview first: `v3`, `v2`, `v4beta1`, `v1alpha`.
fn rank(version: &str) -> (u8, Vec<u32>) {
    let stage = match version {
        v if v.contains("alpha") => 0,
        v if v.contains("beta") => 1,
        v if v.contains('p') || v.contains("eap") => 2,
        _ => 3,
    };
    let numbers = version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    (stage, numbers)
}

/// One file; None when it is no description.
fn one(root: &Path, path: &Path, provider: Option<&str>) -> Result<Option<Draft>, Problem> {
    let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let bytes = read(path)?;
    let bytes = expand(&shown, &bytes)?;
    let beside = Beside::of(path)?;
    let format = Format::of(&bytes);
    let known = match format {
        Format::Openapi => ["openapi", "swagger"].iter().any(|w| std::str::from_utf8(&bytes).is_ok_and(|t| t.contains(w))),
        Format::Discovery | Format::Aws => true,
        Format::Graphql | Format::Mcp | Format::Protobuf | Format::A2a => false,
    };
    if !known {
        return Ok(None);
    }
    let source = Source { name: &shown, bytes: &bytes, provider, format: Some(format), host: None, overlay: None, beside: Some(&beside) };
    // Google describes an API or two without methods.
    draft(source).map(|d| Some(d).filter(|d| !d.operations.is_empty())).map_err(|p| Problem { file: Some(shown.into()), ..p })
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Problem> {
    let fail = |e: std::io::Error| Problem::new(format!("cannot be read: {e}")).at(folder, None);
    if depth > MAX_DEPTH {
        return Err(Problem::new(format!("folders lie more than {MAX_DEPTH} deep in one another")).at(folder, None));
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).map_err(fail)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(fail)?;
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("").to_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if [".json", ".yaml", ".yml"].iter().any(|e| plain.ends_with(e)) {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(Problem::new(format!("there are more than {MAX_FILES} files")).at(folder, None));
        }
    }
    Ok(())
}

/// Of AWS models the newest version alone, as its clients use it, and none of the files beside it.
fn newest(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_model = |p: &Path| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(MODEL));
    let models: Vec<PathBuf> = files.iter().filter(|p| is_model(p)).cloned().collect();
    if models.is_empty() {
        return files;
    }
    let service = |p: &Path| p.parent().and_then(Path::parent).map(Path::to_owned);
    // Sorted, so the last of a service is its newest.
    models
        .iter()
        .enumerate()
        .filter(|(i, p)| models.get(i + 1).is_none_or(|next| service(next) != service(p)))
        .map(|(_, p)| p.clone())
        .collect()
}

/// Reads a file, but no more of it than an import takes.
fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let fail = |e: std::io::Error| Problem::new(format!("cannot be read: {e}")).at(path, None);
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(MAX_DESCRIPTION + 1).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

/// The content of a description that may be compressed with gzip (RFC 1952), within bounds.
///
/// # Errors
/// One that is too large, or that is not gzip as it says.
pub fn expand<'b>(name: &str, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, Problem> {
    let large = || Problem::new(format!("the description is larger than {} MiB", MAX_DESCRIPTION >> 20)).at(name, None);
    if bytes.len() as u64 > MAX_DESCRIPTION {
        return Err(large());
    }
    if !bytes.starts_with(b"\x1f\x8b") {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut plain = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(bytes).take(MAX_DESCRIPTION + 1);
    reader.read_to_end(&mut plain).map_err(|e| Problem::new(format!("the description is not gzip as it says: {e}")).at(name, None))?;
    if plain.len() as u64 > MAX_DESCRIPTION {
        return Err(large());
    }
    Ok(Cow::Owned(plain))
}
