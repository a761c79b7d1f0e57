//! The `remit` program: arguments → command.

use std::process::ExitCode;

fn main() -> ExitCode {
    remit::cli::main()
}
