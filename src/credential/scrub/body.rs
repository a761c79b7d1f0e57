use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use pin_project_lite::pin_project;

use super::{
    Scanner, Scrubber,
    inflate::{Inflater, Stop},
};
use crate::{
    credential::minted::{Veil, Withheld, Withhold},
    refusal::{Reason, Refusal},
};

/// Why a scrubbed body broke off.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError<E> {
    #[error(transparent)]
    Upstream(E),
    /// Nothing can be overwritten in a compressed body, so it ends before the value.
    #[error("the compressed answer holds the credential that was injected, and was cut")]
    Cut,
    #[error("the answer is not in the encoding that it names, and cannot be searched")]
    Encoding,
    /// What holds a minted credential and is not what it says passes no further.
    #[error("the answer holds what the grant does not return, is not in the form that it names, and was cut")]
    Withheld,
}

/// What a body gives when it is asked.
type Next<E> = Option<Result<Frame<Bytes>, ScrubError<E>>>;

pin_project! {
    /// A response body without the injected value. Its length and timing stay as they were: only
    /// what may be the beginning of a value waits for the next bytes.
    #[derive(Debug)]
    pub struct Scrubbed<B> {
        #[pin]
        inner: B,
        state: State,
        // What comes after the bytes that are being flushed.
        after: After,
        hits: u32,
        // Hides what the operation mints.
        veil: Option<Veil>,
        // The body is over, and what the veil held has gone on.
        unveiled: bool,
    }
}

#[derive(Debug)]
enum State {
    /// Nothing was injected.
    Pass,
    Plain(Scanner),
    Compressed(Box<Inflater<Scanner>>, Arc<Scrubber>),
}

#[derive(Debug)]
enum After {
    More,
    Trailers(HeaderMap),
    End,
    Done,
}

const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const A_IM: HeaderName = HeaderName::from_static("a-im");

/// Asks upstream for an answer that can be searched: no content coding, no compressed messages.
/// For requests that carry an injected credential.
pub fn ask_readable(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(encodings) = headers.get_mut(&GRPC_ACCEPT_ENCODING) {
        *encodings = HeaderValue::from_static("identity");
    }
    // RFC 7692's permessage-deflate hides the text of WebSocket messages.
    headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    headers.remove(&A_IM);
}

/// Takes what `scrubber` looks for out of a response: its fields now, its body and trailers as
/// they stream.
///
/// # Errors
/// When the body is in an encoding that cannot be searched (502): it must not reach the agent.
pub fn scrub_response<B: Body<Data = Bytes>>(
    response: Response<B>,
    scrubber: Option<&Arc<Scrubber>>,
) -> Result<Response<Scrubbed<B>>, Refusal> {
    clean_response(response, scrubber, Withhold::default()).map(|(response, _)| response)
}

/// As [`scrub_response`], and without what is kept back.
///
/// # Errors
/// As [`scrub_response`].
pub fn clean_response<B: Body<Data = Bytes>>(
    mut response: Response<B>,
    scrubber: Option<&Arc<Scrubber>>,
    withhold: Withhold,
) -> Result<(Response<Scrubbed<B>>, Withheld), Refusal> {
    let has_body = !response.body().is_end_stream();
    let (withheld, veil) = withhold.begin(&mut response, has_body);
    let scrubbed = scrubbed(response, scrubber)?;
    Ok((scrubbed.map(|body| Scrubbed { veil, ..body }), withheld))
}

fn scrubbed<B: Body<Data = Bytes>>(response: Response<B>, scrubber: Option<&Arc<Scrubber>>) -> Result<Response<Scrubbed<B>>, Refusal> {
    let (mut head, inner) = response.into_parts();
    let whole = |inner, state, hits| Scrubbed { inner, state, after: After::More, hits, veil: None, unveiled: false };
    let Some(scrubber) = scrubber else {
        return Ok(Response::from_parts(head, whole(inner, State::Pass, 0)));
    };
    let state = if inner.is_end_stream() { State::Plain(Scanner::new(scrubber.clone())) } else { state_for(&head.headers, scrubber)? };
    let mut hits = scrubber.headers(&mut head.headers);
    // A status line may say anything; nothing is lost without.
    if head.extensions.get::<ReasonPhrase>().is_some_and(|phrase| scrubber.finds(phrase.as_bytes())) {
        head.extensions.remove::<ReasonPhrase>();
        hits += 1;
    }
    Ok(Response::from_parts(head, whole(inner, state, hits)))
}

fn state_for(headers: &HeaderMap, scrubber: &Arc<Scrubber>) -> Result<State, Refusal> {
    let grpc = headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    if let Some(coding) = headers.get("grpc-encoding").filter(|v| *v != "identity") {
        return Err(unreadable(coding));
    }
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let (coding, more) = (codings.next(), codings.next());
    match (coding, more) {
        (None, _) if grpc => Ok(State::Plain(Scanner::interactive(scrubber.clone()))),
        (None, _) => Ok(State::Plain(Scanner::new(scrubber.clone()))),
        (Some(coding), None) if matches!(coding.as_bytes().trim_ascii(), b"" | b"identity") => {
            Ok(State::Plain(Scanner::new(scrubber.clone())))
        }
        (Some(coding), None) => {
            let inflater = Inflater::named(coding.as_bytes(), Scanner::new(scrubber.clone())).ok_or_else(|| unreadable(coding))?;
            Ok(State::Compressed(Box::new(inflater), scrubber.clone()))
        }
        (Some(coding), Some(_)) => Err(unreadable(coding)),
    }
}

