use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsAcceptor;

use crate::call::Host;

use super::{Authority, CaError};

/// Leaves kept; a client that asks for more names than this pays for making them again.
const KEPT: usize = 1024;

/// Terminates the agent's TLS for whatever host it connects to.
#[derive(Clone)]
pub struct Terminator {
    minter: Arc<Minter>,
    tickets: Arc<dyn ProducesTickets>,
    acceptors: Arc<Mutex<HashMap<Host, TlsAcceptor>>>,
}

#[derive(Debug)]
struct Minter {
    authority: Authority,
    leaves: Mutex<HashMap<Host, (Arc<CertifiedKey>, OffsetDateTime)>>,
}

/// Answers a client hello with a leaf for its SNI, or for the host of the CONNECT where there is
/// none. That SNI and host differ is found, and refused, when the request is read (421).
#[derive(Debug)]
struct Resolver {
    minter: Arc<Minter>,
    host: Host,
}

impl Terminator {
    /// # Errors
    /// When no ticket key can be made.
    pub fn new(authority: Authority) -> Result<Self, rustls::Error> {
        Ok(Self {
            minter: Arc::new(Minter { authority, leaves: Mutex::default() }),
            tickets: rustls::crypto::ring::Ticketer::new()?,
            acceptors: Arc::default(),
        })
    }

    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.minter.authority
    }

    /// A leaf for `host`, made anew before it expires.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn leaf(&self, host: &Host) -> Result<Arc<CertifiedKey>, CaError> {
        self.minter.leaf(host)
    }

    /// The acceptor for a connection to `host`.
    ///
    /// # Errors
    /// When rustls refuses its configuration (a fault of the build).
    pub fn acceptor(&self, host: &Host) -> Result<TlsAcceptor, rustls::Error> {
        if let Some(acceptor) = self.acceptors.lock().get(host) {
            return Ok(acceptor.clone());
        }
        let resolver = Resolver { minter: self.minter.clone(), host: host.clone() };
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets keep nothing here, so that a thousand hosts cost no memory.
        config.ticketer = self.tickets.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut kept = self.acceptors.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(host.clone(), acceptor.clone());
        Ok(acceptor)
    }
}

impl Minter {
    fn leaf(&self, host: &Host) -> Result<Arc<CertifiedKey>, CaError> {
        let now = crate::clock::utc();
        let mut kept = self.leaves.lock();
        if let Some((leaf, until)) = kept.get(host)
            && *until > now
        {
            return Ok(leaf.clone());
        }
        let leaf = self.authority.leaf(host, now)?;
        let key = rustls::crypto::ring::sign::any_supported_type(&leaf.key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let certified = Arc::new(CertifiedKey::new(leaf.chain, key));
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(host.clone(), (certified.clone(), leaf.not_after - Duration::hours(1)));
        Ok(certified)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = match hello.server_name() {
            Some(name) if name != self.host.as_str() => Host::parse(name).ok()?,
            _ => self.host.clone(),
        };
        match self.minter.leaf(&host) {
            Ok(leaf) => Some(leaf),
            Err(error) => {
                tracing::error!(%error, %host, "no leaf certificate");
                None
            }
        }
    }
}

impl std::fmt::Debug for Terminator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminator").field("minter", &self.minter).finish_non_exhaustive()
    }
}
