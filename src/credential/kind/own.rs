use std::{future::ready, sync::Arc};

use http::HeaderMap;

use super::fingerprint;
use crate::{
    call::{Inject, Lease, is_credential_field},
    credential::issue::{Ask, Fault, IssueCredential, Issued, Pending, Request},
};

/// Kind `own`: the agent's own login passes to that provider's exact hosts, fingerprinted.
#[derive(Debug)]
pub(in crate::credential) struct Own {
    name: Arc<str>,
}

impl Own {
    pub(in crate::credential) fn new(name: Arc<str>) -> Self {
        Self { name }
    }

    fn lease(&self, request: &Request<'_>) -> Lease {
        let fingerprint = login(&request.head.headers).map_or_else(|| Arc::from("none"), |v| Arc::from(fingerprint(v)));
        let (name, inject) = (self.name.clone(), Inject::Own);
        Lease { name, kind: "own", fingerprint, expires: None, scope: None, revocable: false, inject, scrubber: None }
    }
}

/// The value of the agent's own login: `Authorization`, else the first credential field there is.
fn login(headers: &HeaderMap) -> Option<&[u8]> {
    headers
        .get(http::header::AUTHORIZATION)
        .or_else(|| headers.iter().find(|(name, _)| is_credential_field(name)).map(|(_, value)| value))
        .map(http::HeaderValue::as_bytes)
}

impl IssueCredential for Own {
    fn kind(&self) -> &'static str {
        "own"
    }

    fn scoped(&self) -> bool {
        false
    }

    fn is_own(&self) -> bool {
        true
    }

    fn at_hand(&self, request: &Request<'_>) -> Option<Lease> {
        Some(self.lease(request))
    }

    fn issue<'a>(&'a self, _: &'a Ask) -> Pending<'a, Issued> {
        Box::pin(ready(Err(Fault::Refused("the login is the agent's own: nobody issues it".to_owned()))))
    }
}
