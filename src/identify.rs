//! Room 3 who calls, for whom.
//!
//! A call claims its task by the handle, as the proxy's password or in `Remit-Task`. All claims
//! must name one task. A call without a claim is the ambient task's where the operator gave his
//! word that only this agent reaches the listener; a wrong claim never is.

mod callers;
mod claim;
mod fetch;
mod issuer;
mod key_source;
mod owner;
mod presented;
mod proven;
mod review;
mod rules;
mod seen;
mod spiffe;
mod trace;

use std::{net::SocketAddr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{GetAll, PROXY_AUTHORIZATION},
};

use crate::{
    authority::{Found, Registry, Tasks},
    call::{Caller, Head, How, Listener, Task, TraceId},
    clock::Moment,
    config::{Ambient, Inbound},
    refusal::{Reason, Refusal},
};

pub use callers::Callers;
pub use owner::socket_owner;
pub use presented::{is_token, token};
pub use proven::Proven;
pub use rules::{Identities, Mapped};
pub use seen::Seen;
pub use spiffe::{OwnSvid, Spiffe};

/// The field in which a caller may present its handle. Never sent upstream.
pub const REMIT_TASK: HeaderName = HeaderName::from_static("remit-task");

/// W3C Trace Context §3.2.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How a call came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub listener: Listener,
    pub peer: SocketAddr,
    /// What the `CONNECT` that the call came through presented; see [`proxy_authorization`].
    pub proxy_authorization: Option<&'a HeaderValue>,
    /// The owner of the peer's socket, when it is local and was asked for; see [`socket_owner`].
    pub peer_uid: Option<u32>,
    /// Who the caller proved to be.
    pub proven: Option<&'a Proven>,
    /// What this connection presented before; None to look everything up.
    pub seen: Option<&'a Seen>,
    /// Whose requests the calls out may belong to, by their trace.
    pub behind: Option<&'a Inbound>,
}

/// Why a call is not served.
#[derive(Debug)]
pub struct Unserved {
    pub refusal: Refusal,
    /// The caller, where a task was shown that is over, or whose agent may not act: it is named on
    /// the record.
    pub caller: Option<Box<Caller>>,
}

impl From<Refusal> for Unserved {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, caller: None }
    }
}

/// Attributes a call to its task, and checks that task and agent still give authority.
///
/// # Errors
/// `ambiguous_request` for several fields of one name; `no_task` for none, or for a claim that is
/// no handle of a known task; `delegation_invalid` when claims name different tasks; the agent's
/// status; `task_ended`, `task_expired`; what starting an ambient task refuses with.
pub fn identify(
    arrival: &Arrival<'_>,
    head: &Head,
    tasks: &Tasks,
    registry: &Registry,
    ambient: Option<&Ambient>,
    now: Moment,
) -> Result<Caller, Unserved> {
    let own = proxy_authorization(&head.headers)?;
    let header = single(head.headers.get_all(REMIT_TASK))?;
    let mut found: Option<Found> = None;
    for value in [arrival.proxy_authorization, own].into_iter().flatten() {
        // A token was looked at before, and says who calls; a handle says for which task.
        if arrival.proven.is_some_and(Proven::has_token) && is_token(value) {
            continue;
        }
        let look = || claim::in_proxy_authorization(value, tasks, now);
        found = Some(agreeing(found, Seen::in_proxy_authorization(arrival.seen, value, now.instant, look)?)?);
    }
    if let Some(value) = header {
        let look = || claim::in_remit_task(value, tasks, now);
        found = Some(agreeing(found, Seen::in_remit_task(arrival.seen, value, now.instant, look)?)?);
    }
    let proof = || arrival.proven.and_then(Proven::proof).cloned();
    let caller = |how, task| Caller { how, listener: arrival.listener, task, proof: proof(), drift: no_drift() };
    let (how, Found { task, over }) = match (found, arrival.proven) {
        (Some(found), proven) => {
            Proven::check(proven, &found.task, arrival.listener)?;
            (How::Handle, found)
        }
        (None, Some(proven)) => proven.task(trace_of(head), tasks, registry, now)?,
        (None, None) => match trace::found(arrival, head, tasks, now)? {
            Some(found) => (How::Trace, found),
            None => return Ok(caller(How::Ambient, of_ambient(arrival, tasks, registry, ambient, now)?)),
        },
    };
    match check(&task, over, registry, now) {
        Ok(()) => Ok(caller(how, task)),
        Err(refusal) => Err(Unserved { refusal, caller: Some(Box::new(caller(how, task))) }),
    }
}

