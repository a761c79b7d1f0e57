use std::path::PathBuf;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::Receiver,
};

use crate::{
    clock::Moment,
    config::{self, Config, Watcher},
    enforce::House,
};

/// Reloads the rules when a file changes or SIGHUP comes: all or nothing, the old ones stay in
/// force on error, and no call is dropped.
#[derive(Debug)]
pub struct Reloader {
    house: House,
    path: PathBuf,
    hangup: Signal,
    files: Vec<PathBuf>,
    /// None: files are not watched, and only SIGHUP reloads.
    watched: Option<(Watcher, Receiver<()>)>,
}

impl Reloader {
    /// From here on SIGHUP no longer ends the process and changes are seen; so this comes before
    /// anyone is told that it runs.
    ///
    /// # Errors
    /// When SIGHUP cannot be received.
    pub fn new(house: House, path: PathBuf) -> std::io::Result<Self> {
        let files = house.rules().config.files.clone();
        let watched = watch(&files);
        Ok(Self { house, path, hangup: signal(SignalKind::hangup())?, files, watched })
    }

    /// Reloads until the process ends.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                signalled = self.hangup.recv() => if signalled.is_none() { return },
                watching = changed(&mut self.watched) => if !watching {
                    self.watched = None;
                    continue;
                },
            }
            self.reload().await;
            let now = self.house.rules().config.files.clone();
            if now != self.files {
                self.watched = watch(&now);
                self.files = now;
            }
        }
    }

    /// Loads everything anew, and puts it in force when nothing is wrong with it.
    async fn reload(&self) {
        let path = self.path.clone();
        let before = self.house.rules();
        let loaded = tokio::task::spawn_blocking(move || {
            let config = Config::load(&path)?;
            super::load_after(&config, Some(&before))
        })
        .await;
        match loaded {
            Ok(Ok((rules, warnings))) => {
                for warning in &warnings {
                    tracing::warn!("{warning}");
                }
                let revision = rules.decider.revision().to_owned();
                self.warn_of_fixed(&rules.config);
                rules.begin();
                self.house.tasks().bound_by(&rules.config.tasks);
                self.house.leases().know(&rules.broker);
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
            ("listen", fixed_listeners(old) != fixed_listeners(new)),
            ("tls.ca", old.tls.ca != new.tls.ca),
            ("audit", format!("{:?}", old.audit) != format!("{:?}", new.audit)),
            ("state", old.state != new.state),
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

/// Where it listens. What stands behind the inbound listener, and who may call it, is read anew.
fn fixed_listeners(config: &Config) -> String {
    let mut listen = config.listen.clone();
    let inbound = listen.inbound.take().map(|i| (i.address, i.tls));
    format!("{listen:?} {inbound:?}")
}

fn watch(files: &[PathBuf]) -> Option<(Watcher, Receiver<()>)> {
    config::watch(files).map_err(|error| tracing::error!(%error, "files cannot be watched; SIGHUP still reloads")).ok()
}

/// Waits for a change; false when no more will be told.
async fn changed(watched: &mut Option<(Watcher, Receiver<()>)>) -> bool {
    match watched {
        Some((_, told)) => told.recv().await.is_some(),
        None => std::future::pending().await,
    }
}
