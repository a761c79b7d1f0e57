//! `remit init`: a starter config that works as it is.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

const COULD_NOT: u8 = 3;

/// Write a commented starter config
///
/// It lets one agent read from GitHub, with the token in GITHUB_TOKEN, and `remit check` accepts it as it is. Files that
/// exist already are never overwritten.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  remit init my-agent && remit check --config my-agent/remit.yaml")]
pub struct Args {
    /// The folder to write it to; made when it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// What is written, by its path in the folder.
const FILES: [(&str, &str); 3] = [
    ("remit.yaml", include_str!("init/remit.yaml")),
    ("registry/assistant.yaml", include_str!("init/registry/assistant.yaml")),
    ("credentials.yaml", include_str!("init/credentials.yaml")),
];

/// Runs the command: 0, or 3 when a file is there already or cannot be written.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    match write(&args.dir) {
        Ok(()) => {
            // a closed pipe changes nothing about what was done
            let _ = io::stdout().write_all(next_steps(&args.dir).as_bytes());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("remit init: {message}");
            ExitCode::from(COULD_NOT)
        }
    }
}

/// Writes all files, or none when one of them exists.
fn write(dir: &Path) -> Result<(), String> {
    let taken = FILES.iter().map(|(name, _)| dir.join(name)).find(|path| path.symlink_metadata().is_ok());
    if let Some(path) = taken {
        return Err(format!("{} is there already; name another folder, or move it away", path.display()));
    }
    for (name, text) in FILES {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let new = fs::OpenOptions::new().write(true).create_new(true).open(&path);
        new.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn next_steps(dir: &Path) -> String {
    let files: Vec<String> = FILES.iter().map(|(name, _)| dir.join(name).display().to_string()).collect();
    let config = quoted(&dir.join("remit.yaml"));
    format!(
        "Wrote {}\n\n\
         Next:\n  \
         export GITHUB_TOKEN=…    # a token that may read what the agent needs; the agent never sees it\n  \
         remit check --config {config}\n  \
         remit run --config {config} --agent assistant --workflow read-github -- curl -s https://api.github.com/user\n",
        files.join(", ")
    )
}

/// A path as a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b));
    if plain && !text.starts_with('-') { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("remit-init-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn what_is_written_loads_as_it_is() {
        let dir = folder("loads").join("deeper");
        write(&dir).unwrap();
        let config = Config::load(&dir.join("remit.yaml")).unwrap();
        assert_eq!(config.registry.agents.len(), 1);
        assert_eq!(config.registry.workflows[0].grants.len(), 1);
        assert_eq!(config.credentials.len(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_lines_that_are_commented_out_are_right_too() {
        let dir = folder("commented");
        write(&dir).unwrap();
        let path = dir.join("registry/assistant.yaml");
        let text = fs::read_to_string(&path).unwrap();
        for line in ["# expires:", "# where:", "# - intents:", "#   where:", "#   limit:"] {
            assert!(text.contains(line), "{line}");
        }
        let text = ["expires:", "where:", "- intents: [github.issues", "  where:", "  limit:"]
            .iter()
            .fold(text, |text, key| text.replace(&format!("# {key}"), key));
        fs::write(&path, text).unwrap();
        let config = Config::load(&dir.join("remit.yaml")).unwrap();
        let grants = &config.registry.workflows[0].grants;
        assert_eq!((grants.len(), grants[0].constraints.len(), grants[1].limit.is_some()), (2, 2, true));
        assert!(config.registry.agents[0].expires.is_some());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = folder("taken");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("credentials.yaml"), "mine").unwrap();
        assert!(write(&dir).unwrap_err().contains("credentials.yaml is there already"));
        assert_eq!(fs::read_to_string(dir.join("credentials.yaml")).unwrap(), "mine");
        assert!(!dir.join("remit.yaml").exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_next_steps_can_be_pasted() {
        let text = next_steps(Path::new("it's here"));
        assert!(text.contains("remit check --config 'it'\\''s here/remit.yaml'\n"), "{text}");
    }
}
