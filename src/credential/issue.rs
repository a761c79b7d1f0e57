use std::{
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, header::AUTHORIZATION};

use super::{scope::Scope, scrub::Scrubber};
use crate::{
    call::{Head, Inject, Intent, Lease, Task},
    problem::Problem,
    secret::Secret,
};

/// What an issuer promises: the trait is used as `dyn`, so its futures are boxed.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// What a lease is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Still running, and the one that pays.
    pub task: &'a Arc<Task>,
    /// The request as it came: kind `own` fingerprints the login in it.
    pub head: &'a Head,
    /// What is asked for, to narrow the credential to it.
    pub intents: &'a [Intent],
    pub now: Instant,
}

/// What is asked of an issuer.
#[derive(Debug, Clone)]
pub struct Ask {
    pub task: Arc<Task>,
    /// Exactly what the lease is to allow.
    pub scope: Scope,
    /// How long the task still has: nothing is to outlive it.
    pub life: Duration,
}

/// What an issuer gave.
#[derive(Debug)]
pub struct Issued {
    pub inject: Inject,
    /// What must not be seen by the agent. The first is fingerprinted; all are scrubbed from answers.
    pub secrets: Vec<Secret<Vec<u8>>>,
    /// How long it lives from now, by the issuer's word; None: until it is revoked.
    pub lives: Option<Duration>,
    /// What [`IssueCredential::revoke`] needs, kept sealed before it is used; None: its issuer cannot revoke it.
    pub handle: Option<Secret<Vec<u8>>>,
    /// In what it allows more than was asked: it is revoked, and not used.
    pub wider: Option<String>,
}

impl Issued {
    /// A bearer token (RFC 6750 §2.1).
    ///
    /// # Errors
    /// When no header can carry it.
    pub fn bearer(token: &str) -> Result<Self, Fault> {
        let value = Secret::new(format!("Bearer {token}"));
        Self::header(AUTHORIZATION, value.expose(), token)
    }

    /// A field with `value`, of which `secret` is to be kept from the agent.
    ///
    /// # Errors
    /// When no header can carry it.
    pub fn header(name: http::HeaderName, value: &str, secret: &str) -> Result<Self, Fault> {
        let mut value =
            HeaderValue::from_str(value).map_err(|_| Fault::Unavailable("the issuer gave what no header can carry".to_owned()))?;
        value.set_sensitive(true);
        let secrets = vec![Secret::new(secret.as_bytes().to_vec())];
        Ok(Self { inject: Inject::Header(name, value), secrets, lives: None, handle: None, wider: None })
    }
}

/// Why an issuer gave nothing. The text names the issuer and what to mend, and shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It may pass: slow, down, out of reach, or answering nonsense.
    Unavailable(String),
    /// It said no, or what is asked cannot be asked: the configuration, or the issuer's, must change.
    Refused(String),
}

impl Fault {
    /// Without what an issuer may have said back: what the configuration gave to prove itself there, and
    /// `handle`, which may be the lease itself.
    pub(super) fn without_secrets(self, issuer: &dyn IssueCredential, handle: Option<&[u8]>) -> Self {
        let mut secrets: Vec<Secret<Vec<u8>>> = handle.map(|h| Secret::new(h.to_vec())).into_iter().collect();
        issuer.secrets(&mut |secret| secrets.push(Secret::new(secret.as_bytes().to_vec())));
        let cleaned = |why: String| match Scrubber::new(secrets.iter().map(|s| s.expose().as_slice())) {
            Ok(scrubber) => {
                let mut text = why.into_bytes();
                scrubber.mask(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            }
            Err(_) => "its issuer refused".to_owned(),
        };
        match self {
            Self::Unavailable(why) => Self::Unavailable(cleaned(why)),
            Self::Refused(why) => Self::Refused(cleaned(why)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

/// What became of a lease that is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// Its issuer accepts it no more.
    Done,
    /// Its issuer cannot take it back: it lives until it expires, or is rotated by hand.
    Irrevocable,
}

/// Issues, renews and revokes leases of one configured credential. Holds no lease: that is the
/// desk's, which asks once however many calls wait, writes down what it gets and revokes it.
pub trait IssueCredential: Send + Sync + fmt::Debug {
    /// `static`, `own`, …: as `credentials.yaml` names it.
    fn kind(&self) -> &'static str;

    /// A lease that takes no issuer. The hot path: no I/O, no allocation to speak of.
    fn at_hand(&self, _request: &Request<'_>) -> Option<Lease> {
        None
    }

    /// Whether the configuration says what is asked for each intent. An intent of which it says
    /// nothing is then refused, never given the issuer's default.
    fn scoped(&self) -> bool {
        true
    }

    /// The value of a call's parameter as it may stand in what is asked; None when it would ask for
    /// more than itself, such as a blank in a list of scopes or a `*` in a pattern.
    fn value<'v>(&self, value: &'v str) -> Option<Cow<'v, str>> {
        Some(Cow::Borrowed(value))
    }

    /// Orders words of which one includes the other, such as read, write and admin.
    fn level(&self, _word: &str) -> Option<u8> {
        None
    }

    /// A lease from the issuer.
    fn issue<'a>(&'a self, ask: &'a Ask) -> Pending<'a, Issued>;

    /// One that outlives what `handle` stands for, for the same; where an issuer prolongs nothing, a new one.
    fn renew<'a>(&'a self, _handle: &'a [u8], ask: &'a Ask) -> Pending<'a, Issued> {
        self.issue(ask)
    }

    /// Makes the issuer accept no more what `handle` stands for; done also when it already does not.
    fn revoke<'a>(&'a self, _handle: &'a [u8]) -> Pending<'a, Revoked> {
        Box::pin(std::future::ready(Ok(Revoked::Irrevocable)))
    }

    /// Shows each secret that the configuration gave it: what an agent sends of one has leaked.
    fn secrets(&self, _see: &mut dyn FnMut(&str)) {}

    /// The query parameter that its leases are injected as.
    fn query_name(&self) -> Option<&str> {
        None
    }

    /// Whether the agent's own login passes.
    fn is_own(&self) -> bool {
        false
    }

    /// Whether its leases sign the request: no other signature in it may count.
    fn signs_requests(&self) -> bool {
        false
    }

    /// Whether it has files that can change.
    fn watches(&self) -> bool {
        false
    }

    /// Reads the files that changed; true when another secret is in force. On a problem the old one
    /// stays. Blocks on the file system.
    ///
    /// # Errors
    /// What is wrong with a file.
    fn refresh(&self) -> Result<bool, Problem> {
        Ok(false)
    }
}
