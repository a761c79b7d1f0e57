use crate::{
    call::Host,
    config::{read::shown, units},
};

/// A server that Remit itself asks. Plain HTTP only on loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub tls: bool,
    pub host: Host,
    pub port: u16,
    /// With its query; begins with `/`.
    pub path: Box<str>,
}

impl Endpoint {
    /// `https://HOST[:PORT][/PATH]`; `http` where nobody is in between. The error is a message and its help.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        endpoint(text)
    }
}

fn endpoint(text: &str) -> Result<Endpoint, (String, String)> {
    let wrong =
        |why: &str| (format!("`{}` is no address to fetch keys from: {why}", shown(text)), "write it as https://host/path".to_owned());
    let uri: http::Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
    let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
    if authority.as_str().contains('@') || text.contains('#') {
        return Err(wrong("it holds a user or a fragment"));
    }
    let (host, port) = units::host_and_port(authority.as_str()).map_err(|(message, _)| wrong(&message))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if is_loopback(&host) => false,
        Some("http") => {
            let help = "write https: who is in between could give keys of his own".to_owned();
            return Err((format!("`{}` is plain HTTP beyond loopback", shown(text)), help));
        }
        _ => return Err(wrong("its scheme is not https")),
    };
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    Ok(Endpoint { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), path: path.into() })
}

fn is_loopback(host: &Host) -> bool {
    let name = host.as_str().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}
