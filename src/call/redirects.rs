use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::PathAndQuery};
use parking_lot::Mutex;

use super::{Destination, Host, Intent, Path, Scheme};

/// How long an answer's `Location` may be followed.
const LIFE: Duration = Duration::from_secs(300);
/// Locations that a task may have open; the oldest gives way.
const OPEN: usize = 32;

/// Where allowed answers sent a task: each URL may be fetched once, by this task, without a
/// credential, on the authority of the call that was answered.
#[derive(Debug, Default)]
pub struct Redirects {
    open: Mutex<VecDeque<Redirect>>,
    /// Nearly every task has none.
    some: AtomicBool,
}

#[derive(Debug)]
struct Redirect {
    to: Destination,
    path: Path,
    intent: Intent,
    until: Instant,
}

impl Redirects {
    /// Notes the `Location` of an answer, when it leads to a host that the operation lists.
    pub fn note(&self, intent: &Intent, status: StatusCode, headers: &HeaderMap, now: Instant) {
        if intent.operation.follows.is_empty() || !status.is_redirection() {
            return;
        }
        let Some((to, path)) = single(headers).and_then(target) else { return };
        if !intent.operation.follows.iter().any(|host| **host == *to.host.as_str()) {
            return;
        }
        let mut open = self.open.lock();
        open.retain(|r| r.until > now);
        if open.len() >= OPEN {
            open.pop_front();
        }
        open.push_back(Redirect { to, path, intent: intent.clone(), until: now + LIFE });
        self.some.store(true, Ordering::Release);
    }

    /// The intent of the call that led to this URL, once.
    pub fn take(&self, to: &Destination, path: &Path, now: Instant) -> Option<Intent> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        let mut open = self.open.lock();
        open.retain(|r| r.until > now);
        let at = open.iter().position(|r| r.to == *to && r.path.whole() == path.whole())?;
        let found = open.remove(at);
        self.some.store(!open.is_empty(), Ordering::Release);
        found.map(|r| r.intent)
    }
}

fn single(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(header::LOCATION).iter();
    let first = all.next();
    if all.next().is_some() { None } else { first }
}

/// An absolute `https` URL (RFC 9110 §10.2.2), without its fragment.
fn target(location: &HeaderValue) -> Option<(Destination, Path)> {
    let text = location.to_str().ok()?;
    let uri: Uri = text.split('#').next()?.parse().ok()?;
    if uri.scheme_str() != Some("https") {
        return None;
    }
    let authority = uri.authority().filter(|a| !a.as_str().contains('@'))?;
    let host = Host::parse(authority.host()).ok()?;
    let port = authority.port_u16().unwrap_or_else(|| Scheme::Https.default_port());
    let path = Path::parse(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))).ok()?;
    Some((Destination { scheme: Scheme::Https, host, port }, path))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::call::{Effect, Operation, Params, Provider};

    fn intent(follows: &[&str]) -> Intent {
        let provider = Arc::new(Provider { id: "acme".into(), credential: None, errors: Default::default(), basic: None });
        let operation = Operation {
            id: "acme.files.get".into(),
            group: "files".into(),
            name: "get".into(),
            provider,
            effect: Effect::Read,
            labels: [].into(),
            upgrades: [].into(),
            takes_credential: true,
            follows: follows.iter().map(|h| (*h).into()).collect(),
        };
        Intent { operation: Arc::new(operation), params: Params::default() }
    }

    fn to(url: &str) -> (Destination, Path) {
        target(&HeaderValue::from_str(url).unwrap()).unwrap()
    }

    fn noted(status: u16, location: &str) -> (Redirects, Instant) {
        let (redirects, now) = (Redirects::default(), Instant::now());
        let headers = [(header::LOCATION, HeaderValue::from_str(location).unwrap())].into_iter().collect();
        redirects.note(&intent(&["cdn.acme.example"]), StatusCode::from_u16(status).unwrap(), &headers, now);
        (redirects, now)
    }

    #[test]
    fn a_location_is_followed_once_exactly_and_not_for_ever() {
        let (redirects, now) = noted(302, "https://cdn.acme.example/a?sig=1#part");
        let (there, path) = to("https://cdn.acme.example/a?sig=1");
        for other in ["https://cdn.acme.example/a?sig=2", "https://cdn.acme.example/b?sig=1", "https://cdn.acme.example:8443/a?sig=1"] {
            let (there, path) = to(other);
            assert!(redirects.take(&there, &path, now).is_none(), "{other}");
        }
        assert!(redirects.take(&there, &path, now).is_some());
        assert!(redirects.take(&there, &path, now).is_none());
        let (redirects, now) = noted(307, "https://cdn.acme.example/a?sig=1");
        assert!(redirects.take(&there, &path, now + LIFE).is_none());
    }

    #[test]
    fn only_a_redirect_to_a_listed_host_is_one() {
        let (there, path) = to("https://cdn.acme.example/a");
        for (status, location) in [
            (200, "https://cdn.acme.example/a"),
            (302, "http://cdn.acme.example/a"),
            (302, "https://evil.example/a"),
            (302, "https://user@cdn.acme.example/a"),
            (302, "/a"),
        ] {
            let (redirects, now) = noted(status, location);
            assert!(redirects.take(&there, &path, now).is_none(), "{status} {location}");
        }
    }
}
