//! Room 6: Permit → Lease → what is injected; and how it stays out of everything else.
//!
//! The [`Broker`] holds the configured credentials, chooses the one a call gets and leases it. A
//! lease carries its [`Scrubber`], which takes the value out of the answer as it streams by. What
//! a request may not carry is judged by [`Broker::foreign`].

mod basic;
mod broker;
mod environment;
#[cfg(test)]
mod fixture;
mod foreign;
mod issue;
mod issuer;
mod kind;
mod lease;
mod minted;
mod scope;
mod scrub;
mod source;

pub use broker::{Broker, Choice};
pub use environment::{Placeholder, is_credential_name, is_secret_value, placeholder_variables, placeholders};
pub use issue::{Ask, Fault, IssueCredential, Issued, Pending, Request, Revoked};
pub use lease::{Journal, JournalPlace, LeaseEvents, Leases, Listed, Wanted, would_ask};
pub use minted::{Withheld, Withhold};
pub use scope::Scope;
pub use scrub::{Scanner, ScrubError, Scrubbed, Scrubber, ask_readable, clean_response, scrub_response};
