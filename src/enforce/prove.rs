//! Who calls, by what the caller proves: its connection's certificate and the token it presents.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use crate::{
    call::Proof,
    clock::Moment,
    identify::{self, Callers, Proven},
    listen::Door,
    refusal::{Reason, Refusal},
};

/// What the caller of a request proves, when anything can be proved here. `claim` is what the `CONNECT`
/// presented that the request came through.
///
/// # Errors
/// `no_task` for a token that is not believed; `unknown_agent` for one that is no agent's;
/// `delegation_invalid` for two that differ; `ambiguous_request`; `state_unavailable`.
pub(super) async fn prove(
    callers: Option<&Arc<Callers>>,
    door: &Door,
    claim: Option<&HeaderValue>,
    headers: &HeaderMap,
    now: Moment,
) -> Result<Option<Arc<Proven>>, Refusal> {
    let Some(callers) = callers else { return Ok(None) };
    let svid = match &door.proof {
        None => None,
        Some(svid) => Some(callers.still(svid, now)?),
    };
    let token = match presented(claim, headers)? {
        Some(value) if callers.take_tokens() => Some(by_token(callers, door, value, now).await?),
        _ => None,
    };
    if svid.is_none() && token.is_none() {
        return Ok(None);
    }
    door.seen.proven(callers, svid, token.as_ref())
}

async fn by_token(callers: &Callers, door: &Door, value: &HeaderValue, now: Moment) -> Result<Arc<Proof>, Refusal> {
    if let Some(proof) = door.seen.proved(value, now)
        && callers.believes(&proof)
    {
        return Ok(proof);
    }
    let Some(token) = identify::token(value) else {
        return Err(Refusal::new(Reason::NoTask, "the token presented cannot be read"));
    };
    // Few calls come here, and every call's future would carry it.
    let proof = Box::pin(callers.prove(&token, now)).await?;
    door.seen.keep(value, &proof);
    Ok(proof)
}

/// The one token of a request.
fn presented<'a>(claim: Option<&'a HeaderValue>, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Refusal> {
    let own = identify::proxy_authorization(headers)?.filter(|v| identify::is_token(v));
    match (claim.filter(|v| identify::is_token(v)), own) {
        (Some(a), Some(b)) if a != b => Err(Refusal::new(Reason::DelegationInvalid, "the call presents two tokens")),
        (a, b) => Ok(b.or(a)),
    }
}
