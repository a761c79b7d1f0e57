//! Two secrets are not compared by accident, in a time that tells how far they agree.
use remit::secret::Secret;

fn main() {
    let a = Secret::new(String::from("hunter2"));
    let b = Secret::new(String::from("hunter3"));
    assert!(a == b);
}
