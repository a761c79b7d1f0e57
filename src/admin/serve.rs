use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request, response::IntoResponse, serve::Listener};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{answer::Answer, peer::Peer};

/// Connections at once. An agent may reach these listeners: it must not use up the process's files.
const CONNECTIONS: usize = 256;
/// For a request's head, idle time included; for the whole request; and to finish at shutdown.
const HEAD: Duration = Duration::from_secs(20);
const REQUEST: Duration = Duration::from_secs(30);
const FINISH: Duration = Duration::from_secs(5);

/// Serves HTTP/1 until `shutdown`, then lets open requests finish for a while.
pub(super) async fn serve<L: Listener>(mut listener: L, routes: Router, who: fn(&L::Io) -> Peer, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let (io, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&mut listener, &room) => accepted,
        };
        while open.try_join_next().is_some() {}
        let (routes, peer, shutdown) = (routes.clone(), who(&io), shutdown.clone());
        open.spawn(async move {
            connection(io, routes, peer, shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    // Whoever has not finished by then is cut with the set.
    let _ = timeout(FINISH, async { while open.join_next().await.is_some() {} }).await;
}

async fn accept<L: Listener>(listener: &mut L, room: &Arc<Semaphore>) -> (L::Io, Option<tokio::sync::OwnedSemaphorePermit>) {
    let place = room.clone().acquire_owned().await.ok();
    (listener.accept().await.0, place)
}

async fn connection(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    peer: Peer,
    shutdown: CancellationToken,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answered = routes.clone().oneshot(request.map(Body::new));
        async move {
            match timeout(REQUEST, answered).await {
                Ok(answer) => answer,
                Err(_) => Ok(Answer::too_slow().into_response()),
            }
        }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(HEAD).serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    // A peer that breaks off is its own affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
