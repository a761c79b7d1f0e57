use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming};
use smallvec::SmallVec;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    call::Body,
    refusal::{Reason, Refusal},
};

/// Reads the beginning of a body, so that what it says can be judged, and leaves the rest to stream.
/// Gives at least `bytes` of it, or all, when it is shorter.
///
/// # Errors
/// As [`whole`], but for `body_too_large`.
pub(super) async fn prefix(mut body: Incoming, bytes: usize, budget: &Arc<Semaphore>, idle: Duration) -> Result<(Bytes, Body), Refusal> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), Body::Empty));
    }
    let mut place = reserve(budget, bytes as u64)?;
    let mut parts: SmallVec<[Bytes; 4]> = SmallVec::new();
    let mut length = 0;
    while length < bytes {
        // Trailers are not judged and so not sent.
        let Some(frame) = next(&mut body, idle).await? else { break };
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        parts.push(data);
    }
    if length > bytes {
        place.merge(reserve(budget, (length - bytes) as u64)?);
    }
    let first = match parts.len() {
        0 | 1 => parts.pop().unwrap_or_default(),
        _ => Bytes::from(parts.concat()),
    };
    let all = length < bytes || body.is_end_stream();
    let passed = if all { Body::whole(first.clone(), Some(place)) } else { Body::ahead(first.clone(), Some(place), body) };
    Ok((first, passed))
}

/// The next frame of a body; None at its end.
async fn next(body: &mut Incoming, idle: Duration) -> Result<Option<Frame<Bytes>>, Refusal> {
    match timeout(idle, body.frame()).await {
        Err(_) => Err(broken(format!("no byte of the body came for {idle:?}"))),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => Err(broken(format!("the body broke off: {error}"))),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
    }
}

/// A body that was read whole, and its place in the process's budget for such bodies.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// Reads a body whole, so that what it says can be judged.
///
/// # Errors
/// `body_too_large` past `limit` bytes; `overloaded` when all bodies together are past their
/// budget; `ambiguous_request` when it breaks off, or stays silent for `idle`.
pub(super) async fn whole(
    mut body: Incoming,
    headers: &HeaderMap,
    limit: u64,
    budget: &Arc<Semaphore>,
    idle: Duration,
) -> Result<Read, Refusal> {
    if body.is_end_stream() {
        return Ok(Read { bytes: Bytes::new(), place: None });
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|n| n > limit) {
        return Err(too_large(limit));
    }
    let mut place = reserve(budget, announced.unwrap_or(0))?;
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = next(&mut body, idle).await? {
        // Trailers are not judged and so not sent.
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > limit {
            return Err(too_large(limit));
        }
        if announced.is_none() {
            place.merge(reserve(budget, data.len() as u64)?);
        }
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.reserve(usize::try_from(announced.unwrap_or(0)).unwrap_or(0).max(first.len() + data.len()));
                more.extend_from_slice(&first);
                first = Bytes::new();
            }
            more.extend_from_slice(&data);
        }
    }
    let bytes = if more.is_empty() { first } else { more.freeze() };
    Ok(Read { bytes, place: Some(place) })
}

fn reserve(budget: &Arc<Semaphore>, bytes: u64) -> Result<OwnedSemaphorePermit, Refusal> {
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    budget.clone().try_acquire_many_owned(kib).map_err(|_| {
        Refusal::new(Reason::Overloaded, "the bodies being read fill `limits.body.total`").with_retry_after(Duration::from_secs(1))
    })
}

fn too_large(limit: u64) -> Refusal {
    Refusal::new(
        Reason::BodyTooLarge,
        format!("this operation is judged by its body, and the body is longer than {limit} bytes (`limits.body`)"),
    )
}

fn broken(detail: String) -> Refusal {
    Refusal::new(Reason::AmbiguousRequest, detail)
}

#[cfg(test)]
mod tests;
