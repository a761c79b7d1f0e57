//! Nobody but the decision room lets a request in.
use std::sync::Arc;

use remit::call::{Entry, Task};

fn entry(task: Arc<Task>) -> Entry {
    Entry { task }
}

fn main() {}
