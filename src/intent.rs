//! Room 4 what is asked: catalog, matcher, readers.
//!
//! A [`Catalog`] knows every operation of the APIs it describes. [`Catalog::find`] tells from a
//! request's head which operation it is for, or which reader tells from the body; [`Found::need`] how
//! much of the body must be read for that; [`Found::read`] makes the intents. What could be read in two ways is
//! refused on the way, never guessed (law 2).

mod aws;
mod build;
mod builtin;
mod catalog;
mod fields;
mod found;
mod hosts;
pub mod import;
mod json;
mod lines;
mod llm;
mod operation;
mod pack;
mod pattern;
mod query;
mod readers;
mod request;
mod search;
mod spec;
mod trie;

pub use catalog::{Catalog, Facts, TUNNEL, UNLISTED_HOST};
pub use found::{Found, Need, Reading};
pub use spec::Class;

#[cfg(test)]
mod tests;
