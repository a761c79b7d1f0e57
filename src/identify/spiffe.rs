//! SPIFFE: the bundles that verify SVIDs, and Remit's own SVID.

mod messages;
mod proto;
mod workload;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::{
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};

use crate::{
    call::{Identity, Proof, spiffe_domain},
    clock::Moment,
    config::{BundleSpec, SpiffeSpec},
    jose::{Algorithm, Fault, Keys, Leeway, Token, Use},
    problem::Problem,
    refusal::{Reason, Refusal},
    tls::{Bundles, DomainRoots, OwnSvids, Svid, TokenSvid, domain_roots, proof_of},
};

use super::issuer::refused;

use messages::ByDomain;
use workload::Ended;

pub use messages::OwnSvid;

/// Between two tries at the Workload API: the first, and the most.
const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);
/// As for other tokens.
const REMEMBERED: Duration = Duration::from_secs(60);
const LEEWAY: Leeway = Leeway(Duration::from_secs(30));

/// What verifies SVIDs. Files are read once; what the Workload API gives is replaced whole whenever it
/// gives anew, and open connections go on.
pub struct Spiffe {
    spec: SpiffeSpec,
    /// From files: the operator's own word, which comes first.
    fixed_roots: ByDomain<DomainRoots>,
    fixed_keys: ByDomain<Arc<Keys>>,
    live: Arc<Live>,
}

/// What the Workload API gave last.
#[derive(Default)]
struct Live {
    roots: ArcSwap<ByDomain<DomainRoots>>,
    keys: ArcSwap<ByDomain<Arc<Keys>>>,
    own: ArcSwapOption<OwnSvid>,
    begun: AtomicBool,
}

/// One stream of the Workload API.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Own,
    Roots,
    Keys,
}

