use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The uid that owns a loopback peer's socket, as the kernel lists it; None when it is not there
/// or more than one owner fits.
///
/// `local` is this end of the connection, `peer` the other. Reads two files in `/proc`, in time
/// that grows with the machine's sockets: ask once a connection, and not in an async thread.
#[must_use]
pub fn socket_owner(local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    if !peer.ip().to_canonical().is_loopback() {
        return None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    owner_in(tables.iter().flat_map(|t| t.lines()), local, peer)
}

/// The owner of the socket whose own end is `peer` and whose other end is `local`.
fn owner_in<'a>(lines: impl Iterator<Item = &'a str>, local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let mut owner = None;
    for uid in lines.filter_map(|line| owner_of(line, local, peer)) {
        if owner.is_some_and(|o| o != uid) {
            return None;
        }
        owner = Some(uid);
    }
    owner
}

/// `sl local remote state queues timer retransmits uid timeout inode …`
fn owner_of(line: &str, local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if !same(address(fields.next()?)?, peer) || !same(address(fields.next()?)?, local) {
        return None;
    }
    let uid = fields.nth(4)?.parse().ok()?;
    // A socket that no process holds any more (TIME_WAIT) has inode 0 and is listed as root's.
    (fields.nth(1)? != "0").then_some(uid)
}

/// `0100007F:1F90`: words of the address in the machine's byte order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0u8; 16];
            for (i, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(8 * i)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// A socket of the other family may hold an IPv4 address mapped into IPv6.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::fs::MetadataExt,
    };

    use super::*;

    const LINES: [&str; 3] = [
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0000000000000000 100 0 0 10 0",
        "   1: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 101 1 0000000000000000 20 4 30 10 -1",
        "   2: 0100007F:C002 0100007F:1F90 06 00000000:00000000 03:000017A5 00000000     0        0 0 3 0000000000000000",
    ];

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_row_with_the_peers_end_names_the_owner() {
        assert_eq!(owner_in(LINES.into_iter(), at(0x1f90), at(0xc001)), Some(1000));
        assert_eq!(owner_in(LINES.into_iter(), at(0x1f90), at(0xc003)), None, "no such socket");
        assert_eq!(owner_in(LINES.into_iter(), at(0x1f90), at(0xc002)), None, "nobody holds it any more");
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn two_owners_are_none() {
        let other = LINES[1].replace(" 1000 ", " 1001 ");
        assert_eq!(owner_in([LINES[1], &other].into_iter(), at(0x1f90), at(0xc001)), None);
        assert_eq!(owner_in([LINES[1], LINES[1]].into_iter(), at(0x1f90), at(0xc001)), Some(1000));
    }

    #[test]
    fn lines_that_are_not_rows_are_passed_over() {
        for line in ["", "  sl  local_address", "1: 0100007F 0100007F:1F90", "1: zz00007F:C001 0100007F:1F90 01 a b c 0 0 1"] {
            assert_eq!(owner_of(line, at(1), at(2)), None);
        }
    }

    #[test]
    fn our_own_sockets_are_ours_over_both_families() {
        let me = fs::metadata("/proc/self").unwrap().uid();
        for bind in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let port = listener.local_addr().unwrap().port();
            let target = if bind.starts_with("[::1]") { format!("[::1]:{port}") } else { format!("127.0.0.1:{port}") };
            let Ok(_client) = TcpStream::connect(target) else { continue };
            let (server, peer) = listener.accept().unwrap();
            assert_eq!(socket_owner(server.local_addr().unwrap(), peer), Some(me), "{bind}");
        }
    }

    #[test]
    fn a_peer_that_is_not_local_has_no_owner() {
        assert_eq!(socket_owner(at(80), SocketAddr::from(([192, 0, 2, 1], 80))), None);
    }
}
