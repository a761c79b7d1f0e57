//! … and its constructors are not visible outside.
use std::sync::Arc;

use remit::call::{Permit, Task};

fn granted(task: Arc<Task>) -> Permit {
    Permit::granted(task, 0)
}

fn observed(task: Arc<Task>) -> Permit {
    Permit::observed(task, 0)
}

fn main() {}
