//! Walks the links of a token, from the newest to the first.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    authority::Registry,
    call::{Link, LinkKind, Principal},
    clock::Moment,
    jose::{Claims, Fault, Token},
    refusal::{Reason, Refusal},
    secret::Secret,
};

use super::{
    Delegations, LEEWAY, LIFE, LONGEST, MOST_LINKS, Received, TYPE, Used,
    grants::{self, Grant},
};

/// One link, verified, and checked by itself.
struct Read {
    issuer: Arc<str>,
    audience: Arc<str>,
    subject: Arc<str>,
    /// Whether the first sender had the subject proven.
    proven: bool,
    act: Value,
    grants: Vec<Grant>,
    expires: i64,
    jti: Arc<str>,
    certificate: Option<[u8; 32]>,
}

impl Delegations {
    /// Believes a token, or says why not: every link verified, meant for the one that signs the next,
    /// no wider than the one above, the newest for `ours` and not used before.
    ///
    /// # Errors
    /// `delegation_invalid`; the status of an agent of the chain that is registered here;
    /// `state_unavailable` when no more tokens can be remembered.
    pub fn receive(&self, text: &[u8], ours: &str, registry: &Registry, used: &Used, now: Moment) -> Result<Received, Refusal> {
        self.receive_from(text, ours, registry, used, now, |_| Ok(()))
    }

    /// The same from a caller of whom `may` says whether he may present it; if he may not, it is not used up.
    ///
    /// # Errors
    /// As [`Delegations::receive`], and what `may` says.
    pub fn receive_from(
        &self,
        text: &[u8],
        ours: &str,
        registry: &Registry,
        used: &Used,
        now: Moment,
        may: impl FnOnce(&Received) -> Result<(), Refusal>,
    ) -> Result<Received, Refusal> {
        let links = self.walk(text, ours, now).map_err(|why| invalid(&why))?;
        let Some(newest) = links.first() else { return Err(invalid("it has no link")) };
        for link in &links {
            let known = self.named.get(&link.issuer).and_then(|agent| registry.refusal(agent, now.utc));
            known.map_or(Ok(()), Err)?;
        }
        let expires = OffsetDateTime::from_unix_timestamp(newest.expires).map_err(|_| invalid("its `exp` is no date"))?;
        let principal = Principal { id: newest.subject.clone(), verified: newest.proven, claims: json!({}) };
        let mut chain = vec![Link { kind: LinkKind::Principal, id: newest.subject.clone(), workflow: None, grants: None }];
        // By value: what these agents may do is what they were granted, not what a workflow here says.
        chain.extend(links.iter().rev().map(|l| Link {
            kind: LinkKind::Agent,
            id: l.issuer.clone(),
            workflow: None,
            grants: Some(grants::to_json(&l.grants)),
        }));
        let whole = std::str::from_utf8(text).map_err(|_| invalid("it is no text"))?;
        let received = Received {
            principal,
            links: chain,
            from: newest.issuer.clone(),
            jti: newest.jti.clone(),
            expires,
            certificate: newest.certificate,
            text: Secret::new(whole.into()),
        };
        may(&received)?;
        used.once(&newest.issuer, &newest.jti, expires, now)?;
        Ok(received)
    }

    fn walk(&self, text: &[u8], ours: &str, now: Moment) -> Result<Vec<Read>, String> {
        if text.len() > LONGEST {
            return Err(format!("it is longer than {} KiB", LONGEST >> 10));
        }
        if text.iter().filter(|b| **b == b'~').count() >= MOST_LINKS {
            return Err(format!("it has more than {MOST_LINKS} links"));
        }
        let mut links: Vec<Read> = Vec::new();
        let mut rest = Some(text);
        while let Some(whole) = rest {
            let end = whole.iter().position(|b| *b == b'~');
            let own = whole.get(..end.unwrap_or(whole.len())).unwrap_or_default();
            let parent = end.and_then(|at| whole.get(at + 1..));
            let link = self.link(own, parent, now)?;
            match links.last() {
                None if *link.audience != *ours => return Err(Fault::Audience(crate::jose::quoted(&link.audience)).to_string()),
                None => {}
                Some(below) => below.follows(&link)?,
            }
            links.push(link);
            rest = parent;
        }
        acts(&links)?;
        Ok(links)
    }

