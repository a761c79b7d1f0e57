//! Room 6 Permit → Lease → what is injected.
