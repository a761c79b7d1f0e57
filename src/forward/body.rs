use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    call::{Body, Leash, Rewrite, Search, Task, Unsigned},
    refusal::{Reason, Refusal},
};

use super::{
    pool::{H1, Site},
    vigil::Vigil,
};

/// Why a body stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The task ended or expired while the body was open, or the call is not allowed any more.
    #[error("{}", ended(*.0))]
    TaskEnded(Reason),
    /// No byte came for as long as `timeouts.idle`.
    #[error("no byte came for {0:?}")]
    Idle(Duration),
    /// The request body holds what must not leave.
    #[error("{}", .0.detail)]
    Foreign(Box<Refusal>),
    #[error("{0}")]
    Agent(#[from] crate::call::BodyError),
    /// What the agent sent cannot be signed anew.
    #[error("{0}")]
    Unsigned(#[from] Unsigned),
    #[error("upstream: {0}")]
    Upstream(#[from] hyper::Error),
}

fn ended(reason: Reason) -> &'static str {
    match reason {
        Reason::TaskExpired => "the task has expired",
        Reason::TaskEnded => "the task has ended",
        _ => "the call is not allowed any more",
    }
}

impl Cut {
    /// The reason for the record, where it is Remit's doing or upstream's.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::TaskEnded(reason) => Some(*reason),
            Self::Idle(_) => Some(Reason::UpstreamTimeout),
            Self::Upstream(_) => Some(Reason::UpstreamUnreachable),
            Self::Foreign(refusal) => Some(refusal.reason),
            Self::Unsigned(_) => Some(Reason::AmbiguousRequest),
            Self::Agent(_) => None,
        }
    }
}

/// What is counted of a request body while it streams.
#[derive(Debug, Default)]
pub struct Progress {
    pub bytes: AtomicU64,
    pub sha256: OnceLock<[u8; 32]>,
    /// The agent's side broke, so that upstream never got the whole.
    pub(super) broken: AtomicBool,
    /// What of it must not leave, when that was found.
    pub foreign: OnceLock<Refusal>,
}

/// The request body on its way out.
pub(super) enum Outbound {
    /// Judged whole, or empty.
    Ready(Body),
    Streaming(Box<Streaming>),
}

pub(super) struct Streaming {
    body: Body,
    search: Option<Box<dyn Search>>,
    /// What comes behind what the search held back.
    trailers: Option<HeaderMap>,
    over: bool,
    vigil: Vigil,
    leash: Option<Arc<Leash>>,
    progress: Arc<Progress>,
    hash: Option<ring::digest::Context>,
    /// Signs its chunks anew.
    rewrite: Option<Box<dyn Rewrite>>,
}

impl Outbound {
    pub(super) fn new(
        body: Body,
        task: &Arc<Task>,
        leash: Option<&Arc<Leash>>,
        search: Option<Box<dyn Search>>,
    ) -> (Self, Option<Arc<Progress>>) {
        if !body.streams() {
            return (Self::Ready(body), None);
        }
        let progress = Arc::new(Progress::default());
        let hash = Some(ring::digest::Context::new(&ring::digest::SHA256));
        let vigil = Vigil::new(task).leashed(leash);
        let streaming = Streaming {
            body,
            search,
            trailers: None,
            over: false,
            vigil,
            leash: leash.cloned(),
            progress: progress.clone(),
            hash,
            rewrite: None,
        };
        (Self::Streaming(Box::new(streaming)), Some(progress))
    }

    /// The same body, rewritten as it leaves.
    pub(super) fn rewritten(self, mut rewrite: Box<dyn Rewrite>) -> Result<Self, Unsigned> {
        match self {
            Self::Streaming(mut streaming) => {
                streaming.rewrite = Some(rewrite);
                Ok(Self::Streaming(streaming))
            }
            Self::Ready(Body::Whole(bytes, place)) => {
                let bytes = bytes.map(|bytes| rewrite.next(&bytes)).transpose()?;
                rewrite.end()?;
                Ok(Self::Ready(Body::Whole(bytes, place)))
            }
            Self::Ready(body) => rewrite.end().map(|()| Self::Ready(body)),
        }
    }
}

impl Streaming {
    fn finish(&mut self) {
        self.release();
        if let Some(hash) = self.hash.take()
            && let Ok(digest) = hash.finish().as_ref().try_into()
        {
            let _ = self.progress.sha256.set(digest);
        }
    }
}

impl Streaming {
    /// The next frame as it leaves.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let frame = ready!(self.poll_searched(cx));
            let over = self.is_over();
            let Some(rewrite) = &mut self.rewrite else { return Poll::Ready(frame) };
            return Poll::Ready(match frame {
                Some(Ok(frame)) => match frame.into_data().map(|data| rewrite.next(&data)) {
                    Ok(Ok(data)) if data.is_empty() && !over => continue,
                    Ok(Ok(data)) => match over.then(|| rewrite.end()).transpose() {
                        Ok(_) => Some(Ok(Frame::data(data))),
                        Err(unsigned) => Some(Err(unsigned.into())),
                    },
                    Ok(Err(unsigned)) => Some(Err(unsigned.into())),
                    // Fields after the body were not announced as signed: they are not what is asked.
                    Err(_) => continue,
                },
                None => rewrite.end().err().map(|unsigned| Err(unsigned.into())),
                broken => broken,
            });
        }
    }

    /// Nothing more of the request is to come.
    fn release(&self) {
        if let Some(leash) = &self.leash {
            leash.release();
        }
    }
}

