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
    /// Passed on as it arrives.
    Stream(Incoming),
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

    /// The bytes, when the whole body is at hand.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes, _) => bytes.as_ref(),
            Self::Empty | Self::Stream(_) => None,
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
            Self::Stream(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes, _) => bytes.is_none(),
            Self::Stream(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(incoming) => incoming.size_hint(),
        }
    }
}
