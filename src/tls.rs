//! Room 2: the CA, leaf certificates, agent-side and upstream TLS.

mod ca;
mod client;
mod front;
mod leaf;
mod stream;
mod svid;
mod upstream;

use std::sync::Arc;

pub use ca::{Authority, CaError};
pub use client::{ClientCertificate, OwnSvids, ServerSvid, TokenSvid, certified_pem};
pub use front::{Front, OwnCertificate, certificate_from, certified, proof_of};
pub use leaf::Terminator;
pub use stream::{Socket, Upwards};
pub use svid::{Bundles, DomainRoots, Svid, domain_roots};
pub use upstream::{Offer, UpstreamTls, load_roots, speaks_no_offered};

/// The one TLS backend: rustls on ring.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
