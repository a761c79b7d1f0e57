use std::io;

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    call::{Destination, Host, Scheme},
    config::UpstreamProxy,
    secret::Secret,
};

/// The proxies that calls leave through, when a network demands it.
#[derive(Debug, Default)]
pub(super) struct Via {
    https: Option<Proxy>,
    http: Option<Proxy>,
    /// Hosts reached directly: a name, and everything below it.
    except: Vec<Box<str>>,
}

#[derive(Debug, Clone)]
pub(super) struct Proxy {
    pub(super) host: Host,
    pub(super) port: u16,
    /// A whole `Proxy-Authorization` value.
    authorization: Option<Secret<String>>,
}

impl Via {
    pub(super) fn new(config: &UpstreamProxy) -> Self {
        match config {
            UpstreamProxy::None => Self::default(),
            UpstreamProxy::Url { host, port, authorization } => {
                let proxy = Proxy { host: host.clone(), port: *port, authorization: authorization.clone() };
                Self { https: Some(proxy.clone()), http: Some(proxy), except: Vec::new() }
            }
            UpstreamProxy::Env => Self::from_environment(|name| std::env::var(name).ok()),
        }
    }

    /// As curl reads it: lower case first, `http_proxy` in lower case only, `no_proxy` by suffix.
    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|n| variable(n)).filter(|v| !v.is_empty());
        let except = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        Self {
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]).as_deref().and_then(Proxy::parse),
            http: first(&["http_proxy", "all_proxy", "ALL_PROXY"]).as_deref().and_then(Proxy::parse),
            except: except
                .split(',')
                .map(|e| e.trim().trim_start_matches('.'))
                .filter(|e| !e.is_empty())
                .map(|e| e.to_ascii_lowercase().into())
                .collect(),
        }
    }

    /// The proxy to reach this destination through.
    pub(super) fn proxy_for(&self, to: &Destination) -> Option<&Proxy> {
        let proxy = match to.scheme {
            Scheme::Https => self.https.as_ref(),
            Scheme::Http => self.http.as_ref(),
        }?;
        let host = to.host.as_str();
        let below = |suffix: &str| host == suffix || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
        if self.except.iter().any(|e| &**e == "*" || below(e)) { None } else { Some(proxy) }
    }
}

impl Proxy {
    /// `http://[user:password@]host[:port]`, the scheme optional.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.split('/').next().unwrap_or(rest);
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !place.ends_with(']') => (host, port.parse().ok()?),
            _ => (place, 80),
        };
        let authorization = user.map(|u| {
            let plain = percent_encoding::percent_decode_str(u).collect::<Vec<u8>>();
            Secret::new(format!("Basic {}", STANDARD.encode(plain)))
        });
        Some(Self { host: Host::parse(host).ok()?, port, authorization })
    }

    /// Asks the proxy for a tunnel to `to` (RFC 9110 §9.3.6).
    pub(super) async fn connect(&self, mut tcp: TcpStream, to: &Destination) -> io::Result<TcpStream> {
        let place = format!("{}:{}", to.host, to.port);
        let authorization = self.authorization.as_ref().map_or_else(String::new, |a| format!("Proxy-Authorization: {}\r\n", a.expose()));
        tcp.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{authorization}\r\n").as_bytes()).await?;
        let mut head = Vec::with_capacity(256);
        // Byte by byte: whatever follows the head belongs to the tunnel.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > 8192 {
                return Err(io::Error::other("the proxy's answer to CONNECT is longer than 8 KiB"));
            }
            head.push(tcp.read_u8().await?);
        }
        let line = head.split(|b| *b == b'\r').next().unwrap_or(&head);
        let status = line.split(|b| *b == b' ').nth(1).unwrap_or(b"");
        if status.len() == 3 && status.starts_with(b"2") {
            Ok(tcp)
        } else {
            Err(io::Error::other(format!(
                "the proxy {}:{} answered CONNECT with {:?}",
                self.host,
                self.port,
                String::from_utf8_lossy(status)
            )))
        }
    }

    pub(super) fn authorization(&self) -> Option<&Secret<String>> {
        self.authorization.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(pairs: &[(&str, &str)]) -> Via {
        Via::from_environment(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    fn https(host: &str) -> Destination {
        Destination { scheme: Scheme::Https, host: Host::parse(host).unwrap(), port: 443 }
    }

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        let v = via(&[("HTTPS_PROXY", "http://u:p%40@corp.example:3128/"), ("NO_PROXY", "internal.example, .local")]);
        let proxy = v.proxy_for(&https("api.github.com")).unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("corp.example", 3128));
        assert_eq!(proxy.authorization.as_ref().unwrap().expose(), "Basic dTpwQA==");
        assert!(v.proxy_for(&https("a.internal.example")).is_none());
        assert!(v.proxy_for(&https("x.local")).is_none());
        assert!(v.proxy_for(&https("notinternal.example")).is_some());
        let plain = Destination { scheme: Scheme::Http, ..https("x.example") };
        assert!(via(&[("HTTP_PROXY", "corp:1")]).proxy_for(&plain).is_none(), "HTTP_PROXY in upper case is CGI's");
    }
}
