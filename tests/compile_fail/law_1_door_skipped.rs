//! Each state is made only from the one before it.
use remit::call::{Armed, Lease, Understood};

fn without_a_permit(call: Understood, lease: Lease) -> Armed {
    call.armed(Some(lease))
}

fn main() {}
