//! What Remit counts, for Prometheus.
//!
//! No label is taken from a request: providers come from the catalog, everything else is a closed
//! list. What every call touches is found without a lock and without hashing label values.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ahash::RandomState;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

use crate::{
    call::{Effect, Listener, Verdict},
    refusal::Reason,
};

/// The counts of one Remit, in a registry of their own.
pub struct Metrics {
    registry: Registry,
    calls: IntCounterVec,
    upstream: HistogramVec,
    providers: ArcSwap<HashMap<Arc<str>, Arc<Provider>, RandomState>>,
    growing: Mutex<()>,
    /// Seconds that Remit adds to a call: everything but waiting for upstream.
    pub overhead: Histogram,
    decided: [Histogram; 2],
    pub cache_hits: IntCounter,
    pub cache_misses: IntCounter,
    pub cache_entries: IntGauge,
    credential_issue: HistogramVec,
    pub leases_active: IntGauge,
    pub leases_unrevoked: IntGauge,
    credential_failures: IntCounterVec,
    revocation_failures: IntCounterVec,
    pub lease_revocation: Histogram,
    pub tasks_active: IntGauge,
    /// Times that an injected credential was taken out of an answer.
    pub scrubbed: IntCounter,
    withheld: [IntCounter; 2],
    /// Seconds from the end of a task until a call that it had open was cut.
    pub revocation: Histogram,
    pub audit_backlog: IntGauge,
    /// Sequence number of the last record.
    pub audit_head: IntGauge,
    connections: [IntGauge; 3],
    policy_info: IntGaugeVec,
    reloads: [IntCounter; 2],
    drift: IntCounterVec,
}

/// One open connection; dropping it counts it out.
#[derive(Debug)]
#[must_use = "the connection is counted while this is held"]
pub struct Connection(IntGauge);

/// One provider's counts, each looked up once.
struct Provider {
    name: Arc<str>,
    calls: Box<[OnceLock<IntCounter>]>,
    upstream: Histogram,
}

/// Providers with a label of their own; the rest, should a catalog list so many, share `other`.
const MOST_PROVIDERS: usize = 2_000;

/// The label where there is nothing to name.
const NONE: &str = "none";

const VERDICTS: [Verdict; 3] = [Verdict::Allow, Verdict::Deny, Verdict::Ask];
const EFFECTS: usize = Effect::ALL.len() + 1;
const REASONS: usize = Reason::ALL.len() + 1;

