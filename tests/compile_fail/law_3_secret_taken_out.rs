//! `expose` is the one way to the value.
use remit::secret::Secret;

fn main() {
    let secret = Secret::new(String::from("hunter2"));
    let value: String = secret.0;
    drop(value);
}
