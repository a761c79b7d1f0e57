//! Law 3: the agent never holds a credential. What the compiler must not accept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

use std::fmt::Display;

use remit::{
    call::{Inject, Lease},
    credential::{Broker, Choice, Scrubber},
    secret::Secret,
};
use serde::Serialize;

/// Compiles only if the type does not implement the trait: else two impls fit, and the call is
/// ambiguous.
macro_rules! is_not {
    ($trait:path: $($type:ty),+) => {$({
        trait Ambiguous<A> { fn check() {} }
        impl<T: ?Sized> Ambiguous<()> for T {}
        impl<T: ?Sized + $trait> Ambiguous<u8> for T {}
        <$type as Ambiguous<_>>::check();
    })+};
}

#[test]
fn what_holds_a_secret_has_no_text_and_is_not_serialised() {
    is_not!(Serialize: Secret<String>, Lease, Inject, Broker, Choice, Scrubber);
    is_not!(Display: Secret<String>, Lease, Inject, Broker, Choice, Scrubber);
}

#[test]
fn the_compiler_refuses_what_would_show_a_secret() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/law_3_*.rs");
}
