//! The keys of an issuer, kept fresh.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use crate::{
    config::{Endpoint, IssuerSpec, KeysFrom},
    jose::{Keys, Use},
};

use super::fetch::Ask;

/// At most one question for a key nobody knows in this time, however many tokens name one.
const BETWEEN: Duration = Duration::from_secs(10);
/// Until the first keys are there, and after a failure: doubled up to the interval of refreshing.
const AGAIN: Duration = Duration::from_secs(1);

/// The keys of one issuer: from a file, or fetched and fetched again.
pub(super) struct KeySource {
    issuer: Arc<str>,
    from: KeysFrom,
    ask: Ask,
    refresh: Duration,
    stale: Duration,
    current: ArcSwapOption<Fetched>,
    /// When they were last asked for because of a token; held while they are.
    turn: Mutex<Option<Instant>>,
    begun: AtomicBool,
}

struct Fetched {
    keys: Arc<Keys>,
    at: Instant,
    /// Whether they are what a file holds, which does not age.
    fixed: bool,
}

impl KeySource {
    /// Reads the file now; what is fetched comes later.
    pub(super) fn new(spec: &IssuerSpec, from: &KeysFrom, ask: Ask) -> Result<Self, String> {
        let source = Self {
            issuer: spec.issuer.clone(),
            from: from.clone(),
            ask,
            refresh: spec.times.refresh,
            stale: spec.times.stale,
            current: ArcSwapOption::empty(),
            turn: Mutex::new(None),
            begun: AtomicBool::new(false),
        };
        if let KeysFrom::File(path) = from {
            let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
            source.keep(usable(&bytes)?, true);
        }
        Ok(source)
    }

    /// The keys, when there are any that still count.
    pub(super) fn keys(&self, now: Instant) -> Result<Arc<Keys>, String> {
        match &*self.current.load() {
            None => Err(format!("the keys of {} are not here yet", self.issuer)),
            Some(f) if !f.fixed && now.saturating_duration_since(f.at) > self.refresh + self.stale => {
                Err(format!("the keys of {} could not be refreshed for {} s", self.issuer, now.saturating_duration_since(f.at).as_secs()))
            }
            Some(f) => Ok(f.keys.clone()),
        }
    }

    /// Fetches them because a token names a key that is not among them, or there are none: once for all
    /// that ask meanwhile, and not again for a while.
    pub(super) async fn look_again(&self) {
        if matches!(self.from, KeysFrom::File(_)) {
            return;
        }
        let waited = Instant::now();
        let mut turn = self.turn.lock().await;
        if turn.is_some_and(|last| last >= waited || last.elapsed() < BETWEEN) {
            return;
        }
        self.fetch().await;
        *turn = Some(Instant::now());
    }

    async fn fetch(&self) -> bool {
        match self.fetched().await {
            Ok(keys) => {
                tracing::debug!(issuer = %self.issuer, keys = keys.len(), "keys fetched");
                self.keep(keys, false);
                true
            }
            Err(why) => {
                tracing::warn!(issuer = %self.issuer, "keys could not be fetched: {why}");
                false
            }
        }
    }

    async fn fetched(&self) -> Result<Keys, String> {
        match &self.from {
            KeysFrom::File(_) => Err("they are in a file".to_owned()),
            KeysFrom::Url(at) => usable(&self.ask.get(at).await?),
            KeysFrom::Discovery(at) => {
                let document = self.ask.get(at).await?;
                usable(&self.ask.get(&self.jwks_uri(&document)?).await?)
            }
        }
    }

    /// Where a discovery document says that the keys are. It must be the issuer's own (OpenID Connect
    /// Discovery §4.3).
    fn jwks_uri(&self, document: &[u8]) -> Result<Endpoint, String> {
        let document: serde_json::Value = serde_json::from_slice(document).map_err(|e| format!("the discovery document: {e}"))?;
        let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        if text("issuer") != &*self.issuer {
            return Err(format!("the discovery document is that of `{}`", crate::jose::quoted(text("issuer"))));
        }
        Endpoint::parse(text("jwks_uri")).map_err(|(message, _)| format!("its jwks_uri: {message}"))
    }

    fn keep(&self, keys: Keys, fixed: bool) {
        self.current.store(Some(Arc::new(Fetched { keys: Arc::new(keys), at: Instant::now(), fixed })));
    }

    /// Fetches them now and every `refresh`, as long as somebody holds them. Needs a Tokio runtime.
    pub(super) fn begin(self: &Arc<Self>) {
        if matches!(self.from, KeysFrom::File(_)) || self.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        tokio::spawn(refreshing(Arc::downgrade(self)));
    }
}

async fn refreshing(source: Weak<KeySource>) {
    let mut wait = AGAIN;
    loop {
        let Some(source) = source.upgrade() else { return };
        let fetched = source.fetch().await;
        let refresh = source.refresh;
        drop(source);
        wait = if fetched { refresh } else { (wait * 2).min(refresh) };
        tokio::time::sleep(wait).await;
        if fetched {
            wait = AGAIN;
        }
    }
}

fn usable(bytes: &[u8]) -> Result<Keys, String> {
    let keys = Keys::read(bytes, Use::Signature).map_err(|e| e.to_string())?;
    if keys.is_empty() { Err("the set has no key that can be used here".to_owned()) } else { Ok(keys) }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource").field("issuer", &self.issuer).field("from", &self.from).finish_non_exhaustive()
    }
}
