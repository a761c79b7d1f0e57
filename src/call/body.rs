use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

/// The request body that was judged: what leaves is this and nothing else.
#[derive(Debug)]
pub enum Body {
    Empty,
    /// Read whole, so that its parameters could be judged; with its place in the process's budget
    /// for such bodies.
    Whole(Option<Bytes>, Option<OwnedSemaphorePermit>),
    /// Its beginning was read, so that it could be judged; the rest is passed on as it arrives.
    Ahead(Option<Ahead>, Incoming),
    /// Passed on as it arrives.
    Stream(Incoming),
}

/// The beginning of a body, with its place in the process's budget until it is sent.
#[derive(Debug)]
pub struct Ahead {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

/// The agent's side of a body broke.
#[derive(Debug, thiserror::Error)]
#[error("the request body could not be read: {0}")]
pub struct BodyError(#[from] pub hyper::Error);

impl Body {
    #[must_use]
    pub fn whole(bytes: Bytes, place: Option<OwnedSemaphorePermit>) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(Some(bytes), place) }
    }

    /// A body of which `first` was read, and the rest not.
    #[must_use]
    pub fn ahead(first: Bytes, place: Option<OwnedSemaphorePermit>, rest: Incoming) -> Self {
        Self::Ahead(Some(Ahead { bytes: first, _place: place }), rest)
    }

    /// Whether some of it is still to come from the agent.
    #[must_use]
    pub fn streams(&self) -> bool {
        matches!(self, Self::Ahead(..) | Self::Stream(_))
    }

    /// The bytes, when the whole body is at hand.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes, _) => bytes.as_ref(),
            Self::Empty | Self::Ahead(..) | Self::Stream(_) => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes, _) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Ahead(first @ Some(_), _) => Poll::Ready(first.take().map(|a| Ok(Frame::data(a.bytes)))),
            Self::Ahead(None, rest) | Self::Stream(rest) => Pin::new(rest).poll_frame(cx).map_err(BodyError),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes, _) => bytes.is_none(),
            Self::Ahead(first, rest) => first.is_none() && rest.is_end_stream(),
            Self::Stream(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Ahead(None, rest) | Self::Stream(rest) => rest.size_hint(),
            Self::Ahead(Some(first), rest) => {
                let (first, rest) = (first.bytes.len() as u64, rest.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(first));
                if let Some(upper) = rest.upper().and_then(|u| u.checked_add(first)) {
                    hint.set_upper(upper);
                }
                hint
            }
        }
    }
}
