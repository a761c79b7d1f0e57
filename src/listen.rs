//! Room 1 sockets, CONNECT, limits, drain.
