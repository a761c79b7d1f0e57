//! Log lines for operators, on standard error. What happened to calls is in the audit.

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging at `default` level, unless `REMIT_LOG` says otherwise (`debug`, or
/// `remit::forward=trace`). Called once; a second call changes nothing.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_env("REMIT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let json = std::env::var("REMIT_LOG_FORMAT").is_ok_and(|f| f == "json");
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Fails only when someone else has set a subscriber, whose lines are as good.
    let _ =
        if json { builder.json().try_init() } else { builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init() };
}
