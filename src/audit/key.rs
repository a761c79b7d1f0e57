//! The Ed25519 key that signs checkpoints (RFC 8032), and its public half.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject};

use super::{line, text};
use crate::{
    problem::{Problem, Problems},
    secret::Secret,
};

/// An Ed25519 SubjectPublicKeyInfo but for the key itself (RFC 8410 §4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Signs; the private half stays in here.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// What verifies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl Signer {
    /// Reads the key at `path`, or makes it (0600, PKCS#8) with the public key beside it.
    pub(super) fn open(path: &Path) -> Result<Self, Problems> {
        let fault = |what: String| Problem::new(what).at(path, None).key("audit.signing_key");
        let pem = match fs::read(path) {
            Ok(pem) => Secret::new(pem),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(|e| {
                    fault(format!("the signing key cannot be made: {e}")).help("give a path in a folder that Remit may write")
                })?;
                Secret::new(fs::read(path).map_err(|e| fault(format!("the signing key cannot be read: {e}")))?)
            }
            Err(e) => return Err(fault(format!("the signing key cannot be read: {e}")).into()),
        };
        if fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o007 != 0) {
            tracing::warn!(path = %path.display(), "anyone on this machine can read the audit's signing key; chmod 600 it");
        }
        let no_key = || {
            fault("this is no Ed25519 private key in PKCS#8 (PEM)".into())
                .help("`openssl genpkey -algorithm ed25519` makes one; or remove it, and Remit makes one")
        };
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose()).map_err(|_| no_key())?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| no_key())?;
        let public = PublicKey(pair.public_key().as_ref().try_into().map_err(|_| no_key())?);
        publish(&public_path(path), public)?;
        Ok(Self { pair, public })
    }

    pub(super) fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs the record with this hash.
    pub(super) fn sign(&self, hash: &line::Hash) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(&line::seal(hash)).as_ref());
        out
    }
}

impl PublicKey {
    /// Reads a PEM `PUBLIC KEY` file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no Ed25519 key.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let pem = fs::read(path).map_err(|e| Problem::new(format!("the public key cannot be read: {e}")).at(path, None))?;
        Self::parse(&pem).ok_or_else(|| {
            Problem::new("this is no Ed25519 public key (PEM)")
                .at(path, None)
                .help("give the audit.pub that was written beside the signing key")
        })
    }

    fn parse(pem: &[u8]) -> Option<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        Some(Self(der.strip_prefix(SPKI.as_slice())?.try_into().ok()?))
    }

    /// The PEM file's text.
    #[must_use]
    pub fn pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode([SPKI.as_slice(), &self.0].concat()))
    }

    /// The first 16 hex digits of the SHA-256 of its SubjectPublicKeyInfo: names the key to people.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut out = Vec::with_capacity(16);
        text::hex(&mut out, &line::sha256(&[SPKI.as_slice(), &self.0].concat())[..8]);
        String::from_utf8_lossy(&out).into_owned()
    }

    pub(super) fn verifies(&self, hash: &line::Hash, signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(&line::seal(hash), signature).is_ok()
    }
}

/// `audit.key` → `audit.pub`.
pub(super) fn public_path(key: &Path) -> PathBuf {
    key.with_extension("pub")
}

/// Makes a key file whole or not at all; another process may be making it at the same time.
fn create(path: &Path) -> io::Result<()> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| io::Error::other("no randomness"))?;
    let pem = Secret::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", fold(&STANDARD.encode(pkcs8.as_ref()))));
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    place(path, pem.expose().as_bytes(), 0o600)
}

/// Base64 in lines of 64 (RFC 7468 §2).
fn fold(base64: &str) -> String {
    base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n")
}

/// Writes a file beside `path` and links it into place, unless one came to be there meanwhile.
fn place(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&beside);
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let linked = written.and_then(|()| match fs::hard_link(&beside, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let _ = fs::remove_file(&beside);
    linked
}

/// Writes the public key, unless it is there; one that is another key's is an error, since who
/// verifies with it would be misled.
fn publish(path: &Path, public: PublicKey) -> Result<(), Problems> {
    match fs::read(path) {
        Ok(pem) if PublicKey::parse(&pem) == Some(public) => Ok(()),
        Ok(_) => Err(Problem::new("this is not the public half of the signing key beside it")
            .at(path, None)
            .key("audit.signing_key")
            .help("move it away, with the logs that it verifies, and Remit writes the right one")
            .into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Err(e) = place(path, public.pem().as_bytes(), 0o644) {
                tracing::warn!(path = %path.display(), error = %e, fingerprint = public.fingerprint(), "the audit's public key cannot be written");
            }
            Ok(())
        }
        Err(e) => Err(Problem::new(format!("the public key cannot be read: {e}")).at(path, None).into()),
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}
