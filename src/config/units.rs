//! Texts with a unit or a form of their own. Errors are `(message, help)`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    call::{Host, spiffe_domain},
    config::{Cidr, HostPattern, read::shown},
};

type Parsed<T> = Result<T, (String, String)>;

/// Bytes: `512B`, `64KiB`, `1MiB`, `2GiB`.
pub(super) fn size(text: &str) -> Parsed<u64> {
    const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    quantity(text, &UNITS)
        .ok_or_else(|| (format!("`{}` is no size", shown(text)), "write a whole number and B, KiB, MiB or GiB, such as 64KiB".to_string()))
}

/// `10ms`, `30s`, `5m`, `24h`, `1d`; never nothing.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    match quantity(text, &UNITS) {
        // a century: what is added to a clock must not run over its end
        Some(millis) if (1..=3_155_760_000_000).contains(&millis) => Ok(Duration::from_millis(millis)),
        Some(0) => Err((format!("`{}` is no time at all", shown(text)), "write at least 1ms".to_string())),
        _ => Err((
            format!("`{}` is no duration", shown(text)),
            "write a whole number and ms, s, m, h or d, such as 30s; at most 36525d".to_string(),
        )),
    }
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = units.iter().find(|(u, _)| *u == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// RFC 3339 §5.6.
pub(super) fn instant(text: &str) -> Parsed<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| (format!("`{}` is no point in time", shown(text)), "write it as 2027-03-31T00:00:00Z (RFC 3339)".to_string()))
}

/// An address and a port.
pub(super) fn socket(text: &str) -> Parsed<SocketAddr> {
    text.parse()
        .map_err(|_| (format!("`{}` is no address with a port", shown(text)), "write it as 127.0.0.1:8080 or [::1]:8080".to_string()))
}

/// `10.0.0.0/8`, or one address.
pub(super) fn cidr(text: &str) -> Parsed<Cidr> {
    let wrong = || (format!("`{}` is no range of addresses", shown(text)), "write it as 10.0.0.0/8, fd00::/8 or one address".to_string());
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(p) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => p.parse().map_err(|_| wrong())?,
        Some(_) => return Err(wrong()),
        None => width,
    };
    if prefix > width {
        return Err(wrong());
    }
    let base = network(address, prefix);
    if base != address {
        return Err((format!("`{}` has bits set beyond its prefix", shown(text)), format!("did you mean `{base}/{prefix}`?")));
    }
    Ok(Cidr { base, prefix })
}

/// The address with the bits after the prefix cleared.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask))
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask))
        }
    }
}

/// A host without port, scheme or wildcard.
pub(super) fn host(text: &str) -> Parsed<Host> {
    if text.contains('*') {
        return Err((format!("`{}` is a pattern", shown(text)), "name each host exactly".to_string()));
    }
    Host::parse(text).map_err(|e| (format!("`{}` is no host: {e}", shown(text)), "write a name such as api.github.com".to_string()))
}

/// A host, with a port perhaps.
pub(super) fn host_and_port(text: &str) -> Parsed<(Host, Option<u16>)> {
    let bare = text.starts_with('[') && text.ends_with(']');
    match text.rsplit_once(':') {
        Some((name, port)) if !bare => {
            let port =
                port.parse().map_err(|_| (format!("`{}` has no port", shown(text)), "write it as api.github.com:443".to_string()))?;
            Ok((host(name)?, Some(port)))
        }
        _ => Ok((host(text)?, None)),
    }
}

/// A host, or `*.suffix`.
pub(super) fn host_pattern(text: &str) -> Parsed<HostPattern> {
    match text.strip_prefix("*.") {
        Some(rest) if !rest.contains('*') => {
            let rest = host(rest)?;
            if rest.ip().is_some() {
                return Err((format!("`{}` is no pattern of names", shown(text)), "write it as *.example.com".to_string()));
            }
            Ok(HostPattern::Suffix(format!(".{}", rest.as_str()).into()))
        }
        _ if text.contains('*') => {
            Err((format!("`{}` has its `*` in the wrong place", shown(text)), "write it as *.example.com".to_string()))
        }
        _ => host(text).map(HostPattern::Exact),
    }
}

/// A SPIFFE ID (SPIFFE-ID §2): `spiffe://trust-domain/path`, compared byte for byte.
pub(super) fn spiffe_id(text: &str) -> Parsed<()> {
    let help = "write it as spiffe://example.org/agent/name".to_string();
    spiffe_domain(text).map(|_| ()).map_err(|why| (format!("`{}` is no SPIFFE ID: {why}", shown(text)), help))
}

/// A name that stands in logs, metrics and URLs: letters, digits, `.`, `_`, `-`.
pub(super) fn id(text: &str) -> Parsed<()> {
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let good = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if starts && good {
        return Ok(());
    }
    let help = "use up to 64 letters, digits, `.`, `_` and `-`, a letter or digit first";
    Err((format!("`{}` cannot be a name", shown(text)), help.to_string()))
}
