use std::{future::ready, sync::Arc};

use http::HeaderMap;

use super::fingerprint;
use crate::{
    call::{Inject, Lease, is_credential_field},
    credential::issue::{IssueCredential, Pending, Request, Revoked},
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
        Lease { name: self.name.clone(), kind: "own", fingerprint, expires: None, inject: Inject::Own, scrubber: None }
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

    fn at_hand(&self, request: &Request<'_>) -> Option<Lease> {
        Some(self.lease(request))
    }

    fn issue<'a>(&'a self, request: Request<'a>) -> Pending<'a, Lease> {
        Box::pin(ready(Ok(self.lease(&request))))
    }

    fn renew<'a>(&'a self, _: &'a Lease, request: Request<'a>) -> Pending<'a, Lease> {
        self.issue(request)
    }

    /// The login is the agent's, not Remit's to take back.
    fn revoke<'a>(&'a self, _: &'a Lease) -> Pending<'a, Revoked> {
        Box::pin(ready(Ok(Revoked::Irrevocable)))
    }
}
