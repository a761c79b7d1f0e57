//! `rotate.keep`: old files go, when nobody needs them any more.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    files,
    line::{Kind, Record},
};

/// Removes the files of one directory that are older than what is kept.
#[derive(Debug, Clone)]
pub(super) struct Retention {
    pub(super) dir: PathBuf,
    /// The chain being written, which is never touched while it is short.
    pub(super) chain: Arc<str>,
    /// Zero keeps everything.
    pub(super) keep: Duration,
}

impl Retention {
    /// Removes old files, oldest first; what fails is tried again the next time. Files of dead
    /// processes stay, unless they are `settled`: their calls were given an outcome.
    pub(super) fn tidy(&self, settled: bool) {
        if self.keep.is_zero() {
            return;
        }
        match self.old(SystemTime::now(), settled) {
            Ok(old) => {
                for path in old {
                    if let Err(error) = fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "an old audit file cannot be removed");
                    }
                }
            }
            Err(error) => tracing::warn!(path = %self.dir.display(), %error, "old audit files cannot be listed"),
        }
    }

    fn old(&self, now: SystemTime, settled: bool) -> io::Result<Vec<PathBuf>> {
        let mut old = Vec::new();
        for chain in files::list(&self.dir)? {
            let Some((last, _)) = chain.files.last().cloned() else { continue };
            for (number, path) in &chain.files {
                let modified = fs::metadata(path)?.modified()?;
                let aged = now.duration_since(modified).is_ok_and(|age| age > self.keep);
                // A later file is younger, so the first that stays keeps those behind it.
                if !aged || (*number == last && (chain.id == *self.chain || !may_go(path, settled)?)) {
                    break;
                }
                old.push((modified, path.clone()));
            }
        }
        old.sort();
        Ok(old.into_iter().map(|(_, path)| path).collect())
    }
}

/// Whether nobody writes a chain's last file, and it has its end or needs none.
fn may_go(path: &Path, settled: bool) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if files::is_written(&file) {
        return Ok(false);
    }
    let last = files::last_line(&mut file)?;
    Ok(settled || matches!(last.as_deref().and_then(Record::parse).map(|r| r.kind()), Some(Kind::Close | Kind::Rotate)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{line, sink};

    fn file(dir: &Path, chain: &str, number: u64, last: &str, age_days: u64) -> PathBuf {
        let path = dir.join(sink::file_name(chain, number));
        let mut text = Vec::new();
        line::header(&mut text, &line::Header { chain, file: number, seq: 1, prev: line::GENESIS });
        line::record(&mut text, 1, &[1; 32], None, format!("{{\"kind\":\"{last}\"}}").as_bytes());
        fs::write(&path, text).unwrap();
        let at = SystemTime::now() - Duration::from_secs(age_days * 86400);
        File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
        path
    }

    #[test]
    fn only_old_ended_files_go_and_the_oldest_first() {
        let dir = crate::audit::testing::dir("retain");
        let a = file(&dir, "a", 1, "rotate", 50);
        let b = file(&dir, "a", 2, "close", 40);
        let young = file(&dir, "b", 1, "close", 3);
        let dead = file(&dir, "c", 1, "decision", 60);
        let own = file(&dir, "own", 1, "checkpoint", 60);
        let retention = Retention { dir: dir.clone(), chain: "own".into(), keep: Duration::from_secs(30 * 86400) };
        assert_eq!(retention.old(SystemTime::now(), false).unwrap(), [a.clone(), b.clone()]);
        retention.tidy(false);
        assert!(!a.exists() && !b.exists());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
        retention.tidy(true);
        assert!(!dead.exists() && own.exists() && young.exists());
    }

    #[test]
    fn a_file_that_is_being_written_stays() {
        let dir = crate::audit::testing::dir("retain-live");
        let path = file(&dir, "a", 1, "close", 60);
        let writer = File::open(&path).unwrap();
        writer.lock().unwrap();
        let retention = Retention { dir, chain: "own".into(), keep: Duration::from_secs(1) };
        assert!(retention.old(SystemTime::now(), false).unwrap().is_empty());
    }
}
