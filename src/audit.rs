//! Room 8 one record per call on every exit path: event, hash chain, sinks, verify.
