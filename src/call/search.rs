use bytes::Bytes;
use http::HeaderMap;

use crate::refusal::Refusal;

/// Looks at a request body on its way out, and stops it before what must not leave.
pub trait Search: Send {
    /// Takes the next piece; gives what may leave, which may be nothing yet.
    ///
    /// # Errors
    /// What was found, without its value: nothing more may leave.
    fn push(&mut self, piece: Bytes) -> Result<Bytes, Refusal>;

    /// The end: what was held back may leave, or is what must not.
    ///
    /// # Errors
    /// As [`Search::push`].
    fn finish(&mut self) -> Result<Bytes, Refusal>;

    /// Judges the trailer fields, and takes out those that do not leave.
    ///
    /// # Errors
    /// As [`Search::push`].
    fn trailers(&mut self, trailers: &mut HeaderMap) -> Result<(), Refusal>;

    /// How many bytes are held back.
    fn held(&self) -> usize;
}
