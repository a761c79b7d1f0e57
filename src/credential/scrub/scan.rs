use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{MASK, Scrubber};

/// Searches what arrives in pieces as if it were whole.
///
/// What may be the beginning of a value is held back until it is known; everything before it goes
/// on at once, and without a copy when nothing is hit. At most the longest form less one byte is held.
#[derive(Debug)]
pub struct Scanner {
    scrubber: Arc<Scrubber>,
    /// The last bytes as they came: the possible beginning of a value.
    history: Vec<u8>,
    /// How many of them were passed on already (only with `slack`), and how many are hit.
    released: usize,
    masked: usize,
    /// A beginning no longer than this is passed on (and remembered).
    slack: usize,
    hits: u32,
}

impl Scanner {
    #[must_use]
    pub fn new(scrubber: Arc<Scrubber>) -> Self {
        Self { scrubber, history: Vec::new(), released: 0, masked: 0, slack: 0, hits: 0 }
    }

    /// For streams in which the other side waits for the last byte (gRPC, WebSocket): up to three
    /// bytes that may begin a value are not held back, so that no message waits for the next. Of a
    /// value that then follows, no more than those three bytes come through.
    #[must_use]
    pub fn interactive(scrubber: Arc<Scrubber>) -> Self {
        Self { slack: 3, ..Self::new(scrubber) }
    }

    /// How many values were found.
    #[must_use]
    pub fn hits(&self) -> u32 {
        self.hits
    }

    #[must_use]
    pub fn scrubber(&self) -> &Arc<Scrubber> {
        &self.scrubber
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.history.len() - self.released
    }

    /// Takes the next piece; returns what can go on, which may be nothing.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        if piece.is_empty() || self.scrubber.longest == 0 {
            return piece;
        }
        let seen = self.history.len();
        let whole = self.join(piece);
        let spans = self.scrubber.spans(&whole, self.masked, seen);
        self.hits += spans.hits;
        let partial = self.scrubber.partial(&whole);
        let until = if whole.len() - partial <= self.slack { whole.len() } else { partial.max(self.released) };
        let out = cut(&whole, self.released, until, &spans.merged);
        self.history.clear();
        self.history.extend_from_slice(whole.get(partial..).unwrap_or_default());
        self.released = until - partial;
        self.masked = spans.merged.iter().filter(|(from, _)| *from <= partial).map(|(_, to)| to.saturating_sub(partial)).max().unwrap_or(0);
        out
    }

    /// The end: what was held back is no value, and goes on.
    pub fn finish(&mut self) -> Bytes {
        let mut rest = std::mem::take(&mut self.history);
        if let Some(hit) = rest.get_mut(..self.masked) {
            hit.fill(MASK);
        }
        let released = std::mem::take(&mut self.released);
        self.masked = 0;
        Bytes::from(rest).slice(released..)
    }

    fn join(&self, piece: Bytes) -> Bytes {
        if self.history.is_empty() {
            return piece;
        }
        let mut whole = BytesMut::with_capacity(self.history.len() + piece.len());
        whole.extend_from_slice(&self.history);
        whole.extend_from_slice(&piece);
        whole.freeze()
    }
}

/// `whole[from..until]` with the spans in it overwritten; shared, not copied, when there are none.
fn cut(whole: &Bytes, from: usize, until: usize, spans: &[(usize, usize)]) -> Bytes {
    let out = whole.slice(from..until);
    if spans.iter().all(|(a, b)| *b <= from || *a >= until) {
        return out;
    }
    let mut copy = BytesMut::from(&out[..]);
    for (a, b) in spans {
        let (a, b) = ((*a).max(from), (*b).min(until));
        if a < b
            && let Some(hit) = copy.get_mut(a - from..b - from)
        {
            hit.fill(MASK);
        }
    }
    copy.freeze()
}
