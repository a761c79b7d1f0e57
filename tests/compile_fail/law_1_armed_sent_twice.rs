//! Sending uses up the call, its permit and its lease.
use remit::call::Armed;

fn twice(call: Armed) {
    let first = call.into_parts();
    let second = call.into_parts();
    drop((first, second));
}

fn main() {}
