//! Noticing that files changed: editors replace files, Kubernetes swaps a symlink two levels up.
//!
//! So folders are watched, not files; whatever happens in one makes this look at the files
//! themselves, and only a file that is another than before counts.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc as std_mpsc,
    thread,
    time::{Duration, Instant},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::config::files::CONFIG_KINDS;

/// Changes within this time of each other are one.
const QUIET: Duration = Duration::from_millis(200);
/// A change is told at the latest after this time, however busy the folder is.
const LATEST: Duration = Duration::from_secs(2);
/// File systems that tell nothing (some network mounts) are looked at this often.
const POLL: Duration = Duration::from_secs(10);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    stop: std_mpsc::Sender<Wake>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // the thread may have ended already
        let _ = self.stop.send(Wake::Stop);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    Something,
    Stop,
}

/// Tells when any of the files becomes another, 200 ms after the last change. An entry that is a
/// folder stands for the policies and YAML files directly in it. Changes that were not taken
/// from the receiver yet are told once.
///
/// # Errors
/// When the system gives no watch, or no thread.
pub fn watch(files: &[PathBuf]) -> Result<(Watcher, mpsc::Receiver<()>), notify::Error> {
    let (stop, wakes) = std_mpsc::channel();
    let (tell, told) = mpsc::channel(1);
    let wake = stop.clone();
    let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // reading a file is an event too, and this reads them
        if !event.is_ok_and(|e| e.kind.is_access()) {
            let _ = wake.send(Wake::Something);
        }
    })?;
    let mut look = Look { notifier, files: files.to_vec(), last: Vec::new() };
    look.follow();
    look.last = look.stamps();
    thread::Builder::new().name("config-watch".to_string()).spawn(move || look.run(&wakes, &tell)).map_err(notify::Error::io)?;
    Ok((Watcher { stop }, told))
}

/// The thread's state.
struct Look {
    notifier: RecommendedWatcher,
    files: Vec<PathBuf>,
    last: Vec<Vec<Stamp>>,
}

/// What tells one state of a file from another. Absent: None.
type Stamp = Option<(PathBuf, u64, u64, i64, i64, u64)>;

impl Look {
    fn run(mut self, wakes: &std_mpsc::Receiver<Wake>, tell: &mpsc::Sender<()>) {
        loop {
            match wakes.recv_timeout(POLL) {
                Ok(Wake::Something) if quiet(wakes) => {}
                Err(std_mpsc::RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
            }
            let now = self.stamps();
            if now != self.last {
                self.last = now;
                // a link may point elsewhere now
                self.follow();
                match tell.try_send(()) {
                    Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {}
                    Err(mpsc::error::TrySendError::Closed(())) => return,
                }
            }
        }
    }

    /// Watches the folder of every file, as it is written and where its links lead.
    fn follow(&mut self) {
        for file in &self.files {
            let real = fs::canonicalize(file).ok();
            for path in [Some(file.as_path()), real.as_deref()].into_iter().flatten() {
                let folder = if path.is_dir() { path } else { path.parent().unwrap_or_else(|| Path::new("")) };
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                // a folder that is not there yet is noticed by looking now and then
                let _ = self.notifier.watch(folder, RecursiveMode::NonRecursive);
            }
        }
    }

    fn stamps(&self) -> Vec<Vec<Stamp>> {
        self.files.iter().map(|file| if file.is_dir() { folder(file) } else { vec![stamp(file)] }).collect()
    }
}

/// Waits until nothing has happened for a while; false when told to stop.
fn quiet(wakes: &std_mpsc::Receiver<Wake>) -> bool {
    let began = Instant::now();
    while began.elapsed() < LATEST {
        match wakes.recv_timeout(QUIET) {
            Ok(Wake::Something) => {}
            Err(std_mpsc::RecvTimeoutError::Timeout) => return true,
            Ok(Wake::Stop) | Err(std_mpsc::RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

fn stamp(path: &Path) -> Stamp {
    let real = fs::canonicalize(path).ok()?;
    let m = fs::metadata(&real).ok()?;
    Some((real, m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size()))
}

/// The stamps of what counts in a folder.
fn folder(path: &Path) -> Vec<Stamp> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    let counts = |p: &PathBuf| p.extension().and_then(|e| e.to_str()).is_some_and(|e| CONFIG_KINDS.contains(&e));
    let mut paths: Vec<PathBuf> = entries.filter(counts).collect();
    paths.sort();
    paths.iter().map(|p| stamp(p)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder_of(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("remit-watch-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Whether a change is told within two seconds.
    async fn told(receiver: &mut mpsc::Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_secs(2), receiver.recv()).await.is_ok_and(|m| m.is_some())
    }

    async fn silent(receiver: &mut mpsc::Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_millis(600), receiver.recv()).await.is_err()
    }

    #[tokio::test]
    async fn writing_and_replacing_are_told_once_and_neighbours_are_not() {
        let folder = folder_of("replace");
        let file = folder.join("remit.yaml");
        fs::write(&file, "version: 1\n").unwrap();
        let (_watcher, mut changes) = watch(std::slice::from_ref(&file)).unwrap();
        fs::write(&file, "version: 1\n# more\n").unwrap();
        fs::write(&file, "version: 1\n# and more\n").unwrap();
        assert!(told(&mut changes).await);
        assert!(silent(&mut changes).await);
        let new = folder.join(".remit.yaml.swp");
        fs::write(&new, "version: 1\n# replaced\n").unwrap();
        fs::rename(&new, &file).unwrap();
        assert!(told(&mut changes).await);
        fs::write(folder.join("neighbour.yaml"), "x").unwrap();
        assert!(silent(&mut changes).await);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn the_swap_of_a_mounted_config_map_is_told() {
        let folder = folder_of("configmap");
        for (name, text) in [("..one", "a"), ("..two", "a")] {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("remit.yaml"), text).unwrap();
        }
        symlink("..one", folder.join("..data")).unwrap();
        symlink("..data/remit.yaml", folder.join("remit.yaml")).unwrap();
        let (_watcher, mut changes) = watch(&[folder.join("remit.yaml")]).unwrap();
        for next in ["..two", "..one"] {
            symlink(next, folder.join("..data_tmp")).unwrap();
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
            assert!(told(&mut changes).await, "{next}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_new_policy_in_a_folder_is_told() {
        let folder = folder_of("folder");
        let (watcher, mut changes) = watch(std::slice::from_ref(&folder)).unwrap();
        fs::write(folder.join("notes.txt"), "x").unwrap();
        assert!(silent(&mut changes).await);
        fs::write(folder.join("extra.rego"), "package x").unwrap();
        assert!(told(&mut changes).await);
        drop(watcher);
        assert!(tokio::time::timeout(Duration::from_secs(2), changes.recv()).await.unwrap().is_none());
        fs::remove_dir_all(&folder).unwrap();
    }
}
