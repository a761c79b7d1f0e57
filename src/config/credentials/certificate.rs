//! Kind `certificate`: what Remit shows to upstream in the handshake.

use std::{path::PathBuf, sync::Arc};

use crate::config::{CredentialKind, read::Value, units};

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSpec {
    pub from: CertificateFrom,
    /// The SPIFFE ID that the server has to prove, instead of the host's name.
    pub server: Option<Arc<str>>,
}

/// Where a client certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFrom {
    /// PEM: the chain, leaf first, and the key.
    Files { cert: PathBuf, key: PathBuf },
    /// The X.509-SVID that the Workload API gives.
    Svid,
}

pub(super) fn certificate(value: &Value<'_>) -> Option<CredentialKind> {
    const HELP: &str = "write `cert: FILE` and `key: FILE`, or `svid: true`";
    let fields = value.fields(&["kind", "hosts", "cert", "key", "svid", "server"])?;
    let svid = fields.optional("svid").is_some_and(|v| v.boolean() == Some(true));
    let from = match (fields.has("cert") || fields.has("key"), svid) {
        (true, false) => {
            let cert = fields.required("cert", "name the PEM file of the certificate").and_then(Value::path);
            let key = fields.required("key", "name the PEM file of the key").and_then(Value::path);
            Some(CertificateFrom::Files { cert: cert?, key: key? })
        }
        (false, true) => Some(CertificateFrom::Svid),
        _ => {
            value.wrong("a client certificate has one source", HELP);
            None
        }
    };
    let server = match fields.optional("server") {
        None => None,
        Some(v) => {
            v.parse(units::spiffe_id)?;
            Some(Arc::from(v.text()?))
        }
    };
    Some(CredentialKind::Certificate(CertificateSpec { from: from?, server }))
}
