//! Catalog texts: those that ship inside the binary, and the user's files.

use std::{
    borrow::Cow,
    io::Read,
    path::{Path, PathBuf},
};

use crate::problem::Problem;

use super::spec::MAX_FILE;

/// A catalog file's name and text.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub file: PathBuf,
    pub text: Cow<'static, str>,
}

const SHIPPED: [(&str, &str); 13] = [
    ("builtin/anthropic.yaml", include_str!("../../config/catalog/anthropic.yaml")),
    ("builtin/figma.yaml", include_str!("../../config/catalog/figma.yaml")),
    ("builtin/github.yaml", include_str!("../../config/catalog/github.yaml")),
    ("builtin/github-git.yaml", include_str!("../../config/catalog/github-git.yaml")),
    ("builtin/github-graphql.yaml", include_str!("../../config/catalog/github-graphql.yaml")),
    ("builtin/kubernetes.yaml", include_str!("../../config/catalog/kubernetes.yaml")),
    ("builtin/linear.yaml", include_str!("../../config/catalog/linear.yaml")),
    ("builtin/notion.yaml", include_str!("../../config/catalog/notion.yaml")),
    ("builtin/npm.yaml", include_str!("../../config/catalog/npm.yaml")),
    ("builtin/openai.yaml", include_str!("../../config/catalog/openai.yaml")),
    ("builtin/pypi.yaml", include_str!("../../config/catalog/pypi.yaml")),
    ("builtin/slack.yaml", include_str!("../../config/catalog/slack.yaml")),
    ("builtin/stripe.yaml", include_str!("../../config/catalog/stripe.yaml")),
];

/// Those that ship compressed.
pub(super) const PACKS: [(&str, &[u8]); 2] = [
    ("builtin/aws.pack", include_bytes!("../../config/catalog/aws.pack")),
    ("builtin/google.pack", include_bytes!("../../config/catalog/google.pack")),
];

/// The catalogs that ship.
pub(super) fn texts() -> impl Iterator<Item = Text> {
    SHIPPED.iter().map(|(file, text)| Text { file: file.into(), text: Cow::Borrowed(*text) })
}

/// Reads a user's catalog.
pub(super) fn read_file(path: &Path) -> Result<Text, Problem> {
    let fail = |e: std::io::Error| Problem::new(format!("the catalog cannot be read: {e}")).at(path, None);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Problem::new(format!("the catalog is larger than {} MiB", MAX_FILE >> 20)).at(path, None));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Text { file: path.to_owned(), text: Cow::Owned(text) }),
        Err(e) => {
            let before = e.as_bytes().get(..e.utf8_error().valid_up_to()).unwrap_or(&[]);
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            Err(Problem::new("the catalog is not UTF-8").at(path, Some(line)))
        }
    }
}