/// Seconds of work inside Remit, and of waiting for others.
const INSIDE: [f64; 16] = [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4, 6.4e-4, 1.3e-3, 2.6e-3, 5e-3, 1e-2, 0.1, 1.0];
const OUTSIDE: [f64; 14] = [1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

impl Metrics {
    /// All counts at nothing.
    ///
    /// # Errors
    /// When two metrics have one name, which is a fault in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = &Registry::new();
        let decided = histograms(r, "remit_decision_seconds", "Seconds a decision took", &["cached"], &INSIDE)?;
        let connections = gauges(r, "remit_connections", "Connections open", &["listener"])?;
        let withheld = counters(r, "remit_withheld_total", "Answers of which something was kept from the agent", &["what"])?;
        let reloads = counters(r, "remit_reloads_total", "Configurations loaded while running", &["result"])?;
        Ok(Self {
            calls: counters(r, "remit_calls_total", "Calls decided", &["provider", "effect", "decision", "reason"])?,
            upstream: histograms(r, "remit_upstream_seconds", "Seconds spent waiting for upstream", &["provider"], &OUTSIDE)?,
            providers: ArcSwap::default(),
            growing: Mutex::new(()),
            overhead: histogram(r, "remit_overhead_seconds", "Seconds Remit adds to a call", &INSIDE)?,
            decided: [decided.with_label_values(&["false"]), decided.with_label_values(&["true"])],
            cache_hits: counter(r, "remit_decision_cache_hits", "Decisions taken from the cache")?,
            cache_misses: counter(r, "remit_decision_cache_misses", "Decisions not found in the cache")?,
            cache_entries: gauge(r, "remit_decision_cache_entries", "Decisions in the cache")?,
            credential_issue: histograms(r, "remit_credential_issue_seconds", "Seconds issuing a lease took", &["kind"], &OUTSIDE)?,
            leases_active: gauge(r, "remit_leases_active", "Leases not expired and not revoked")?,
            leases_unrevoked: gauge(r, "remit_leases_unrevoked", "Leases whose task is over and that their issuers may still accept")?,
            credential_failures: counters(r, "remit_credential_failures_total", "Leases that an issuer did not give", &["kind"])?,
            revocation_failures: counters(
                r,
                "remit_lease_revocation_failures_total",
                "Revocations that failed and are tried again",
                &["kind"],
            )?,
            lease_revocation: histogram(
                r,
                "remit_lease_revocation_seconds",
                "Seconds from a task's end until an issuer had revoked a lease",
                &OUTSIDE,
            )?,
            tasks_active: gauge(r, "remit_tasks_active", "Tasks not ended")?,
            scrubbed: counter(r, "remit_scrubbed_total", "Times an injected credential was taken out of an answer")?,
            withheld: ["cookies", "tokens"].map(|what| withheld.with_label_values(&[what])),
            revocation: histogram(
                r,
                "remit_revocation_seconds",
                "Seconds from a task's end until a call that it had open was cut",
                &OUTSIDE,
            )?,
            audit_backlog: gauge(r, "remit_audit_backlog", "Records not yet as durable as they must be")?,
            audit_head: gauge(r, "remit_audit_head", "Sequence number of the last record")?,
            connections: Listener::ALL.map(|l| connections.with_label_values(&[l.as_str()])),
            policy_info: gauges(r, "remit_policy_info", "The policy in force", &["revision"])?,
            drift: counters(r, "remit_drift_total", "Differences between an agent and what was attested", &["kind"])?,
            reloads: [reloads.with_label_values(&["refused"]), reloads.with_label_values(&["ok"])],
            registry: r.clone(),
        })
    }

    /// Counts a call. What was refused before it was understood has no provider or no effect.
    pub fn call(&self, provider: Option<&Arc<str>>, effect: Option<Effect>, verdict: Verdict, reason: Option<Reason>) {
        let provider = self.provider(provider);
        let (effect_at, reason_at) = (effect.map_or(0, |e| e as usize + 1), reason.map_or(0, |r| r as usize + 1));
        let at = (verdict as usize * EFFECTS + effect_at) * REASONS + reason_at;
        if let Some(counter) = provider.calls.get(at) {
            counter.get_or_init(|| self.counter(&provider, effect, verdict, reason)).inc();
        }
    }

    /// Counts the time a call waited for upstream.
    pub fn upstream(&self, provider: Option<&Arc<str>>, waited: Duration) {
        self.provider(provider).upstream.observe(waited.as_secs_f64());
    }

    /// Counts the time a decision took.
    pub fn decided(&self, cached: bool, took: Duration) {
        let [fresh, from_cache] = &self.decided;
        if cached { from_cache } else { fresh }.observe(took.as_secs_f64());
    }

    /// Counts the time a lease took to issue, by the kind of credential.
    pub fn lease_issued(&self, kind: &'static str, took: Duration) {
        self.credential_issue.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    /// Counts a lease that its issuer did not give.
    pub fn lease_refused(&self, kind: &'static str) {
        self.credential_failures.with_label_values(&[kind]).inc();
    }

    /// Counts a revocation that failed.
    pub fn lease_not_revoked(&self, kind: &str) {
        self.revocation_failures.with_label_values(&[kind]).inc();
    }

    /// Counts a connection for as long as the answer is held.
    pub fn connection(&self, listener: Listener) -> Connection {
        let [forward, transparent, inbound] = &self.connections;
        let gauge = match listener {
            Listener::Forward => forward,
            Listener::Transparent => transparent,
            Listener::Inbound => inbound,
        };
        gauge.inc();
        Connection(gauge.clone())
    }

    /// Names the policy in force; the one before is named no more.
    pub fn policy(&self, revision: &str) {
        self.policy_info.reset();
        self.policy_info.with_label_values(&[revision]).set(1);
    }

    /// Counts a reload, taken or refused.
    pub fn reload(&self, taken: bool) {
        let [refused, ok] = &self.reloads;
        if taken { ok } else { refused }.inc();
    }

    /// Counts an answer of which cookies or tokens did not reach the agent.
    pub fn withheld(&self, cookies: bool, tokens: bool) {
        let [of_cookies, of_tokens] = &self.withheld;
        of_cookies.inc_by(u64::from(cookies));
        of_tokens.inc_by(u64::from(tokens));
    }

    /// Counts a difference between an agent and what was attested, by its kind.
    pub fn drifted(&self, kind: &'static str) {
        self.drift.with_label_values(&[kind]).inc();
    }

    /// All of it in Prometheus's text format, and that format's content type.
    ///
    /// # Errors
    /// When the registry cannot be written out.
    pub fn render(&self) -> Result<(String, String), prometheus::Error> {
        let encoder = TextEncoder::new();
        Ok((encoder.encode_to_string(&self.registry.gather())?, encoder.format_type().to_string()))
    }

    fn provider(&self, id: Option<&Arc<str>>) -> Arc<Provider> {
        let id = id.map_or(NONE, |id| id);
        match self.providers.load().get(id) {
            Some(provider) => provider.clone(),
            None => self.new_provider(id),
        }
    }

    #[cold]
    fn new_provider(&self, id: &str) -> Arc<Provider> {
        let _one_at_a_time = self.growing.lock();
        let all = self.providers.load_full();
        let id = if all.len() < MOST_PROVIDERS { id } else { "other" };
        if let Some(provider) = all.get(id) {
            return provider.clone();
        }
        let calls = (0..VERDICTS.len() * EFFECTS * REASONS).map(|_| OnceLock::new()).collect();
        let name: Arc<str> = id.into();
        let provider = Arc::new(Provider { name: name.clone(), calls, upstream: self.upstream.with_label_values(&[id]) });
        let mut more = HashMap::clone(&all);
        more.insert(name, provider.clone());
        self.providers.store(Arc::new(more));
        provider
    }

    #[cold]
    fn counter(&self, provider: &Provider, effect: Option<Effect>, verdict: Verdict, reason: Option<Reason>) -> IntCounter {
        let (effect, reason) = (effect.map_or(NONE, Effect::as_str), reason.map_or(NONE, Reason::code));
        self.calls.with_label_values(&[&provider.name, effect, verdict.as_str(), reason])
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    registered(r, IntCounter::new(name, help)?)
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    registered(r, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    registered(r, IntGauge::new(name, help)?)
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    registered(r, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn histogram(r: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
    registered(r, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}

fn histograms(r: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
    registered(r, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        metrics.render().unwrap().0
    }

    #[test]
    fn a_call_is_counted_under_its_provider_effect_decision_and_reason() {
        let metrics = Metrics::new().unwrap();
        let github: Arc<str> = "github".into();
        for _ in 0..3 {
            metrics.call(Some(&github), Some(Effect::Read), Verdict::Allow, None);
        }
        metrics.call(Some(&github), Some(Effect::Delete), Verdict::Deny, Some(Reason::NotGranted));
        metrics.call(None, None, Verdict::Deny, Some(Reason::NoTask));
        let text = text(&metrics);
        for line in [
            r#"remit_calls_total{decision="allow",effect="read",provider="github",reason="none"} 3"#,
            r#"remit_calls_total{decision="deny",effect="delete",provider="github",reason="not_granted"} 1"#,
            r#"remit_calls_total{decision="deny",effect="none",provider="none",reason="no_task"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_combination_has_a_count_of_its_own() {
        let metrics = Metrics::new().unwrap();
        let effects = || [None].into_iter().chain(Effect::ALL.map(Some));
        let reasons = || [None].into_iter().chain(Reason::ALL.map(Some));
        for verdict in VERDICTS {
            effects().for_each(|e| reasons().for_each(|r| metrics.call(None, e, verdict, r)));
        }
        let text = text(&metrics);
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("remit_calls_total{")).collect();
        assert_eq!(lines.len(), VERDICTS.len() * EFFECTS * REASONS);
        assert!(lines.iter().all(|l| l.ends_with(" 1")));
    }

    #[test]
    fn providers_are_bounded() {
        let metrics = Metrics::new().unwrap();
        for i in 0..MOST_PROVIDERS + 50 {
            metrics.call(Some(&format!("p{i}").into()), None, Verdict::Allow, None);
        }
        let text = text(&metrics);
        assert_eq!(text.matches("remit_calls_total{").count(), MOST_PROVIDERS + 1);
        assert!(text.contains(r#"provider="other",reason="none"} 50"#));
    }

    #[test]
    fn a_connection_is_counted_while_it_is_held() {
        let metrics = Metrics::new().unwrap();
        let held = metrics.connection(Listener::Forward);
        assert!(text(&metrics).contains(r#"remit_connections{listener="forward"} 1"#));
        drop(held);
        assert!(text(&metrics).contains(r#"remit_connections{listener="forward"} 0"#));
    }

    #[test]
    fn only_the_policy_in_force_is_named() {
        let metrics = Metrics::new().unwrap();
        metrics.policy("one");
        metrics.policy("two");
        let text = text(&metrics);
        assert!(text.contains(r#"remit_policy_info{revision="two"} 1"#) && !text.contains("one\""));
    }

    #[test]
    fn every_metric_of_the_design_is_there() {
        let metrics = Metrics::new().unwrap();
        metrics.call(None, None, Verdict::Allow, None);
        metrics.upstream(None, Duration::from_millis(3));
        metrics.decided(true, Duration::from_micros(1));
        metrics.lease_issued("static", Duration::from_micros(1));
        metrics.policy("r");
        metrics.reload(false);
        let text = text(&metrics);
        for name in [
            "calls_total",
            "overhead_seconds",
            "decision_seconds",
            "decision_cache_hits",
            "decision_cache_misses",
            "decision_cache_entries",
            "credential_issue_seconds",
            "leases_active",
            "tasks_active",
            "revocation_seconds",
            "audit_backlog",
            "audit_head",
            "connections",
            "upstream_seconds",
            "policy_info",
            "reloads_total",
        ] {
            assert!(text.contains(&format!("# TYPE remit_{name} ")), "{name}");
        }
        assert!(text.contains(r#"remit_reloads_total{result="refused"} 1"#));
        assert!(text.contains(r#"remit_decision_seconds_count{cached="true"} 1"#));
    }
}
