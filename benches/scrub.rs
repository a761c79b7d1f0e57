//! What scrubbing costs of forwarding: `cargo bench --bench scrub`.
//!
//! It may cost 15 % of the throughput of uncompressed JSON bodies of 1 MiB. Measured against the least that forwarding such
//! a body takes: TLS undone on one side and done on the other, through loopback sockets. hyper, and all that Remit does, come on
//! top of that, so the true share is smaller. Times are CPU time of this thread.

#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::{
    fs,
    hint::black_box,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use bytes::Bytes;
use remit::credential::{Scanner, Scrubber};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, ServerName},
};

const ROUNDS: usize = 9;
const CALLS: usize = 40;
const MIB: usize = 1 << 20;
const PIECE: usize = 16 << 10;

/// A token, the same as basic authentication has it, and a value that every encoder writes differently.
const SECRETS: [(&str, &[&str]); 3] = [
    ("bearer", &["ghp_R4nd0mLook1ngT0kenOf36Charactersab12"]),
    (
        "basic",
        &["ghp_R4nd0mLook1ngT0kenOf36Charactersab12", "Ym90QGFjbWUuZXhhbXBsZTpnaHBfUjRuZDBtTG9vazFuZ1QwaGVuT2YzNkNoYXJhY3RlcnNhYjEy"],
    ),
    ("many forms", &["s3cr3t/value+with=odd&chars\"~some more"]),
];

fn main() {
    let bodies = [("JSON", json("acme/web")), ("JSON full of escapes", json("caf\\u00e9 &amp; x%20y \\/ z"))];
    for (kind, body) in bodies {
        let forward = best(|| {
            let mut hop = Hop::new();
            let began = cpu();
            (0..CALLS).for_each(|_| forward(&mut hop, &body));
            cpu() - began
        });
        println!("1 MiB of {kind} forwarded: {:>7.0} µs", forward / 1e3);
        for (name, values) in SECRETS {
            let scrubber = Arc::new(Scrubber::new(values.iter().map(|v| v.as_bytes())).unwrap());
            let scrub = best(|| {
                let began = cpu();
                (0..CALLS).for_each(|_| scrub(&scrubber, &body));
                cpu() - began
            });
            let share = scrub / (forward + scrub) * 100.0;
            println!("  scrubbed of {name:<12} {:>7.0} µs, {:.1} GB/s: {share:.1} % of the throughput", scrub / 1e3, MIB as f64 / scrub);
        }
    }
}

/// Nanoseconds a call, of the best round.
fn best(mut round: impl FnMut() -> u64) -> f64 {
    (0..ROUNDS).map(|_| round() as f64 / CALLS as f64).fold(f64::MAX, f64::min)
}

fn scrub(scrubber: &Arc<Scrubber>, body: &Bytes) {
    let mut scanner = Scanner::new(scrubber.clone());
    for at in (0..body.len()).step_by(PIECE) {
        black_box(scanner.push(body.slice(at..(at + PIECE).min(body.len()))));
    }
    black_box(scanner.finish());
}

/// What goes over one such connection: TLS done at one end and undone at the other, as Remit does each once, on
/// different ones.
fn forward(hop: &mut Hop, body: &Bytes) {
    let mut piece = vec![0; PIECE];
    for at in (0..body.len()).step_by(PIECE) {
        let sent = &body[at..(at + PIECE).min(body.len())];
        hop.far.write_all(sent).unwrap();
        hop.near.read_exact(&mut piece[..sent.len()]).unwrap();
        black_box(&piece);
    }
}

/// A connection over loopback with TLS on it.
struct Hop {
    far: StreamOwned<ServerConnection, TcpStream>,
    near: StreamOwned<ClientConnection, TcpStream>,
}

impl Hop {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["bench.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let server = server
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let mut far = StreamOwned::new(ServerConnection::new(Arc::new(server.unwrap())).unwrap(), far);
        let name = ServerName::try_from("bench.test").unwrap();
        let mut near = StreamOwned::new(ClientConnection::new(Arc::new(client), name).unwrap(), near);
        // The handshake, each side by turns.
        std::thread::scope(|scope| {
            scope.spawn(|| far.write_all(b"x").and_then(|()| far.flush()).unwrap());
            near.read_exact(&mut [0]).unwrap();
        });
        Self { far, near }
    }
}

/// Nanoseconds that this thread was on a CPU.
fn cpu() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn json(text: &str) -> Bytes {
    let item = |i: usize| {
        format!(
            "{{\"id\":{i},\"node_id\":\"MDEwOlJlcG9zaXRvcnk{i}\",\"full_name\":\"{text}-{i}\",\"private\":false,\"size\":{}}},\n",
            i * 7
        )
    };
    Bytes::from((0..).map(item).scan(0, |n, t| (*n < MIB).then(|| (*n += t.len(), t).1)).collect::<String>())
}
