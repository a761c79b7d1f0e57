//! The few calls to the system that have no safe wrapper. The only module with `unsafe`.
#![allow(unsafe_code)]

/// Sends a signal to a process; that it has ended already is no error.
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    unsafe {
        libc::kill(pid, signal);
    }
}
