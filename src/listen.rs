//! Room 1: sockets, CONNECT, limits, drain.
//!
//! Knows connections and nothing of what a call means: it hands each request to a [`Walk`].

mod connection;
mod door;
mod drain;
mod inbound;
mod messages;
mod rewind;
mod server;
mod wire;

pub use crate::tls::Socket;
pub use door::{Door, Inside};
pub use drain::Drain;
pub use rewind::Rewind;
pub use server::{Connect, Limits, Server, Tunnelled, Walk};
pub use wire::Wire;
