use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;

use crate::{
    call::{Destination, Host, Permit, Scheme},
    config,
    refusal::{Reason, Refusal},
    secret::Secret,
    tls::{ClientCertificate, Offer, UpstreamTls, speaks_no_offered},
};

use super::{AddressGuard, pool::Site, proxy::Via};

/// Resolves names and opens connections, each for a permit.
#[derive(Debug)]
pub(super) struct Dialer {
    guard: AddressGuard,
    resolve: Vec<(Host, Option<u16>, SocketAddr)>,
    via: Via,
    connect: Duration,
    tls: UpstreamTls,
}

/// A connection to upstream, before a protocol is spoken on it.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(TcpStream),
    /// Plain HTTP handed to a proxy, which wants the absolute form (RFC 9112 §3.2.2).
    PlainViaProxy(TcpStream, Option<Secret<String>>),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Dialer {
    pub(super) fn new(upstream: &config::Upstream, connect: Duration, tls: UpstreamTls) -> Self {
        Self {
            guard: AddressGuard::new(&upstream.allow_addresses),
            resolve: upstream.resolve.clone(),
            via: Via::new(&upstream.proxy),
            connect,
            tls,
        }
    }

    /// Opens a connection to where the permitted call goes, TLS shaken where it is `https`.
    ///
    /// The permit comes back with the connection, to be used up by sending.
    pub(super) async fn open(&self, permit: Permit, site: &Site, offer: Offer) -> Result<(Wire, Permit), Refusal> {
        let to = &site.to;
        let tls = site.shows.as_ref().map_or(&self.tls, |shown| &shown.tls);
        let opened = timeout(self.connect, self.connect(&permit, to, tls, offer)).await;
        let wire = opened.unwrap_or_else(|_| Err(unreachable(to, &format!("no connection within {:?}", self.connect))))?;
        Ok((wire, permit))
    }

    /// Opens a plain connection for a tunnel: the bytes in it are not ours to read.
    pub(super) async fn open_raw(&self, permit: Permit, to: &Destination) -> Result<(TcpStream, Permit), Refusal> {
        let opened = timeout(self.connect, async {
            match self.via.proxy_for(to) {
                Some(proxy) => {
                    let tcp = self.tcp_to_proxy(to, proxy).await?;
                    proxy.connect(tcp, to).await.map_err(|e| unreachable(to, &e.to_string()))
                }
                None => self.tcp(&permit, to).await,
            }
        });
        let tcp = opened.await.unwrap_or_else(|_| Err(unreachable(to, &format!("no connection within {:?}", self.connect))))?;
        Ok((tcp, permit))
    }

    /// How to shake hands with a certificate of Remit's own.
    pub(super) fn showing(&self, certificate: &Arc<ClientCertificate>) -> Result<UpstreamTls, Refusal> {
        let made = self.tls.showing(certificate);
        made.map_err(|e| Refusal::new(Reason::CredentialUnavailable, format!("the client certificate cannot be used: {e}")))
    }

    async fn connect(&self, permit: &Permit, to: &Destination, tls: &UpstreamTls, offer: Offer) -> Result<Wire, Refusal> {
        let tcp = match self.reach(permit, to).await? {
            Wire::Plain(tcp) if to.scheme == Scheme::Https => tcp,
            wire => return Ok(wire),
        };
        match tls.connect(&to.host, tcp, offer).await {
            Ok(tls) => Ok(Wire::Tls(Box::new(tls))),
            // Upstream speaks h2 only, and was offered what the agent speaks.
            Err(error) if offer == Offer::H1 && speaks_no_offered(&error) => {
                let Wire::Plain(tcp) = self.reach(permit, to).await? else { return Err(unreachable(to, "the proxy changed its mind")) };
                let tls = tls.connect(&to.host, tcp, Offer::Both).await.map_err(|e| unreachable(to, &format!("TLS: {e}")))?;
                Ok(Wire::Tls(Box::new(tls)))
            }
            Err(error) => Err(unreachable(to, &format!("TLS: {error}"))),
        }
    }

    /// A connection to upstream, or through a proxy to it, before TLS.
    async fn reach(&self, permit: &Permit, to: &Destination) -> Result<Wire, Refusal> {
        let Some(proxy) = self.via.proxy_for(to) else { return self.tcp(permit, to).await.map(Wire::Plain) };
        let tcp = self.tcp_to_proxy(to, proxy).await?;
        match to.scheme {
            Scheme::Http => Ok(Wire::PlainViaProxy(tcp, proxy.authorization().cloned())),
            Scheme::Https => proxy.connect(tcp, to).await.map(Wire::Plain).map_err(|e| unreachable(to, &e.to_string())),
        }
    }

    async fn tcp(&self, permit: &Permit, to: &Destination) -> Result<TcpStream, Refusal> {
        let addresses = self.addresses(permit, to).await?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    // Only latency is at stake when this fails.
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(unreachable(to, &last.map_or_else(|| "the name has no address".into(), |e| e.to_string())))
    }

    /// The addresses that the guard lets pass; a refusal when it lets none.
    async fn addresses(&self, _permit: &Permit, to: &Destination) -> Result<Vec<SocketAddr>, Refusal> {
        let found: Vec<SocketAddr> = if let Some(fixed) = self.fixed(to) {
            vec![fixed]
        } else if let Some(ip) = to.host.ip() {
            vec![SocketAddr::new(ip, to.port)]
        } else {
            match tokio::net::lookup_host((to.host.as_str(), to.port)).await {
                Ok(found) => found.collect(),
                Err(error) => return Err(unreachable(to, &format!("the name does not resolve: {error}"))),
            }
        };
        let mut forbidden: Option<(IpAddr, &'static str)> = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match self.guard.forbids(address.ip()) {
                Some(kind) => forbidden = Some((address.ip(), kind)),
                None => allowed.push(address),
            }
        }
        match forbidden {
            Some((ip, kind)) if allowed.is_empty() => Err(Refusal::new(
                Reason::AddressForbidden,
                format!("{} leads to {ip}, a {kind} address; `upstream.allow_addresses` can allow its range", to.host),
            )),
            _ => Ok(allowed),
        }
    }

    fn fixed(&self, to: &Destination) -> Option<SocketAddr> {
        let fits = |(host, port, _): &&(Host, Option<u16>, SocketAddr)| *host == to.host && port.is_none_or(|p| p == to.port);
        self.resolve.iter().find(fits).map(|(_, _, address)| *address)
    }

    /// The proxy's own address is the operator's word and not guarded; an address literal asked
    /// of it is, since nobody else will look.
    async fn tcp_to_proxy(&self, to: &Destination, proxy: &super::proxy::Proxy) -> Result<TcpStream, Refusal> {
        if let Some(ip) = to.host.ip()
            && let Some(kind) = self.guard.forbids(ip)
        {
            return Err(Refusal::new(Reason::AddressForbidden, format!("{ip} is a {kind} address")));
        }
        let tcp = TcpStream::connect((proxy.host.as_str(), proxy.port)).await;
        let tcp = tcp.map_err(|e| unreachable(to, &format!("the proxy {}:{}: {e}", proxy.host, proxy.port)))?;
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }
}

pub(super) fn unreachable(to: &Destination, why: &str) -> Refusal {
    Refusal::new(Reason::UpstreamUnreachable, format!("{to} cannot be reached: {why}"))
}
