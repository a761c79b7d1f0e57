//! Who calls the agent, for whom, and with what handed over. Each is proven by itself: a delegation token
//! says what may be done, and never who presents it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use crate::{
    authority::token::{self, Received},
    call::{Head, Principal},
    clock::Moment,
    config::Requires,
    enforce::{House, Rules},
    listen::Door,
    refusal::{Reason, Refusal},
};

use super::Entrance;

/// For whom a request is, and what was handed over with it.
pub(super) struct Entrant {
    pub(super) principal: Principal,
    pub(super) received: Option<Arc<Received>>,
    /// The caller's token was looked at, and is not the agent's.
    pub(super) proven_by_token: bool,
}

impl House {
    /// # Errors
    /// `no_task` for who is not authenticated as the config wants; `delegation_invalid` for a token that is
    /// not believed, or is for another than who calls; `ambiguous_request` for a field that stands there twice.
    pub(super) async fn entrant(
        &self,
        rules: &Rules,
        entrance: &Entrance,
        door: &Door,
        head: &Head,
        now: Moment,
    ) -> Result<Entrant, Refusal> {
        let proven = self.proven(rules, entrance, door, &head.headers, now).await?;
        let received = self.received(rules, entrance, &head.headers, now)?;
        if received.is_none() && entrance.config.delegation_required {
            return Err(Refusal::new(
                Reason::DelegationInvalid,
                "the agent is called with a delegation token only, and the request has none",
            ));
        }
        let proven_by_token = entrance.config.requires == Requires::Token;
        let principal = match (&received, proven) {
            (Some(received), proven) => {
                proven.may_present(received)?;
                proven.principal.unwrap_or_else(|| received.principal.clone())
            }
            (None, proven) => proven.principal.unwrap_or_else(|| nobody(rules, entrance)),
        };
        Ok(Entrant { principal, received: received.map(Arc::new), proven_by_token })
    }

    /// The delegation token of a request, believed.
    fn received(&self, rules: &Rules, entrance: &Entrance, headers: &HeaderMap, now: Moment) -> Result<Option<Received>, Refusal> {
        let Some(value) = single(headers, &token::FIELD)? else { return Ok(None) };
        let agent = rules.registry.agent(&entrance.config.agent);
        let Some(ours) = agent.and_then(|a| a.spec.spiffe_id.as_deref()) else {
            return Err(Refusal::new(Reason::DelegationInvalid, "the agent has no SPIFFE ID, so no delegation token can be for it"));
        };
        entrance.delegations.receive(value.as_bytes(), ours, &rules.registry, self.used_tokens(), now).map(Some)
    }

    /// Who calls, as the config wants it proven.
    async fn proven(
        &self,
        _rules: &Rules,
        entrance: &Entrance,
        _door: &Door,
        headers: &HeaderMap,
        _now: Moment,
    ) -> Result<Proven, Refusal> {
        match entrance.config.requires {
            Requires::Network => Ok(Proven::default()),
            Requires::Token => {
                let _ = single(headers, &header::AUTHORIZATION)?;
                Err(Refusal::new(Reason::NoTask, "no issuer is configured whose tokens prove who calls"))
            }
            Requires::Mtls => Err(Refusal::new(Reason::NoTask, "the connection proved no SVID")),
        }
    }
}

/// What was proven of who calls.
#[derive(Debug, Default)]
struct Proven {
    /// For whom, where that was proven too.
    principal: Option<Principal>,
    /// The SVID of the connection: its SPIFFE ID, and SHA-256 of the certificate.
    svid: Option<(Arc<str>, [u8; 32])>,
}

impl Proven {
    /// Whether this caller may present this token.
    fn may_present(&self, received: &Received) -> Result<(), Refusal> {
        let refused = |why: &str| Err(Refusal::new(Reason::DelegationInvalid, format!("the delegation token is not the caller's: {why}")));
        if let Some(principal) = &self.principal
            && principal.id != received.principal.id
        {
            return refused("it is for another than the one whose token came with it");
        }
        match (&self.svid, received.certificate) {
            (Some((id, _)), _) if *id != received.from => refused("another agent issued it than the one that is connected"),
            (Some((_, ours)), Some(wanted)) if *ours != wanted => refused("it is bound to another certificate than the connection's"),
            (Some(_), None) => refused("it is not bound to the connection's certificate (`cnf`)"),
            (None, Some(_)) => refused("it is bound to a certificate, and the connection has none"),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }
}

/// Whoever was let in by the operator's word: the agent's owner, and nobody proved it.
fn nobody(rules: &Rules, entrance: &Entrance) -> Principal {
    let agent = &entrance.config.agent;
    let owner = rules.registry.agent(agent).map_or_else(|| agent.clone(), |a| a.spec.owner.clone());
    Principal { id: owner, verified: false, claims: serde_json::json!({}) }
}

/// The one field of its name.
fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(Refusal::new(Reason::AmbiguousRequest, format!("the request has two fields `{name}`")));
    }
    Ok(first)
}
