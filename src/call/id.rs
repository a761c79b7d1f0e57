use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use ring::rand::{SecureRandom, SystemRandom};

/// Names one decision, in the audit, the refusal and the logs: `d-` and 26 characters that sort by time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId(u128);

/// Names one task: `t-` and 26 characters. It is no secret; the handle is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(Arc<str>);

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl DecisionId {
    /// A new id at `unix_ms`, unique across processes.
    #[must_use]
    pub fn new(unix_ms: u64) -> Self {
        Self(unique(unix_ms))
    }

    /// The 28 characters, without an allocation.
    #[must_use]
    pub fn text(self) -> [u8; 28] {
        let mut out = [b'-'; 28];
        out[0] = b'd';
        encode(self.0, &mut out);
        out
    }
}

impl TaskId {
    /// A new id at `unix_ms`, unique across processes.
    #[must_use]
    pub fn new(unix_ms: u64) -> Self {
        let mut out = [b'-'; 28];
        out[0] = b't';
        encode(unique(unix_ms), &mut out);
        Self(Arc::from(String::from_utf8_lossy(&out)))
    }

    /// A task id as it stood in a file or a request.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(Arc::from(text))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// 48 bits of time, 40 of this process, 40 of a counter: unique without a system call an id.
fn unique(unix_ms: u64) -> u128 {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = *PROCESS.get_or_init(|| {
        let mut bytes = [0u8; 8];
        if SystemRandom::new().fill(&mut bytes).is_err() {
            bytes = u64::from(std::process::id()).to_be_bytes();
        }
        u64::from_be_bytes(bytes) & 0xff_ffff_ffff
    });
    let count = COUNT.fetch_add(1, Ordering::Relaxed) & 0xff_ffff_ffff;
    (u128::from(unix_ms & 0xffff_ffff_ffff) << 80) | (u128::from(count) << 40) | u128::from(process)
}

fn encode(value: u128, out: &mut [u8; 28]) {
    for (i, byte) in out.iter_mut().skip(2).enumerate() {
        let shift = 5 * (25 - i);
        *byte = ALPHABET[(value >> shift) as usize & 31];
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or("d-"))
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_sort_by_time() {
        let (a, b) = (DecisionId::new(1), DecisionId::new(2));
        assert!(a.to_string() < b.to_string());
        assert_ne!(DecisionId::new(5).to_string(), DecisionId::new(5).to_string());
        assert_eq!(a.to_string().len(), 28);
    }
}
