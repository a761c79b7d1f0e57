use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use http::HeaderValue;

use crate::call::{Host, Listener, Proof, Scheme, Seen};

use super::Wire;

/// What is known of a call from the connection it came on.
#[derive(Debug)]
pub struct Door {
    pub listener: Listener,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// Set inside a CONNECT.
    pub inside: Option<Inside>,
    /// The bytes' own account: where a head was seen, whether a call is in flight.
    pub wire: Arc<Wire>,
    /// What the connection's certificate proved.
    pub proof: Option<Arc<Proof>>,
    /// What the connection presented before, so that a claim is looked up once.
    pub seen: Seen,
    /// The uid that owns the peer's socket, looked up once when it is asked for.
    pub peer_uid: OnceLock<Option<u32>>,
}

/// What a CONNECT fixed for the calls in it.
#[derive(Debug, Clone)]
pub struct Inside {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    /// The name in the TLS client hello, when there was one.
    pub sni: Option<Host>,
    /// The `Proxy-Authorization` of the CONNECT.
    pub claim: Option<HeaderValue>,
}

impl Door {
    #[must_use]
    pub fn new(listener: Listener, peer: SocketAddr, local: SocketAddr, wire: Arc<Wire>, inside: Option<Inside>) -> Self {
        Self { listener, peer, local, inside, wire, proof: None, seen: Seen::default(), peer_uid: OnceLock::new() }
    }
}
