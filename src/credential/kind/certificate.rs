//! Kind `certificate`: Remit shows a client certificate to upstream in the handshake (RFC 8446 §4.4.2).

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;

use super::{Made, fingerprint};
use crate::{
    call::{Inject, Lease},
    clock,
    config::{CertificateFrom, CertificateSpec, SecretSource},
    credential::{
        issue::{Ask, Fault, IssueCredential, Issued, Pending, Request},
        source::Watched,
    },
    problem::Problem,
    tls::{ClientCertificate, OwnSvids, ServerSvid, certified_pem},
};

/// The certificate is the same for every task; its connections are shared by who shows the same.
#[derive(Debug)]
pub(in crate::credential) struct Certificate {
    name: Arc<str>,
    from: From,
    server: Option<ServerSvid>,
    ready: ArcSwapOption<Ready>,
    /// The files did not fit together when they were last read.
    broken: AtomicBool,
}

#[derive(Debug)]
enum From {
    Files { cert: Box<Watched>, key: Box<Watched> },
    Svid(Arc<dyn OwnSvids>),
}

/// What a lease is cloned from.
#[derive(Debug)]
struct Ready {
    certified: Arc<CertifiedKey>,
    certificate: Arc<ClientCertificate>,
    lease: Lease,
}

impl Certificate {
    pub(in crate::credential) fn new(spec: &CertificateSpec, made: &Made<'_>) -> Result<Self, Problem> {
        let svids = || {
            let none = || Problem::new("nobody gives or verifies SVIDs").help("add `spiffe: {workload_api: env}` to remit.yaml");
            made.svids.cloned().ok_or_else(none)
        };
        let server = match &spec.server {
            None => None,
            Some(id) => Some(ServerSvid { id: id.clone(), bundles: svids().map_err(|p| p.key("server"))? }),
        };
        let from = match &spec.from {
            CertificateFrom::Svid => From::Svid(svids().map_err(|p| p.key("svid"))?),
            CertificateFrom::Files { cert, key } => From::Files {
                cert: Watched::text(&SecretSource::File(cert.clone()), made.env).map(Box::new).map_err(|p| p.key("cert"))?,
                key: Watched::text(&SecretSource::File(key.clone()), made.env).map(Box::new).map_err(|p| p.key("key"))?,
            },
        };
        let own = Self { name: made.name.clone(), from, server, ready: ArcSwapOption::empty(), broken: AtomicBool::new(false) };
        if matches!(own.from, From::Files { .. }) {
            own.read().map_err(|why| Problem::new(why).key("cert"))?;
        }
        Ok(own)
    }

    /// Reads the files together.
    fn read(&self) -> Result<(), String> {
        let From::Files { cert, key } = &self.from else { return Ok(()) };
        let certified = cert.with(|cert| key.with(|key| certified_pem(cert, key)));
        let ready = certified.and_then(|c| self.ready(Arc::new(c)));
        self.broken.store(ready.is_err(), Ordering::Relaxed);
        self.ready.store(Some(ready?));
        Ok(())
    }

    fn ready(&self, certified: Arc<CertifiedKey>) -> Result<Arc<Ready>, String> {
        let certificate = Arc::new(ClientCertificate::new(certified.clone(), self.server.clone())?);
        let leaf = certified.cert.first().map(|leaf| fingerprint(leaf)).unwrap_or_default();
        let lease = Lease {
            name: self.name.clone(),
            kind: "certificate",
            fingerprint: leaf.into(),
            expires: Some(certificate.until),
            scope: None,
            revocable: false,
            inject: Inject::Certificate(certificate.clone()),
            scrubber: None,
        };
        Ok(Arc::new(Ready { certified, certificate, lease }))
    }

    /// The certificate in force, or why there is none.
    fn now(&self) -> Result<Arc<Ready>, String> {
        let kept = self.ready.load_full();
        let ready = match (&self.from, kept) {
            (From::Files { .. }, kept) => kept.ok_or("its files hold no certificate")?,
            (From::Svid(svids), kept) => {
                let own = svids.own().ok_or("the Workload API gives no X.509-SVID: is the workload registered there?")?;
                match kept.filter(|k| Arc::ptr_eq(&k.certified, &own)) {
                    Some(kept) => kept,
                    None => {
                        let fresh = self.ready(own)?;
                        self.ready.store(Some(fresh.clone()));
                        fresh
                    }
                }
            }
        };
        match ready.certificate.until > clock::utc() {
            true => Ok(ready),
            false => Err(format!("the client certificate has expired at {}: renew it", ready.certificate.until)),
        }
    }
}

impl IssueCredential for Certificate {
    fn kind(&self) -> &'static str {
        "certificate"
    }

    fn scoped(&self) -> bool {
        false
    }

    fn at_hand(&self, _: &Request<'_>) -> Option<Lease> {
        self.now().ok().map(|ready| ready.lease.clone())
    }

    /// Nothing is issued: says why nothing was at hand.
    fn issue<'a>(&'a self, _: &'a Ask) -> Pending<'a, Issued> {
        let why = self.now().err().unwrap_or_else(|| "the client certificate was being replaced: try again".to_owned());
        Box::pin(ready(Err(Fault::Unavailable(why))))
    }

    fn secrets(&self, see: &mut dyn FnMut(&str)) {
        if let From::Files { key, .. } = &self.from {
            // Line by line, however it is wrapped where it turns up.
            key.with(|pem| pem.lines().map(str::trim).filter(|line| line.len() > 40 && !line.starts_with('-')).for_each(see));
        }
    }

    fn watches(&self) -> bool {
        matches!(self.from, From::Files { .. })
    }

    fn refresh(&self) -> Result<bool, Problem> {
        let From::Files { cert, key } = &self.from else { return Ok(false) };
        let changed = cert.refresh(|_| Ok(()))? | key.refresh(|_| Ok(()))?;
        if !changed && !self.broken.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.read().map(|()| changed).map_err(|why| Problem::new(format!("{why}; the client certificate before stays")).key("cert"))
    }
}