fn unreadable(coding: &HeaderValue) -> Refusal {
    let coding: String = coding.to_str().unwrap_or("?").chars().take(40).collect();
    let detail = format!("upstream answered in the encoding `{coding}`, which was not asked for and cannot be searched for the credential");
    Refusal::new(Reason::UpstreamUnreachable, detail)
}

impl<B> Scrubbed<B> {
    /// How many times the injected value was found so far, in fields, body and trailers.
    #[must_use]
    pub fn hits(&self) -> u32 {
        self.hits
            + match &self.state {
                State::Plain(scanner) => scanner.hits(),
                State::Pass | State::Compressed(..) => 0,
            }
    }
}

impl<B: Body<Data = Bytes>> Body for Scrubbed<B> {
    type Data = Bytes;
    type Error = ScrubError<B::Error>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let frame = ready!(self.as_mut().poll_scrubbed(cx));
            let this = self.as_mut().project();
            let Some(veil) = this.veil else { return Poll::Ready(frame) };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) => match veil.push(&piece) {
                    Ok(out) if out.is_empty() => {}
                    Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                    Err(_) => {
                        *this.veil = Some(Veil::Nothing);
                        *this.after = After::Done;
                        discard(this.state);
                        return Poll::Ready(Some(Err(ScrubError::Withheld)));
                    }
                },
                // Trailers say nothing that is missed, and no client waits for them here.
                Some(Ok(Err(_))) => {}
                None if !std::mem::replace(this.unveiled, true) && veil.held() > 0 => {
                    return Poll::Ready(Some(Ok(Frame::data(veil.finish()))));
                }
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.veil.as_ref().is_some_and(|veil| veil.held() > 0) {
            return false;
        }
        match self.after {
            After::More => self.held() == 0 && self.inner.is_end_stream(),
            After::Trailers(_) | After::End => false,
            After::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let veiled = match &self.veil {
            Some(veil) if !veil.keeps_length() => return SizeHint::default(),
            Some(veil) => veil.held(),
            None => 0,
        };
        let held = (self.held() + veiled) as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

impl<B: Body<Data = Bytes>> Scrubbed<B> {
    /// The next frame without the injected value.
    fn poll_scrubbed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next<B::Error>> {
        let mut this = self.project();
        loop {
            if let Some(bytes) = pending_bytes(this.state, this.after) {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            match std::mem::replace(this.after, After::Done) {
                After::More => *this.after = After::More,
                After::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                After::End | After::Done => return Poll::Ready(None),
            }
            let frame = match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    *this.after = After::Done;
                    discard(this.state);
                    return Poll::Ready(Some(Err(ScrubError::Upstream(error))));
                }
                None => {
                    *this.after = After::End;
                    continue;
                }
            };
            match frame.into_data() {
                Ok(piece) => match take(this.state, piece) {
                    Ok(Some(out)) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                    Ok(None) => {}
                    Err(stop) => {
                        *this.after = After::Done;
                        discard(this.state);
                        *this.hits += u32::from(stop == Stop::Hit);
                        return Poll::Ready(Some(Err(if stop == Stop::Hit { ScrubError::Cut } else { ScrubError::Encoding })));
                    }
                },
                Err(frame) => {
                    if let Ok(mut trailers) = frame.into_trailers() {
                        *this.hits += mask_trailers(this.state, &mut trailers);
                        *this.after = After::Trailers(trailers);
                    }
                }
            }
        }
    }
}

impl<B> Scrubbed<B> {
    fn held(&self) -> usize {
        match &self.state {
            State::Pass => 0,
            State::Plain(scanner) => scanner.held(),
            State::Compressed(inflater, _) => inflater.held(),
        }
    }
}

/// Bytes that can go on before the inner body is asked again.
fn pending_bytes(state: &mut State, after: &After) -> Option<Bytes> {
    let ended = !matches!(after, After::More);
    match state {
        State::Pass => None,
        State::Plain(scanner) => (ended && scanner.held() > 0).then(|| scanner.finish()),
        State::Compressed(inflater, _) => {
            if ended {
                inflater.pop_rest()
            } else {
                inflater.pop()
            }
        }
    }
}

fn take(state: &mut State, piece: Bytes) -> Result<Option<Bytes>, Stop> {
    match state {
        State::Pass => Ok(Some(piece)),
        State::Plain(scanner) => {
            let empty = piece.is_empty();
            let out = scanner.push(piece);
            Ok((empty || !out.is_empty()).then_some(out))
        }
        State::Compressed(inflater, _) => {
            inflater.push(piece)?;
            Ok(inflater.pop())
        }
    }
}

fn mask_trailers(state: &State, trailers: &mut HeaderMap) -> u32 {
    match state {
        State::Pass => 0,
        State::Plain(scanner) => scanner.scrubber().headers(trailers),
        State::Compressed(_, scrubber) => scrubber.headers(trailers),
    }
}

/// Forgets what was held back, since the body broke off.
fn discard(state: &mut State) {
    match state {
        State::Pass => {}
        State::Plain(scanner) => drop(scanner.finish()),
        State::Compressed(inflater, _) => while inflater.pop_rest().is_some() {},
    }
}
