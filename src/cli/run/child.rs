use std::{ffi::OsString, io, os::unix::process::ExitStatusExt, process::Stdio, sync::Arc};

use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::call::Task;

use super::environment::Environment;

/// Runs the command to its end, or to the task's; answers its exit code (128 + n for signal n).
pub(super) async fn run(command: &[OsString], environment: &Environment, task: &Arc<Task>) -> io::Result<u8> {
    let Some((program, arguments)) = command.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    // A terminal sends these to the command itself; what is sent to Remit alone is passed on.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.variables())
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .spawn()?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let mut told = false;
    loop {
        let pass_on = tokio::select! {
            status = child.wait() => {
                let status = status?;
                let code = status.code().or_else(|| status.signal().map(|n| 128 + n)).unwrap_or(1);
                return Ok(u8::try_from(code).unwrap_or(1));
            }
            _ = interrupt.recv() => continue,
            _ = quit.recv() => continue,
            _ = terminate.recv() => libc::SIGTERM,
            _ = hangup.recv() => libc::SIGHUP,
            () = task.ended.cancelled(), if !told => {
                told = true;
                eprintln!("remit: the task is over; the command's calls are refused from now on");
                continue;
            }
        };
        if let Some(pid) = pid {
            crate::sys::kill(pid, pass_on);
        }
    }
}
