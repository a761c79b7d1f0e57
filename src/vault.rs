//! One file, sealed: read whole, written whole, and never half of it.
//!
//! `remit state 1 KEY BYTES\n`, twelve bytes of nonce, and what AES-256-GCM made of the contents
//! (NIST SP 800-38D), with that line as additional data: so another key, a cut, an edit and a newer
//! form are each told apart, and none is taken for an empty file.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::hex::hex;
use crate::problem::Problem;

const FORM: u32 = 1;
const KEY: usize = 32;
const LARGEST: u64 = 1 << 30;

/// A key that seals with AES-256-GCM (NIST SP 800-38D). Each sealing begins with a nonce of its own.
pub(crate) struct Seal(LessSafeKey);

impl Seal {
    /// By how much what is sealed is longer.
    pub(crate) const LONGER: usize = NONCE_LEN + 16;

    /// With 32 bytes; None when they are not as many.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Seals `contents`, bound to what stands beside them.
    ///
    /// # Errors
    /// Without randomness.
    pub(crate) fn close(&self, beside: &[u8], mut contents: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut sealed = vec![0; NONCE_LEN];
        SystemRandom::new().fill(&mut sealed).map_err(|_| io::Error::other("no randomness"))?;
        let unique = Nonce::try_assume_unique_for_key(&sealed).map_err(|_| io::Error::other("it cannot be sealed"))?;
        let closed = self.0.seal_in_place_append_tag(unique, Aad::from(beside), &mut contents);
        closed.map_err(|_| io::Error::other("it cannot be sealed"))?;
        sealed.append(&mut contents);
        Ok(sealed)
    }

    /// What was sealed beside the same; None when it is anything else.
    pub(crate) fn open(&self, beside: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(beside), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

/// A sealed file that this process alone writes.
pub(crate) struct Vault {
    path: PathBuf,
    seal: Seal,
    /// Tells keys apart, and gives none away.
    name: String,
    _lock: File,
}

impl Vault {
    /// Takes the file at `path` for this process, with the key in `key`: 32 bytes in base64. A key is made
    /// where neither is there yet.
    ///
    /// # Errors
    /// Another process has it; the key is missing, or none.
    pub(crate) fn open(path: &Path, key: &Path) -> Result<Self, Problem> {
        let lock = locked(path)?;
        let bytes = self::key(key, !path.exists())?;
        let sum = digest::digest(&digest::SHA256, &[&b"remit state key "[..], &*bytes].concat());
        let name = hex(sum.as_ref().get(..8).unwrap_or_default());
        let seal = Seal::new(&bytes).ok_or_else(|| Problem::new("the key of the state file is none").key("state.key"))?;
        Ok(Self { path: path.to_path_buf(), seal, name, _lock: lock })
    }

    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds; None when there is none.
    ///
    /// # Errors
    /// What is wrong with it: it is never taken for empty.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, Problem> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.fault(format!("the state cannot be read: {e}"))),
        };
        let mut bytes = Vec::new();
        (&mut file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| self.fault(format!("the state cannot be read: {e}")))?;
        let Some(end) = bytes.iter().take(200).position(|b| *b == b'\n') else {
            return Err(self.damaged("is no state file, or its beginning was cut off"));
        };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        let rest = bytes.split_off(end + 1);
        let mut words = head.strip_prefix("remit state ").ok_or_else(|| self.damaged("is no state file"))?.split(' ');
        let form: u32 = words.next().and_then(|w| w.parse().ok()).ok_or_else(|| self.damaged("is no state file"))?;
        if form != FORM {
            let what = format!("the state is in form {form}, and this version of Remit reads form {FORM}: a newer one wrote it");
            return Err(self.fault(what).help("start the version that wrote it, or one after it"));
        }
        let (name, length) = (words.next().unwrap_or(""), words.next().and_then(|w| w.parse::<u64>().ok()));
        if name != self.name {
            let what = format!("the state was sealed with another key ({name}) than this one ({})", self.name);
            return Err(self.fault(what).help("give `state.key` the key that it was sealed with"));
        }
        let length = length.ok_or_else(|| self.damaged("was edited"))?;
        match (rest.len() as u64).cmp(&length) {
            std::cmp::Ordering::Less => Err(self.damaged(&format!("was cut: {} of {length} bytes are there", rest.len()))),
            std::cmp::Ordering::Greater => Err(self.damaged("was edited: there are bytes behind its end")),
            std::cmp::Ordering::Equal => {
                let text = self.seal.open(head.as_bytes(), &rest);
                text.map(Some).ok_or_else(|| self.damaged("was edited, or is damaged"))
            }
        }
    }

