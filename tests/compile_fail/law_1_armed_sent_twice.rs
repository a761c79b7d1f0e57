//! Sending uses up the call, its permit and its lease.
use remit::call::Armed;

fn send(call: Armed) {
    drop(call);
}

fn twice(call: Armed) {
    send(call);
    send(call);
}

fn main() {}
