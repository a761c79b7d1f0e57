//! What operators ask Remit: health and metrics over TCP, control over a Unix socket.
//!
//! Neither is on a call's way. `listen.admin` answers anyone who reaches it and tells no secrets;
//! the control socket answers by who asks.

mod answer;
pub mod control;
mod peer;
mod ready;
mod serve;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

use peer::Peer;

pub use ready::{BlockReady, Readiness};

/// What the admin listener shows.
#[derive(Clone)]
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    /// Brings the gauges up to date, before each scrape.
    pub refresh: Arc<dyn Fn(&Metrics) + Send + Sync>,
}

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown`.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(admin);
    serve::serve(listener, routes, |_| Peer::default(), shutdown).await;
}

async fn metrics(State(admin): State<Admin>) -> Response {
    (admin.refresh)(&admin.metrics);
    match admin.metrics.render() {
        Ok((text, kind)) => ([(CONTENT_TYPE, kind)], text).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {why}\n")).into_response(),
    }
}

/// Says what is missing, one a line.
async fn readyz(State(admin): State<Admin>) -> Response {
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let body: String = missing.iter().map(|what| format!("waiting for: {what}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
