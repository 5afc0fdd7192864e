//! The command line: see `basiq-relay --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    basiq_relay::cli::main()
}
