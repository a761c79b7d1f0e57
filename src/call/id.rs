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

/// Names a distributed trace (W3C Trace Context §3.2.2.3). It is no secret, and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// The trace of a `traceparent` field; None when it has none in one reading.
    #[must_use]
    pub fn of_traceparent(field: &str) -> Option<Self> {
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(Self::text_in(field)?.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let &[high, low] = pair else { return None };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(id))
    }

    /// The 32 digits as they stand in a `traceparent` field.
    #[must_use]
    pub fn text_in(field: &str) -> Option<&str> {
        let bytes = field.as_bytes();
        let id = field.get(3..35)?;
        let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let shaped = bytes.len() >= 55 && bytes.get(2) == Some(&b'-') && bytes.get(35) == Some(&b'-');
        (shaped && id.bytes().all(|b| hex(&b)) && id.bytes().any(|b| b != b'0')).then_some(id)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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
    fn a_trace_has_one_reading() {
        let field = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceId::of_traceparent(field).unwrap().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceId::of_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_are_unique_and_sort_by_time() {
        let (a, b) = (DecisionId::new(1), DecisionId::new(2));
        assert!(a.to_string() < b.to_string());
        assert_ne!(DecisionId::new(5).to_string(), DecisionId::new(5).to_string());
        assert_eq!(a.to_string().len(), 28);
    }
}
