//! A permit is made only by the decision room: its fields are private.
use std::sync::Arc;

use remit::call::{Mode, Permit, Task};

fn forge(task: Arc<Task>) -> Permit {
    Permit { task, labels_version: 0, mode: Mode::Enforce, own_login: false, leash: None }
}

fn main() {}
