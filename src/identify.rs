//! Room 3 who calls, for whom.
