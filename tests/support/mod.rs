//! What the tests of the built binary share: Remit as a process, an agent that speaks bytes, and
//! upstreams that record exactly what reaches them.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is test code")]

pub mod agent;
pub mod behind;
pub mod chunks;
pub mod lab;
pub mod log;
pub mod openbao;
pub mod spire;
pub mod svid;
pub mod tokens;
pub mod upstream;
pub mod web;
pub mod workload;

pub use agent::{Answer, Conn};
pub use lab::{HOST, Lab, Remit, SECRET, Settings};
pub use upstream::{Do, Received, Upstream};
