//! Each state is made only from the one before it.
use std::sync::Arc;

use remit::call::{Armed, Decision, Lease, Permitted, Understood};

fn armed_without_a_permit(call: Understood, lease: Lease) -> Armed {
    call.armed(Some(lease))
}

fn permitted_without_a_permit(call: Understood, decision: Arc<Decision>) -> Permitted {
    call.permitted(decision)
}

fn main() {}
