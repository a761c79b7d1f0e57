use std::fmt;

use http::{HeaderMap, Method, Version};

use super::{Host, Path};

/// How a call reaches its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that the scheme implies.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Where a call goes: the name judged, verified in TLS, and dialled.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
}

impl Destination {
    /// The authority as it stands in `Host` and `:authority`: the port only where it is not implied.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A request's head in the parsed form that is judged and sent.
#[derive(Debug, Clone)]
pub struct Head {
    pub method: Method,
    pub to: Destination,
    pub path: Path,
    /// The agent's fields as they came, hop-by-hop ones included; `forward` decides what leaves.
    pub headers: HeaderMap,
    /// The version the agent spoke.
    pub version: Version,
    /// The protocol an `Upgrade` asks for, lower case (RFC 9110 §7.8), when one was asked for.
    pub upgrade: Option<Box<str>>,
}

impl Head {
    /// `h1`, `h2`: the protocol as policies see it.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        if self.version == Version::HTTP_2 { "h2" } else { "h1" }
    }
}
