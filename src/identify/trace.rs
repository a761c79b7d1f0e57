//! The request that a call out belongs to, by the trace that instrumented frameworks pass on.
//!
//! A trace is no secret: it proves nothing. Who may join is known otherwise, by the operator's word that
//! only the agent behind the inbound listener reaches this one from loopback; the trace then says which of
//! that agent's own requests it is.

use http::HeaderName;

use crate::{
    authority::{Found, Tasks},
    call::{Head, TraceId},
    clock::Moment,
    config::Inbound,
    refusal::{Reason, Refusal},
};

use super::Arrival;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The task of the request that the call belongs to; None when it names none that the agent answers.
pub(super) fn found(arrival: &Arrival<'_>, head: &Head, tasks: &Tasks, now: Moment) -> Result<Option<Found>, Refusal> {
    let Some(inbound) = may_join(arrival) else { return Ok(None) };
    let mut fields = head.headers.get_all(&TRACEPARENT).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Refusal::new(Reason::AmbiguousRequest, "the call has two fields `traceparent`, and could belong to two requests"));
    }
    match field.to_str().ok().and_then(TraceId::of_traceparent) {
        Some(trace) => tasks.of_trace(&inbound.agent, trace, now.instant),
        None => Ok(None),
    }
}

/// The listener whose agent this peer is, by the operator's word.
pub(super) fn may_join<'a>(arrival: &Arrival<'a>) -> Option<&'a Inbound> {
    let local = arrival.peer.ip().to_canonical().is_loopback();
    arrival.behind.filter(|b| local && (b.uid.is_empty() || arrival.peer_uid.is_some_and(|uid| b.uid.contains(&uid))))
}
