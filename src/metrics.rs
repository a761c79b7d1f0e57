//! What Remit counts.
