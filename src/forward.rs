//! Room 7: the canonical request, header hygiene, the pool, the address guard, bodies, upgrades.
//!
//! Takes only [`Armed`](crate::call::Armed): what was neither permitted nor recorded cannot be sent (laws 1 and 4).

mod body;
mod dial;
mod guard;
mod inward;
mod pool;
mod proxy;
mod request;
mod send;
mod splice;
mod vigil;

use std::sync::{Arc, Once};

pub use body::{Cut, Progress, Upstream};
pub use guard::AddressGuard;
pub use inward::Inward;
pub use send::{Reply, Sent};
pub use splice::Until;

use crate::{
    config::{self, Timeouts},
    tls::UpstreamTls,
};

/// Sends what was armed, over pooled connections.
#[derive(Debug, Clone)]
pub struct Forward(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dialer: dial::Dialer,
    pool: pool::Pool,
    timeouts: Timeouts,
    reaping: Once,
}

impl Forward {
    #[must_use]
    pub fn new(upstream: &config::Upstream, timeouts: &Timeouts, tls: UpstreamTls) -> Self {
        let dialer = dial::Dialer::new(upstream, timeouts.connect, tls);
        Self(Arc::new(Inner { dialer, pool: pool::Pool::default(), timeouts: timeouts.clone(), reaping: Once::new() }))
    }

    /// Starts to close connections that nobody used for long, until this `Forward` is gone.
    fn reap(&self) {
        self.0.reaping.call_once(|| {
            let inner = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(pool::IDLE_LIFE / 2);
                loop {
                    tick.tick().await;
                    match inner.upgrade() {
                        Some(inner) => inner.pool.reap(),
                        None => return,
                    }
                }
            });
        });
    }
}