impl Spiffe {
    /// `before` asked the same Workload API: what it was given goes on counting.
    pub(super) fn new(spec: &SpiffeSpec, before: Option<&Self>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let (mut fixed_roots, mut fixed_keys) = (HashMap::new(), HashMap::new());
        for bundle in &spec.bundles {
            match files(bundle) {
                Ok((roots, keys)) => {
                    fixed_roots.extend(roots.map(|r| (bundle.trust_domain.clone(), r)));
                    fixed_keys.extend(keys.map(|k| (bundle.trust_domain.clone(), k)));
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let live = before.filter(|b| b.spec.workload_api == spec.workload_api).map(|b| b.live.clone()).unwrap_or_default();
        Ok(Self { spec: spec.clone(), fixed_roots, fixed_keys, live })
    }

    /// Opens the streams, and opens them again, as long as anyone holds this. Needs a Tokio runtime.
    pub(super) fn begin(&self) {
        let Some(api) = &self.spec.workload_api else { return };
        if self.live.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        for stream in [Stream::Own, Stream::Roots, Stream::Keys] {
            tokio::spawn(watching(api.clone(), stream, Arc::downgrade(&self.live)));
        }
    }

    /// Remit's own SVID, where the Workload API gives one.
    #[must_use]
    pub fn own(&self) -> Option<Arc<OwnSvid>> {
        self.live.own.load_full()
    }

    /// Verifies a chain, leaf first, by the bundle of its own trust domain.
    ///
    /// # Errors
    /// What keeps it from being a trusted SVID.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: Moment) -> Result<Svid, String> {
        let since = Duration::from_secs(u64::try_from(now.utc.unix_timestamp()).unwrap_or(0));
        Svid::verify(chain, self, UnixTime::since_unix_epoch(since))
    }

    /// What a verified chain proves.
    ///
    /// # Errors
    /// As [`Spiffe::verify`].
    pub fn prove(&self, chain: &[CertificateDer<'_>], now: Moment) -> Result<Proof, String> {
        self.verify(chain, now).map(|svid| proof_of(&svid, now))
    }

    /// Whether JWT-SVIDs are taken.
    pub(super) fn takes_tokens(&self) -> bool {
        !self.spec.audience.is_empty()
    }

    /// Whether the bundle of this ID's trust domain is still there.
    pub(super) fn trusts(&self, id: &str) -> bool {
        spiffe_domain(id).is_ok_and(|domain| self.fixed_roots.contains_key(domain) || self.live.roots.load().contains_key(domain))
    }

    /// Whether keys for the JWT-SVIDs of this ID's trust domain are still there.
    pub(super) fn trusts_tokens(&self, id: &str) -> bool {
        spiffe_domain(id).is_ok_and(|domain| self.fixed_keys.contains_key(domain) || self.live.keys.load().contains_key(domain))
    }

    /// Checks a JWT-SVID (JWT-SVID §3, §5).
    pub(super) fn prove_token(&self, token: Token, now: Moment) -> Result<Proof, Refusal> {
        token.check_type(&["JWT", "JOSE"], true).map_err(|f| refused(&f))?;
        let domain = token.claimed_subject().map(spiffe_domain).and_then(Result::ok).map(Box::<str>::from);
        let domain = domain.ok_or_else(|| refused(&Fault::Claim("sub")))?;
        let keys = self.fixed_keys.get(&domain).cloned().or_else(|| self.live.keys.load().get(&domain).cloned());
        let Some(keys) = keys else {
            return Err(Refusal::new(Reason::NoTask, format!("no bundle is known for the trust domain `{domain}`")));
        };
        let claims = token.verify(&keys, &Algorithm::JWT_SVID).map_err(|f| refused(&f))?.claims;
        claims.check_audience(&self.spec.audience).map_err(|f| refused(&f))?;
        let expires = claims.check_times(now, LEEWAY).map_err(|f| refused(&f))?;
        let id = claims.text("sub").ok_or_else(|| refused(&Fault::Claim("sub")))?;
        let left = Duration::from_secs(u64::try_from(expires.saturating_sub(now.utc.unix_timestamp())).unwrap_or(0)) + LEEWAY.0;
        let (until, again) = (now.later(left), now.later(REMEMBERED.min(left)));
        Ok(Proof {
            identity: Identity::Spiffe(id.into()),
            claims: claims.all().clone(),
            certificate: None,
            principal: None,
            token: None,
            until,
            again,
        })
    }
}

impl Bundles for Spiffe {
    fn roots(&self, trust_domain: &str) -> Option<DomainRoots> {
        self.fixed_roots.get(trust_domain).cloned().or_else(|| self.live.roots.load().get(trust_domain).cloned())
    }
}

impl OwnSvids for Spiffe {
    fn own(&self) -> Option<Arc<CertifiedKey>> {
        Self::own(self).map(|own| own.certificate.clone())
    }

    fn token<'a>(&'a self, audience: &'a str) -> TokenSvid<'a> {
        Box::pin(async move {
            let api = self.spec.workload_api.as_ref().ok_or("`spiffe` names no Workload API")?;
            let answer = workload::ask(api, "FetchJWTSVID", &messages::token_request(audience)).await?;
            messages::token(&answer)
        })
    }
}

type FromFiles = (Option<DomainRoots>, Option<Arc<Keys>>);

fn files(bundle: &BundleSpec) -> Result<FromFiles, Problem> {
    let wrong = |path: &std::path::Path, why: String| Problem::new(why).at(path, None).key("spiffe.bundles");
    let roots = bundle.roots.as_deref().map(|path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        domain_roots(read.map_err(|e| wrong(path, e.to_string()))?).map_err(|why| wrong(path, why))
    });
    let keys = bundle.jwks.as_deref().map(|path| {
        let bytes = std::fs::read(path).map_err(|e| wrong(path, e.to_string()))?;
        let keys = Keys::read(&bytes, Use::JwtSvid).map_err(|e| wrong(path, e.to_string()))?;
        if keys.is_empty() { Err(wrong(path, "the set has no key that can be used here".to_owned())) } else { Ok(Arc::new(keys)) }
    });
    Ok((roots.transpose()?, keys.transpose()?))
}

async fn watching(api: crate::config::WorkloadApi, stream: Stream, live: Weak<Live>) {
    let mut wait = FIRST;
    while live.strong_count() > 0 {
        let mut came = false;
        let mut take = |message: &[u8]| {
            let Some(live) = live.upgrade() else { return Err("nobody asks any more".to_owned()) };
            stream.take(&live, message)?;
            came = true;
            Ok(())
        };
        // Who holds this may be gone while nothing comes.
        let ended = tokio::select! {
            ended = workload::stream(&api, stream.method(), &[], &mut take) => ended,
            () = gone(&live) => return,
        };
        tracing::warn!(method = stream.method(), "the Workload API's stream ended: {ended}");
        match ended {
            Ended::Never(_) => return,
            Ended::Denied(_) => {
                if let Some(live) = live.upgrade() {
                    stream.unload(&live);
                }
            }
            Ended::Broken(_) => {}
        }
        if came {
            wait = FIRST;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(MOST);
    }
}

async fn gone(live: &Weak<Live>) {
    while live.strong_count() > 0 {
        tokio::time::sleep(MOST).await;
    }
}

impl Stream {
    fn method(self) -> &'static str {
        match self {
            Self::Own => "FetchX509SVID",
            Self::Roots => "FetchX509Bundles",
            Self::Keys => "FetchJWTBundles",
        }
    }

    /// A message is the full set: what is not in it is unloaded.
    fn take(self, live: &Live, message: &[u8]) -> Result<(), String> {
        match self {
            Self::Own => {
                let own = messages::own(message)?;
                if let Some(own) = &own {
                    tracing::info!(id = %own.svid.id, until = %own.svid.until, "X.509-SVID");
                }
                live.own.store(own.map(Arc::new));
            }
            Self::Roots => {
                let roots = messages::roots(message)?;
                tracing::info!(trust_domains = roots.len(), "X.509 bundles");
                live.roots.store(Arc::new(roots));
            }
            Self::Keys => {
                let keys = messages::keys(message)?;
                tracing::info!(trust_domains = keys.len(), "JWT bundles");
                live.keys.store(Arc::new(keys));
            }
        }
        Ok(())
    }

    fn unload(self, live: &Live) {
        match self {
            Self::Own => live.own.store(None),
            Self::Roots => live.roots.store(Arc::default()),
            Self::Keys => live.keys.store(Arc::default()),
        }
    }
}

impl fmt::Debug for Spiffe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spiffe").field("spec", &self.spec).finish_non_exhaustive()
    }
}
