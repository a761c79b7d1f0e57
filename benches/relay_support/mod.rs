//! What `benches/relay.rs` measures, and what it measures with.

pub(crate) mod load;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod upstream;

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// The name that everything stands under.
pub(crate) const HOST: &str = "api.example.test";
pub(crate) const PATH: &str = "/repos/acme/web/issues";

/// Something that takes CONNECT, and the CA that its leaves chain to.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    /// A whole `Proxy-Authorization` value.
    pub(crate) authorization: Option<String>,
}

/// A runtime of one worker on one core; its threads are called `name`.
pub(crate) fn runtime(name: &'static str, core: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(1).thread_name(name).on_thread_start(move || pin(core)).enable_all().build().unwrap()
}

#[allow(unsafe_code)]
fn pin(core: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: the set is a plain bit mask on this stack; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core % cores, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// CPU time of this process's threads whose name starts with `name`.
pub(crate) fn cpu(name: &str) -> Duration {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let of = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        if of("comm").starts_with(name) {
            // The first number is nanoseconds on a CPU.
            total += Duration::from_nanos(of("schedstat").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0));
        }
    }
    total
}

/// A client configuration that trusts one CA.
pub(crate) fn trusting(ca: &str) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A self-made CA and an acceptor for [`HOST`].
pub(crate) fn acceptor() -> (String, tokio_rustls::TlsAcceptor) {
    use remit::{call::Host, clock, tls};
    let authority = tls::Authority::ephemeral(clock::utc()).unwrap();
    let ca = authority.pem().to_owned();
    let terminator = tls::Terminator::new(authority).unwrap();
    (ca, terminator.acceptor(&Host::parse(HOST).unwrap()).unwrap())
}
