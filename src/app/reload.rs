use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    clock::Moment,
    config::{self, Config},
    enforce::House,
};

/// Reloads the rules when a file changes or SIGHUP comes: all or nothing, the old ones stay in
/// force on error, and no call is dropped.
#[derive(Debug)]
pub struct Reloader {
    house: House,
    path: PathBuf,
}

impl Reloader {
    #[must_use]
    pub fn new(house: House, path: PathBuf) -> Self {
        Self { house, path }
    }

    /// Watches until the process ends.
    pub async fn run(self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP cannot be received; files are still watched");
            return;
        };
        let mut files = self.house.rules().config.files.clone();
        loop {
            let watched = config::watch(&files).map_err(|error| tracing::error!(%error, "files cannot be watched; SIGHUP still reloads"));
            let (_watcher, mut changed) = match watched {
                Ok((watcher, changed)) => (Some(watcher), changed),
                Err(()) => (None, tokio::sync::mpsc::channel(1).1),
            };
            loop {
                tokio::select! {
                    signalled = hangup.recv() => if signalled.is_none() { return },
                    change = changed.recv(), if _watcher.is_some() => if change.is_none() { return },
                }
                self.reload().await;
                let now = self.house.rules().config.files.clone();
                if now != files {
                    files = now;
                    break;
                }
            }
        }
    }

    /// Loads everything anew, and puts it in force when nothing is wrong with it.
    async fn reload(&self) {
        let path = self.path.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let config = Config::load(&path)?;
            super::load(&config)
        })
        .await;
        match loaded {
            Ok(Ok((rules, warnings))) => {
                for warning in &warnings {
                    tracing::warn!("{warning}");
                }
                let revision = rules.decider.revision().to_owned();
                self.warn_of_fixed(&rules.config);
                rules.broker.watch(|problem| tracing::error!("{problem}"));
                self.house.replace(rules);
                let ended = self.house.tasks().review(&self.house.rules().registry, Moment::now());
                self.house.metrics().reload(true);
                self.house.metrics().policy(&revision);
                self.house.audit().event("reload", &serde_json::json!({"revision": revision, "tasks_ended": ended}));
                tracing::info!(revision, ended, "reloaded");
            }
            Ok(Err(problems)) => {
                self.house.metrics().reload(false);
                self.house.audit().event("reload_refused", &serde_json::json!({"problems": problems.to_string()}));
                tracing::error!("not reloaded, the rules before stay in force:\n{problems}");
            }
            Err(error) => tracing::error!(%error, "not reloaded"),
        }
    }

    /// Says which changed settings wait for a restart.
    fn warn_of_fixed(&self, new: &Config) {
        let old = &self.house.rules().config;
        let fixed = [
            ("listen", format!("{:?}", old.listen) != format!("{:?}", new.listen)),
            ("tls.ca", old.tls.ca != new.tls.ca),
            ("audit", format!("{:?}", old.audit) != format!("{:?}", new.audit)),
            ("tls.publish", old.tls.publish != new.tls.publish),
            ("limits.connections", old.limits.connections != new.limits.connections),
            ("limits.header_bytes", old.limits.header_bytes != new.limits.header_bytes),
            ("limits.body.total", old.limits.body_total != new.limits.body_total),
            ("timeouts.header", old.timeouts.header != new.timeouts.header),
            ("timeouts.drain", old.timeouts.drain != new.timeouts.drain),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("{key} has changed and takes effect at the next start");
        }
    }
}
