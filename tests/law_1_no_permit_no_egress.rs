//! Law 1: no permit, no egress. What the compiler must not accept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a test")]

#[test]
fn the_compiler_refuses_what_would_go_round_the_decision() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/law_1_*.rs");
}