/// Whether a `CONNECT` may be accepted: it presents a known task, or ambient authority serves its
/// peer. That the task is over is told inside, where a client shows it. Only these need a 407.
///
/// # Errors
/// `no_task`, `ambiguous_request`.
pub fn admit(arrival: &Arrival<'_>, tasks: &Tasks, ambient: Option<&Ambient>, now: Moment) -> Result<(), Refusal> {
    let by_token = arrival.proven.is_some_and(Proven::has_token);
    if arrival.proven.is_some() && arrival.proxy_authorization.is_none_or(|v| by_token && is_token(v)) {
        return Ok(());
    }
    match arrival.proxy_authorization {
        Some(value) => claim::in_proxy_authorization(value, tasks, now).map(drop),
        None if trace::may_join(arrival).is_some() => Ok(()),
        None => serving(arrival, ambient).map(drop),
    }
}

/// The one `Proxy-Authorization` of a request.
///
/// # Errors
/// `ambiguous_request` when there are several.
pub fn proxy_authorization(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    single(headers.get_all(PROXY_AUTHORIZATION))
}

fn single(all: GetAll<'_, HeaderValue>) -> Result<Option<&HeaderValue>, Refusal> {
    let mut values = all.iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Refusal::new(Reason::AmbiguousRequest, "the call presents several handles in fields of one name")),
    }
}

/// The trace that a call says it belongs to.
fn trace_of(head: &Head) -> Option<TraceId> {
    TraceId::of_traceparent(head.headers.get(&TRACEPARENT)?.to_str().ok()?)
}

fn agreeing(before: Option<Found>, found: Found) -> Result<Found, Refusal> {
    match before {
        Some(before) if !Arc::ptr_eq(&before.task, &found.task) => {
            Err(Refusal::new(Reason::DelegationInvalid, "the call's claims name different tasks"))
        }
        _ => Ok(found),
    }
}

/// The agent's status comes first: it says why its tasks were ended.
fn check(task: &Task, over: Option<Reason>, registry: &Registry, now: Moment) -> Result<(), Refusal> {
    if registry.status(&task.agent.id, now.utc).is_some()
        && let Some(refusal) = registry.refusal(&task.agent.id, now.utc)
    {
        return Err(refusal);
    }
    match over {
        None => Ok(()),
        Some(reason @ Reason::TaskExpired) => Err(Refusal::new(reason, format!("task {} of {} has expired", task.id, task.agent.id))),
        Some(reason) => Err(Refusal::new(reason, format!("task {} of {} has ended", task.id, task.agent.id))),
    }
}

fn of_ambient(
    arrival: &Arrival<'_>,
    tasks: &Tasks,
    registry: &Registry,
    ambient: Option<&Ambient>,
    now: Moment,
) -> Result<Arc<Task>, Refusal> {
    let ambient = serving(arrival, ambient)?;
    if let Some(refusal) = registry.refusal(&ambient.agent, now.utc) {
        return Err(refusal);
    }
    tasks.ambient(registry, &ambient.agent, &ambient.workflow, now)
}

/// The ambient authority that serves this peer.
fn serving<'a>(arrival: &Arrival<'_>, ambient: Option<&'a Ambient>) -> Result<&'a Ambient, Refusal> {
    let Some(ambient) = ambient else {
        return Err(Refusal::new(Reason::NoTask, "the call presents no task; the handle goes in the proxy URL: http://task:HANDLE@…"));
    };
    if !arrival.peer.ip().to_canonical().is_loopback() {
        return Err(Refusal::new(Reason::NoTask, "the call presents no task, and ambient authority serves loopback peers only"));
    }
    if !ambient.uid.is_empty() && !arrival.peer_uid.is_some_and(|uid| ambient.uid.contains(&uid)) {
        return Err(Refusal::new(Reason::NoTask, "the call presents no task, and ambient authority does not serve this socket's owner"));
    }
    Ok(ambient)
}

/// No drift is known; a thread's own, so that calls do not meet in one reference count.
pub(crate) fn no_drift() -> Arc<[Box<str>]> {
    thread_local! {
        static NONE: Arc<[Box<str>]> = Arc::from(Vec::new());
    }
    NONE.with(Arc::clone)
}

#[cfg(test)]
mod tests;
