use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{Request, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{runtime::Handle, time::timeout};

/// How long, and for how many bytes, a body that nobody wants is still taken.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_BYTES: usize = 64 << 20;

/// A request body as it arrives from the agent.
///
/// A client that is still sending when its request is refused hears the refusal only if its bytes
/// are taken: closing an HTTP/1.1 connection with bytes unread resets it (RFC 9112 §9.6). So what
/// is left when this is dropped is read and thrown away, within bounds.
#[derive(Debug)]
pub struct Arriving {
    incoming: Option<Incoming>,
    lingers: bool,
}

impl Arriving {
    /// Takes the body of a request, as it was accepted.
    pub fn of(request: Request<Incoming>) -> Request<Self> {
        // A client that waits for `100 Continue` sends nothing until its body is first asked for.
        let lingers = request.version() < Version::HTTP_2 && !request.headers().contains_key(header::EXPECT);
        request.map(|incoming| Self { incoming: Some(incoming), lingers })
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(cx);
        this.lingers |= matches!(&polled, Poll::Ready(Some(Ok(_))));
        if matches!(&polled, Poll::Ready(None | Some(Err(_)))) {
            this.incoming = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        if self.lingers
            && !incoming.is_end_stream()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(timeout(LINGER, discard(incoming)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = LINGER_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Buf::remaining);
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}
