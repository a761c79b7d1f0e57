use http::{HeaderMap, HeaderName, HeaderValue};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    call::TraceId,
    hex::hex,
    refusal::{Reason, Refusal},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace of a request: the caller's, when it has one, else one of its own.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) id: TraceId,
    pub(super) field: HeaderValue,
    new: bool,
}

impl Trace {
    /// # Errors
    /// `state_unavailable` without randomness.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut fields = headers.get_all(&TRACEPARENT).iter();
        if let (Some(field), None) = (fields.next(), fields.next())
            && let Some(id) = field.to_str().ok().filter(|f| is_valid(f)).and_then(TraceId::of_traceparent)
        {
            return Ok(Self { id, field: field.clone(), new: false });
        }
        Self::random().ok_or_else(|| Refusal::new(Reason::StateUnavailable, "no randomness for a trace"))
    }

    /// A trace that begins here. It is sampled, as a tracer does by default; the agent's own decides anew.
    fn random() -> Option<Self> {
        let mut bytes = [0u8; 24];
        SystemRandom::new().fill(&mut bytes).ok()?;
        let hex = hex(&bytes);
        let text = format!("00-{}-{}-01", hex.get(..32)?, hex.get(32..)?);
        let id = TraceId::of_traceparent(&text)?;
        Some(Self { id, field: HeaderValue::from_str(&text).ok()?, new: true })
    }

    /// Puts it where the agent's framework looks for it (W3C Trace Context §3).
    pub(super) fn tell(&self, fields: &mut HeaderMap) {
        if self.new {
            // Belongs to the trace that was not one.
            fields.remove(TRACESTATE);
        }
        fields.insert(TRACEPARENT, self.field.clone());
    }
}

/// W3C Trace Context §3.2.2: version, trace, parent and flags, none of them void; a later version may say more.
fn is_valid(field: &str) -> bool {
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = field.split('-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let void = |part: &str| part.bytes().all(|b| b == b'0');
    hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && !void(trace)
        && hex(parent, 16)
        && !void(parent)
        && hex(flags, 2)
        && (version != "00" || parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[&str]) -> Trace {
        let headers = fields.iter().map(|f| (TRACEPARENT, HeaderValue::from_str(f).unwrap())).collect();
        Trace::of(&headers).unwrap()
    }

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_trace_is_kept() {
        for good in [GOOD, "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more"] {
            let trace = of(&[good]);
            assert!(!trace.new);
            assert_eq!(trace.field, good);
        }
    }

    #[test]
    fn another_is_made_where_there_is_none_in_one_reading() {
        for bad in [
            &[][..],
            &[GOOD, GOOD],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736"],
        ] {
            let trace = of(bad);
            assert!(trace.new, "{bad:?}");
            assert!(is_valid(trace.field.to_str().unwrap()), "{:?}", trace.field);
            let mut fields: HeaderMap = [(TRACESTATE, HeaderValue::from_static("a=1"))].into_iter().collect();
            trace.tell(&mut fields);
            assert_eq!((fields.len(), fields.get(TRACEPARENT)), (1, Some(&trace.field)));
        }
        assert_ne!(of(&[]).id, of(&[]).id);
    }
}
