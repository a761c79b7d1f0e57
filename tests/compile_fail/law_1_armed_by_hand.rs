//! … and not by hand: its fields are private.
use remit::call::{Armed, Permitted};

fn by_hand(permitted: Permitted) -> Armed {
    Armed { permitted, lease: None }
}

fn main() {}