    /// One link, believed by its own signature alone.
    fn link(&self, text: &[u8], parent: Option<&[u8]>, now: Moment) -> Result<Read, String> {
        let fault = |f: Fault| f.to_string();
        let token = Token::read(text).map_err(fault)?;
        token.check_type(&[TYPE], false).map_err(fault)?;
        let (issuer, verified) = self.trust.verify(token).map_err(fault)?;
        let claims = &verified.claims;
        let hash = parent.map(|p| URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, p)));
        if claims.get("parent").and_then(Value::as_str) != hash.as_deref() || (hash.is_none() && claims.get("parent").is_some()) {
            return Err("a link does not stand before the token that it was signed over".into());
        }
        let expires = claims.check_times(now, LEEWAY).map_err(fault)?;
        let issued = claims.date("iat").map_err(fault)?.ok_or_else(|| fault(Fault::Claim("iat")))?;
        if expires.saturating_sub(issued) > i64::try_from(LIFE.as_secs()).unwrap_or(0) {
            return Err(format!("it lives longer than {} s", LIFE.as_secs()));
        }
        Ok(Read {
            audience: text_of(claims, "aud")?,
            subject: text_of(claims, "sub")?,
            jti: text_of(claims, "jti")?,
            proven: match claims.get("sub_verified") {
                Some(Value::Bool(proven)) => *proven,
                None => false,
                Some(_) => return Err(fault(Fault::Claim("sub_verified"))),
            },
            act: claims.get("act").cloned().unwrap_or_default(),
            grants: grants::read(claims.get("grants"))?,
            certificate: confirmation(claims)?,
            issuer,
            expires,
        })
    }
}

impl Read {
    /// Whether this link may stand below `above`.
    fn follows(&self, above: &Self) -> Result<(), String> {
        if self.issuer != above.audience {
            return Err("a link was signed by another than the one above it was meant for".into());
        }
        if self.subject != above.subject {
            return Err("its links are for different subjects".into());
        }
        if self.proven && !above.proven {
            return Err("a link says that the subject was proven, and the one above does not".into());
        }
        if self.expires > above.expires {
            return Err("a link outlives the one above".into());
        }
        grants::within(&self.grants, &above.grants).map_err(|why| format!("a link is wider than the one above: {why}"))
    }
}

/// RFC 8693 §4.1: the outermost `act` is who acts now; those within are who acted before. Here they say
/// what the links prove, or the token is none.
fn acts(links: &[Read]) -> Result<(), String> {
    let mut wanted = Value::Null;
    for link in links.iter().rev() {
        wanted = actor(&link.issuer, wanted);
        if link.act != wanted {
            return Err("its `act` is not what its links say".into());
        }
    }
    Ok(())
}

/// `{"sub": …, "act": …}`, the latter for whoever acted before.
pub(super) fn actor(id: &str, before: Value) -> Value {
    if before.is_null() { json!({"sub": id}) } else { json!({"sub": id, "act": before}) }
}

fn text_of(claims: &Claims, name: &'static str) -> Result<Arc<str>, String> {
    claims.text(name).filter(|t| t.len() <= 2048).map(Into::into).ok_or_else(|| Fault::Claim(name).to_string())
}

/// `cnf`: the certificate whose key the caller holds (RFC 8705 §3.1). A confirmation that is not understood
/// cannot be met.
fn confirmation(claims: &Claims) -> Result<Option<[u8; 32]>, String> {
    let Some(cnf) = claims.get("cnf") else { return Ok(None) };
    let wrong = || Fault::Claim("cnf").to_string();
    let members = cnf.as_object().filter(|m| m.len() == 1).ok_or_else(wrong)?;
    let text = members.get("x5t#S256").and_then(Value::as_str).ok_or_else(wrong)?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    bytes.try_into().map(Some).map_err(|_| wrong())
}

fn invalid(why: &str) -> Refusal {
    Refusal::new(Reason::DelegationInvalid, format!("the delegation token is not valid: {why}"))
}
