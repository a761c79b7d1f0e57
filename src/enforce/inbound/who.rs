//! Who calls the agent, for whom, and with what handed over. Each is proven by itself: a delegation token
//! says what may be done, and never who presents it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use crate::{
    authority::token::{self, Received},
    call::{Head, Identity, Principal, Proof},
    clock::Moment,
    config::Requires,
    enforce::{House, Rules},
    identify,
    listen::Door,
    refusal::{Reason, Refusal},
};

use super::Entrance;

/// For whom a request is, and what was handed over with it.
pub(super) struct Entrant {
    pub(super) principal: Principal,
    pub(super) received: Option<Arc<Received>>,
    /// What was proven of who calls.
    pub(super) proof: Option<Arc<Proof>>,
    /// The caller's token was looked at, and is not the agent's.
    pub(super) came_by_token: bool,
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
        let certificate = door.proof.as_ref().and_then(|p| p.certificate);
        let received = self.received(rules, entrance, &head.headers, now, |received| proven.may_present(received, certificate))?;
        if received.is_none() && entrance.config.delegation_required {
            return Err(Refusal::new(
                Reason::DelegationInvalid,
                "the agent is called with a delegation token only, and the request has none",
            ));
        }
        let came_by_token = entrance.config.requires == Requires::Token;
        let proof = proven.proof.clone();
        let principal = match (&received, proven) {
            (Some(received), proven) => proven.principal.unwrap_or_else(|| received.principal.clone()),
            (None, proven) => match (proven.principal, proven.proof) {
                (Some(principal), _) => principal,
                (None, Some(proof)) => itself(&proof.identity),
                (None, None) => nobody(rules, entrance),
            },
        };
        Ok(Entrant { principal, received: received.map(Arc::new), proof, came_by_token })
    }

    /// The delegation token of a request, believed.
    fn received(
        &self,
        rules: &Rules,
        entrance: &Entrance,
        headers: &HeaderMap,
        now: Moment,
        may: impl FnOnce(&Received) -> Result<(), Refusal>,
    ) -> Result<Option<Received>, Refusal> {
        let Some(value) = single(headers, &token::FIELD)? else { return Ok(None) };
        let agent = rules.registry.agent(&entrance.config.agent);
        let Some(ours) = agent.and_then(|a| a.spec.spiffe_id.as_deref()) else {
            return Err(Refusal::new(Reason::DelegationInvalid, "the agent has no SPIFFE ID, so no delegation token can be for it"));
        };
        entrance.delegations.receive_from(value.as_bytes(), ours, &rules.registry, self.used_tokens(), now, may).map(Some)
    }

    /// Who calls, as the config wants it proven.
    async fn proven(&self, rules: &Rules, entrance: &Entrance, door: &Door, headers: &HeaderMap, now: Moment) -> Result<Proven, Refusal> {
        match entrance.config.requires {
            Requires::Network => Ok(Proven::default()),
            Requires::Token => by_token(rules, headers, now).await,
            Requires::Mtls => by_svid(rules, door, now),
        }
    }
}

/// By the token in `Authorization`.
async fn by_token(rules: &Rules, headers: &HeaderMap, now: Moment) -> Result<Proven, Refusal> {
    let Some(callers) = rules.callers.as_ref().filter(|c| c.take_tokens()) else {
        return Err(Refusal::new(Reason::NoTask, "no issuer is configured whose tokens prove who calls"));
    };
    let token = single(headers, &header::AUTHORIZATION)?.and_then(identify::token);
    let token = token.ok_or_else(|| Refusal::new(Reason::NoTask, "the agent is called with a signed token: `Authorization: Bearer …`"))?;
    let proof = Box::pin(callers.prove(&token, now)).await?;
    let principal = proof.principal.clone().unwrap_or_else(|| itself(&proof.identity));
    Ok(Proven { principal: Some(principal), proof: Some(proof), svid: None })
}

/// By the certificate of the connection.
fn by_svid(rules: &Rules, door: &Door, now: Moment) -> Result<Proven, Refusal> {
    let none = || Refusal::new(Reason::NoTask, "the agent is called over TLS with an X.509-SVID, and the connection proved none");
    let (callers, proof) = (rules.callers.as_ref().ok_or_else(none)?, door.proof.as_ref().ok_or_else(none)?);
    let proof = callers.still(proof, now)?.clone();
    let svid = match &proof.identity {
        Identity::Spiffe(id) => id.clone(),
        Identity::Token { .. } | Identity::ServiceAccount { .. } => return Err(none()),
    };
    Ok(Proven { principal: None, svid: Some(svid), proof: Some(proof) })
}

/// A service that acts for nobody but itself.
fn itself(identity: &Identity) -> Principal {
    let id = match identity {
        Identity::Token { subject, .. } => subject,
        Identity::Spiffe(id) => id,
        Identity::ServiceAccount { name, .. } => name,
    };
    Principal { id: id.clone(), verified: true, claims: serde_json::json!({}) }
}

/// What was proven of who calls.
#[derive(Debug, Default)]
struct Proven {
    /// For whom, where a token says so.
    principal: Option<Principal>,
    /// The SPIFFE ID of the connection.
    svid: Option<Arc<str>>,
    proof: Option<Arc<Proof>>,
}

impl Proven {
    /// Whether this caller may present this token, over a connection with this certificate.
    fn may_present(&self, received: &Received, certificate: Option<[u8; 32]>) -> Result<(), Refusal> {
        let refused = |why: &str| Err(Refusal::new(Reason::DelegationInvalid, format!("the delegation token is not the caller's: {why}")));
        if let Some(principal) = &self.principal
            && principal.id != received.principal.id
        {
            return refused("it is for another than the one whose token came with it");
        }
        // What the token is bound to is confirmed by the connection, however else its caller is authenticated.
        match (&self.svid, received.certificate, certificate) {
            (Some(id), _, _) if *id != received.from => refused("another agent issued it than the one that is connected"),
            (Some(_), None, _) => refused("it is not bound to the connection's certificate (`cnf`)"),
            (_, Some(_), None) => refused("it is bound to a certificate, and the connection has none"),
            (_, Some(wanted), Some(shown)) if wanted != shown => refused("it is bound to another certificate than the connection's"),
            (_, Some(_), Some(_)) | (None, None, _) => Ok(()),
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