impl Streaming {
    /// The next frame that may leave.
    fn poll_searched(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
            let Some(search) = &mut self.search else { return Poll::Ready(frame.map(Ok)) };
            let (leaves, trailers) = match frame.map(Frame::into_data) {
                Some(Ok(piece)) => (search.push(piece), None),
                None => {
                    self.over = true;
                    (search.finish(), None)
                }
                Some(Err(frame)) => {
                    self.over = true;
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    (search.finish().and_then(|rest| search.trailers(&mut trailers).map(|()| rest)), Some(trailers))
                }
            };
            self.trailers = trailers;
            match leaves {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(refusal) => return Poll::Ready(Some(Err(self.stop(refusal)))),
            }
        }
    }

    /// Ends the call: what must not leave was found.
    fn stop(&mut self, refusal: Refusal) -> Cut {
        self.over = true;
        let _ = self.progress.foreign.set(refusal.clone());
        if let Some(leash) = &self.leash {
            leash.pull(refusal.reason);
        }
        Cut::Foreign(Box::new(refusal))
    }

    fn held(&self) -> usize {
        self.search.as_ref().map_or(0, |search| search.held())
    }

    fn is_over(&self) -> bool {
        self.trailers.is_none() && (self.over || (self.held() == 0 && self.body.is_end_stream()))
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, held) = (self.body.size_hint(), self.held() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.release();
    }
}

impl HttpBody for Outbound {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let streaming = match self.get_mut() {
            Self::Ready(body) => return Pin::new(body).poll_frame(cx).map_err(Cut::Agent),
            Self::Streaming(streaming) => &mut **streaming,
        };
        if let Poll::Ready(reason) = streaming.vigil.poll_ended(cx) {
            return Poll::Ready(Some(Err(Cut::TaskEnded(reason))));
        }
        let frame = streaming.poll_next(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    streaming.progress.bytes.fetch_add(data.remaining() as u64, Ordering::Relaxed);
                    if let Some(hash) = &mut streaming.hash {
                        hash.update(data);
                    }
                }
                if streaming.is_over() {
                    streaming.finish();
                }
            }
            Poll::Ready(None) => streaming.finish(),
            Poll::Ready(Some(Err(Cut::Foreign(_)))) => {}
            Poll::Ready(Some(Err(_))) => streaming.progress.broken.store(true, Ordering::Relaxed),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ready(body) => body.is_end_stream(),
            Self::Streaming(streaming) => streaming.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ready(body) => body.size_hint(),
            Self::Streaming(streaming) => streaming.size_hint(),
        }
    }
}

/// Upstream's answer on its way to the agent. Cut when the task ends, or stays silent too long.
pub struct Upstream {
    source: Source,
    /// None once the answer is over, and its connection given back.
    vigil: Option<Vigil>,
    idle: Duration,
    /// Nothing has come since the vigil was last told that something did.
    waiting: bool,
}

enum Source {
    /// The call drives its connection, and gives it back when the answer is over.
    H1 {
        incoming: Incoming,
        h1: Option<Box<H1>>,
        site: Arc<Site>,
        reusable: bool,
    },
    H2(Incoming),
}

impl Upstream {
    pub(super) fn h1(incoming: Incoming, h1: Box<H1>, site: Arc<Site>, reusable: bool, vigil: Vigil, idle: Duration) -> Self {
        Self::new(Source::H1 { incoming, h1: Some(h1), site, reusable }, vigil, idle)
    }

    pub(super) fn h2(incoming: Incoming, vigil: Vigil, idle: Duration) -> Self {
        Self::new(Source::H2(incoming), vigil, idle)
    }

    fn new(source: Source, vigil: Vigil, idle: Duration) -> Self {
        Self { source, vigil: Some(vigil), idle, waiting: false }
    }

    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(vigil) = &mut self.vigil else { return Poll::Pending };
        if !std::mem::replace(&mut self.waiting, true) {
            vigil.heard(self.idle);
        }
        vigil.poll_silent(cx)
    }
}

impl Source {
    fn incoming(&self) -> &Incoming {
        match self {
            Self::H1 { incoming, .. } | Self::H2(incoming) => incoming,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>, vigil: &mut Option<Vigil>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::H2(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::H1 { incoming, h1, .. } => {
                // First what is already there, then what the connection can bring.
                let frame = Pin::new(&mut *incoming).poll_frame(cx);
                let frame = match (frame, h1.as_mut()) {
                    (Poll::Pending, Some(connection)) => {
                        if connection.drive(cx).is_ready() {
                            *h1 = None;
                        }
                        Pin::new(&mut *incoming).poll_frame(cx)
                    }
                    (frame, _) => frame,
                };
                if matches!(frame, Poll::Ready(None)) || incoming.is_end_stream() {
                    self.give_back(cx, vigil);
                }
                frame
            }
        }
    }

    fn give_back(&mut self, cx: &mut Context<'_>, vigil: &mut Option<Vigil>) {
        if let Self::H1 { h1, site, reusable, .. } = self
            && let Some(mut connection) = h1.take()
            && *reusable
            && connection.is_done(cx)
        {
            connection.vigil = vigil.take();
            site.keep(connection);
        }
    }
}

impl HttpBody for Upstream {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        if let Some(vigil) = &mut this.vigil
            && let Poll::Ready(reason) = vigil.poll_ended(cx)
        {
            return Poll::Ready(Some(Err(Cut::TaskEnded(reason))));
        }
        match this.source.poll_frame(cx, &mut this.vigil) {
            Poll::Ready(frame) => {
                this.waiting = false;
                Poll::Ready(frame.map(|f| f.map_err(Cut::Upstream)))
            }
            Poll::Pending => this.poll_silent(cx).map(|()| Some(Err(Cut::Idle(this.idle)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.incoming().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.incoming().size_hint()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}
