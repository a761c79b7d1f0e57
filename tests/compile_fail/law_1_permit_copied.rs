//! One permit, one call.
use remit::call::Permit;

fn twice(permit: &Permit) -> Permit {
    permit.clone()
}

fn twice_by_reference(permit: Permit) -> (Permit, Permit) {
    (permit, permit)
}

fn main() {}
