//! What lets a request in to the agent opens no way out, nor the other way about.
use remit::{
    call::{Armed, Body, Decision, Entering, Entry, Identified, Permit, Understood},
    forward::{Forward, Inward},
};

async fn out(forward: Forward, entering: Entering) {
    forward.send(entering, None, None, || ()).await;
}

async fn within(inward: Inward, armed: Armed) {
    inward.send(armed, |_| ()).await;
}

fn permitted(call: Understood, decision: std::sync::Arc<Decision>, entry: Entry) {
    call.permitted(decision, false, entry);
}

fn entering(request: Identified, permit: Permit) -> Entering {
    request.entering(Body::Empty, permit)
}

fn main() {}