    /// Puts `contents` in its place, durably: after a crash there is the old or the new, whole.
    ///
    /// # Errors
    /// What the machine says.
    pub(crate) fn write(&self, contents: Vec<u8>) -> io::Result<()> {
        let head = format!("remit state {FORM} {} {}", self.name, contents.len() + Seal::LONGER);
        let sealed = self.seal.close(head.as_bytes(), contents)?;
        let new = beside(&self.path, ".new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(head.as_bytes())?;
        file.write_all(b"\n")?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")))?.sync_all()
    }

    /// A problem with the file.
    #[must_use]
    pub(crate) fn fault(&self, what: String) -> Problem {
        Problem::new(what).at(&self.path, None).key("state.file")
    }

    fn damaged(&self, how: &str) -> Problem {
        let help = "restore it from a copy; or remove it, and with it all tasks and what was spent of their limits";
        self.fault(format!("the state {how}")).help(help)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The 32 bytes in the file `path`; made where there is none, and none was needed before.
///
/// # Errors
/// It is missing, or none.
pub(crate) fn key(path: &Path, make: bool) -> Result<Zeroizing<Vec<u8>>, Problem> {
    match fs::read(path) {
        Ok(text) => decoded(&Zeroizing::new(text), path),
        Err(e) if e.kind() == io::ErrorKind::NotFound && make => create(path),
        Err(e) => {
            let what = format!("the key of the state file cannot be read: {e}");
            let help = "without it nothing can be read of the state: restore it";
            Err(Problem::new(what).at(path, None).key("state.key").help(help))
        }
    }
}

/// `state.bin.new`, beside the file.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A file of its own bears the lock, since the other is replaced.
fn locked(path: &Path) -> Result<File, Problem> {
    let fault = |what: String| Problem::new(what).at(path, None).key("state.file");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside(path, ".lock"));
    let lock =
        lock.map_err(|e| fault(format!("the state cannot be written there: {e}")).help("give a path in a folder that Remit may write"))?;
    lock.try_lock().map_err(|_| fault("another Remit is using this state".into()).help("give each its own file"))?;
    Ok(lock)
}

fn decoded(text: &[u8], path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let bytes = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new);
    bytes.ok().filter(|b| b.len() == KEY).ok_or_else(|| {
        Problem::new("this is no key for the state: 32 bytes in base64 are wanted")
            .at(path, None)
            .key("state.key")
            .help("`openssl rand -base64 32` makes one; or name a file that is not there, and Remit makes one")
    })
}

fn create(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let fault = |what: String| Problem::new(what).at(path, None).key("state.key");
    let mut bytes = Zeroizing::new(vec![0; KEY]);
    SystemRandom::new().fill(&mut bytes).map_err(|_| fault("no randomness for a key".into()))?;
    let text = Zeroizing::new(STANDARD.encode(&*bytes) + "\n");
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|e| fault(format!("the key of the state cannot be made: {e}")).help("give a path in a folder that Remit may write"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("remit-vault-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn open(dir: &Path) -> Vault {
        Vault::open(&dir.join("state"), &dir.join("key")).unwrap()
    }

    const TEXT: &[u8] = b"{\"tasks\": [\"alice@acme.example\"]}";

    #[test]
    fn what_is_written_is_read_and_stands_there_in_no_plain_text() {
        let dir = dir("round");
        let vault = open(&dir);
        assert_eq!(vault.read().unwrap(), None);
        for text in [TEXT, b"", &[7; 100_000]] {
            vault.write(text.to_vec()).unwrap();
            assert_eq!(vault.read().unwrap().as_deref(), Some(text));
        }
        vault.write(TEXT.to_vec()).unwrap();
        let first = fs::read(dir.join("state")).unwrap();
        vault.write(TEXT.to_vec()).unwrap();
        assert_ne!(fs::read(dir.join("state")).unwrap(), first, "a nonce of its own each time");
        assert!(!first.windows(5).any(|w| w == b"alice"));
        for file in ["state", "key"] {
            assert_eq!(fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
        drop(vault);
        assert_eq!(open(&dir).read().unwrap().as_deref(), Some(TEXT));
    }

    #[test]
    fn a_file_that_is_not_as_it_was_written_is_refused_each_way_by_its_name() {
        let dir = dir("refused");
        let vault = open(&dir);
        vault.write(TEXT.to_vec()).unwrap();
        let good = fs::read(dir.join("state")).unwrap();
        let end = good.iter().position(|b| *b == b'\n').unwrap();
        let said = |bytes: &[u8]| {
            fs::write(dir.join("state"), bytes).unwrap();
            vault.read().unwrap_err().to_string()
        };
        assert!(said(b"").contains("cut off"));
        for length in 0..good.len() {
            let why = said(&good[..length]);
            assert!(why.contains("cut"), "{length}: {why}");
        }
        for at in 0..good.len() {
            let mut other = good.clone();
            other[at] ^= 1;
            said(&other);
        }
        let mut edited = good.clone();
        edited[end + 20] ^= 1;
        assert!(said(&edited).contains("edited"));
        assert!(said(&[&good[..], b"x"].concat()).contains("behind its end"));
        let newer = String::from_utf8_lossy(&good[..end]).replace("state 1", "state 2") + "\nxx";
        let why = said(newer.as_bytes());
        assert!(why.contains("form 2") && why.contains("newer"), "{why}");
        assert!(said(b"{\"tasks\": []}\n").contains("no state file"));
    }

    #[test]
    fn keys_and_processes_are_told_apart() {
        let dir = dir("keys");
        let vault = open(&dir);
        vault.write(TEXT.to_vec()).unwrap();
        let again = Vault::open(&dir.join("state"), &dir.join("key")).unwrap_err();
        assert!(again.to_string().contains("another Remit"), "{again}");
        drop(vault);
        fs::rename(dir.join("key"), dir.join("old")).unwrap();
        let gone = Vault::open(&dir.join("state"), &dir.join("key")).unwrap_err();
        assert!(gone.to_string().contains("cannot be read") && !dir.join("key").exists(), "{gone}");
        fs::write(dir.join("key"), STANDARD.encode([1; 32])).unwrap();
        let why = open(&dir).read().unwrap_err();
        assert!(why.to_string().contains("another key"), "{why}");
        for wrong in ["", "hunter2", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33])] {
            fs::write(dir.join("key"), wrong).unwrap();
            let why = Vault::open(&dir.join("state"), &dir.join("key")).unwrap_err().to_string();
            assert!(why.contains("32 bytes in base64") && !why.contains("hunter2"), "{why}");
        }
    }
}
