//! A secret has no text.
use remit::secret::Secret;

fn main() {
    let secret = Secret::new(String::from("hunter2"));
    println!("{secret}");
}
