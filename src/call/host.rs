use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

/// A host as it is judged and dialled: lower case, no trailing dot, no brackets.
///
/// Two spellings of one host are one `Host`; a spelling that two parsers could read differently
/// is not a `Host` at all (law 2). Names follow RFC 1123 §2.1, with `_` allowed as DNS does.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

/// Why a text is not a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("the host is empty")]
    Empty,
    #[error("the host is longer than 253 bytes")]
    TooLong,
    #[error("the host holds a byte that no host name has")]
    Byte,
    #[error("a label of the host is empty, longer than 63 bytes, or starts or ends with `-`")]
    Label,
    #[error("the host is a number that is not a dotted IPv4 address")]
    Number,
}

impl Host {
    /// Parses a host as it stands in a request target or a `Host` field, without a port.
    ///
    /// # Errors
    /// When the text could be read as two hosts, or as none.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return match inner.parse::<std::net::Ipv6Addr>() {
                Ok(ip) => Ok(Self(Arc::from(ip.to_string()))),
                Err(_) => Err(HostError::Byte),
            };
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > 253 {
            return Err(HostError::TooLong);
        }
        if let Ok(ip) = text.parse::<std::net::Ipv4Addr>() {
            return Ok(Self(Arc::from(ip.to_string())));
        }
        for label in text.split('.') {
            if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
                return Err(HostError::Label);
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(HostError::Byte);
            }
        }
        // `127.1`, `0x7f000001` and `2130706433` are addresses to some resolvers and names to others.
        let last = text.rsplit('.').next().unwrap_or(text);
        if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X") {
            return Err(HostError::Number);
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Ok(Self(Arc::from(text.to_ascii_lowercase())));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The host without brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, when the host is an address literal.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl FromStr for Host {
    type Err = HostError;
    fn from_str(s: &str) -> Result<Self, HostError> {
        Self::parse(s)
    }
}

impl fmt::Display for Host {
    /// As it stands in a URL: an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(&self.0) }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_are_one_host() {
        for (text, want) in [
            ("API.GitHub.com", "api.github.com"),
            ("api.github.com.", "api.github.com"),
            ("[::1]", "::1"),
            ("[0:0::1]", "::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("a_b.example", "a_b.example"),
        ] {
            assert_eq!(Host::parse(text).unwrap().as_str(), want);
        }
    }

    #[test]
    fn what_two_parsers_read_differently_is_no_host() {
        for text in [
            "",
            ".",
            "a..b",
            "-a.com",
            "a b",
            "a\0.com",
            "a@b",
            "[::1",
            "::1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "a/b",
            "ex%61mple.com",
            "ünï.example",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }
}
