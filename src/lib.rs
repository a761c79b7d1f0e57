//! Remit: the proxy that decides, call by call, what an AI agent may do.
//!
//! One folder per room, in the order a call meets them; `docs/architecture.md` walks a call
//! through. Rooms do not import each other: types that cross rooms live in [`call`], only
//! `enforce` knows the order, only `app` builds things.

pub mod admin;
pub mod app;
pub mod audit;
pub mod authority;
pub mod call;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod decide;
pub mod enforce;
pub mod fetch;
pub mod forward;
mod hex;
pub mod identify;
pub mod intent;
pub mod jose;
pub mod listen;
pub mod metrics;
pub mod problem;
pub mod refusal;
pub mod secret;
mod shown;
mod sys;
pub mod telemetry;
pub mod tls;
mod vault;
