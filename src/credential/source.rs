//! Where a secret's value is, and reading it.

use std::{ffi::OsString, fs, io, os::unix::fs::MetadataExt, path::Path};

use crate::{config::SecretSource, problem::Problem, secret::Secret};

/// No credential is larger; a file that is, is the wrong file.
const LARGEST: u64 = 64 << 10;

/// A file's state when it was read; another state means it may hold another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The file's state now, symbolic links followed (Kubernetes swaps them to rotate a secret).
    pub(super) fn of(path: &Path) -> io::Result<Self> {
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

/// The value of a variable or file, checked to be one line of visible text.
pub(super) fn read(source: &SecretSource, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Secret<String>, Problem> {
    let text = match source {
        SecretSource::Env(name) => from_env(name, env)?,
        SecretSource::File(path) => from_file(path)?,
    };
    let named = || match source {
        SecretSource::Env(name) => format!("the variable `{name}`"),
        SecretSource::File(path) => format!("the file `{}`", path.display()),
    };
    if text.expose().is_empty() {
        return Err(Problem::new(format!("{} is empty", named())).help("put the secret there"));
    }
    if !text.expose().bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(Problem::new(format!("{} holds more than one line, or characters that no header can carry", named()))
            .help("a static secret is one line of visible ASCII"));
    }
    Ok(text)
}

fn from_env(name: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Secret<String>, Problem> {
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
