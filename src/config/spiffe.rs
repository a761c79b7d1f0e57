//! `spiffe:`, and TLS on the forward listener.

use std::path::PathBuf;

use crate::{
    call::Host,
    config::{
        files::existing,
        issuers::texts,
        node::Kind,
        read::{Fields, Value, shown},
        units,
    },
};

/// Where SVIDs and the bundles that verify them come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffeSpec {
    pub workload_api: Option<WorkloadApi>,
    /// Bundles in files, beside those of the Workload API.
    pub bundles: Vec<BundleSpec>,
    /// One of these must be the audience of a JWT-SVID; empty: none are taken.
    pub audience: Vec<Box<str>>,
}

/// The Workload API's endpoint (SPIFFE Workload Endpoint §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkloadApi {
    Unix(PathBuf),
    Tcp(std::net::SocketAddr),
}

/// What verifies the SVIDs of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSpec {
    pub trust_domain: Box<str>,
    /// Roots in PEM.
    pub roots: Option<PathBuf>,
    /// A JWK set.
    pub jwks: Option<PathBuf>,
}

/// TLS on the forward listener: an HTTPS proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    pub certificate: ListenCertificate,
    /// Whether who has no X.509-SVID is turned away in the handshake.
    pub required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenCertificate {
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
    /// Remit's own X.509-SVID, from the Workload API.
    Svid,
    /// A leaf of `tls.ca` for these names.
    Own(Vec<Host>),
}

pub(super) fn spiffe(value: Option<&Value<'_>>, files: &mut Vec<PathBuf>) -> Option<SpiffeSpec> {
    let value = value?;
    let fields = value.fields(&["workload_api", "bundles", "audience"])?;
    let workload_api = fields.optional("workload_api").and_then(workload_api);
    let list = fields.optional("bundles").and_then(Value::list).unwrap_or_default();
    let bundles: Vec<BundleSpec> = list.iter().filter_map(|v| bundle(v, files)).collect();
    if workload_api.is_none() && bundles.is_empty() && list.is_empty() && !fields.has("workload_api") {
        value.wrong("nothing verifies an SVID", "name the Workload API (`workload_api: env`), or `bundles`");
    }
    for (i, bundle) in bundles.iter().enumerate() {
        if bundles.iter().skip(i + 1).any(|other| other.trust_domain == bundle.trust_domain) {
            value.wrong(format!("trust domain `{}` has two bundles", bundle.trust_domain), "keep one");
        }
    }
    Some(SpiffeSpec { workload_api, bundles, audience: fields.optional("audience").and_then(texts).unwrap_or_default() })
}

const SOCKET: &str = "SPIFFE_ENDPOINT_SOCKET";

/// `env`, `unix:///path` or `tcp://1.2.3.4:port`.
fn workload_api(value: &Value<'_>) -> Option<WorkloadApi> {
    let text = value.text()?;
    if text != "env" {
        return value.parse(|text| {
            endpoint(text).map(|api| match api {
                WorkloadApi::Unix(path) => WorkloadApi::Unix(value.source.path(&path.to_string_lossy())),
                tcp @ WorkloadApi::Tcp(_) => tcp,
            })
        });
    }
    let Ok(named) = std::env::var(SOCKET) else {
        value.wrong(format!("{SOCKET} is not set"), "set it, or write unix:///path/to/socket");
        return None;
    };
    match endpoint(&named) {
        Ok(api) => Some(api),
        Err((message, help)) => {
            value.wrong(format!("{SOCKET}: {message}"), help);
            None
        }
    }
}

fn endpoint(text: &str) -> Result<WorkloadApi, (String, String)> {
    let wrong = || {
        (format!("`{}` is no endpoint of the Workload API", shown(text)), "write unix:///path/to/socket or tcp://127.0.0.1:port".to_owned())
    };
    if let Some(address) = text.strip_prefix("tcp://") {
        return address.parse().map(WorkloadApi::Tcp).map_err(|_| wrong());
    }
    // `unix:path` is what gRPC takes beside `unix:///path`.
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(WorkloadApi::Unix(path.strip_prefix("//").unwrap_or(path).into())),
        _ => Err(wrong()),
    }
}

fn bundle(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<BundleSpec> {
    let fields = value.fields(&["trust_domain", "roots", "jwks"])?;
    let name = fields.required("trust_domain", "name the trust domain, such as example.org");
    let name = name.and_then(|v| v.parse(|text| units::spiffe_id(&format!("spiffe://{text}/x")).map(|()| Box::from(text))));
    let roots = fields.optional("roots").and_then(|v| existing(v, files));
    let jwks = fields.optional("jwks").and_then(|v| existing(v, files));
    if !fields.has("roots") && !fields.has("jwks") {
        value.wrong("the bundle is empty", "add `roots: FILE` (PEM, for X.509-SVIDs) or `jwks: FILE` (for JWT-SVIDs)");
    }
    Some(BundleSpec { trust_domain: name?, roots, jwks })
}

/// `listen.forward`: an address, or `{address, tls}`.
pub(super) fn listen_tls(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<(std::net::SocketAddr, Option<ListenTls>)> {
    if !matches!(value.node.kind, Kind::Map(_)) {
        return Some((value.parse(units::socket)?, None));
    }
    let fields = value.fields(&["address", "tls"])?;
    let address = fields.required("address", "say where calls are taken, such as 127.0.0.1:8080").and_then(|v| v.parse(units::socket));
    let tls = match fields.optional("tls") {
        None => None,
        Some(v) => Some(tls(v, files)?),
    };
    Some((address?, tls))
}

pub(super) fn tls(value: &Value<'_>, files: &mut Vec<PathBuf>) -> Option<ListenTls> {
    let fields = value.fields(&["cert", "key", "svid", "names", "clients"])?;
    let required = fields.optional("clients").map_or(Some(true), |v| v.one_of(&[("required", true), ("optional", false)]));
    let certificate = certificate(value, &fields, files);
    Some(ListenTls { certificate: certificate?, required: required? })
}

fn certificate(value: &Value<'_>, fields: &Fields<'_>, files: &mut Vec<PathBuf>) -> Option<ListenCertificate> {
    const HELP: &str = "write `names: [proxy.example.org]` (a leaf of Remit's CA), `svid: true`, or `cert:` and `key:`";
    let svid = fields.optional("svid").is_some_and(|v| v.boolean() == Some(true));
    match (fields.has("cert") || fields.has("key"), svid, fields.optional("names")) {
        (true, false, None) => {
            let cert = fields.required("cert", "name the PEM file of the certificate").and_then(|v| existing(v, files));
            let key = fields.required("key", "name the PEM file of the key").and_then(|v| existing(v, files));
            Some(ListenCertificate::Files { cert: cert?, key: key? })
        }
        (false, true, None) => Some(ListenCertificate::Svid),
        (false, false, Some(names)) => {
            let read: Vec<Option<Host>> = names
                .list()?
                .iter()
                .map(|v| v.parse(|text| Host::parse(text).map_err(|_| (format!("`{}` is no host", shown(text)), HELP.to_owned()))))
                .collect();
            let names: Option<Vec<Host>> = read.into_iter().collect();
            names.filter(|n| !n.is_empty()).map(ListenCertificate::Own)
        }
        _ => {
            value.wrong("the listener has one certificate", HELP);
            None
        }
    }
}
