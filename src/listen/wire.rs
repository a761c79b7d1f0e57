use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::messages::{Ends, Messages};
use crate::{call::DecisionId, clock};

/// What the bytes of an HTTP/1.1 connection show that the parsed request does not.
///
/// hyper reads `Content-Length` beside `Transfer-Encoding` as chunked and drops the length before
/// anyone sees it (RFC 9112 §6.1 allows that, law 2 does not). So the bytes of each head are kept
/// until its request is handed on, and looked at when it is chunked. Bodies are followed to their
/// end whether anyone reads them or not, so that no byte of one is taken for a head.
#[derive(Debug, Default)]
pub struct Wire {
    bytes: Mutex<Messages>,
    in_flight: AtomicBool,
    /// The protocol was switched: what follows is not HTTP/1.1.
    switched: AtomicBool,
    /// The decision that was told to one who sent what is no request.
    refused: OnceLock<DecisionId>,
}

impl Wire {
    /// Marks a call in flight until the guard is dropped; for a chunked one, says whether its head
    /// had one reading.
    pub(super) fn begin(self: &Arc<Self>, ends: Ends) -> (InFlight, bool) {
        let clear = self.bytes.lock().begin(ends);
        self.in_flight.store(true, Ordering::Release);
        (InFlight(self.clone()), clear)
    }

    /// The decision that stands in the answer to what was no request, if that was answered.
    pub(super) fn refused(&self) -> Option<DecisionId> {
        self.refused.get().copied()
    }

    /// The status with which hyper itself answers a head that it cannot read, when `bytes` are that
    /// answer: no call is in flight, a head has begun to come, and there is nothing but the status.
    fn unread(&self, bytes: &[u8]) -> Option<StatusCode> {
        let status = BARE.into_iter().find(|(line, _)| bytes.starts_with(line.as_bytes()))?.1;
        (!self.in_flight.load(Ordering::Acquire) && self.bytes.lock().has_begun()).then_some(status)
    }

    /// Looks at no further byte, and no longer at the time: whoever took the stream over does.
    pub(super) fn switch(&self) {
        self.switched.store(true, Ordering::Release);
    }

    fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Acquire)
    }
}

/// How hyper's answers to a head that it cannot read begin.
const BARE: [(&str, StatusCode); 2] = [
    ("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n", StatusCode::BAD_REQUEST),
    (
        "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    ),
];

/// A call is in flight while this lives.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Wire>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.store(false, Ordering::Release);
    }
}

/// A connection that gives up on heads that do not come, and on silence between calls.
pub(super) struct Watched<S> {
    inner: S,
    wire: Arc<Wire>,
    watch: Watch,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the last byte went either way, or a head began to come.
    since: Instant,
    head_begun: bool,
    /// What is said in place of hyper's bare answer, as far as it is not written yet.
    instead: Bytes,
}

/// What a connection is watched for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// A head must be whole this long after its first byte; None where heads are not seen (h2).
    pub(super) header: Option<Duration>,
    /// Longest silence with no call in flight.
    pub(super) idle: Duration,
    /// Bytes of a head that are kept.
    pub(super) head_bytes: usize,
    /// The whole answer to what is no request, since hyper gives a status alone.
    pub(super) words: fn(DecisionId, StatusCode) -> Bytes,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, wire: Arc<Wire>, watch: Watch) -> Self {
        Self { inner, wire, watch, timer: None, since: Instant::now(), head_begun: false, instead: Bytes::new() }
    }

    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// Takes hyper's bare answer, and says more in its place.
    fn take_bare(&mut self, bytes: &[u8]) -> bool {
        if self.watch.header.is_none() {
            return false;
        }
        let Some(status) = self.wire.unread(bytes) else { return false };
        let id = *self.wire.refused.get_or_init(|| DecisionId::new(clock::unix_ms()));
        self.instead = (self.watch.words)(id, status);
        true
    }

    fn note_read(&mut self, bytes: &[u8]) {
        if self.watch.header.is_none() || self.wire.is_switched() {
            self.since = Instant::now();
            return;
        }
        let mut messages = self.wire.bytes.lock();
        messages.take(bytes, self.watch.head_bytes);
        let begun = messages.has_begun();
        if begun != self.head_begun {
            self.since = Instant::now();
        }
        self.head_begun = begun;
    }

    /// Ready when the connection has been silent, or its head has been coming, for too long.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let limit = self.limit();
            let due = self.since + limit;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // Armed for earlier than now due: let it fire and look again, rather than re-arm a
            // timer for every call.
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            std::task::ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.wire.in_flight.load(Ordering::Acquire) {
                self.since = now;
            }
            let due = self.since + self.limit();
            if due <= now {
                return Poll::Ready(());
            }
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(due);
            }
        }
    }

    fn limit(&self) -> Duration {
        match self.watch.header {
            Some(header) if self.head_begun && !self.wire.in_flight.load(Ordering::Acquire) => header,
            _ => self.watch.idle,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(read) => {
                this.note_read(buf.filled().get(before..).unwrap_or_default());
                Poll::Ready(read)
            }
            Poll::Pending => {
                if this.wire.is_switched() {
                    return Poll::Pending;
                }
                if this.head_begun {
                    let in_flight = this.wire.in_flight.load(Ordering::Acquire);
                    let begun = this.wire.bytes.lock().has_begun();
                    if in_flight || !begun {
                        // Its request was handed on; what is waited for now is the next one.
                        this.head_begun = begun;
                        this.since = Instant::now();
                    }
                }
                this.poll_due(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.instead.has_remaining() {
            let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, &self.instead))?;
            self.instead.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.watch.header.is_none() {
            self.since = Instant::now();
        }
        if self.take_bare(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.watch.header.is_none() {
            self.since = Instant::now();
        }
        if let [only] = bufs
            && self.take_bare(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_flight_until_its_guard_is_dropped() {
        let wire = Arc::new(Wire::default());
        let (guard, _) = wire.begin(Ends::AtOnce);
        assert!(wire.in_flight.load(Ordering::Acquire));
        drop(guard);
        assert!(!wire.in_flight.load(Ordering::Acquire));
    }
}
