//! Where a secret's value is, and reading it.

use std::{ffi::OsString, fs, io, os::unix::fs::MetadataExt, path::Path};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::{config::SecretSource, problem::Problem, secret::Secret};

/// No credential is larger; a file that is, is the wrong file.
const LARGEST: u64 = 64 << 10;

/// A file's state when it was read; another state means it may hold another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The file's state now, symbolic links followed (Kubernetes swaps them to rotate a secret).
    fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// A secret of the configuration, read again when its file changes.
#[derive(Debug)]
pub(super) struct Watched {
    source: SecretSource,
    lines: Lines,
    value: ArcSwap<Secret<String>>,
    /// The file's state when it was last read whole; None for a variable.
    stamp: Mutex<Option<Stamp>>,
}

#[derive(Debug, Clone, Copy)]
enum Lines {
    One,
    Any,
}

/// Variables by name.
pub(super) type Env<'e> = &'e dyn Fn(&str) -> Option<OsString>;

impl Watched {
    /// One line of visible ASCII: what a header can carry.
    pub(super) fn line(source: &SecretSource, env: Env<'_>) -> Result<Self, Problem> {
        Self::new(source, Lines::One, env)
    }

    /// Any text, such as a key in PEM.
    pub(super) fn text(source: &SecretSource, env: Env<'_>) -> Result<Self, Problem> {
        Self::new(source, Lines::Any, env)
    }

    fn new(source: &SecretSource, lines: Lines, env: Env<'_>) -> Result<Self, Problem> {
        // Before the value, so that a change between the two is seen as one.
        let stamp = stamp_of(source);
        let value = lines.read(source, env)?;
        Ok(Self { source: source.clone(), lines, value: ArcSwap::from_pointee(value), stamp: Mutex::new(stamp) })
    }

    /// The value in force.
    pub(super) fn with<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        read(self.value.load().expose())
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.source, SecretSource::File(_))
    }

    /// Reads the file again if it changed; true when another value is in force. `fits` says what is
    /// wrong with a new value. On a problem the old value stays, and the file is read again next time.
    pub(super) fn refresh(&self, fits: impl FnOnce(&str) -> Result<(), Problem>) -> Result<bool, Problem> {
        if !self.is_file() {
            return Ok(false);
        }
        let mut stamp = self.stamp.lock();
        let now = stamp_of(&self.source);
        if now.is_some() && now == *stamp {
            return Ok(false);
        }
        // A broken state is forgotten, so that it is reported until it is mended.
        *stamp = None;
        let value = self.lines.read(&self.source, &|_| None)?;
        fits(value.expose())?;
        *stamp = now;
        let changed = value.expose() != self.value.load().expose();
        if changed {
            self.value.store(std::sync::Arc::new(value));
        }
        Ok(changed)
    }
}

impl Lines {
    fn read(self, source: &SecretSource, env: Env<'_>) -> Result<Secret<String>, Problem> {
        match self {
            Self::One => read(source, env),
            Self::Any => read_text(source, env),
        }
    }
}

fn stamp_of(source: &SecretSource) -> Option<Stamp> {
    match source {
        SecretSource::Env(_) => None,
        SecretSource::File(path) => Stamp::of(path).ok(),
    }
}

/// The key that says where a secret is.
pub(super) fn key(source: &SecretSource) -> &'static str {
    match source {
        SecretSource::Env(_) => "env",
        SecretSource::File(_) => "file",
    }
}

/// The value of a variable or file, checked to be one line of visible text.
fn read(source: &SecretSource, env: Env<'_>) -> Result<Secret<String>, Problem> {
    let text = read_text(source, env)?;
    if !text.expose().bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(Problem::new(format!("{} holds more than one line, or characters that no header can carry", named(source)))
            .help("such a secret is one line of visible ASCII"));
    }
    Ok(text)
}

fn read_text(source: &SecretSource, env: Env<'_>) -> Result<Secret<String>, Problem> {
    let text = match source {
        SecretSource::Env(name) => from_env(name, env)?,
        SecretSource::File(path) => from_file(path)?,
    };
    if text.expose().is_empty() {
        return Err(Problem::new(format!("{} is empty", named(source))).help("put the secret there"));
    }
    Ok(text)
}

fn named(source: &SecretSource) -> String {
    match source {
        SecretSource::Env(name) => format!("the variable `{name}`"),
        SecretSource::File(path) => format!("the file `{}`", path.display()),
    }
}

fn from_env(name: &str, env: Env<'_>) -> Result<Secret<String>, Problem> {
    let Some(value) = env(name) else {
        return Err(
            Problem::new(format!("the variable `{name}` is not set")).help(format!("export {name}, or use `secret: {{file: PATH}}`"))
        );
    };
    let text = value.into_string().map_err(|_| Problem::new(format!("the variable `{name}` is not UTF-8 text")))?;
    let text = Secret::new(text);
    Ok(Secret::new(text.expose().trim().to_owned()))
}

fn from_file(path: &Path) -> Result<Secret<String>, Problem> {
    let shown = path.display();
    let wrong = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            Problem::new(format!("the secret file `{shown}` does not exist")).help("write the secret there, or mend the path")
        }
        io::ErrorKind::PermissionDenied => {
            Problem::new(format!("the secret file `{shown}` may not be read")).help("let the user that runs Remit read it")
        }
        _ => Problem::new(format!("the secret file `{shown}` cannot be read: {error}")),
    };
    let meta = fs::metadata(path).map_err(|e| wrong(&e))?;
    if !meta.is_file() {
        return Err(Problem::new(format!("the secret file `{shown}` is not a file")));
    }
    if meta.len() > LARGEST {
        return Err(
            Problem::new(format!("the secret file `{shown}` is larger than 64 KiB")).help("name the file that holds only the secret")
        );
    }
    let bytes = Secret::new(fs::read(path).map_err(|e| wrong(&e))?);
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| Problem::new(format!("the secret file `{shown}` is not UTF-8 text")))?;
    Ok(Secret::new(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<OsString> {
        match name {
            "GOOD" => Some("abc\n".into()),
            "EMPTY" => Some(" \n".into()),
            "LINES" => Some("a\nb".into()),
            _ => None,
        }
    }

    fn read_env(name: &str) -> Result<Secret<String>, Problem> {
        read(&SecretSource::Env(name.into()), &variables)
    }

    #[test]
    fn the_line_end_is_no_part_of_the_secret() {
        assert_eq!(read_env("GOOD").unwrap().expose(), "abc");
    }

    #[test]
    fn what_is_missing_empty_or_no_header_value_is_named() {
        for (name, wants) in [("NONE", "`NONE` is not set"), ("EMPTY", "`EMPTY` is empty"), ("LINES", "more than one line")] {
            let problem = read_env(name).unwrap_err().to_string();
            assert!(problem.contains(wants), "{problem}");
        }
        let problem = read(&SecretSource::File("/nowhere/at/all".into()), &variables).unwrap_err().to_string();
        assert!(problem.contains("`/nowhere/at/all` does not exist"), "{problem}");
    }
}
