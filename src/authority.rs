//! The state that rooms 3, 5 and 6 ask: registry, tasks, limits.
